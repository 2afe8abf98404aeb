//! The forms that statements of `sql/` have. `cargo xtask cluster-sql` has this file as well.

/// What a statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Makes a table, which holds rows or passes them on.
    Table,
    /// Makes a view that writes what it reads.
    Materialized,
    /// Makes a view that reads what it is asked for.
    View,
    /// Removes a table or view.
    Drop,
    /// Alters a table.
    Alter,
}

/// How each begins; the name stands behind [`DATABASE`].
pub(super) const FORMS: [(&str, Form); 7] = [
    ("CREATE TABLE IF NOT EXISTS ", Form::Table),
    (
        "CREATE MATERIALIZED VIEW IF NOT EXISTS ",
        Form::Materialized,
    ),
    ("CREATE VIEW IF NOT EXISTS ", Form::View),
    ("CREATE OR REPLACE VIEW ", Form::View),
    ("DROP TABLE IF EXISTS ", Form::Drop),
    ("DROP VIEW IF EXISTS ", Form::Drop),
    ("ALTER TABLE ", Form::Alter),
];

/// Stands before each name.
pub(super) const DATABASE: &str = "{database}.";

/// Cuts a statement apart: its form, what it begins with, the name of what it is about, and all
/// behind that. None where it has another form.
pub(super) fn parted(statement: &str) -> Option<(Form, &'static str, &str, &str)> {
    FORMS.iter().find_map(|(begin, form)| {
        let rest = statement.strip_prefix(begin)?.strip_prefix(DATABASE)?;
        let (name, rest) = name_of(rest);
        Some((*form, *begin, name, rest))
    })
}

/// The name that a text begins with, and all behind it.
pub(super) fn name_of(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    text.split_at(end.unwrap_or(text.len()))
}
