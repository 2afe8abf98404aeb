//! Which language the page begins with.

use axum::http::{HeaderMap, header};

/// One that the page has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Language {
    /// English, also for who wants neither.
    #[default]
    English,
    /// Japanese.
    Japanese,
}

impl Language {
    /// The one that was asked for by `?lang=`, else the one that the browser likes best.
    pub fn of(asked: Option<&str>, headers: &HeaderMap) -> Self {
        let accepted = headers.get(header::ACCEPT_LANGUAGE);
        let accepted = accepted.and_then(|value| value.to_str().ok());
        let asked = asked.and_then(Self::of_range);
        asked.unwrap_or_else(|| Self::accepted(accepted.unwrap_or_default()))
    }

    /// As HTML writes it.
    pub fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Japanese => "ja",
        }
    }

    /// RFC 9110 section 12.5.4: the range with the highest quality; of equals, the first.
    fn accepted(header: &str) -> Self {
        let mut best = (0.0, Self::default());
        for range in header.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let language = parts.next().and_then(Self::of_range);
            let quality = parts.find_map(|part| part.strip_prefix("q="));
            let quality = quality.map_or(1.0, |text| text.parse().unwrap_or(0.0));
            if let Some(language) = language.filter(|_| quality > best.0) {
                best = (quality, language);
            }
        }
        best.1
    }

    fn of_range(range: &str) -> Option<Self> {
        let primary = range.split('-').next().unwrap_or_default();
        match primary.to_ascii_lowercase().as_str() {
            "ja" => Some(Self::Japanese),
            "en" | "*" => Some(Self::English),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_that_is_liked_best_is_taken() {
        for (header, code) in [
            ("", "en"),
            ("ja", "ja"),
            ("ja-JP,ja;q=0.9,en;q=0.8", "ja"),
            ("en-US,en;q=0.9,ja;q=0.8", "en"),
            ("fr, ja;q=0.5, en;q=0.4", "ja"),
            ("de-DE, de;q=0.9, *;q=0.1", "en"),
            ("ja;q=0, en;q=0.1", "en"),
            ("ja;q=often", "en"),
            ("jav", "en"),
        ] {
            assert_eq!(Language::accepted(header).code(), code, "{header}");
        }
    }

    #[test]
    fn the_address_wins_over_the_browser() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_LANGUAGE, "ja".parse().unwrap());
        assert_eq!(Language::of(Some("en"), &headers).code(), "en");
        assert_eq!(Language::of(Some("fr"), &headers).code(), "ja");
    }
}
