//! Where passwords come from.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::{Secret, Store};

/// The environment variable that holds the password; it wins over the file's keys.
pub const PASSWORD_VARIABLE: &str = "FLOWSLUICE_STORE_PASSWORD";

/// Why there is no password although one is configured.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("{key}: {path} cannot be read ({source}); name a file that this user may read",
        path = path.display())]
    Unreadable {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its first line is empty.
    #[error("{key}: the first line of {path} is empty; the password belongs there",
        path = path.display())]
    Empty {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// It is too short for what it guards.
    #[error(
        "{key}: {place} is soon guessed; write at least {least} bytes, for example what \
        'openssl rand -base64 24' prints"
    )]
    Short {
        /// The key that names it, or the variable.
        key: &'static str,
        /// Where it stands, for people.
        place: String,
        /// Bytes that it needs.
        least: usize,
    },
}

/// Bytes of a password; tokens are long.
pub const PASSWORD_MAX: usize = 4096;

/// Why the first line of a file is no secret.
#[derive(Debug, thiserror::Error)]
pub enum FirstLineError {
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// It has so many bytes: none, or more than are allowed.
    #[error("its first line has {0} bytes or more")]
    Length(usize),
}

impl From<FirstLineError> for io::Error {
    fn from(error: FirstLineError) -> Self {
        match error {
            FirstLineError::Unreadable(error) => error,
            FirstLineError::Length(_) => Self::other(error),
        }
    }
}

/// The first line of a file, without its end: one byte to `bytes_max`. No more of the file is read.
///
/// # Errors
/// When there is none.
pub fn first_line(file: &Path, bytes_max: usize) -> Result<Vec<u8>, FirstLineError> {
    let mut bytes = Vec::new();
    let limit = bytes_max as u64 + 2;
    File::open(file)?.take(limit).read_to_end(&mut bytes)?;
    let line = bytes.split(|byte| *byte == b'\n').next();
    let line = line.unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() || line.len() > bytes_max {
        return Err(FirstLineError::Length(line.len()));
    }
    Ok(line.into())
}

/// The same as text.
///
/// # Errors
/// As [`first_line`], and when it is none.
pub fn first_line_text(file: &Path, bytes_max: usize) -> Result<String, FirstLineError> {
    let text = String::from_utf8(first_line(file, bytes_max)?);
    text.map_err(|_| io::Error::other("its first line is no UTF-8").into())
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
        let Some(path) = &self.password_file else {
            return Ok(None);
        };
        secret_of("store.password_file", path).map(Some)
    }
}

/// The first line of the file that `key` names.
pub(super) fn secret_of(key: &'static str, path: &Path) -> Result<Secret, SecretError> {
    match first_line_text(path, PASSWORD_MAX) {
        Ok(line) => Ok(Secret::new(line)),
        Err(FirstLineError::Length(0)) => Err(SecretError::Empty {
            key,
            path: path.into(),
        }),
        Err(error) => Err(SecretError::Unreadable {
            key,
            path: path.into(),
            source: error.into(),
        }),
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
