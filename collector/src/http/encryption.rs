//! TLS before everything that is answered.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio_rustls::TlsAcceptor;

use crate::certificate::{Purpose, Shown, TlsError};
use crate::config;

/// What the collector shows to those who ask.
const SHOWN: Purpose = Purpose {
    cert: "http.tls.cert",
    key: "http.tls.key",
    what: "HTTP",
};

/// The certificate of `[http.tls]`, which is read again when its files change. Cheap to clone.
#[derive(Clone)]
pub struct Encryption(Arc<ServerConfig>);

impl Encryption {
    /// As the configuration has it; none answers in clear.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn of(http: &config::Http) -> Result<Option<Self>, TlsError> {
        let (Some(cert), Some(key)) = (&http.tls.cert, &http.tls.key) else {
            return Ok(None);
        };
        let provider = Arc::new(ring::default_provider());
        let shown = Shown::load(SHOWN, cert, key, Arc::clone(&provider))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has what TLS 1.2 and 1.3 need")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shown));
        config.alpn_protocols = vec![b"http/1.1".into()];
        Ok(Some(Self(Arc::new(config))))
    }

    pub(super) fn acceptor(self) -> TlsAcceptor {
        self.0.into()
    }
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encryption")
    }
}
