//! Text of others on a terminal: it takes the room that it is given, and does nothing else.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar as _;

/// `text` with everything escaped that is no visible character: what terminals take for commands,
/// what turns the direction of a line, what is drawn over its neighbour.
pub fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let is_line_end = matches!(c, '\u{2028}' | '\u{2029}');
        if is_line_end || c.width().unwrap_or(0) == 0 {
            let _ = write!(shown, "{}", c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Columns that `text` takes.
pub fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// `text`, cut so that it takes `room` columns at most; what is cut ends with an ellipsis.
pub fn cut(text: &str, room: usize) -> String {
    if columns(text) <= room {
        return text.to_owned();
    }
    let mut left = room.saturating_sub(1);
    let mut shown = String::new();
    for c in text.chars() {
        let width = c.width().unwrap_or(0);
        if width > left {
            break;
        }
        left -= width;
        shown.push(c);
    }
    if room > 0 {
        shown.push('…');
    }
    shown
}

/// `text` in exactly `room` columns, on their left or right side.
pub fn fitted(text: &str, room: usize, is_right: bool) -> String {
    let text = cut(text, room);
    let blank = " ".repeat(room - columns(&text));
    match is_right {
        true => blank + &text,
        false => text + &blank,
    }
}

/// Three digits or so, with a prefix of thousands.
pub fn short(value: f64) -> String {
    let mut value = value;
    for prefix in ["", "k", "M", "G", "T"] {
        if value < 999.5 {
            return match prefix {
                "" if value.fract() == 0.0 || value >= 99.95 => format!("{value:.0}"),
                _ if value >= 99.95 => format!("{value:.0}{prefix}"),
                _ => format!("{value:.1}{prefix}"),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.0}P")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_command_the_terminal_is_escaped() {
        assert_eq!(harmless("a\x1b]0;taken\x07b"), "a\\u{1b}]0;taken\\u{7}b");
        assert_eq!(harmless("a\u{9b}2Jb"), "a\\u{9b}2Jb");
        assert_eq!(harmless("\u{202e}moc\u{202c}"), "\\u{202e}moc\\u{202c}");
        assert_eq!(harmless("e\u{301}\u{200d}"), "e\\u{301}\\u{200d}");
        assert_eq!(harmless("a\r\n\tb"), "a\\u{d}\\u{a}\\u{9}b");
        assert_eq!(harmless("東京 é"), "東京 é");
    }

    #[test]
    fn text_takes_the_room_that_it_is_given() {
        for (text, room) in [
            ("東京東京", 5),
            ("東京", 4),
            ("abcdef", 3),
            ("a", 6),
            ("東", 1),
        ] {
            for is_right in [false, true] {
                let shown = fitted(text, room, is_right);
                assert_eq!(columns(&shown), room, "{text} in {room}: {shown:?}");
            }
        }
        assert_eq!(cut("abcdef", 3), "ab…");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abc", 0), "");
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.2"),
            (12.34, "12.3"),
            (999.0, "999"),
            (1234.0, "1.2k"),
            (999_600.0, "1.0M"),
            (250_000.0, "250k"),
            (3e18, "3000P"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
