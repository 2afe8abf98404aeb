//! Figures for people: on standard output, and in a section of `benches/RESULTS.md`.
//!
//! A section stands between `<!-- begin NAME -->` and `<!-- end NAME -->`. Only that of the subject
//! that was measured is replaced; what people wrote outside of such markers stays.

use std::fmt::{self, Write as _};

use anyhow::{Context, Result, bail};
use flowsluice_tests::place;

use crate::machine::Machine;
use crate::options::Options;

/// A table of markdown.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one with these columns.
    #[must_use]
    pub fn new<T: Into<String>>(columns: impl IntoIterator<Item = T>) -> Self {
        Self {
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// When it has not as many cells as there are columns.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert_eq!(cells.len(), self.columns.len(), "a cell a column");
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} |", self.columns.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(self.columns.len()))?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}

/// What one subcommand found.
#[derive(Clone, Debug)]
pub struct Section {
    name: &'static str,
    title: &'static str,
    body: String,
}

impl Section {
    /// Without figures yet. `name` is the subcommand.
    #[must_use]
    pub fn new(name: &'static str, title: &'static str) -> Self {
        Self {
            name,
            title,
            body: String::new(),
        }
    }

    /// Adds a paragraph.
    pub fn text(&mut self, paragraph: &str) {
        let _ = write!(self.body, "\n{paragraph}\n");
    }

    /// Adds a table below its caption.
    pub fn table(&mut self, caption: &str, table: &Table) {
        self.text(caption);
        let _ = write!(self.body, "\n{table}");
    }

    fn markdown(&self, date: &str, machine: &str, options: &Options) -> String {
        let Self { name, title, body } = self;
        let quick = if options.quick { " --quick" } else { "" };
        format!("## {title}: `cargo xtask bench {name}{quick}`\n\n{date}, {machine}.\n{body}")
    }
}

/// Prints the section, and writes it where [`Options::writes`].
///
/// # Errors
/// When the machine does not tell what it is, or the results cannot be written.
pub fn publish(options: &Options, section: &Section) -> Result<()> {
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let machine = Machine::read()?.to_string();
    let markdown = section.markdown(&date, &machine, options);
    println!("{markdown}");
    if !options.writes() {
        return Ok(());
    }
    let file = place::root().join("benches/RESULTS.md");
    let document =
        std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let document = with_section(&document, section.name, &markdown)
        .with_context(|| format!("{}: section {}", file.display(), section.name))?;
    std::fs::write(&file, document).with_context(|| format!("write {}", file.display()))
}

/// `document` with `markdown` between the markers of `name`, which are put at its end if need be.
fn with_section(document: &str, name: &str, markdown: &str) -> Result<String> {
    let (begin, end) = (
        format!("<!-- begin {name} -->"),
        format!("<!-- end {name} -->"),
    );
    let section = format!("{begin}\n{}\n{end}", markdown.trim_end());
    match (document.find(&begin), document.find(&end)) {
        (None, None) => Ok(format!("{}\n\n{section}\n", document.trim_end())),
        (Some(from), Some(to)) if from < to => {
            let (before, after) = (&document[..from], &document[to + end.len()..]);
            Ok(format!("{before}{section}{after}"))
        }
        _ => bail!("'{begin}' and '{end}' do not belong together; mend them by hand"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# Measured\n\n<!-- begin decode -->\nold\n<!-- end decode -->\n\n\
                            By hand.\n\n<!-- begin store -->\nkept\n<!-- end store -->\n";

    #[test]
    fn a_section_is_replaced_and_the_rest_stays() {
        let document = with_section(DOCUMENT, "decode", "new\n").unwrap();
        assert_eq!(document, DOCUMENT.replace("old", "new"));
        let again = with_section(&document, "decode", "new\n").unwrap();
        assert_eq!(again, document, "writing twice changes nothing");
    }

    #[test]
    fn a_new_section_comes_last() {
        let document = with_section(DOCUMENT, "receive", "fresh").unwrap();
        let expected = "\n<!-- begin receive -->\nfresh\n<!-- end receive -->\n";
        assert_eq!(document, format!("{DOCUMENT}{expected}"));
    }

    #[test]
    fn a_marker_without_its_other_half_is_an_error() {
        for document in ["<!-- begin x -->", "<!-- end x --> <!-- begin x -->"] {
            assert!(with_section(document, "x", "new").is_err(), "{document}");
        }
    }

    #[test]
    fn a_section_names_its_command_its_date_and_its_machine() {
        let mut section = Section::new("decode", "Decoding");
        let mut table = Table::new(["protocol", "ns"]);
        table.row(["ipfix", "30"]);
        section.table("A caption.", &table);
        let options = Options {
            quick: true,
            ..Options::default()
        };
        let expected = "## Decoding: `cargo xtask bench decode --quick`\n\n\
                        2026-01-02, a machine.\n\nA caption.\n\n\
                        | protocol | ns |\n|---|---|\n| ipfix | 30 |\n";
        assert_eq!(
            section.markdown("2026-01-02", "a machine", &options),
            expected
        );
    }
}
