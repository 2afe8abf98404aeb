//! Who is answered, and who may see the page.

use std::time::Duration;

use axum::extract::{Request, State as Extract};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::super::State;
use super::Page;
use super::refusal::Refusal;
use crate::config::{self, SecretError};

/// Who is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Hashes of what a request may show of itself; none answers everybody on this host.
    shown: Vec<[u8; 32]>,
    /// Not the page alone asks for it.
    guards_all: bool,
}

/// Why nobody can be answered.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A password or token cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Others than this host can connect, and nothing keeps them out.
    #[error(
        "http.listen: others than this host can connect to {0}, and anybody would be answered; \
         set http.token_file to a file with a token, for example what 'openssl rand -base64 24' \
         prints, or listen on 127.0.0.1"
    )]
    Open(SocketAddr),
}

/// How long a wrong password or token waits for its answer.
const WRONG_PASSWORD_TAKES: Duration = Duration::from_millis(500);

impl Access {
    /// As the configuration has it: the page's user with the password, the token, and where there
    /// is no password the page's user with the token, for browsers.
    ///
    /// # Errors
    /// When a secret cannot be read, or beyond loopback there is none.
    pub fn of(http: &config::Http) -> Result<Self, AccessError> {
        let (password, token) = (http.password()?, http.token()?);
        let is_local = http.listen.ip().is_loopback();
        let mut shown = Vec::new();
        if let Some(password) = password.as_ref().or(token.as_ref()) {
            let pair = format!("{}:{}", http.user, password.reveal());
            shown.push(hash(Scheme::Basic, pair.as_bytes()));
        }
        if let Some(token) = &token {
            shown.push(hash(Scheme::Bearer, token.reveal().as_bytes()));
        }
        if shown.is_empty() && !is_local {
            return Err(AccessError::Open(http.listen));
        }
        Ok(Self {
            shown,
            guards_all: !is_local || token.is_some(),
        })
    }

    /// Whether a request with these headers may be answered.
    pub(super) async fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.shown.is_empty() {
            return match is_named_host(headers) {
                true => Err(Refusal::HostName),
                false => Ok(()),
            };
        }
        let Some(given) = credentials(headers) else {
            return Err(Refusal::Password);
        };
        // All are looked at, whichever fits.
        let fitting = self.shown.iter().filter(|one| is_same(one, &given)).count();
        if fitting > 0 {
            return Ok(());
        }
        tokio::time::sleep(WRONG_PASSWORD_TAKES).await;
        Err(Refusal::Password)
    }
}

/// Compares in the same time whatever the bytes are.
fn is_same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let differing = a.iter().zip(b).fold(0, |bits, (a, b)| bits | (a ^ b));
    std::hint::black_box(differing) == 0
}

/// Answers nobody else, where that is so for everything.
pub(in super::super) async fn guard_all(
    Extract(state): Extract<Arc<State>>,
    request: Request,
    next: Next,
) -> Response {
    let access = state.page.get().map(Page::access);
    match access.filter(|access| access.guards_all) {
        Some(access) => match access.admit(request.headers()).await {
            Ok(()) => next.run(request).await,
            Err(refusal) => refusal.into_response(),
        },
        None => next.run(request).await,
    }
}

/// Answers only whom the page is for.
pub(super) async fn guard(
    Extract(state): Extract<Arc<State>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(page) = state.page.get() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match page.access().admit(request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Keeps other sites from having a reader's browser ask the store.
pub(super) async fn own_site(request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site");
    let is_own = site.is_none_or(|site| site == "same-origin" || site == "none");
    if is_own {
        next.run(request).await
    } else {
        Refusal::OtherSite.into_response()
    }
}

/// True where the request came to a name that is not this host's own. A site whose name is made to
/// lead here would be the same site to a browser, and could read what the page reads.
fn is_named_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else {
        return false;
    };
    let host = host.to_str().unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    !name.eq_ignore_ascii_case("localhost") && name.parse::<IpAddr>().is_err()
}

/// How a request shows who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// `user:password` of RFC 7617.
    Basic,
    /// A token of RFC 6750.
    Bearer,
}

fn hash(scheme: Scheme, text: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([scheme as u8]);
    hash.update(text);
    hash.finalize().into()
}

/// The hash of what a request shows.
fn credentials(headers: &HeaderMap) -> Option<[u8; 32]> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, text) = value.split_once(' ')?;
    let text = text.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(hash(Scheme::Bearer, text.as_bytes()));
    }
    let is_basic = scheme.eq_ignore_ascii_case("basic");
    let pair = is_basic.then(|| STANDARD.decode(text).ok()).flatten()?;
    Some(hash(Scheme::Basic, &pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_somebody_made_lead_here_is_not_this_host() {
        let is_named = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            is_named_host(&headers)
        };
        for own in [
            "127.0.0.1:9190",
            "localhost:9190",
            "LOCALHOST",
            "[::1]:9190",
            "127.0.0.1",
        ] {
            assert!(!is_named(own), "{own}");
        }
        for other in [
            "evil.example:9190",
            "localhost.evil.example",
            "",
            "[evil]:9190",
        ] {
            assert!(is_named(other), "{other}");
        }
    }
}
