//! What exporters tell of themselves by name: interfaces, VRFs and applications.
//!
//! In: facts out of options records, which workers leave in a bounded queue without waiting, and
//! what was saved before. Out: a snapshot for whoever wants a name, the names that are new as rows,
//! and plain data to be saved. Owner: one task beside the workers. Names come from the network, so
//! their length and their number are bounded.
//! Specs: RFC 7011 section 3.4.2.2, RFC 6759 (applications).

pub mod rows;
mod text;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::queue::ArrayQueue;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::flow::Address;

pub use text::{TEXT_MAX, Text};

/// Names kept of one exporter. NBAR2 knows some 1500 applications; a large chassis has as many
/// interfaces.
pub const NAMES_PER_EXPORTER_MAX: usize = 8192;

/// Names kept in all.
pub const NAMES_MAX: usize = 131_072;

/// Facts that wait for the task: a quarter of a second at 16,000 a second.
const INBOX_MAX: usize = 4096;

/// Bytes of the facts that wait.
pub const INBOX_BYTES: usize = INBOX_MAX * size_of::<Fact>();

/// A name that is told again and again makes a row so often, seconds: there are many applications,
/// and when an interface was told last is of interest.
const ROW_EVERY_S: u32 = 3600;
const INTERFACE_ROW_EVERY_S: u32 = 60;

/// An exporter that tells no name for so long makes room for others, seconds.
const SILENCE_S: u32 = 24 * 3600;

/// An application as RFC 6759 section 4 numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct ApplicationId {
    /// Classification engine: 1 IANA protocols, 3 IANA ports, 13 the vendor's own (NBAR2)...
    pub engine: u8,
    /// The application, among those of the engine.
    pub selector: u64,
}

impl ApplicationId {
    /// From the bytes of IE 95; `None` when there is no selector or one of more than 64 bits.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (engine, selector) = bytes.split_first()?;
        if selector.is_empty() || selector.len() > 8 {
            return None;
        }
        let number = |number, byte: &u8| number << 8 | u64::from(*byte);
        Some(Self {
            engine: *engine,
            selector: selector.iter().fold(0, number),
        })
    }
}

impl ApplicationId {
    /// As `Flow::application_id` has it: the engine in the upper 8 bits, the selector below. `None`
    /// when the selector needs more than 56 bits.
    #[must_use]
    pub const fn packed(self) -> Option<u64> {
        let Self { engine, selector } = self;
        match selector >> 56 {
            0 => Some((engine as u64) << 56 | selector),
            _ => None,
        }
    }
}

impl std::fmt::Display for ApplicationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.engine, self.selector)
    }
}

/// What has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// An interface by its ifIndex.
    Interface(u32),
    /// A VRF by its id (IE 234, 235).
    Vrf(u32),
    /// An application.
    Application(ApplicationId),
}

impl Subject {
    /// How often it makes a row while nothing of it is new, seconds.
    const fn row_every_s(self) -> u32 {
        match self {
            Self::Interface(_) => INTERFACE_ROW_EVERY_S,
            Self::Vrf(_) | Self::Application(_) => ROW_EVERY_S,
        }
    }
}

/// One thing named by an exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The exporter's own address.
    pub exporter: Address,
    /// Where it was told.
    pub observation_domain: u32,
    /// When, seconds since the epoch.
    pub seen_s: u32,
    /// What is named.
    pub subject: Subject,
    /// Its name.
    pub name: Text,
    /// What else is said of it; may be empty.
    pub description: Text,
}

/// A name as it is kept.
#[derive(Debug)]
pub struct Named {
    /// The name; may be empty when there is a description.
    pub name: Box<str>,
    /// What else is said of it; may be empty.
    pub description: Box<str>,
    /// When it was told last, seconds since the epoch.
    last_seen_s: AtomicU32,
    /// When it last became a row.
    row_s: AtomicU32,
}

impl Named {
    fn new(fact: &SavedName) -> Arc<Self> {
        Arc::new(Self {
            name: fact.name.as_str().into(),
            description: fact.description.as_str().into(),
            last_seen_s: AtomicU32::new(fact.last_seen_s),
            row_s: AtomicU32::new(fact.last_seen_s),
        })
    }

    /// When it was told last, seconds since the epoch.
    #[must_use]
    pub fn last_seen_s(&self) -> u32 {
        self.last_seen_s.load(Ordering::Relaxed)
    }
}

/// A name as it is saved, and as it becomes a row.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SavedName {
    /// The exporter's own address.
    pub exporter: IpAddr,
    /// Where it was told.
    pub observation_domain: u32,
    /// What is named.
    pub subject: Subject,
    /// Its name.
    pub name: String,
    /// What else is said of it.
    pub description: String,
    /// When it was told last, seconds since the epoch.
    pub last_seen_s: u32,
}

/// All names of one exporter.
#[derive(Clone, Debug, Default)]
struct OfExporter {
    /// By subject and observation domain, so that all domains of a subject stand together.
    names: BTreeMap<(Subject, u32), Arc<Named>>,
    /// When it told any last; the same for all copies.
    last_seen_s: Arc<AtomicU32>,
}

/// The names known at one moment. Nobody changes it any more.
#[derive(Clone, Debug, Default)]
pub struct Names {
    exporters: HashMap<Address, Arc<OfExporter>>,
    count: usize,
}

/// How many names there are, by what they name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Exporters that told any.
    pub exporters: usize,
    /// Interfaces.
    pub interfaces: usize,
    /// VRFs.
    pub vrfs: usize,
    /// Applications.
    pub applications: usize,
    /// Facts that were left out because there were too many names, since the start.
    pub refused: u64,
}

impl Names {
    /// What `exporter` calls `subject`: in `observation_domain` if it was told there, else in any
    /// other domain, since many exporters tell names in one domain and flows in another.
    #[must_use]
    pub fn get(
        &self,
        exporter: Address,
        observation_domain: u32,
        subject: Subject,
    ) -> Option<&Named> {
        let names = &self.exporters.get(&exporter)?.names;
        let any = || {
            let mut all = names.range((subject, 0)..=(subject, u32::MAX));
            all.next().map(|(_, named)| named)
        };
        let named = names.get(&(subject, observation_domain)).or_else(any)?;
        Some(named)
    }

    /// The applications that exporters tell of: the exporter, the id and the name. Those of an
    /// exporter come together; of the observation domains of an id, the lowest comes first.
    pub fn applications(&self) -> impl Iterator<Item = (Address, ApplicationId, &Named)> {
        let first = ApplicationId {
            engine: 0,
            selector: 0,
        };
        let first = (Subject::Application(first), 0);
        self.exporters.iter().flat_map(move |(exporter, of)| {
            let names = of.names.range(first..);
            names.filter_map(|((subject, _), named)| match subject {
                Subject::Application(id) => Some((*exporter, *id, &**named)),
                Subject::Interface(_) | Subject::Vrf(_) => None,
            })
        })
    }

    /// All interfaces that have a name: exporter, ifIndex, and what it is called there, in several
    /// domains by their order.
    pub fn interfaces(&self) -> impl Iterator<Item = (Address, u32, &Named)> {
        let all = (Subject::Interface(0), 0)..=(Subject::Interface(u32::MAX), u32::MAX);
        self.exporters.iter().flat_map(move |(exporter, of)| {
            of.names
                .range(all.clone())
                .filter_map(|((subject, _), named)| match subject {
                    Subject::Interface(if_index) => Some((*exporter, *if_index, &**named)),
                    _ => None,
                })
        })
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts {
            exporters: self.exporters.len(),
            ..Counts::default()
        };
        for (subject, _) in self.exporters.values().flat_map(|of| of.names.keys()) {
            match subject {
                Subject::Interface(_) => counts.interfaces += 1,
                Subject::Vrf(_) => counts.vrfs += 1,
                Subject::Application(_) => counts.applications += 1,
            }
        }
        counts
    }

    fn find(&self, name: &SavedName) -> Option<(&OfExporter, &Named)> {
        let own = self.exporters.get(&Address::from(name.exporter))?;
        let named = own.names.get(&(name.subject, name.observation_domain))?;
        Some((own, named))
    }

    /// Makes room for one more name of `exporter`; false when there is none. Sets `is_full` when
    /// looking again is of no use.
    fn make_room(&mut self, exporter: Address, now_s: u32, is_full: &mut bool) -> bool {
        let own = self.exporters.get(&exporter);
        if own.is_some_and(|own| own.names.len() >= NAMES_PER_EXPORTER_MAX) {
            return false;
        }
        if self.count < NAMES_MAX || *is_full {
            return self.count < NAMES_MAX;
        }
        let others = self
            .exporters
            .iter()
            .filter(|(other, _)| **other != exporter);
        let last_seen_s = |of: &OfExporter| of.last_seen_s.load(Ordering::Relaxed);
        let silent = others
            .map(|(other, of)| (last_seen_s(of), *other))
            .min()
            .filter(|(last_seen_s, _)| now_s.saturating_sub(*last_seen_s) >= SILENCE_S);
        let gone = silent.and_then(|(_, other)| self.exporters.remove(&other));
        self.count -= gone.as_ref().map_or(0, |of| of.names.len());
        *is_full = gone.is_none();
        gone.is_some()
    }
}

/// What a fact was.
enum Learned {
    /// A name that is new or another than before.
    News,
    /// Told before, and not as a row for some time if `is_row_due`.
    Known { is_row_due: bool },
    /// One too many.
    Refused,
}

/// Takes `fact` in. Copies of `names` that others hold stay as they are.
fn learn(mut names: Arc<Names>, fact: &SavedName, is_full: &mut bool) -> (Arc<Names>, Learned) {
    let seen_s = fact.last_seen_s;
    let known = names.find(fact);
    let is_new = known.is_none();
    if let Some((own, named)) = known {
        own.last_seen_s.fetch_max(seen_s, Ordering::Relaxed);
        named.last_seen_s.fetch_max(seen_s, Ordering::Relaxed);
        if *named.name == *fact.name && *named.description == *fact.description {
            let row_s = named.row_s.load(Ordering::Relaxed);
            let is_row_due = seen_s.saturating_sub(row_s) >= fact.subject.row_every_s();
            if is_row_due {
                named.row_s.store(seen_s, Ordering::Relaxed);
            }
            return (names, Learned::Known { is_row_due });
        }
    }
    let exporter = Address::from(fact.exporter);
    let changed = Arc::make_mut(&mut names);
    if is_new && !changed.make_room(exporter, seen_s, is_full) {
        return (names, Learned::Refused);
    }
    changed.count += usize::from(is_new);
    let own = Arc::make_mut(changed.exporters.entry(exporter).or_default());
    own.last_seen_s.fetch_max(seen_s, Ordering::Relaxed);
    let key = (fact.subject, fact.observation_domain);
    own.names.insert(key, Named::new(fact));
    (names, Learned::News)
}

/// Where workers leave facts, and everybody finds names.
#[derive(Debug)]
pub struct NameBook {
    inbox: ArrayQueue<Fact>,
    names: Mutex<Arc<Names>>,
    /// Moves on whenever a name is new or another.
    epoch: AtomicU64,
    refused: AtomicU64,
}

impl Default for NameBook {
    fn default() -> Self {
        Self {
            inbox: ArrayQueue::new(INBOX_MAX),
            names: Mutex::default(),
            epoch: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }
}

impl NameBook {
    /// Leaves a fact for the task; false when too many wait already. Waits for nobody.
    pub fn offer(&self, fact: Fact) -> bool {
        self.inbox.push(fact).is_ok()
    }

    /// The names as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Names> {
        Arc::clone(&self.lock())
    }

    /// Moves on whenever [`NameBook::snapshot`] has something new.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// How many names there are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            refused: self.refused.load(Ordering::Relaxed),
            ..self.snapshot().counts()
        }
    }

    /// Takes in what workers left. Calls `on_row` for each name that is new or another than before,
    /// and for those that are told again: an interface once a minute, others once an hour. Called
    /// by the one task.
    pub fn take_in(&self, mut on_row: impl FnMut(SavedName)) {
        let mut names = self.snapshot();
        let (mut has_news, mut is_full) = (false, false);
        // No more than there were: others go on adding.
        for _ in 0..self.inbox.len() {
            let Some(fact) = self.inbox.pop() else {
                break;
            };
            let fact = SavedName {
                exporter: fact.exporter.to_ip(),
                observation_domain: fact.observation_domain,
                subject: fact.subject,
                name: fact.name.to_string(),
                description: fact.description.to_string(),
                last_seen_s: fact.seen_s,
            };
            let learned;
            (names, learned) = learn(names, &fact, &mut is_full);
            match learned {
                Learned::News => {
                    has_news = true;
                    on_row(fact);
                }
                Learned::Known { is_row_due: true } => on_row(fact),
                Learned::Known { is_row_due: false } => {}
                Learned::Refused => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        if has_news {
            self.publish(names);
        }
    }

    /// All names as plain data.
    #[must_use]
    pub fn export(&self) -> Vec<SavedName> {
        let names = self.snapshot();
        let of_exporter = |(exporter, of): (&Address, &Arc<OfExporter>)| {
            let exporter = exporter.to_ip();
            let saved = |((subject, domain), named): (&(Subject, u32), &Arc<Named>)| SavedName {
                exporter,
                observation_domain: *domain,
                subject: *subject,
                name: named.name.to_string(),
                description: named.description.to_string(),
                last_seen_s: named.last_seen_s(),
            };
            of.names.iter().map(saved).collect::<Vec<_>>()
        };
        names.exporters.iter().flat_map(of_exporter).collect()
    }

    /// Takes over what was saved; what is known already is newer and stays. Bounds hold here, too.
    pub fn import(&self, saved: impl IntoIterator<Item = SavedName>) {
        let mut names = self.snapshot();
        let mut is_full = false;
        for saved in saved {
            let clean = |text: &str| Text::of(text.as_bytes()).to_string();
            let saved = SavedName {
                name: clean(&saved.name),
                description: clean(&saved.description),
                ..saved
            };
            if names.find(&saved).is_none() {
                names = learn(names, &saved, &mut is_full).0;
            }
        }
        self.publish(names);
    }

    fn publish(&self, names: Arc<Names>) {
        *self.lock() = names;
        self.epoch.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Names>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: [u8; 4] = [192, 0, 2, 1];

    fn fact(subject: Subject, name: &str, seen_s: u32) -> Fact {
        Fact {
            exporter: Address::from_v4(ROUTER),
            observation_domain: 7,
            seen_s,
            subject,
            name: Text::of(name.as_bytes()),
            description: Text::EMPTY,
        }
    }

    fn take_in(book: &NameBook) -> Vec<String> {
        let mut rows = Vec::new();
        book.take_in(|row| rows.push(row.name));
        rows
    }

    fn name_of(book: &NameBook, domain: u32, subject: Subject) -> Option<String> {
        let names = book.snapshot();
        let named = names.get(Address::from_v4(ROUTER), domain, subject)?;
        Some(named.name.to_string())
    }

    #[test]
    fn a_name_is_found_in_its_domain_and_else_in_any() {
        let book = NameBook::default();
        let subject = Subject::Interface(3);
        for (observation_domain, name) in [(7, "eth3"), (9, "ge-0/0/3")] {
            assert!(book.offer(Fact {
                observation_domain,
                ..fact(subject, name, 100)
            }));
        }
        assert_eq!(take_in(&book), ["eth3", "ge-0/0/3"]);
        assert_eq!(name_of(&book, 7, subject).unwrap(), "eth3");
        assert_eq!(name_of(&book, 9, subject).unwrap(), "ge-0/0/3");
        assert_eq!(name_of(&book, 8, subject).unwrap(), "eth3");
        assert_eq!(name_of(&book, 7, Subject::Interface(4)), None);
        assert_eq!(name_of(&book, 7, Subject::Vrf(3)), None);
    }

    #[test]
    fn what_is_told_again_makes_a_row_when_it_changed_and_once_an_hour() {
        let book = NameBook::default();
        let subject = Subject::Vrf(1);
        let told = |name, seen_s| {
            assert!(book.offer(fact(subject, name, seen_s)));
            take_in(&book).len()
        };
        assert_eq!(told("red", 1000), 1);
        assert_eq!(told("red", 1001), 0);
        assert_eq!(told("blue", 1002), 1);
        assert_eq!(told("blue", 1002 + ROW_EVERY_S), 1);
        assert_eq!(told("blue", 1003 + ROW_EVERY_S), 0);
        let saved = book.export();
        assert_eq!(saved.len(), 1);
        assert_eq!(saved[0].last_seen_s, 1003 + ROW_EVERY_S);
    }

    #[test]
    fn an_interface_that_is_told_again_makes_a_row_once_a_minute() {
        let book = NameBook::default();
        let told = |seen_s| {
            assert!(book.offer(fact(Subject::Interface(3), "eth3", seen_s)));
            take_in(&book).len()
        };
        assert_eq!(told(1000), 1);
        assert_eq!(told(1059), 0);
        assert_eq!(told(1060), 1);
        assert_eq!(told(1061), 0);
    }

    #[test]
    fn an_old_snapshot_stays_as_it_was() {
        let book = NameBook::default();
        let subject = Subject::Interface(1);
        book.offer(fact(subject, "old", 1));
        take_in(&book);
        let (before, epoch) = (book.snapshot(), book.epoch());
        book.offer(fact(subject, "new", 2));
        take_in(&book);
        let exporter = Address::from_v4(ROUTER);
        assert_eq!(&*before.get(exporter, 7, subject).unwrap().name, "old");
        assert_eq!(name_of(&book, 7, subject).unwrap(), "new");
        assert!(book.epoch() > epoch);
    }

    #[test]
    fn an_exporter_has_no_more_names_than_its_share_and_the_inbox_its_bound() {
        let book = NameBook::default();
        for if_index in 0..=NAMES_PER_EXPORTER_MAX {
            let subject = Subject::Interface(if_index as u32);
            if !book.offer(fact(subject, "x", 1)) {
                assert_eq!(if_index % INBOX_MAX, 0);
                take_in(&book);
                assert!(book.offer(fact(subject, "x", 1)));
            }
        }
        take_in(&book);
        let counts = book.counts();
        assert_eq!(
            (counts.interfaces, counts.refused),
            (NAMES_PER_EXPORTER_MAX, 1)
        );
    }

    #[test]
    fn a_full_book_makes_room_only_in_place_of_an_exporter_silent_for_a_day() {
        let saved = (0..NAMES_MAX as u32).map(|n| SavedName {
            exporter: IpAddr::from((n / 4096).to_be_bytes()),
            observation_domain: 0,
            subject: Subject::Interface(n % 4096),
            name: "x".into(),
            description: String::new(),
            last_seen_s: 1000,
        });
        let book = NameBook::default();
        book.import(saved);
        assert_eq!(book.counts().interfaces, NAMES_MAX);
        book.offer(fact(Subject::Vrf(1), "early", 1000 + SILENCE_S - 1));
        assert_eq!(take_in(&book).len(), 0);
        assert_eq!(book.counts().refused, 1);
        book.offer(fact(Subject::Vrf(1), "late", 1000 + SILENCE_S));
        assert_eq!(take_in(&book), ["late"]);
        let counts = book.counts();
        assert_eq!((counts.vrfs, counts.interfaces), (1, NAMES_MAX - 4096));
    }

    #[test]
    fn what_is_saved_is_read_back_and_does_not_replace_what_is_newer() {
        let book = NameBook::default();
        let nbar = ApplicationId::from_bytes(&[13, 0, 1, 240]).unwrap();
        book.offer(fact(Subject::Application(nbar), "youtube", 5));
        book.offer(fact(Subject::Interface(2), "eth2", 5));
        take_in(&book);
        let text = serde_json::to_string(&book.export()).unwrap();
        let saved: Vec<SavedName> = serde_json::from_str(&text).unwrap();
        let again = NameBook::default();
        again.offer(fact(Subject::Interface(2), "renamed", 9));
        take_in(&again);
        again.import(saved);
        assert_eq!(
            name_of(&again, 7, Subject::Application(nbar)).unwrap(),
            "youtube"
        );
        assert_eq!(
            name_of(&again, 7, Subject::Interface(2)).unwrap(),
            "renamed"
        );
    }

    #[test]
    fn an_application_is_its_engine_and_its_selector() {
        let id = |bytes: &[u8]| Some(ApplicationId::from_bytes(bytes)?.to_string());
        assert_eq!(id(&[3, 0, 0, 53]).as_deref(), Some("3:53"));
        assert_eq!(id(&[3, 53]).as_deref(), Some("3:53"));
        assert_eq!(
            id(&[20, 0, 0, 0, 9, 0, 0, 0, 1]).as_deref(),
            Some("20:38654705665")
        );
        assert_eq!(id(&[3]), None);
        assert_eq!(id(&[0; 10]), None);
    }
}
