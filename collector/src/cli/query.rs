//! `flowsluice query`.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use flowsluice::config;
use flowsluice::store::query::{self, Format};

/// Arguments of `flowsluice query`.
#[derive(clap::Args)]
pub struct Args {
    /// One statement, e.g. "SELECT dst_port, sum(bytes) FROM flows GROUP BY 1 LIMIT 10".
    sql: String,
    /// Configuration that says which ClickHouse [default: /etc/flowsluice/flowsluice.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How the answer is printed; a FORMAT clause in the statement wins.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn main(
    Args {
        sql,
        config,
        format,
    }: Args,
) -> anyhow::Result<()> {
    let (config, _) = config::load_or_default(config.as_deref())?;
    let endpoint = query::endpoint(&config.store)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut out = std::io::stdout().lock();
    let printed = runtime.block_on(query::query(&endpoint, &sql, format, &mut out));
    let printed = printed.and_then(|()| Ok(out.flush()?));
    match printed {
        // Whoever reads has seen enough: `flowsluice query ... | head`.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        other => other,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
