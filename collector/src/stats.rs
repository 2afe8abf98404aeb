//! What the collector says of itself, told to ClickHouse once a minute.
//!
//! In: the figures of `/metrics`, but for the series of single exporters, which the table
//! `exporters` has. Out: rows of `collector_stats`: each gauge, and each counter that moved. Owner:
//! one task of the runtime beside the workers; at the stop whoever ends the collector, who tells
//! what happened until everything was stored.
//!
//! `delta` adds up: what finds no room while ClickHouse is away is told with a later row.

use std::sync::Arc;

use hashbrown::HashMap;
use serde::{Serialize, Serializer};
use tokio::sync::oneshot;
use tracing::warn;

use crate::http::{Family, Kind, Labels, State, Value};
use crate::knowledge;
use crate::store::occupancy::Asker;
use crate::store::{SideRow, SideRows, SideTable};
use crate::units::UnixNanos;

/// A row of `collector_stats`.
#[derive(Debug, Serialize)]
struct StatsRow<'a> {
    minute: u32,
    collector: &'a str,
    started: u32,
    instance: u64,
    interval_s: u32,
    name: &'a str,
    kind: &'static str,
    #[serde(serialize_with = "as_map")]
    labels: &'a Labels,
    value: f64,
    delta: f64,
}

impl SideRow for StatsRow<'_> {
    const TABLE: SideTable = SideTable::CollectorStats;
}

fn as_map<S: Serializer>(labels: &&Labels, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter().map(|(name, value)| (name, value)))
}

/// Tells once a minute until `stop` is sent or dropped; yields who tells the rest. Asks `asker`
/// before, where there is a ClickHouse to ask.
pub async fn tell(
    state: Arc<State>,
    mut asker: Option<Asker>,
    mut teller: Teller,
    mut stop: oneshot::Receiver<()>,
) -> Teller {
    let mut every = knowledge::looks();
    loop {
        tokio::select! {
            _ = every.tick() => {}
            _ = &mut stop => return teller,
        }
        let now = UnixNanos::now();
        if let Some(minute) = teller.due(now) {
            if let Some(asker) = &mut asker {
                tokio::select! {
                    occupancy = asker.ask() => state.occupied(occupancy),
                    _ = &mut stop => return teller,
                }
            }
            let state = Arc::clone(&state);
            // The ledger may be read more than once, with pauses: not on a thread of the runtime.
            let figures = tokio::task::spawn_blocking(move || state.figures()).await;
            if let Ok(figures) = figures {
                teller.tell(minute, now, figures);
            }
        }
    }
}

/// What was told when.
#[derive(Debug)]
pub struct Teller {
    rows: SideRows,
    /// The name of this host.
    collector: String,
    /// When the collector started.
    started: UnixNanos,
    /// Tells this start from all others, also from those of the same host and second.
    instance: u64,
    /// When the clock was looked at last.
    looked: UnixNanos,
    /// When it told last.
    told: UnixNanos,
    /// Counters as they were told.
    before: HashMap<(String, Labels), Value>,
}

impl Teller {
    /// One for a collector that started at `started`, when all counters were zero.
    #[must_use]
    pub fn new(rows: SideRows, started: UnixNanos) -> Self {
        Self {
            rows,
            collector: host_name(),
            started,
            instance: rand::random(),
            looked: started,
            told: started,
            before: HashMap::new(),
        }
    }

    /// The minute that is over since the last look, in seconds since the epoch; `None` while it
    /// lasts, or while there is no room for its rows.
    fn due(&mut self, now: UnixNanos) -> Option<u32> {
        let before = std::mem::replace(&mut self.looked, now).minute_s();
        let is_over = before != now.minute_s();
        let has_room = || self.rows.has_room_in(SideTable::CollectorStats);
        (is_over && has_room()).then_some(before)
    }

    /// Tells what happened since it told last. Nothing moves any more.
    pub fn finish(mut self, now: UnixNanos, figures: Vec<Family>) {
        self.tell(self.looked.minute_s(), now, figures);
    }

    fn tell(&mut self, minute: u32, now: UnixNanos, figures: Vec<Family>) {
        let told = std::mem::replace(&mut self.told, now);
        let interval_s = now.seconds().saturating_sub(told.seconds());
        for family in figures {
            let Family { kind, series, .. } = &family;
            let name = match kind {
                Kind::Counter => format!("{}_total", family.name),
                Kind::Gauge => family.name.clone(),
            };
            for (labels, value) in series {
                let delta = match kind {
                    Kind::Counter => self.moved(&name, labels, *value),
                    Kind::Gauge => 0.0,
                };
                if *kind == Kind::Counter && delta == 0.0 {
                    continue;
                }
                self.rows.push(&StatsRow {
                    minute,
                    collector: &self.collector,
                    started: self.started.seconds(),
                    instance: self.instance,
                    interval_s,
                    name: &name,
                    kind: match kind {
                        Kind::Counter => "counter",
                        Kind::Gauge => "gauge",
                    },
                    labels,
                    value: value.as_f64(),
                    delta,
                });
            }
        }
    }

    /// By how much a counter moved since it was told.
    fn moved(&mut self, name: &str, labels: &Labels, value: Value) -> f64 {
        let key = (name.to_owned(), labels.clone());
        let before = self.before.insert(key, value);
        value.since(before.unwrap_or(Value::Whole(0)))
    }
}

/// The name of this host, '' where it cannot be read.
fn host_name() -> String {
    // https://www.kernel.org/doc/html/v6.12/admin-guide/sysctl/kernel.html#hostname-domainname
    const FILE: &str = "/proc/sys/kernel/hostname";
    match std::fs::read_to_string(FILE) {
        Ok(name) => name.trim().to_owned(),
        Err(error) => {
            warn!("{FILE} cannot be read ({error}): collector_stats names no host");
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use serde_json::json;
    use tokio::sync::watch;

    use super::*;
    use crate::knowledge::rig::{START_S, Stored, at};
    use crate::store::{Attempt, Block, Insert, Null, SideBatch, Taken};

    /// A teller and its store.
    struct Rig {
        teller: Teller,
        stored: Stored,
    }

    impl Rig {
        fn new() -> Self {
            Self::over(Null)
        }

        fn over(target: impl Insert + 'static) -> Self {
            let stored = Stored::new(target);
            Self {
                teller: Teller::new(stored.store.side_rows(), at(10)),
                stored,
            }
        }

        fn rows(&self) -> u64 {
            self.stored.offered(SideTable::CollectorStats)
        }
    }

    /// A store that is away until it `is_there`, and keeps what it is told.
    struct Away {
        is_there: watch::Receiver<bool>,
        lines: Arc<Mutex<Vec<u8>>>,
    }

    impl Insert for Away {
        fn prepare(&self) -> Attempt<'_> {
            let mut is_there = self.is_there.clone();
            Box::pin(async move {
                let _ = is_there.wait_for(|is_there| *is_there).await;
                Ok(())
            })
        }

        fn insert<'a>(&'a self, _: &'a Block) -> Attempt<'a, Taken> {
            Box::pin(async { Ok(Taken::Stored) })
        }

        fn insert_side<'a>(&'a self, batch: &'a SideBatch) -> Attempt<'a, Taken> {
            self.lines.lock().unwrap().extend_from_slice(&batch.lines);
            Box::pin(async { Ok(Taken::Stored) })
        }
    }

    fn family(kind: Kind, value: u64) -> Family {
        Family {
            name: "flowsluice_decode_datagrams_dropped".into(),
            help: String::new(),
            kind,
            series: vec![(
                vec![("reason", "set_malformed".into())],
                Value::Whole(value),
            )],
        }
    }

    #[tokio::test]
    async fn a_minute_is_told_once_and_as_the_minute_that_is_over() {
        let mut rig = Rig::new();
        assert_eq!(rig.teller.due(at(59)), None);
        assert_eq!(rig.teller.due(at(60)), Some(START_S));
        assert_eq!(rig.teller.due(at(61)), None);
        assert_eq!(rig.teller.due(at(121)), Some(START_S + 60));
    }

    #[tokio::test]
    async fn a_counter_makes_a_row_when_it_moved_and_a_gauge_always() {
        let mut rig = Rig::new();
        let figures =
            |counter, gauge| vec![family(Kind::Counter, counter), family(Kind::Gauge, gauge)];
        rig.teller.tell(0, at(60), figures(0, 0));
        assert_eq!(rig.rows(), 1, "the gauge");
        rig.teller.tell(60, at(120), figures(5, 0));
        assert_eq!(rig.rows(), 3);
        rig.teller.tell(120, at(180), figures(5, 0));
        assert_eq!(rig.rows(), 4);
        let Rig { teller, stored } = rig;
        teller.finish(at(190), figures(6, 0));
        assert_eq!(stored.offered(SideTable::CollectorStats), 6);
    }

    #[tokio::test]
    async fn what_finds_no_room_is_told_with_a_later_row() {
        let (set_there, is_there) = watch::channel(false);
        let lines = Arc::default();
        let away = Away {
            is_there,
            lines: Arc::clone(&lines),
        };
        let mut rig = Rig::over(away);
        rig.teller
            .tell(START_S, at(60), vec![family(Kind::Counter, 5)]);
        let told = rig.rows();
        let has_room = |rig: &Rig| rig.teller.rows.has_room_in(SideTable::CollectorStats);
        while has_room(&rig) {
            rig.teller
                .tell(START_S, at(60), vec![family(Kind::Gauge, 1)]);
        }
        assert!(rig.rows() > told);
        rig.teller.looked = at(60);
        assert_eq!(rig.teller.due(at(120)), None, "no room");
        assert_eq!(rig.teller.due(at(180)), None, "no room");
        set_there.send_replace(true);
        while !has_room(&rig) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(rig.teller.due(at(239)), None, "the minute lasts");
        let minute = rig.teller.due(at(240)).unwrap();
        assert_eq!(minute, START_S + 180);
        lines.lock().unwrap().clear();
        rig.teller
            .tell(minute, at(240), vec![family(Kind::Counter, 12)]);
        rig.stored.store.stop().await;
        let row: serde_json::Value = serde_json::from_slice(&lines.lock().unwrap()).unwrap();
        let found = ["minute", "interval_s", "value", "delta"].map(|name| &row[name]);
        assert_eq!(
            found,
            [&json!(minute), &json!(180), &json!(12.0), &json!(7.0)]
        );
    }

    #[tokio::test]
    async fn starts_in_the_same_second_are_told_apart() {
        let (one, other) = (Rig::new().teller, Rig::new().teller);
        assert_eq!(one.started, other.started);
        assert_ne!(one.instance, other.instance);
    }

    #[tokio::test]
    async fn what_a_counter_moved_adds_up_to_what_it_is() {
        let mut rig = Rig::new();
        let labels = vec![("reason", "set_malformed".into())];
        let moved = [5, 5, 1 << 60, (1 << 60) + 1].map(|value| {
            let value = Value::Whole(value);
            rig.teller.moved("flowsluice_x_total", &labels, value)
        });
        let large = ((1_u64 << 60) - 5) as f64;
        assert_eq!(moved, [5.0, 0.0, large, 1.0]);
    }

    #[test]
    fn a_row_has_the_names_and_types_of_the_table() {
        let labels = vec![("worker", "0".into()), ("reason", "set_malformed".into())];
        let row = StatsRow {
            minute: 60,
            collector: "host",
            started: 10,
            instance: u64::MAX,
            interval_s: 50,
            name: "flowsluice_decode_datagrams_dropped_total",
            kind: "counter",
            labels: &labels,
            value: 7.0,
            delta: 5.0,
        };
        let row = serde_json::to_value(&row).unwrap();
        let declared = crate::store::schema::declared("collector_stats");
        let stored: Vec<_> = declared
            .iter()
            .filter(|(_, rest)| !rest.contains(" ALIAS "))
            .map(|(name, _)| name.as_str())
            .collect();
        let sent: Vec<_> = row.as_object().unwrap().keys().collect();
        assert_eq!(sent, stored);
        assert_eq!(row["labels"]["reason"], "set_malformed");
    }
}
