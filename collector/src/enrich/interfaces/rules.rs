//! What the names of interfaces say of them, by the operator's rules.

use regex::{Captures, Regex};
use thiserror::Error;

use super::clean;
use crate::config::{self, Boundary};

/// A rule whose pattern is no regular expression.
#[derive(Debug, Error)]
#[error("enrich.interface_rules[{rule}].{key}: {error}")]
pub struct InterfaceRuleError {
    rule: usize,
    key: &'static str,
    error: regex::Error,
}

/// The rules of `enrich.interface_rules`, ready to be applied; the first that fits counts.
#[derive(Clone, Debug, Default)]
pub struct InterfaceRules(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    name: Option<Regex>,
    alias: Option<Regex>,
    speed_min: u64,
    /// `u64::MAX` when any is allowed.
    speed_max: u64,
    boundary: Boundary,
    provider: String,
    connectivity: String,
}

/// What rules say of one interface.
#[derive(Debug, Default)]
pub(super) struct Class {
    boundary: Boundary,
    provider: Box<str>,
    connectivity: Box<str>,
}

impl Class {
    /// Boundary, provider and connectivity as columns have them.
    pub(super) fn columns(&self) -> [&str; 3] {
        let boundary = match self.boundary {
            Boundary::Undefined => "",
            Boundary::External => "external",
            Boundary::Internal => "internal",
        };
        [boundary, &self.provider, &self.connectivity]
    }
}

impl InterfaceRules {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// When one is no regular expression.
    pub fn new(rules: &[config::InterfaceRule]) -> Result<Self, InterfaceRuleError> {
        let rules = rules.iter().enumerate();
        let rules = rules.map(|(number, rule)| Rule::new(number, rule));
        Ok(Self(rules.collect::<Result<_, _>>()?))
    }

    pub(super) fn classify(&self, name: &str, alias: &str, speed: u64) -> Class {
        let rules = self.0.iter();
        rules
            .filter_map(|rule| rule.classify(name, alias, speed))
            .next()
            .unwrap_or_default()
    }
}

impl Rule {
    fn new(rule: usize, config: &config::InterfaceRule) -> Result<Self, InterfaceRuleError> {
        let regex = |key, pattern: &str| match pattern {
            "" => Ok(None),
            _ => Regex::new(pattern)
                .map(Some)
                .map_err(|error| InterfaceRuleError { rule, key, error }),
        };
        Ok(Self {
            name: regex("name", &config.name)?,
            alias: regex("alias", &config.alias)?,
            speed_min: config.speed_min as u64,
            speed_max: match config.speed_max {
                0 => u64::MAX,
                max => max as u64,
            },
            boundary: config.boundary,
            provider: config.provider.clone(),
            connectivity: config.connectivity.clone(),
        })
    }

    /// `None` when the rule does not fit.
    fn classify(&self, name: &str, alias: &str, speed: u64) -> Option<Class> {
        if !(self.speed_min..=self.speed_max).contains(&speed) {
            return None;
        }
        let of_name = captures(self.name.as_ref(), name)?;
        let of_alias = captures(self.alias.as_ref(), alias)?;
        // Groups are those of the alias, of the name when the alias has none.
        let has_groups = |captures: &&Captures<'_>| captures.len() > 1;
        let of_alias = of_alias.as_ref().filter(has_groups);
        let groups = of_alias.or(of_name.as_ref());
        let fill = |template: &str| match groups {
            Some(groups) => {
                let mut text = String::new();
                groups.expand(template, &mut text);
                clean(text.as_bytes())
            }
            None => clean(template.as_bytes()),
        };
        Some(Class {
            boundary: self.boundary,
            provider: fill(&self.provider),
            connectivity: fill(&self.connectivity),
        })
    }
}

/// `Some(None)` where anything fits, `None` where `text` does not.
fn captures<'t>(pattern: Option<&Regex>, text: &'t str) -> Option<Option<Captures<'t>>> {
    match pattern {
        None => Some(None),
        Some(pattern) => pattern.captures(text).map(Some),
    }
}
