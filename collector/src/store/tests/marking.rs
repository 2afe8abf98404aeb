//! What enrichment says of rows, put in on their way to the encoder.

use std::net::Ipv4Addr;

use super::*;
use crate::enrich::exporters::ExporterLabels;
use crate::enrich::{Published, Tables};
use crate::flow::Address;

const EXPORTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Tables that call the exporter so.
fn tables(name: &str) -> Tables {
    let labels = config::ExporterLabels {
        source: std::net::IpAddr::from(EXPORTER).into(),
        name: name.into(),
        group: String::new(),
        site: String::new(),
        region: String::new(),
        role: String::new(),
        tenant: String::new(),
        applications: config::ApplicationType::default(),
    };
    let known = [Address::from(EXPORTER)];
    Tables {
        exporters: Arc::new(ExporterLabels::build(&[labels], &known, |_| None)),
        ..Tables::default()
    }
}

/// One whose rows are marked by what is published; blocks are as they are.
fn rig(target: Scripted, published: &Arc<Published>) -> Rig {
    let batch = config::Batch {
        rows_max: ROWS_MAX,
        per_worker: 3,
        ..config::Batch::default()
    };
    let target = Arc::new(target);
    let config = config::Store {
        compression: config::Compression::None,
        inserts: 1,
        stop_timeout: Duration::from_millis(300),
        ..config::Store::default()
    };
    let ledger = Ledger::new(1);
    let (insert, counts) = (Box::new(Arc::clone(&target)), Arc::clone(&ledger.store));
    let (mut store, mut queues) = Store::start_with(insert, &config, counts, 1, &batch);
    let enricher = Enricher::new(Arc::clone(published), None, false);
    store.enrich(&mut queues, enricher);
    Rig {
        batcher: Batcher::new(&batch, queues.remove(0)),
        target,
        ledger,
        store,
        counts: WorkerCounts::default(),
    }
}

fn add(rig: &mut Rig, flows: usize) {
    let flow = Flow {
        exporter_addr: EXPORTER.into(),
        ..Flow::EMPTY
    };
    rig.decoded(flows);
    rig.batcher
        .add(&vec![flow; flows], UnixNanos(1), &mut rig.counts);
    rig.publish();
}

fn holds((_, block, _): &Call, name: &str) -> bool {
    block
        .windows(name.len())
        .any(|part| part == name.as_bytes())
}

#[tokio::test]
async fn a_batch_is_marked_with_the_newest_tables_and_comes_back() {
    let published = Arc::new(Published::default());
    let mut rig = rig(Scripted::default(), &published);
    for (n, name) in ["first", "second", "third", "fourth"].iter().enumerate() {
        published.publish(tables(name));
        add(&mut rig, ROWS_MAX);
        let rows = (n + 1) * ROWS_MAX;
        rig.until("the batch is stored", |rig| rig.stored() == rows as u64)
            .await;
        let call = rig.calls().pop().unwrap();
        assert!(holds(&call, &format!("{name}\t")), "{name}");
    }
    rig.until("all batches are back", |rig| {
        rig.batcher.batches_free() == 3
    })
    .await;
    assert_eq!(rig.end().await, (4 * ROWS_MAX as u64, 0));
}

#[tokio::test]
async fn a_stop_stores_what_is_still_to_be_marked() {
    let published = Arc::new(Published::default());
    published.publish(tables("one"));
    let mut rig = rig(Scripted::default(), &published);
    // On this runtime of one thread no task has run yet.
    add(&mut rig, 2 * ROWS_MAX + 1);
    let target = Arc::clone(&rig.target);
    assert_eq!(rig.end().await, (2 * ROWS_MAX as u64 + 1, 0));
    let calls = target.calls.lock().unwrap();
    assert!(calls.iter().all(|call| holds(call, "one\t")));
}

#[tokio::test]
async fn a_stop_without_an_answer_ends_and_counts_what_was_marked_and_what_was_not() {
    let published = Arc::new(Published::default());
    let silent = Scripted {
        silent: true,
        ..Scripted::default()
    };
    let mut rig = rig(silent, &published);
    add(&mut rig, 2 * ROWS_MAX + 1);
    assert_eq!(rig.end().await, (0, 2 * ROWS_MAX as u64 + 1));
}

#[tokio::test]
async fn an_idle_store_lets_older_tables_go() {
    let published = Arc::new(Published::default());
    let before = tables("before");
    let older = Arc::downgrade(&before.exporters);
    published.publish(before);
    let mut rig = rig(Scripted::default(), &published);
    add(&mut rig, ROWS_MAX);
    rig.until("the batch is back", |rig| rig.batcher.batches_free() == 3)
        .await;
    published.publish(tables("now"));
    rig.until("nobody has them", |_| older.upgrade().is_none())
        .await;
    assert_eq!(rig.end().await, (ROWS_MAX as u64, 0));
}
