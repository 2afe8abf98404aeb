//! Who receives: our collector in its receive modes, nfcapd, nfacctd. One interface for all.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use flowsluice_tests::{Collector, Settings, Store};

use super::nfacctd::Nfacctd;
use super::nfcapd::Nfcapd;

/// Whom to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// `flowsluice run` without a store, one worker, in this receive mode.
    Flowsluice(&'static str),
    /// nfcapd of nfdump.
    Nfcapd,
    /// nfacctd of pmacct.
    Nfacctd,
}

impl Candidate {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Flowsluice("io_uring"),
        Self::Flowsluice("recvmmsg"),
        Self::Nfcapd,
        Self::Nfacctd,
    ];

    /// Starts it with a receive buffer of `buffer` bytes and waits until it listens.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(self, buffer: u64) -> Result<Box<dyn Running>> {
        Ok(match self {
            Self::Flowsluice(mode) => Box::new(Collector::start(&Settings {
                socket_buffer: Some(buffer),
                ..flowsluice(mode, 1)
            })?),
            Self::Nfcapd => Box::new(Nfcapd::start(Ipv4Addr::LOCALHOST.into(), buffer)?),
            Self::Nfacctd => Box::new(Nfacctd::start(buffer)?),
        })
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flowsluice(mode) => write!(f, "flowsluice, {mode}"),
            Self::Nfcapd => f.write_str("nfcapd"),
            Self::Nfacctd => f.write_str("nfacctd"),
        }
    }
}

/// Our collector as it is measured: a store that keeps nothing, and batches as old as by default.
#[must_use]
pub fn flowsluice(mode: &'static str, workers: usize) -> Settings {
    Settings {
        receive_mode: mode,
        workers,
        pin: true,
        batch_age: "1s",
        ..Settings::new(Store::Null)
    }
}

/// A collector that listens. Dropped, it is stopped.
pub trait Running {
    /// Where exporters send to.
    fn target(&self) -> SocketAddr;

    /// Its process, the parent of its other ones.
    fn pid(&self) -> u32;

    /// Ends it; yields the flows that it says it has received since its start.
    ///
    /// # Errors
    /// When it does not end in good order, or does not say.
    fn finish(self: Box<Self>) -> Result<u64>;
}

impl Running for Collector {
    fn target(&self) -> SocketAddr {
        Self::target(self)
    }

    fn pid(&self) -> u32 {
        Self::pid(self)
    }

    fn finish(self: Box<Self>) -> Result<u64> {
        let stopped = self.stop()?;
        let unaccounted = stopped.unaccounted;
        ensure!(unaccounted == 0, "the collector: {unaccounted} unaccounted");
        Ok(stopped.flows_decoded)
    }
}
