//! `cargo xtask demo`: the collector on this machine, fed by simulated exporters, in one command.
//!
//! Everything is kept in `target/demo/`: configuration, tables, passwords, logs. A second start
//! goes on with them. `--seconds` makes it a check: it ends by itself, with exit status 0 only if
//! rows were stored and every datagram sent is accounted for.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use flowsluice_tests::collector::{self, reader, wait_ready};
use flowsluice_tests::{ClickHouse, Generator, Ledger, Process, Stopped, Totals, place};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{engine, shell};

/// The collector's default listeners.
const LISTENERS: [u16; 4] = [2055, 4739, 6343, 9995];
const CLICKHOUSE_PORT: u16 = 8123;
const HTTP_PORT: u16 = 9190;
/// Simulated exporters and their flows a second: a small site.
const EXPORTERS: &str = "12";
const RATE: &str = "1500";
/// Traffic is watched for so long before the first tables are printed.
const FIRST_TABLE: Duration = Duration::from_secs(12);
const READY_MAX: Duration = Duration::from_secs(60);
const REPLAY_MAX: Duration = Duration::from_secs(60);
const SETTLED_MAX: Duration = Duration::from_secs(20);

const TALKERS: &str = "SELECT
    replaceOne(toString(client_addr), '::ffff:', '') AS client,
    replaceOne(toString(server_addr), '::ffff:', '') AS server,
    if(service = '', concat(toString(protocol), '/', toString(server_port)), service) AS offers,
    formatReadableSize(sum(bytes)) AS volume,
    formatReadableQuantity(sum(packets)) AS packet_count,
    count() AS flows
FROM flows WHERE time_received > now() - 3600
GROUP BY client_addr, server_addr, offers ORDER BY sum(bytes) DESC LIMIT 10";
const PROTOCOLS: &str = "SELECT
    flow_type AS exported_as,
    uniqExact(exporter_addr) AS exporters,
    count() AS flows,
    formatReadableSize(sum(bytes)) AS volume
FROM flows WHERE time_received > now() - 3600
GROUP BY flow_type ORDER BY flows DESC";

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Args {
    /// End by itself after so many seconds of traffic; exit status 0 only if rows were stored and
    /// nothing is unaccounted.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// A libchdb.so that is already here; its hash is not checked.
    #[arg(long, value_name = "PATH")]
    library: Option<PathBuf>,
    /// A folder of captures to replay first; by default `../shared/captures` where that exists.
    #[arg(long, value_name = "FOLDER")]
    captures: Option<PathBuf>,
}

/// Builds, starts, shows, and waits for the end.
pub fn main(args: &Args) -> Result<()> {
    let interrupted = Arc::new(AtomicBool::new(false));
    shell::run(&mut shell::cargo(&[
        "build",
        "--release",
        "-p",
        "flowsluice",
    ]))?;
    let library = engine::obtain(args.library.as_deref())?;
    // From here on Ctrl-C means: stop in order. Before, it just ends cargo or the download.
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .context("listen for signals")?;
    }
    let plan = Plan::new()?;
    fs::write(&plan.config, plan.toml(&library))?;
    plan.replay(&captures(args)?)?;
    let demo = Demo::start(plan, interrupted)?;
    let before = demo.clickhouse.flows()?;
    let generator = demo.generate()?;
    demo.watch(generator, args.seconds.map(Duration::from_secs), before)
}

/// The capture files to replay, in the order of their names.
fn captures(args: &Args) -> Result<Vec<PathBuf>> {
    let shared = place::root().join("../shared/captures");
    let folder = match &args.captures {
        Some(folder) => folder.clone(),
        None if shared.is_dir() => shared,
        None => return Ok(Vec::new()),
    };
    let mut folders = vec![folder];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|end| end == "pcap" || end == "pcapng")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Where the parts of the demo are.
struct Plan {
    folder: PathBuf,
    config: PathBuf,
    binary: PathBuf,
    ports: Vec<u16>,
    clickhouse: u16,
    http: SocketAddr,
}

impl Plan {
    fn new() -> Result<Self> {
        let folder = place::target().join("demo");
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let mut ports = Vec::new();
        for wanted in LISTENERS {
            let port = if place::udp_port_is_free(wanted) {
                wanted
            } else {
                let port = place::free_udp_port()?;
                eprintln!("xtask: UDP port {wanted} is taken by another program; using {port}");
                port
            };
            ports.push(port);
        }
        let tcp = |what: &str, wanted: u16| -> Result<u16> {
            let port = place::free_tcp_port(wanted)?;
            if port != wanted {
                eprintln!("xtask: TCP port {wanted} ({what}) is taken; using {port}");
            }
            Ok(port)
        };
        Ok(Self {
            config: folder.join("flowsluice.toml"),
            binary: place::target().join("release/flowsluice"),
            ports,
            clickhouse: tcp("ClickHouse", CLICKHOUSE_PORT)?,
            http: SocketAddr::from(([127, 0, 0, 1], tcp("metrics", HTTP_PORT)?)),
            folder,
        })
    }

    fn toml(&self, library: &Path) -> String {
        let mut text = String::from("# Written by `cargo xtask demo`, anew at each start.\n");
        for port in &self.ports {
            let _ = write!(text, "\n[[receive.listeners]]\nport = {port}\n");
        }
        let _ = write!(
            text,
            "\n[decode]\nstate_dir = \"{}\"\n\
             \n[store.embedded]\nlibrary = \"{}\"\ndata_dir = \"{}\"\nhttp = \"127.0.0.1:{}\"\n\
             \n[http]\nlisten = \"{}\"\n",
            self.folder.join("state").display(),
            library.display(),
            self.data_dir().display(),
            self.clickhouse,
            self.http,
        );
        text
    }

    /// Stores the flows of captures, with ClickHouse to itself: one process has its folder.
    fn replay(&self, files: &[PathBuf]) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        eprintln!(
            "xtask: {} captures are replayed into ClickHouse",
            files.len()
        );
        let log = self.folder.join("replay.log");
        let _ = fs::remove_file(&log);
        let mut command = Command::new(&self.binary);
        command.arg("replay").arg("--config").arg(&self.config);
        command.args(files);
        let mut replay = Process::spawn("the replay", &mut command, &log)?;
        let status = replay.wait(REPLAY_MAX)?;
        ensure!(
            status.success(),
            "the replay ended with {status}\n{}",
            replay.tail(20)
        );
        for line in replay
            .output()
            .lines()
            .filter(|line| line.contains(" store"))
        {
            eprintln!("xtask: {line}");
        }
        eprintln!(
            "xtask: what was left out of them, and why: {}",
            log.display()
        );
        Ok(())
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }
}

/// The running demo. Dropped, it stops what it started.
struct Demo {
    plan: Plan,
    collector: Process,
    clickhouse: ClickHouse,
    interrupted: Arc<AtomicBool>,
}

impl Demo {
    fn start(plan: Plan, interrupted: Arc<AtomicBool>) -> Result<Self> {
        let log = plan.folder.join("collector.log");
        let _ = fs::remove_file(&log);
        let mut command = Command::new(&plan.binary);
        command.arg("run").arg("--config").arg(&plan.config);
        eprintln!("xtask: {} (log: {})", shell::line(&command), log.display());
        let mut collector = Process::spawn("the collector", &mut command, &log)?;
        let mut said = 0;
        wait_ready(&mut collector, plan.http, READY_MAX, |waited| {
            if waited.as_secs() > said {
                said = waited.as_secs();
                eprintln!("xtask: waiting for the collector and its ClickHouse: {said} s");
            }
        })?;
        let clickhouse = reader(&collector::status(plan.http)?, &plan.data_dir())?;
        Ok(Self {
            plan,
            collector,
            clickhouse,
            interrupted,
        })
    }

    fn generate(&self) -> Result<Generator> {
        let target = SocketAddr::from(([127, 0, 0, 1], self.plan.ports[0]));
        let log = self.plan.folder.join("generate.log");
        let _ = fs::remove_file(&log);
        eprintln!("xtask: {EXPORTERS} simulated exporters send {RATE} flows/s to {target}");
        let arguments = ["--exporters", EXPORTERS, "--rate", RATE];
        Generator::start(&self.plan.binary, target, &arguments, &log)
    }

    /// Shows tables once, waits for the end, then closes the books.
    fn watch(
        mut self,
        mut generator: Generator,
        limit: Option<Duration>,
        rows_before: u64,
    ) -> Result<()> {
        let started = Instant::now();
        let first = limit.map_or(FIRST_TABLE, |limit| limit.min(FIRST_TABLE));
        let mut shown = false;
        while limit.is_none_or(|limit| started.elapsed() < limit) {
            if self.interrupted.load(Ordering::Relaxed) {
                eprintln!("\nxtask: stopping");
                break;
            }
            if !shown && started.elapsed() >= first {
                self.show(rows_before)?;
                shown = true;
                if limit.is_none() {
                    println!("\nIt goes on until Ctrl-C.");
                }
            }
            if generator.has_ended()? {
                bail!(
                    "the generator ended by itself; see {}",
                    self.plan.folder.display()
                );
            }
            if let Some(status) = self.collector.poll()? {
                bail!(
                    "the collector ended with {status}\n{}",
                    self.collector.tail(30)
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let sent = generator.stop()?;
        let ledger = self.settle(sent.datagrams)?;
        if !shown {
            self.show(rows_before)?;
        }
        let rows = self.clickhouse.flows()? - rows_before;
        println!("\nLedger at the end\n\n{}", ledger.table());
        verdict(&sent, &self.stop()?, rows)
    }

    /// Waits until what was sent has arrived and is stored.
    fn settle(&mut self, sent: u64) -> Result<Ledger> {
        let deadline = Instant::now() + SETTLED_MAX;
        loop {
            let ledger = collector::status(self.plan.http)?.ledger();
            let settled = ledger.datagrams_arrived() >= sent && ledger.flows_under_way() == 0;
            if settled || Instant::now() >= deadline {
                return Ok(ledger);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Stops the collector and its ClickHouse; its last figures.
    fn stop(&mut self) -> Result<Stopped> {
        let engine = collector::status(self.plan.http)?.engine_pid();
        let status = self.collector.stop()?;
        ensure!(
            status.success(),
            "the collector ended with {status}\n{}",
            self.collector.tail(30)
        );
        if let Some(pid) = engine {
            ensure!(
                !flowsluice_tests::process::is_alive(pid),
                "ClickHouse was left behind: process {pid}"
            );
        }
        Stopped::last_of(&self.collector.output())
    }

    /// Prints the tables, the ledger, and where to connect.
    fn show(&self, rows_before: u64) -> Result<()> {
        println!("\nTop talkers of the last hour, read back from ClickHouse\n");
        self.query(TALKERS)?;
        println!("\nWhat arrived, by export protocol\n");
        self.query(PROTOCOLS)?;
        let status = collector::status(self.plan.http)?;
        println!("\nLedger: what came in = what became of it\n");
        println!("{}", status.ledger().table());
        let rows = self.clickhouse.flows()?;
        println!("  rows in ClickHouse: {rows}, {rows_before} of them from earlier starts\n");
        let Plan {
            config,
            binary,
            ports,
            http,
            ..
        } = &self.plan;
        let ClickHouse {
            url,
            user,
            database,
            ..
        } = &self.clickhouse;
        let password = self.plan.data_dir().join("reader.password");
        let (password, config) = (password.display(), config.display());
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        println!("Where to connect\n");
        println!("  exporters   UDP {} on every address", ports.join(", "));
        println!("  ClickHouse  {url}  database {database}  user {user}  password in {password}");
        println!("  page        http://{http}/  (in a browser on this host)");
        println!("  metrics     http://{http}/metrics  (also /status, /healthz, /readyz)");
        println!(
            "  ask         {} query --config {config} \\",
            binary.display()
        );
        println!("                'SELECT service, sum(bytes) FROM flows GROUP BY 1 LIMIT 5'");
        println!("  ask by HTTP curl -u {user}:$(cat {password}) '{url}/?database={database}' \\");
        println!("                --data 'SELECT count() FROM flows'");
        Ok(())
    }

    fn query(&self, sql: &str) -> Result<()> {
        let mut command = Command::new(&self.plan.binary);
        command.arg("query").arg("--config").arg(&self.plan.config);
        let status = command
            .arg(sql)
            .status()
            .context("start flowsluice query")?;
        ensure!(status.success(), "flowsluice query: {status}");
        Ok(())
    }
}

/// Prints the last figures and holds them against the outside.
fn verdict(sent: &Totals, stopped: &Stopped, rows: u64) -> Result<()> {
    let Stopped {
        datagrams_received: received,
        datagrams_dropped_by_kernel: dropped_by_kernel,
        flows_decoded,
        flows_stored,
        flows_recovered: _,
        flows_spooled,
        unaccounted,
        dropped,
    } = stopped;
    println!("\nAfter the stop\n");
    let datagrams = sent.datagrams;
    println!(
        "  datagrams  sent {datagrams} = received {received} + kernel drops {dropped_by_kernel}"
    );
    println!(
        "  flows      sent {}, decoded {flows_decoded}, stored {flows_stored}, kept for the next \
         start {flows_spooled}, dropped {dropped}",
        sent.flows
    );
    println!("  rows       new in ClickHouse {rows}");
    println!("  unaccounted: {unaccounted}");
    ensure!(rows > 0, "no row was stored");
    ensure!(*unaccounted == 0, "{unaccounted} are unaccounted");
    let arrived = stopped.datagrams_arrived();
    ensure!(
        arrived == datagrams,
        "{datagrams} datagrams were sent and {arrived} arrived"
    );
    ensure!(
        rows == *flows_stored,
        "{flows_stored} flows were acknowledged and ClickHouse has {rows} new rows"
    );
    println!("\nEverything is stored or counted.");
    Ok(())
}
