//! `flowsluice geoip`: databases of places and autonomous systems.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use flowsluice::config::{self, Config, DEFAULT_PATH, GeoUpdate};
use flowsluice::enrich::geo::{PRIVATE_AS, Places};
use flowsluice::flow::Address;
use flowsluice::geoip::{self, Facts, Outcome, day};

/// Arguments of `flowsluice geoip`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Fetch the databases of [[enrich.geo.updates]], verify them and put them in place; a running
    /// collector takes them by itself.
    Update {
        /// Configuration that names them [default: /etc/flowsluice/flowsluice.toml].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Fetch even what has not changed; take even what is older, much smaller or of another
        /// type than the present file.
        #[arg(long)]
        force: bool,
    },
    /// Tell what the configured databases are; all that is in them is read.
    Show {
        /// Configuration that names them [default: /etc/flowsluice/flowsluice.toml].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Tell what the configured databases say of an address, as the collector takes it.
    Lookup {
        /// IPv4 or IPv6.
        address: IpAddr,
        /// Configuration that names them [default: /etc/flowsluice/flowsluice.toml].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// # Errors
/// When one of the databases is not updated, or is none; all the others are tried first.
pub fn main(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Update { config, force } => {
            let (config, file) = config::load_or_default(config.as_deref())?;
            let file = file.unwrap_or_else(|| DEFAULT_PATH.into());
            update(&config, &file, force)
        }
        Command::Show { config } => show(&config::load_or_default(config.as_deref())?.0),
        Command::Lookup { address, config } => {
            lookup(address, &config::load_or_default(config.as_deref())?.0)
        }
    }
}

fn update(config: &Config, file: &Path, force: bool) -> anyhow::Result<()> {
    let updates = &config.enrich.geo.updates;
    ensure!(
        !updates.is_empty(),
        "{}: there is no [[enrich.geo.updates]], which says where databases come from",
        file.display()
    );
    let mut failed = 0;
    for update in updates {
        let shown = update.file.display();
        if is_password_open(update) {
            eprintln!("warning: {shown}: the password goes over http unencrypted; use https");
        }
        let mut watch = Watch::new(&update.file);
        let outcome = geoip::update(update, force, &mut |bytes, all| watch.progress(bytes, all));
        watch.end();
        match outcome {
            Ok(Outcome::Unchanged) => println!("{shown}: unchanged"),
            Ok(Outcome::Replaced {
                before,
                after,
                networks,
            }) => {
                let instead = before.map(|before| format!(", instead of {}", told(&before)));
                let instead = instead.unwrap_or_default();
                println!("{shown}: {}, {networks} networks{instead}", told(&after));
            }
            Err(error) => {
                failed += 1;
                eprintln!("error: {shown}: {error:#}; the present file stays");
            }
        }
    }
    if failed > 0 {
        bail!(
            "geoip: {failed} of {} databases could not be updated",
            updates.len()
        );
    }
    Ok(())
}

fn is_password_open(update: &GeoUpdate) -> bool {
    !update.user.is_empty() && update.from.starts_with("http://")
}

fn told(facts: &Facts) -> String {
    format!("{} of {}", facts.kind, day(facts.built))
}

fn show(config: &Config) -> anyhow::Result<()> {
    let geo = &config.enrich.geo;
    let mut files: Vec<&Path> = geo.databases.iter().map(PathBuf::as_path).collect();
    for update in &geo.updates {
        if !files.contains(&update.file.as_path()) {
            files.push(&update.file);
        }
    }
    ensure!(
        !files.is_empty(),
        "no database is configured; see enrich.geo.databases"
    );
    let mut failed = 0;
    for file in files {
        let is_used = geo.databases.iter().any(|used| used == file);
        let used = if is_used {
            ""
        } else {
            "; enrich.geo.databases does not name it, so it is not used"
        };
        match Facts::verify(file) {
            Ok((facts, networks)) => println!(
                "{}: {}, IPv{}, {networks} networks, {} bytes, languages {}{used}",
                file.display(),
                told(&facts),
                facts.ip_version,
                facts.bytes,
                languages(&facts.languages),
            ),
            Err(error) => {
                failed += 1;
                eprintln!("error: {}: {error:#}{used}", file.display());
            }
        }
    }
    ensure!(failed == 0, "geoip: {failed} databases cannot be used");
    Ok(())
}

fn lookup(address: IpAddr, config: &Config) -> anyhow::Result<()> {
    let places = Places::load(&config.enrich.geo)?;
    let mut ids = [0];
    places.find(&[Address::from(address.to_canonical())], &mut ids);
    let [id] = ids;
    let (number, is_private) = (places.as_number(id), places.is_private(id));
    let name_of = if number == 0 && is_private {
        PRIVATE_AS
    } else {
        number
    };
    let mut place = places.label(id).split('\t');
    for name in ["country", "region", "city", "latitude", "longitude"] {
        println!("{name:<10} {}", place.next().unwrap_or_default());
    }
    println!("{:<10} {number}", "as");
    println!("{:<10} {}", "as name", places.as_name(name_of));
    println!("{:<10} {is_private}", "private");
    Ok(())
}

fn languages(languages: &[String]) -> String {
    if languages.is_empty() {
        return "not told".into();
    }
    languages.join(" ")
}

/// Tells a person at a terminal how far it is.
struct Watch {
    is_terminal: bool,
    name: String,
    told: Option<Instant>,
}

impl Watch {
    fn new(file: &Path) -> Self {
        let name = file.file_name().unwrap_or_default();
        Self {
            is_terminal: io::stderr().is_terminal(),
            name: name.to_string_lossy().into_owned(),
            told: None,
        }
    }

    fn progress(&mut self, bytes: u64, all: Option<u64>) {
        const PAUSE: Duration = Duration::from_millis(250);
        let is_due = self.told.is_none_or(|told| told.elapsed() >= PAUSE);
        if !self.is_terminal || !is_due {
            return;
        }
        self.told = Some(Instant::now());
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let all = all.map(|all| format!(" of {:.1}", mib(all)));
        let all = all.unwrap_or_default();
        eprint!("\r{}: {:.1}{all} MiB ", self.name, mib(bytes));
        // Nothing depends on it.
        let _ = io::stderr().flush();
    }

    fn end(&self) {
        if self.told.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
