//! `flowsluice check`.

mod reach;
mod servers;
mod tables;

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::bail;

use flowsluice::config::{self, Config, ReceiveMode, StoreTarget, display, memory};
use flowsluice::enrich::parts::{Part, Parts};
use flowsluice::host::Interface;
use flowsluice::receive::xdp::{Step, XdpRefused};
use flowsluice::receive::{self, affinity};
use flowsluice::store::spool::BLOCKS_MAX;
use flowsluice::store::window::{BLOCKS_BETWEEN_MAX, WINDOW_PARTS_MIN};

/// Arguments of `flowsluice check`.
#[derive(clap::Args)]
pub struct Args {
    /// The file to check; without it /etc/flowsluice/flowsluice.toml, or the built-in defaults
    /// when there is none.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Prints what the configuration amounts to on this host.
///
/// # Errors
/// When `flowsluice run` would refuse to start with it.
pub fn main(args: Args) -> anyhow::Result<()> {
    let Args { config: named } = args;
    let (config, file) = match config::load_or_default(named.as_deref()) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            let (n, file) = (error.problems.len(), error.file);
            bail!("{file}: {}", counted(n, "error"));
        }
    };
    let report = Report::of(&config, file.as_deref());
    print!("{}", report.text);
    for warning in &report.warnings {
        println!("warning: {warning}");
    }
    for error in &report.errors {
        eprintln!("error: {error}");
    }
    let name = file.map_or("built-in defaults".into(), |file| {
        file.display().to_string()
    });
    match report.errors.len() {
        0 => println!("{name}: ok, {}", counted(report.warnings.len(), "warning")),
        n => bail!("{name}: {} on this host", counted(n, "error")),
    }
    Ok(())
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
        let mut report = Self::default();
        report.title("effective configuration");
        report.text.push_str(&display::toml(config));
        report.title("on this host");
        let mode = report.receive_mode(config);
        let cpus = report.cpus(config);
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
            StoreTarget::Server(_) => report.server(config, file),
            StoreTarget::Embedded => report.embedded(config),
            StoreTarget::Null => report.null(),
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

    fn receive_mode(&mut self, config: &Config) -> String {
        match receive::choose(&config.receive) {
            Ok(ReceiveMode::IoUring) => "io_uring".into(),
            Ok(_) => "recvmmsg".into(),
            Err(refused) => {
                self.errors.push(refused.to_string());
                "io_uring (refused)".into()
            }
        }
    }

    /// The processor of each worker, as the workers would be pinned.
    fn cpus(&mut self, config: &Config) -> Vec<Option<usize>> {
        match affinity::plan(&config.receive, &affinity::available()) {
            Ok(cpus) => cpus,
            Err(error) => {
                self.errors.push(error.to_string());
                vec![None; config.receive.workers.max(config.receive.cpus.len())]
            }
        }
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

    fn null(&mut self) {
        self.warnings.push(
            "store.kind: null stores nothing, every flow is counted as store_null; remove the key \
             to store"
                .into(),
        );
    }

    fn embedded(&mut self, config: &Config) {
        let embedded = &config.store.embedded;
        if let Some(library) = &embedded.library {
            if !library.is_file() {
                self.errors.push(format!(
                    "store.embedded.library: {} is no file; correct the path, or remove the key \
                     to have the usual places searched",
                    library.display()
                ));
            }
        } else if !usual_libraries().iter().any(|path| path.is_file()) {
            self.warnings.push(
                "store.embedded.library: no libchdb.so beside the binary, in /usr/lib/flowsluice \
                 or /usr/local/lib; 'cargo xtask demo' fetches it, FLOWSLUICE_LIBCHDB names it, or \
                 set store.url to use a server"
                    .into(),
            );
        }
        if let Err(error) = writable(&embedded.data_dir) {
            self.warnings.push(format!(
                "store.embedded.data_dir: this user cannot write to {} ({error}); make it with \
                 'install -d -o USER' for the user of the service, or choose another",
                embedded.data_dir.display()
            ));
        }
    }

    /// Whether what exporters tell can outlast a restart.
    fn state(&mut self, folder: &Path) {
        if folder.as_os_str().is_empty() {
            return;
        }
        match writable(folder) {
            Ok(()) => self.line("state", &folder.display().to_string(), "of exporters"),
            Err(error) => self.warnings.push(format!(
                "decode.state_dir: this user cannot write to {} ({error}), so templates do not \
                 outlast a restart; make it with 'install -d -o USER' for the user of the \
                 service, or choose another",
                folder.display()
            )),
        }
    }

    /// Whether blocks can outlast a stop and an outage, and how many.
    fn spool(&mut self, store: &config::Store) {
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
        let note = format!(
            "parts that the tables must remember, whatever the spool holds; at most \
             {BLOCKS_BETWEEN_MAX} blocks come between two tries of one"
        );
        self.line("window", &WINDOW_PARTS_MIN.to_string(), &note);
        if let Err(error) = writable(&folder) {
            self.warnings.push(format!(
                "store.spool.dir: this user cannot write to {} ({error}), so blocks wait in memory \
                 alone; make it with 'install -d -o USER' for the user of the service, or choose \
                 another",
                folder.display()
            ));
        }
    }
}

fn counted(n: usize, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}

/// Where the engine looks for its library without `store.embedded.library`.
fn usual_libraries() -> Vec<PathBuf> {
    const NAME: &str = "libchdb.so";
    let named = std::env::var_os("FLOWSLUICE_LIBCHDB").map(PathBuf::from);
    let binary = std::env::current_exe().ok();
    let beside = binary.and_then(|path| Some(path.parent()?.join(NAME)));
    let fixed = [
        Path::new("/usr/lib/flowsluice").join(NAME),
        Path::new("/usr/local/lib").join(NAME),
        Path::new("target/engine").join(NAME),
    ];
    named.into_iter().chain(beside).chain(fixed).collect()
}

/// Whether files can be made in `folder`, or in the folder that it would be made in. Leaves nothing
/// behind: a file without a name is gone when it is closed.
fn writable(folder: &Path) -> io::Result<()> {
    let existing = folder
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(folder);
    let mut options = std::fs::OpenOptions::new();
    let nameless = options
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(existing);
    match nameless {
        // Some file systems have only files with names.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            let name = existing.join(format!(".flowsluice-check-{}", std::process::id()));
            std::fs::File::create_new(&name)?;
            std::fs::remove_file(&name)
        }
        outcome => outcome.map(drop),
    }
}

fn is_readable_by_all(path: &Path) -> bool {
    const OTHERS_READ: u32 = 0o004;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & OTHERS_READ != 0)
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
        let said = [report.errors, report.warnings].concat().join("\n");
        assert!(said.contains("store.kind: null stores nothing"), "{said}");
        assert!(!said.contains("store.embedded"), "{said}");
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
            errors.contains("/nonexistent/libchdb.so is no file"),
            "{errors}"
        );
        let warnings = report.warnings.join("\n");
        assert!(warnings.contains("store.embedded.data_dir"), "{warnings}");
        assert!(
            warnings.contains("store.embedded.http: everybody"),
            "{warnings}"
        );
    }

    #[test]
    fn a_password_that_everybody_may_read_is_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "secret\n").unwrap();
        let set_mode = |mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&path, mode).unwrap();
        };
        let text = format!(
            "[store]\nurl = \"http://localhost\"\npassword_file = {:?}\n",
            path.display().to_string()
        );
        let warned = || {
            let report = Report::of(&parse(&text), None);
            report
                .warnings
                .iter()
                .any(|warning| warning.contains("chmod o="))
        };
        set_mode(0o644);
        assert!(warned());
        set_mode(0o640);
        assert!(!warned());
    }
}
