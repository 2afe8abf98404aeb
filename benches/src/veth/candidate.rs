//! Who receives: our collector by each of its receive paths, and nfcapd.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use flowsluice_tests::{Collector, Ledger, Settings, Veth};

use super::pair::{Pair, receiver_address};
use crate::receive::candidate::{self, Running};
use crate::receive::nfcapd::Nfcapd;
use crate::receive::socket;

/// A way for datagrams to come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// AF_XDP with the program in the driver.
    XdpNative,
    /// AF_XDP with the generic program, behind the socket buffer.
    XdpSkb,
    /// io_uring multishot recvmsg.
    IoUring,
    /// recvmmsg.
    Recvmmsg,
    /// recvmmsg of merged datagrams.
    RecvmmsgGro,
    /// nfcapd of nfdump.
    Nfcapd,
}

impl Candidate {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::XdpNative,
        Self::XdpSkb,
        Self::IoUring,
        Self::Recvmmsg,
        Self::RecvmmsgGro,
        Self::Nfcapd,
    ];

    /// `receive.xdp.attach`, and how the kernel then calls the program's place.
    fn attach(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::XdpNative => Some(("native", "xdp")),
            Self::XdpSkb => Some(("skb", "xdpgeneric")),
            _ => None,
        }
    }

    /// Our collector so configured; `None` for somebody else's.
    fn settings(self, buffer: u64) -> Option<Settings> {
        let mode = match self {
            Self::XdpNative | Self::XdpSkb => "af_xdp",
            Self::IoUring => "io_uring",
            Self::Recvmmsg | Self::RecvmmsgGro => "recvmmsg",
            Self::Nfcapd => return None,
        };
        let more = self.attach().map_or_else(String::new, |(attach, _)| {
            format!(
                "\n[receive.xdp]\ninterfaces = [\"{}\"]\nattach = \"{attach}\"\n\
                 verify_checksum = false\n",
                Veth::COLLECTOR
            )
        });
        Some(Settings {
            socket_buffer: Some(buffer),
            gro: self == Self::RecvmmsgGro,
            batch_age: BATCH_AGE,
            more,
            ..candidate::flowsluice(mode, 1)
        })
    }

    /// Starts it with receive buffers of `buffer` bytes. Call it in the receiver's namespace.
    ///
    /// # Errors
    /// When it does not start, or receives by another path than this one.
    pub fn start(self, pair: &Pair, buffer: u64) -> Result<Receiving> {
        let Some(settings) = self.settings(buffer) else {
            let nfcapd = Nfcapd::start(receiver_address(), buffer)?;
            return Ok(Receiving::Nfcapd(Box::new(nfcapd)));
        };
        let collector = Collector::start(&settings)?;
        let status = collector.status()?;
        let (at, expected) = match self.attach() {
            Some((attach, _)) => ("/receive/interfaces/0/mode", format!("af_xdp_{attach}")),
            None => ("/receive/mode", settings.receive_mode.to_owned()),
        };
        let mode = status.text(at)?;
        ensure!(mode == expected, "{self}: the collector receives by {mode}");
        let (attached, expected) = (pair.attached()?, self.attach().map(|(_, place)| place));
        ensure!(
            attached.as_deref() == expected,
            "{self}: the kernel calls the program {attached:?}, not {expected:?}"
        );
        Ok(Receiving::Flowsluice(Box::new(collector)))
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::XdpNative => "AF_XDP, native",
            Self::XdpSkb => "AF_XDP, SKB",
            Self::IoUring => "io_uring",
            Self::Recvmmsg => "recvmmsg",
            Self::RecvmmsgGro => "recvmmsg, UDP_GRO",
            Self::Nfcapd => "nfcapd",
        })
    }
}

/// A candidate that listens. To be asked in the receiver's namespace.
pub enum Receiving {
    /// Tells by its ledger.
    Flowsluice(Box<Collector>),
    /// Told by the kernel, and at its end by itself.
    Nfcapd(Box<Nfcapd>),
}

/// What became of everything that was sent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Datagrams that the candidate took.
    pub datagrams: u64,
    /// Losses behind the receive path, of any reason: datagrams, sets or flows.
    pub lost_later: u64,
}

impl Receiving {
    /// The UDP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.running().target().port()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running().pid()
    }

    fn running(&self) -> &dyn Running {
        match self {
            Self::Flowsluice(collector) => &**collector,
            Self::Nfcapd(nfcapd) => &**nfcapd,
        }
    }

    /// Waits until all of `sent` datagrams are accounted for, or nothing more happens.
    ///
    /// # Errors
    /// When it does not answer, does not come to rest, or leaves anything unaccounted.
    pub fn settle(&self, sent: u64) -> Result<Taken> {
        match self {
            Self::Flowsluice(collector) => settle(collector, sent),
            Self::Nfcapd(_) => {
                let dropped = socket::emptied(self.port(), SETTLE_MAX)?;
                Ok(Taken {
                    datagrams: sent.saturating_sub(dropped),
                    lost_later: 0,
                })
            }
        }
    }

    /// Ends it; yields the flows that it says it received.
    ///
    /// # Errors
    /// When it does not end in good order, or does not say.
    pub fn finish(self) -> Result<u64> {
        match self {
            Self::Flowsluice(collector) => (collector as Box<dyn Running>).finish(),
            Self::Nfcapd(nfcapd) => (nfcapd as Box<dyn Running>).finish(),
        }
    }
}

fn settle(collector: &Collector, sent: u64) -> Result<Taken> {
    let deadline = Instant::now() + SETTLE_MAX;
    let (mut before, mut looks) = (None, 0);
    loop {
        let ledger = collector.status()?.ledger();
        let taken = taken(&ledger);
        let is_quiet = ledger.flows_under_way() == 0;
        looks = match before {
            Some(before) if is_quiet && taken == before => looks + 1,
            _ => 0,
        };
        // What did not arrive is waited for; whether the kernel dropped it, nobody asks.
        if is_quiet && (taken.datagrams == sent || looks == LOOKS) {
            let unaccounted = ledger.unaccounted();
            ensure!(unaccounted == 0, "the collector: {unaccounted} unaccounted");
            return Ok(taken);
        }
        ensure!(
            Instant::now() < deadline,
            "the collector did not come to rest within {SETTLE_MAX:?}\n{}",
            ledger.table()
        );
        before = Some(taken);
        thread::sleep(LOOK);
    }
}

fn taken(ledger: &Ledger) -> Taken {
    let losses = ledger.losses().into_iter();
    let losses = losses.filter(|(reason, _)| reason != NOT_KEPT);
    Taken {
        datagrams: ledger.counter("datagrams_received"),
        lost_later: losses.map(|(_, n)| n).sum(),
    }
}

/// The reason under which a store that keeps nothing counts its flows.
const NOT_KEPT: &str = "store_null";
const BATCH_AGE: &str = "200ms";
const SETTLE_MAX: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);
/// So many on end in which nothing more has come.
const LOOKS: u32 = 6;
