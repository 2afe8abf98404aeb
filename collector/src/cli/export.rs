//! `flowsluice export`.

mod time;

use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use flowsluice::config;
use flowsluice::store::export::{self, Format, Rows, Selection};
use flowsluice::units::UnixNanos;
use tokio::signal::unix::{SignalKind, signal};

use super::target::{Named, Target};

/// Arguments of `flowsluice export`. All times are UTC, unless they name another offset.
#[derive(clap::Args)]
pub struct Args {
    /// The first moment: 2026-11-26T10:00:00Z, "2026-11-26 10:00" (UTC), 2026-11-26, -1h, now.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: String,
    /// The moment after the last one.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "now",
        allow_hyphen_values = true
    )]
    to: String,
    /// Only rows that fit this condition in SQL, e.g. "dst_port = 443 AND src_as = 64500". It runs
    /// with rights to read only.
    #[arg(long = "where", value_name = "SQL")]
    filter: Option<String>,
    /// Only these columns, in this order; without it all that the format can tell.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    columns: Vec<String>,
    /// The table or view. --from and --to mean its time_received, else its first column of a time.
    #[arg(long, default_value = "flows")]
    table: String,
    /// How rows are written; without it what the file's name ends like.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The file, or - for standard output. It is there when it is whole.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the file if there is one.
    #[arg(long)]
    force: bool,
    /// Configuration that says which ClickHouse [default: /etc/flowsluice/flowsluice.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub fn main(args: Args) -> anyhow::Result<()> {
    let Args {
        from,
        to,
        filter,
        columns,
        table,
        format,
        output,
        force,
        config,
    } = args;
    // Parts of a second count as a whole one, so that what was stored by now is before it.
    let now_s = UnixNanos::now().seconds() + 1;
    let from_s = time::parse(&from, now_s).map_err(|what| anyhow::anyhow!("--from: {what}"))?;
    let to_s = time::parse(&to, now_s).map_err(|what| anyhow::anyhow!("--to: {what}"))?;
    if from_s >= to_s {
        bail!("--from: {from} is not before --to {to}; nothing lies between");
    }
    let format = format.or_else(|| format_of(&output)).with_context(|| {
        format!(
            "--format: the name '{}' does not tell it; add --format parquet, csv, json or native",
            output.display()
        )
    })?;
    let (config, _) = config::load_or_default(config.as_deref())?;
    let endpoint = export::endpoint(&config.store)?;
    let selection = Selection {
        table,
        columns,
        from_s,
        to_s,
        filter,
        format,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let interrupted = {
        let _inside = runtime.enter();
        interrupted()?
    };
    let mut target = open(&output, force, format)?;
    let mut rows = Rows::new(format);
    runtime.block_on(async {
        let mut progress = Progress::new();
        let exported = export::export(&endpoint, &selection, |bytes| {
            rows.push(bytes);
            progress.add(bytes.len());
            target.write(bytes)
        });
        let outcome = tokio::select! {
            outcome = exported => outcome,
            () = interrupted => Err(anyhow::anyhow!("interrupted")),
        };
        progress.end();
        outcome.map_err(|error| target.undone(error, progress.bytes))
    })?;
    if let Some(path) = target.keep()? {
        let outcome = match rows.rows() {
            Some(1) => "1 row".to_owned(),
            Some(rows) => format!("{rows} rows"),
            None => format!("{} bytes", rows.bytes()),
        };
        // The file is there, whether or not somebody still listens.
        let _ = writeln!(std::io::stderr(), "{}: {outcome}", path.display());
    }
    Ok(())
}

fn open(path: &Path, may_replace: bool, format: Format) -> anyhow::Result<Target> {
    Target::open(Named {
        option: "--output",
        path,
        may_replace,
        is_text: format.is_text(),
        mode: 0o666,
    })
}

fn format_of(output: &Path) -> Option<Format> {
    Format::of_extension(output.extension()?.to_str()?)
}

/// Waits for a signal that ends the export. Without it a file that is not whole would stay. A
/// hangup that whoever started it ignores, as nohup(1) does, stays ignored.
fn interrupted() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut hangup = match is_hangup_ignored() {
        true => None,
        false => Some(signal(SignalKind::hangup()).context("SIGHUP cannot be caught")?),
    };
    Ok(async move {
        let hangup = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup => {}
        }
    })
}

/// proc_pid_status(5): bit 0 of the mask is signal 1, SIGHUP.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// A line on standard error while somebody looks at it.
struct Progress {
    bytes: u64,
    start: Instant,
    shown: Option<Instant>,
    is_on: bool,
}

const SHOW_EVERY: Duration = Duration::from_millis(500);

impl Progress {
    fn new() -> Self {
        Self {
            bytes: 0,
            start: Instant::now(),
            shown: None,
            is_on: std::io::stderr().is_terminal(),
        }
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.is_on && self.shown.is_none_or(|shown| shown.elapsed() >= SHOW_EVERY) {
            self.shown = Some(Instant::now());
            self.show();
        }
    }

    fn show(&self) {
        let mebibytes = self.bytes as f64 / f64::from(1 << 20);
        let seconds = self.start.elapsed().as_secs_f64().max(0.001);
        let rate = mebibytes / seconds;
        eprint!("\r{mebibytes:.1} MiB in {seconds:.0} s, {rate:.1} MiB/s ");
    }

    fn end(&self) {
        if self.is_on {
            self.show();
            eprintln!();
        }
    }
}
