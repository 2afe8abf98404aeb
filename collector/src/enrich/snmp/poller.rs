//! The task that asks: whom, when, and what becomes of the answers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use snmp2::v3::KeyExtension;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::ask::{Outcome, agent_of, ask};
use super::error::PollError;
use super::exporter::Exporter;
use super::lines::Lines;
use super::saved::{SavedExporter, SavedFile, SavedInterface};
use super::session::Patience;
use super::told::{Polled, Told};
use super::walk::{ROWS_MAX, Said};
use super::{Counters, EXPORTERS_MAX, INTERFACES_MAX, Shared};
use crate::config::{self, SnmpTarget};
use crate::enrich::interfaces::rows;
use crate::flow::Address;
use crate::store::SideRows;
use crate::units::UnixNanos;

/// A change is written at most so long after the one before it.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Interfaces of which nothing is new make rows with an answer, at most so often, seconds.
const ROWS_EVERY_S: u32 = 60;

pub struct Poller {
    every: Duration,
    patience: Patience,
    at_once: usize,
    /// The longest prefix first.
    targets: Vec<Arc<SnmpTarget>>,
    exporters: HashMap<Address, Exporter>,
    /// When each is due.
    due: BTreeSet<(Instant, Address)>,
    under_way: JoinSet<Outcome>,
    /// Whom each of them asks.
    asked: HashMap<Id, Address>,
    polled: Polled,
    /// Interfaces in `polled`.
    interfaces: usize,
    lines: Lines,
    saving: Option<Saving>,
    rows: SideRows,
    shared: Arc<Shared>,
}

/// The file, and what it knows.
struct Saving {
    file: SavedFile,
    /// Something changed since it was written last.
    is_due: bool,
    written: Option<Instant>,
    /// The last attempt failed, and that was told.
    is_failing: bool,
}

impl Poller {
    pub fn new(
        config: &config::Snmp,
        file: Option<SavedFile>,
        rows: SideRows,
        shared: Arc<Shared>,
    ) -> Self {
        let mut targets: Vec<_> = config.targets.iter().cloned().map(Arc::new).collect();
        targets.sort_by_key(|target| std::cmp::Reverse(target.source.prefix_len()));
        let mut poller = Self {
            every: config.every,
            patience: Patience {
                timeout: config.timeout,
                retries: config.retries,
            },
            at_once: config.exporters_at_once,
            targets,
            exporters: HashMap::new(),
            due: BTreeSet::new(),
            under_way: JoinSet::new(),
            asked: HashMap::new(),
            polled: Polled::default(),
            interfaces: 0,
            lines: Lines::default(),
            saving: None,
            rows,
            shared,
        };
        if let Some(file) = file {
            poller.recall(file.read());
            poller.saving = Some(Saving {
                file,
                is_due: false,
                written: None,
                is_failing: false,
            });
        }
        poller
    }

    /// Takes over what was saved.
    fn recall(&mut self, saved: Vec<SavedExporter>) {
        let now_s = UnixNanos::now().seconds();
        for saved in saved.into_iter().take(EXPORTERS_MAX) {
            let interfaces = saved.interfaces.into_iter();
            let told = Told {
                system_name: saved.system_name.into(),
                interfaces: interfaces.map(|i| (i.if_index, i.interface)).collect(),
            };
            let exporter = Address::from(saved.exporter);
            let known = self.exporters.entry(exporter).or_default();
            let room = INTERFACES_MAX - self.interfaces;
            if known.told.is_some() || told.interfaces.len() > room {
                continue;
            }
            self.interfaces += told.interfaces.len();
            let told = Arc::new(told);
            known.told = Some(Arc::clone(&told));
            known.told_s = saved.told_unix_s.min(now_s);
            self.polled.set(exporter, told);
        }
        self.shared.publish(&self.polled);
    }

    /// Asks until it is told to stop.
    pub async fn run(mut self) {
        let mut wanted = self.shared.wanted.subscribe();
        let mut stop = self.shared.stop.subscribe();
        loop {
            let list = Arc::clone(&wanted.borrow_and_update());
            self.want(&list);
            while !wanted.has_changed().unwrap_or(true) {
                self.start_due();
                if self.turn(&mut wanted, &mut stop).await {
                    self.under_way.shutdown().await;
                    self.save(true).await;
                    return;
                }
            }
        }
    }

    /// Waits until something is to be done; true when that is to end.
    async fn turn(
        &mut self,
        wanted: &mut watch::Receiver<Arc<[Address]>>,
        stop: &mut watch::Receiver<bool>,
    ) -> bool {
        let next = self.due.first().map(|(due, _)| *due);
        let next = next.filter(|_| self.under_way.len() < self.at_once);
        let next_save = self.saving.as_ref().and_then(Saving::due);
        tokio::select! {
            () = wait_for_stop(stop) => return true,
            _ = wait_for_change(wanted) => {}
            Some(ended) = self.under_way.join_next_with_id() => self.ended(ended),
            () = at(next) => {}
            () = at(next_save) => self.save(false).await,
        }
        false
    }

    /// Notes which exporters are there.
    fn want(&mut self, list: &[Address]) {
        let now = Instant::now();
        let mut left_out = 0;
        let wanted: HashMap<Address, usize> = list
            .iter()
            .filter(|exporter| !exporter.is_unknown())
            .filter_map(|exporter| Some((*exporter, self.target_of(*exporter)?)))
            .collect();
        for (address, exporter) in &mut self.exporters {
            exporter.target = wanted.get(address).copied();
            if exporter.target.is_none()
                && let Some(due) = exporter.due.take()
            {
                self.due.remove(&(due, *address));
            }
        }
        for (address, target) in wanted {
            if !self.exporters.contains_key(&address) && !self.make_room() {
                left_out += 1;
                continue;
            }
            let exporter = self.exporters.entry(address).or_default();
            exporter.target = Some(target);
            if exporter.due.is_none() && !exporter.is_under_way {
                let due = now + Exporter::first_wait(self.every, rand::random());
                exporter.due = Some(due);
                self.due.insert((due, address));
            }
        }
        let before = Counters::set(&self.shared.counters.exporters_left_out, left_out);
        if left_out > 0 && before == 0 {
            warn!(
                left_out,
                max = EXPORTERS_MAX,
                remedy = "have enrich.snmp.targets fit fewer exporters",
                "exporters are not asked by SNMP: there are too many"
            );
        }
        self.count();
    }

    /// The number of the target with the longest prefix that has `exporter`.
    fn target_of(&self, exporter: Address) -> Option<usize> {
        let ip = exporter.to_ip();
        let mut targets = self.targets.iter();
        targets.position(|target| target.source.contains(&ip))
    }

    /// Room for one more exporter: the one that is not wanted and silent longest gives way.
    fn make_room(&mut self) -> bool {
        if self.exporters.len() < EXPORTERS_MAX {
            return true;
        }
        let others = self.exporters.iter();
        let others = others.filter(|(_, known)| known.target.is_none() && !known.is_under_way);
        let oldest = others.min_by_key(|(_, known)| known.told_s);
        let Some(oldest) = oldest.map(|(address, _)| *address) else {
            return false;
        };
        let gone = self.exporters.remove(&oldest);
        let told = gone.and_then(|gone| gone.told);
        self.interfaces -= told.map_or(0, |told| told.interfaces.len());
        self.polled.forget(oldest);
        true
    }

    /// Asks those whose time has come.
    fn start_due(&mut self) {
        let now = Instant::now();
        while self.under_way.len() < self.at_once {
            let Some((_, address)) = self.due.first().filter(|(due, _)| *due <= now).copied()
            else {
                return;
            };
            self.due.pop_first();
            let Some(exporter) = self.exporters.get_mut(&address) else {
                continue;
            };
            exporter.due = None;
            let target = exporter.target.and_then(|target| self.targets.get(target));
            let Some(target) = target else {
                continue;
            };
            exporter.is_under_way = true;
            let first = exporter.extension.unwrap_or(KeyExtension::Blumenthal);
            let ask = ask(address, Arc::clone(target), self.patience, first);
            let id = self.under_way.spawn(ask).id();
            self.asked.insert(id, address);
        }
    }

    /// A poll ended.
    fn ended(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (id, (outcome, extension)) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let outcome = Err(PollError::Broken);
                (error.id(), (outcome, KeyExtension::Blumenthal))
            }
        };
        let Some(address) = self.asked.remove(&id) else {
            return;
        };
        let counters = &self.shared.counters;
        Counters::add(&counters.polls, 1);
        match outcome {
            Ok(said) => self.answered(address, said, extension),
            Err(error) => {
                Counters::add(&counters.failures, 1);
                if matches!(error, PollError::Timeout | PollError::TooSlow) {
                    Counters::add(&counters.timeouts, 1);
                }
                self.failed(address, &error);
            }
        }
        let Some(exporter) = self.exporters.get_mut(&address) else {
            return;
        };
        exporter.is_under_way = false;
        if exporter.target.is_some() {
            let due = Instant::now() + exporter.wait(self.every, rand::random());
            exporter.due = Some(due);
            self.due.insert((due, address));
        }
        self.count();
    }

    fn failed(&mut self, address: Address, error: &PollError) {
        let Some(exporter) = self.exporters.get_mut(&address) else {
            return;
        };
        let target = exporter.target.and_then(|target| self.targets.get(target));
        let agent = target.map(|target| agent_of(address, target).to_string());
        let was_failing = exporter.is_failing();
        exporter.failed();
        if was_failing {
            return;
        }
        if let Some(lines_left_out) = self.lines.may_tell(std::time::Instant::now()) {
            warn!(
                exporter = %address,
                agent,
                %error,
                remedy = error.remedy(),
                lines_left_out,
                "an exporter cannot be asked by SNMP: what it said before is kept, and it is asked \
                 less and less often"
            );
        }
    }

    fn answered(&mut self, address: Address, said: Said, extension: KeyExtension) {
        let Some(exporter) = self.exporters.get_mut(&address) else {
            return;
        };
        if exporter.is_failing()
            && let Some(lines_left_out) = self.lines.may_tell(std::time::Instant::now())
        {
            info!(exporter = %address, lines_left_out, "an exporter answers SNMP again");
        }
        exporter.answered();
        exporter.extension = Some(extension);
        exporter.told_s = UnixNanos::now().seconds();
        let before = exporter.told.take();
        let count_before = before.as_ref().map_or(0, |told| told.interfaces.len());
        let room = INTERFACES_MAX - (self.interfaces - count_before);
        let is_cut = said.interfaces.len() > room.min(ROWS_MAX);
        let cut = said.columns_cut + u64::from(is_cut);
        Counters::add(&self.shared.counters.rows_cut, cut);
        if cut > 0
            && !exporter.is_cut
            && let Some(lines_left_out) = self.lines.may_tell(std::time::Instant::now())
        {
            warn!(
                exporter = %address,
                max = ROWS_MAX,
                max_in_all = INTERFACES_MAX,
                remedy = "have its agent show those interfaces only that export flows",
                lines_left_out,
                "interfaces of an exporter are left out: it has too many, or all together"
            );
        }
        exporter.is_cut = cut > 0;
        let interfaces = said.interfaces.into_iter().take(room.min(ROWS_MAX));
        let told = Arc::new(Told {
            system_name: (*said.system_name).into(),
            interfaces: interfaces.collect(),
        });
        self.interfaces = self.interfaces - count_before + told.interfaces.len();
        let put_off = tell(&self.rows, address, exporter, before.as_deref(), &told);
        Counters::add(&self.shared.counters.rows_put_off, put_off);
        exporter.told = Some(Arc::clone(&told));
        if before.as_ref() != Some(&told) {
            self.polled.set(address, told);
            self.shared.publish(&self.polled);
            if let Some(saving) = &mut self.saving {
                saving.is_due = true;
            }
        }
    }

    fn count(&self) {
        let wanted = self.exporters.values().filter(|e| e.target.is_some());
        let failing = wanted.clone().filter(|exporter| exporter.is_failing());
        let counters = &self.shared.counters;
        Counters::set(&counters.exporters, wanted.clone().count());
        Counters::set(&counters.exporters_failing, failing.count());
    }

    /// Writes the file, if something changed.
    async fn save(&mut self, is_last: bool) {
        let Some(saving) = &mut self.saving else {
            return;
        };
        if !saving.is_due && !is_last {
            return;
        }
        let of = |(address, exporter): (&Address, &Exporter)| {
            let told = exporter.told.as_ref()?;
            let interfaces = told.interfaces.iter();
            let interfaces = interfaces.map(|(if_index, interface)| SavedInterface {
                if_index: *if_index,
                interface: interface.clone(),
            });
            Some(SavedExporter {
                exporter: address.to_ip(),
                told_unix_s: exporter.told_s,
                system_name: told.system_name.to_string(),
                interfaces: interfaces.collect(),
            })
        };
        let all: Vec<_> = self.exporters.iter().filter_map(of).collect();
        let file = saving.file.clone();
        let written = tokio::task::spawn_blocking(move || file.write(all)).await;
        let Ok(written) = written else {
            // The runtime is ending.
            return;
        };
        saving.wrote(&written);
    }
}

impl Saving {
    /// When it is written next.
    fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        let due = self.written.map_or(now, |written| written + SAVE_EVERY);
        self.is_due.then_some(due)
    }

    fn wrote(&mut self, outcome: &std::io::Result<()>) {
        self.written = Some(Instant::now());
        // One that failed is tried again with the next change or in SAVE_EVERY.
        self.is_due = outcome.is_err();
        match outcome {
            Err(error) if !self.is_failing => warn!(
                file = self.file.shown(),
                %error,
                remedy = "make room on the disk, or let the collector's user write there",
                "what agents said by SNMP cannot be written"
            ),
            Ok(()) if self.is_failing => info!(file = self.file.shown(), "written again"),
            _ => {}
        }
        self.is_failing = outcome.is_err();
    }
}

/// Makes rows of what is new, once a minute at most of all; yields how many found no room.
fn tell(
    rows: &SideRows,
    address: Address,
    exporter: &mut Exporter,
    before: Option<&Told>,
    told: &Told,
) -> u64 {
    let now_s = exporter.told_s;
    let is_all = now_s.saturating_sub(exporter.rows_s) >= ROWS_EVERY_S;
    let before = before.map_or(&[][..], |before| &before.interfaces);
    let is_known = |interface| before.binary_search(interface).is_ok();
    let mut put_off = 0;
    for of in &told.interfaces {
        let is_due = is_all || !is_known(of);
        if is_due && !rows::tell_polled(rows, address, of.0, &of.1, now_s) {
            put_off += 1;
        }
    }
    if put_off > 0 {
        exporter.rows_s = 0;
    } else if is_all {
        exporter.rows_s = now_s;
    }
    put_off
}

async fn wait_for_change(wanted: &mut watch::Receiver<Arc<[Address]>>) {
    // The change stays marked as unseen for whoever takes it.
    if wanted.changed().await.is_ok() {
        wanted.mark_changed();
    }
}

async fn wait_for_stop(stop: &mut watch::Receiver<bool>) {
    // Who sent it lives as long as the poller.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// At `instant`, or never.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
