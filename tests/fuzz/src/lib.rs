//! What must hold whatever arrives.
//!
//! In: bytes that a fuzzer made, or [`make`]'s exporter that does one thing wrong. Out: nothing, or
//! a panic that names the property that did not hold. A target is a function of its input alone,
//! so that the fuzzer, the corpus and the tests on stable Rust share it.

#![forbid(unsafe_code)]

pub mod hold;
pub mod make;
pub mod tape;

use make::Rng;
use make::exporter::Dialect;
use make::fixed::Version;
use rand::{RngExt, SeedableRng};
use tape::Tape;

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// NetFlow of fixed records: versions 1, 5 and 7.
    Netflow5,
    /// NetFlow version 9.
    Netflow9,
    /// IPFIX.
    Ipfix,
    /// sFlow version 5.
    Sflow,
    /// The parser of sampled packets, alone and through the protocols that carry them.
    Packet,
    /// Any messages of several exporters, at any times, through one decoder with small limits.
    Session,
    /// Capture files.
    Pcap,
    /// The configuration file.
    Config,
    /// The file of what exporters told before a restart.
    State,
    /// IPFIX over TCP.
    Stream,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Netflow5,
        Self::Netflow9,
        Self::Ipfix,
        Self::Sflow,
        Self::Packet,
        Self::Session,
        Self::Pcap,
        Self::Config,
        Self::State,
        Self::Stream,
    ];

    /// As the command line and the folders of the corpus call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Netflow5 => "netflow5",
            Self::Netflow9 => "netflow9",
            Self::Ipfix => "ipfix",
            Self::Sflow => "sflow",
            Self::Packet => "packet",
            Self::Session => "session",
            Self::Pcap => "pcap",
            Self::Config => "config",
            Self::State => "state",
            Self::Stream => "stream",
        }
    }

    /// The target of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    /// Holds `input` against the properties of the target.
    ///
    /// # Panics
    /// When one of them does not hold.
    pub fn hold(self, input: &[u8]) {
        match self {
            // Versions 1, 5 and 7; the second byte of what the fuzzer made says which.
            Self::Netflow5 => hold::protocol(input, |bytes| {
                let version = [1, 5, 7][bytes.get(1).map_or(1, |byte| usize::from(*byte % 3))];
                begin_with(bytes, &[0, version]);
            }),
            Self::Netflow9 => hold::protocol(input, |bytes| begin_with(bytes, &[0, 9])),
            Self::Ipfix => hold::protocol(input, |bytes| begin_with(bytes, &[0, 10])),
            Self::Sflow => hold::protocol(input, |bytes| begin_with(bytes, &[0, 0, 0, 5])),
            Self::Packet => hold::packet(input),
            Self::Session => hold::session(input),
            Self::Pcap => hold::pcap(input),
            Self::Config => hold::config(input),
            Self::State => hold::state(input),
            Self::Stream => hold::stream(input),
        }
    }

    /// An input as the project's own encoders make it, valid or with one thing wrong.
    #[must_use]
    pub fn fresh(self, seed: u64) -> Vec<u8> {
        let rng = &mut Rng::seed_from_u64(seed);
        match self {
            Self::Netflow5 => make::fixed::tape(any_version(rng), rng).0,
            Self::Netflow9 => make::fault::any(Dialect::Netflow9, rng).tape().0,
            Self::Ipfix => make::fault::any(Dialect::Ipfix, rng).tape().0,
            Self::Sflow => make::sflow::tape(rng).0,
            Self::Packet => make::frame::input(rng),
            Self::Session => {
                let mut parts = [
                    make::fixed::tape(any_version(rng), rng),
                    make::fault::any(Dialect::Netflow9, rng).tape(),
                    make::fault::any(Dialect::Ipfix, rng).tape(),
                    make::sflow::tape(rng),
                ];
                let all = parts.iter_mut().map(|part| std::mem::take(&mut part.0));
                let all: Vec<_> = all.collect();
                Tape::interleaved(&all, rng).0
            }
            Self::Pcap => make::capture::file(rng),
            Self::Config => make::config::file(rng).into_bytes(),
            Self::State => make::state::file(rng),
            Self::Stream => make::stream::tape(rng).0,
        }
    }
}

fn any_version(rng: &mut Rng) -> Version {
    [Version::One, Version::Five, Version::Seven][rng.random_range(0..3)]
}

/// The version that a target is about, whatever the fuzzer put there.
fn begin_with(bytes: &mut [u8], version: &[u8]) {
    for (byte, wanted) in bytes.iter_mut().zip(version) {
        *byte = *wanted;
    }
}
