//! Variables of the service: the drop-in of systemd (`Environment=`), or a file of assignments.

use std::path::{Path, PathBuf};

use super::{At, Report, found};

const PREFIX: &str = "ELASTIFLOW_";

/// One variable.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) at: At,
}

/// All variables, the last assignment of each, in the order of the files.
#[derive(Default)]
pub(super) struct Variables {
    pub(super) all: Vec<Variable>,
    /// Is there a file of them at all?
    pub(super) is_there: bool,
}

impl Variables {
    pub(super) fn get(&self, name: &str) -> Option<&Variable> {
        self.all.iter().find(|variable| variable.name == name)
    }
}

/// Does a file assign variables of ElastiFlow?
pub(super) fn is_one(text: &str) -> bool {
    let assigned = |assignments: Vec<(String, String)>| {
        let mut assignments = assignments.into_iter();
        assignments.any(|(name, _)| name.starts_with(PREFIX))
    };
    lines(text).any(|(_, line)| assignments(&line).is_ok_and(assigned))
}

pub(super) fn read(files: &[PathBuf], report: &mut Report) -> Variables {
    let mut variables = Variables {
        is_there: !files.is_empty(),
        ..Variables::default()
    };
    for file in files {
        match found::text(file) {
            Ok(text) => read_text(file, &text, &mut variables, report),
            Err(error) => report.odd(&at(file, 0), format!("{error:#}")),
        }
    }
    variables
}

fn read_text(file: &Path, text: &str, variables: &mut Variables, report: &mut Report) {
    for (line, logical) in lines(text) {
        let at = at(file, line);
        let assignments = match assignments(&logical) {
            Ok(assignments) => assignments,
            Err(why) => {
                report.odd(&at, why);
                continue;
            }
        };
        for (name, value) in assignments {
            if let Some(index) = variables.all.iter().position(|it| it.name == name) {
                let former = variables.all.remove(index);
                if former.value != value {
                    let text = format!("{name} is set again at {at}, which counts");
                    report.left(&former.at, text);
                }
            }
            let at = at.clone();
            variables.all.push(Variable { name, value, at });
        }
    }
}

fn at(file: &Path, line: u64) -> At {
    let file = file.to_owned();
    At { file, line }
}

/// Lines without comments, joined where a backslash ends one (systemd.syntax(7)); each with the
/// number of its first.
fn lines(text: &str) -> impl Iterator<Item = (u64, String)> {
    let mut lines = (1..).zip(text.lines());
    std::iter::from_fn(move || {
        let (number, first) = lines.next()?;
        let mut whole = first.trim().to_owned();
        if is_comment(&whole) {
            return Some((number, String::new()));
        }
        while whole.ends_with('\\') {
            whole.pop();
            match lines.next() {
                // A comment between them does not end the line.
                Some((_, next)) if is_comment(next.trim()) => whole.push('\\'),
                Some((_, next)) => {
                    whole.push(' ');
                    whole.push_str(next.trim());
                }
                None => break,
            }
        }
        Some((number, whole))
    })
    .filter(|(_, line)| !line.is_empty())
}

fn is_comment(line: &str) -> bool {
    line.starts_with('#') || line.starts_with(';')
}

/// The assignments of a line; none when it is another setting.
fn assignments(line: &str) -> Result<Vec<(String, String)>, String> {
    let is_name = |name: &str| {
        let mut letters = name.chars();
        letters
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let (rest, is_systemd) = match line.strip_prefix("Environment") {
        Some(rest) if rest.trim_start().starts_with('=') => {
            (rest.trim_start().trim_start_matches('='), true)
        }
        _ => (line.strip_prefix("export ").unwrap_or(line), false),
    };
    // What is no assignment of ElastiFlow in a plain file may be anything of a shell.
    if !is_systemd && !rest.trim_start().starts_with(PREFIX) && !rest.starts_with("LS_") {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for word in words(rest)? {
        let assignment = word.split_once('=').filter(|(name, _)| is_name(name));
        let Some((name, value)) = assignment else {
            // Not repeated: it may be half a password.
            return Err("it is no NAME=VALUE; write Environment=\"NAME=VALUE\"".into());
        };
        // systemd.unit(5): a percent sign begins a specifier.
        let value = if is_systemd {
            value.replace("%%", "%")
        } else {
            value.to_owned()
        };
        if value.contains(|c: char| c.is_control()) {
            return Err(format!(
                "{name} has a control character in its value; remove it"
            ));
        }
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

/// Words divided by space; quotes keep space in them, a backslash the next letter.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (_, '\\') => word.get_or_insert_default().extend(letters.next()),
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            // A comment of a shell.
            (None, '#') if word.is_none() => break,
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quotation mark is not closed; close it".into());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (Vec<(String, String, u64)>, Report) {
        let (mut variables, mut report) = (Variables::default(), Report::default());
        read_text(Path::new("e.conf"), text, &mut variables, &mut report);
        let all = variables.all.into_iter();
        let all = all.map(|it| (it.name, it.value, it.at.line));
        (all.collect(), report)
    }

    fn is(found: &(String, String, u64), name: &str, value: &str, line: u64) -> bool {
        (found.0.as_str(), found.1.as_str(), found.2) == (name, value, line)
    }

    #[test]
    fn assignments_are_read_as_systemd_reads_them() {
        let (all, report) = of(
            "[Service]\n# Environment=\"A=0\"\nEnvironment=\"A=1 2\" 'B=x'\nLimitNOFILE=1\n\
             Environment=C=50%% \\\n  D=4\nEnvironment=\n",
        );
        assert_eq!(all.len(), 4, "{all:?}");
        assert!(is(&all[0], "A", "1 2", 3) && is(&all[1], "B", "x", 3));
        assert!(is(&all[2], "C", "50%", 5) && is(&all[3], "D", "4", 5));
        assert!(report.odd.is_empty(), "{report:?}");
    }

    #[test]
    fn the_last_assignment_counts_and_that_is_told() {
        let (all, report) = of("Environment=ELASTIFLOW_A=1\nEnvironment=ELASTIFLOW_A=2\n");
        assert!(all.len() == 1 && is(&all[0], "ELASTIFLOW_A", "2", 2));
        assert_eq!(
            report.left,
            ["e.conf:1: ELASTIFLOW_A is set again at e.conf:2, which counts"]
        );
    }

    #[test]
    fn a_line_that_cannot_be_read_is_told_and_the_others_are_read() {
        let (all, report) = of(
            "Environment=\"ELASTIFLOW_A=1\nEnvironment=secret\nexport ELASTIFLOW_B=2 # why\n\
             if [ x ]; then\n",
        );
        assert!(
            all.len() == 1 && is(&all[0], "ELASTIFLOW_B", "2", 3),
            "{all:?}"
        );
        assert_eq!(report.odd.len(), 2, "{report:?}");
        assert!(report.odd[0].starts_with("e.conf:1: a quotation mark"));
        assert!(report.odd[1].starts_with("e.conf:2: it is no NAME=VALUE"));
        assert!(!report.odd[1].contains("secret"));
    }
}
