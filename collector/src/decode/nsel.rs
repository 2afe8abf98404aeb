//! Cisco NSEL (ASA, FTD): which events of a connection carry its volume.
//!
//! One connection is told of several times: created, updated now and then, torn down, or denied.
//! By Cisco's guide updates tell the octets since the update before them, one more comes with the
//! teardown, and a connection shorter than the update timer has none. The teardown tells the octets
//! of the whole connection all the same. So volume is taken from updates where there are any, and
//! from the teardown of connections that had none: then the sum over the rows is what was
//! transferred, whether the exporter sends updates, teardowns or both. Every event stays a row.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::record::Extras;
use super::shared::DomainKey;
use crate::flow::Flow;

/// IE 233 as NSEL uses it.
const EVENT_TEARDOWN: u8 = 2;
const EVENT_UPDATE: u8 = 5;

/// Connections remembered that were updated and live on. A busy firewall has some 10,000 that live
/// longer than its update timer of a minute.
const CONNECTIONS_MAX: usize = 1 << 18;
const WAYS: usize = 4;
const SETS: usize = CONNECTIONS_MAX / WAYS;

/// Bytes that they take, with the first update.
pub const MEMORY_BYTES: usize = SETS * size_of::<Set>();

/// Connections of which an update told volume. Shared by all workers; nobody waits for another,
/// and 4 MiB are taken with the first update. When all places for a connection are taken, the one
/// that was silent longest is forgotten, and its teardown counts once more.
#[derive(Debug, Default)]
pub struct Updated {
    sets: OnceLock<Box<[Set]>>,
    hasher: RandomState,
}

/// Places that a connection may have.
#[derive(Debug, Default)]
struct Set([Place; WAYS]);

/// A connection by its hash, 0 is free, and when its latest update was. A reader may meet the one
/// before the other: that costs a row its exact start, nothing more.
#[derive(Debug, Default)]
struct Place {
    connection: AtomicU64,
    updated_ms: AtomicU64,
}

impl Updated {
    /// Notes an update at `at_ms`. When the one before it was, if it is known and after `begun_ms`.
    fn update(&self, connection: u64, begun_ms: u64, at_ms: u64) -> Option<u64> {
        let sets = self.sets.get_or_init(|| {
            let sets = (0..SETS).map(|_| Set::default());
            sets.collect()
        });
        let places = &sets.get(connection as usize % SETS)?.0;
        if let Some(place) = Self::find(places, connection) {
            let before_ms = place.updated_ms.swap(at_ms, Ordering::Relaxed);
            return (begun_ms..=at_ms).contains(&before_ms).then_some(before_ms);
        }
        // A free one is as old as can be.
        let oldest =
            places
                .iter()
                .min_by_key(|place| match place.connection.load(Ordering::Relaxed) {
                    0 => 0,
                    _ => place.updated_ms.load(Ordering::Relaxed),
                })?;
        oldest.updated_ms.store(at_ms, Ordering::Relaxed);
        oldest.connection.store(connection, Ordering::Relaxed);
        None
    }

    /// Forgets a connection that began at `begun_ms`; true when updates told its volume. An update
    /// before its beginning was of another that had its number.
    fn tear_down(&self, connection: u64, begun_ms: u64) -> bool {
        let set = self
            .sets
            .get()
            .and_then(|sets| sets.get(connection as usize % SETS));
        let Some(place) = set.and_then(|set| Self::find(&set.0, connection)) else {
            return false;
        };
        let updated_ms = place.updated_ms.load(Ordering::Relaxed);
        place.connection.store(0, Ordering::Relaxed);
        updated_ms >= begun_ms
    }

    fn find(places: &[Place; WAYS], connection: u64) -> Option<&Place> {
        let is_it = |place: &&Place| place.connection.load(Ordering::Relaxed) == connection;
        places.iter().find(is_it)
    }

    /// Settles the event that `flow` and the row of the other direction tell of; true when its
    /// volume was told before.
    pub fn settle(
        &self,
        key: &DomainKey,
        extras: &Extras,
        flow: &mut Flow,
        reverse: &mut Option<Flow>,
    ) -> bool {
        let event = flow.detail.firewall_event;
        if !matches!(event, EVENT_UPDATE | EVENT_TEARDOWN) {
            return false;
        }
        let connection = self.hasher.hash_one((key, extras.flow_id)) | 1;
        let (begun_ms, at_ms) = (flow.flow_start_ms, flow.flow_end_ms);
        let rows = std::iter::once(flow).chain(reverse);
        if event == EVENT_UPDATE {
            if let Some(before_ms) = self.update(connection, begun_ms, at_ms) {
                rows.for_each(|row| row.flow_start_ms = before_ms);
            }
            return false;
        }
        let is_told = self.tear_down(connection, begun_ms);
        if is_told {
            rows.for_each(|row| (row.raw_bytes, row.raw_packets) = (0, 0));
        }
        is_told
    }
}
