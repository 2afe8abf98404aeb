//! `flowsluice doctor`.

mod fix;
mod host;
mod interface;
mod queues;
mod report;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use flowsluice::config::{self, Config, ReceiveMode};
use flowsluice::host::{Interface, Kind};
use flowsluice::receive::affinity;

use report::{Report, Section, State};

/// Arguments of `flowsluice doctor`.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 when everything is ok or advice, 1 when something that is \
                        configured or named does not work, 2 when that cannot be found out."
)]
pub struct Args {
    /// Interfaces to look at instead of those of receive.xdp.interfaces.
    #[arg(value_name = "INTERFACE")]
    interfaces: Vec<String>,
    /// The configuration that the host is held against; without it
    /// /etc/flowsluice/flowsluice.toml, or the built-in defaults when there is none.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Run the commands that can be taken back: of the host and all interfaces, or of the named
    /// interfaces alone. Each is printed before it is run. As root.
    #[arg(long, conflicts_with_all = ["json", "undo"])]
    fix: bool,
    /// Take back what --fix did, the last first.
    #[arg(long, conflicts_with_all = ["json", "interfaces"])]
    undo: bool,
    /// Only print what --fix or --undo would run.
    #[arg(long)]
    dry_run: bool,
    /// Where --fix writes what was before.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/lib/misc/flowsluice-doctor.json"
    )]
    undo_file: PathBuf,
}

impl Args {
    /// `None` where nothing is to be changed; else whether all went well.
    fn change(&self) -> Option<anyhow::Result<bool>> {
        let Self {
            interfaces,
            config,
            undo_file,
            dry_run,
            ..
        } = self;
        let examine = || examine(interfaces.clone(), config.as_deref());
        match (self.fix, self.undo) {
            (true, _) => Some(fix::fix(examine, interfaces, undo_file, *dry_run)),
            (_, true) => Some(fix::undo(undo_file, *dry_run)),
            _ if *dry_run => Some(Err(anyhow::anyhow!("--dry-run is for --fix and --undo"))),
            _ => None,
        }
    }
}

/// What the checks hold the host against.
pub struct Wanted {
    config: Config,
    /// AF_XDP is configured or was asked about; else what it lacks is no problem.
    af_xdp: bool,
    /// The processor of each worker, as the workers would be pinned.
    workers: Vec<Option<usize>>,
    /// Queues of all interfaces that are looked at: an AF_XDP socket each.
    queues: u64,
}

impl Wanted {
    /// The state of what AF_XDP cannot do without.
    fn lacking(&self) -> State {
        if self.af_xdp {
            State::Problem
        } else {
            State::Advice
        }
    }
}

/// Looks and prints; changes nothing but by `--fix` and `--undo`.
pub fn main(args: Args) -> ExitCode {
    const CANNOT_RUN: u8 = 2;
    if let Some(changed) = args.change() {
        return match changed {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("flowsluice: {error:#}");
                CANNOT_RUN.into()
            }
        };
    }
    let Args {
        interfaces,
        config,
        json,
        ..
    } = args;
    let printed = examine(interfaces, config.as_deref()).and_then(|report| {
        let text = if json { report.json()? } else { report.text() };
        match io::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(report.state),
        }
    });
    match printed {
        Ok(State::Problem) => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flowsluice: {error:#}");
            CANNOT_RUN.into()
        }
    }
}

fn examine(named: Vec<String>, file: Option<&Path>) -> anyhow::Result<Report> {
    let (mut config, file) = config::load_or_default(file)?;
    if !named.is_empty() {
        config.receive.xdp.interfaces = named;
    }
    let all = Interface::all().context("the kernel does not tell its interfaces")?;
    let targets = targets(&config, &all)?;
    let cpus = affinity::plan(&config.receive, &affinity::available());
    let is_on = matches!(config.receive.mode, ReceiveMode::Auto | ReceiveMode::AfXdp);
    let carriers = targets.iter().flat_map(|target| &target.carriers);
    let wanted = Wanted {
        af_xdp: is_on && !config.receive.xdp.interfaces.is_empty(),
        workers: cpus.clone().unwrap_or_default(),
        queues: carriers.map(|carrier| u64::from(carrier.rx_queues)).sum(),
        config,
    };
    let mut sections = vec![host::section(&wanted, &all, &cpus)];
    for target in &targets {
        sections.extend(target.sections(&wanted));
    }
    let configuration = file.map_or("built-in defaults".into(), |file| {
        file.display().to_string()
    });
    Ok(Report::new(configuration, sections))
}

/// An interface that was named, or found.
struct Target {
    name: String,
    /// `None` when there is no such interface.
    interface: Option<Interface>,
    /// The interfaces whose queues its frames come in by.
    carriers: Vec<Interface>,
}

/// Those of the configuration; without any, the cards that are up, or all cards when none is.
fn targets(config: &Config, all: &[Interface]) -> io::Result<Vec<Target>> {
    let of = |interface: Interface| {
        Ok(Target {
            name: interface.name.clone(),
            carriers: interface.carriers()?,
            interface: Some(interface),
        })
    };
    let named = &config.receive.xdp.interfaces;
    if named.is_empty() {
        let cards = all.iter().filter(|one| one.kind == Kind::Physical);
        let is_any_up = cards.clone().any(|card| card.is_up);
        let shown = cards.filter(|card| card.is_up || !is_any_up);
        return shown.cloned().map(of).collect();
    }
    let look_up = |name: &String| match Interface::of(name) {
        Ok(interface) => of(interface),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(Target {
            name: name.clone(),
            interface: None,
            carriers: Vec::new(),
        }),
        Err(error) => Err(error),
    };
    named.iter().map(look_up).collect()
}

impl Target {
    /// Its own section, and one for each interface that carries it.
    fn sections(&self, wanted: &Wanted) -> Vec<Section> {
        let Some(interface) = &self.interface else {
            return vec![interface::missing(&self.name)];
        };
        if self.carriers.first() == Some(interface) {
            return vec![interface::section(wanted, interface, None)];
        }
        let carried = Some(self.name.as_str());
        let carriers = self.carriers.iter();
        std::iter::once(interface::carried(interface, &self.carriers))
            .chain(carriers.map(|carrier| interface::section(wanted, carrier, carried)))
            .collect()
    }
}

/// `n` of something that is counted.
fn counted(n: impl Into<u64>, what: &str) -> String {
    let n = n.into();
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with workers pinned to `workers`, AF_XDP on or off.
    pub fn wanted(af_xdp: bool, workers: &[usize]) -> Wanted {
        Wanted {
            config: Config::default(),
            af_xdp,
            workers: workers.iter().copied().map(Some).collect(),
            queues: 2,
        }
    }

    /// A card with two queues that is as it should be.
    pub fn card() -> Interface {
        Interface {
            name: "eth0".into(),
            index: 2,
            mtu: 1500,
            driver: Some("card".into()),
            device: None,
            rx_queues: 2,
            numa_node: None,
            is_up: true,
            has_carrier: true,
            kind: Kind::Physical,
            addresses: Vec::new(),
            xdp: None,
        }
    }

    #[test]
    fn what_af_xdp_lacks_is_a_problem_only_where_it_is_wanted() {
        assert_eq!(wanted(true, &[1]).lacking(), State::Problem);
        assert_eq!(wanted(false, &[1]).lacking(), State::Advice);
    }

    #[test]
    fn without_a_configured_interface_the_cards_that_are_up_are_looked_at() {
        let down = Interface {
            name: "eth1".into(),
            is_up: false,
            ..card()
        };
        let bridge = Interface {
            name: "br0".into(),
            kind: Kind::Other,
            ..card()
        };
        let names = |all: &[Interface]| -> Vec<String> {
            let targets = targets(&Config::default(), all).unwrap();
            targets.into_iter().map(|target| target.name).collect()
        };
        assert_eq!(names(&[card(), down.clone(), bridge]), ["eth0"]);
        assert_eq!(names(&[down]), ["eth1"]);
    }

    #[test]
    fn an_interface_that_does_not_exist_is_a_problem() {
        let report = examine(vec!["flowsluice-none".into()], None).unwrap();
        assert_eq!(report.state, State::Problem);
        let link = &report.sections[1].checks[0];
        assert_eq!(link.found, "there is no such interface");
    }

    #[test]
    fn a_configuration_that_cannot_be_read_ends_the_examination() {
        let file = Path::new("/nonexistent/flowsluice.toml");
        assert!(examine(Vec::new(), Some(file)).is_err());
    }
}
