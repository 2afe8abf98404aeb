//! The file of recorded counts, and what it says to new ones.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::UPDATE;

/// Growth that is not told: what code elsewhere does to inlining and layout.
pub const TOLERANCE: f64 = 0.05;

/// Counts, and the compiler whose code was counted.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    rustc: String,
    instructions_a_flow: BTreeMap<String, f64>,
}

impl Recorded {
    /// No count yet.
    #[must_use]
    pub fn new(rustc: &str) -> Self {
        Self {
            rustc: rustc.to_owned(),
            instructions_a_flow: BTreeMap::new(),
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// When it is not there or not as [`Recorded::write`] writes it.
    pub fn read(file: &Path) -> Result<Self> {
        let shown = file.display();
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("read {shown}; '{UPDATE}' makes it"))?;
        toml::from_str(&text).with_context(|| format!("{shown}: '{UPDATE}' makes it anew"))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, file: &Path) -> Result<()> {
        std::fs::write(file, self.to_string()).with_context(|| format!("write {}", file.display()))
    }

    /// The compiler, with its version.
    #[must_use]
    pub fn rustc(&self) -> &str {
        &self.rustc
    }

    /// Notes the count of a case.
    pub fn set(&mut self, case: &str, instructions_a_flow: f64) {
        // A tenth of an instruction is more than counts repeat to.
        let rounded = (instructions_a_flow * 10.0).round() / 10.0;
        self.instructions_a_flow.insert(case.to_owned(), rounded);
    }

    /// What became of each case, those that only one of the two knows included.
    #[must_use]
    pub fn against(&self, counted: &Self) -> Vec<Verdict> {
        let of = |one: &Self, case: &str| one.instructions_a_flow.get(case).copied();
        let mut cases: Vec<_> = self.instructions_a_flow.keys().collect();
        cases.extend(counted.instructions_a_flow.keys());
        cases.sort_unstable();
        cases.dedup();
        let verdict = |case: &String| {
            let case = case.clone();
            match (of(self, &case), of(counted, &case)) {
                (Some(old), Some(new)) if new > old * (1.0 + TOLERANCE) => {
                    Verdict::Grown { case, old, new }
                }
                (Some(old), Some(new)) if new < old * (1.0 - TOLERANCE) => {
                    Verdict::Shrunk { case, old, new }
                }
                (Some(old), Some(new)) => Verdict::Kept { case, old, new },
                (None, _) => Verdict::Unrecorded { case },
                (_, None) => Verdict::Gone { case },
            }
        };
        cases.into_iter().map(verdict).collect()
    }
}

impl fmt::Display for Recorded {
    /// The file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HEAD}")?;
        writeln!(f, "rustc = \"{}\"\n\n[instructions_a_flow]", self.rustc)?;
        for (case, count) in &self.instructions_a_flow {
            writeln!(f, "{case} = {count:.1}")?;
        }
        Ok(())
    }
}

const HEAD: &str = "\
# Instructions a flow of each stage in the release build, as callgrind counts them on x86-64 Linux.
# `cargo xtask test` counts again and fails when one grew by more than 5 %; a change that is worth
# it comes with this file brought up to date by `cargo xtask instructions --update`.
# Another compiler makes other code: where rustc is not the one named here, growth is told and fails
# only under CI, which builds with the stable of the day.
";

/// What became of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Within [`TOLERANCE`].
    Kept {
        /// Its name.
        case: String,
        /// Instructions a flow as recorded.
        old: f64,
        /// Instructions a flow now.
        new: f64,
    },
    /// More than recorded: a failure.
    Grown {
        /// Its name.
        case: String,
        /// Instructions a flow as recorded.
        old: f64,
        /// Instructions a flow now.
        new: f64,
    },
    /// Less than recorded: worth recording, or the next growth up to there goes unseen.
    Shrunk {
        /// Its name.
        case: String,
        /// Instructions a flow as recorded.
        old: f64,
        /// Instructions a flow now.
        new: f64,
    },
    /// Counted and not in the file: a failure.
    Unrecorded {
        /// Its name.
        case: String,
    },
    /// In the file and not counted: a failure.
    Gone {
        /// Its name.
        case: String,
    },
}

impl Verdict {
    /// Whose verdict it is.
    #[must_use]
    pub fn case(&self) -> &str {
        match self {
            Self::Kept { case, .. }
            | Self::Grown { case, .. }
            | Self::Shrunk { case, .. }
            | Self::Unrecorded { case }
            | Self::Gone { case } => case,
        }
    }

    /// True when the file must change, or the code.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Kept { .. } | Self::Shrunk { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |old: f64, new: f64| (new / old - 1.0) * 100.0;
        match self {
            Self::Kept { case, old, new } => {
                write!(f, "{case}: {new:.1} instructions a flow, recorded {old:.1}")
            }
            Self::Grown { case, old, new } => write!(
                f,
                "{case}: {new:.1} instructions a flow, recorded {old:.1}: {:+.1} %, more than 5 %",
                percent(*old, *new)
            ),
            Self::Shrunk { case, old, new } => write!(
                f,
                "{case}: {new:.1} instructions a flow, recorded {old:.1}: {:+.1} %; keep it with \
                 '{UPDATE}'",
                percent(*old, *new)
            ),
            Self::Unrecorded { case } => write!(f, "{case}: not recorded; run '{UPDATE}'"),
            Self::Gone { case } => write!(f, "{case}: no longer counted; run '{UPDATE}'"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(counts: &[(&str, f64)]) -> Recorded {
        let mut recorded = Recorded::new("rustc 1.0.0");
        for &(case, count) in counts {
            recorded.set(case, count);
        }
        recorded
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("instructions.toml");
        let written = recorded(&[("a", 100.04), ("b", 7.0)]);
        written.write(&file).unwrap();
        assert_eq!(Recorded::read(&file).unwrap(), written);
        let missing = Recorded::read(&folder.path().join("x")).unwrap_err();
        assert!(format!("{missing:#}").contains(UPDATE), "{missing:#}");
    }

    #[test]
    fn growth_beyond_the_tolerance_and_unknown_cases_fail_and_a_shrink_is_a_hint() {
        let old = recorded(&[("a", 100.0), ("b", 100.0), ("c", 100.0), ("gone", 1.0)]);
        let new = recorded(&[("a", 105.0), ("b", 105.1), ("c", 94.9), ("new", 1.0)]);
        let verdicts = old.against(&new);
        let told: Vec<_> = verdicts.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "a: 105.0 instructions a flow, recorded 100.0",
                "b: 105.1 instructions a flow, recorded 100.0: +5.1 %, more than 5 %",
                "c: 94.9 instructions a flow, recorded 100.0: -5.1 %; keep it with 'cargo xtask \
                 instructions --update'",
                "gone: no longer counted; run 'cargo xtask instructions --update'",
                "new: not recorded; run 'cargo xtask instructions --update'",
            ]
        );
        let failures: Vec<_> = verdicts.iter().filter(|v| v.is_failure()).collect();
        let names: Vec<_> = failures.iter().map(|verdict| verdict.case()).collect();
        assert_eq!(names, ["b", "gone", "new"]);
    }
}
