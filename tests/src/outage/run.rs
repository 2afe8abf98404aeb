//! Carries a plan out.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use super::plan::{Action, Kind, Plan};
use super::sums::Sums;
use crate::kernel::{Answers, Refused, UdpCounters};
use crate::numbers::{IN_NEXT_HOP, Rows};
use crate::process::{Signal, is_alive, signal_pid};
use crate::sent_log::SentLog;
use crate::standalone::Standalone;
use crate::status::Settling;
use crate::{ClickHouse, Collector, Generator, Ledger, Settings, Store, Totals, place};

/// Between two looks at a child of the collector that must not live.
const TICK: Duration = Duration::from_millis(50);
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// Until a ClickHouse that may stay answers.
const ANSWERS_MAX: Duration = Duration::from_secs(60);
/// Until nothing may be under way, at least: disks are slow beside other tests.
const SETTLED_MIN: Duration = Duration::from_secs(600);
/// How long is sent behind the last step, at least.
const BEHIND_STEPS: Duration = Duration::from_secs(3);
/// Exporters that send.
const EXPORTERS: usize = 8;

/// What happened, and what ClickHouse has.
#[derive(Debug)]
pub struct Outcome {
    /// What was done when, in nanoseconds since 1970.
    pub timeline: Vec<(u128, String)>,
    /// When no collector ran.
    pub absences: Vec<Absence>,
    /// Each collector's last figures, in order.
    pub lives: Vec<Life>,
    /// What was sent.
    pub sent: Totals,
    /// When it was.
    pub sent_log: SentLog,
    /// Datagrams that no socket was there for.
    pub refused: Vec<Refused>,
    /// The kernel's counters of the whole run.
    pub udp: UdpCounters,
    /// How long it took from the last flow until nothing was under way; `None`: too long.
    pub settled: Option<Duration>,
    /// The numbers that are rows.
    pub rows: Rows,
    /// Sums of the rows as they came.
    pub raw: Sums,
    /// Sums of each rollup table.
    pub rollups: Vec<(String, Sums)>,
}

/// A time without a collector. All in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Absence {
    /// What ended it.
    pub signal: Signal,
    /// Just before the signal.
    pub asked: u128,
    /// It had ended.
    pub ended: u128,
    /// Just before the next one was started; 0 when none was.
    pub started: u128,
    /// Its workers turned.
    pub back: u128,
    /// Datagrams that the next one sent to itself before it received, to try io_uring out.
    pub trials: u64,
}

/// A collector from its start to its end.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// How it ended.
    pub end: String,
    /// True unless it said at its end that something went wrong.
    pub success: bool,
    /// Flows decoded.
    pub decoded: u64,
    /// Flows that an earlier one had left on the disk.
    pub recovered: u64,
    /// Flows that ClickHouse acknowledged.
    pub stored: u64,
    /// Flows that it left on the disk; of a killed one, some time before.
    pub left_on_disk: u64,
    /// Losses by reason.
    pub losses: Vec<(String, u64)>,
    /// Datagrams that the kernel dropped because a buffer was full.
    pub dropped_by_kernel: u64,
    /// What the ledger's equations leave over; `None` in the middle of its life.
    pub unaccounted: Option<u64>,
}

/// Carries `plan` out with the release or debug `binary`, in the calling thread's network
/// namespace, which should be of its own; calls `tell` with lines of progress. Needs root.
///
/// # Errors
/// When a component does not do what it is told, so that there is nothing to account for, and when
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
    let (port, udp) = (runner.port()?, UdpCounters::read()?);
    let answers = Answers::start(port)?;
    let sent_log = folder.path().join("sent");
    let generator = runner.send(&sent_log)?;
    runner.carry_out()?;
    let sent = generator.stop()?;
    runner.note(format!("the last of {} flows was sent", sent.flows));
    let settled = runner.settle()?;
    let refused = answers.stop()?;
    let clickhouse = runner.clickhouse()?;
    runner.tell("reading the numbers of all rows");
    let rows = Rows::read(&clickhouse, IN_NEXT_HOP, sent.flows)?;
    runner.tell("adding up the rollups");
    let (raw, rollups) = (Sums::raw(&clickhouse)?, Sums::rollups(&clickhouse)?);
    let udp = UdpCounters::read()?.since(&udp);
    runner.end()?;
    let Runner {
        timeline,
        absences,
        lives,
        ..
    } = runner;
    Ok(Outcome {
        timeline,
        absences,
        lives,
        sent,
        sent_log: SentLog::read(&sent_log)?,
        refused,
        udp,
        settled,
        rows,
        raw,
        rollups,
    })
}

struct Runner<'a> {
    plan: &'a Plan,
    settings: Settings,
    folder: &'a Path,
    /// The ClickHouse that runs apart.
    server: Option<Standalone>,
    collector: Option<Collector>,
    /// A child of the collector must not live.
    child_is_to_die: bool,
    started: Instant,
    timeline: Vec<(u128, String)>,
    absences: Vec<Absence>,
    lives: Vec<Life>,
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
        let data = folder.join("data");
        let server = match plan.kind {
            Kind::Embedded => None,
            Kind::Server => {
                tell("starting ClickHouse");
                let started = Standalone::start(binary.clone(), library.clone(), data.clone());
                Some(started?)
            }
        };
        let store = match &server {
            Some(server) => Store::Server(server.clickhouse().clone()),
            None => Store::Embedded(library),
        };
        let settings = Settings {
            batch_age: plan.batch_age,
            data_dir: Some(data),
            state_dir: Some(folder.join("state")),
            port: Some(place::free_udp_port()?),
            ..Settings::of(binary, store)
        };
        tell("starting the collector");
        let collector = Collector::start(&settings)?;
        Ok(Self {
            plan,
            settings,
            folder,
            server,
            collector: Some(collector),
            child_is_to_die: false,
            started: Instant::now(),
            timeline: Vec::new(),
            absences: Vec::new(),
            lives: Vec::new(),
            interrupted,
            tell,
        })
    }

    fn port(&self) -> Result<u16> {
        self.settings.port.context("its port was chosen")
    }

    /// Starts to send at the plan's rate, until it is stopped.
    fn send(&mut self, log: &Path) -> Result<Generator> {
        let rate = self.plan.rate;
        let arguments = [
            // Without templates: what comes is decoded as soon as somebody is there again.
            "--protocol=netflow5".to_owned(),
            format!("--exporters={EXPORTERS}"),
            format!("--rate={rate}"),
            "--number=next-hop".to_owned(),
            format!("--sent-log={}", log.display()),
        ];
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let target = self.collector()?.target();
        let output = self.folder.join("generate.log");
        self.started = Instant::now();
        self.note(format!("{rate} flows/s begin"));
        Generator::start(&self.settings.binary, target, &arguments, &output)
    }

    /// Takes each step at its time.
    fn carry_out(&mut self) -> Result<()> {
        let (mut planned, mut began) = (Duration::ZERO, Duration::ZERO);
        for step in &self.plan.steps {
            // One that is late takes nothing of the pause behind it: somebody has to be away.
            self.wait_until(step.at.max(began + (step.at - planned)))?;
            (planned, began) = (step.at, self.started.elapsed());
            self.take(step.action)?;
        }
        // On a slow host steps take longer than planned; it is sent until all are behind.
        let last = self.started.elapsed() + BEHIND_STEPS;
        self.wait_until(self.plan.duration.max(last))
    }

    fn wait_until(&mut self, at: Duration) -> Result<()> {
        let mut told = self.started.elapsed();
        loop {
            let elapsed = self.started.elapsed();
            if elapsed >= at {
                return Ok(());
            }
            self.go_on()?;
            if self.child_is_to_die {
                self.kill_child()?;
            }
            if elapsed >= told + PROGRESS {
                told = elapsed;
                self.progress();
            }
            std::thread::sleep(TICK.min(at.saturating_sub(elapsed)));
        }
    }

    /// Nothing outlives this value, which an error drops.
    fn go_on(&self) -> Result<()> {
        ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }

    fn take(&mut self, action: Action) -> Result<()> {
        match action {
            Action::KillClickHouse => self.kill_clickhouse(),
            Action::StartClickHouse => self.start_clickhouse(),
            Action::TerminateCollector => self.terminate_collector(),
            Action::KillCollector => self.kill_collector(),
            Action::StartCollector => self.start_collector(),
        }
    }

    fn kill_clickhouse(&mut self) -> Result<()> {
        let Some(server) = &mut self.server else {
            self.child_is_to_die = true;
            return self.kill_child();
        };
        let pid = server.kill()?;
        self.note(format!("ClickHouse killed with -9: process {pid}"));
        Ok(())
    }

    /// Kills the collector's ClickHouse, if there is one just now.
    fn kill_child(&mut self) -> Result<()> {
        let Some(collector) = &self.collector else {
            return Ok(());
        };
        let pid = collector.status()?.engine_pid();
        if let Some(pid) = pid.filter(|pid| is_alive(*pid)) {
            signal_pid(pid, Signal::KILL)?;
            self.note(format!("ClickHouse killed with -9: process {pid}"));
        }
        Ok(())
    }

    fn start_clickhouse(&mut self) -> Result<()> {
        let began = Instant::now();
        if let Some(server) = &mut self.server {
            server.start_again()?;
        } else {
            self.child_is_to_die = false;
            let deadline = began + ANSWERS_MAX;
            while self.collector()?.page("/readyz").is_err() {
                ensure!(
                    Instant::now() < deadline,
                    "not ready within {ANSWERS_MAX:?} although its ClickHouse may stay\n{}",
                    self.collector()?.tail()
                );
                std::thread::sleep(TICK);
            }
        }
        let ms = began.elapsed().as_millis();
        self.note(format!("ClickHouse is back: it answered after {ms} ms"));
        Ok(())
    }

    fn terminate_collector(&mut self) -> Result<()> {
        let collector = self.collector.take().context("a collector runs")?;
        let asked = now()?;
        let ended = collector.end()?;
        self.gone(Signal::TERM, asked)?;
        let (status, ms) = (ended.status, (now()? - asked) / 1_000_000);
        self.note(format!("collector ended {ms} ms after SIGTERM: {status}"));
        if !status.success() {
            (self.tell)(&ended.tail);
        }
        let stopped = ended.stopped;
        let losses = stopped.dropped.split(' ').filter_map(|loss| {
            let (reason, n) = loss.split_once('=')?;
            Some((reason.to_owned(), n.parse().ok()?))
        });
        self.lives.push(Life {
            end: "SIGTERM".into(),
            success: status.success(),
            decoded: stopped.flows_decoded,
            recovered: stopped.flows_recovered,
            stored: stopped.flows_stored,
            left_on_disk: stopped.flows_spooled,
            losses: losses.collect(),
            dropped_by_kernel: stopped.datagrams_dropped_by_kernel,
            unaccounted: Some(stopped.unaccounted),
        });
        Ok(())
    }

    fn kill_collector(&mut self) -> Result<()> {
        let collector = self.collector.take().context("a collector runs")?;
        let ledger = collector.status()?.ledger();
        let (pid, asked) = (collector.pid(), now()?);
        collector.kill()?;
        self.gone(Signal::KILL, asked)?;
        self.note(format!("collector killed with -9: process {pid}"));
        self.lives.push(Life::of("-9", &ledger));
        Ok(())
    }

    fn gone(&mut self, signal: Signal, asked: u128) -> Result<()> {
        self.absences.push(Absence {
            signal,
            asked,
            ended: now()?,
            started: 0,
            back: 0,
            trials: 0,
        });
        Ok(())
    }

    fn start_collector(&mut self) -> Result<()> {
        let started = now()?;
        let collector = Collector::launch(&self.settings)?;
        let back = now()?;
        let absence = self.absences.last_mut().context("it was away")?;
        (absence.started, absence.back) = (started, back);
        let has_tried = collector.status()?.text("/receive/mode")? == "io_uring";
        absence.trials = u64::from(has_tried);
        let (pid, ms) = (collector.pid(), (back - started) / 1_000_000);
        self.note(format!(
            "collector started: process {pid}, up after {ms} ms"
        ));
        self.collector = Some(collector);
        Ok(())
    }

    /// Waits until nothing arrives any more and nothing is under way; how long that took.
    fn settle(&mut self) -> Result<Option<Duration>> {
        let began = Instant::now();
        let limit = (self.plan.duration * 2).max(SETTLED_MIN);
        let (mut settling, mut told) = (Settling::default(), Instant::now());
        while began.elapsed() < limit {
            self.go_on()?;
            let ledger = self.collector()?.status()?.ledger();
            if settling.is_over(&ledger) {
                let took = began.elapsed();
                self.note("nothing is under way any more".into());
                return Ok(Some(took));
            }
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                self.progress();
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(None)
    }

    /// Stops the last collector.
    fn end(&mut self) -> Result<()> {
        let collector = self.collector()?;
        let ledger = collector.status()?.ledger();
        let mut life = Life::of("the end", &ledger);
        life.unaccounted = Some(ledger.unaccounted());
        self.lives.push(life);
        let collector = self.collector.take().context("a collector runs")?;
        let stopped = collector.stop()?;
        ensure!(
            stopped.unaccounted == 0,
            "{} unaccounted",
            stopped.unaccounted
        );
        Ok(())
    }

    fn collector(&self) -> Result<&Collector> {
        self.collector.as_ref().context("a collector runs")
    }

    fn clickhouse(&self) -> Result<ClickHouse> {
        self.collector()?.clickhouse()
    }

    fn note(&mut self, what: String) {
        (self.tell)(&what);
        // A clock before 1970 shows in the table, nowhere else.
        self.timeline.push((now().unwrap_or_default(), what));
    }

    fn tell(&mut self, what: &str) {
        (self.tell)(what);
    }

    fn progress(&mut self) {
        let Some(Ok(status)) = self.collector.as_ref().map(Collector::status) else {
            return;
        };
        let ledger = status.ledger();
        let line = format!(
            "{:>4} s: this collector decoded {} flows and found {}, stored {}; {} under way, {} \
             MiB on the disk; lost: {:?}",
            self.started.elapsed().as_secs(),
            ledger.counter("flows_decoded"),
            ledger.store("flows_recovered"),
            ledger.store("flows_stored"),
            ledger.flows_under_way(),
            ledger.store("spool_bytes") >> 20,
            ledger.losses(),
        );
        (self.tell)(&line);
    }
}

impl Life {
    fn of(end: &str, ledger: &Ledger) -> Self {
        Self {
            end: end.into(),
            success: true,
            decoded: ledger.counter("flows_decoded"),
            recovered: ledger.store("flows_recovered"),
            stored: ledger.store("flows_stored"),
            left_on_disk: ledger.store("flows_spooled"),
            losses: ledger.losses(),
            dropped_by_kernel: ledger.counter("datagrams_dropped_by_kernel"),
            unaccounted: None,
        }
    }
}

/// Nanoseconds since 1970, as the generator's log has them.
fn now() -> Result<u128> {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(now) => Ok(now.as_nanos()),
        Err(error) => bail!("the clock is before 1970: {error}"),
    }
}
