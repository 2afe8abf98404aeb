//! `cargo xtask bench`: builds the benchmark and runs it with what it needs.
//!
//! The figures are the benchmark's own; see `benches/`. Exit status 0 only if everything that was
//! asked for was measured.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use flowsluice_tests::place;

use crate::debian::{self, Program};
use crate::{engine, geo, shell};

/// Collectors to stand beside, and what sets up a veth pair.
const PROGRAMS: [Program; 4] = [
    Program {
        name: "nfcapd",
        package: "nfdump",
    },
    Program {
        name: "nfacctd",
        package: "pmacct",
    },
    Program {
        name: "ip",
        package: "iproute2",
    },
    Program {
        name: "ethtool",
        package: "ethtool",
    },
];

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    /// What to measure; all of it by default.
    #[arg(value_enum)]
    subject: Option<Subject>,
    /// Fewer and shorter rounds, to see that it works; prints and does not write the results.
    #[arg(long)]
    quick: bool,
    /// Write `benches/RESULTS.md` although the rounds were few.
    #[arg(long)]
    write: bool,
    /// End to end: flows a second of the steady run.
    #[arg(long, value_name = "N")]
    rate: Option<u64>,
    /// End to end: seconds of the steady run.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Queries: hours of flows to ask about.
    #[arg(long, value_name = "N")]
    hours: Option<u64>,
    /// Queries: keep the flows in this folder, or ask those that stand there already.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A libchdb.so that is already here; its hash is not checked.
    #[arg(long, value_name = "PATH")]
    library: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    Decode,
    Receive,
    Veth,
    Enrich,
    Store,
    Queries,
    EndToEnd,
}

impl Subject {
    const fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Receive => "receive",
            Self::Veth => "veth",
            Self::Enrich => "enrich",
            Self::Store => "store",
            Self::Queries => "queries",
            Self::EndToEnd => "end-to-end",
        }
    }
}

/// Builds, provides, launches.
pub fn main(args: &Args) -> Result<()> {
    let missing = debian::provide(&PROGRAMS)?;
    ensure!(missing.is_empty(), "{}", debian::remedy(&missing));
    // Both at once: apart, each would build the crates that they share with other features.
    let mut build = shell::cargo(&["build", "--release", "-p", "flowsluice"]);
    build.args(["-p", "flowsluice-benches"]);
    build.args(["--features", "flowsluice-benches/peers"]);
    shell::run(&mut build)?;
    let mut bench = Command::new(place::target().join("release/flowsluice-bench"));
    bench.args(args.subject.map(Subject::name));
    if args.quick {
        bench.arg("--quick");
    }
    if args.write {
        bench.arg("--write");
    }
    for (name, value) in [
        ("--rate", args.rate),
        ("--seconds", args.seconds),
        ("--hours", args.hours),
    ] {
        if let Some(value) = value {
            bench.arg(name).arg(value.to_string());
        }
    }
    if let Some(folder) = &args.data {
        bench.arg("--data").arg(folder);
    }
    if args.needs_engine() {
        let library = engine::obtain(args.library.as_deref())?;
        bench.arg("--library").arg(library);
    }
    if matches!(
        args.subject,
        None | Some(Subject::Enrich | Subject::Queries | Subject::EndToEnd)
    ) {
        geo::obtain_all()?;
    }
    shell::run(&mut bench)
}

impl Args {
    /// Does any part of it store into ClickHouse?
    fn needs_engine(&self) -> bool {
        matches!(
            self.subject,
            None | Some(Subject::Store | Subject::Queries | Subject::EndToEnd)
        )
    }
}
