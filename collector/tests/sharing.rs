//! A worker that gets more than it can decode, and one that helps: whole workers, no sockets.

mod messages;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use flowsluice::batch::Batcher;
use flowsluice::config;
use flowsluice::decode::{Decoder, Shared, Teaching};
use flowsluice::ledger::{DropReason, Ledger, LedgerSnapshot};
use flowsluice::receive::{Datagram, Receive};
use flowsluice::store::{Null, Store};
use flowsluice::worker::Worker;
use flowsluice::worker::sharing::{Sharing, among};
use messages::{
    Bench, RECEIVED, TWENTY_FIELDS, datagram, ipfix, netflow1, netflow5, netflow7, netflow9,
    options_template_v9, set, sflow5, template, twenty_field_records,
};

const BURST: usize = 256;

/// Stands for sockets that are always full until they have nothing any more.
struct Flood<'a> {
    datagrams: std::vec::IntoIter<Vec<u8>>,
    is_over: &'a AtomicBool,
}

impl Receive for Flood<'_> {
    fn receive(
        &mut self,
        timeout: Duration,
        on_datagram: &mut impl FnMut(&Datagram<'_>),
    ) -> io::Result<()> {
        for payload in self.datagrams.by_ref().take(BURST) {
            on_datagram(&datagram(&payload));
        }
        if self.datagrams.len() == 0 {
            self.is_over.store(true, Ordering::Relaxed);
            thread::sleep(timeout.min(Duration::from_millis(1)));
        }
        Ok(())
    }

    fn kernel_drops(&mut self) -> u64 {
        0
    }
}

/// Stands for sockets that nobody sends to; `waits` takes each timeout.
struct Silence<W>(W);

impl<W: FnMut(Duration) -> io::Result<()>> Receive for Silence<W> {
    fn receive(&mut self, timeout: Duration, _: &mut impl FnMut(&Datagram<'_>)) -> io::Result<()> {
        (self.0)(timeout)
    }

    fn kernel_drops(&mut self) -> u64 {
        0
    }
}

/// Runs a worker that gets `datagrams` as fast as it takes them beside one whose sockets wait as
/// `waits` does, and stops both when the first has received all.
fn flood(
    datagrams: Vec<Vec<u8>>,
    waits: impl FnMut(Duration) -> io::Result<()> + Send,
) -> LedgerSnapshot {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let ledger = Ledger::new(2);
    let batch = config::Batch::default();
    let (store, queues) = {
        let _inside = runtime.enter();
        let (config, counts) = (config::Store::default(), Arc::clone(&ledger.store));
        Store::start_with(Box::new(Null), &config, counts, 2, &batch)
    };
    let shared = Arc::<Shared>::default();
    let mut queues = queues.into_iter();
    let mut parts = among(2, &sharing_config()).into_iter();
    let mut stages = |index| {
        let decoder = Decoder::new(&config::Decode::default(), &[], Arc::clone(&shared));
        let batcher = Batcher::new(&batch, queues.next().unwrap());
        let part = parts.next().unwrap();
        (decoder, batcher, ledger.worker(index), part)
    };
    let stop = AtomicBool::new(false);
    let flood = Flood {
        datagrams: datagrams.into_iter(),
        is_over: &stop,
    };
    thread::scope(|scope| {
        let (decoder, batcher, ledger, part) = stages(0);
        let busy = Worker::new(flood, decoder, batcher, ledger).sharing(part);
        let (decoder, batcher, ledger, part) = stages(1);
        let idle = Worker::new(Silence(waits), decoder, batcher, ledger).sharing(part);
        scope.spawn(|| idle.run(&stop));
        scope.spawn(|| busy.run(&stop).unwrap());
    });
    runtime.block_on(store.stop());
    ledger.snapshot()
}

fn nap(timeout: Duration) -> io::Result<()> {
    thread::sleep(timeout);
    Ok(())
}

/// A template, then data of it.
fn v9(datagrams: usize) -> Vec<Vec<u8>> {
    let mut all = vec![netflow9(&[set(0, &template(256, &TWENTY_FIELDS))])];
    let data = netflow9(&[set(256, &twenty_field_records(20))]);
    all.resize(datagrams, data);
    all
}

fn assert_whole(snapshot: &LedgerSnapshot, datagrams: u64) {
    let total = &snapshot.total;
    assert_eq!(snapshot.unaccounted(), 0, "{snapshot:?}");
    assert_eq!(total.datagrams_received, datagrams);
    assert_eq!(total.datagrams_decoded, datagrams);
    assert_eq!(total.datagrams_taken_over, total.datagrams_lent);
    assert_eq!(snapshot.dropped(DropReason::TemplateMissing), 0);
}

fn sharing_config() -> config::Receive {
    config::Receive {
        share: true,
        ..config::Receive::default()
    }
}

#[test]
fn an_idle_worker_decodes_a_part_of_what_a_busy_one_gets_and_finds_its_templates() {
    let snapshot = flood(v9(60_000), nap);
    assert_whole(&snapshot, 60_000);
    assert_eq!(snapshot.total.flows_decoded, 59_999 * 20);
    let [busy, idle] = &snapshot.workers[..] else {
        panic!("there are two workers");
    };
    assert!(busy.datagrams_lent > 0, "{busy:?}");
    // The last to stop takes back what the other had not begun.
    let helped = idle.datagrams_taken_over;
    assert_eq!(busy.datagrams_lent, helped + busy.datagrams_taken_over);
    assert!(helped > 0 && helped == idle.datagrams_received, "{idle:?}");
    assert_eq!(idle.datagrams_lent, 0);
}

#[test]
fn a_stop_with_a_full_inbox_loses_nothing() {
    // It sleeps through all of it, as it may when it slept already.
    let snapshot = flood(v9(6_000), |_| nap(Duration::from_millis(300)));
    assert_whole(&snapshot, 6_000);
    assert!(snapshot.total.datagrams_lent >= 1000, "{snapshot:?}");
}

#[test]
fn what_was_handed_to_a_worker_that_gave_up_is_decoded_at_the_stop() {
    let mut waited = false;
    let snapshot = flood(v9(30_000), |_| {
        if waited {
            return Err(io::Error::other("its sockets are gone"));
        }
        waited = true;
        nap(Duration::from_millis(20))
    });
    assert_whole(&snapshot, 30_000);
}

#[test]
fn a_template_with_another_meaning_is_learned_after_the_data_of_the_old_one() {
    // A datagram of the one meaning read with the other would be two records, or none.
    let meanings = [&[(1, 4)][..], &[(1, 4), (2, 4)]];
    let mut datagrams = Vec::new();
    for number in 0..400 {
        let fields = meanings[number % 2];
        datagrams.push(netflow9(&[set(0, &template(256, fields))]));
        let data = netflow9(&[set(256, &vec![1; fields.len() * 4])]);
        datagrams.extend(std::iter::repeat_n(data, 150));
    }
    let count = datagrams.len() as u64;
    let snapshot = flood(datagrams, |_| nap(Duration::from_micros(100)));
    assert_whole(&snapshot, count);
    assert!(snapshot.total.datagrams_lent > 0);
    assert_eq!(snapshot.total.records_decoded, 400 * 150);
    assert_eq!(snapshot.total.templates_learned, 400);
}

#[test]
fn a_datagram_handed_over_finds_the_template_that_was_learned_just_before() {
    let shared = Arc::<Shared>::default();
    let bench = || Bench::with(&config::Decode::default(), Arc::clone(&shared));
    let (mut lender, mut helper) = (bench(), bench());
    let mut parts = among(2, &sharing_config()).into_iter().flatten();
    let (mut lends, takes): (Sharing, Sharing) = (parts.next().unwrap(), parts.next().unwrap());
    lends.turn(1 << 20, RECEIVED);
    // The helper has been there before, and knows another template.
    helper.decode(&netflow9(&[set(0, &template(999, &TWENTY_FIELDS))]));
    let Bench {
        decoder,
        counts,
        rows,
    } = &mut lender;
    let learns = netflow9(&[set(0, &template(256, &TWENTY_FIELDS))]);
    decoder.decode(&datagram(&learns), counts, rows);
    let data = netflow9(&[set(256, &twenty_field_records(3))]);
    assert_eq!(decoder.teaching(&datagram(&data)), Teaching::Nothing);
    assert!(lends.lend(&datagram(&data)));
    let Bench {
        decoder,
        counts,
        rows,
    } = &mut helper;
    takes.take(|datagram| {
        decoder.take_over();
        decoder.decode(datagram, counts, rows);
    });
    assert_eq!(rows.0.len(), 3);
    assert_eq!(counts.dropped(DropReason::TemplateMissing), 0);
}

#[test]
fn only_what_teaches_nothing_can_be_decoded_anywhere() {
    let mut bench = Bench::new();
    let known = netflow9(&[
        set(0, &template(256, &TWENTY_FIELDS)),
        set(1, &options_template_v9(300, &[(1, 4)], &[(34, 4)])),
    ]);
    let known_ipfix = ipfix(&[set(2, &template(256, &[(1, 4)]))]);
    let first = [
        known.clone(),
        known_ipfix.clone(),
        netflow1(1, 1),
        netflow5(1, 1, 0),
        netflow7(1, 1),
        sflow5(1),
    ];
    for payload in &first {
        let teaching = bench.decoder.teaching(&datagram(payload));
        assert_eq!(teaching, Teaching::Something, "of an exporter not seen yet");
        bench.decode(payload);
    }
    let data = set(256, &twenty_field_records(1));
    let cases = [
        (known, Teaching::Nothing),
        (netflow9(std::slice::from_ref(&data)), Teaching::Nothing),
        (netflow1(1, 1), Teaching::Nothing),
        (netflow5(1, 1, 0), Teaching::Nothing),
        (netflow7(1, 1), Teaching::Nothing),
        (sflow5(1), Teaching::Nothing),
        (known_ipfix, Teaching::Nothing),
        (
            netflow9(&[data.clone(), set(300, &[0; 8])]),
            Teaching::Something,
        ),
        (
            netflow9(&[set(257, &[0; 4]), data.clone()]),
            Teaching::Something,
        ),
        (
            netflow9(&[set(0, &template(257, &[(1, 4)]))]),
            Teaching::Something,
        ),
        (
            netflow9(&[set(0, &template(256, &[(1, 4)])), data]),
            Teaching::OtherMeaning,
        ),
        (
            ipfix(&[set(2, &template(256, &[]))]),
            Teaching::OtherMeaning,
        ),
        (ipfix(&[set(2, &template(2, &[]))]), Teaching::OtherMeaning),
        (ipfix(&[set(2, &template(999, &[]))]), Teaching::Nothing),
        (ipfix(&[set(256, &[0; 4])]).repeat(2), Teaching::Something),
        (vec![0xff; 40], Teaching::Something),
    ];
    for (number, (payload, expected)) in cases.iter().enumerate() {
        let teaching = bench.decoder.teaching(&datagram(payload));
        assert_eq!(teaching, *expected, "case {number}");
    }
}
