//! Where the password of a ClickHouse server comes from.

use std::path::PathBuf;

use super::{Secret, Store};

/// The environment variable that holds the password; it wins over the file's keys.
pub const PASSWORD_VARIABLE: &str = "FLOWSLUICE_STORE_PASSWORD";

/// Why there is no password although one is configured.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file of `store.password_file` cannot be read.
    #[error("store.password_file: {path} cannot be read ({source})", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its first line is empty.
    #[error("store.password_file: the first line of {path} is empty; the password belongs there",
        path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Store {
    /// The password of the server: of the environment, else of `password`, else the first line of
    /// `password_file`, else none.
    ///
    /// # Errors
    /// When `password_file` is the one to use and has no first line to read.
    pub fn server_password(&self) -> Result<Option<Secret>, SecretError> {
        self.server_password_with(std::env::var(PASSWORD_VARIABLE).ok())
    }

    /// Which of the places [`Store::server_password`] takes the password from, for people.
    #[must_use]
    pub fn server_password_place(&self) -> Option<&'static str> {
        let environment = std::env::var(PASSWORD_VARIABLE).unwrap_or_default();
        if !environment.is_empty() {
            return Some(PASSWORD_VARIABLE);
        }
        let key = self.password.as_ref().map(|_| "store.password");
        key.or_else(|| self.password_file.as_ref().map(|_| "store.password_file"))
    }

    fn server_password_with(
        &self,
        environment: Option<String>,
    ) -> Result<Option<Secret>, SecretError> {
        if let Some(password) = environment.filter(|text| !text.is_empty()) {
            return Ok(Some(Secret::new(password)));
        }
        if self.password.is_some() {
            return Ok(self.password.clone());
        }
        let Some(path) = self.password_file.clone() else {
            return Ok(None);
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(SecretError::Unreadable { path, source }),
        };
        match text.lines().next().filter(|line| !line.is_empty()) {
            Some(line) => Ok(Some(Secret::new(line))),
            None => Err(SecretError::Empty { path }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_the_environments_then_the_keys_then_the_files_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "of file\nnot this\n").unwrap();
        let mut store = Store {
            password_file: Some(path.clone()),
            ..Store::default()
        };
        let of = |store: &Store, environment: Option<&str>| {
            let password = store.server_password_with(environment.map(str::to_owned));
            password.unwrap().map(|secret| secret.reveal().to_owned())
        };
        assert_eq!(of(&store, None).as_deref(), Some("of file"));
        assert_eq!(of(&store, Some("")).as_deref(), Some("of file"));
        assert_eq!(of(&store, Some("of env")).as_deref(), Some("of env"));
        store.password = Some(Secret::new("of key"));
        assert_eq!(of(&store, None).as_deref(), Some("of key"));
        store = Store::default();
        assert_eq!(of(&store, None), None);
    }

    #[test]
    fn a_password_file_without_a_password_is_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let store = Store {
            password_file: Some(path.clone()),
            ..Store::default()
        };
        let error = store.server_password_with(None).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
        std::fs::write(&path, "\n").unwrap();
        let error = store.server_password_with(None).unwrap_err().to_string();
        assert!(error.contains("first line"), "{error}");
    }
}
