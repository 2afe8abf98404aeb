//! Blocks that wait on the disk.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::config::SpoolMode;
use crate::store::spool::{Kind, files, quarantine, read_header};

/// Everything but the folder as the configuration has it.
fn config_on(folder: &Path, mode: SpoolMode) -> config::Store {
    config::Store {
        spool: config::Spool {
            dir: folder.to_owned(),
            mode,
            ..config::Spool::default()
        },
        ..config::Store::default()
    }
}

/// A worker, a store on a scripted target with room for one block in memory, and a spool.
fn rig(target: Scripted, config: &config::Store) -> Rig {
    rig_adapted(target, config, |_| {})
}

/// The same, with more that is as a test wants it.
fn rig_adapted(
    target: Scripted,
    config: &config::Store,
    adapt: impl FnOnce(&mut config::Store),
) -> Rig {
    let ledger = Ledger::new(1);
    let counts = Arc::clone(&ledger.store);
    let spool = Spool::open(config, counts).unwrap();
    assert!(spool.is_some());
    Rig::on(target, ledger, spool, |store| {
        store.queue_max = ByteSize::b(1);
        adapt(store);
    })
}

fn silent() -> Scripted {
    Scripted {
        silent: true,
        ..Scripted::default()
    }
}

fn away() -> Scripted {
    Scripted {
        away: true.into(),
        ..Scripted::default()
    }
}

fn names(folder: &Path) -> Vec<(u64, Kind)> {
    let files = files(folder).unwrap().into_iter();
    files.map(|(number, kind, _)| (number, kind)).collect()
}

impl Rig {
    /// Adds `blocks` full blocks, each when the one before it has its place.
    async fn add_blocks(&mut self, blocks: usize) {
        for _ in 0..blocks {
            self.add(ROWS_MAX);
            self.until("the block has its place", Self::batcher_is_whole)
                .await;
            let encoded = self.counts.flows_batched / ROWS_MAX as u64;
            self.until("the block is made", |rig| {
                rig.ledger.store.blocks_encoded.load(Ordering::Relaxed) == encoded
            })
            .await;
        }
    }

    fn spooled(&self) -> u64 {
        self.ledger.snapshot().store.flows_spooled
    }

    async fn until_stored(&self, flows: usize) {
        self.until("stored", |rig| rig.stored() == flows as u64)
            .await;
    }
}

/// Ends a rig whose worker has handed everything over; yields the ledger.
async fn ended(mut rig: Rig) -> crate::ledger::LedgerSnapshot {
    rig.batcher.finish(&mut rig.counts);
    rig.publish();
    let report = rig.store.stop().await;
    let snapshot = rig.ledger.snapshot();
    assert_eq!(snapshot.unaccounted(), 0, "{snapshot:?}");
    assert_eq!(snapshot.store.flows_in_flight, 0);
    assert_eq!(snapshot.store.flows_spooled, report.flows_spooled);
    snapshot
}

#[tokio::test]
async fn what_an_outage_leaves_at_the_stop_is_stored_by_the_next_process_with_its_tokens() {
    for mode in [SpoolMode::Overflow, SpoolMode::Always] {
        let folder = TempDir::new().unwrap();
        let config = config_on(folder.path(), mode);
        let mut first = rig(silent(), &config);
        first.add_blocks(5).await;
        assert_eq!(first.counts.dropped(DropReason::StoreBacklog), 0);
        let tried = first.calls();
        let target = Arc::clone(&first.target);
        let snapshot = ended(first).await;
        assert_eq!(snapshot.store.flows_spooled, 5 * ROWS_MAX as u64);
        assert_eq!(snapshot.store.flows_lost.iter().sum::<u64>(), 0);
        let calls = target.calls.lock().unwrap().len();
        assert_eq!((tried.len(), calls), (1, 1), "one insert at a time hangs");
        // The one that was under way may be stored already.
        let kinds: Vec<_> = names(folder.path()).into_iter().map(|(_, k)| k).collect();
        let mut expected = [Kind::Block; 5];
        expected[0] = Kind::Tried;
        assert_eq!(kinds, expected);

        let second = rig(Scripted::default(), &config);
        second.until_stored(5 * ROWS_MAX).await;
        let calls = second.calls();
        assert_eq!(calls[0], tried[0], "the same bytes with the same token");
        let numbers: Vec<u64> = calls.iter().map(number_of).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5], "in the order of sealing");
        let snapshot = ended(second).await;
        assert_eq!(snapshot.store.flows_recovered, 5 * ROWS_MAX as u64);
        assert_eq!(names(folder.path()), [], "what is stored is gone");
    }
}

/// A token ends with the number of its block.
fn number_of((token, ..): &Call) -> u64 {
    token.rsplit_once('-').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn a_block_is_on_the_disk_before_it_is_sent_and_gone_when_it_is_stored() {
    let folder = TempDir::new().unwrap();
    let mut rig = rig(silent(), &config_on(folder.path(), SpoolMode::Always));
    rig.add_blocks(1).await;
    rig.until("it is sent", |rig| rig.calls().len() == 1).await;
    assert_eq!(names(folder.path()), [(1, Kind::Tried)]);
    assert_eq!(rig.spooled(), 0, "it is in memory as well");
    let snapshot = rig.ledger.snapshot();
    assert_eq!(snapshot.store.spool_blocks, 1);
    assert!(snapshot.store.spool_bytes > 0);
}

#[tokio::test]
async fn with_overflow_nothing_is_written_as_long_as_memory_has_room() {
    let folder = TempDir::new().unwrap();
    let mut rig = rig(silent(), &config_on(folder.path(), SpoolMode::Overflow));
    rig.add_blocks(1).await;
    rig.until("it is sent", |rig| rig.calls().len() == 1).await;
    assert_eq!(names(folder.path()), []);
    rig.add_blocks(1).await;
    rig.until("the second has no room", |rig| rig.spooled() == 8)
        .await;
    assert_eq!(names(folder.path()), [(2, Kind::Block)]);
}

#[tokio::test]
async fn new_blocks_are_sent_beside_a_backlog_that_is_sent_in_order() {
    let folder = TempDir::new().unwrap();
    let target = Scripted {
        takes: Duration::from_millis(10),
        ..away()
    };
    let mut rig = rig(target, &config_on(folder.path(), SpoolMode::Overflow));
    rig.add_blocks(41).await;
    rig.until("the backlog is on the disk", |rig| {
        rig.spooled() == 40 * ROWS_MAX as u64
    })
    .await;
    rig.target.away.store(false, Ordering::Relaxed);
    rig.until("the first is stored", |rig| rig.stored() > 0)
        .await;
    // They find the room that the first one left.
    for _ in 0..4 {
        rig.add_blocks(1).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rig.until_stored(45 * ROWS_MAX).await;
    // The last call of each is the one that stored it; the first may have been under way before.
    let mut order: Vec<u64> = Vec::new();
    for number in rig.calls().iter().map(number_of) {
        order.retain(|earlier| *earlier != number);
        order.push(number);
    }
    let backlog: Vec<u64> = order.iter().copied().filter(|n| *n <= 41).collect();
    assert_eq!(backlog, (1..=41).collect::<Vec<_>>(), "{order:?}");
    let first_new = order.iter().position(|n| *n > 41).unwrap();
    assert!(first_new < 40, "not behind the backlog: {order:?}");
    assert_eq!(ended(rig).await.store.flows_stored, 45 * ROWS_MAX as u64);
}

#[tokio::test]
async fn a_full_spool_drops_whole_blocks_counts_them_and_keeps_no_worker_waiting() {
    let folder = TempDir::new().unwrap();
    let mut config = config_on(folder.path(), SpoolMode::Overflow);
    config.spool.max_bytes = ByteSize::kib(10);
    let mut rig = rig(silent(), &config);
    rig.add_blocks(20).await;
    let full = |rig: &Rig| rig.ledger.snapshot().dropped(DropReason::SpoolFull);
    rig.until("the spool is full", |rig| full(rig) > 0).await;
    rig.add_blocks(5).await;
    assert_eq!(rig.counts.dropped(DropReason::StoreBacklog), 0);
    let snapshot = ended(rig).await;
    let kept = names(folder.path()).len() as u64;
    let bytes: u64 = files(folder.path())
        .unwrap()
        .iter()
        .map(|(.., path)| fs::metadata(path).unwrap().len())
        .sum();
    assert!(kept >= 1 && bytes <= 10 * 1024, "{kept} blocks, {bytes} B");
    let dropped = snapshot.dropped(DropReason::SpoolFull) / ROWS_MAX as u64;
    assert_eq!(kept + dropped, 25, "{snapshot:?}");
    assert_eq!(snapshot.store.blocks_unkept, 0, "none was to be there too");
}

#[tokio::test]
async fn a_block_for_which_a_full_spool_has_no_room_is_stored_all_the_same_and_counted() {
    let folder = TempDir::new().unwrap();
    let mut config = config_on(folder.path(), SpoolMode::Always);
    config.spool.max_bytes = ByteSize::b(1);
    let mut rig = rig(Scripted::default(), &config);
    for blocks in 1..=3 {
        rig.add_blocks(1).await;
        rig.until_stored(blocks * ROWS_MAX).await;
    }
    let snapshot = ended(rig).await;
    assert_eq!(snapshot.store.blocks_unkept, 3);
    assert_eq!(snapshot.dropped(DropReason::SpoolFull), 0);
}

#[tokio::test]
async fn a_disk_that_is_full_costs_what_memory_has_no_room_for_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let mut rig = rig(away(), &config_on(folder.path(), SpoolMode::Always));
    // Whatever is written to it finds no space left.
    for number in [1, 2] {
        let new = folder.path().join(format!("{number:020}.block.new"));
        std::os::unix::fs::symlink("/dev/full", new).unwrap();
    }
    rig.add_blocks(3).await;
    let failed = |rig: &Rig| rig.ledger.snapshot().dropped(DropReason::SpoolFailed);
    rig.until("the second is lost", |rig| failed(rig) == 8)
        .await;
    rig.until("the third is written", |rig| rig.spooled() == 8)
        .await;
    rig.target.away.store(false, Ordering::Relaxed);
    rig.until_stored(2 * ROWS_MAX).await;
    let snapshot = ended(rig).await;
    assert_eq!(snapshot.dropped(DropReason::SpoolFailed), 8);
    assert_eq!(names(folder.path()), []);
}

/// Leaves `blocks` in a spool, as a process that is stopped does.
async fn leave(config: &config::Store, blocks: usize) -> Vec<PathBuf> {
    let mut first = rig(silent(), config);
    first.add_blocks(blocks).await;
    ended(first).await;
    let files = files(&config.spool.dir).unwrap().into_iter();
    files.map(|(.., path)| path).collect()
}

#[tokio::test]
async fn a_file_that_is_cut_or_damaged_is_set_aside_and_counted_and_the_others_are_stored() {
    let folder = TempDir::new().unwrap();
    let config = config_on(folder.path(), SpoolMode::Always);
    let left = leave(&config, 4).await;
    let edit = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    };
    edit(&left[1], &|bytes| bytes.truncate(bytes.len() - 5));
    edit(&left[2], &|bytes| *bytes.last_mut().unwrap() ^= 1);
    // Whatever this was, nobody knows how many rows it had.
    edit(&left[3], &|bytes| bytes.truncate(30));
    fs::write(folder.path().join("00000000000000000009.block.new"), "half").unwrap();
    fs::write(folder.path().join("notes.txt"), "of the operator").unwrap();

    let second = rig(Scripted::default(), &config);
    second
        .until("everything is decided", |rig| {
            rig.stored() == 8 && rig.spooled() == 0
        })
        .await;
    let snapshot = ended(second).await;
    assert_eq!(snapshot.dropped(DropReason::SpoolBroken), 16);
    assert_eq!(snapshot.store.flows_recovered, 24);
    assert_eq!(snapshot.store.spool_files_broken, 3);
    let aside = names(&folder.path().join(quarantine::FOLDER));
    assert_eq!(aside, [2, 3, 4].map(|number| (number, Kind::Broken)));
    let mut left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["lock", "notes.txt", quarantine::FOLDER]);
}

#[tokio::test]
async fn blocks_that_an_earlier_process_had_sent_go_before_everything_else() {
    let folder = TempDir::new().unwrap();
    let config = config_on(folder.path(), SpoolMode::Always);
    let left = leave(&config, 4).await;
    fs::rename(&left[2], left[2].with_extension("tried")).unwrap();
    let mut second = rig(away(), &config);
    second.add_blocks(1).await;
    second.target.away.store(false, Ordering::Relaxed);
    second.until_stored(5 * ROWS_MAX).await;
    let mut order: Vec<u64> = second.calls().iter().map(number_of).collect();
    order.dedup();
    assert_eq!(order[..2], [1, 3], "{order:?}");
    let new = order.iter().position(|number| *number == 5);
    assert!(new.is_some_and(|place| place >= 2), "{order:?}");
}

#[tokio::test]
async fn a_block_of_an_earlier_process_that_always_fails_holds_no_other_up() {
    let folder = TempDir::new().unwrap();
    let config = config_on(folder.path(), SpoolMode::Always);
    let left = leave(&config, 3).await;
    fs::rename(&left[1], left[1].with_extension("tried")).unwrap();
    let target = Scripted {
        never_takes: Some(1),
        ..Scripted::default()
    };
    let mut second = rig_adapted(target, &config, |store| store.inserts = 2);
    second.until_stored(ROWS_MAX).await;
    for blocks in 2..=5 {
        second.add_blocks(1).await;
        second.until_stored(blocks * ROWS_MAX).await;
    }
    let tries = |number| {
        let calls = second.calls();
        calls
            .iter()
            .filter(|call| number_of(call) == number)
            .count()
    };
    assert!(tries(1) >= 1);
    assert_eq!([2, 4, 5, 6, 7].map(tries), [1; 5]);
    let snapshot = ended(second).await;
    assert_eq!(snapshot.store.flows_stored, 5 * ROWS_MAX as u64);
    assert_eq!(names(folder.path()), [(1, Kind::Tried), (3, Kind::Block)]);
}

#[tokio::test]
async fn blocks_that_an_earlier_process_had_sent_go_first_at_the_stop_too() {
    let folder = TempDir::new().unwrap();
    let config = config_on(folder.path(), SpoolMode::Always);
    let left = leave(&config, 2).await;
    fs::rename(&left[1], left[1].with_extension("tried")).unwrap();
    let mut second = rig_adapted(away(), &config, |store| {
        store.stop_timeout = Duration::from_secs(10);
    });
    second.add_blocks(1).await;
    second
        .until("the first is tried", |rig| !rig.calls().is_empty())
        .await;
    let target = Arc::clone(&second.target);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        target.away.store(false, Ordering::Relaxed);
    });
    let target = Arc::clone(&second.target);
    let snapshot = ended(second).await;
    let calls = target.calls.lock().unwrap();
    let mut order: Vec<u64> = calls.iter().map(number_of).collect();
    order.dedup();
    assert_eq!(order, [1, 2, 3]);
    assert_eq!(snapshot.store.flows_stored, 3 * ROWS_MAX as u64);
}

#[tokio::test]
async fn files_of_another_version_and_those_that_cannot_be_read_stay_where_they_are() {
    let folder = TempDir::new().unwrap();
    let mut config = config_on(folder.path(), SpoolMode::Always);
    let left = leave(&config, 2).await;
    let mut bytes = fs::read(&left[1]).unwrap();
    bytes["flowsluice-block ".len()] = b'2';
    fs::write(&left[1], &bytes).unwrap();
    // A folder opens and yields no bytes.
    let unreadable = Kind::Block.path(folder.path(), 9);
    fs::create_dir(&unreadable).unwrap();
    // What is set aside now is removed.
    config.spool.quarantine_max = ByteSize::b(0);
    let mut second = rig(Scripted::default(), &config);
    second.until_stored(ROWS_MAX).await;
    second.add_blocks(1).await;
    second.until_stored(2 * ROWS_MAX).await;
    let last = second.calls().last().map(number_of);
    assert_eq!(last, Some(10), "numbers go on behind those that stay");
    let snapshot = ended(second).await;
    assert_eq!(snapshot.store.spool_files_broken, 0);
    assert_eq!(snapshot.dropped(DropReason::SpoolBroken), 0);
    assert_eq!(snapshot.store.flows_recovered, ROWS_MAX as u64);
    assert_eq!(fs::read(&left[1]).unwrap(), bytes);
    assert!(unreadable.is_dir());
}

#[tokio::test]
async fn a_write_that_takes_long_at_the_stop_is_waited_for_and_counted_once() {
    let folder = TempDir::new().unwrap();
    let mut config = config_on(folder.path(), SpoolMode::Overflow);
    config.spool.fsync = config::SpoolFsync::Never;
    let mut rig = rig(silent(), &config);
    rig.add_blocks(1).await;
    rig.until("it is sent", |rig| rig.calls().len() == 1).await;
    // Whoever writes to a pipe waits until somebody reads.
    let pipe = folder.path().join(format!("{:020}.block.new", 2));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    rig.add(ROWS_MAX);
    let read = std::thread::spawn(move || {
        std::thread::sleep(WRITE_TAKES);
        fs::read(pipe).unwrap().len()
    });
    let snapshot = ended(rig).await;
    assert!(read.join().unwrap() > 0);
    assert_eq!(snapshot.store.flows_spooled, 2 * ROWS_MAX as u64);
    assert_eq!(snapshot.dropped(DropReason::StoreStopped), 0);
}

/// Longer than a rig waits at its stop.
const WRITE_TAKES: Duration = Duration::from_secs(12);

#[tokio::test]
async fn a_block_that_is_refused_for_good_is_kept_apart_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let refusal = InsertError::exception("Code: 16. DB::Exception: No such column src_as");
    let target = Scripted {
        answers: Mutex::new([refusal.clone(), refusal].into()),
        ..Scripted::default()
    };
    let mut rig = rig(target, &config_on(folder.path(), SpoolMode::Always));
    rig.add_blocks(1).await;
    rig.until("it is refused", |rig| {
        rig.ledger.snapshot().dropped(DropReason::InsertRefused) == 8
    })
    .await;
    rig.add_blocks(1).await;
    rig.until_stored(ROWS_MAX).await;
    let snapshot = ended(rig).await;
    assert_eq!(snapshot.store.blocks_quarantined, 1);
    assert_eq!(names(folder.path()), []);
    let kept = files(&folder.path().join(quarantine::FOLDER)).unwrap();
    assert_eq!(kept.len(), 1);
    let (header, _) = read_header(&kept[0].2).unwrap();
    let refused = header.refused.unwrap();
    assert_eq!((header.rows, refused.code), (8, Some(16)));
    assert_eq!(
        refused.error,
        "Code: 16. DB::Exception: No such column src_as"
    );
    let bytes = fs::metadata(&kept[0].2).unwrap().len();
    assert_eq!(snapshot.store.quarantine_bytes, bytes);
}

#[tokio::test]
async fn a_quarantine_without_room_keeps_nothing_and_blocks_nothing() {
    let folder = TempDir::new().unwrap();
    let refusal = InsertError::exception("Code: 16. DB::Exception: No such column src_as");
    let target = Scripted {
        answers: Mutex::new([refusal.clone(), refusal].into()),
        ..Scripted::default()
    };
    let mut config = config_on(folder.path(), SpoolMode::Overflow);
    config.spool.quarantine_max = ByteSize::b(0);
    let mut rig = rig(target, &config);
    rig.add_blocks(2).await;
    rig.until_stored(ROWS_MAX).await;
    let snapshot = ended(rig).await;
    assert_eq!(snapshot.dropped(DropReason::InsertRefused), 8);
    assert_eq!(snapshot.store.blocks_quarantined, 0);
    assert_eq!(names(&folder.path().join(quarantine::FOLDER)), []);
}

#[tokio::test]
async fn numbers_go_on_behind_those_that_are_there() {
    let folder = TempDir::new().unwrap();
    let config = config_on(folder.path(), SpoolMode::Always);
    leave(&config, 2).await;
    leave(&config, 1).await;
    let numbers: Vec<u64> = names(folder.path()).into_iter().map(|(n, _)| n).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn a_folder_that_cannot_be_used_is_told_with_the_remedy() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let open = |config: &config::Store| Spool::open(config, Arc::default());
    let text = open(&config_on(&file, SpoolMode::Always))
        .unwrap_err()
        .to_string();
    assert!(text.starts_with("store.spool.dir: "), "{text}");
    assert!(text.contains("file cannot be used ("), "{text}");
    assert!(text.contains("max_bytes = \"0B\" does without"), "{text}");

    let config = config_on(&folder.path().join("spool"), SpoolMode::Always);
    let _held = open(&config).unwrap().unwrap();
    let text = open(&config).unwrap_err().to_string();
    assert!(text.contains("another collector uses it"), "{text}");

    let without = config::Store {
        spool: config::Spool {
            max_bytes: ByteSize::b(0),
            ..config.spool.clone()
        },
        ..config.clone()
    };
    assert!(open(&without).unwrap().is_none());
    let null = config::Store {
        kind: config::StoreKind::Null,
        ..config
    };
    assert!(open(&null).unwrap().is_none());
}
