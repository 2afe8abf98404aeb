//! One hot exporter: a worker that gets more than it can decode hands datagrams to others.
//!
//! In: datagrams that an overloaded worker received. Out: the same, once each, at workers that have
//! time. Owner: each worker has a [`Sharing`]; they meet in bounded lock-free queues whose buffers
//! are allocated at start. Nothing is dropped here: what no other worker has room for is decoded by
//! the worker that received it.
//!
//! The kernel and the cards spread exporters over workers by address and port, so all datagrams of
//! one exporter come to one worker, however fast it sends. Receiving them stays with that worker;
//! decoding is what can be shared, as what exporters teach is known to all workers.
//!
//! **Order.** Datagrams of one exporter are decoded out of order while they are shared. Templates
//! do not suffer: only what teaches nothing is handed over (`decode::Teaching`). What follows
//! sequence numbers tolerates more disorder than this makes. Whatever else needs the order in which
//! datagrams arrived belongs to the worker that receives them, before they are handed over.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use crate::config;
use crate::receive::Datagram;
use crate::units::UnixNanos;

/// Parcels of a worker. It sleeps a millisecond at most while others are overloaded, and decodes
/// some 600 datagrams of 24 flows in that time: there is room for what it could have done, and for
/// as long again until it gets its processor.
const PARCELS: usize = 1024;
/// Longest datagram that is handed over. Exporters keep below the MTU of Ethernet; a longer
/// datagram is decoded where it was received, instead of every parcel being as long as
/// `receive.datagram_max` allows.
const PARCEL_BYTES: usize = 2048;
/// A turn with fewer datagrams found the sockets nearly empty. It is not the burst: one system call
/// on an io_uring tries a socket again 32 times at most (MULTISHOT_MAX_RETRY in the kernel's
/// io_uring/net.c), so it brings 33 of its datagrams, however many wait.
const TURN_LONG: u64 = 32;
/// A worker is overloaded after so many datagrams in long turns alone. It is eight bursts of
/// the default length: a queue that comes and goes within a few milliseconds is none.
const OVERLOADED_AFTER: u64 = 2048;
/// It stays so for this long after the last time: with a part of the datagrams gone, turns become
/// shorter at once, and that must not end it. It is twice as long as another worker may sleep, so
/// whatever was handed over is decoded before it ends.
const OVERLOADED_FOR_NS: u64 = 200_000_000;
/// Longest wait for a datagram while somebody is overloaded: nobody wakes a worker for a parcel.
/// One that sleeps already begins to help after its longest wait.
const NAP_MAX: Duration = Duration::from_millis(1);
/// How long a worker lets others finish what they have begun to decode, where that matters. They
/// need 100 microseconds; much longer only without their processor.
const FINISH_MAX: Duration = Duration::from_millis(100);
/// Parcels that a worker decodes in a turn: some 100 microseconds, for which its own sockets wait.
const PARCELS_A_TURN: usize = 64;

/// A datagram on its way from one worker to another.
#[derive(Debug)]
struct Parcel {
    source: IpAddr,
    source_port: u16,
    local_port: u16,
    received: UnixNanos,
    /// Has room for [`PARCEL_BYTES`] from the start.
    payload: Vec<u8>,
}

/// Where parcels for one worker lie.
#[derive(Debug)]
struct Inbox {
    filled: ArrayQueue<Parcel>,
    /// With those in `filled` and those in hand always [`PARCELS`].
    empty: ArrayQueue<Parcel>,
    /// The worker can take more than its sockets bring.
    is_open: AtomicBool,
    /// The worker has a parcel in hand, of whatever inbox, or is about to.
    is_taking: AtomicBool,
}

/// What the workers of a collector have in common.
#[derive(Debug)]
struct Exchange {
    inboxes: Box<[CachePadded<Inbox>]>,
    /// Workers that are overloaded.
    overloaded: CachePadded<AtomicUsize>,
    /// Workers that may still hand something over.
    lenders: CachePadded<AtomicUsize>,
}

/// A worker's part in it.
#[derive(Debug)]
pub struct Sharing {
    worker: usize,
    exchange: Arc<Exchange>,
    /// Datagrams that make a turn a long one.
    turn_long: u64,
    /// Datagrams taken in long turns since the last short one.
    in_long_turns: u64,
    /// Until then this worker is overloaded.
    until: UnixNanos,
    is_overloaded: bool,
    has_stopped: bool,
    /// No other worker hands anything over any more.
    is_last: bool,
    /// Workers that have time, looked up once a turn.
    helpers: Vec<usize>,
    /// Whose turn it is: an index into `helpers`, and behind the last one this worker.
    next: usize,
}

/// True when `workers` workers share datagrams by this configuration.
#[must_use]
pub const fn is_on(workers: usize, config: &config::Receive) -> bool {
    config.share && workers > 1
}

/// A part for each of `workers` workers, or `None` for each.
#[must_use]
pub fn among(workers: usize, config: &config::Receive) -> Vec<Option<Sharing>> {
    if !is_on(workers, config) {
        return (0..workers).map(|_| None).collect();
    }
    let exchange = Arc::new(Exchange {
        inboxes: (0..workers).map(|_| CachePadded::default()).collect(),
        overloaded: CachePadded::default(),
        lenders: CachePadded::new(AtomicUsize::new(workers)),
    });
    let part = |worker| Sharing {
        worker,
        exchange: Arc::clone(&exchange),
        turn_long: TURN_LONG.min(config.burst as u64),
        in_long_turns: 0,
        until: UnixNanos::default(),
        is_overloaded: false,
        has_stopped: false,
        is_last: false,
        helpers: Vec::with_capacity(workers),
        next: 0,
    };
    (0..workers).map(|worker| Some(part(worker))).collect()
}

/// Memory that the parcels of one worker take, in bytes.
#[must_use]
pub const fn memory_bytes() -> usize {
    // A slot of a queue has a stamp beside its parcel, and there are two queues.
    PARCELS * (PARCEL_BYTES + 2 * (size_of::<Parcel>() + size_of::<usize>()))
}

impl Sharing {
    /// True when this worker has more datagrams than time.
    #[must_use]
    #[inline]
    pub fn is_overloaded(&self) -> bool {
        self.is_overloaded
    }

    /// How long this worker may wait for a datagram of its own, `longest` at most.
    #[must_use]
    #[inline]
    pub fn patience(&self, longest: Duration) -> Duration {
        if !self.inbox().filled.is_empty() {
            return Duration::ZERO;
        }
        match self.exchange.overloaded.load(Ordering::Relaxed) {
            0 => longest,
            _ => longest.min(NAP_MAX),
        }
    }

    /// Hands `datagram` to another worker. False when it stays here: because it is this worker's
    /// turn, which keeps one of as many datagrams as have time for them, or for want of room.
    pub fn lend(&mut self, datagram: &Datagram<'_>) -> bool {
        if datagram.payload.len() > PARCEL_BYTES || datagram.cut {
            return false;
        }
        let turn = self.next;
        self.next = (turn + 1) % (self.helpers.len() + 1);
        let Some(helper) = self.helpers.get(turn) else {
            return false;
        };
        let inbox = &self.exchange.inboxes[*helper];
        let Some(mut parcel) = inbox.empty.pop() else {
            return false;
        };
        parcel.fill(datagram);
        inbox.post(parcel);
        true
    }

    /// Takes what others handed over, as much as is good for one turn.
    #[inline]
    pub fn take(&self, on_datagram: impl FnMut(&Datagram<'_>)) {
        if !self.inbox().filled.is_empty() {
            self.take_of(self.inbox(), PARCELS_A_TURN, on_datagram);
        }
    }

    /// Takes back what other workers have not begun to decode, from whomever it came, and waits
    /// until they have decoded the rest. It is the one place where a worker waits for others, and
    /// an exporter that changes a template while it overloads its worker the one reason.
    #[cold]
    pub fn take_back(&self, on_datagram: impl FnMut(&Datagram<'_>)) {
        self.take_all(on_datagram);
        let begun = Instant::now();
        let is_taking = |inbox: &CachePadded<Inbox>| inbox.is_taking.load(Ordering::SeqCst);
        while self.exchange.inboxes.iter().any(is_taking) && begun.elapsed() < FINISH_MAX {
            std::thread::yield_now();
        }
    }

    /// Once a turn, which took `taken` datagrams from the sockets: decides whether this worker is
    /// overloaded, and looks who has time.
    #[inline]
    pub fn turn(&mut self, taken: u64, now: UnixNanos) {
        if taken < self.turn_long {
            self.in_long_turns = 0;
        } else {
            self.in_long_turns += taken;
        }
        let is_new = self.in_long_turns >= OVERLOADED_AFTER;
        if (is_new || self.is_overloaded) && !self.has_stopped {
            self.busy_turn(is_new, now);
        }
    }

    /// This worker hands nothing over from now on, and wants nothing new.
    pub fn stop(&mut self) {
        if self.has_stopped {
            return;
        }
        self.has_stopped = true;
        self.set_overloaded(false);
        self.inbox().is_open.store(false, Ordering::Relaxed);
        // Acquires what all others posted before they said the same.
        self.is_last = self.exchange.lenders.fetch_sub(1, Ordering::AcqRel) == 1;
    }

    /// After [`Sharing::stop`]: takes all that lies here. What others post later the last of them
    /// takes, from all inboxes, so nobody has to wait for another.
    pub fn take_rest(&self, mut on_datagram: impl FnMut(&Datagram<'_>)) {
        self.take_of(self.inbox(), PARCELS, &mut on_datagram);
        if self.is_last {
            self.take_all(on_datagram);
        }
    }

    fn take_all(&self, mut on_datagram: impl FnMut(&Datagram<'_>)) {
        for inbox in &self.exchange.inboxes {
            self.take_of(inbox, PARCELS, &mut on_datagram);
        }
    }

    fn take_of(&self, inbox: &Inbox, limit: usize, mut on_datagram: impl FnMut(&Datagram<'_>)) {
        let is_taking = &self.inbox().is_taking;
        // Before the first parcel is gone from the queue: who finds none there looks here next.
        is_taking.store(true, Ordering::SeqCst);
        for _ in 0..limit {
            let Some(parcel) = inbox.filled.pop() else {
                break;
            };
            on_datagram(&parcel.datagram());
            inbox.give_back(parcel);
        }
        is_taking.store(false, Ordering::Release);
    }

    #[cold]
    fn busy_turn(&mut self, is_new: bool, now: UnixNanos) {
        if is_new {
            self.until = UnixNanos(now.0.saturating_add(OVERLOADED_FOR_NS));
        }
        // A clock that was set back ends it too.
        let left_ns = self.until.0.saturating_sub(now.0);
        self.set_overloaded(0 < left_ns && left_ns <= OVERLOADED_FOR_NS);
        let Self {
            worker,
            exchange,
            helpers,
            ..
        } = self;
        helpers.clear();
        let inboxes = exchange.inboxes.iter().enumerate();
        let have_time = inboxes.filter(|(other, inbox)| *other != *worker && inbox.has_time());
        helpers.extend(have_time.map(|(other, _)| other));
    }

    fn set_overloaded(&mut self, is_overloaded: bool) {
        if self.is_overloaded == is_overloaded {
            return;
        }
        self.is_overloaded = is_overloaded;
        self.inbox()
            .is_open
            .store(!is_overloaded, Ordering::Relaxed);
        let overloaded = &self.exchange.overloaded;
        match is_overloaded {
            true => overloaded.fetch_add(1, Ordering::Relaxed),
            false => overloaded.fetch_sub(1, Ordering::Relaxed),
        };
    }

    #[inline]
    fn inbox(&self) -> &Inbox {
        &self.exchange.inboxes[self.worker]
    }
}

impl Default for Inbox {
    fn default() -> Self {
        let inbox = Self {
            filled: ArrayQueue::new(PARCELS),
            empty: ArrayQueue::new(PARCELS),
            is_open: AtomicBool::new(true),
            is_taking: AtomicBool::new(false),
        };
        for _ in 0..PARCELS {
            inbox.give_back(Parcel::new());
        }
        inbox
    }
}

impl Inbox {
    fn has_time(&self) -> bool {
        self.is_open.load(Ordering::Relaxed) && !self.empty.is_empty()
    }

    fn post(&self, parcel: Parcel) {
        let posted = self.filled.push(parcel);
        posted.expect("the queue has room for all parcels there are");
    }

    fn give_back(&self, parcel: Parcel) {
        let given = self.empty.push(parcel);
        given.expect("the queue has room for all parcels there are");
    }
}

impl Parcel {
    fn new() -> Self {
        Self {
            source: Ipv4Addr::UNSPECIFIED.into(),
            source_port: 0,
            local_port: 0,
            received: UnixNanos::default(),
            payload: Vec::with_capacity(PARCEL_BYTES),
        }
    }

    fn fill(&mut self, datagram: &Datagram<'_>) {
        self.source = datagram.source;
        self.source_port = datagram.source_port;
        self.local_port = datagram.local_port;
        self.received = datagram.received;
        self.payload.clear();
        self.payload.extend_from_slice(datagram.payload);
    }

    fn datagram(&self) -> Datagram<'_> {
        Datagram {
            source: self.source,
            source_port: self.source_port,
            local_port: self.local_port,
            received: self.received,
            payload: &self.payload,
            cut: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread;

    use super::*;

    const NOW: UnixNanos = UnixNanos(1_800_000_000_000_000_000);

    fn shared() -> config::Receive {
        config::Receive {
            share: true,
            ..config::Receive::default()
        }
    }

    fn parts(workers: usize) -> Vec<Sharing> {
        among(workers, &shared()).into_iter().flatten().collect()
    }

    fn datagram(payload: &[u8]) -> Datagram<'_> {
        Datagram {
            source: Ipv4Addr::new(192, 0, 2, 1).into(),
            source_port: 50_000,
            local_port: 2055,
            received: NOW,
            payload,
            cut: false,
        }
    }

    fn overload(sharing: &mut Sharing) {
        sharing.turn(OVERLOADED_AFTER, NOW);
        assert!(sharing.is_overloaded());
    }

    /// How many of `count` datagrams are handed over.
    fn lent(sharing: &mut Sharing, count: usize) -> usize {
        let lend = |_: &usize| sharing.lend(&datagram(b"x"));
        (0..count).filter(lend).count()
    }

    #[test]
    fn a_worker_that_is_alone_or_shall_not_share_has_no_part() {
        let mut config = shared();
        assert!(among(1, &config).iter().all(Option::is_none));
        config.share = false;
        assert_eq!(among(3, &config).iter().filter(|s| s.is_none()).count(), 3);
    }

    #[test]
    fn long_turns_alone_make_a_worker_overloaded_and_one_short_turn_begins_anew() {
        let [mut busy, _] = <[Sharing; 2]>::try_from(parts(2)).unwrap();
        let turns = OVERLOADED_AFTER / TURN_LONG;
        for _ in 0..3 {
            (1..turns).for_each(|_| busy.turn(TURN_LONG, NOW));
            assert!(!busy.is_overloaded());
            busy.turn(TURN_LONG - 1, NOW);
        }
        assert_eq!(lent(&mut busy, 10), 0);
        (0..turns).for_each(|_| busy.turn(TURN_LONG, NOW));
        assert!(busy.is_overloaded());
    }

    #[test]
    fn an_overload_outlasts_short_turns_but_not_for_long() {
        let [mut busy, other] = <[Sharing; 2]>::try_from(parts(2)).unwrap();
        let long = Duration::from_secs(1);
        assert_eq!(other.patience(long), long);
        overload(&mut busy);
        assert_eq!(other.patience(long), NAP_MAX);
        busy.turn(1, UnixNanos(NOW.0 + OVERLOADED_FOR_NS - 1));
        assert!(busy.is_overloaded());
        busy.turn(1, UnixNanos(NOW.0 + OVERLOADED_FOR_NS));
        assert!(!busy.is_overloaded());
        assert_eq!(other.patience(long), long);
    }

    #[test]
    fn a_worker_keeps_one_share_of_as_many_as_have_time() {
        let mut parts = parts(5);
        overload(&mut parts[4]);
        overload(&mut parts[0]);
        // Three of five have time.
        assert_eq!(lent(&mut parts[0], 400), 300);
        let waiting = |part: &Sharing| part.inbox().filled.len();
        let waiting: Vec<_> = parts.iter().map(waiting).collect();
        assert_eq!(waiting, [0, 100, 100, 100, 0]);
        assert_eq!(parts[1].patience(NAP_MAX), Duration::ZERO);
    }

    #[test]
    fn what_is_too_long_or_finds_no_room_stays() {
        let [mut busy, other] = <[Sharing; 2]>::try_from(parts(2)).unwrap();
        overload(&mut busy);
        assert!(!busy.lend(&datagram(&[0; PARCEL_BYTES + 1])));
        assert_eq!(lent(&mut busy, 10 * PARCELS), PARCELS);
        let mut taken = 0;
        other.take(|_| taken += 1);
        assert_eq!(taken, PARCELS_A_TURN);
        assert_eq!(lent(&mut busy, 10 * PARCELS), PARCELS_A_TURN);
    }

    #[test]
    fn a_datagram_comes_out_as_it_went_in() {
        let [mut busy, other] = <[Sharing; 2]>::try_from(parts(2)).unwrap();
        overload(&mut busy);
        for payload in [&[7; PARCEL_BYTES][..], &[], b"short"] {
            assert!(busy.lend(&datagram(payload)));
            let mut taken = Vec::new();
            other.take(|d| taken.push(format!("{d:?}")));
            assert_eq!(taken, [format!("{:?}", datagram(payload))]);
            assert!(!busy.lend(&datagram(payload)), "its own share");
        }
    }

    #[test]
    fn the_last_to_stop_takes_what_came_for_those_that_stopped_before() {
        let mut parts = parts(3);
        overload(&mut parts[0]);
        parts[1].stop();
        parts[1].take_rest(|_| panic!("nothing came yet"));
        // What follows was looked up before the others stopped.
        assert_eq!(lent(&mut parts[0], 9), 6);
        parts[2].stop();
        let count = |part: &Sharing| {
            let mut taken = 0;
            part.take_rest(|_| taken += 1);
            taken
        };
        assert_eq!(count(&parts[2]), 3);
        parts[0].stop();
        assert_eq!(count(&parts[0]), 3);
        parts[0].turn(OVERLOADED_AFTER, NOW);
        assert!(!parts[0].is_overloaded(), "a stopped worker lends no more");
    }

    #[test]
    fn nothing_is_lost_and_nothing_comes_twice_while_all_threads_lend_take_and_stop() {
        const EACH: u32 = 30_000;
        let parts = parts(4);
        let seen = Mutex::new(vec![0_u8; 4 * EACH as usize]);
        let note = |datagram: &Datagram<'_>| {
            let number = datagram.payload.try_into().map(u32::from_be_bytes);
            seen.lock().unwrap()[number.unwrap() as usize] += 1;
        };
        thread::scope(|scope| {
            for (worker, mut part) in parts.into_iter().enumerate() {
                scope.spawn(move || {
                    // One has little to do and stops early, with its inbox full.
                    let each = if worker == 3 { EACH / 10 } else { EACH };
                    let first = worker as u32 * EACH;
                    for number in first..first + each {
                        // All others look as if they had time.
                        part.helpers = (0..4).filter(|other| *other != worker).collect();
                        let payload = number.to_be_bytes();
                        if !part.lend(&datagram(&payload)) {
                            note(&datagram(&payload));
                        }
                        if number % 200 == 0 {
                            part.take(note);
                        }
                        if number % 5000 == 0 {
                            part.take_back(note);
                        }
                    }
                    part.stop();
                    part.take_rest(note);
                });
            }
        });
        let seen = seen.into_inner().unwrap();
        let (all, few) = seen.split_at(3 * EACH as usize);
        assert!(all.iter().all(|times| *times == 1));
        let (sent, unsent) = few.split_at(EACH as usize / 10);
        assert!(sent.iter().all(|times| *times == 1));
        assert!(unsent.iter().all(|times| *times == 0));
    }
}
