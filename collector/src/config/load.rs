//! Reads the file and says everything that is wrong with it at once.
//!
//! The text is parsed into a tree that remembers where each value stands; the tree is held against
//! [`super::keys`]; what is left of it becomes a [`Config`], whose meaning [`super::validate`]
//! checks.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Key, Kind};
use super::{Config, ConfigError, Problem};
use crate::decode::ElementPattern;

/// The file that is read when none is named.
pub const DEFAULT_PATH: &str = "/etc/flowsluice/flowsluice.toml";

/// Reads and validates the file at `path`.
///
/// # Errors
/// When it cannot be read, is no TOML, has keys or values that are not known, or means nothing.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let file = path.display().to_string();
    match text_of(path) {
        Ok(text) => parse(&file, &text),
        Err(problem) => Err(ConfigError {
            file,
            problems: vec![problem],
            understood: None,
        }),
    }
}

/// The file as text.
fn text_of(path: &Path) -> Result<String, Problem> {
    let bytes = std::fs::read(path).map_err(|error| Problem::new("", unreadable(&error)))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Problem {
            line: Some(line_of(error.as_bytes(), at)),
            ..Problem::new("", "found what is no UTF-8; write the file again as UTF-8")
        }
    })
}

/// Gives each of `told`, messages that begin with their key, the line of `file` that it is about.
#[must_use]
pub fn locate(file: &Path, told: Vec<String>) -> Vec<Problem> {
    let problem = |text: String| match text.split_once(": ") {
        Some((key, rest)) if is_key(key) => Problem::new(key, rest),
        _ => Problem::new("", text),
    };
    let problems = told.into_iter().map(problem).collect();
    let text = text_of(file).unwrap_or_default();
    let (root, _) = DeTable::parse_recoverable(&text);
    let mut located: Vec<_> = located(problems, &root, &text).collect();
    located.sort_by_key(|problem| problem.line);
    located
}

/// Whether it looks like `receive.listeners[1].port`.
fn is_key(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._[]".contains(c);
    !text.is_empty() && text.chars().all(is_part)
}

/// Reads the file that was named, else [`DEFAULT_PATH`] when it exists, else takes the built-in
/// defaults. Also says which file it was.
///
/// # Errors
/// Those of [`load`].
pub fn load_or_default(path: Option<&Path>) -> Result<(Config, Option<PathBuf>), ConfigError> {
    match path {
        Some(path) => Ok((load(path)?, Some(path.to_owned()))),
        None if Path::new(DEFAULT_PATH).exists() => {
            Ok((load(Path::new(DEFAULT_PATH))?, Some(DEFAULT_PATH.into())))
        }
        None => Ok((Config::default(), None)),
    }
}

/// Reads and validates `text`, which messages call `file`.
///
/// # Errors
/// As [`load`].
pub fn parse(file: &str, text: &str) -> Result<Config, ConfigError> {
    let failed = |problems| ConfigError {
        file: file.to_owned(),
        problems,
        understood: None,
    };
    let (mut root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(failed(syntax_problems(text, &errors)));
    }
    let mut walk = Walk {
        text,
        problems: Vec::new(),
    };
    walk.table(root.get_mut(), "", "");
    let Walk { mut problems, .. } = walk;

    let lines = root.clone();
    let mut understood = None;
    match Config::deserialize(toml::Deserializer::from(root)) {
        Ok(config) => {
            problems.extend(located(config.validate(), &lines, text));
            understood = Some(Box::new(config));
        }
        // The walk has seen every value, so this is one that the table of keys is wrong about.
        Err(error) => problems.extend(syntax_problems(text, &[error])),
    }
    if problems.is_empty() {
        let config = Config::deserialize(toml::Deserializer::from(lines));
        return config.map_err(|error| failed(syntax_problems(text, &[error])));
    }
    problems.sort_by_key(|problem| problem.line);
    Err(ConfigError {
        understood,
        ..failed(problems)
    })
}

/// Holds the tree against the table of keys and takes out of it what does not fit, so that the rest
/// can still be understood.
struct Walk<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    /// `path` names the table for people, `schema` in the table of keys.
    fn table(&mut self, table: &mut DeTable<'_>, path: &str, schema: &str) {
        let mut unfit = Vec::new();
        for (name, value) in table.iter_mut() {
            let here = join(path, name.get_ref());
            let fits = match keys::find(&join(schema, name.get_ref())) {
                Some(key) => self.value(value, &here, key),
                None => {
                    self.problem(name.span(), here, unknown_key(name.get_ref(), schema));
                    false
                }
            };
            if !fits {
                unfit.push(name.get_ref().to_string());
            }
        }
        for name in unfit {
            table.remove(name.as_str());
        }
    }

    /// True when `value` can stay.
    fn value(&mut self, value: &mut Spanned<DeValue<'_>>, path: &str, key: &Key) -> bool {
        let fits = key.kind.accepts(value);
        if !fits && self.wrong_elements(value, path, key.kind) {
            return false;
        }
        if !fits {
            let found = found(self.text, value, key.kind);
            let text = format!("found {found}; allowed: {}", key.kind.allowed());
            self.problem(value.span(), path.to_owned(), text);
            return false;
        }
        match (key.kind, value.get_mut()) {
            (Kind::Table, DeValue::Table(table)) => {
                self.table(table, path, key.path);
                true
            }
            (Kind::Tables, DeValue::Array(list)) => {
                let before = self.problems.len();
                for (index, element) in list.iter_mut().enumerate() {
                    self.element(element, &format!("{path}[{index}]"), key);
                }
                self.problems.len() == before
            }
            _ => true,
        }
    }

    /// Tells which elements of a list are none; false when it is no list of elements.
    fn wrong_elements(&mut self, value: &Spanned<DeValue<'_>>, path: &str, kind: Kind) -> bool {
        let list = value
            .get_ref()
            .as_array()
            .filter(|_| kind == Kind::Elements);
        for (index, one) in list.into_iter().flatten().enumerate() {
            let text = one.get_ref().as_str();
            if text.is_none_or(|text| text.parse::<ElementPattern>().is_err()) {
                let found = found(self.text, one, kind);
                let text = format!("found {found}; allowed: {}", keys::ELEMENT);
                self.problem(one.span(), format!("{path}[{index}]"), text);
            }
        }
        list.is_some()
    }

    fn element(&mut self, element: &mut Spanned<DeValue<'_>>, path: &str, key: &Key) {
        let span = element.span();
        let schema = format!("{}[]", key.path);
        if !Kind::Table.accepts(element) {
            let found = found(self.text, element, key.kind);
            let text = format!("found {found}; allowed: {}", key.kind.allowed());
            return self.problem(span, path.to_owned(), text);
        }
        let DeValue::Table(table) = element.get_mut() else {
            return;
        };
        for required in keys::REQUIRED {
            let name = required.strip_prefix(&format!("{schema}."));
            if let Some(name) = name.filter(|name| !table.contains_key(*name)) {
                let allowed = keys::find(required).map(|key| key.kind.allowed());
                let text = format!("missing; allowed: {}", allowed.unwrap_or_default());
                self.problem(span.clone(), join(path, name), text);
            }
        }
        self.table(table, path, &schema);
    }

    fn problem(&mut self, span: Range<usize>, key: String, text: String) {
        self.problems.push(Problem {
            line: Some(line_at(self.text, span.start)),
            ..Problem::new(key, text)
        });
    }
}

fn unreadable(error: &std::io::Error) -> String {
    let remedy = match error.kind() {
        std::io::ErrorKind::NotFound => {
            "there is no such file; name one with --config, or leave --config away for the \
             built-in defaults"
        }
        std::io::ErrorKind::PermissionDenied => {
            "the file may not be read; give this user permission"
        }
        std::io::ErrorKind::IsADirectory => {
            "this is a folder; name the file in it, such as flowsluice.toml"
        }
        _ => return format!("the file cannot be read ({error})"),
    };
    remedy.to_owned()
}

fn syntax_problems(text: &str, errors: &[toml::de::Error]) -> Vec<Problem> {
    let problem = |error: &toml::de::Error| Problem {
        line: error.span().map(|span| line_at(text, span.start)),
        ..Problem::new("", with_remedy(&error.message().replace('\n', "; ")))
    };
    let mut problems: Vec<_> = errors.iter().map(problem).collect();
    problems.sort_by_key(|problem| problem.line);
    problems
}

/// What the parser says, and what to do.
fn with_remedy(message: &str) -> String {
    let remedy = match message {
        "duplicate key" => "remove one of the two",
        _ => "text stands in \"quotes\", lists in [brackets], a table begins with its [name]",
    };
    format!("{message}; {remedy}")
}

/// Gives each problem the line of its key, or of the table that the key would stand in.
fn located<'a>(
    problems: Vec<Problem>,
    root: &'a Spanned<DeTable<'_>>,
    text: &'a str,
) -> impl Iterator<Item = Problem> {
    problems.into_iter().map(move |mut problem| {
        let (mut span, exact) = span_of(root.get_ref(), &problem.key);
        if !exact && !problem.also.is_empty() {
            let other = span_of(root.get_ref(), problem.also);
            if other.1 {
                span = other.0;
            }
        }
        problem.line = span.map(|span| line_at(text, span.start));
        problem
    })
}

/// Where `path` stands; when it does not, where the innermost table around it stands. True for the
/// former.
fn span_of(root: &DeTable<'_>, path: &str) -> (Option<Range<usize>>, bool) {
    let mut span = None;
    let mut table = Some(root);
    for step in path.split('.') {
        let (name, index) = match step.strip_suffix(']').and_then(|s| s.split_once('[')) {
            Some((name, index)) => (name, index.parse::<usize>().ok()),
            None => (step, None),
        };
        let Some((key, value)) = table.and_then(|table| table.get_key_value(name)) else {
            return (span, false);
        };
        let element = index.and_then(|index| value.get_ref().as_array()?.get(index));
        span = Some(element.map_or_else(|| key.span(), Spanned::span));
        table = element.unwrap_or(value).get_ref().as_table();
    }
    (span, true)
}

fn line_at(text: &str, offset: usize) -> usize {
    line_of(text.as_bytes(), offset)
}

fn line_of(text: &[u8], offset: usize) -> usize {
    let before = text.iter().take(offset);
    before.filter(|byte| **byte == b'\n').count() + 1
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// The value as it stands in the file, shortened; never a secret.
fn found(text: &str, value: &Spanned<DeValue<'_>>, kind: Kind) -> String {
    let raw = text.get(value.span()).unwrap_or_default();
    let short = raw.len() <= FOUND_MAX && !raw.contains('\n');
    match value.get_ref() {
        DeValue::Table(_) => "a table".to_owned(),
        _ if kind == Kind::Secret => "a value without quotes".to_owned(),
        _ if short && !raw.is_empty() => raw.to_owned(),
        other => format!("a long {}", other.type_str()),
    }
}

/// Longest value that a message repeats.
const FOUND_MAX: usize = 60;

fn unknown_key(name: &str, schema: &str) -> String {
    let allowed: Vec<_> = keys::below(schema).collect();
    let near = allowed
        .iter()
        .map(|other| (distance(name, other), *other))
        .min()
        .filter(|(distance, other)| *distance <= (other.len() / 3).max(1))
        .map(|(_, other)| format!("; did you mean '{other}'?"));
    let elsewhere = || {
        let mut nested = keys::all().filter_map(|key| key.path.rsplit_once('.'));
        let (table, _) = nested.find(|(_, last)| *last == name)?;
        Some(match table.strip_suffix("[]") {
            Some(list) => format!("; it belongs under [[{list}]];"),
            None => format!("; it belongs under [{table}];"),
        })
    };
    let hint = near.or_else(elsewhere).unwrap_or_else(|| ";".into());
    format!("unknown key{hint} allowed: {}", allowed.join(", "))
}

/// Letters to change, add, leave out or swap with their neighbour until `a` is `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => {
                    let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    let swapped = if swap { rows[i - 2][j - 2] + 1 } else { change };
                    change
                        .min(swapped)
                        .min(rows[i - 1][j] + 1)
                        .min(rows[i][j - 1] + 1)
                }
            };
        }
    }
    rows[a.len()][b.len()]
}
