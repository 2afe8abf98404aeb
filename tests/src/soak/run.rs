//! Carries a plan out.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::files::{self, COUNTRIES, Files};
use super::outcome::{Absence, Counts, Outcome, Sample};
use super::plan::{self, Action, Plan};
use super::report;
use crate::process::{Signal, descriptors, signal_pid, threads, usage};
use crate::standalone::Standalone;
use crate::status::Settling;
use crate::{Collector, Generator, Settings, Stopped, Store, place};

/// Between two looks at the collector.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest pause without a look at whether it goes on.
const TICK: Duration = Duration::from_millis(50);
/// Until nothing may be under way any more, at least; else as long as was sent.
const SETTLED_MIN: Duration = Duration::from_secs(600);
/// Until what was changed last must be noticed.
const NOTICED_MAX: Duration = Duration::from_secs(30);
/// Exporters that stay; guests are [`GUESTS`].
const EXPORTERS: usize = 8;
/// One for each protocol, since all of a visit have one address.
const GUESTS: usize = 4;

/// Carries `plan` out with the release or debug `binary`, in the calling thread's network
/// namespace, which must be of its own; calls `tell` with lines of progress. Needs root.
///
/// # Errors
/// When a component does not do what it is told, so that there is nothing to judge, and when
/// `interrupted` was set.
pub fn run(
    plan: &Plan,
    binary: PathBuf,
    library: PathBuf,
    interrupted: &AtomicBool,
    tell: &mut dyn FnMut(&str),
) -> Result<Outcome> {
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let mut runner = Runner::start(plan, binary, library, folder.path(), interrupted, tell)?;
    runner.carry_out()?;
    runner.end()
}

struct Runner<'a> {
    plan: &'a Plan,
    settings: Settings,
    folder: &'a Path,
    files: Files,
    server: Standalone,
    collector: Collector,
    steady: Option<Generator>,
    guests: Option<Generator>,
    started: Instant,
    /// When it is looked at next, and told next, from `started` on.
    look_at: Duration,
    tell_at: Duration,
    /// The sample that was told last.
    told: Sample,
    outcome: Outcome,
    interrupted: &'a AtomicBool,
    tell: &'a mut dyn FnMut(&str),
}

impl<'a> Runner<'a> {
    fn start(
        plan: &'a Plan,
        binary: PathBuf,
        library: PathBuf,
        folder: &'a Path,
        interrupted: &'a AtomicBool,
        tell: &'a mut dyn FnMut(&str),
    ) -> Result<Self> {
        make_guests_local()?;
        let files = Files::new(folder.join("enrich"))?;
        let data = folder.join("data");
        tell("starting ClickHouse");
        let server = Standalone::start(binary.clone(), library, data.clone())?;
        let more = format!(
            "queue_max = \"{}MiB\"\nretention_of.counters = \"{}\"\n{}",
            plan.queue_mib(),
            RETENTIONS[0],
            files.config()
        );
        let settings = Settings {
            workers: 2,
            batch_age: "1s",
            data_dir: Some(data),
            state_dir: Some(folder.join("state")),
            port: Some(place::free_udp_port()?),
            receive: format!("allow = {}\n", ALLOWED[0]),
            more,
            ..Settings::of(binary, Store::Server(server.clickhouse().clone()))
        };
        tell("starting the collector");
        let collector = Collector::start(&settings)?;
        Ok(Self {
            plan,
            settings,
            folder,
            files,
            server,
            collector,
            steady: None,
            guests: None,
            started: Instant::now(),
            look_at: Duration::ZERO,
            tell_at: plan.every,
            told: Sample::default(),
            outcome: Outcome::default(),
            interrupted,
            tell,
        })
    }

    /// Sends, and takes each step at its time.
    fn carry_out(&mut self) -> Result<()> {
        let target = self.collector.target();
        self.steady = Some(self.send(target, EXPORTERS, self.plan.rate_steady(), 0)?);
        self.started = Instant::now();
        (self.tell)(&report::heading());
        for step in &self.plan.steps {
            self.wait_until(step.at)?;
            self.take(step.action)?;
        }
        self.wait_until(self.plan.duration)?;
        self.look(self.started.elapsed())
    }

    fn send(
        &self,
        target: SocketAddr,
        exporters: usize,
        rate: u64,
        seed: u64,
    ) -> Result<Generator> {
        let arguments = [
            "--protocol=mix".to_owned(),
            format!("--exporters={exporters}"),
            format!("--rate={rate}"),
            format!("--seed={}", seed + 1),
        ];
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let output = self.folder.join(format!("generate-{seed}.log"));
        Generator::start(&self.settings.binary, target, &arguments, &output)
    }

    fn wait_until(&mut self, at: Duration) -> Result<()> {
        loop {
            let elapsed = self.started.elapsed();
            if elapsed >= at {
                return Ok(());
            }
            self.go_on()?;
            if elapsed >= self.look_at {
                self.look_at = elapsed + LOOK_EVERY;
                self.look(elapsed)?;
            }
            std::thread::sleep(TICK.min(at.saturating_sub(elapsed)));
        }
    }

    /// Nothing outlives this value, which an error drops.
    fn go_on(&self) -> Result<()> {
        ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }

    fn look(&mut self, at: Duration) -> Result<()> {
        let pid = self.collector.pid();
        // Before it is asked: the last question's connection is closed by now.
        let (descriptors, threads) = (descriptors(pid) as u64, threads(pid) as u64);
        let ledger = self.collector.status()?.ledger();
        let sample = Sample {
            at,
            descriptors,
            threads,
            ..Sample::of(pid, &ledger)
        };
        self.outcome.samples.push(sample);
        if at >= self.tell_at {
            self.tell_at += self.plan.every;
            (self.tell)(&report::line(&self.told, &sample, &self.outcome));
            self.told = sample;
        }
        Ok(())
    }

    fn take(&mut self, action: Action) -> Result<()> {
        match action {
            Action::Reload => self.reload(),
            Action::SwapPlaces => {
                self.outcome.done.places += 1;
                self.files.swap_places(self.outcome.done.places)
            }
            Action::RewriteLists => {
                self.outcome.done.networks += 1;
                self.outcome.done.threats += 1;
                self.files.rewrite_lists(self.outcome.done.networks)
            }
            Action::KillClickHouse => {
                self.server.kill()?;
                self.outcome.absences.push(Absence {
                    from: self.started.elapsed(),
                    ..Absence::default()
                });
                Ok(())
            }
            Action::StartClickHouse => self.start_clickhouse(),
            Action::GuestsCome => self.guests_come(),
            Action::GuestsGo => self.guests_go(),
        }
    }

    /// Replaces what differs from one reload to the next, and has it read.
    fn reload(&mut self) -> Result<()> {
        let done = &mut self.outcome.done;
        let (values, changes) = match done.reloads.is_multiple_of(2) {
            true => (ALLOWED, &mut done.allow_changes),
            false => (RETENTIONS, &mut done.retention_changes),
        };
        let [first, second] = values;
        let (from, to) = match changes.is_multiple_of(2) {
            true => (first, second),
            false => (second, first),
        };
        let path = self.collector.config();
        let text = std::fs::read_to_string(&path)?;
        ensure!(text.contains(from), "{from} is not in\n{text}");
        files::replace(&path, text.replace(from, to).as_bytes())?;
        signal_pid(self.collector.pid(), Signal::HUP)?;
        *changes += 1;
        done.reloads += 1;
        Ok(())
    }

    fn start_clickhouse(&mut self) -> Result<()> {
        let spool_bytes = self.collector.status()?.ledger().store("spool_bytes");
        self.server.start_again()?;
        let Outcome {
            absences, samples, ..
        } = &mut self.outcome;
        let absence = absences.last_mut().context("it was away")?;
        absence.lasted = self.started.elapsed() - absence.from;
        let meanwhile = samples.iter().filter(|sample| sample.at > absence.from);
        let seen = meanwhile.map(|sample| sample.spool_bytes).max();
        absence.spool_bytes_max = spool_bytes.max(seen.unwrap_or(0));
        Ok(())
    }

    fn guests_come(&mut self) -> Result<()> {
        let visit = self.outcome.visits;
        let address = plan::guest_address(u32::try_from(visit)?);
        let target = SocketAddr::from((address, self.collector.port()));
        let rate = self.plan.rate_guests();
        self.guests = Some(self.send(target, GUESTS, rate, visit + 1)?);
        self.outcome.visits += 1;
        Ok(())
    }

    fn guests_go(&mut self) -> Result<()> {
        let guests = self.guests.take().context("guests are there")?;
        self.outcome.add_sent(&guests.stop()?);
        Ok(())
    }

    /// Waits until nothing arrives any more and nothing is under way; how long that took.
    fn settle(&mut self) -> Result<Option<Duration>> {
        let (began, mut settling) = (Instant::now(), Settling::default());
        let limit = self.plan.duration.max(SETTLED_MIN);
        while began.elapsed() < limit {
            self.go_on()?;
            if settling.is_over(&self.collector.status()?.ledger()) {
                return Ok(Some(began.elapsed()));
            }
            std::thread::sleep(LOOK_EVERY / 2);
        }
        Ok(None)
    }

    /// Stops to send, waits until everything is stored, and reads what there is.
    fn end(mut self) -> Result<Outcome> {
        let steady = self.steady.take().context("it sends")?;
        self.outcome.add_sent(&steady.stop()?);
        (self.tell)("the last flow was sent; waiting until all are stored");
        self.outcome.settled = self.settle()?;
        let done = self.outcome.done;
        // What is not noticed by then is told by the counts.
        let _ = (self.collector).wait_until("changes are noticed", NOTICED_MAX, |status| {
            let told = Counts::told(status, &self.collector.log());
            told.is_ok_and(|told| told.has_all(&done))
        });
        let Self {
            collector,
            server,
            mut outcome,
            ..
        } = self;
        outcome.read(&collector.status()?, &collector.log())?;
        let clickhouse = server.clickhouse();
        outcome.rows = clickhouse.flows()?;
        for (rows, country) in outcome.rows_of_places.iter_mut().zip(COUNTRIES) {
            let sql = format!("SELECT count() FROM flows WHERE src_country = '{country}'");
            *rows = clickhouse.value(&sql)?;
        }
        outcome.rss_peak_bytes = usage(collector.pid()).rss_peak_bytes;
        let Stopped { unaccounted, .. } = collector.stop()?;
        outcome.unaccounted += unaccounted;
        Ok(outcome)
    }
}

/// Has this host answer for all addresses of guests, which send from the one that they send to.
fn make_guests_local() -> Result<()> {
    let network = format!("{}/15", plan::GUESTS);
    let mut ip = Command::new("ip");
    ip.args(["route", "add", "local", &network, "dev", "lo"]);
    let status = ip.status().context("start ip")?;
    ensure!(status.success(), "ip route add local {network}: {status}");
    Ok(())
}

/// Who may send: all that do, and in turn others that never come.
const ALLOWED: [&str; 2] = [
    r#"["127.0.0.0/8", "198.18.0.0/15"]"#,
    r#"["127.0.0.0/8", "198.18.0.0/15", "192.0.2.0/24"]"#,
];
/// How long counters of interfaces are kept: a small table, so that ClickHouse goes on with its
/// work.
const RETENTIONS: [&str; 2] = ["30days", "31days"];
