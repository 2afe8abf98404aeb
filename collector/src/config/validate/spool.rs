//! `[store.spool]`: whether the values mean something together.

use std::time::Duration;

use bytesize::ByteSize;

use super::Problems;
use crate::config::Spool;

impl Problems {
    pub(super) fn spool(&mut self, spool: &Spool) {
        if !spool.dir.as_os_str().is_empty() {
            self.absolute("store.spool.dir", &spool.dir);
        }
        // None is a way to do without; less than a block would be full for ever.
        if spool.max_bytes != ByteSize::b(0) {
            let bytes = ByteSize::mib(1)..=ByteSize::tib(64);
            self.bytes("store.spool.max_bytes", spool.max_bytes, bytes);
        }
        let interval = Duration::from_millis(100)..=Duration::from_secs(3600);
        self.time("store.spool.fsync_interval", spool.fsync_interval, interval);
        let bytes = ByteSize::b(0)..=ByteSize::tib(64);
        self.bytes("store.spool.quarantine_max", spool.quarantine_max, bytes);
    }
}
