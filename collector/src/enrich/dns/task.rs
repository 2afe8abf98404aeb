//! The one task that asks name servers and makes tables of what they answer.

use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hashbrown::HashSet;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use super::Shared;
use super::asker::Questions;
use super::cache::{Cache, Learned};
use super::servers::{Answer, Servers, ask, probe};
use crate::config;
use crate::flow::Address;
use crate::store::{SideRow, SideRows, SideTable};

/// How often the queues are emptied.
const TURN: Duration = Duration::from_millis(100);
/// A new table is made so often at most, and when making one took long, in 5 % of the time.
const TABLE_EVERY: Duration = Duration::from_secs(1);
const TABLE_SHARE: u32 = 20;
/// After so long it is asked again for what was asked for.
const GENERATION: Duration = Duration::from_secs(30);
/// Questions that wait for their turn; beyond, they stay in the queues.
const WAITING_MAX: usize = 16_384;
/// Pause between two lines about the same lack of room.
const TELL_EVERY: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct HostRow<'a> {
    addr: Ipv6Addr,
    name: &'a str,
    last_seen: u32,
}

impl SideRow for HostRow<'_> {
    const TABLE: SideTable = SideTable::Hosts;
}

/// Somebody's name is wanted.
#[derive(Debug)]
struct Question {
    address: Address,
    /// Servers that did not know.
    tried: Vec<SocketAddr>,
}

enum Done {
    Asked(Question, SocketAddr, Answer),
    Probed(SocketAddr, bool),
}

/// What the task owns.
pub(super) struct Task {
    config: config::Dns,
    questions: Arc<Questions>,
    shared: Arc<Shared>,
    rows: SideRows,
    started: Instant,
    cache: Cache,
    servers: Servers,
    waiting: Waiting,
    under_way: JoinSet<Done>,
    /// Questions among them; the others are probes.
    asked: usize,
    rate: Rate,
    /// A table made now would differ from the last one.
    has_news: bool,
    told: Told,
}

/// Questions that wait, and those under way: each address once.
#[derive(Default)]
struct Waiting {
    /// Asked before all others: by another server, for an exporter, for a name in use.
    first: VecDeque<Question>,
    rest: VecDeque<Question>,
    all: HashSet<Address>,
}

impl Waiting {
    /// Exporters have room where addresses of flows have none any more.
    fn has_room(&self, is_first: bool) -> bool {
        let most = if is_first {
            2 * WAITING_MAX
        } else {
            WAITING_MAX
        };
        self.all.len() < most
    }

    fn push(&mut self, address: Address, is_first: bool) {
        if !self.all.insert(address) {
            return;
        }
        let tried = Vec::new();
        let queue = if is_first {
            &mut self.first
        } else {
            &mut self.rest
        };
        queue.push_back(Question { address, tried });
    }

    fn pop(&mut self) -> Option<Question> {
        self.first.pop_front().or_else(|| self.rest.pop_front())
    }

    fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }
}

/// Allows so many questions a second, never more than those of a turn at once.
struct Rate {
    per_second: f64,
    allowed: f64,
    at: Duration,
}

impl Rate {
    fn new(per_second: usize) -> Self {
        Self {
            per_second: per_second as f64,
            allowed: 1.0,
            at: Duration::ZERO,
        }
    }

    fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        let most = (self.per_second * TURN.as_secs_f64()).max(1.0);
        self.allowed = (self.allowed + passed * self.per_second).min(most);
        self.at = now;
        let is_allowed = self.allowed >= 1.0;
        if is_allowed {
            self.allowed -= 1.0;
        }
        is_allowed
    }
}

/// What was said of a lack of room.
#[derive(Default)]
struct Told {
    at: Option<Duration>,
    refused: u64,
    evicted: u64,
}

impl Task {
    pub fn new(
        config: config::Dns,
        questions: Arc<Questions>,
        shared: Arc<Shared>,
        rows: SideRows,
    ) -> Self {
        Self {
            cache: Cache::new(&config),
            servers: Servers::new(&config),
            rate: Rate::new(config.rate_max),
            config,
            questions,
            shared,
            rows,
            started: Instant::now(),
            waiting: Waiting::default(),
            under_way: JoinSet::new(),
            asked: 0,
            has_news: false,
            told: Told::default(),
        }
    }

    /// Runs as long as it is not aborted.
    pub async fn run(mut self) {
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut generation_due = GENERATION;
        let mut table_due = Duration::ZERO;
        loop {
            tokio::select! {
                _ = turns.tick() => {}
                Some(done) = self.under_way.join_next() => {
                    // Aborted or panicked: nobody knows whose question it was.
                    if let Ok(done) = done {
                        self.take_in(done);
                    }
                    self.ask();
                    continue;
                }
            }
            let now = self.now();
            if now >= generation_due {
                generation_due = now + GENERATION;
                self.questions.generation.fetch_add(1, Relaxed);
            }
            if now >= table_due {
                let begun = Instant::now();
                let Some(task) = self.make_table(now).await else {
                    // The runtime is ending.
                    return;
                };
                self = task;
                table_due = now + TABLE_EVERY.max(begun.elapsed() * TABLE_SHARE);
            }
            self.listen();
            self.probe(now);
            self.ask();
            self.count();
            self.tell(now);
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes over what is asked for.
    fn listen(&mut self) {
        let Questions {
            exporters,
            endpoints,
            ..
        } = &*self.questions;
        for (queue, is_first) in [(exporters, true), (endpoints, false)] {
            // No more than there were: others come meanwhile.
            for _ in 0..queue.len() {
                if !self.waiting.has_room(is_first) {
                    break;
                }
                let Some(address) = queue.pop() else { break };
                if !self.cache.knows(address) {
                    self.waiting.push(address, is_first);
                }
            }
        }
    }

    /// Asks what waits, as far as servers, their load and the rate allow.
    fn ask(&mut self) {
        while self.asked < self.config.queries_max && self.waiting.len() > 0 {
            if !self.servers.has_any() {
                return;
            }
            let now = self.now();
            if !self.rate.take(now) {
                return;
            }
            let Some(question) = self.waiting.pop() else {
                return;
            };
            let Some((at, resolver)) = self.servers.pick(&question.tried) else {
                // Those that are left know no more than was said.
                self.learn(question.address, Learned::Failed);
                continue;
            };
            self.asked += 1;
            self.shared.counters.queries.fetch_add(1, Relaxed);
            let timeout = self.config.timeout;
            self.under_way.spawn(async move {
                let answer = ask(resolver, question.address, timeout).await;
                Done::Asked(question, at, answer)
            });
        }
    }

    /// Tries servers that did not answer.
    fn probe(&mut self, now: Duration) {
        let probes = self.servers.probes(now);
        if probes.is_empty() && self.servers.len() > 0 {
            return;
        }
        // The host may have others by now.
        self.servers.reload(now);
        for (at, resolver) in probes {
            let timeout = self.config.timeout;
            self.under_way
                .spawn(async move { Done::Probed(at, probe(resolver, timeout).await) });
        }
    }

    fn take_in(&mut self, done: Done) {
        let now = self.now();
        let (mut question, at, answer) = match done {
            Done::Asked(question, at, answer) => (question, at, answer),
            Done::Probed(at, is_alive) => return self.servers.heard(at, is_alive, true, now),
        };
        self.asked -= 1;
        self.servers.heard(at, answer.is_alive(), false, now);
        let counters = &self.shared.counters;
        let (counter, learned) = match answer {
            Answer::Name(name) => (&counters.hits, Learned::Name(name)),
            Answer::NoName => (&counters.misses, Learned::NoName),
            Answer::Failed => (&counters.failures, Learned::Failed),
            Answer::Unreachable => (&counters.failures, Learned::Failed),
            Answer::Timeout => (&counters.timeouts, Learned::Failed),
        };
        counter.fetch_add(1, Relaxed);
        question.tried.push(at);
        // Another server may know.
        if learned == Learned::Failed && self.servers.pick(&question.tried).is_some() {
            self.waiting.first.push_front(question);
        } else {
            self.learn(question.address, learned);
        }
    }

    fn learn(&mut self, address: Address, learned: Learned) {
        self.waiting.all.remove(&address);
        if let Learned::Name(name) = &learned {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            self.rows.push(&HostRow {
                addr: address.into(),
                name,
                last_seen: u32::try_from(since.unwrap_or_default().as_secs()).unwrap_or(u32::MAX),
            });
        }
        let now = self.now();
        self.has_news |= self.cache.learn(address, learned, now);
    }

    /// Looks at what is due, and publishes a table when it differs from the last.
    async fn make_table(mut self, now: Duration) -> Option<Self> {
        let Self {
            cache,
            servers,
            shared,
            waiting,
            ..
        } = &mut self;
        if cache.is_due(now) {
            cache.mark_used(shared.snapshot().used());
        }
        let has_server = servers.has_any();
        self.has_news |= cache.turn(now, has_server, |address| waiting.push(address, true));
        if !std::mem::take(&mut self.has_news) {
            return Some(self);
        }
        // Millions of names take long, and others wait for this thread.
        let made = tokio::task::spawn_blocking(move || {
            let hosts = self.cache.snapshot(self.questions.hash);
            // What was found in the meantime.
            self.cache.mark_used(self.shared.snapshot().used());
            self.shared.publish(hosts);
            self
        });
        made.await.ok()
    }

    fn count(&self) {
        let counters = &self.shared.counters;
        let (names, nameless) = self.cache.counts();
        for (gauge, value) in [
            (&counters.waiting, self.waiting.len()),
            (&counters.under_way, self.asked),
            (&counters.names, names),
            (&counters.nameless, nameless),
            (&counters.servers, self.servers.len()),
            (&counters.servers_dead, self.servers.dead()),
        ] {
            gauge.store(value as u64, Relaxed);
        }
        counters.evicted.store(self.cache.evicted, Relaxed);
    }

    /// Says what room is lacking, unless it is a dead server's fault.
    fn tell(&mut self, now: Duration) {
        let told = &mut self.told;
        if told.at.is_some_and(|at| now < at + TELL_EVERY) {
            return;
        }
        let (refused, evicted) = (self.questions.refused(), self.cache.evicted);
        if !self.servers.has_any() {
            told.refused = refused;
        }
        let mut is_told = false;
        if refused > told.refused {
            is_told = true;
            warn!(
                count = refused - told.refused,
                remedy = "raise enrich.dns.rate_max or enrich.dns.queries_max",
                "names of addresses are not asked for: more are wanted than may be asked"
            );
        }
        if evicted > told.evicted {
            is_told = true;
            warn!(
                count = evicted - told.evicted,
                remedy = "raise enrich.dns.hits_max and enrich.dns.misses_max",
                "names of addresses are forgotten before their time: more are in use than are kept"
            );
        }
        if is_told {
            *told = Told {
                at: Some(now),
                refused,
                evicted,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_over_a_second_and_in_each_turn() {
        let mut rate = Rate::new(50);
        let mut total = 0;
        for turn in 1..=100 {
            let now = TURN * turn;
            let allowed = (0..1000).filter(|_| rate.take(now)).count();
            assert!(allowed <= 5, "{allowed}");
            total += allowed;
        }
        assert!((495..=501).contains(&total), "{total}");
    }

    #[test]
    fn a_rate_below_one_a_turn_is_kept_as_well() {
        let mut rate = Rate::new(1);
        let allowed = (1..=100).filter(|turn| rate.take(TURN * *turn)).count();
        assert!((9..=11).contains(&allowed), "{allowed}");
    }

    #[test]
    fn an_address_waits_once_and_exporters_go_first() {
        let mut waiting = Waiting::default();
        let [host, exporter] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(Address::from_v4);
        for _ in 0..3 {
            waiting.push(host, false);
            waiting.push(exporter, true);
        }
        assert_eq!(waiting.len(), 2);
        assert_eq!(waiting.pop().unwrap().address, exporter);
        // Under way it is not asked for again.
        waiting.push(exporter, true);
        assert_eq!(waiting.pop().unwrap().address, host);
        assert!(waiting.pop().is_none());
    }
}
