//! Certificates and keys of the collector's own, and those that it believes.
//!
//! In: PEM files that the configuration names. Out: what rustls takes. A certificate lives shorter
//! than a collector, so that its files are looked at again at each handshake. Owner: `store` and
//! `http`, who show them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{info, warn};

/// Why a file of certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that is not there, or no PEM.
    #[error(
        "{key}: {path} cannot be read ({reason}); name a PEM file that this user may read",
        path = path.display()
    )]
    Unreadable {
        /// Which file.
        key: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// What the system or the parser said.
        reason: String,
    },
    /// A file without what it is for.
    #[error(
        "{key}: {path} holds no {what}; a PEM file has it between lines of BEGIN and END",
        path = path.display()
    )]
    Empty {
        /// Which file.
        key: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// What it holds is not understood, or does not fit.
    #[error(
        "{key}: what {path} holds cannot be used: {reason}; take the certificate and the key that \
         were made for each other, as X.509 and PKCS#8",
        path = path.display()
    )]
    Unfit {
        /// Which file.
        key: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What rustls said.
        reason: rustls::Error,
    },
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose {
    /// The key of the configuration that names its file.
    pub cert: &'static str,
    /// The one that names the file of its private key.
    pub key: &'static str,
    /// Whom it is shown to, for people.
    pub what: &'static str,
}

/// A certificate that the collector shows, read again when its files change.
pub(crate) struct Shown {
    purpose: Purpose,
    cert: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    held: Mutex<Held>,
}

struct Held {
    certified: Arc<CertifiedKey>,
    /// Of what the files were when they were looked at last.
    stamps: [Stamp; 2],
}

/// Tells a file that was replaced: when it was written, and its bytes.
type Stamp = Option<(SystemTime, u64)>;

impl Shown {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn load(
        purpose: Purpose,
        cert: &Path,
        key: &Path,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let held = Held {
            stamps: [cert, key].map(stamp),
            certified: certified(purpose, cert, key, &provider)?,
        };
        Ok(Self {
            purpose,
            cert: cert.into(),
            key: key.into(),
            provider,
            held: Mutex::new(held),
        })
    }

    /// The certificate of the files as they are now; the one before while they cannot be used.
    fn current(&self) -> Arc<CertifiedKey> {
        let stamps = [&self.cert, &self.key].map(|path| stamp(path));
        // Whoever panicked had replaced it or not.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.stamps != stamps {
            held.stamps = stamps;
            let Purpose { what, .. } = self.purpose;
            match certified(self.purpose, &self.cert, &self.key, &self.provider) {
                Ok(renewed) => {
                    held.certified = renewed;
                    info!(cert = %self.cert.display(), "the certificate for {what} is renewed");
                }
                // One of the two files is written before the other.
                Err(error) => warn!(%error, "the certificate for {what} stays as it was"),
            }
        }
        Arc::clone(&held.certified)
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown")
            .field("cert", &self.cert)
            .finish_non_exhaustive()
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn certified(
    purpose: Purpose,
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(purpose.cert, cert)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::empty(purpose.key, key, "private key"),
        other => TlsError::unreadable(purpose.key, key, &other),
    })?;
    let certified = CertifiedKey::from_der(chain, private, provider);
    let certified = certified.map_err(|reason| TlsError::unfit(purpose.key, key, reason))?;
    Ok(Arc::new(certified))
}

/// The certificates of a PEM file that `key` names, at least one.
///
/// # Errors
/// When there are none.
pub(crate) fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |error| TlsError::unreadable(key, path, &error);
    let found = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(unreadable)?;
    if found.is_empty() {
        return Err(TlsError::empty(key, path, "certificate"));
    }
    Ok(found)
}

impl TlsError {
    #[cold]
    fn unreadable(key: &'static str, path: &Path, error: &pem::Error) -> Self {
        let reason = match error {
            pem::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        };
        Self::Unreadable {
            key,
            path: path.into(),
            reason,
        }
    }

    #[cold]
    fn empty(key: &'static str, path: &Path, what: &'static str) -> Self {
        Self::Empty {
            key,
            path: path.into(),
            what,
        }
    }

    /// What `path` holds is not understood.
    #[cold]
    pub(crate) fn unfit(key: &'static str, path: &Path, reason: rustls::Error) -> Self {
        Self::Unfit {
            key,
            path: path.into(),
            reason,
        }
    }
}
