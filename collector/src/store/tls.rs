//! HTTPS to ClickHouse: whom the collector believes, and what it shows of itself.
//!
//! In: the PEM files of `[store.tls]`. Out: the client that requests go by. The CAs are read once;
//! the collector's own certificate, which lives shorter, is read again when its files change, so
//! that a renewal needs no restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clickhouse::Client;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::certificate::{Purpose, Shown, TlsError, certificates};
use crate::config;

/// A server that does not take a connection in this time is away.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// An idle connection is asked for a sign of life in this time.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Idle connections are given up before ClickHouse does (3 s in older versions).
const IDLE_MAX: Duration = Duration::from_secs(2);

/// Everything that HTTPS needs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn load(files: &config::Tls) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new(files.ca.as_deref(), &provider)?;
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has what TLS 1.2 and 1.3 need")
            // Verifies by rustls's own rules, in full: only the words of a refusal are ours.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match (&files.cert, &files.key) {
            (Some(cert), Some(key)) => {
                let shown = Shown::load(SHOWN, cert, key, provider)?;
                config.with_client_cert_resolver(Arc::new(shown))
            }
            _ => config.with_no_client_auth(),
        };
        Ok(Self(Arc::new(config)))
    }

    fn config(&self) -> ClientConfig {
        ClientConfig::clone(&self.0)
    }
}

/// A client that names neither address nor user yet; without `tls` it speaks HTTP only.
pub(super) fn client(tls: Option<&Tls>) -> Client {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_MAX));
    connector.set_keepalive(Some(KEEPALIVE));
    let mut builder = HttpClient::builder(TokioExecutor::new());
    builder.pool_idle_timeout(IDLE_MAX);
    let Some(tls) = tls else {
        return Client::with_http_client(builder.build(connector));
    };
    connector.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls.config())
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    Client::with_http_client(builder.build(connector))
}

/// What an operator does about a failure of TLS, known by what rustls says; `None` for others.
pub(super) fn remedy(message: &str) -> Option<&'static str> {
    if message.contains(KEY_CA) {
        Some("do what the error says")
    } else if message.contains("received fatal alert") {
        Some(
            "the server refused the TLS handshake: see store.tls.cert and its date, and the CA \
             that the server wants client certificates from",
        )
    } else if message.contains("received corrupt message") {
        Some("this port speaks no TLS: name the server's HTTPS port, or write http://")
    } else {
        None
    }
}

const KEY_CA: &str = "store.tls.ca";
/// What the collector shows to ClickHouse.
const SHOWN: Purpose = Purpose {
    cert: "store.tls.cert",
    key: "store.tls.key",
    what: "ClickHouse",
};

/// Verifies the server's certificate as rustls does, and tells a refusal with the file and the
/// remedy.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    /// Where the CAs come from, for people.
    believed: String,
}

impl Verifier {
    fn new(ca: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let believed = match ca {
            None => {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
                "those that Mozilla lists".into()
            }
            Some(path) => {
                for certificate in certificates(KEY_CA, path)? {
                    let added = roots.add(certificate);
                    added.map_err(|reason| TlsError::unfit(KEY_CA, path, reason))?;
                }
                format!("those of {}", path.display())
            }
        };
        let inner = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(provider));
        let inner = inner.build().expect("there is at least one CA");
        Ok(Self { inner, believed })
    }

    fn told(&self, name: &ServerName<'_>, error: rustls::Error) -> rustls::Error {
        use CertificateError as Fault;
        let rustls::Error::InvalidCertificate(fault) = &error else {
            return error;
        };
        let remedy = match fault {
            Fault::UnknownIssuer => format!(
                "it is signed by none of the CAs that are believed, {}; put the CA that signed it \
                 into the file of {KEY_CA}",
                self.believed
            ),
            Fault::Expired | Fault::ExpiredContext { .. } => {
                format!("{fault}; renew it on the server ({KEY_CA} is not at fault)")
            }
            Fault::NotValidYet | Fault::NotValidYetContext { .. } => {
                format!("{fault}; see this host's clock ({KEY_CA} is not at fault)")
            }
            Fault::NotValidForName | Fault::NotValidForNameContext { .. } => format!(
                "{fault}; write a name that it has into store.url, or give the server one for \
                 this name ({KEY_CA} is not at fault)"
            ),
            _ => format!("{fault}; see the server's certificate and {KEY_CA}"),
        };
        let text = format!("the certificate of {} is refused: {remedy}", name.to_str());
        rustls::Error::Other(OtherError(Arc::new(Refused(text))))
    }
}

/// Why a certificate was refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let inner = &self.inner;
        inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| self.told(server_name, error))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
