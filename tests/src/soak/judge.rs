//! What of a run does not hold.

use super::outcome::{Counts, Outcome, Sample};
use super::plan::{Action, Plan};

/// How far the median of descriptors, and of threads, of the last third may be from that of the
/// second: one that is open at one look and closed at the next. What leaked once a reload, once a
/// visit or once an outage would be ten more, fifteen or three.
const MEDIAN_MAX: u64 = 1;
/// How far apart the fewest and the most of them may be, in both thirds together: connections to
/// ClickHouse and files that are being read or written come and go, and an outage closes and opens
/// all of them. Twice what was seen.
const SPREAD_MAX: u64 = 10;

/// How much of the rate has to be sent: less shows nothing of it.
const RATE_PERCENT_MIN: u64 = 90;

/// What is said of a run.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Resident memory, bytes.
    pub rss: Flat,
    /// File descriptors.
    pub descriptors: Flat,
    /// Threads.
    pub threads: Flat,
    /// What does not hold; nothing when everything does.
    pub faults: Vec<String>,
}

/// A figure in the second and in the last third of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flat {
    /// Median of the second third.
    pub second: u64,
    /// Median of the last third.
    pub last: u64,
    /// The least of both.
    pub least: u64,
    /// The most of both.
    pub most: u64,
}

impl Flat {
    fn of(plan: &Plan, samples: &[Sample], figure: impl Fn(&Sample) -> u64) -> Self {
        let third = plan.duration / 3;
        let figures = |is_in: &dyn Fn(&Sample) -> bool| {
            let mut figures: Vec<u64> = samples.iter().filter(|s| is_in(s)).map(&figure).collect();
            figures.sort_unstable();
            figures
        };
        let second = figures(&|sample| (third..third * 2).contains(&sample.at));
        let last = figures(&|sample| sample.at >= third * 2);
        let median = |figures: &[u64]| figures.get(figures.len() / 2).copied().unwrap_or(0);
        let ends = |figures: &[u64]| figures.first().copied().zip(figures.last().copied());
        let both = ends(&second).zip(ends(&last)).unwrap_or_default();
        Self {
            second: median(&second),
            last: median(&last),
            least: both.0.0.min(both.1.0),
            most: both.0.1.max(both.1.1),
        }
    }

    /// By how many thousandths of the second third's median the last one's differs.
    #[must_use]
    pub fn per_mille(&self) -> u64 {
        self.second.abs_diff(self.last) * 1000 / self.second.max(1)
    }
}

impl Verdict {
    /// Judges a run.
    #[must_use]
    pub fn of(plan: &Plan, outcome: &Outcome) -> Self {
        let flat = |figure: fn(&Sample) -> u64| Flat::of(plan, &outcome.samples, figure);
        let mut verdict = Self {
            rss: flat(|sample| sample.rss_bytes),
            descriptors: flat(|sample| sample.descriptors),
            threads: flat(|sample| sample.threads),
            faults: Vec::new(),
        };
        verdict.judge_flows(plan, outcome);
        verdict.judge_rows(outcome);
        verdict.judge_flatness(plan, outcome);
        verdict.judge_changes(plan, outcome);
        verdict.judge_outages(plan, outcome);
        verdict
    }

    fn judge_flows(&mut self, plan: &Plan, outcome: &Outcome) {
        let (datagrams, flows) = outcome.sent;
        let least = plan.rate * plan.duration.as_secs() * RATE_PERCENT_MIN / 100;
        self.demand(flows >= least, || {
            format!("{flows} flows were sent; the rate wants {least} at least")
        });
        let arrived = outcome.received + outcome.dropped_by_kernel;
        self.demand(datagrams == arrived, || {
            format!("{datagrams} datagrams were sent and {arrived} arrived")
        });
        self.demand(outcome.dropped_by_kernel == 0, || {
            format!(
                "the kernel dropped {} datagrams: a receive buffer was full",
                outcome.dropped_by_kernel
            )
        });
        self.demand(outcome.decoded == flows, || {
            format!("{flows} flows were sent and {} decoded", outcome.decoded)
        });
        for (reason, n) in &outcome.losses {
            self.fault(format!("{n} flows or datagrams were lost: {reason}"));
        }
        self.demand(outcome.unaccounted == 0, || {
            format!("{} are unaccounted for", outcome.unaccounted)
        });
    }

    fn judge_rows(&mut self, outcome: &Outcome) {
        let Outcome {
            decoded,
            stored,
            rows,
            spool_bytes,
            ..
        } = outcome;
        self.demand(outcome.settled.is_some(), || {
            "flows were still under way long after the last was sent".into()
        });
        self.demand(stored == decoded, || {
            format!("{decoded} flows were decoded and {stored} stored")
        });
        self.demand(rows == stored, || {
            format!("{stored} flows were acknowledged and {rows} are rows")
        });
        self.demand(*spool_bytes == 0, || {
            format!("{spool_bytes} bytes are left on the disk")
        });
    }

    fn judge_flatness(&mut self, plan: &Plan, outcome: &Outcome) {
        let (looks, seconds) = (outcome.samples.len() as u64, plan.duration.as_secs());
        self.demand(looks >= seconds / 2, || {
            format!("it was looked at {looks} times in {seconds} s only")
        });
        let (rss, per_mille_max) = (self.rss, plan.rss_percent_max * 10);
        self.demand(rss.per_mille() <= per_mille_max, || {
            format!(
                "memory is not flat: {} bytes in the second third, {} in the last; {} % may differ",
                rss.second, rss.last, plan.rss_percent_max
            )
        });
        for (what, flat) in [
            ("file descriptors", self.descriptors),
            ("threads", self.threads),
        ] {
            self.demand(flat.second > 0, || format!("nobody counted {what}"));
            self.demand(flat.second.abs_diff(flat.last) <= MEDIAN_MAX, || {
                let Flat { second, last, .. } = flat;
                format!("{what} are not flat: {second} in the second third, {last} in the last")
            });
            self.demand(flat.most - flat.least <= SPREAD_MAX, || {
                let Flat { least, most, .. } = flat;
                format!("{what} were between {least} and {most}, further apart than {SPREAD_MAX}")
            });
        }
    }

    /// What the collector did not notice shows nothing.
    fn judge_changes(&mut self, plan: &Plan, outcome: &Outcome) {
        let (told, reloads) = (outcome.told, plan.count(Action::Reload));
        let Counts {
            reloads: read,
            allow_changes,
            retention_changes,
            places,
            networks,
            threats,
        } = told;
        let lists = plan.count(Action::RewriteLists);
        for (what, wanted, found) in [
            ("reloads", reloads, read),
            (
                "changes of receive.allow",
                reloads.div_ceil(2),
                allow_changes,
            ),
            ("changes of a retention", reloads / 2, retention_changes),
            (
                "databases of places",
                plan.count(Action::SwapPlaces),
                places,
            ),
            ("lists of networks", lists, networks),
            ("threat lists", lists, threats),
            (
                "visits of exporters",
                plan.count(Action::GuestsCome),
                outcome.visits,
            ),
        ] {
            self.demand(wanted > 0 && found >= wanted, || {
                format!("{what}: {found} of {wanted}")
            });
        }
        self.demand(outcome.files_refused == 0, || {
            format!("files were refused {} times", outcome.files_refused)
        });
        let [first, second] = outcome.rows_of_places;
        self.demand(first > 0 && second > 0, || {
            format!("{first} rows have places of one database, {second} of the other")
        });
    }

    fn judge_outages(&mut self, plan: &Plan, outcome: &Outcome) {
        let wanted = plan.count(Action::KillClickHouse);
        let ended = outcome
            .absences
            .iter()
            .filter(|absence| !absence.lasted.is_zero());
        let ended = ended.count() as u64;
        self.demand(wanted > 0 && ended >= wanted, || {
            format!("restarts of ClickHouse: {ended} of {wanted}")
        });
        for absence in &outcome.absences {
            self.demand(absence.spool_bytes_max > 0, || {
                let second = absence.from.as_secs();
                format!("nothing was on the disk while ClickHouse was away in second {second}")
            });
        }
    }

    fn demand(&mut self, is_so: bool, fault: impl FnOnce() -> String) {
        if !is_so {
            self.fault(fault());
        }
    }

    fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::outcome::Absence;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn plan() -> Plan {
        Plan::new(50_000, Duration::from_secs(1800))
    }

    /// Half an hour in which everything holds: memory and descriptors rise while it begins, and
    /// an outage shows in both.
    fn good() -> Outcome {
        let sample = |second: u64| Sample {
            at: Duration::from_secs(second),
            rss_bytes: 100 * MIB + second.min(500) * MIB / 10 + second % 7,
            descriptors: 30 + second.min(9) + second % 2,
            threads: 12,
            ..Sample::default()
        };
        let absence = |n: u64| Absence {
            from: Duration::from_secs(90 + 180 * n),
            lasted: Duration::from_secs(11),
            spool_bytes_max: 30 * MIB,
        };
        let counts = Counts {
            reloads: 30,
            allow_changes: 15,
            retention_changes: 15,
            places: 30,
            networks: 30,
            threats: 30,
        };
        Outcome {
            samples: (0..1800).map(sample).collect(),
            done: counts,
            told: counts,
            absences: (0..10).map(absence).collect(),
            visits: 44,
            sent: (4_000_000, 90_000_000),
            received: 4_000_000,
            decoded: 90_000_000,
            stored: 90_000_000,
            rows: 90_000_000,
            rows_of_places: [30_000_000, 31_000_000],
            settled: Some(Duration::from_secs(2)),
            ..Outcome::default()
        }
    }

    fn faults(change: impl FnOnce(&mut Outcome)) -> Vec<String> {
        let mut outcome = good();
        change(&mut outcome);
        Verdict::of(&plan(), &outcome).faults
    }

    /// Each change makes just one fault, with these words.
    fn assert_fault(words: &str, change: impl FnOnce(&mut Outcome)) {
        let faults = faults(change);
        assert_eq!(faults.len(), 1, "{words}: {faults:?}");
        assert!(faults[0].contains(words), "{words}: {faults:?}");
    }

    #[test]
    fn a_run_in_which_everything_holds_has_no_fault() {
        let verdict = Verdict::of(&plan(), &good());
        assert_eq!(verdict.faults, [""; 0]);
        assert_eq!(verdict.rss.last / MIB, 150);
        let expected = Flat {
            second: 40,
            last: 40,
            least: 39,
            most: 40,
        };
        assert_eq!(verdict.descriptors, expected);
    }

    #[test]
    fn flows_that_are_lost_or_unaccounted_for_are_faults() {
        assert_fault("2 are unaccounted for", |o| o.unaccounted = 2);
        assert_fault("4000000 datagrams were sent and 3999999", |o| {
            o.received -= 1;
        });
        assert_fault("the kernel dropped 3", |o| {
            o.received -= 3;
            o.dropped_by_kernel = 3;
        });
        assert_fault("7 flows or datagrams were lost: spool_full", |o| {
            o.losses = vec![("spool_full".into(), 7)];
        });
        assert_fault("90000024 flows were sent", |o| o.sent.1 += 24);
        assert_fault("90000000 flows were decoded and 89999999 stored", |o| {
            o.stored -= 1;
            o.rows -= 1;
        });
        assert_fault("are rows", |o| o.rows += 1);
        assert_fault("80000000 flows were sent; the rate wants 81000000", |o| {
            (o.sent.1, o.decoded, o.stored, o.rows) =
                (80_000_000, 80_000_000, 80_000_000, 80_000_000);
        });
        assert_fault("long after", |o| o.settled = None);
        assert_fault("5 bytes are left", |o| o.spool_bytes = 5);
    }

    #[test]
    fn memory_that_rises_or_falls_in_the_last_third_is_a_fault() {
        let scale = |o: &mut Outcome, per_mille: u64| {
            let last = o.samples.iter_mut().skip(1200);
            last.for_each(|sample| sample.rss_bytes = sample.rss_bytes * per_mille / 1000);
        };
        assert_eq!(faults(|o| scale(o, 1049)), [""; 0]);
        assert_eq!(faults(|o| scale(o, 951)), [""; 0]);
        assert_fault("memory is not flat", |o| scale(o, 1052));
        assert_fault("memory is not flat", |o| scale(o, 948));
    }

    #[test]
    fn a_leak_is_a_fault_and_a_peak_is_none() {
        // 100 KiB a second.
        assert_fault("memory is not flat", |o| {
            for (second, sample) in o.samples.iter_mut().enumerate() {
                sample.rss_bytes += second as u64 * MIB / 10;
            }
        });
        let peak = faults(|o| o.samples[1300].rss_bytes *= 3);
        assert_eq!(peak, [""; 0], "a database is loaded");
    }

    #[test]
    fn descriptors_and_threads_that_stay_open_are_faults() {
        // One an outage.
        assert_fault("file descriptors are not flat", |o| {
            for (second, sample) in o.samples.iter_mut().enumerate() {
                sample.descriptors += second as u64 / 180;
            }
        });
        assert_fault("file descriptors were between 39 and 60", |o| {
            o.samples[900].descriptors = 60;
        });
        assert_fault("threads are not flat", |o| {
            let last = o.samples.iter_mut().skip(1200);
            last.for_each(|sample| sample.threads += 2);
        });
    }

    #[test]
    fn what_was_not_done_or_not_noticed_is_a_fault() {
        assert_fault("reloads: 29 of 30", |o| o.told.reloads -= 1);
        assert_fault("receive.allow: 0 of 15", |o| o.told.allow_changes = 0);
        assert_fault("retention: 14 of 15", |o| o.told.retention_changes = 14);
        assert_fault("databases of places: 2 of 30", |o| o.told.places = 2);
        assert_fault("lists of networks: 29 of 30", |o| o.told.networks = 29);
        assert_fault("threat lists: 29 of 30", |o| o.told.threats = 29);
        assert_fault("files were refused 1 times", |o| o.files_refused = 1);
        assert_fault("0 of the other", |o| o.rows_of_places[1] = 0);
        assert_fault("visits of exporters: 43 of 44", |o| o.visits = 43);
        assert_fault("restarts of ClickHouse: 9 of 10", |o| {
            o.absences.pop();
        });
        assert_fault("on the disk while ClickHouse was away in second 270", |o| {
            o.absences[1].spool_bytes_max = 0;
        });
        assert_fault("it was looked at 899 times", |o| {
            let mut turn = 0;
            o.samples.retain(|_| {
                turn += 1;
                turn % 2 == 0 && turn != 100
            });
        });
    }
}
