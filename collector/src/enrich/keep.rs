//! Keeps the tables up to date: what files, exporters and servers say, put together and published.
//!
//! In: files, looked at every `enrich.look_every`; what exporters, agents and name servers say,
//! looked at once a second. Out: [`Published`]. Owner: a thread of its own, since it takes a second
//! or two of work to read a database; the tables before serve meanwhile.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use tracing::{error, warn};

use super::dns::{Asker, Dns};
use super::facts::EnrichFacts;
use super::interfaces::rows::tell_static;
use super::parts::{Learned, Part, Parts, PartsCounts};
use super::snmp::Snmp;
use super::tables::Published;
use crate::config::{self, Config};
use crate::decode;
use crate::flow::Address;
use crate::host::allocator;
use crate::log::one_line;
use crate::store::SideRows;
use crate::units::UnixNanos;

/// How often it is looked whether exporters and servers said anything new: tables are published no
/// more often, since a batch ends with those that it was filled with.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the rows of interfaces that files tell of are told again, so that they do not expire.
const ROWS_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How long a start waits for the first tables; what is not loaded by then comes later.
const LOAD_MAX: Duration = Duration::from_secs(5);
/// How long after tables were read free memory goes back to the kernel: batches that still have the
/// tables before are written by then.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(5);

/// Where names come from beside files.
#[derive(Debug)]
pub struct Sources {
    /// What exporters tell of themselves.
    pub shared: Arc<decode::Shared>,
    /// Name servers.
    pub dns: Arc<Dns>,
    /// SNMP agents.
    pub snmp: Arc<Snmp>,
    /// Where rows of interfaces go.
    pub rows: SideRows,
}

/// The thread that keeps tables up to date, until it is stopped.
#[derive(Debug)]
pub struct Keeper {
    commands: Sender<Command>,
    thread: JoinHandle<()>,
    published: Arc<Published>,
    counts: Arc<PartsCounts>,
    dns: Arc<Dns>,
    snmp: Arc<Snmp>,
}

#[derive(Debug)]
enum Command {
    /// By this configuration; without one, files that changed are read again.
    Reload(Option<Box<Config>>),
    Stop,
}

impl Keeper {
    /// Starts it and waits, up to [`LOAD_MAX`], until what files say is loaded. `on_start` is
    /// called in the thread.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        config: &Config,
        sources: Sources,
        on_start: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let published = Arc::new(Published::default());
        let parts = Parts::new(&config.enrich);
        let counts = parts.counts();
        let (commands, inbox) = mpsc::channel();
        let (loaded, is_loaded) = mpsc::channel();
        let (dns, snmp) = (Arc::clone(&sources.dns), Arc::clone(&sources.snmp));
        let keeping = Keeping {
            config: config.clone(),
            parts,
            asker: sources.dns.asker(),
            sources,
            published: Arc::clone(&published),
            learned: Learned::default(),
            epochs: Epochs::default(),
            looked: Instant::now(),
            told: None,
            give_back: None,
        };
        let thread = thread::Builder::new()
            .name("enrich".into())
            .spawn(move || {
                on_start();
                keeping.run(&inbox, &loaded);
            })?;
        if let Err(RecvTimeoutError::Timeout) = is_loaded.recv_timeout(LOAD_MAX) {
            warn!(
                seconds = LOAD_MAX.as_secs(),
                "what enrich names takes long to load; flows go without until it is"
            );
        }
        Ok(Self {
            commands,
            thread,
            published,
            counts,
            dns,
            snmp,
        })
    }

    /// Where the tables are found.
    #[must_use]
    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }

    /// Whom to ask what is known.
    pub fn facts(&self) -> impl Fn() -> EnrichFacts + Send + Sync + use<> {
        let (parts, published) = (Arc::clone(&self.counts), Arc::clone(&self.published));
        let (dns, snmp) = (Arc::clone(&self.dns), Arc::clone(&self.snmp));
        move || EnrichFacts {
            parts: Arc::clone(&parts),
            dns: dns.counts(),
            snmp: snmp.counts(),
            interfaces_left_out: published.tables().interfaces.left_out() as u64,
        }
    }

    /// Has it follow `config`, if there is one, and read again what was refused before.
    pub fn reload(&self, config: Option<Config>) {
        // It lives until it is stopped.
        let _ = self.commands.send(Command::Reload(config.map(Box::new)));
    }

    /// Ends it, and asking agents.
    pub async fn stop(self) {
        let _ = self.commands.send(Command::Stop);
        // One that panicked has ended the process (panic = "abort").
        let _ = self.thread.join();
        self.dns.stop();
        self.snmp.stop().await;
    }
}

/// How new what was last published is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Epochs {
    names: u64,
    snmp: u64,
    dns: u64,
    exporters: usize,
}

struct Keeping {
    config: Config,
    parts: Parts,
    sources: Sources,
    published: Arc<Published>,
    /// Asks for names of exporters.
    asker: Asker,
    learned: Learned,
    epochs: Epochs,
    /// When files were looked at last.
    looked: Instant,
    /// When the interfaces of files were told last.
    told: Option<Instant>,
    /// When free memory goes back to the kernel; `None` when nothing was read since it did.
    give_back: Option<Instant>,
}

impl Keeping {
    fn run(mut self, inbox: &Receiver<Command>, loaded: &Sender<()>) {
        for (part, fault) in self.parts.load() {
            let fault = one_line(&fault);
            error!(part = part.name(), "flows go without it: {fault}");
        }
        self.give_back = Some(Instant::now() + GIVE_BACK_AFTER);
        self.learn();
        self.publish();
        let _ = loaded.send(());
        loop {
            match inbox.recv_timeout(LOOK_EVERY) {
                Ok(Command::Reload(config)) => self.reload(config),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look(&mut self) {
        let mut has_news = self.learn();
        if self.looked.elapsed() >= self.config.enrich.look_every {
            self.looked = Instant::now();
            let before = self.parts.counts().of(Part::Interfaces).loaded;
            if self.parts.look(SystemTime::now()) {
                has_news = true;
                self.give_back = Some(Instant::now() + GIVE_BACK_AFTER);
            }
            if self.parts.counts().of(Part::Interfaces).loaded != before {
                self.told = None;
            }
        }
        if has_news {
            self.publish();
        }
        // Else what reading took stays with the process, which is as much as the tables.
        if self.give_back.take_if(|at| Instant::now() >= *at).is_some() {
            allocator::give_back();
        }
        if self.told.is_none_or(|told| told.elapsed() >= ROWS_EVERY) {
            self.told = Some(Instant::now());
            let now_s = UnixNanos::now().seconds();
            tell_static(self.parts.static_interfaces(), &self.sources.rows, now_s);
        }
    }

    /// Takes what exporters and servers said; true when anything is new.
    fn learn(&mut self) -> bool {
        let Sources {
            shared, dns, snmp, ..
        } = &self.sources;
        let mut exporters: Vec<Address> = shared
            .exporters()
            .iter()
            .map(|exporter| Address::from(exporter.exporter_addr))
            .collect();
        exporters.sort_unstable();
        exporters.dedup();
        let is_same = exporters == self.learned.exporters;
        if !is_same {
            snmp.wants(&exporters);
        }
        let epochs = Epochs {
            names: shared.names.epoch(),
            snmp: snmp.epoch(),
            dns: dns.epoch(),
            exporters: exporters.len(),
        };
        let is_news = !is_same || epochs != self.epochs;
        self.learned = Learned {
            names: shared.names.snapshot(),
            polled: snmp.snapshot(),
            hosts: dns.snapshot(),
            exporters,
        };
        self.epochs = epochs;
        self.ask_for_exporters();
        is_news
    }

    /// Their names are asked for here, those of sources and destinations by who marks rows.
    fn ask_for_exporters(&mut self) {
        if self.sources.dns.has_exporters() {
            let (hosts, exporters) = (&self.learned.hosts, &self.learned.exporters);
            for exporter in exporters.iter().filter(|it| hosts.name(**it).is_none()) {
                self.asker.ask_exporter(*exporter);
            }
        }
    }

    fn publish(&mut self) {
        self.published.publish(self.parts.tables(&self.learned));
    }

    fn reload(&mut self, config: Option<Box<Config>>) {
        if config.is_none() {
            self.looked = Instant::now();
        }
        let config = config.map_or_else(|| self.config.clone(), |config| *config);
        let has_news = self.parts.reconfigure(&config.enrich);
        // What is read at a start stays as it was then, so that the next reload tells it again.
        let before = &self.config.enrich;
        self.config.enrich = config::Enrich {
            dns: before.dns.clone(),
            snmp: before.snmp.clone(),
            services: before.services,
            ..config.enrich
        };
        if has_news {
            self.told = None;
            self.give_back = Some(Instant::now() + GIVE_BACK_AFTER);
            self.publish();
        }
    }
}
