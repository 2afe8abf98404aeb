//! Who may see the page.

use std::time::Duration;

use axum::extract::{Request, State as Extract};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use std::net::IpAddr;
use std::sync::Arc;

use super::super::State;
use super::refusal::Refusal;
use crate::config::{self, SecretError};

/// Whom the page is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody on this host.
    Host,
    /// Who knows the user and the password, of which this is the hash.
    Password([u8; 32]),
    /// Nobody: others can connect, and there is no password.
    Nobody,
}

/// How long a wrong password waits for its answer.
const WRONG_PASSWORD_TAKES: Duration = Duration::from_millis(500);

impl Access {
    /// As the configuration has it.
    ///
    /// # Errors
    /// When the password cannot be read.
    pub fn of(http: &config::Http) -> Result<Self, SecretError> {
        Ok(match http.password()? {
            Some(password) => {
                let pair = format!("{}:{}", http.user, password.reveal());
                Self::Password(Sha256::digest(pair).into())
            }
            None if http.has_page() => Self::Host,
            None => Self::Nobody,
        })
    }

    /// Whether a request with these headers may be answered.
    pub(super) async fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match self {
            Self::Nobody => Err(Refusal::PageOff),
            Self::Host if is_named_host(headers) => Err(Refusal::HostName),
            Self::Host => Ok(()),
            Self::Password(expected) => match credentials(headers) {
                // Hashes of equal length: how long the comparison takes tells nothing of the text.
                Some(given) if Sha256::digest(&given)[..] == expected[..] => Ok(()),
                Some(_) => {
                    tokio::time::sleep(WRONG_PASSWORD_TAKES).await;
                    Err(Refusal::Password)
                }
                None => Err(Refusal::Password),
            },
        }
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
    match page.access.admit(request.headers()).await {
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

/// `user:password` of RFC 7617.
fn credentials(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, digits) = value.split_once(' ')?;
    let is_basic = scheme.eq_ignore_ascii_case("basic");
    is_basic
        .then(|| STANDARD.decode(digits.trim()).ok())
        .flatten()
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
