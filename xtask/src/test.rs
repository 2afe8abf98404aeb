//! `cargo xtask test`: the tables of information elements and of services, every test, with what
//! the tests need, then the XDP program's object and instructions a flow.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use flowsluice_tests::place;

use crate::debian::{self, Program};
use crate::{
    build_ebpf, cluster_sql, dashboards, elements, engine, geo, instructions, services, shell,
};

/// Real exporters, an SNMP agent and a name server, other collectors and decoders to compare with,
/// what makes namespaces, what stands before ClickHouse with TLS and makes certificates, what
/// counts instructions, what reads the units in deploy/, and a browser.
const PROGRAMS: [Program; 13] = [
    Program {
        name: "softflowd",
        package: "softflowd",
    },
    Program {
        name: "pmacctd",
        package: "pmacct",
    },
    Program {
        name: "nfcapd",
        package: "nfdump",
    },
    Program {
        name: "sfcapd",
        package: "nfdump-sflow",
    },
    Program {
        name: "tshark",
        package: "tshark",
    },
    Program {
        name: "snmpd",
        package: "snmpd",
    },
    Program {
        name: "ip",
        package: "iproute2",
    },
    // The server alone, without the service of the package dnsmasq.
    Program {
        name: "dnsmasq",
        package: "dnsmasq-base",
    },
    Program {
        name: "stunnel4",
        package: "stunnel4",
    },
    Program {
        name: "openssl",
        package: "openssl",
    },
    instructions::VALGRIND,
    Program {
        name: "systemd-analyze",
        package: "systemd",
    },
    Program {
        name: "chromium",
        package: "chromium",
    },
];

/// Reads `/metrics` as Prometheus does; its package is Prometheus itself.
const PROMTOOL: Program = Program {
    name: "promtool",
    package: "prometheus",
};

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// A libchdb.so that is already here; its hash is not checked.
    #[arg(long, value_name = "PATH")]
    library: Option<PathBuf>,
    /// Further arguments of `cargo test`, for example `-p flowsluice-tests --test exporters`;
    /// without them the whole workspace.
    #[arg(last = true)]
    cargo: Vec<String>,
}

/// Provides what tests need, then runs them.
pub fn main(args: &Args) -> Result<()> {
    let is_ci = std::env::var_os("CI").is_some();
    run(args.library.as_deref(), &args.cargo, is_ci)
}

/// Runs the tests; where `is_ci`, all of them or none.
pub fn run(library: Option<&Path>, cargo: &[String], is_ci: bool) -> Result<()> {
    let started = Instant::now();
    elements::check()?;
    services::check()?;
    cluster_sql::check()?;
    dashboards::check()?;
    // Whoever asks for some tests alone does not wait for a BPF toolchain or a release build.
    let is_everything = cargo.is_empty();
    let Provided {
        library,
        has_bpf_toolchain,
        cannot_run,
    } = provide(library, is_everything);
    for reason in &cannot_run {
        eprintln!("xtask: cannot run the tests of {reason}");
    }
    if is_ci && !cannot_run.is_empty() {
        bail!("under CI every test must run");
    }
    // With the whole workspace the binary is built for its own tests; alone, where features of
    // fewer crates are wanted, it and forty dependencies would be compiled a second time.
    if !is_everything {
        shell::run(&mut shell::cargo(&["build", "-p", "flowsluice"]))?;
    }
    let mut command = shell::cargo(&["test", "--no-fail-fast"]);
    if is_everything {
        command.arg("--workspace");
    }
    command.args(cargo);
    command.env(
        "FLOWSLUICE_BINARY",
        place::target().join("debug/flowsluice"),
    );
    if let Some(library) = library {
        command.env("FLOWSLUICE_LIBCHDB", library);
    }
    if is_ci {
        command.env("CI", "true");
    }
    let (counts, success) = counted(&mut command)?;
    let Counts {
        passed,
        failed,
        ignored,
    } = counts;
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    eprintln!(
        "xtask: {passed} tests passed, {failed} failed, {} ignored; kinds that could not \
         run: {}; {minutes:.1} min",
        ignored.len(),
        cannot_run.len()
    );
    for test in &ignored {
        eprintln!("xtask: ignored: {test}");
    }
    for reason in &cannot_run {
        eprintln!("xtask: did not run: {reason}");
    }
    if !success {
        bail!("tests failed");
    }
    if has_bpf_toolchain {
        build_ebpf::check()?;
    }
    if is_everything && place::program(instructions::VALGRIND.name).is_some() {
        instructions::check(is_ci)?;
    }
    Ok(())
}

/// What the tests need and there is.
struct Provided {
    library: Option<PathBuf>,
    /// The XDP program can be built as the committed object was.
    has_bpf_toolchain: bool,
    /// Kinds of tests that lack something, with the remedy.
    cannot_run: Vec<String>,
}

fn provide(library: Option<&Path>, is_everything: bool) -> Provided {
    let mut cannot_run = Vec::new();
    match debian::provide(&PROGRAMS) {
        Ok(missing) if missing.is_empty() => {}
        Ok(missing) => cannot_run.push(format!("other programs: {}", debian::remedy(&missing))),
        Err(error) => cannot_run.push(format!("other programs: {error:#}")),
    }
    if let Err(error) = debian::unpack(PROMTOOL) {
        cannot_run.push(format!("Prometheus' own parsers: {error:#}"));
    }
    let library = match engine::obtain(library) {
        Ok(library) => Some(library),
        Err(error) => {
            cannot_run.push(format!("the real ClickHouse: {error:#}"));
            None
        }
    };
    if let Err(error) = geo::obtain_city() {
        cannot_run.push(format!("a real City database: {error:#}"));
    }
    if let Err(error) = dashboards::types::obtain() {
        cannot_run.push(format!("Grafana's types: {error:#}"));
    }
    let mut has_bpf_toolchain = false;
    if is_everything {
        match build_ebpf::unavailable() {
            Ok(None) => has_bpf_toolchain = true,
            Ok(Some(remedy)) => cannot_run.push(format!("the XDP program's object: {remedy}")),
            Err(error) => cannot_run.push(format!("the XDP program's object: {error:#}")),
        }
    }
    Provided {
        library,
        has_bpf_toolchain,
        cannot_run,
    }
}

/// What `cargo test` says of all its programs together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    /// Name and reason of each test that is not run unless asked for.
    ignored: Vec<String>,
}

/// Runs the command, passes its output on, and adds up its result lines.
fn counted(command: &mut std::process::Command) -> Result<(Counts, bool)> {
    let line = shell::line(command);
    eprintln!("xtask: {line}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {line}"))?;
    let output = child.stdout.take().context("its output is a pipe")?;
    let mut counts = Counts::default();
    let mut out = std::io::stdout().lock();
    for text in BufReader::new(output).lines() {
        let text = text?;
        writeln!(out, "{text}")?;
        count(&text, &mut counts);
    }
    Ok((counts, child.wait()?.success()))
}

/// `test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s`
fn count(text: &str, counts: &mut Counts) {
    let test = text.strip_prefix("test ");
    if let Some((name, reason)) = test.and_then(|test| test.split_once(" ... ignored")) {
        counts.ignored.push(format!("{name}{reason}"));
    }
    let Some((_, figures)) = (text.strip_prefix("test result: ")).and_then(|t| t.split_once(". "))
    else {
        return;
    };
    for figure in figures.split("; ") {
        let Some((number, what)) = figure.split_once(' ') else {
            continue;
        };
        let number = number.parse().unwrap_or(0);
        match what {
            "passed" => counts.passed += number,
            "failed" => counts.failed += number,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_added_up() {
        let mut counts = Counts::default();
        let end = "0 measured; 0 filtered out; finished in 0.14s";
        count(
            &format!("test result: ok. 7 passed; 0 failed; 1 ignored; {end}"),
            &mut counts,
        );
        count(
            &format!("test result: FAILED. 2 passed; 3 failed; 0 ignored; {end}"),
            &mut counts,
        );
        count("test a::b ... ok", &mut counts);
        count("test slow ... ignored, a measurement", &mut counts);
        let expected = Counts {
            passed: 9,
            failed: 3,
            ignored: vec!["slow, a measurement".into()],
        };
        assert_eq!(counts, expected);
    }
}
