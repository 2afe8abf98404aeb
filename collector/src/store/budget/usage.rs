//! What is on the disks, as ClickHouse's system tables and the file system tell.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clickhouse::{Client, Row};
use serde::Deserialize;

use crate::store::insert::InsertError;

/// One partition of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Row, Deserialize)]
pub struct Partition {
    /// The table's name.
    pub table: String,
    /// The partition's id.
    pub id: String,
    /// Rows that are asked for.
    pub row_count: u64,
    /// Bytes of the parts that hold them.
    pub bytes: u64,
    /// Bytes of parts that are on the disk and no longer asked for: merged, expired or dropped.
    pub bytes_leaving: u64,
    /// Time of the oldest row, in seconds; 0 where the partition key tells none.
    pub oldest: u32,
    /// Time of the newest row.
    pub newest: u32,
}

/// What a look finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// ClickHouse's clock, in seconds.
    pub now: u32,
    /// All partitions of the database.
    pub partitions: Vec<Partition>,
    /// Bytes of all that counts and that no drop makes smaller: detached parts, ClickHouse's own
    /// logs, files of this host.
    pub others_bytes: u64,
    /// Free bytes of the fullest disk.
    pub disk_free_bytes: u64,
}

impl Usage {
    /// Reads the database's sizes and those of `paths`.
    pub(super) async fn read(
        client: &Client,
        database: &str,
        paths: Vec<PathBuf>,
    ) -> Result<Self, InsertError> {
        let now: u32 = client
            .query("SELECT toUnixTimestamp(now())")
            .fetch_one()
            .await?;
        let partitions = client.query(PARTITIONS).bind(database).fetch_all().await?;
        let detached: u64 = client.query(DETACHED).bind(database).fetch_one().await?;
        let logs: u64 = client.query(LOGS).fetch_one().await?;
        let disk_free_bytes: u64 = client.query(FREE).bind(database).fetch_one().await?;
        let files = tokio::task::spawn_blocking(move || {
            paths.iter().map(|path| bytes_below(path)).sum::<u64>()
        });
        let files = files.await.expect("reading sizes does not panic");
        Ok(Self {
            now,
            partitions,
            others_bytes: detached + logs + files,
            disk_free_bytes,
        })
    }

    /// Bytes that count toward `store.budget.max_bytes`. Partitions without rows are on their way
    /// out and do not; parts that a merge has replaced do, for the minutes that they last.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let live = self.partitions.iter().filter(|one| one.row_count > 0);
        let tables: u64 = live.map(|one| one.bytes + one.bytes_leaving).sum();
        tables + self.others_bytes
    }

    /// Bytes of partitions that were dropped or have expired, and that will be free by themselves.
    #[must_use]
    pub fn bytes_leaving(&self) -> u64 {
        let dropped = self.partitions.iter().filter(|one| one.row_count == 0);
        dropped.map(|one| one.bytes + one.bytes_leaving).sum()
    }
}

const PARTITIONS: &str = "SELECT table, partition_id AS id, sumIf(rows, active) AS row_count, \
     sumIf(bytes_on_disk, active) AS bytes, sumIf(bytes_on_disk, NOT active) AS bytes_leaving, \
     toUnixTimestamp(minIf(min_time, active AND rows > 0)) AS oldest, \
     toUnixTimestamp(maxIf(max_time, active AND rows > 0)) AS newest \
     FROM system.parts WHERE database = ? GROUP BY table, partition_id";

const DETACHED: &str = "SELECT sum(bytes_on_disk) FROM system.detached_parts WHERE database = ?";

const LOGS: &str = "SELECT sum(bytes_on_disk) FROM system.parts WHERE database = 'system'";

const FREE: &str = "SELECT min(free_space) FROM system.disks WHERE name = 'default' OR name IN \
     (SELECT disk_name FROM system.parts WHERE database = ?)";

/// Bytes that the disk gives to a file, or to all files below a folder. What goes away meanwhile
/// or may not be read counts nothing.
fn bytes_below(path: &Path) -> u64 {
    const BLOCK: u64 = 512;
    let mut bytes = 0;
    let mut entries = 0;
    let mut left = vec![path.to_path_buf()];
    while let Some(path) = left.pop() {
        entries += 1;
        let Ok(metadata) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        bytes += metadata.blocks() * BLOCK;
        if metadata.is_dir() && entries < ENTRIES_MAX {
            let inner = std::fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(inner.map(|entry| entry.path()));
        }
    }
    bytes
}

/// Files and folders that are looked at below one path; a spool has a file for each block.
const ENTRIES_MAX: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_below_a_folder_count_as_the_disk_counts_them() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        let before = bytes_below(folder.path());
        std::fs::write(inner.join("x"), vec![1; 100_000]).unwrap();
        std::fs::write(folder.path().join("y"), vec![1; 50_000]).unwrap();
        let grown = bytes_below(folder.path()) - before;
        assert!((150_000..180_000).contains(&grown), "{grown}");
        assert_eq!(bytes_below(&folder.path().join("none")), 0);
    }

    #[test]
    fn what_was_dropped_no_longer_counts_and_what_a_merge_left_does() {
        let partition = |row_count, bytes, bytes_leaving| Partition {
            row_count,
            bytes,
            bytes_leaving,
            ..Partition::default()
        };
        let usage = Usage {
            partitions: vec![partition(5, 100, 40), partition(0, 1, 200)],
            others_bytes: 7,
            ..Usage::default()
        };
        assert_eq!(usage.bytes(), 147);
        assert_eq!(usage.bytes_leaving(), 201);
    }
}
