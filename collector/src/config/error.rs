//! What is wrong with a configuration, told all at once.

use std::fmt;

use super::Config;

/// One mistake: where it stands, what was found and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line of the file, from 1; `None` when the file does not have the key.
    pub line: Option<usize>,
    /// The key, such as `receive.listeners[1].port`; empty for the file as a whole.
    pub key: String,
    /// What was found; what is allowed or what to do.
    pub text: String,
    /// Another key that the problem is as much about; its line is told when `key` has none.
    pub(super) also: &'static str,
}

impl Problem {
    /// A problem whose line is looked up later.
    pub(super) fn new(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            line: None,
            key: key.into(),
            text: text.into(),
            also: "",
        }
    }

    /// Whether it is about the key that `other` is about, or one below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let rest = self.key.strip_prefix(&other.key);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }

    /// The same problem, as much about the key `also`.
    pub(super) fn with(self, also: &'static str) -> Self {
        Self { also, ..self }
    }
}

/// All that is wrong with one file.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigError {
    /// The file as it was named, or "built-in defaults".
    pub file: String,
    /// At least one, in the order of the file.
    pub problems: Vec<Problem>,
    /// The rest of the file, where it could be understood: more may be wrong with that.
    pub understood: Option<Box<Config>>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.file)?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            if !problem.key.is_empty() {
                write!(f, ": {}", problem.key)?;
            }
            write!(f, ": {}", problem.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
