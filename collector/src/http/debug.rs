//! What is of use when something is not decoded.
//!
//! `/debug/undecodable.pcap` and `/debug/templates`, for those whom the page is for.

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::State;
use crate::decode;
use crate::units::UnixNanos;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/debug/undecodable.pcap", get(undecodable))
        .route("/debug/templates", get(templates))
}

async fn undecodable(Extract(state): Extract<Arc<State>>) -> Response {
    let pcap = state.shared.undecodable.pcap();
    (
        [(header::CONTENT_TYPE, "application/vnd.tcpdump.pcap")],
        pcap,
    )
        .into_response()
}

async fn templates(Extract(state): Extract<Arc<State>>) -> Response {
    // There may be tens of thousands: not on a thread of the runtime.
    let told = move || decode::templates(&state.shared, UnixNanos::now());
    match tokio::task::spawn_blocking(told).await {
        Ok(json) => axum::Json(json).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
