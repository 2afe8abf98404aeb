//! A condition that somebody wrote, kept within its brackets.
//!
//! Brackets alone do not hold it: `1) OR (1` closes and opens them. So it is read as ClickHouse
//! reads it, as far as text in quotes, comments and round brackets go, and what is not one whole
//! condition is refused. Where ClickHouse knows more kinds of quotes (`$x$..$x$` and those of
//! Unicode), their characters are refused. See ClickHouse's `src/Parsers/Lexer.cpp`.

use anyhow::bail;

const ONE: &str = "write one condition, e.g. \"dst_port = 443 AND src_as = 64500\"";

/// The condition in brackets, which it does not leave.
///
/// # Errors
/// When it is not one whole condition.
pub(super) fn in_brackets(filter: &str) -> anyhow::Result<String> {
    check(filter)?;
    // On a line of its own, so that a comment at the end of the filter ends with it.
    Ok(format!("(\n{filter}\n)"))
}

fn check(filter: &str) -> anyhow::Result<()> {
    let mut depth = 0_usize;
    let mut rest = filter;
    while let Some(c) = rest.chars().next() {
        let token = match c {
            '\'' | '"' | '`' => match quoted(rest, c) {
                Some(length) => length,
                None => bail!("--where: the quote {c} is not closed; {ONE}"),
            },
            '-' if rest.starts_with("--") => line(rest),
            '/' if rest.starts_with("//") => line(rest),
            '#' => line(rest),
            '/' if rest.starts_with("/*") => match comment(rest) {
                Some(length) => length,
                None => bail!("--where: the comment /* is not closed; {ONE}"),
            },
            '$' => bail!("--where: $ may stand in quotes only; {ONE}"),
            c if !c.is_ascii() => bail!("--where: {c:?} may stand in quotes only; {ONE}"),
            '(' => {
                depth += 1;
                1
            }
            ')' => {
                let Some(less) = depth.checked_sub(1) else {
                    bail!("{}", unmatched());
                };
                depth = less;
                1
            }
            _ => 1,
        };
        rest = &rest[token..];
    }
    if depth > 0 {
        bail!("{}", unmatched());
    }
    Ok(())
}

#[cold]
fn unmatched() -> String {
    format!("--where: brackets do not match; {ONE}")
}

/// Bytes up to behind the quote that closes the first one. A doubled quote is the end of one text
/// and the beginning of another here, which makes no difference.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Bytes of a comment that ends with its line.
fn line(text: &str) -> usize {
    text.find('\n').unwrap_or(text.len())
}

/// Bytes of a comment, in which others may lie.
fn comment(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while at + 2 <= bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (at, depth) = (at + 2, depth + 1),
            b"*/" => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(filter: &str) -> String {
        match in_brackets(filter) {
            Ok(taken) => panic!("{filter} is taken as {taken}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_filter_that_leaves_its_brackets_is_refused() {
        for filter in [
            "1) OR (1",
            "1)) OR ((1",
            "1) -- (",
            "1) # (",
            "1) /* ( */ OR (1",
            "')' = ')') OR ('(' = '('",
            "a = 'it''s') OR ('' = ''",
            r"a = 'it\'s') OR ('' = ''",
            r"a = '\\') OR ('' = '(",
            "`)` = 1) OR (1",
            "\")\" = 1) OR (1",
            "1 -- (\n) OR (1",
            "1 -- '\n) OR (1 -- '",
            "1 // (\n) OR (1 // )",
            "1 /* /* */ ( */ ) OR (1",
            "((1)",
            "1)",
            "(",
        ] {
            let said = refusal(filter);
            let of_brackets = said.starts_with("--where: brackets do not match; write one");
            let of_quotes = said.starts_with("--where: the quote ' is not closed; write one");
            assert!(of_brackets || of_quotes, "{filter}: {said}");
        }
        for filter in ["a = '", r"a = '\'", "\"", "`"] {
            assert!(refusal(filter).contains("is not closed"), "{filter}");
        }
        for filter in ["1 /* 2", "1 /* /* */ 2", "/*/ 1"] {
            assert!(refusal(filter).contains("/* is not closed"), "{filter}");
        }
    }

    #[test]
    fn quotes_of_other_kinds_are_refused() {
        for filter in [
            "$a$)$a$ = '') OR ('' = $a$($a$",
            "‘(’ = '') OR ('' = ‘)’",
            "“(” = 1) OR (1 = “)”",
        ] {
            let said = refusal(filter);
            assert!(said.contains("may stand in quotes only"), "{said}");
        }
    }

    #[test]
    fn one_condition_is_taken_as_it_is() {
        for filter in [
            "dst_port = 443 AND src_as = 64500",
            "'a' = ')'",
            "1 -- )",
            "1 # )",
            "1 // )",
            "/* ) */ 1",
            "/* /* ( */ ) */ (1)",
            "name = 'it''s )' OR name = 'it\\'s )'",
            "(a IN (1, 2)) AND NOT (b)",
            "`)` = \"(\" - -1 / 2",
            "name = 'Zürich $1'",
        ] {
            assert_eq!(in_brackets(filter).unwrap(), format!("(\n{filter}\n)"));
        }
    }
}
