//! Moments as people write them.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// Seconds since the epoch; parts of a second count as a whole one. `now_s` is the time of the
/// clock in the same unit. The error says what is allowed.
pub fn parse(text: &str, now_s: u32) -> Result<u32, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(now_s);
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago = humantime::parse_duration(ago).map_err(|_| refusal(text))?;
        let ago = u32::try_from(ago.as_secs()).unwrap_or(u32::MAX);
        return Ok(now_s.saturating_sub(ago));
    }
    let moment = moment(text).ok_or_else(|| refusal(text))?;
    let part = i64::from(moment.subsec_nanosecond() > 0);
    u32::try_from(moment.as_second() + part)
        .map_err(|_| format!("{text} is not between 1970 and 2106"))
}

fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment);
    }
    let civil = text
        .parse::<DateTime>()
        .or_else(|_| text.parse::<Date>().map(|date| date.at(0, 0, 0, 0)));
    let zoned = civil.ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp())
}

#[cold]
fn refusal(text: &str) -> String {
    format!(
        "'{text}' is no time; write 2026-11-26T10:00:00Z, \"2026-11-26 10:00\" (UTC), 2026-11-26, \
         -1h or now"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u32 = 1_800_000_000;
    /// 2026-01-02 03:04:05 UTC.
    const THEN_S: u32 = 1_767_323_045;

    #[test]
    fn a_moment_may_be_written_in_several_ways() {
        for text in [
            "2026-01-02T03:04:05Z",
            "2026-01-02T12:04:05+09:00",
            "2026-01-02 03:04:05Z",
            "2026-01-02 03:04:05",
            "2026-01-02T03:04:05",
            " 2026-01-02 03:04:05 ",
            "2026-01-02T03:04:04.25Z",
        ] {
            assert_eq!(parse(text, NOW_S), Ok(THEN_S), "{text}");
        }
        assert_eq!(parse("2026-01-02 03:04", NOW_S), Ok(THEN_S - 5));
        assert_eq!(parse("2026-01-02T03:04Z", NOW_S), Ok(THEN_S - 5));
        assert_eq!(parse("2026-01-02", NOW_S), Ok(THEN_S / 86_400 * 86_400));
    }

    #[test]
    fn a_moment_may_be_told_by_how_long_ago_it_was() {
        assert_eq!(parse("now", NOW_S), Ok(NOW_S));
        assert_eq!(parse("-1h", NOW_S), Ok(NOW_S - 3600));
        assert_eq!(parse("-1h 30m", NOW_S), Ok(NOW_S - 5400));
        assert_eq!(parse("-7d", NOW_S), Ok(NOW_S - 7 * 86_400));
        assert_eq!(parse("-900000years", NOW_S), Ok(0));
    }

    #[test]
    fn what_is_no_moment_is_refused_with_what_is() {
        for text in [
            "",
            "-",
            "yesterday",
            "1h",
            "2026-13-01",
            "10:00",
            "-1 apple",
        ] {
            let error = parse(text, NOW_S).unwrap_err();
            assert!(error.contains("write 2026-11-26T10:00:00Z"), "{error}");
        }
        let error = parse("1969-01-01", NOW_S).unwrap_err();
        assert_eq!(error, "1969-01-01 is not between 1970 and 2106");
    }
}
