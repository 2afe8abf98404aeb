//! The parts of `[store]` that say how ClickHouse servers are reached.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Secret, Store};

/// The environment variable that holds the user; it wins over `store.user`.
pub const USER_VARIABLE: &str = "FLOWSLUICE_STORE_USER";

/// `[store.tls]`: what HTTPS believes and shows. The certificate of a server is always verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file of the CAs that may sign a server's certificate, and no others; absent: the public
    /// ones that Mozilla lists.
    pub ca: Option<PathBuf>,
    /// PEM file of the certificate that the collector shows, the intermediate ones behind it. Read
    /// again when it changes.
    pub cert: Option<PathBuf>,
    /// PEM file of the key to `cert`.
    pub key: Option<PathBuf>,
}

/// How blocks travel and wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Compressed once, when the block is made.
    #[default]
    Lz4,
    /// As they are, with a checksum: three to four times the bytes in memory, in the spool and on
    /// the network, for less time of the processor.
    None,
}

impl Store {
    /// The addresses of the servers, the preferred one first; none for the embedded ClickHouse.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.url.iter().chain(&self.urls).map(String::as_str)
    }

    /// The key that names the servers.
    #[must_use]
    pub fn servers_key(&self) -> &'static str {
        if self.urls.is_empty() {
            "store.url"
        } else {
            "store.urls"
        }
    }

    /// The user of the server, and where the name comes from: the environment, else `store.user`.
    #[must_use]
    pub fn server_user(&self) -> (String, &'static str) {
        self.server_user_with(std::env::var(USER_VARIABLE).ok())
    }

    fn server_user_with(&self, environment: Option<String>) -> (String, &'static str) {
        match environment.filter(|name| !name.is_empty()) {
            Some(name) => (name, USER_VARIABLE),
            None => (self.user.clone(), "store.user"),
        }
    }

    /// The password of the server, empty where there is none.
    ///
    /// # Errors
    /// As [`Store::server_password`].
    pub fn server_password_or_empty(&self) -> Result<Secret, super::SecretError> {
        let password = self.server_password()?;
        Ok(password.unwrap_or_else(|| Secret::new("")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_the_environment_wins_unless_it_is_empty() {
        let store = Store {
            user: "file".into(),
            ..Store::default()
        };
        let user = |environment: Option<&str>| store.server_user_with(environment.map(Into::into));
        assert_eq!(user(Some("env")), ("env".into(), USER_VARIABLE));
        assert_eq!(user(Some("")), ("file".into(), "store.user"));
        assert_eq!(user(None), ("file".into(), "store.user"));
    }
}
