//! What the collector says of itself, told to ClickHouse once a minute.
//!
//! In: the figures of `/metrics`, but for the series of single exporters, which the table
//! `exporters` has. Out: rows of `collector_stats`: each gauge, and each counter that moved. Owner:
//! one task of the runtime beside the workers; at the stop whoever ends the collector, who tells
//! what happened until everything was stored.
//!
//! `delta` adds up: what finds no room while ClickHouse is away is told with a later row.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use serde::{Serialize, Serializer};
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use crate::http::{Family, Kind, Labels, State, Value};
use crate::store::occupancy::Asker;
use crate::store::{SideRow, SideRows, SideTable};
use crate::units::UnixNanos;

/// How often the clock is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
const MINUTE_S: u32 = 60;

/// A row of `collector_stats`.
#[derive(Debug, Serialize)]
struct StatsRow<'a> {
    minute: u32,
    collector: &'a str,
    started: u32,
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
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
    /// When the collector started, in seconds since the epoch.
    started: u32,
    /// When the clock was looked at last, in seconds since the epoch.
    looked: u32,
    /// When it told last, in seconds since the epoch.
    told: u32,
    /// Counters as they were told.
    before: HashMap<(String, Labels), Value>,
}

impl Teller {
    /// One for a collector that started at `started`, when all counters were zero.
    #[must_use]
    pub fn new(rows: SideRows, started: UnixNanos) -> Self {
        // https://www.kernel.org/doc/html/v6.12/admin-guide/sysctl/kernel.html#hostname-domainname
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let started = started.seconds();
        Self {
            rows,
            collector: host.trim().to_owned(),
            started,
            looked: started,
            told: started,
            before: HashMap::new(),
        }
    }

    /// The minute that is over since the last look, in seconds since the epoch; `None` while it
    /// lasts, or while there is no room for its rows.
    fn due(&mut self, now: UnixNanos) -> Option<u32> {
        let before = std::mem::replace(&mut self.looked, now.seconds());
        let is_over = before / MINUTE_S != self.looked / MINUTE_S;
        let has_room = || self.rows.has_room_in(SideTable::CollectorStats);
        (is_over && has_room()).then(|| before / MINUTE_S * MINUTE_S)
    }

    /// Tells what happened since it told last. Nothing moves any more.
    pub fn finish(mut self, now: UnixNanos, figures: Vec<Family>) {
        let minute = self.looked / MINUTE_S * MINUTE_S;
        self.tell(minute, now, figures);
    }

    fn tell(&mut self, minute: u32, now: UnixNanos, figures: Vec<Family>) {
        let told = std::mem::replace(&mut self.told, now.seconds());
        let interval_s = self.told.saturating_sub(told);
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
                    started: self.started,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::ledger::StoreCounts;
    use crate::store::Store;

    const SECOND: u64 = 1_000_000_000;
    /// A whole minute.
    const START: u64 = 1_800_000_000 * SECOND;

    /// A teller over the null store, and what is counted.
    struct Rig {
        teller: Teller,
        counts: Arc<StoreCounts>,
        _store: Store,
    }

    impl Rig {
        fn new() -> Self {
            let counts = Arc::new(StoreCounts::default());
            let (config, batch) = (config::Store::default(), config::Batch::default());
            let (store, _) = Store::start(&config, None, Arc::clone(&counts), 1, &batch);
            Self {
                teller: Teller::new(store.side_rows(), at(10)),
                counts,
                _store: store,
            }
        }

        fn rows(&self) -> u64 {
            self.counts
                .side(SideTable::CollectorStats)
                .read()
                .rows_offered
        }
    }

    fn at(second: u64) -> UnixNanos {
        UnixNanos(START + second * SECOND)
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
        assert_eq!(rig.teller.due(at(60)), Some(1_800_000_000));
        assert_eq!(rig.teller.due(at(61)), None);
        assert_eq!(rig.teller.due(at(121)), Some(1_800_000_060));
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
        rig.teller.finish(at(190), figures(6, 0));
        assert_eq!(
            rig.counts
                .side(SideTable::CollectorStats)
                .read()
                .rows_offered,
            6
        );
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
