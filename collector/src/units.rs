//! Times as the collector counts them: integers with their unit in the name, made once a turn.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment of the wall clock, in nanoseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixNanos(pub u64);

impl UnixNanos {
    /// Reads the clock. A worker calls this once a turn and passes the value on.
    #[must_use]
    pub fn now() -> Self {
        let elapsed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Whole seconds since the epoch; ends in 2106, as ClickHouse's `DateTime` does.
    #[must_use]
    pub fn seconds(self) -> u32 {
        u32::try_from(self.0 / 1_000_000_000).unwrap_or(u32::MAX)
    }

    /// The second at which its minute began.
    #[must_use]
    pub fn minute_s(self) -> u32 {
        const MINUTE_S: u32 = 60;
        self.seconds() / MINUTE_S * MINUTE_S
    }

    /// Whole milliseconds since the epoch.
    #[must_use]
    pub fn millis(self) -> u64 {
        self.0 / 1_000_000
    }
}
