//! The page as a browser and others meet it, without a store.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::*;
use crate::config;
use crate::http::tests::{collector, exchange, exporter};

const HTML: &str = "Accept: text/html\r\n";
const LOCAL: &str = "Host: 127.0.0.1:9190\r\n";
const PATHS: [&str; 7] = [
    "/page/page.js",
    "/api/v1/now",
    "/api/v1/traffic",
    "/api/v1/talkers",
    "/api/v1/services",
    "/api/v1/conversations",
    "/api/v1/interfaces",
];

/// What is not the page's, and a path that is not there.
const ALL: [&str; 5] = ["/metrics", "/status", "/healthz", "/readyz", "/nowhere"];

/// A collector with a page as `http` has it, and nothing to ask.
fn shown(http: &config::Http) -> Arc<State> {
    let state = collector(&[exporter(1, 240), exporter(2, 480)]).state;
    state.show(Page::new(Access::of(http).unwrap(), None));
    state
}

fn of_host() -> Arc<State> {
    shown(&config::Http::default())
}

/// Status code, head and body.
async fn get(state: &Arc<State>, path: &str, headers: &str) -> (u16, String, String) {
    let (head, body) = exchange(state, path, headers).await;
    let code = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    (code, head, body)
}

/// Status code and the code of the refusal.
async fn refused(state: &Arc<State>, path: &str, headers: &str) -> (u16, String) {
    let (code, _, body) = get(state, path, headers).await;
    let json: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{path}: {body}"));
    assert!(!json["error"]["text"].as_str().unwrap().is_empty());
    (code, json["error"]["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_browser_gets_the_page_in_its_language_and_others_the_paths() {
    let state = of_host();
    let (code, head, body) = get(&state, "/", &format!("{LOCAL}{HTML}")).await;
    assert_eq!(code, 200);
    assert!(head.contains("content-type: text/html"), "{head}");
    assert!(body.contains("<html lang=\"en\">"));
    let japanese = format!("{LOCAL}{HTML}Accept-Language: ja,en;q=0.5\r\n");
    assert!(
        get(&state, "/", &japanese)
            .await
            .2
            .contains("<html lang=\"ja\">")
    );
    let chosen = get(&state, "/?lang=en&port=53", &japanese).await.2;
    assert!(chosen.contains("<html lang=\"en\">"));
    let (code, head, body) = get(&state, "/", LOCAL).await;
    assert_eq!((code, &*body), (200, INDEX));
    assert!(head.contains("content-type: text/plain"), "{head}");
}

#[tokio::test]
async fn every_answer_forbids_a_browser_whatever_it_does_not_need() {
    let state = of_host();
    let answers = ["/", "/status", "/nowhere"].into_iter().chain(PATHS);
    for path in answers {
        let head = get(&state, path, &format!("{LOCAL}{HTML}")).await.1;
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
            "frame-ancestors 'none'\r\n",
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "referrer-policy: no-referrer",
            "cache-control: no-",
        ] {
            assert!(head.contains(header), "{path}: {header}: {head}");
        }
        assert!(!head.contains("unsafe"), "{head}");
        assert!(
            !head.contains("access-control"),
            "no other site may read it: {head}"
        );
    }
}

#[tokio::test]
async fn a_file_that_the_browser_has_is_not_sent_again() {
    let state = of_host();
    let (code, head, body) = get(&state, "/page/echarts-6.1.0.min.js", LOCAL).await;
    assert_eq!((code, body.len() > 1_000_000), (200, true));
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: "));
    let known = format!("{LOCAL}If-None-Match: {}\r\n", tag.unwrap());
    let (code, _, body) = get(&state, "/page/echarts-6.1.0.min.js", &known).await;
    assert_eq!((code, &*body), (304, ""));
    assert_eq!(get(&state, "/page/../mod.rs", LOCAL).await.0, 404);
    assert_eq!(get(&state, "/page/page.rs", LOCAL).await.0, 404);
}

#[tokio::test]
async fn with_a_password_only_who_knows_it_sees_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "correct horse: battery\n").unwrap();
    let state = shown(&config::Http {
        listen: SocketAddr::from(([0, 0, 0, 0], 9190)),
        password_file: Some(file),
        ..config::Http::default()
    });
    let basic = |pair: &str| format!("Authorization: Basic {}\r\n", STANDARD.encode(pair));
    // A name is as good as an address: who asks has to know the password.
    let host = format!("Host: collector.example\r\n{HTML}");
    let right = format!("{host}{}", basic("flowsluice:correct horse: battery"));
    for path in PATHS.into_iter().chain(["/"]) {
        let (code, head, _) = get(&state, path, &host).await;
        assert_eq!(code, 401, "{path}");
        assert!(
            head.contains("www-authenticate: Basic realm=\"Flowsluice\""),
            "{head}"
        );
    }
    assert_eq!(get(&state, "/", &right).await.0, 200);
    assert_eq!(get(&state, "/api/v1/now", &right).await.0, 200);
    for wrong in [
        "flowsluice:correct horse: batterY",
        "flowsluice:",
        "admin:correct horse: battery",
        "flowsluice",
    ] {
        let started = Instant::now();
        let headers = format!("{host}{}", basic(wrong));
        let refusal = refused(&state, "/api/v1/now", &headers).await;
        assert_eq!(refusal, (401, "password".into()), "{wrong}");
        assert!(started.elapsed().as_millis() >= 450, "guessing takes time");
    }
    for path in ALL {
        assert_eq!(get(&state, path, &host).await.0, 401, "{path}");
        assert_ne!(get(&state, path, &right).await.0, 401, "{path}");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_everywhere_and_is_a_browsers_password_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "a token of some length\n").unwrap();
    let state = shown(&config::Http {
        token_file: Some(file),
        ..config::Http::default()
    });
    let bearer = |token: &str| format!("{LOCAL}Authorization: Bearer {token}\r\n");
    let pair = STANDARD.encode("flowsluice:a token of some length");
    let basic = format!("{LOCAL}Authorization: Basic {pair}\r\n");
    for path in ALL.into_iter().chain(["/api/v1/now", "/"]) {
        assert_eq!(get(&state, path, LOCAL).await.0, 401, "{path}");
        for right in [&bearer("a token of some length"), &basic] {
            assert_ne!(get(&state, path, right).await.0, 401, "{path}");
        }
    }
    for wrong in [
        "a token of some lengtH",
        "a token",
        "flowsluice:a token of some length",
    ] {
        assert_eq!(
            get(&state, "/metrics", &bearer(wrong)).await.0,
            401,
            "{wrong}"
        );
    }
}

#[test]
fn beyond_loopback_nobody_is_answered_without_a_secret() {
    for listen in ["0.0.0.0:9190", "[::]:9190", "192.0.2.1:9190"] {
        let http = config::Http {
            listen: listen.parse().unwrap(),
            ..config::Http::default()
        };
        let told = Access::of(&http).unwrap_err().to_string();
        assert!(told.contains("set http.token_file"), "{told}");
    }
}

#[tokio::test]
async fn other_sites_neither_read_nor_ask() {
    let state = of_host();
    let rebound = "Host: evil.example:9190\r\nAccept: text/html\r\n";
    for path in PATHS.into_iter().chain(["/"]) {
        let refusal = refused(&state, path, rebound).await;
        assert_eq!(refusal, (421, "host_name".into()), "{path}");
    }
    let cross = format!("{LOCAL}Sec-Fetch-Site: cross-site\r\n");
    let refusal = refused(&state, "/api/v1/talkers", &cross).await;
    assert_eq!(refusal, (403, "other_site".into()));
    let own = format!("{LOCAL}Sec-Fetch-Site: same-origin\r\n");
    assert_eq!(get(&state, "/api/v1/now", &own).await.0, 200);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_the_store_is_asked() {
    let state = of_host();
    for (query, code) in [
        ("port=70000", "field"),
        ("port=443'%20OR%201=1", "field"),
        ("address=10.0.0.0/40", "field"),
        ("exporter=router", "field"),
        ("protocol=300", "field"),
        ("as=-1", "field"),
        ("interface=eth0", "field"),
        ("limit=1000", "field"),
        ("last=1", "field"),
        ("from=5&to=4", "field"),
        ("port=1&port=2", "field"),
        ("sql=SELECT", "field"),
        ("last=86400&port=443", "too_long"),
    ] {
        let path = format!("/api/v1/conversations?{query}");
        assert_eq!(
            refused(&state, &path, LOCAL).await,
            (400, code.into()),
            "{query}"
        );
    }
    let refusal = refused(&state, "/api/v1/talkers?port=443&last=3600", LOCAL).await;
    assert_eq!(refusal, (404, "null_store".into()));
}

#[tokio::test]
async fn the_moment_is_told_without_the_store_and_the_busiest_exporter_first() {
    let state = of_host();
    state.read(Instant::now());
    state.read(Instant::now());
    let (code, _, body) = get(&state, "/api/v1/now", LOCAL).await;
    assert_eq!(code, 200);
    let now: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(now["exporters"]["known"], 2);
    assert_eq!(now["exporters"]["shown"][0]["exporter_addr"], "10.0.0.2");
    assert_eq!(now["store"]["kind"], "embedded");
    assert_eq!(now["ledger"]["unaccounted"], 0);
    assert!(
        now["rates"]["flows_per_s"]
            .as_array()
            .is_some_and(|rates| !rates.is_empty())
    );
    assert!(now["unready"].as_str().unwrap().starts_with("receive: "));
}
