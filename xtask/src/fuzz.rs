//! `cargo xtask fuzz`: libFuzzer on the targets of tests/fuzz.
//!
//! Needs a C++ compiler and the stable toolchain. What it keeps is under `target/fuzz`: inputs by
//! target in `corpora`, what broke a property in `findings`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use flowsluice_tests::{place, process};

use crate::shell;

/// Arguments of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// Targets, one after the other; all when none is named.
    #[arg(value_name = "TARGET", value_parser = TARGETS)]
    targets: Vec<String>,
    /// Wall-clock minutes a target.
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    minutes: f64,
    /// Processes that fuzz a target at once.
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: u32,
    /// Inputs that were found before, a folder a target; new ones are added
    /// [default: target/fuzz/corpora].
    #[arg(long, value_name = "FOLDER")]
    corpora: Option<PathBuf>,
    /// Do not fuzz: reduce each folder of --corpora to inputs that add coverage, in a folder
    /// beside it whose name ends in '.min'.
    #[arg(long)]
    minimize: bool,
}

/// As `flowsluice_fuzz::Target` names them.
const TARGETS: [&str; 10] = [
    "netflow5", "netflow9", "ipfix", "sflow", "packet", "session", "pcap", "config", "state",
    "stream",
];

/// Coverage counters for libFuzzer, as `cargo fuzz` asks for them.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];
/// The environment variable that tells the program its target.
const TARGET_VARIABLE: &str = "FLOWSLUICE_FUZZ_TARGET";
const INPUT_BYTES_MAX: u32 = 8192;
const MEMORY_MAX_MIB: u32 = 1024;
/// No input may take longer, on a busy machine.
const INPUT_SECONDS_MAX: u32 = 20;

/// Builds, then fuzzes each target.
pub fn main(args: &Args) -> Result<()> {
    let program = build()?;
    let targets: Vec<&str> = match args.targets.as_slice() {
        [] => TARGETS.into(),
        named => named.iter().map(String::as_str).collect(),
    };
    let folder = place::target().join("fuzz");
    let corpora = args.corpora.clone().unwrap_or(folder.join("corpora"));
    let findings = folder.join("findings");
    std::fs::create_dir_all(&findings)?;
    let mut failed = Vec::new();
    for target in targets {
        let own = corpora.join(target);
        std::fs::create_dir_all(&own).with_context(|| format!("make {}", own.display()))?;
        if args.minimize {
            minimize(&program, target, &own)?;
        } else if !fuzz(&program, target, args, &own, &findings)? {
            failed.push(target);
        }
    }
    ensure!(
        failed.is_empty(),
        "a property did not hold: {}; the inputs are in {}",
        failed.join(", "),
        findings.display()
    );
    Ok(())
}

fn build() -> Result<PathBuf> {
    let triple = host()?;
    let folder = place::target().join("fuzz/build");
    let mut command = shell::cargo(&[]);
    // A named target keeps the flags away from build scripts.
    command
        .args(["build", "--package", "flowsluice-fuzz", "--bin", "fuzz"])
        .args(["--features", "libfuzzer", "--profile", "fuzz"])
        .args(["--target", &triple, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", COVERAGE.join(" "));
    shell::run(&mut command)?;
    Ok(folder.join(triple).join("fuzz/fuzz"))
}

/// The triple that this machine is.
fn host() -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("ask rustc for its host")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// True when every property held.
fn fuzz(program: &Path, target: &str, args: &Args, own: &Path, findings: &Path) -> Result<bool> {
    let seconds = (args.minutes * 60.0).round().max(1.0) as u64;
    let mut command = Command::new(program);
    command
        .arg(own)
        .arg(place::root().join("tests/fuzz/corpus").join(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MAX_MIB}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-artifact_prefix={}/{target}-", findings.display()))
        .arg("-print_final_stats=1")
        .env(TARGET_VARIABLE, target)
        .stdin(Stdio::null());
    if args.jobs > 1 {
        command.arg(format!("-fork={}", args.jobs));
    }
    let cpu_s = process::ended_children_cpu_s();
    let line = shell::line(&command);
    eprintln!("xtask: {line}");
    let status = command.status().with_context(|| format!("start {line}"))?;
    let cpu_min = (process::ended_children_cpu_s() - cpu_s) / 60.0;
    let inputs = std::fs::read_dir(own)?.count();
    eprintln!("xtask: {target}: {cpu_min:.1} CPU minutes, {inputs} inputs, {status}");
    Ok(status.success())
}

fn minimize(program: &Path, target: &str, own: &Path) -> Result<()> {
    let reduced = own.with_extension("min");
    std::fs::create_dir_all(&reduced)?;
    let mut command = Command::new(program);
    command
        .args(["-merge=1".as_ref(), reduced.as_os_str(), own.as_os_str()])
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .env(TARGET_VARIABLE, target);
    if !command.status()?.success() {
        bail!("{target}: the corpus could not be reduced");
    }
    let inputs = std::fs::read_dir(&reduced)?.count();
    eprintln!("xtask: {target}: {inputs} inputs in {}", reduced.display());
    Ok(())
}
