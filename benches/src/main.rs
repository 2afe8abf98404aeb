//! `flowsluice-bench`: measures one subject, or all of them. `cargo xtask bench` builds and runs it
//! with what it needs.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use flowsluice_benches::options::Options;
use flowsluice_benches::{decode, end_to_end, enrich, queries, receive, store, veth};

/// Measures Flowsluice beside its peers.
#[derive(Parser)]
#[command(name = "flowsluice-bench")]
struct Cli {
    /// What to measure; all of it by default.
    #[command(subcommand)]
    subject: Option<Subject>,
    #[command(flatten)]
    options: Options,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Subject {
    /// Decoding alone, from memory: CPU time a flow.
    Decode,
    /// The collector with a store that keeps nothing, over loopback.
    Receive,
    /// The receive paths beside each other, over a veth pair.
    Veth,
    /// Places and autonomous systems of both sides of a flow.
    Enrich,
    /// From datagrams in memory to compressed blocks, and inserts into ClickHouse.
    Store,
    /// A day of flows in ClickHouse: bytes a row, and how long questions take.
    Queries,
    /// From a socket into ClickHouse.
    EndToEnd,
}

impl Subject {
    const ALL: [Self; 7] = [
        Self::Decode,
        Self::Receive,
        Self::Veth,
        Self::Enrich,
        Self::Store,
        Self::Queries,
        Self::EndToEnd,
    ];

    fn measure(self, options: &Options) -> anyhow::Result<()> {
        match self {
            Self::Decode => decode::main(options),
            Self::Receive => receive::main(options),
            Self::Veth => veth::main(options),
            Self::Enrich => enrich::main(options),
            Self::Store => store::main(options),
            Self::Queries => queries::main(options),
            Self::EndToEnd => end_to_end::main(options),
        }
    }
}

fn main() -> ExitCode {
    let Cli { subject, options } = Cli::parse();
    let subjects = subject.map_or(Subject::ALL.to_vec(), |subject| vec![subject]);
    let mut code = ExitCode::SUCCESS;
    for subject in subjects {
        // One that cannot be measured does not keep the others from it.
        if let Err(error) = subject.measure(&options) {
            eprintln!("flowsluice-bench: {subject:?}: {error:#}");
            code = ExitCode::FAILURE;
        }
    }
    code
}
