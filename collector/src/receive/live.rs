//! What a reload replaces while others follow it.
//!
//! In: a new value, from whoever reads the configuration again. Out: a copy of it, to each follower
//! once. Owner: shared; a follower locks only when there is something new.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A value that is in force until the next one.
#[derive(Debug, Default)]
pub struct Live<T> {
    /// Moves on with each replacement.
    version: AtomicU64,
    value: Mutex<T>,
}

impl<T: Clone> Live<T> {
    /// One that begins with `value`.
    #[must_use]
    pub fn new(value: T) -> Arc<Self> {
        Arc::new(Self {
            version: AtomicU64::new(1),
            value: Mutex::new(value),
        })
    }

    /// From here on it is this.
    pub fn replace(&self, value: T) {
        *self.value() = value;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// What it is at this moment.
    #[must_use]
    pub fn get(&self) -> T {
        self.value().clone()
    }

    /// It is replaced whole, whoever panicked.
    fn value(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How somebody follows it.
#[derive(Clone, Debug, Default)]
pub struct Watch<T> {
    live: Arc<Live<T>>,
    version: u64,
}

impl<T: Clone> Watch<T> {
    /// Of one that has seen nothing of it yet.
    #[must_use]
    pub fn new(live: &Arc<Live<T>>) -> Self {
        Self {
            live: Arc::clone(live),
            version: 0,
        }
    }

    /// What it is since the last call; `None`, after one load, where it is as it was.
    #[inline]
    pub fn news(&mut self) -> Option<T> {
        let version = self.live.version.load(Ordering::Acquire);
        if version == self.version {
            return None;
        }
        self.version = version;
        Some(self.live.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_follower_is_told_once_of_each_value() {
        let live = Live::new(1);
        let (mut one, mut other) = (Watch::new(&live), Watch::new(&live));
        assert_eq!((one.news(), one.news()), (Some(1), None));
        live.replace(2);
        live.replace(3);
        assert_eq!((one.news(), one.news()), (Some(3), None));
        assert_eq!((other.news(), other.news()), (Some(3), None));
        assert_eq!(live.get(), 3);
        assert_eq!(Watch::<u32>::default().news(), None);
    }
}
