//! `[http]`: where the collector answers, and whom.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Secret;
use super::secret::{SecretError, secret_of};

/// Bytes of the page's password and of the token at least: they are asked for over the network, as
/// often as anybody likes.
pub const PAGE_PASSWORD_MIN: usize = 12;

/// The environment variable that holds the token; it wins over `http.token_file`.
pub const TOKEN_VARIABLE: &str = "FLOWSLUICE_HTTP_TOKEN";

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Where the page, /metrics, /healthz, /readyz and /status answer.
    pub listen: SocketAddr,
    /// The user that the page asks for.
    pub user: String,
    /// File whose first line is the page's password. Without one the page needs none on loopback.
    pub password_file: Option<PathBuf>,
    /// File whose first line is the token that programs send (RFC 6750). With one, everything that
    /// is asked for wants it, or the page's password; beyond loopback there must be one of the two.
    pub token_file: Option<PathBuf>,
    /// What encrypts the answers.
    pub tls: HttpTls,
}

/// `[http.tls]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpTls {
    /// PEM file of the certificate, with those that lead to a CA behind it; none answers in clear.
    pub cert: Option<PathBuf>,
    /// PEM file of its private key.
    pub key: Option<PathBuf>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9190)),
            user: "flowsluice".into(),
            password_file: None,
            token_file: None,
            tls: HttpTls::default(),
        }
    }
}

impl Http {
    /// The page's password, if it has one.
    ///
    /// # Errors
    /// When the file has no first line to read, or one that is soon guessed.
    pub fn password(&self) -> Result<Option<Secret>, SecretError> {
        let file = self.password_file.as_deref();
        file.map(|path| guarding("http.password_file", path))
            .transpose()
    }

    /// The token, if there is one: of the environment, else of the file.
    ///
    /// # Errors
    /// As [`Http::password`].
    pub fn token(&self) -> Result<Option<Secret>, SecretError> {
        self.token_with(std::env::var(TOKEN_VARIABLE).ok())
    }

    fn token_with(&self, environment: Option<String>) -> Result<Option<Secret>, SecretError> {
        if let Some(token) = environment.filter(|text| !text.is_empty()) {
            let place = || "its value".to_owned();
            return long_enough(TOKEN_VARIABLE, Secret::new(token), place).map(Some);
        }
        let file = self.token_file.as_deref();
        file.map(|path| guarding("http.token_file", path))
            .transpose()
    }
}

/// The first line of the file that `key` names.
fn guarding(key: &'static str, path: &Path) -> Result<Secret, SecretError> {
    let secret = secret_of(key, path)?;
    long_enough(key, secret, || {
        format!("the first line of {}", path.display())
    })
}

fn long_enough(
    key: &'static str,
    secret: Secret,
    place: impl FnOnce() -> String,
) -> Result<Secret, SecretError> {
    if secret.reveal().len() >= PAGE_PASSWORD_MIN {
        return Ok(secret);
    }
    Err(SecretError::Short {
        key,
        place: place(),
        least: PAGE_PASSWORD_MIN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_the_environments_or_the_files_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "token of the file\n").unwrap();
        let mut http = Http::default();
        let of = |http: &Http, variable: Option<&str>| {
            let token = http.token_with(variable.map(str::to_owned));
            token.map(|token| token.map(|secret| secret.reveal().to_owned()))
        };
        assert_eq!(of(&http, None).unwrap(), None);
        http.token_file = Some(path);
        assert_eq!(of(&http, None).unwrap().unwrap(), "token of the file");
        let of_environment = of(&http, Some("token of the environment"));
        assert_eq!(of_environment.unwrap().unwrap(), "token of the environment");
        let told = of(&http, Some("short")).unwrap_err().to_string();
        assert!(
            told.starts_with("FLOWSLUICE_HTTP_TOKEN: its value"),
            "{told}"
        );
        assert!(!told.contains("short"), "{told}");
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
