//! Which elements the operator asks for: `decode.extra`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::decode::elements;

/// One entry of `decode.extra`: `*`, `PEN.*`, `PEN.id`, `PEN.name`, or the name of one of IANA's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum ElementPattern {
    /// Every element.
    All,
    /// Every element of an enterprise.
    Enterprise(u32),
    /// One element.
    Element(u32, u16),
}

/// A text that names no element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no element has this name; write \"PEN.id\"")]
pub struct PatternError;

impl FromStr for ElementPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self::All);
        }
        let (enterprise, element) = text.split_once('.').unwrap_or(("0", text));
        let enterprise = enterprise.parse().map_err(|_| PatternError)?;
        if element == "*" {
            return Ok(Self::Enterprise(enterprise));
        }
        let id = match element.parse() {
            // A bare number could be anything's.
            Ok(id) => text.contains('.').then_some(id),
            Err(_) => elements::id_of(enterprise, element),
        };
        Ok(Self::Element(enterprise, id.ok_or(PatternError)?))
    }
}

impl TryFrom<String> for ElementPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl fmt::Display for ElementPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Enterprise(enterprise) => write!(f, "{enterprise}.*"),
            Self::Element(enterprise, id) => match elements::info(*enterprise, *id) {
                Some(info) => write!(f, "{enterprise}.{}", info.name),
                None => write!(f, "{enterprise}.{id}"),
            },
        }
    }
}

impl From<ElementPattern> for String {
    fn from(pattern: ElementPattern) -> Self {
        pattern.to_string()
    }
}

/// The elements that go to `extra` where they fill no column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted(Vec<ElementPattern>);

impl Wanted {
    /// None: `extra` stays empty.
    pub const NOTHING: &'static Self = &Self(Vec::new());

    /// Those that any of `patterns` names.
    #[must_use]
    pub fn of(patterns: &[ElementPattern]) -> Self {
        Self(patterns.into())
    }

    /// True when no element is wanted.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }

    /// True when element `id` of `enterprise` is wanted.
    #[must_use]
    pub fn has(&self, enterprise: u32, id: u16) -> bool {
        self.0.iter().any(|pattern| match *pattern {
            ElementPattern::All => true,
            ElementPattern::Enterprise(wanted) => wanted == enterprise,
            ElementPattern::Element(of, wanted) => (of, wanted) == (enterprise, id),
        })
    }
}
