//! `flowsluice check`.

mod reach;
mod servers;
mod tables;

use std::fmt::{self, Write as _};
use std::io;
use std::iter::once;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use flowsluice::config::{self, Config, ConfigError, ReceiveMode, StoreTarget, display, memory};
use flowsluice::enrich::parts::{Part, Parts};
use flowsluice::host::Interface;
use flowsluice::receive::xdp::{Step, XdpRefused};
use flowsluice::receive::{self, affinity};
use flowsluice::store::embedded;
use flowsluice::store::spool::BLOCKS_MAX;

use super::{preflight, print};

/// Arguments of `flowsluice check`.
#[derive(clap::Args)]
pub struct Args {
    /// The file to check; without it /etc/flowsluice/flowsluice.toml, or the built-in defaults
    /// when there is none.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A configuration that is refused, once what is wrong with it was told.
#[derive(Debug)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Prints what the configuration amounts to on this host.
///
/// # Errors
/// When `flowsluice run` would refuse to start with it.
pub fn main(args: Args) -> anyhow::Result<()> {
    let Args { config: named } = args;
    let (config, file) = match config::load_or_default(named.as_deref()) {
        Ok(loaded) => loaded,
        Err(mut error) => {
            // What stands in the rest of the file is looked at all the same.
            if let Some(rest) = error.understood.take() {
                let file = Path::new(&error.file);
                let told = Report::of(&rest, Some(file)).errors;
                let mut more = config::locate(file, told);
                // What is said of a key once is not said twice.
                more.retain(|problem| !error.problems.iter().any(|told| told.is_within(problem)));
                error.problems.extend(more);
                error.problems.sort_by_key(|problem| problem.line);
            }
            return Err(refused(&error));
        }
    };
    let Report {
        text,
        warnings,
        errors,
    } = Report::of(&config, file.as_deref());
    let lines = warnings
        .iter()
        .map(|warning| format!("warning: {warning}\n"));
    print(once(text).chain(lines))?;
    if let Some(error) = preflight::on_host(file.as_deref(), errors) {
        return Err(refused(&error));
    }
    let name = file.map_or("built-in defaults".into(), |file| {
        file.display().to_string()
    });
    let asked = match config.store.target() {
        StoreTarget::Null => "",
        StoreTarget::Server(_) | StoreTarget::Embedded => "; ClickHouse was not asked",
    };
    print([format!(
        "{name}: ok, {}{asked}\n",
        counted(warnings.len(), "warning")
    )])
}

/// Tells everything that is wrong, and how much it is.
fn refused(error: &ConfigError) -> anyhow::Error {
    eprintln!("{error}");
    let (n, file) = (error.problems.len(), &error.file);
    Refused(format!("{file}: {}", counted(n, "error"))).into()
}

/// What is printed of a configuration that is valid by itself.
#[derive(Default)]
struct Report {
    text: String,
    /// It runs, worse than it could or less safely.
    warnings: Vec<String>,
    /// It does not run on this host, or without what it names.
    errors: Vec<String>,
}

impl Report {
    fn of(config: &Config, file: Option<&Path>) -> Self {
        let mut report = Self {
            text: String::new(),
            warnings: preflight::warnings(config, file),
            errors: preflight::refusals(config, file),
        };
        report.title("effective configuration");
        report.text.push_str(&display::toml(config));
        report.title("on this host");
        let mode = Self::receive_mode(config);
        let cpus = Self::cpus(config);
        let queues = report.bound(config, &mode, &cpus);
        report.tables(config);
        report.state(&config.decode.state_dir);
        report.enrich(&config.enrich);
        report.spool(&config.store);
        report.title("memory");
        let sum = memory::sum(config, cpus.len(), queues);
        writeln!(report.text, "{sum}\n").expect("a String takes everything");
        report.receive_buffer(config);
        match config.store.target() {
            StoreTarget::Server(_) => report.server(config),
            StoreTarget::Embedded => report.embedded(config),
            StoreTarget::Null => report.null(&config.store),
        }
        report.reach(config);
        report
    }

    fn title(&mut self, title: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        writeln!(self.text, "{gap}# --- {title}").expect("a String takes everything");
    }

    fn line(&mut self, what: &str, value: &str, note: &str) {
        let line = format!("{what:<12}{value:<28}{note}");
        writeln!(self.text, "{}", line.trim_end()).expect("a String takes everything");
    }

    /// What is known beside flows: all files are loaded, as a run would.
    fn enrich(&mut self, config: &config::Enrich) {
        let mut parts = Parts::new(config);
        for (part, fault) in parts.load() {
            let fault = format!("enrich: {}: flows would go without: {fault}", part.name());
            self.errors.push(fault);
        }
        let counts = parts.counts();
        for part in Part::ALL {
            let status = counts.of(part);
            if status.memory_bytes > 0 && part.is_named(config) {
                let memory = format!("{:.1} MiB", status.memory_bytes as f64 / f64::from(1 << 20));
                self.line(part.name(), &memory, "loaded");
            }
        }
    }

    fn receive_mode(config: &Config) -> String {
        match receive::choose(&config.receive) {
            Ok(ReceiveMode::IoUring) => "io_uring".into(),
            Ok(_) => "recvmmsg".into(),
            Err(_) => "io_uring (refused)".into(),
        }
    }

    /// The processor of each worker, as the workers would be pinned.
    fn cpus(config: &Config) -> Vec<Option<usize>> {
        let receive = &config.receive;
        let plan = affinity::plan(receive, &affinity::available());
        plan.unwrap_or_else(|_| vec![None; receive.workers.max(receive.cpus.len())])
    }

    /// What is listened on and how; returns the queues that get an AF_XDP socket.
    fn bound(&mut self, config: &Config, mode: &str, cpus: &[Option<usize>]) -> u64 {
        let interfaces = &config.receive.xdp.interfaces;
        let is_forced = config.receive.mode == ReceiveMode::AfXdp;
        let queues = interfaces
            .iter()
            .map(|name| self.interface(name, is_forced));
        let queues = queues.sum();
        match queues {
            0 => self.line("receive", mode, ""),
            _ => self.line(
                "receive",
                "af_xdp",
                "and recvmmsg for what the program passes",
            ),
        }
        for (worker, cpu) in cpus.iter().enumerate() {
            let cpu = cpu.map_or("unpinned".into(), |cpu| format!("pinned to cpu {cpu}"));
            self.line(&format!("worker {worker}"), &cpu, "");
        }
        let sockets = counted(cpus.len(), "socket");
        for listener in &config.receive.listeners {
            let address = std::net::SocketAddr::new(listener.address, listener.port);
            let taken = match &listener.protocols {
                few if !few.is_empty() => few,
                _ => &config.decode.protocols,
            };
            let names: Vec<_> = taken.iter().copied().map(display::protocol).collect();
            let note = format!("{sockets}; {}", names.join(", "));
            self.line("udp", &address.to_string(), &note);
            if listener.port == 0 {
                self.warnings.push(
                    "receive.listeners: port 0 takes another port at every start, which no \
                     exporter knows; name one"
                        .into(),
                );
            }
        }
        self.connections(&config.receive.tcp);
        self.http(&config.http);
        match config.store.target() {
            StoreTarget::Null => self.line("store", "null", "nothing is stored"),
            StoreTarget::Server(_) => self.servers(&config.store),
            StoreTarget::Embedded => {
                let embedded = &config.store.embedded;
                self.line(
                    "tcp",
                    &embedded.http.to_string(),
                    "embedded ClickHouse, HTTP",
                );
                if let Some(tcp) = embedded.tcp {
                    self.line("tcp", &tcp.to_string(), "embedded ClickHouse, native");
                }
                let data = embedded.data_dir.display().to_string();
                self.line("store", &data, "embedded ClickHouse, data");
            }
        }
        queues
    }

    /// Where IPFIX comes by TCP.
    fn connections(&mut self, tcp: &config::Tcp) {
        let connections = counted(tcp.connections_max, "connection");
        for listener in &tcp.listeners {
            let address = std::net::SocketAddr::new(listener.address, listener.port);
            let note = format!("ipfix; {connections} at most");
            self.line("tcp", &address.to_string(), &note);
        }
    }

    /// One of `receive.xdp.interfaces`; returns its queues. Without it the sockets do, unless
    /// AF_XDP `is_forced`.
    fn interface(&mut self, name: &str, is_forced: bool) -> u64 {
        match Interface::of(name).and_then(|found| Ok((found.carriers()?, found))) {
            Ok((carriers, found)) => {
                let count = carriers.iter().map(|device| device.rx_queues);
                let count: u32 = count.sum();
                let queues = counted(count as usize, "queue");
                self.line("AF_XDP", name, &format!("{queues}, MTU {}", found.mtu));
                if !found.is_up {
                    self.warnings
                        .push(format!("receive.xdp.interfaces: {name} is down"));
                }
                u64::from(count)
            }
            Err(error) => {
                let refused = XdpRefused::new(name, None, Step::Interface, &error).to_string();
                match is_forced {
                    true => self.errors.push(refused),
                    false => self.warnings.push(refused),
                }
                0
            }
        }
    }

    fn receive_buffer(&mut self, config: &Config) {
        if let Ok(Some(capped)) = receive::sockets::BufferCapped::probe(&config.receive) {
            self.warnings.push(capped.to_string());
        }
    }

    fn null(&mut self, store: &config::Store) {
        let (unused, place) = match store.servers().next() {
            Some(url) => (
                format!(", and {} is not used", store.servers_key()),
                format!(" at {url}"),
            ),
            None => Default::default(),
        };
        self.warnings.push(format!(
            "store.kind: null stores nothing, every flow is counted as store_null{unused}; remove \
             the key to store{place}"
        ));
    }

    fn embedded(&mut self, config: &Config) {
        let embedded = &config.store.embedded;
        if embedded.library.is_none()
            && let Err(error) = embedded::library(embedded)
        {
            // The service may have another environment.
            self.warnings.push(format!("{error:#}"));
        }
        self.is_writable("store.embedded.data_dir", &embedded.data_dir, "");
    }

    /// Whether files can be made in a folder, or in the one that it would be made in; tells when
    /// not, with what is `lost` then.
    fn is_writable(&mut self, key: &str, folder: &Path, lost: &str) -> bool {
        let shown = folder.display();
        let existing = preflight::existing(folder);
        if existing.exists() && !existing.is_dir() {
            return false;
        }
        let made = writable(existing);
        if let Err(error) = &made {
            self.warnings.push(format!(
                "{key}: this user cannot write to {shown} ({error}){lost}; make it with \
                 'install -d -o USER' for the user of the service, or choose another"
            ));
        }
        made.is_ok()
    }

    /// Whether what exporters tell can outlast a restart.
    fn state(&mut self, folder: &Path) {
        if folder.as_os_str().is_empty() {
            return;
        }
        let lost = ", so templates do not outlast a restart";
        if self.is_writable("decode.state_dir", folder, lost) {
            self.line("state", &folder.display().to_string(), "of exporters");
        }
    }

    /// Whether blocks can outlast a stop and an outage, and how many.
    fn spool(&mut self, store: &config::Store) {
        if store.target() == StoreTarget::Null {
            return;
        }
        let Some(folder) = store.spool_dir() else {
            return self.line("spool", "off", "what is in memory at the end is lost");
        };
        let spool = &store.spool;
        let fsync = match spool.fsync {
            config::SpoolFsync::Interval => display::duration(spool.fsync_interval),
            other => other.name().to_owned(),
        };
        let note = format!(
            "{}, {} or {} blocks at most, fsync {fsync}",
            spool.mode.name(),
            display::bytes(spool.max_bytes),
            BLOCKS_MAX
        );
        self.line("spool", &folder.display().to_string(), &note);
        let lost = ", so blocks wait in memory alone";
        self.is_writable("store.spool.dir", &folder, lost);
    }
}

fn counted(n: usize, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}

/// Whether files can be made in a folder. Leaves nothing behind: a file without a name is gone when
/// it is closed.
fn writable(folder: &Path) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let nameless = options
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(folder);
    match nameless {
        // Some file systems have only files with names.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            let name = folder.join(format!(".flowsluice-check-{}", std::process::id()));
            std::fs::File::create_new(&name)?;
            std::fs::remove_file(&name)
        }
        outcome => outcome.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        config::parse("f.toml", text).unwrap()
    }

    #[test]
    fn the_report_shows_the_sockets_the_memory_and_no_password() {
        let config = parse(
            "[store]\nurl = \"http://10.0.0.5:8123\"\npassword = \"hunter2\"\n\
             [receive]\nworkers = 1\npin = false\n\
             [[receive.listeners]]\nport = 2055\nprotocols = [\"ipfix\"]\n",
        );
        let report = Report::of(&config, None);
        for part in [
            "password = \"********\"",
            "udp         [::]:2055                   1 socket; ipfix",
            "worker 0    unpinned",
            "collector process, at most",
            "http://10.0.0.5:8123",
        ] {
            assert!(report.text.contains(part), "{part}\n{}", report.text);
        }
        assert!(!report.text.contains("hunter2"));
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        let clear = report
            .warnings
            .iter()
            .any(|warning| warning.contains("in clear"));
        assert!(clear, "{:?}", report.warnings);
    }

    #[test]
    fn a_null_store_is_warned_of_and_needs_neither_engine_nor_folder() {
        let config = parse(
            "[store]\nkind = \"null\"\n\
             [store.embedded]\nlibrary = \"/nonexistent/libchdb.so\"\ndata_dir = \"/proc/x\"\n",
        );
        let report = Report::of(&config, None);
        let line = "store       null                        nothing is stored";
        assert!(report.text.contains(line), "{}", report.text);
        assert!(!report.text.contains("spool "), "{}", report.text);
        let said = [report.errors, report.warnings].concat().join("\n");
        assert!(said.contains("store.kind: null stores nothing"), "{said}");
        assert!(!said.contains("store.embedded"), "{said}");
        let config = parse("[store]\nkind = \"null\"\nurl = \"http://db:8123\"\n");
        let said = Report::of(&config, None).warnings.join("\n");
        assert!(said.contains("and store.url is not used"), "{said}");
        assert!(
            said.contains("remove the key to store at http://db:8123"),
            "{said}"
        );
    }

    #[test]
    fn a_folder_that_is_a_file_or_lies_in_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let [is, lies] = [file.clone(), file.join("spool")].map(|path| path.display().to_string());
        let config = parse(&format!(
            "[decode]\nstate_dir = {lies:?}\n[store.embedded]\ndata_dir = {lies:?}\n\
             [store.spool]\ndir = {is:?}\n"
        ));
        let report = Report::of(&config, None);
        let keys = [
            "store.spool.dir",
            "store.embedded.data_dir",
            "decode.state_dir",
        ];
        for (key, path) in keys.into_iter().zip([&is, &lies, &lies]) {
            let expected = format!("{key}: {path} cannot be a folder, as {is} is a file");
            let is_told = report
                .errors
                .iter()
                .any(|error| error.starts_with(&expected));
            assert!(is_told, "{expected}: {:?}", report.errors);
        }
        let warned = report
            .warnings
            .iter()
            .any(|warning| warning.contains("cannot write"));
        assert!(!warned, "{:?}", report.warnings);
    }

    #[test]
    fn what_this_host_cannot_do_is_an_error_or_a_warning_that_says_what_to_do() {
        let config = parse(
            "[receive]\ncpus = [4095]\n\
             [store.embedded]\nlibrary = \"/nonexistent/libchdb.so\"\ndata_dir = \"/proc/x\"\n\
             http = \"0.0.0.0:8123\"\n",
        );
        let report = Report::of(&config, None);
        let errors = report.errors.join("\n");
        assert!(errors.contains("4095"), "{errors}");
        assert!(
            errors.contains("store.embedded.library: /nonexistent/libchdb.so cannot be used"),
            "{errors}"
        );
        let warnings = report.warnings.join("\n");
        assert!(warnings.contains("store.embedded.data_dir"), "{warnings}");
        assert!(
            warnings.contains("store.embedded.http: everybody"),
            "{warnings}"
        );
    }
}
