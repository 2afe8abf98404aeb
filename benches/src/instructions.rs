//! `instructions`: how many instructions a flow takes, stage by stage, and whether that grew.
//!
//! Unlike times, counts hardly differ from run to run or from machine to machine, so a test can
//! hold them against a file. [`cases`] does the work, each case in a process of its own under
//! callgrind ([`callgrind`]), which counts inside of one function only; [`recorded`] is the file
//! `benches/instructions.toml` and the verdict. A change that makes a stage dearer passes only
//! together with the file that says so.

mod callgrind;
mod cases;
mod recorded;

use anyhow::{Result, ensure};
use clap::ValueEnum as _;
use flowsluice_tests::place;

pub use cases::Case;
use recorded::{Recorded, Verdict};

/// How the recorded counts are brought up to date.
pub const UPDATE: &str = "cargo xtask instructions --update";

/// Counts every case; records the counts, or holds them against those recorded.
///
/// # Errors
/// When a case cannot be counted, or takes more instructions than recorded by more than
/// [`recorded::TOLERANCE`] and the same compiler made both, or it is CI that asks.
pub fn main(update: bool) -> Result<()> {
    let file = place::root().join("benches/instructions.toml");
    let mut counted = Recorded::new(env!("FLOWSLUICE_RUSTC"));
    for case in Case::value_variants() {
        counted.set(case.name(), callgrind::instructions_a_flow(*case)?);
    }
    if update {
        counted.write(&file)?;
        print!("{counted}");
        return Ok(());
    }
    let recorded = Recorded::read(&file)?;
    let verdicts = recorded.against(&counted);
    for verdict in &verdicts {
        println!("{verdict}");
    }
    let failed: Vec<_> = verdicts.iter().filter(|v| v.is_failure()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let names = failed.iter().map(|v| v.case()).collect::<Vec<_>>();
    let names = names.join(", ");
    let is_ci = std::env::var_os("CI").is_some();
    let same = recorded.rustc() == counted.rustc();
    let compilers = format!(
        "recorded with {}, counted with {}",
        recorded.rustc(),
        counted.rustc()
    );
    if !same && !is_ci && failed.iter().all(|v| matches!(v, Verdict::Grown { .. })) {
        println!("{names}: perhaps only the other compiler's code ({compilers}); not a failure");
        return Ok(());
    }
    ensure!(
        false,
        "{names}: more instructions a flow than benches/instructions.toml has ({compilers}); make \
         it cheaper, or run '{UPDATE}' and commit the file with the change that explains it"
    );
    Ok(())
}
