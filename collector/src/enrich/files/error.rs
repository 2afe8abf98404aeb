//! What is wrong with a file, told all at once and with the remedy.

use std::fmt;
use std::path::{Path, PathBuf};

/// Errors of a file that are kept; the rest is counted.
const ERRORS_KEPT: usize = 10;

/// Characters of what was found that are told.
const QUOTED_CHARS_MAX: usize = 60;

/// What is wrong with one line, before anybody says which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What was found.
    pub what: String,
    /// What is allowed, or what to do.
    pub remedy: String,
}

impl Fault {
    /// What was found, and what is allowed or what to do.
    #[cold]
    #[must_use]
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// The same, in a line of a file, counted from 1; `None` is the file as a whole.
    #[must_use]
    pub fn at(self, file: &Path, line: Option<u64>) -> FileError {
        let Self { what, remedy } = self;
        FileError {
            file: file.to_owned(),
            line,
            what,
            remedy,
        }
    }
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; `None` when it is about the file as a whole.
    pub line: Option<u64>,
    /// What was found.
    pub what: String,
    /// What is allowed, or what to do.
    pub remedy: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            what,
            remedy,
        } = self;
        write!(f, "{}", file.display())?;
        if let Some(line) = line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {what}; {remedy}")
    }
}

impl std::error::Error for FileError {}

/// All that is wrong with some files: the first errors, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileErrors {
    first: Vec<FileError>,
    count: usize,
}

impl FileErrors {
    /// One more.
    pub fn add(&mut self, error: FileError) {
        self.count += 1;
        if self.first.len() < ERRORS_KEPT {
            self.first.push(error);
        }
    }

    /// Those of other files too.
    pub fn append(&mut self, others: Self) {
        self.count += others.count;
        let room = ERRORS_KEPT - self.first.len();
        self.first.extend(others.first.into_iter().take(room));
    }

    /// The first of them, in the order in which they were found.
    #[must_use]
    pub fn first(&self) -> &[FileError] {
        &self.first
    }

    /// How many there are, also of those that were not kept.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// `value` when nothing is wrong.
    ///
    /// # Errors
    /// These, when there are any.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        match self.count {
            0 => Ok(value),
            _ => Err(self),
        }
    }
}

impl From<FileError> for FileErrors {
    fn from(error: FileError) -> Self {
        Self {
            first: vec![error],
            count: 1,
        }
    }
}

impl fmt::Display for FileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.first.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for FileErrors {}

/// What was found, harmless to print and not too long.
#[must_use]
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}
