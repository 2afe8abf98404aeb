//! What was answered, for how long, and who is asked again. Time is a parameter: since the start.

use std::collections::BTreeSet;
use std::time::Duration;

use hashbrown::HashMap;

use super::hosts::{Hash, Hosts};
use crate::config;
use crate::flow::Address;

/// How long an address is left alone after nobody could say whether it has a name. It doubles with
/// each time, up to the lifetime of a name.
const FAILURE_PAUSE: Duration = Duration::from_secs(30);
/// How long an answer to a name asked for again may be under way.
const PATIENCE: Duration = Duration::from_secs(30);
/// A full cache looks at so many of the oldest entries for one that nobody uses.
const CANDIDATES: usize = 8;

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    /// A name, clean and not empty.
    Name(Box<str>),
    /// There is none.
    NoName,
    /// Nobody could say.
    Failed,
}

/// Names by address, and addresses without one.
#[derive(Debug)]
pub(super) struct Cache {
    hits: Shelf,
    misses: Shelf,
    hit_lifetime: Duration,
    miss_lifetime: Duration,
    /// Entries that were forgotten before their time.
    pub evicted: u64,
}

#[derive(Debug)]
struct Known {
    /// None on the shelf of misses.
    name: Option<Box<str>>,
    /// When it is looked at next.
    due: Duration,
    /// When it is forgotten, unless it is in use.
    expires: Duration,
    /// Somebody found it since it was asked for.
    is_used: bool,
    /// So many times in a row nobody could say.
    failures: u32,
}

impl Known {
    /// When to ask again after one more failure.
    fn pause(&mut self, lifetime: Duration) -> Duration {
        let factor = 1 << self.failures.min(16);
        self.failures += 1;
        (FAILURE_PAUSE * factor).min(lifetime)
    }
}

/// Entries, and when each is due.
#[derive(Debug)]
struct Shelf {
    known: HashMap<Address, Known>,
    due: BTreeSet<(Duration, Address)>,
    max: usize,
}

impl Shelf {
    fn new(max: usize) -> Self {
        Self {
            known: HashMap::new(),
            due: BTreeSet::new(),
            max,
        }
    }

    fn remove(&mut self, address: Address) -> Option<Known> {
        let known = self.known.remove(&address)?;
        self.due.remove(&(known.due, address));
        Some(known)
    }

    /// Yields whether another entry had to give way.
    fn put(&mut self, address: Address, known: Known) -> bool {
        self.remove(address);
        let is_full = self.known.len() >= self.max;
        if is_full {
            self.make_room();
        }
        self.due.insert((known.due, address));
        self.known.insert(address, known);
        is_full
    }

    /// Of those due first the first that nobody uses gives way, else the very first.
    fn make_room(&mut self) {
        let is_idle = |(_, address): &&(Duration, Address)| {
            self.known.get(address).is_none_or(|known| !known.is_used)
        };
        let mut candidates = self.due.iter().take(CANDIDATES);
        let idle = candidates.find(is_idle).or(self.due.first()).copied();
        if let Some((_, address)) = idle {
            self.remove(address);
        }
    }

    fn move_due(&mut self, address: Address, due: Duration) {
        if let Some(known) = self.known.get_mut(&address) {
            self.due.remove(&(known.due, address));
            known.due = due;
            self.due.insert((due, address));
        }
    }

    /// The first that is due at `now`.
    fn due(&self, now: Duration) -> Option<Address> {
        let (due, address) = self.due.first()?;
        (*due <= now).then_some(*address)
    }
}

impl Cache {
    pub fn new(config: &config::Dns) -> Self {
        Self {
            hits: Shelf::new(config.hits_max),
            misses: Shelf::new(config.misses_max),
            hit_lifetime: config.hit_lifetime,
            miss_lifetime: config.miss_lifetime,
            evicted: 0,
        }
    }

    /// Whether anything is known of `address`: then it is asked for when its time comes.
    pub fn knows(&self, address: Address) -> bool {
        self.hits.known.contains_key(&address) || self.misses.known.contains_key(&address)
    }

    /// Names, and addresses without one.
    pub fn counts(&self) -> (usize, usize) {
        (self.hits.known.len(), self.misses.known.len())
    }

    /// Takes in an answer; yields whether a snapshot would look different now.
    pub fn learn(&mut self, address: Address, learned: Learned, now: Duration) -> bool {
        match learned {
            Learned::Name(name) => {
                let was_miss = self.misses.remove(address).is_some();
                let before = self.hits.remove(address).and_then(|known| known.name);
                let is_news = was_miss || before.as_ref() != Some(&name);
                let known = Known {
                    name: Some(name),
                    // Early enough for a slow answer.
                    due: now + self.hit_lifetime / 8 * 7,
                    expires: now + self.hit_lifetime,
                    is_used: false,
                    failures: 0,
                };
                let evicts = self.hits.put(address, known);
                self.evicted += u64::from(evicts);
                is_news || evicts
            }
            Learned::NoName => {
                self.hits.remove(address);
                self.miss(address, now + self.miss_lifetime)
            }
            Learned::Failed => match self.hits.known.get_mut(&address) {
                // The name stays: it was right a moment ago.
                Some(known) => {
                    let due = now + known.pause(self.hit_lifetime);
                    self.hits.move_due(address, due);
                    false
                }
                None => self.miss(address, now + FAILURE_PAUSE.min(self.miss_lifetime)),
            },
        }
    }

    fn miss(&mut self, address: Address, until: Duration) -> bool {
        let known = Known {
            name: None,
            due: until,
            expires: until,
            is_used: false,
            failures: 0,
        };
        let evicts = self.misses.put(address, known);
        self.evicted += u64::from(evicts);
        true
    }

    /// Whether there is a name of which [`Self::turn`] wants to know if somebody uses it.
    pub fn is_due(&self, now: Duration) -> bool {
        self.hits.due(now).is_some()
    }

    /// Forgets what is over and has names asked for again that are in use. While no server answers
    /// nothing is asked for, and no name forgotten. Yields whether a snapshot would look different.
    pub fn turn(
        &mut self,
        now: Duration,
        has_server: bool,
        mut on_again: impl FnMut(Address),
    ) -> bool {
        let mut is_changed = false;
        while let Some(address) = self.misses.due(now) {
            self.misses.remove(address);
            is_changed = true;
        }
        while let Some(address) = self.hits.due(now) {
            let Some(known) = self.hits.known.get_mut(&address) else {
                break;
            };
            if !has_server {
                self.hits.move_due(address, now + PATIENCE);
            } else if std::mem::take(&mut known.is_used) {
                on_again(address);
                self.hits.move_due(address, now + PATIENCE);
            } else if known.expires > now {
                let expires = known.expires;
                self.hits.move_due(address, expires);
            } else {
                self.hits.remove(address);
                is_changed = true;
            }
        }
        is_changed
    }

    /// Somebody uses the names of these.
    pub fn mark_used(&mut self, addresses: impl Iterator<Item = Address>) {
        for address in addresses {
            if let Some(known) = self.hits.known.get_mut(&address) {
                known.is_used = true;
            }
        }
    }

    /// Everything known, as it is now.
    pub fn snapshot(&self, hash: Hash) -> Hosts {
        let all = self.hits.known.iter().chain(&self.misses.known);
        let known = all.map(|(address, known)| (*address, known.name.as_deref()));
        let (hits, misses) = self.counts();
        Hosts::new(hash, hits + misses, known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn address(number: u32) -> Address {
        Address::from_v4((0x0a00_0000 + number).to_be_bytes())
    }

    fn named(name: &str) -> Learned {
        Learned::Name(name.into())
    }

    fn cache() -> Cache {
        Cache::new(&config::Dns {
            hits_max: 4,
            misses_max: 3,
            hit_lifetime: s(800),
            miss_lifetime: s(3600),
            ..config::Dns::default()
        })
    }

    fn name(cache: &Cache, number: u32) -> Option<&str> {
        cache.hits.known.get(&address(number))?.name.as_deref()
    }

    fn turn(cache: &mut Cache, now: Duration) -> Vec<Address> {
        let mut again = Vec::new();
        cache.turn(now, true, |address| again.push(address));
        again
    }

    #[test]
    fn a_name_that_nobody_uses_is_forgotten_when_its_time_is_over() {
        let mut cache = cache();
        assert!(cache.learn(address(1), named("a"), s(0)));
        assert!(turn(&mut cache, s(799)).is_empty());
        assert_eq!(name(&cache, 1), Some("a"));
        assert!(turn(&mut cache, s(800)).is_empty());
        assert!(!cache.knows(address(1)));
    }

    #[test]
    fn a_name_in_use_is_asked_for_again_early_and_stays_meanwhile() {
        let mut cache = cache();
        cache.learn(address(1), named("a"), s(0));
        cache.mark_used([address(1)].into_iter());
        assert!(turn(&mut cache, s(699)).is_empty());
        assert_eq!(turn(&mut cache, s(700)), [address(1)]);
        assert_eq!(name(&cache, 1), Some("a"));
        // The same name is no news, and has its whole time before it.
        assert!(!cache.learn(address(1), named("a"), s(701)));
        assert!(turn(&mut cache, s(1500)).is_empty());
        assert_eq!(name(&cache, 1), Some("a"));
        assert!(cache.learn(address(1), named("b"), s(1500)));
        assert_eq!(name(&cache, 1), Some("b"));
    }

    #[test]
    fn a_name_in_use_outlives_failures_and_is_asked_for_less_and_less() {
        let mut cache = cache();
        cache.learn(address(1), named("a"), s(0));
        let mut asked = Vec::new();
        for second in 0..4000 {
            cache.mark_used([address(1)].into_iter());
            for address in turn(&mut cache, s(second)) {
                asked.push(second);
                assert!(!cache.learn(address, Learned::Failed, s(second)));
            }
        }
        assert_eq!(asked, [700, 730, 790, 910, 1150, 1630, 2430, 3230]);
        assert_eq!(name(&cache, 1), Some("a"));
        // And goes when there is none any more.
        assert!(cache.learn(address(1), Learned::NoName, s(4000)));
        assert_eq!(cache.counts(), (0, 1));
    }

    #[test]
    fn no_name_is_forgotten_while_no_server_answers() {
        let mut cache = cache();
        cache.learn(address(1), named("a"), s(0));
        for second in 0..2000 {
            cache.turn(s(second), false, |_| panic!("nobody is asked"));
        }
        assert_eq!(name(&cache, 1), Some("a"));
        turn(&mut cache, s(2030));
        assert_eq!(name(&cache, 1), None);
    }

    #[test]
    fn that_there_is_no_name_is_known_long_and_a_failure_only_shortly() {
        let mut cache = cache();
        assert!(cache.learn(address(1), Learned::NoName, s(0)));
        assert!(cache.learn(address(2), Learned::Failed, s(0)));
        turn(&mut cache, s(29));
        assert!(cache.knows(address(1)) && cache.knows(address(2)));
        turn(&mut cache, s(30));
        assert!(cache.knows(address(1)) && !cache.knows(address(2)));
        turn(&mut cache, s(3600));
        assert!(!cache.knows(address(1)));
    }

    #[test]
    fn full_caches_forget_what_nobody_uses_and_keep_their_bounds() {
        let mut cache = cache();
        for number in 0..4 {
            cache.learn(address(number), named("x"), s(number.into()));
        }
        cache.mark_used([0, 1, 3].map(address).into_iter());
        cache.learn(address(9), named("y"), s(10));
        assert_eq!(name(&cache, 2), None);
        assert_eq!((name(&cache, 0), name(&cache, 9)), (Some("x"), Some("y")));
        for number in 100..1000 {
            cache.learn(address(number), named("z"), s(20));
            cache.learn(address(5000 + number), Learned::NoName, s(20));
            assert_eq!(cache.hits.known.len(), cache.hits.due.len());
        }
        assert_eq!(cache.counts(), (4, 3));
        assert_eq!(cache.misses.due.len(), 3);
        assert_eq!(cache.evicted, 1 + 900 + 897);
    }

    #[test]
    fn a_snapshot_has_everything_that_is_known() {
        let mut cache = cache();
        cache.learn(address(1), named("a"), s(0));
        cache.learn(address(2), Learned::NoName, s(0));
        let hosts = cache.snapshot(Hash::random());
        let mut ids = [0; 3];
        let mut unknown = super::super::Asker::silent();
        hosts.find_or_ask(&[1, 2, 3].map(address), &mut ids, &mut unknown);
        assert_eq!(ids.map(|id| hosts.label(id)), ["a", "", ""]);
    }
}
