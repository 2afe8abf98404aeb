//! Why a question of the page is not answered, in JSON.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::store::InsertError;

/// The reason. The page has a sentence for each `code`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// `password`: none, or a wrong one.
    Password,
    /// `host_name`: a name that anybody could make lead here.
    HostName,
    /// `other_site`: the page of another site asks.
    OtherSite,
    /// `field`: a value that makes no sense; what is allowed.
    Field {
        /// Its name.
        name: String,
        /// As it ends the sentence "allowed: ...".
        allowed: &'static str,
    },
    /// `too_long`: this filter can be asked about so many seconds at most.
    TooLong {
        /// Seconds.
        most_s: u64,
    },
    /// `busy`: the same client, or too many others, ask already.
    Busy,
    /// `null_store`: nothing is stored.
    NullStore,
    /// `not_ready`: ClickHouse does not answer yet.
    NotReady,
    /// `too_much`: the limits of time, rows or memory did not suffice.
    TooMuch,
    /// `store`: ClickHouse refused, or is away.
    Store(String),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::OtherSite => StatusCode::FORBIDDEN,
            Self::Password => StatusCode::UNAUTHORIZED,
            Self::HostName => StatusCode::MISDIRECTED_REQUEST,
            Self::Field { .. } | Self::TooLong { .. } => StatusCode::BAD_REQUEST,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::NullStore => StatusCode::NOT_FOUND,
            Self::NotReady | Self::TooMuch => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(_) => StatusCode::BAD_GATEWAY,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::HostName => "host_name",
            Self::OtherSite => "other_site",
            Self::Field { .. } => "field",
            Self::TooLong { .. } => "too_long",
            Self::Busy => "busy",
            Self::NullStore => "null_store",
            Self::NotReady => "not_ready",
            Self::TooMuch => "too_much",
            Self::Store(_) => "store",
        }
    }

    fn text(&self) -> String {
        let text = match self {
            Self::Password => {
                "send the token of http.token_file as 'Authorization: Bearer TOKEN', or the user \
                 of http.user with the password of http.password_file"
            }
            Self::HostName => {
                "without a password the page answers only to addresses and to localhost; use one \
                 of those, or set http.password_file"
            }
            Self::OtherSite => "pages of other sites may not ask",
            Self::Field { name, allowed } => return format!("{name}: allowed: {allowed}"),
            Self::TooLong { most_s } => {
                return format!("this filter reads single flows: ask for {most_s} s at most");
            }
            Self::Busy => "one question at a time; ask again in a second",
            Self::NullStore => "store.kind is null: nothing is stored",
            Self::NotReady => "ClickHouse is not ready; /readyz tells why",
            Self::TooMuch => "it would take too long; ask for a shorter time or filter more",
            Self::Store(error) => error,
        };
        text.to_owned()
    }
}

impl From<InsertError> for Refusal {
    #[cold]
    fn from(error: InsertError) -> Self {
        match error.code {
            // Rows, time, memory, bytes, rows of the answer.
            Some(158 | 159 | 241 | 307 | 396) => Self::TooMuch,
            _ => Self::Store(error.message),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut error = json!({"code": self.code(), "text": self.text()});
        match &self {
            Self::Field { name, .. } => error["field"] = name.as_str().into(),
            Self::TooLong { most_s } => error["most_s"] = (*most_s).into(),
            _ => {}
        }
        let mut answer = (self.status(), Json(json!({"error": error}))).into_response();
        let extra = match self {
            Self::Password => (
                header::WWW_AUTHENTICATE,
                "Basic realm=\"Flowsluice\", charset=\"UTF-8\"",
            ),
            Self::Busy => (header::RETRY_AFTER, "1"),
            _ => return answer,
        };
        let value = HeaderValue::from_static(extra.1);
        answer.headers_mut().insert(extra.0, value);
        answer
    }
}
