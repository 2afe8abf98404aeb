//! What became of every flow, by its number.

use std::time::Duration;

use super::plan::Plan;
use super::run::{Absence, Outcome};
use crate::numbers::Numbers;
use crate::process::Signal;

/// How long the kernel may take to close the sockets of a killed collector: with io_uring it does
/// so behind the process's end. One that is told to stop shuts its own, and reads all they hold.
const UNREAD_MAX: Duration = Duration::from_millis(500);

/// What became of the flows that were sent.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Flows sent.
    pub sent: u64,
    /// Numbers that are rows.
    pub stored: u64,
    /// Rows beyond one a number.
    pub duplicates: u64,
    /// What is missing of each absence.
    pub absences: Vec<Missing>,
    /// Missing for no reason that is known, and the first such number.
    pub unexplained: u64,
    /// The first of them.
    pub first_unexplained: Option<u64>,
    /// Datagrams that came into a socket and were never read, by the kernel's counters.
    pub datagrams_unread: i128,
    /// What does not hold; nothing when everything does.
    pub faults: Vec<String>,
}

/// Flows that are missing because a collector ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// True when it was SIGKILL.
    pub by_kill: bool,
    /// From the signal until the next one's workers turned, in nanoseconds.
    pub absent_ns: u128,
    /// Flows in datagrams that the kernel refused: no socket was there.
    pub refused: u64,
    /// Datagrams that they came in.
    pub datagrams_refused: u64,
    /// Flows that had been sent when it was killed.
    pub in_memory: u64,
    /// How long before the kill the oldest of them had been sent, in nanoseconds.
    pub oldest_ns: u128,
    /// Flows in sockets that nobody read any more: of a killed collector until the kernel had
    /// closed them; of a stopping one there may be none.
    pub unread: u64,
}

/// The numbers that one absence can explain.
struct Window {
    /// Those behind this one may have been in memory: sent at most so long before SIGKILL. At
    /// SIGTERM, sent behind it.
    from: u64,
    /// Sent before the signal for certain.
    asked: u64,
    /// May have been sent when the process had ended.
    ended: u64,
    /// The last one that the sockets took: from the next on the kernel refused all.
    closed: u64,
    /// May have been sent when the next collector was there.
    back: u64,
}

impl Window {
    fn new(absence: &Absence, plan: &Plan, outcome: &Outcome) -> Self {
        let log = &outcome.sent_log;
        let memory = match absence.signal {
            Signal::KILL => plan.memory_age_max.as_nanos(),
            _ => 0,
        };
        let asked = log.at_least_by(absence.asked);
        let back = log.at_most_by(absence.back);
        let refused = outcome.refused.iter().map(|datagram| datagram.first);
        let closed = refused.filter(|first| (asked + 1..=back).contains(first));
        Self {
            from: log.at_least_by(absence.asked.saturating_sub(memory)),
            asked,
            ended: log.at_most_by(absence.ended),
            closed: closed.min().map_or(asked, |first| first - 1),
            back,
        }
    }
}

impl Account {
    /// Accounts for all flows of a run.
    #[must_use]
    pub fn of(plan: &Plan, outcome: &Outcome) -> Self {
        let windows: Vec<_> = (outcome.absences.iter())
            .map(|absence| Window::new(absence, plan, outcome))
            .collect();
        let mut account = Self {
            sent: outcome.sent.flows,
            stored: outcome.rows.numbers.len(),
            duplicates: outcome.rows.duplicates(),
            absences: outcome.absences.iter().map(Missing::of).collect(),
            ..Self::default()
        };
        let refused = account.take_refused(outcome, &windows);
        for number in outcome.rows.numbers.missing(&refused) {
            account.take_missing(number, outcome, &windows);
        }
        let udp = &outcome.udp;
        let known = [udp.read, udp.no_port, udp.buffer_full];
        let known: i128 = known.into_iter().map(i128::from).sum();
        let trials: u64 = outcome.absences.iter().map(|it| it.trials).sum();
        account.datagrams_unread = i128::from(outcome.sent.datagrams + trials) - known;
        account.judge(plan, outcome);
        account
    }

    /// Flows that came while no collector ran.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.absences.iter().map(|missing| missing.refused).sum()
    }

    /// Flows that were in memory at SIGKILL.
    #[must_use]
    pub fn in_memory(&self) -> u64 {
        self.absences.iter().map(|missing| missing.in_memory).sum()
    }

    /// Flows in sockets that nobody read any more.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.absences.iter().map(|missing| missing.unread).sum()
    }

    /// Numbers that the kernel refused, each counted for its absence.
    fn take_refused(&mut self, outcome: &Outcome, windows: &[Window]) -> Numbers {
        let mut refused = Numbers::none(outcome.sent.flows);
        for datagram in &outcome.refused {
            if !refused.add(datagram.first, datagram.flows) {
                let first = datagram.first;
                self.fault(format!(
                    "the kernel refused flow {first} twice, or it was not sent"
                ));
            }
            let last = datagram.first + datagram.flows - 1;
            let found = (windows.iter()).position(|w| w.asked < last && last <= w.back);
            let Some(missing) = found.and_then(|index| self.absences.get_mut(index)) else {
                self.fault(format!("flow {last} was refused while a collector ran"));
                continue;
            };
            missing.refused += datagram.flows;
            missing.datagrams_refused += 1;
            let rows = &outcome.rows.numbers;
            if (datagram.first..=last).any(|number| rows.has(number)) {
                self.fault(format!("flow {last} was refused and is a row"));
            }
        }
        refused
    }

    /// A number that is no row although a socket took it.
    fn take_missing(&mut self, number: u64, outcome: &Outcome, windows: &[Window]) {
        let found = windows
            .iter()
            .position(|w| w.from < number && number <= w.closed);
        let Some(index) = found else {
            self.unexplained += 1;
            self.first_unexplained.get_or_insert(number);
            return;
        };
        let (absence, missing) = (&outcome.absences[index], &mut self.absences[index]);
        if !missing.by_kill || number > windows[index].ended {
            missing.unread += 1;
            return;
        }
        missing.in_memory += 1;
        let sent = outcome.sent_log.when(number).unwrap_or(absence.asked);
        let age = absence.asked.saturating_sub(sent);
        missing.oldest_ns = missing.oldest_ns.max(age);
    }

    fn judge(&mut self, plan: &Plan, outcome: &Outcome) {
        if self.duplicates > 0 {
            self.fault(format!("{} rows are duplicates", self.duplicates));
        }
        if let Some(first) = self.first_unexplained {
            let when = outcome.sent_log.when(first).zip(outcome.sent_log.began());
            let second = when.map_or(0, |(at, began)| (at - began) / 1_000_000_000);
            self.fault(format!(
                "{} flows are missing for no reason that is known, the first is {first}, sent in \
                 second {second}",
                self.unexplained
            ));
        }
        let accounted = self.stored + self.refused() + self.in_memory() + self.unread();
        if accounted + self.unexplained != self.sent {
            self.fault(format!(
                "{accounted} of {} flows are accounted for",
                self.sent
            ));
        }
        let unread_max = u128::from(plan.rate) * UNREAD_MAX.as_millis() / 1000;
        for missing in self.absences.clone() {
            let unread_max = if missing.by_kill { unread_max } else { 0 };
            if u128::from(missing.unread) > unread_max {
                self.fault(format!(
                    "{} flows were in sockets that nobody read any more; {unread_max} are allowed",
                    missing.unread
                ));
            }
            if missing.datagrams_refused == 0 {
                self.fault("no datagram came while no collector ran: nothing is shown".into());
            }
        }
        self.judge_kernel(outcome);
        self.judge_lives(outcome);
        self.judge_spool(outcome);
        self.judge_sums(outcome);
    }

    /// The kernel's counters and its answers have to say the same.
    fn judge_kernel(&mut self, outcome: &Outcome) {
        let (udp, answers) = (outcome.udp, outcome.refused.len() as u64);
        if udp.no_port != answers {
            self.fault(format!(
                "the kernel counted {} datagrams without a socket and answered {answers}",
                udp.no_port
            ));
        }
        if udp.buffer_full > 0 {
            self.fault(format!(
                "receive buffers were full for {} datagrams",
                udp.buffer_full
            ));
        }
        // What was in a socket that was closed is missing. Not the reverse: what io_uring had put
        // into the collector's memory counts as read, whether the collector looked at it or not.
        let (unread, missing) = (self.datagrams_unread, self.in_memory() + self.unread());
        if unread < 0 || unread > i128::from(missing) {
            self.fault(format!(
                "the kernel threw {unread} datagrams away with their sockets, but only {missing} \
                 flows are missing for that"
            ));
        }
    }

    fn judge_lives(&mut self, outcome: &Outcome) {
        if outcome.settled.is_none() {
            self.fault("flows were still under way long after the last was sent".into());
        }
        for (index, life) in outcome.lives.iter().enumerate() {
            let who = format!("collector {} ({})", index + 1, life.end);
            if !life.success {
                self.fault(format!("{who} did not end with success"));
            }
            for (reason, n) in &life.losses {
                self.fault(format!("{who} lost {n} flows or datagrams: {reason}"));
            }
            if life.dropped_by_kernel > 0 {
                self.fault(format!(
                    "{who}: the kernel dropped {}",
                    life.dropped_by_kernel
                ));
            }
            if let Some(unaccounted @ 1..) = life.unaccounted {
                self.fault(format!("{who}: {unaccounted} unaccounted"));
            }
        }
    }

    /// What a stopped one leaves on the disk, the next one finds.
    fn judge_spool(&mut self, outcome: &Outcome) {
        for pair in outcome.lives.windows(2) {
            let [life, next] = pair else { continue };
            if life.unaccounted.is_some() && life.left_on_disk != next.recovered {
                self.fault(format!(
                    "a collector left {} flows on the disk, the next one found {}",
                    life.left_on_disk, next.recovered
                ));
            }
        }
    }

    fn judge_sums(&mut self, outcome: &Outcome) {
        if outcome.raw.flows != u128::from(outcome.rows.rows) {
            self.fault(format!(
                "{:?} are not {} rows",
                outcome.raw, outcome.rows.rows
            ));
        }
        if outcome.rollups.is_empty() {
            self.fault("there is no rollup table to compare with".into());
        }
        for (table, sums) in &outcome.rollups {
            if *sums != outcome.raw {
                self.fault(format!("{table}: {sums:?}, the rows {:?}", outcome.raw));
            }
        }
    }

    /// Many of one kind are one fault: the first ones are kept.
    fn fault(&mut self, fault: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }
}

impl Missing {
    fn of(absence: &Absence) -> Self {
        Self {
            by_kill: absence.signal == Signal::KILL,
            absent_ns: absence.back.saturating_sub(absence.asked),
            ..Self::default()
        }
    }
}

/// Faults that are kept.
const FAULTS_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::Totals;
    use crate::kernel::{Refused, UdpCounters};
    use crate::numbers::Rows;
    use crate::outage::run::Life;
    use crate::outage::sums::Sums;
    use crate::outage::{Kind, Plan};
    use crate::sent_log::SentLog;

    const SECOND: u128 = 1_000_000_000;

    /// A datagram of 30 flows a second for 40 seconds. The collector is killed behind the
    /// twentieth, holding the last two; the kernel refuses three, and the next collector is there.
    fn killed() -> (Plan, Outcome) {
        let mut log = String::new();
        for datagram in 1..=40 {
            let at = (1_000 + datagram) * SECOND;
            let _ = writeln!(log, "{at} {} {datagram}", datagram * 30);
        }
        let refused = [20, 21, 22].map(|before| Refused {
            first: before * 30 + 1,
            flows: 30,
        });
        let at = |tenths: u128| 1_000 * SECOND + tenths * SECOND / 10;
        let mut numbers = Numbers::none(1_200);
        assert!(numbers.add(1, 18 * 30));
        assert!(numbers.add(23 * 30 + 1, 17 * 30));
        let sums = Sums {
            bytes: 9,
            packets: 3,
            flows: 35 * 30,
            ..Sums::default()
        };
        let outcome = Outcome {
            timeline: Vec::new(),
            absences: vec![Absence {
                signal: Signal::KILL,
                asked: at(202),
                ended: at(203),
                started: at(231),
                back: at(232),
                trials: 1,
            }],
            lives: vec![
                Life {
                    success: true,
                    ..Life::default()
                };
                2
            ],
            sent: sent(),
            sent_log: SentLog::parse(&log).expect("it parses"),
            refused: refused.to_vec(),
            udp: UdpCounters {
                read: 37,
                no_port: 3,
                buffer_full: 0,
            },
            settled: Some(Duration::from_secs(1)),
            rows: Rows {
                numbers,
                rows: 35 * 30,
            },
            raw: sums,
            rollups: vec![("by_minute".into(), sums)],
        };
        let plan = Plan::full(Kind::Server, 30, Duration::from_secs(40));
        (plan, outcome)
    }

    fn sent() -> Totals {
        let mut sent = Totals::default();
        (sent.datagrams, sent.flows) = (40, 1_200);
        sent
    }

    #[test]
    fn what_is_missing_is_told_apart_by_its_cause() {
        let (plan, outcome) = killed();
        let account = Account::of(&plan, &outcome);
        assert_eq!(account.faults, [""; 0]);
        let [missing] = account.absences[..] else {
            panic!("one absence: {account:?}")
        };
        assert_eq!((missing.refused, missing.datagrams_refused), (90, 3));
        assert_eq!((missing.in_memory, missing.unread), (60, 0));
        // The nineteenth datagram was sent in second 19, the signal in 20.2.
        assert_eq!(missing.oldest_ns, 12 * SECOND / 10);
        assert_eq!((account.datagrams_unread, account.stored), (1, 1_050));
    }

    /// What the account says of a run in which one thing is otherwise.
    fn fault(change: impl FnOnce(&mut Outcome)) -> String {
        let (plan, mut outcome) = killed();
        change(&mut outcome);
        Account::of(&plan, &outcome).faults.join("; ")
    }

    #[test]
    fn a_flow_that_is_missing_before_what_memory_may_hold_is_unexplained() {
        let fault = fault(|outcome| {
            let mut numbers = Numbers::none(1_200);
            assert!(numbers.add(1, 300) && numbers.add(302, 239) && numbers.add(691, 510));
            outcome.rows = Rows {
                numbers,
                rows: 1_049,
            };
            outcome.raw.flows = 1_049;
            outcome.rollups[0].1.flows = 1_049;
        });
        assert!(
            fault.starts_with("1 flows are missing for no reason that is known, the first is 301"),
            "{fault}"
        );
    }

    #[test]
    fn whatever_does_not_hold_is_told() {
        let told = fault(|outcome| {
            outcome.rows.rows += 2;
            outcome.raw.flows += 2;
            outcome.rollups[0].1.flows += 2;
        });
        assert_eq!(told, "2 rows are duplicates");
        let told = fault(|outcome| outcome.rollups[0].1.bytes += 1);
        assert!(told.starts_with("by_minute: "), "{told}");
        let told = fault(|outcome| outcome.rollups.clear());
        assert_eq!(told, "there is no rollup table to compare with");
        let told = fault(|outcome| outcome.lives[0].losses.push(("spool_full".into(), 7)));
        assert!(
            told.ends_with("lost 7 flows or datagrams: spool_full"),
            "{told}"
        );
        let told = fault(|outcome| outcome.lives[1].unaccounted = Some(1));
        assert!(told.ends_with("1 unaccounted"), "{told}");
        let told = fault(|outcome| outcome.udp.buffer_full = 1);
        assert!(told.contains("receive buffers were full"), "{told}");
        let told = fault(|outcome| outcome.udp.no_port = 4);
        assert!(
            told.contains("counted 4 datagrams without a socket"),
            "{told}"
        );
        let told = fault(|outcome| outcome.refused[0].first = 1);
        assert!(
            told.contains("flow 30 was refused while a collector ran"),
            "{told}"
        );
        let told = fault(|outcome| outcome.settled = None);
        assert!(told.contains("still under way"), "{told}");
    }

    #[test]
    fn behind_sigterm_only_what_the_sockets_held_may_be_missing() {
        let told = fault(|outcome| outcome.absences[0].signal = Signal::TERM);
        assert!(
            told.starts_with("60 flows are missing for no reason"),
            "{told}"
        );
        let told = fault(|outcome| {
            outcome.absences[0].signal = Signal::TERM;
            outcome.absences[0].asked -= 2 * SECOND;
        });
        assert!(
            told.contains("60 flows were in sockets that nobody read any more"),
            "{told}"
        );
    }
}
