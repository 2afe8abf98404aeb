//! Answers as whoever asks sees them, over a socket.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::decode::ExporterStatus;
use crate::decode::sequence::SequenceStatus;
use crate::flow::{FlowType, SamplingSource};
use crate::ledger::{DropReason, WORKER_COUNTERS, WorkerCounts};
use crate::receive::xdp::steering::SteeredBy;

/// The exporter 127.1.x.x with so many flows.
pub(super) fn exporter(number: u16, flows: u64) -> ExporterStatus {
    let [high, low] = number.to_be_bytes();
    ExporterStatus {
        source: IpAddr::V4(Ipv4Addr::new(127, 1, high, low)),
        exporter_addr: IpAddr::V4(Ipv4Addr::new(10, 0, high, low)),
        flow_type: FlowType::Netflow9,
        observation_domain: 7,
        last_seen: UnixNanos(1_767_323_045_678_000_000),
        datagrams: flows / 24,
        flows,
        templates: 2,
        sampling_rate: 100,
        sampling_source: SamplingSource::Options,
        sequence: SequenceStatus::default(),
    }
}

pub(super) struct Collector {
    pub(super) state: Arc<State>,
    store_is_ready: Arc<AtomicBool>,
}

impl Collector {
    /// Lets its ClickHouse be ready.
    pub(super) fn make_ready(&self) {
        self.store_is_ready.store(true, Ordering::Relaxed);
    }
}

/// One worker, the embedded ClickHouse, and the exporters given.
pub(super) fn collector(exporters: &[ExporterStatus]) -> Collector {
    let shared = Arc::new(decode::Shared::default());
    let slot = shared.status_slot();
    slot.lock().unwrap().extend_from_slice(exporters);
    let store_is_ready = Arc::new(AtomicBool::new(false));
    let ready = Arc::clone(&store_is_ready);
    let facts = Facts {
        version: "0.1.0",
        started: (Instant::now(), UnixNanos::now()),
        receive_mode: "recvmmsg",
        interfaces: vec![InterfaceMode {
            interface: "eth0".into(),
            mode: SteeredBy::AfXdp {
                native: true,
                zero_copy: false,
                queues: 2,
            },
        }],
        cpus: vec![Some(1)],
        listeners: vec!["[::]:2055".parse().unwrap()],
        tcp_listeners: vec!["[::]:4739".parse().unwrap()],
    };
    let store = Box::new(move || StoreFacts {
        kind: StoreKind::Embedded,
        asked_at: Some(AskedAt {
            url: "http://127.0.0.1:8123".into(),
            database: "flowsluice".into(),
            user: "reader".into(),
        }),
        endpoints: EndpointsStatus::default(),
        engine_pid: Some(99),
        engine_restarts: 1,
        ready: ready.load(Ordering::Relaxed),
    });
    let ledger = Arc::new(Ledger::new(1));
    Collector {
        state: Arc::new(State::new(ledger, shared, facts, store)),
        store_is_ready,
    }
}

/// What is answered to `GET path` with these headers, each with its line's end: head and body.
pub(super) async fn exchange(state: &Arc<State>, path: &str, headers: &str) -> (String, String) {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, None, Arc::clone(state)));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    server.abort();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Status code, content type and body of `GET path`.
async fn ask(state: &Arc<State>, path: &str) -> (u16, String, String) {
    ask_as(state, path, "").await
}

/// The same with further lines of a request.
async fn ask_as(state: &Arc<State>, path: &str, more: &str) -> (u16, String, String) {
    let (head, body) = exchange(state, path, &format!("Host: x\r\n{more}")).await;
    let code = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    let kind = head
        .lines()
        .find_map(|line| line.strip_prefix("content-type: "));
    (code, kind.unwrap_or_default().to_owned(), body)
}

fn some_counts() -> WorkerCounts {
    let mut counts = WorkerCounts {
        datagrams_received: 5,
        bytes_received: 5000,
        datagrams_decoded: 3,
        records_present: 72,
        records_decoded: 72,
        flows_decoded: 72,
        flows_batched: 70,
        flows_open: 20,
        ..WorkerCounts::default()
    };
    counts.drop_many(DropReason::VersionUnknown, 2);
    counts.drop_many(DropReason::StoreBacklog, 2);
    counts
}

#[tokio::test]
async fn readiness_follows_the_workers_then_the_store_then_the_stop() {
    let Collector {
        state,
        store_is_ready,
    } = collector(&[]);
    let (code, _, body) = ask(&state, "/readyz").await;
    assert_eq!((code, &*body), (503, "receive: the workers are starting\n"));
    state.set_phase(Phase::Collecting);
    let (code, _, body) = ask(&state, "/readyz").await;
    assert_eq!(code, 503);
    assert!(
        body.starts_with(
            "store: the embedded ClickHouse is not ready yet at http://127.0.0.1:8123;"
        ),
        "{body}"
    );
    store_is_ready.store(true, Ordering::Relaxed);
    assert_eq!(ask(&state, "/readyz").await.0, 200);
    state.set_phase(Phase::Stopping);
    let (code, _, body) = ask(&state, "/readyz").await;
    assert_eq!((code, body.starts_with("stopping: ")), (503, true));
}

#[tokio::test]
async fn health_is_lost_when_a_worker_stands_still_and_comes_back_when_it_turns() {
    let Collector { state, .. } = collector(&[]);
    let mut worker = state.ledger.worker(0);
    state.set_phase(Phase::Collecting);
    worker.publish(&some_counts());
    let long_ago = Instant::now().checked_sub(health::SILENCE_MAX * 2).unwrap();
    state.read(long_ago);
    let (code, _, body) = ask(&state, "/healthz").await;
    assert_eq!(code, 503);
    assert!(body.contains("worker 0 has not turned for 20 s"), "{body}");
    worker.publish(&some_counts());
    assert_eq!(ask(&state, "/healthz").await.0, 200);
}

#[tokio::test]
async fn an_unknown_path_is_answered_with_those_that_exist() {
    let Collector { state, .. } = collector(&[]);
    let (code, _, body) = ask(&state, "/metric").await;
    assert_eq!(code, 404);
    assert_eq!(body, ask(&state, "/").await.2);
    assert!(body.contains("/metrics"), "{body}");
}

#[tokio::test]
async fn the_status_is_one_json_object_with_the_ledger_in_it() {
    let Collector { state, .. } = collector(&[exporter(1, 240)]);
    state.ledger.worker(0).publish(&some_counts());
    state.ledger.store.handed_over(50);
    state.ledger.store.stored(40);
    state.ledger.store.lost(DropReason::InsertRefused, 3);
    state.ledger.store.encoded(9000, 1000);
    let (code, kind, body) = ask(&state, "/status").await;
    assert_eq!((code, &*kind), (200, "application/json"));
    let status: Value = serde_json::from_str(&body).unwrap();
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(
        keys(&status),
        [
            "version",
            "uptime_s",
            "ready",
            "receive",
            "store",
            "workers",
            "exporters",
            "names",
            "enrich",
            "ledger"
        ]
    );
    assert_eq!(status["receive"]["listeners"][0], "[::]:2055");
    assert_eq!(status["receive"]["tcp_listeners"][0], "[::]:4739");
    assert_eq!(status["store"]["kind"], "embedded");
    assert_eq!(status["store"]["engine_pid"], 99);
    assert_eq!(status["store"]["user"], "reader");
    assert_eq!(status["workers"][0]["cpu"], 1);
    assert_eq!(status["workers"][0]["counters"]["datagrams_received"], 5);
    let exporter = &status["exporters"][0];
    assert_eq!(
        keys(exporter),
        [
            "source",
            "exporter_addr",
            "flow_type",
            "observation_domain",
            "last_seen",
            "datagrams",
            "flows",
            "flows_per_s",
            "templates",
            "sampling_rate",
            "sampling_source",
            "sequence"
        ]
    );
    assert_eq!(exporter["last_seen"], "2026-01-02T03:04:05.678Z");
    assert_eq!(exporter["flow_type"], "netflow9");
    assert_eq!(exporter["sampling_source"], "options");
    assert!(exporter["flows_per_s"].as_f64().unwrap() > 0.0);
    let ledger = &status["ledger"];
    assert_eq!(keys(&ledger["counters"]).len(), WORKER_COUNTERS.len());
    assert_eq!(keys(&ledger["dropped"]).len(), DropReason::ALL.len());
    assert_eq!(ledger["dropped"]["version_unknown"], 2);
    assert_eq!(ledger["dropped"]["insert_refused"], 3);
    assert_eq!(ledger["store"]["flows_in_flight"], 7);
    assert_eq!(ledger["store"]["blocks_encoded"], 1);
    assert_eq!(ledger["store"]["encoded_bytes"], 9000);
    assert_eq!(ledger["store"]["compressed_bytes"], 1000);
    assert_eq!(ledger["equations"][4]["name"], "rows");
    assert_eq!(ledger["unaccounted"], 0);
}

#[tokio::test]
async fn metrics_are_strict_openmetrics_and_hold_the_ledger() {
    let mut odd = exporter(2, 48);
    odd.source = "2001:db8::1".parse().unwrap();
    let Collector { state, .. } = collector(&[exporter(1, 240), odd]);
    state.ledger.worker(0).publish(&some_counts());
    state.ledger.store.handed_over(50);
    state.ledger.store.stored(40);
    state.ledger.store.spooled(4);
    state.ledger.store.recovered(2);
    state.ledger.store.encoded(9000, 1000);
    let (code, kind, body) = ask(&state, "/metrics").await;
    assert_eq!(code, 200);
    assert_eq!(
        kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let series = open_metrics(&body);
    for (name, value) in [
        (
            "flowsluice_receive_datagrams_received_total{worker=\"0\"}",
            5.0,
        ),
        ("flowsluice_batch_flows_open{worker=\"0\"}", 20.0),
        (
            "flowsluice_decode_datagrams_dropped_total{reason=\"version_unknown\",worker=\"0\"}",
            2.0,
        ),
        (
            "flowsluice_batch_flows_dropped_total{reason=\"store_backlog\",worker=\"0\"}",
            2.0,
        ),
        (
            "flowsluice_store_flows_lost_total{reason=\"store_stopped\"}",
            0.0,
        ),
        ("flowsluice_store_flows_stored_total{}", 40.0),
        ("flowsluice_store_flows_spooled{}", 6.0),
        ("flowsluice_store_flows_recovered_total{}", 2.0),
        ("flowsluice_store_spool_bytes{}", 0.0),
        ("flowsluice_ledger_left{equation=\"rows\"}", 72.0),
        ("flowsluice_ledger_right{equation=\"rows\"}", 72.0),
        ("flowsluice_ledger_unaccounted{}", 0.0),
        (
            "flowsluice_exporter_flows_total{flow_type=\"netflow9\",observation_domain=\"7\",\
             source=\"2001:db8::1\"}",
            48.0,
        ),
        ("flowsluice_receive_mode{mode=\"recvmmsg\"}", 1.0),
        (
            "flowsluice_receive_interface_mode{interface=\"eth0\",mode=\"af_xdp_native\"}",
            1.0,
        ),
        ("flowsluice_xdp_frames_total{verdict=\"redirected\"}", 0.0),
        ("flowsluice_store_kind{kind=\"embedded\"}", 1.0),
        ("flowsluice_store_blocks_encoded_total{}", 1.0),
        ("flowsluice_store_encoded_bytes_total{}", 9000.0),
        ("flowsluice_store_compressed_bytes_total{}", 1000.0),
        ("flowsluice_store_engine_restarts_total{}", 1.0),
    ] {
        assert_eq!(series.get(name), Some(&value), "{name}\n{body}");
    }
}

#[tokio::test]
async fn a_scraper_that_knows_no_openmetrics_gets_the_same_in_the_text_format_before_it() {
    let Collector { state, .. } = collector(&[exporter(1, 240)]);
    state.ledger.worker(0).publish(&some_counts());
    for (accept, is_classic) in [
        ("text/plain;version=0.0.4;q=1,*/*;q=0.1", true),
        ("*/*", false),
        ("text/html,application/xhtml+xml,*/*;q=0.8", false),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            false,
        ),
    ] {
        let (_, kind, body) = ask_as(&state, "/metrics", &format!("Accept: {accept}\r\n")).await;
        assert_eq!(
            kind.starts_with("text/plain; version=0.0.4"),
            is_classic,
            "{accept}"
        );
        assert_eq!(!body.ends_with("# EOF\n"), is_classic, "{accept}");
    }
    let classic = ask_as(&state, "/metrics", "Accept: text/plain\r\n").await.2;
    let mut strict = String::new();
    // As OpenMetrics names families, it reads like that.
    for line in classic.lines() {
        let of_counter = line
            .starts_with("# ")
            .then(|| line.replacen("_total ", " ", 1));
        strict += &(of_counter.unwrap_or_else(|| line.to_owned()) + "\n");
    }
    let names = |text: &str| open_metrics(text).into_keys().collect::<Vec<_>>();
    let other = ask(&state, "/metrics").await.2;
    assert_eq!(names(&(strict + "# EOF\n")), names(&other));
    let family = "# TYPE flowsluice_receive_datagrams_received_total counter\n\
                  flowsluice_receive_datagrams_received_total{worker=\"0\"} 5\n";
    assert!(classic.contains(family), "{classic}");
}

#[tokio::test]
async fn forged_exporters_do_not_make_series_without_end() {
    let many: Vec<_> = (0..1500).map(|number| exporter(number, 1)).collect();
    let Collector { state, .. } = collector(&many);
    let series = open_metrics(&ask(&state, "/metrics").await.2);
    let listed = series
        .keys()
        .filter(|name| name.starts_with("flowsluice_exporter_flows_total"));
    assert_eq!(listed.count(), metrics::EXPORTER_SERIES_MAX);
    assert_eq!(series["flowsluice_exporters{}"], 1500.0);
    assert_eq!(series["flowsluice_exporters_without_series{}"], 500.0);
}

#[tokio::test]
async fn a_taken_address_is_told_with_what_to_do() {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let told = bind(address).await.unwrap_err().to_string();
    assert_eq!(
        told,
        format!(
            "http.listen: {address} is taken by another program; stop that one or set another \
             http.listen"
        )
    );
}

/// Reads OpenMetrics text as strictly as the specification (1.0) has it, and returns each series,
/// its labels sorted, with its value.
fn open_metrics(text: &str) -> BTreeMap<String, f64> {
    let body = text
        .strip_suffix("# EOF\n")
        .expect("the text ends in # EOF");
    assert!(!body.contains("# EOF"), "nothing follows # EOF");
    let mut series = BTreeMap::new();
    let mut families = BTreeSet::new();
    let (mut family, mut kind, mut helped) = (String::new(), String::new(), false);
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let (word, rest) = comment.split_once(' ').expect(line);
            let (name, value) = rest.split_once(' ').expect(line);
            assert!(!value.trim().is_empty(), "{line}");
            assert!(is_name(name), "{line}");
            if name != family {
                assert!(families.insert(name.to_owned()), "{name} comes twice");
                (family, kind, helped) = (name.to_owned(), String::new(), false);
            }
            match word {
                "HELP" => assert!(!std::mem::replace(&mut helped, true), "{line}"),
                "TYPE" => {
                    assert!(kind.is_empty(), "{line}");
                    assert!(matches!(value, "counter" | "gauge"), "{line}");
                    value.clone_into(&mut kind);
                }
                other => panic!("unexpected {other}: {line}"),
            }
            assert!(!name.ends_with("_total"), "{line}");
            continue;
        }
        assert!(
            helped && !kind.is_empty(),
            "help and type come first: {line}"
        );
        let (name, labels, value) = sample(line);
        let expected = if kind == "counter" {
            format!("{family}_total")
        } else {
            family.clone()
        };
        assert_eq!(name, expected, "{line}");
        assert!(value.is_finite() && value >= 0.0, "{line}");
        let sorted: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
        let full = format!("{name}{{{}}}", sorted.join(","));
        assert!(series.insert(full, value).is_none(), "twice: {line}");
    }
    series
}

fn sample(line: &str) -> (&str, BTreeMap<&str, &str>, f64) {
    let (head, value) = line.rsplit_once(' ').expect(line);
    let (name, inner) = match head.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').expect(line)),
        None => (head, ""),
    };
    let mut labels = BTreeMap::new();
    for label in inner.split(',').filter(|label| !label.is_empty()) {
        let (key, quoted) = label.split_once('=').expect(line);
        let value = quoted
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        let value = value.expect(line);
        assert!(is_name(key) && !value.contains(['"', '\\', '\n']), "{line}");
        assert!(labels.insert(key, value).is_none(), "{line}");
    }
    (name, labels, value.parse().expect(line))
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}
