//! Certificates made by openssl, and stunnel, which speaks TLS in front of a ClickHouse: the
//! embedded engine listens for HTTP only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::place;
use crate::process::Process;

/// Until stunnel listens.
const LISTENS_MAX: Duration = Duration::from_secs(60);

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key, PKCS#8.
    pub key: PathBuf,
}

/// A CA that signs certificates into a folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    ca: Certificate,
}

impl Authority {
    /// Makes one of this name in `folder`.
    ///
    /// # Errors
    /// When openssl fails.
    pub fn make(name: &str, folder: &Path) -> Result<Self> {
        let ca = Certificate {
            cert: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        };
        let subject = format!("/CN={name}");
        openssl(&[
            &["req", "-x509", "-days", "30", "-subj", &subject] as &[&str],
            &NEW_KEY,
            &["-keyout", text(&ca.key)?, "-out", text(&ca.cert)?],
        ])?;
        Ok(Self {
            folder: folder.to_path_buf(),
            ca,
        })
    }

    /// The file that others believe it by.
    #[must_use]
    pub fn cert(&self) -> &Path {
        &self.ca.cert
    }

    /// Signs a certificate for these names (`DNS:localhost`), which is valid for so many days; with
    /// 0 it is over at once.
    ///
    /// # Errors
    /// When openssl fails.
    pub fn sign(&self, name: &str, subject_names: &str, days: u32) -> Result<Certificate> {
        let file = |ending: &str| self.folder.join(format!("{name}.{ending}"));
        let (request, extensions) = (file("csr"), file("ext"));
        let made = Certificate {
            cert: file("pem"),
            key: file("key"),
        };
        let subject = format!("/CN={name}");
        openssl(&[
            &["req", "-subj", &subject] as &[&str],
            &NEW_KEY,
            &["-keyout", text(&made.key)?, "-out", text(&request)?],
        ])?;
        fs::write(&extensions, format!("subjectAltName={subject_names}\n"))?;
        openssl(&[
            &[
                "x509",
                "-req",
                "-CAcreateserial",
                "-days",
                &days.to_string(),
            ] as &[&str],
            &["-CA", text(&self.ca.cert)?, "-CAkey", text(&self.ca.key)?],
            &["-in", text(&request)?, "-out", text(&made.cert)?],
            &["-extfile", text(&extensions)?],
        ])?;
        Ok(made)
    }
}

const NEW_KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
];

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a temporary path is UTF-8")
}

fn openssl(arguments: &[&[&str]]) -> Result<()> {
    let output = Command::new("openssl").args(arguments.concat()).output();
    let output = output.context("start openssl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openssl {arguments:?}: {said}");
    Ok(())
}

/// A running stunnel. Dropped, it is stopped.
#[derive(Debug)]
pub struct Stunnel {
    process: Process,
    port: u16,
}

impl Stunnel {
    /// Speaks TLS in front of a port of 127.0.0.1, showing `shown`; takes only clients with a
    /// certificate that `clients` signed, if that is given.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn start(
        to: u16,
        shown: &Certificate,
        clients: Option<&Authority>,
        folder: &Path,
    ) -> Result<Self> {
        let port = place::free_tcp_port(0)?;
        let file = folder.join(format!("stunnel-{port}.conf"));
        let asked = clients.map_or_else(String::new, |authority| {
            let ca = authority.cert().display();
            format!("CAfile = {ca}\nverifyChain = yes\nrequireCert = yes\n")
        });
        let (cert, key) = (shown.cert.display(), shown.key.display());
        let settings = format!(
            "foreground = yes\npid =\nsyslog = no\n[clickhouse]\naccept = 127.0.0.1:{port}\n\
             connect = 127.0.0.1:{to}\ncert = {cert}\nkey = {key}\n{asked}"
        );
        fs::write(&file, settings)?;
        let mut command = Command::new("stunnel4");
        command.arg(&file);
        let log = folder.join(format!("stunnel-{port}.log"));
        let mut process = Process::spawn("stunnel", &mut command, &log)?;
        let deadline = Instant::now() + LISTENS_MAX;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if process.poll()?.is_some() || Instant::now() >= deadline {
                bail!("stunnel does not listen\n{}", process.tail(20));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { process, port })
    }

    /// `https://HOST:PORT`.
    #[must_use]
    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }

    /// The last lines that it printed.
    #[must_use]
    pub fn tail(&self) -> String {
        self.process.tail(20)
    }
}
