//! The filters of a dashboard as conditions of SQL.
//!
//! A value reaches ClickHouse percent-encoded inside a string, so no quote or backslash in a name
//! can end the string. Several values come as `{a,b}`.

use std::fmt::Write as _;

use super::source::{Filters, Shared, Variable};

/// The variables that a dashboard has.
pub fn variables(shared: &Shared, filters: Filters) -> Vec<&Variable> {
    let is_there = |variable: &&Variable| match filters {
        Filters::All => true,
        Filters::Exporter => variable.name == "exporter",
        Filters::None => false,
    };
    shared.variable.iter().filter(is_there).collect()
}

/// Whether everything is selected, as a condition.
pub fn is_all(variable: &Variable) -> String {
    format!("$__conditionalAll(0, ${})", variable.name)
}

/// The condition of one variable; true where everything is selected.
pub fn condition(variable: &Variable) -> String {
    let Variable {
        name, condition, ..
    } = variable;
    let condition = condition
        .trim()
        .replace("{{list}}", &list(name))
        .replace("{{text}}", &text(name))
        .replace("{{raw}}", &format!("${{{name}:raw}}"));
    format!("$__conditionalAll(({condition}), ${name})")
}

/// The conditions of several variables, each behind an AND.
pub fn all_of<'a>(variables: impl IntoIterator<Item = &'a Variable>) -> String {
    let mut sql = String::new();
    for variable in variables {
        let _ = write!(sql, "\n    AND {}", condition(variable));
    }
    sql
}

/// What is written or selected, as a String.
fn text(name: &str) -> String {
    format!("decodeURLComponent('${{{name}:percentencode}}')")
}

/// The values that are selected, as an Array(String).
fn list(name: &str) -> String {
    let text = text(name);
    format!(
        "splitByChar(',', if(startsWith({text}, '{{'), substring({text}, 2, length({text}) - 2), \
         {text}))"
    )
}
