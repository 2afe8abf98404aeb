//! Where a database comes from: an http(s) address, or a file or folder of this host.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::fmt::rfc2822::{DateTimeParser, DateTimePrinter};
use ureq::Agent;
use ureq::config::RedirectAuthHeaders;

use super::BYTES_MAX;
use crate::config::{FirstLineError, GeoUpdate, PASSWORD_MAX, Secret, first_line_text};

const CONNECT_MAX: Duration = Duration::from_secs(30);
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// For everything: 2 GiB in an hour are 5 Mbit/s.
const FETCH_MAX: Duration = Duration::from_secs(3600);
/// A checksum and a file name.
const SHA256_BYTES_MAX: u64 = 4096;
const NAMES: [&str; 4] = [".mmdb", ".mmdb.gz", ".tar.gz", ".tgz"];

pub(super) struct Origin<'a> {
    from: &'a str,
    /// `Authorization` for the server of `from`, and for no other.
    authorization: Option<Secret>,
}

/// What is about to come.
pub(super) struct Opened {
    /// For people; never with a password or key in it.
    pub(super) name: String,
    pub(super) body: Box<dyn Read>,
    pub(super) length: Option<u64>,
    pub(super) modified: Option<SystemTime>,
}

impl<'a> Origin<'a> {
    pub(super) fn of(update: &'a GeoUpdate) -> Result<Self> {
        let authorization = if update.user.is_empty() || !is_address(&update.from) {
            None
        } else {
            let password = first_line(&update.password_file)?;
            let pair = STANDARD.encode(format!("{}:{}", update.user, password.reveal()));
            Some(Secret::new(format!("Basic {pair}")))
        };
        Ok(Self {
            from: &update.from,
            authorization,
        })
    }

    /// Opens the database for `target`; `None` when a server says that it has not changed `since`.
    pub(super) fn open(&self, target: &Path, since: Option<SystemTime>) -> Result<Option<Opened>> {
        if is_address(self.from) {
            return self.fetch(self.from, since);
        }
        let mut path = PathBuf::from(self.from);
        let unreadable = |path: &Path| format!("{} cannot be read", path.display());
        if path.is_dir() {
            path = newest(&path, target)?;
        }
        let file = File::open(&path).with_context(|| unreadable(&path))?;
        let metadata = file.metadata().with_context(|| unreadable(&path))?;
        Ok(Some(Opened {
            name: path.display().to_string(),
            body: Box::new(file),
            length: Some(metadata.len()),
            modified: None,
        }))
    }

    /// The text that says what the SHA-256 should be.
    pub(super) fn sha256(&self, from: &str) -> Result<String> {
        let mut text = String::new();
        if is_address(from) {
            let opened = self.fetch(from, None)?;
            let body = opened.map(|opened| opened.body);
            let body = body.with_context(|| format!("{} has no content", shown(from)))?;
            body.take(SHA256_BYTES_MAX).read_to_string(&mut text)
        } else {
            let file = File::open(from).with_context(|| format!("{from} cannot be read"))?;
            file.take(SHA256_BYTES_MAX).read_to_string(&mut text)
        }
        .with_context(|| format!("{} is no text", shown(from)))?;
        Ok(text)
    }

    fn fetch(&self, url: &str, since: Option<SystemTime>) -> Result<Option<Opened>> {
        let name = shown(url);
        let agent: Agent = Agent::config_builder()
            // What begins encrypted stays so, also when the server sends elsewhere.
            .https_only(url.starts_with("https://"))
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .user_agent(concat!("flowsluice/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_recv_response(Some(ANSWER_MAX))
            .timeout_global(Some(FETCH_MAX))
            .build()
            .into();
        let mut request = agent.get(url);
        if let Some(text) = &self.authorization
            && server(url) == server(self.from)
        {
            request = request.header("Authorization", text.reveal());
        }
        if let Some(since) = since.and_then(|time| Timestamp::try_from(time).ok()) {
            let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&since)?;
            request = request.header("If-Modified-Since", text);
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(ureq::Error::StatusCode(status)) => bail!("{name}: {}", refused(status)),
            Err(error) => bail!("{name} cannot be fetched ({error})"),
        };
        if response.status() == 304 {
            return Ok(None);
        }
        if response.status() != 200 {
            bail!("{name}: {}", refused(response.status().as_u16()));
        }
        let modified = response
            .headers()
            .get("Last-Modified")
            .and_then(|value| DateTimeParser::new().parse_timestamp(value.as_bytes()).ok())
            .map(SystemTime::from);
        let length = response.body().content_length();
        let body = response.into_body().into_with_config();
        // One more, so that what is too large is told as that.
        let body = body.limit(BYTES_MAX + 1).reader();
        Ok(Some(Opened {
            name,
            body: Box::new(body),
            length,
            modified,
        }))
    }
}

fn refused(status: u16) -> String {
    let remedy = match status {
        401 | 403 => "; see user and password_file, and whether the account may have it",
        404 | 410 => "; see whether the address is right",
        429 => "; too many downloads, try again later",
        _ => "",
    };
    format!("the server answers with status {status}{remedy}")
}

fn is_address(origin: &str) -> bool {
    origin.starts_with("https://") || origin.starts_with("http://")
}

/// An address without what may be secret: user, password, query.
fn shown(url: &str) -> String {
    if !is_address(url) {
        return url.to_owned();
    }
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => plain.to_owned(),
    }
}

/// Scheme, host and port.
fn server(url: &str) -> String {
    let shown = shown(url);
    shown.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
}

fn first_line(file: &Path) -> Result<Secret> {
    let path = file.display();
    if file.as_os_str().is_empty() {
        bail!("user is set, but password_file is not; the password is the first line of that file");
    }
    match first_line_text(file, PASSWORD_MAX) {
        Ok(line) => Ok(Secret::new(line)),
        Err(FirstLineError::Length(0)) => {
            bail!("password_file: the first line of {path} is empty; it is the password")
        }
        Err(error) => Err(error).with_context(|| format!("password_file: {path} cannot be read")),
    }
}

/// The newest file of a folder whose name begins as that of `target` does, upper or lower case.
fn newest(folder: &Path, target: &Path) -> Result<PathBuf> {
    let stem = target.file_stem().unwrap_or_default().to_string_lossy();
    let stem = stem.to_lowercase();
    let unreadable = || format!("{} cannot be read", folder.display());
    let mut found: Option<(SystemTime, PathBuf)> = None;
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_lowercase();
        if !name.starts_with(&stem) || !NAMES.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        let metadata = fs::metadata(&path)?;
        if metadata.is_file() {
            // Of equal times the last name: names have the day in them.
            found = found.max(Some((metadata.modified()?, path)));
        }
    }
    let wanted = || {
        format!(
            "{}: there is no file whose name begins with \"{stem}\" and ends with one of {}",
            folder.display(),
            NAMES.join(", ")
        )
    };
    Ok(found.with_context(wanted)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_keys_and_passwords() {
        let url = "https://me:secret@example.net:8443/app/city?license_key=secret#x";
        assert_eq!(shown(url), "https://example.net:8443/app/city");
        assert_eq!(server(url), "https://example.net:8443");
        assert_eq!(server("http://example.net"), "http://example.net");
        assert_ne!(
            server("http://example.net/"),
            server("https://example.net/")
        );
    }
}
