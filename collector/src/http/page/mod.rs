//! The built-in page: what comes in and what is stored, for who has no Grafana yet.
//!
//! In: the ledger, the exporters' status, and the store's views, asked as a user who may only read.
//! Out: `/` (HTML), the files of it below `/page/`, and JSON:
//!
//! | `GET /api/v1/` | answer |
//! |---|---|
//! | `now` | rates of the last five minutes, the ledger, the exporters; never asks the store |
//! | `traffic` | octets and packets over time: the eight largest services, and the rest |
//! | `talkers` | hosts by octets sent and received |
//! | `services` | services by octets |
//! | `conversations` | client, server and service by octets |
//! | `interfaces` | interfaces of exporters by octets in and out |
//!
//! All but `now` take a time, `last=SECONDS` (60 to 2678400; 900) or `from=` and `to=` in seconds
//! since 1970, a filter of the fields `exporter`, `address` (or a prefix; either end), `port` (the
//! server's), `protocol` (number or name), `as` (either end) and `interface` (in or out), which
//! must all fit, and `limit` (rows, 1 to 100; 10). They answer with the time in whole steps
//! (`from`, `to`, `step_s`), the seconds of it that have passed, and what rows were read
//! (`rows_of`: `flows`, `minute`, `hour`). A refusal is `{"error": {"code", "text"}}`.
//!
//! Owner: the runtime beside the workers. Whom the page is for: `access.rs`. What a question may
//! cost: `ask.rs`.

mod access;
mod answer;
mod ask;
mod asset;
mod filter;
mod language;
mod live;
mod question;
mod refusal;

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Query, State as Extract};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use serde::Deserialize;

use super::connections::Bounded;
use super::{INDEX, State, debug, status};
use crate::store::Endpoint;

pub(super) use access::guard_all;
pub use access::{Access, AccessError};
use ask::Asker;
use filter::Asked;
use language::Language;
pub(super) use live::Live;
use question::Topic;
use refusal::Refusal;

/// The page of a collector.
pub struct Page {
    access: RwLock<Arc<Access>>,
    asker: Asker,
}

impl Page {
    /// A page for those of `access`, about what is stored at `endpoint`; none is the null store.
    #[must_use]
    pub fn new(access: Access, endpoint: Option<Endpoint>) -> Self {
        Self {
            access: RwLock::new(Arc::new(access)),
            asker: Asker::new(endpoint),
        }
    }

    /// From here on it is for those of `access`; true where those are others than before.
    pub(super) fn admit(&self, access: Access) -> bool {
        let mut current = self.access.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = **current != access;
        *current = Arc::new(access);
        is_other
    }

    /// Whom it is for at this moment.
    fn access(&self) -> Arc<Access> {
        let current = self.access.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// What only those see whom the page is for; `/` looks for itself.
pub(super) fn routes(state: &Arc<State>) -> Router<Arc<State>> {
    let api = Router::new()
        .route("/api/v1/now", get(now))
        .route("/api/v1/traffic", stored(Topic::Traffic))
        .route("/api/v1/talkers", stored(Topic::Talkers))
        .route("/api/v1/services", stored(Topic::Services))
        .route("/api/v1/conversations", stored(Topic::Conversations))
        .route("/api/v1/interfaces", stored(Topic::Interfaces))
        .merge(debug::routes())
        .route_layer(middleware::from_fn(access::own_site));
    let guard = middleware::from_fn_with_state(Arc::clone(state), access::guard);
    let guarded = api
        .route("/page/{name}", get(asset::file))
        .route_layer(guard);
    guarded.route("/", get(index))
}

/// What every answer says to a browser: run nothing but our own files, guess no types, show it in
/// no frame, tell nobody.
pub(super) async fn strict(mut answer: Response) -> Response {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
        img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
        frame-ancestors 'none'";
    let same_origin = "same-origin";
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", same_origin),
        ("cross-origin-resource-policy", same_origin),
    ] {
        let name = HeaderName::from_static(name);
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    // Who talks to whom stays in no cache.
    let value = HeaderValue::from_static("no-store");
    answer
        .headers_mut()
        .entry(header::CACHE_CONTROL)
        .or_insert(value);
    answer
}

/// `?lang=` of the page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    lang: Option<String>,
}

/// The page for browsers, a list of paths for others.
async fn index(
    Extract(state): Extract<Arc<State>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let accept = headers.get(header::ACCEPT);
    let is_browser = accept.is_some_and(|value| {
        let kinds = value.to_str().unwrap_or_default();
        kinds.contains("text/html")
    });
    let Some(page) = state.page.get().filter(|_| is_browser) else {
        return INDEX.into_response();
    };
    if let Err(refusal) = page.access().admit(&headers).await {
        return refusal.into_response();
    }
    let wanted = wanted.map(|Query(wanted)| wanted).unwrap_or_default();
    asset::page(Language::of(wanted.lang.as_deref(), &headers))
}

async fn now(Extract(state): Extract<Arc<State>>) -> Response {
    // The ledger may be read more than once, with pauses: not on a thread of the runtime.
    match tokio::task::spawn_blocking(move || status::now_json(&state)).await {
        Ok(json) => axum::Json(json).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A handler that asks the store about `topic`.
fn stored(topic: Topic) -> axum::routing::MethodRouter<Arc<State>> {
    let handler = move |Extract(state): Extract<Arc<State>>,
                        ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
                        asked: Result<Query<Asked>, QueryRejection>| async move {
        let Ok(Query(asked)) = asked else {
            let name = "query".to_owned();
            let allowed = "last, from, to, limit, exporter, address, port, protocol, as and \
                           interface, each once";
            return Refusal::Field { name, allowed }.into_response();
        };
        let page = state
            .page
            .get()
            .expect("the guard lets nobody through without a page");
        let reader = peer.ip().to_canonical();
        match answer::answer(&page.asker, &state, (reader, topic), &asked).await {
            Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
            Err(refusal) => refusal.into_response(),
        }
    };
    get(handler)
}

#[cfg(test)]
mod tests;
