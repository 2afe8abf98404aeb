//! The documented file, `deploy/flowsluice.toml`: what it says of each key.

use std::collections::HashMap;

/// The file itself.
pub(super) const DOCUMENTED: &str = include_str!("../../../deploy/flowsluice.toml");

/// The comment of each key and table, by its path in [`super::keys`]. Keys that follow each other
/// share the comment above the first of them.
pub(super) fn comments() -> HashMap<String, String> {
    let mut comments = HashMap::new();
    let mut table = String::new();
    let mut block = Vec::new();
    let mut is_used = false;
    for line in DOCUMENTED.lines() {
        let rest = line.trim_start_matches('#');
        let path = if let Some(list) = within(rest, "[[", "]]") {
            table = format!("{list}[]");
            list.to_owned()
        } else if let Some(name) = within(rest, "[", "]") {
            name.clone_into(&mut table);
            name.to_owned()
        } else if let Some(name) = key_name(rest) {
            format!("{table}.{name}")
        } else {
            if is_used || line.is_empty() {
                block.clear();
                is_used = false;
            }
            block.push(rest);
            continue;
        };
        is_used = true;
        // The first of several tables of a list is the one with the comment.
        let name = path.rsplit('.').next().unwrap_or(&path);
        let comment = of_key(name, &prose(&block)).to_owned();
        comments.entry(path).or_insert(comment);
    }
    comments
}

fn within<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    text.strip_prefix(open)?.strip_suffix(close)
}

/// The key that a line sets. Comments begin with a space.
fn key_name(text: &str) -> Option<&str> {
    let (name, _) = text.split_once(" = ")?;
    let is_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.chars().all(is_key).then_some(name)
}

/// What a comment that has a line for each key says of this one.
fn of_key<'a>(name: &str, comment: &'a str) -> &'a str {
    let mut lines = comment.lines();
    let own = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    own.unwrap_or(comment)
}

/// A comment without its form: a line a paragraph, and a line an item of a list.
fn prose(block: &[&str]) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in block {
        let text = line.trim();
        let indent = line.len() - line.trim_start().len();
        let is_item = indent == ITEM_INDENT;
        if text.is_empty() {
            is_open = false;
        } else if let Some(title) = text.strip_prefix("--- ") {
            let title = title.trim_end_matches('-').trim_end();
            let (_, title) = title.split_once(": ").unwrap_or(("", title));
            lines.push(format!("{title}."));
            is_open = false;
        } else if is_item {
            let item = text.split_once("  ");
            let item = item.map(|(name, what)| format!("{name}: {}", what.trim_start()));
            lines.push(item.unwrap_or_else(|| text.to_owned()));
            is_open = false;
        } else if let Some(last) = lines.last_mut().filter(|_| is_open || indent > ITEM_INDENT) {
            last.push(' ');
            last.push_str(text);
        } else {
            lines.push(text.to_owned());
            is_open = true;
        }
    }
    lines.join("\n")
}

/// Spaces before an item of a list; the lines that continue one have more.
const ITEM_INDENT: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    #[test]
    fn every_key_and_table_has_a_comment() {
        let comments = comments();
        for key in keys::all() {
            let comment = comments.get(key.path);
            assert!(comment.is_some_and(|text| text.len() > 10), "{}", key.path);
        }
    }

    #[test]
    fn a_comment_loses_its_form_and_no_word() {
        let comments = comments();
        let tcp = &comments["receive.tcp"];
        assert!(
            tcp.starts_with("IPFIX over TCP.\nEach connection is"),
            "{tcp}"
        );
        assert!(tcp.contains("and are forgotten when it ends."), "{tcp}");
        let listeners = &comments["receive.listeners"];
        let item = "takes all of decode.protocols. Others are dropped and counted as \
                    protocol_disabled.";
        assert!(listeners.ends_with(item), "{listeners}");
        let port = "the UDP port; there is no default, and 0 takes a free one, as tests do";
        assert_eq!(comments["receive.listeners[].port"], port);
        assert!(
            listeners.contains(&format!("\nport: {port}\n")),
            "{listeners}"
        );
        let user = &comments["store.user"];
        assert!(user.contains("\nand where the server asks"), "{user}");
        let both = &comments["decode.templates_max"];
        assert_eq!(&comments["decode.templates_per_exporter_max"], both);
    }
}
