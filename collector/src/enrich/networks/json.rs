//! Networks as JSON (RFC 8259): an array of objects with the keys of the CSV's columns, or an
//! object of prefixes with such objects. Entries are read one by one, so that each has its line.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Deserializer, Map, Value};

use super::PARTS;
use crate::enrich::files::{Fault, FileErrors, as_text, checked, quoted};

/// Gives each network of `bytes`, which messages call `path`, to `add`: its line, from 1, its
/// prefix and what is told of it. Yields how many there were.
///
/// # Errors
/// When it is no such JSON or `add` refuses an entry. Behind an error of the grammar nothing is
/// read; entries that mean nothing are all told.
pub(super) fn parse(
    path: &Path,
    bytes: &[u8],
    mut add: impl FnMut(u64, &str, [&str; PARTS.len()]) -> Result<(), Fault>,
) -> Result<u64, FileErrors> {
    let mut rest = Rest {
        text: as_text(path, bytes)?,
        line: 1,
    };
    let mut errors = FileErrors::default();
    let mut entries = 0;
    let mut read = || -> Result<(), (u64, Fault)> {
        let is_array = rest.next_of(&['[', '{'])? == '[';
        let end = if is_array { ']' } else { '}' };
        if rest.skip_if(end) {
            return rest.is_end();
        }
        loop {
            rest.skip_space();
            let line = rest.line;
            let key = match is_array {
                true => None,
                false => {
                    let key: String = rest.value()?;
                    rest.next_of(&[':'])?;
                    Some(key)
                }
            };
            let entry: Value = rest.value()?;
            entries += 1;
            if let Err(fault) = take(line, key.as_deref(), &entry, &mut add) {
                errors.add(fault.at(path, Some(line)));
            }
            if rest.next_of(&[',', end])? == end {
                return rest.is_end();
            }
        }
    };
    if let Err((line, fault)) = read() {
        errors.add(fault.at(path, Some(line)));
    }
    errors.or(entries)
}

/// One network.
fn take(
    line: u64,
    key: Option<&str>,
    entry: &Value,
    add: &mut impl FnMut(u64, &str, [&str; PARTS.len()]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let Value::Object(entry) = entry else {
        let what = format!("found {}", quoted(&entry.to_string()));
        return Err(Fault::new(what, format!("allowed: {}", allowed())));
    };
    let is_known = |name: &str| PARTS.contains(&name) || (key.is_none() && name == "prefix");
    if let Some(unknown) = entry.keys().find(|name| !is_known(name)) {
        let what = format!("unknown key {}", quoted(unknown));
        return Err(Fault::new(what, format!("allowed: {}", allowed())));
    }
    let prefix = match key {
        Some(key) => key.trim(),
        None => text(entry, "prefix")?,
    };
    if prefix.is_empty() {
        return Err(Fault::new(
            "prefix is missing",
            format!("allowed: {}", allowed()),
        ));
    }
    let mut parts = [""; PARTS.len()];
    for (part, name) in parts.iter_mut().zip(PARTS) {
        *part = text(entry, name)?;
    }
    add(line, prefix, parts)
}

fn text<'a>(entry: &'a Map<String, Value>, name: &str) -> Result<&'a str, Fault> {
    match entry.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => checked(name, text.trim()),
        Some(other) => {
            let what = format!("{name}: found {}", quoted(&other.to_string()));
            Err(Fault::new(what, "allowed: a text in quotes"))
        }
    }
}

fn allowed() -> String {
    format!("an object with prefix, {}", PARTS.join(", "))
}

/// What is not read yet.
struct Rest<'a> {
    text: &'a str,
    line: u64,
}

impl Rest<'_> {
    fn advance(&mut self, bytes: usize) {
        let (read, rest) = self.text.split_at_checked(bytes).unwrap_or((self.text, ""));
        self.line += read.bytes().filter(|byte| *byte == b'\n').count() as u64;
        self.text = rest;
    }

    fn skip_space(&mut self) {
        let is_space = |c| matches!(c, ' ' | '\t' | '\n' | '\r');
        self.advance(self.text.len() - self.text.trim_start_matches(is_space).len());
    }

    fn skip_if(&mut self, wanted: char) -> bool {
        self.skip_space();
        let is_it = self.text.starts_with(wanted);
        if is_it {
            self.advance(wanted.len_utf8());
        }
        is_it
    }

    fn next_of(&mut self, wanted: &[char]) -> Result<char, (u64, Fault)> {
        if let Some(found) = wanted.iter().find(|c| self.skip_if(**c)) {
            return Ok(*found);
        }
        let found = match self.text.chars().next() {
            Some(c) => format!("found {c:?}"),
            None => "ends too early".into(),
        };
        let wanted: Vec<_> = wanted.iter().map(|c| format!("'{c}'")).collect();
        let fault = Fault::new(found, format!("{} belongs here", wanted.join(" or ")));
        Err((self.line, fault))
    }

    fn is_end(&mut self) -> Result<(), (u64, Fault)> {
        self.skip_space();
        match self.text.chars().next() {
            None => Ok(()),
            Some(c) => {
                let fault = Fault::new(format!("found {c:?}"), "the file ends here; take it out");
                Err((self.line, fault))
            }
        }
    }

    fn value<T: DeserializeOwned>(&mut self) -> Result<T, (u64, Fault)> {
        let mut values = Deserializer::from_str(self.text).into_iter::<T>();
        let (value, bytes) = (values.next(), values.byte_offset());
        match value {
            Some(Ok(value)) => {
                self.advance(bytes);
                Ok(value)
            }
            Some(Err(error)) => {
                let line = self.line + (error.line() as u64).saturating_sub(1);
                let words = error.to_string();
                let what = words.split(" at line ").next().unwrap_or_default();
                Err((line, Fault::new(what, "write it as JSON (RFC 8259)")))
            }
            None => Err((
                self.line,
                Fault::new("ends too early", "close what is open"),
            )),
        }
    }
}
