//! `[http]`: where the collector answers, and who may see its page.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Secret;
use super::secret::{SecretError, secret_of};

/// Bytes of the page's password at least: it is asked for over the network, as often as anybody
/// likes.
pub const PAGE_PASSWORD_MIN: usize = 12;

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Where the page, /metrics, /healthz, /readyz and /status answer.
    pub listen: SocketAddr,
    /// The user that the page asks for.
    pub user: String,
    /// File whose first line is the page's password. Without one the page needs none on loopback,
    /// and is off elsewhere.
    pub password_file: Option<PathBuf>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9190)),
            user: "flowsluice".into(),
            password_file: None,
        }
    }
}

impl Http {
    /// The page's password, if it has one.
    ///
    /// # Errors
    /// When the file has no first line to read, or one that is soon guessed.
    pub fn password(&self) -> Result<Option<Secret>, SecretError> {
        const KEY: &str = "http.password_file";
        let Some(path) = &self.password_file else {
            return Ok(None);
        };
        let password = secret_of(KEY, path)?;
        if password.reveal().len() < PAGE_PASSWORD_MIN {
            return Err(SecretError::Short {
                key: KEY,
                path: path.clone(),
                least: PAGE_PASSWORD_MIN,
            });
        }
        Ok(Some(password))
    }

    /// Whether the page is served: to this host alone, or to who knows the password.
    #[must_use]
    pub fn has_page(&self) -> bool {
        self.password_file.is_some() || self.listen.ip().is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_off_where_others_could_see_it_without_a_password() {
        let http = |listen: &str, file: Option<&str>| Http {
            listen: listen.parse().unwrap(),
            password_file: file.map(PathBuf::from),
            ..Http::default()
        };
        assert!(Http::default().has_page());
        assert!(http("[::1]:9190", None).has_page());
        assert!(!http("0.0.0.0:9190", None).has_page());
        assert!(!http("[::]:9190", None).has_page());
        assert!(http("0.0.0.0:9190", Some("/etc/flowsluice/page.password")).has_page());
    }

    #[test]
    fn a_password_that_is_soon_guessed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let http = Http {
            password_file: Some(path.clone()),
            ..Http::default()
        };
        std::fs::write(&path, "eleven byte\n").unwrap();
        let error = http.password().unwrap_err().to_string();
        assert!(error.starts_with("http.password_file: "), "{error}");
        assert!(error.contains("at least 12 bytes"), "{error}");
        std::fs::write(&path, "twelve bytes\n").unwrap();
        let password = http.password().unwrap().unwrap();
        assert_eq!(password.reveal(), "twelve bytes");
    }
}
