//! What waits on the disk.

use std::fmt;

use super::Out;
use crate::ledger::StoreSnapshot;

impl Out<'_> {
    pub(super) fn spool(&mut self, store: &StoreSnapshot) -> fmt::Result {
        for (name, help, value) in [
            (
                "flows_spooled",
                "Flows that are only on the disk, to be stored when their turn comes",
                store.flows_spooled,
            ),
            (
                "spool_blocks",
                "Blocks on the disk that are not acknowledged",
                store.spool_blocks,
            ),
            ("spool_bytes", "Bytes of those", store.spool_bytes),
            (
                "spool_max_bytes",
                "As many as there may be; 0 without a spool",
                store.spool_bytes_max,
            ),
            (
                "quarantine_bytes",
                "Bytes of blocks that ClickHouse refused for good and of files that cannot be read",
                store.quarantine_bytes,
            ),
        ] {
            self.gauge(&format!("flowsluice_store_{name}"), help, value)?;
        }
        for (name, help, value) in [
            (
                "flows_recovered",
                "Flows that an earlier process left on the disk",
                store.flows_recovered,
            ),
            (
                "blocks_spooled",
                "Blocks written to the disk",
                store.blocks_spooled,
            ),
            (
                "blocks_unkept",
                "Blocks that were to be on the disk as well, and are in memory alone",
                store.blocks_unkept,
            ),
            (
                "spool_files_broken",
                "Files of the spool that could not be read back",
                store.spool_files_broken,
            ),
            (
                "blocks_quarantined",
                "Blocks that ClickHouse refused for good and that are kept on the disk",
                store.blocks_quarantined,
            ),
        ] {
            self.counter(&format!("flowsluice_store_{name}"), help, value)?;
        }
        Ok(())
    }
}
