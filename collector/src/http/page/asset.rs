//! The files that the page is made of, compiled in.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

use super::language::Language;

/// One file below `/page/`.
struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";

const ASSETS: [Asset; 10] = [
    asset(
        "page.css",
        "text/css; charset=utf-8",
        include_str!("assets/page.css"),
    ),
    asset("page.js", SCRIPT, include_str!("assets/page.js")),
    asset("ask.js", SCRIPT, include_str!("assets/ask.js")),
    asset("charts.js", SCRIPT, include_str!("assets/charts.js")),
    asset("shown.js", SCRIPT, include_str!("assets/shown.js")),
    asset(
        "echarts-6.1.0.min.js",
        SCRIPT,
        include_str!("assets/echarts-6.1.0.min.js"),
    ),
    asset("en.json", JSON, include_str!("assets/en.json")),
    asset("ja.json", JSON, include_str!("assets/ja.json")),
    asset("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
    asset("licences.txt", "text/plain; charset=utf-8", LICENCES),
];

const LICENCES: &str = concat!(
    include_str!("assets/echarts-NOTICE"),
    "\n\n",
    include_str!("assets/echarts-LICENSE"),
    "\n\n",
    include_str!("assets/echarts-LICENSE-d3"),
);

const fn asset(name: &'static str, kind: &'static str, text: &'static str) -> Asset {
    Asset { name, kind, text }
}

const PAGE: &str = include_str!("assets/page.html");

/// A tag for each of [`ASSETS`]: its hash.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |asset: &Asset| {
        let hash = Sha256::digest(asset.text);
        let digits: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("\"{digits}\"")
    };
    ASSETS.iter().map(tag).collect()
});

/// `/`, in `language`.
pub(super) fn page(language: Language) -> Response {
    let lang = format!("<html lang=\"{}\">", language.code());
    let html = PAGE.replacen("<html lang=\"en\">", &lang, 1);
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "accept, accept-language"),
    ];
    (headers, html).into_response()
}

/// `/page/{name}`. A browser that has it asks whether it is still the same.
pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let mut files = ASSETS.iter().zip(&*TAGS);
    let Some((asset, tag)) = files.find(|(asset, _)| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let known = headers.get(header::IF_NONE_MATCH);
    let is_known = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut answer = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, asset.kind)], asset.text).into_response()
    };
    let tag = HeaderValue::from_str(tag).expect("digits in quotes are a header");
    answer.headers_mut().insert(header::ETAG, tag);
    let no_cache = HeaderValue::from_static("no-cache");
    answer.headers_mut().insert(header::CACHE_CONTROL, no_cache);
    answer
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::ledger::DropReason;

    fn text_of(name: &str) -> &'static str {
        let asset = ASSETS.iter().find(|asset| asset.name == name);
        asset.unwrap().text
    }

    fn texts(name: &str) -> BTreeMap<&'static str, &'static str> {
        serde_json::from_str(text_of(name)).unwrap()
    }

    #[test]
    fn both_languages_say_the_same_things() {
        let (english, japanese) = (texts("en.json"), texts("ja.json"));
        let keys = |texts: &BTreeMap<&'static str, &str>| -> BTreeSet<&str> {
            texts.keys().copied().collect()
        };
        assert_eq!(keys(&english), keys(&japanese));
        let places = |text: &str| -> BTreeSet<String> {
            let parts = text.split('{').skip(1);
            parts
                .map(|part| part.split('}').next().unwrap().to_owned())
                .collect()
        };
        for (key, text) in &english {
            assert!(
                !text.trim().is_empty() && !japanese[key].trim().is_empty(),
                "{key}"
            );
            assert_eq!(
                places(text),
                places(japanese[key]),
                "{key}: what is filled in"
            );
        }
        let is_japanese = |text: &str| text.chars().any(|c| ('\u{3040}'..='\u{9fff}').contains(&c));
        let untranslated: Vec<_> = japanese
            .iter()
            .filter(|(key, text)| !is_japanese(text) && english[*key] == **text)
            .map(|(key, _)| *key)
            .collect();
        let is_a_name = |key: &str| {
            let (prefix, _) = key.split_once('.').unwrap();
            let same = ["error.other", "field.protocol_hint", "language.en"];
            prefix == "protocol" || same.contains(&key)
        };
        assert!(
            untranslated.iter().all(|key| is_a_name(key)),
            "{untranslated:?}"
        );
    }

    #[test]
    fn every_reason_of_a_drop_has_its_sentence() {
        let english = texts("en.json");
        for reason in DropReason::ALL {
            let key = format!("drop.{}", reason.label());
            let sentence = reason.sentence().trim().replace('`', "");
            let text = english.get(key.as_str()).copied();
            assert_eq!(text, Some(sentence.as_str()), "{key}");
        }
    }

    #[test]
    fn every_text_that_the_page_names_is_there_and_no_other() {
        let english = texts("en.json");
        let sources = [
            PAGE,
            text_of("page.js"),
            text_of("charts.js"),
            text_of("ask.js"),
        ];
        let all = sources.concat();
        for key in english.keys() {
            // Those that are put together of a prefix and a word of the collector's.
            let (prefix, _) = key.split_once('.').unwrap();
            let is_named = all.contains(&format!("\"{key}\""))
                || all.contains(&format!("\"{prefix}.\""))
                || all.contains(&format!("`{prefix}.$"));
            assert!(is_named, "{key} is nowhere used");
        }
        let named = PAGE.split("data-text=\"").skip(1);
        for key in named.map(|rest| rest.split('"').next().unwrap()) {
            assert!(english.contains_key(key), "{key} has no text");
        }
        let script = sources[1..].concat();
        let named = script.split(" t(\"").chain(script.split("(t(\"")).skip(1);
        for key in named.map(|rest| rest.split('"').next().unwrap()) {
            let is_key = key.contains('.') && !key.contains([' ', '\n', '<']);
            assert!(!is_key || english.contains_key(key), "{key} has no text");
        }
    }

    #[test]
    fn the_chart_library_is_the_one_that_was_fetched() {
        let listed = include_str!("assets/README.md");
        let name = "echarts-6.1.0.min.js";
        let row = listed
            .lines()
            .find(|line| line.contains("SHA-256"))
            .unwrap();
        let hash = Sha256::digest(text_of(name));
        let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(row.contains(name) && row.contains(&digits), "{digits}");
        assert!(PAGE.contains(&format!("src=\"/page/{name}\"")));
        let licences = text_of("licences.txt");
        for holder in [
            "The Apache Software Foundation",
            "Apache License",
            "Mike Bostock",
        ] {
            assert!(licences.contains(holder), "{holder}");
        }
    }

    #[test]
    fn nothing_is_written_into_the_page_as_html() {
        for name in ["page.js", "charts.js", "ask.js", "shown.js"] {
            let text = text_of(name);
            for way in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!text.contains(way), "{name}: {way}");
            }
            assert!(text.lines().count() <= 500, "{name} is too long");
        }
        let inline = ["<style", " style=", " onclick=", "javascript:"];
        assert!(
            !inline.iter().any(|way| PAGE.contains(way)),
            "the policy forbids it"
        );
        assert_eq!(
            PAGE.matches("<script").count(),
            PAGE.matches("<script src=").count() + 1
        );
        assert!(PAGE.contains("<script type=\"module\" src=\"/page/page.js\">"));
    }
}
