//! Runs one case under callgrind and reads what it counted.
//!
//! <https://valgrind.org/docs/manual/cl-manual.html>

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Case;

/// The function that is counted, with everything that it calls; set-up stands outside of it.
const TOGGLE: &str = "--toggle-collect=*instructions::cases::measured*";

/// What glibc may use of the processor. It has a memcpy for each generation; these switches leave
/// the one that every x86-64 has, so that counts do not depend on where they are taken.
const GLIBC: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-AVX_Fast_Unaligned_Load,\
                     -SSSE3,-ERMS,-FSRM";

/// Instructions in the measured part of `case`, by the flows in it.
///
/// # Errors
/// When valgrind cannot run it, or counted nothing.
pub fn instructions_a_flow(case: Case) -> Result<f64> {
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let out = folder.path().join("callgrind.out");
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--collect-atstart=no", TOGGLE])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().context("where this program is")?)
        .args(["--case", case.name()])
        .env("GLIBC_TUNABLES", GLIBC);
    let output = command.output().context("start valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let name = case.name();
    ensure!(
        output.status.success(),
        "{name} under valgrind: {}\n{said}",
        output.status
    );
    let flows: f64 = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .with_context(|| format!("{name}: it printed no number of flows"))?;
    let instructions = total(&out)?;
    // Without its function callgrind counts nothing, and nothing never grows.
    ensure!(
        instructions > 0 && flows >= 1.0,
        "{name}: {instructions} instructions for {flows} flows; is a function like '{TOGGLE}' in \
         the program's symbols?"
    );
    Ok(instructions as f64 / flows)
}

/// The line `totals:` of a callgrind file.
fn total(file: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals:"));
    let total = total.context("callgrind wrote no line 'totals:'")?;
    total.trim().parse().context("callgrind's totals")
}
