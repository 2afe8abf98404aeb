//! What a collector says by HTTP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flowsluice::config;
use serde_json::Value;
use ureq::Agent;
use ureq::tls::TlsConfig;

/// How long an answer may take: questions to the store have their own limit below that.
const ANSWER_MAX: Duration = Duration::from_secs(12);
/// `/status` of thousands of exporters has some megabytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How often the store is asked for the talkers.
const TALKERS_EVERY: Duration = Duration::from_secs(10);
const TALKERS: &str = "/api/v1/talkers?last=300&limit=20";

/// What was said at a moment.
#[derive(Clone, Debug)]
pub struct Reading {
    pub at: Instant,
    /// The answer of `/status`.
    pub status: Value,
    /// The hosts that sent and received most, or why that is not known.
    pub talkers: Result<Value, String>,
}

/// Asks a collector.
pub struct Source {
    agent: Agent,
    url: String,
    /// What it wants to be shown, if it does.
    authorization: Option<String>,
    talkers: Option<(Instant, Result<Value, String>)>,
}

impl Source {
    /// The collector at `url`, or that of the configuration, whose token or else user and password
    /// it is given.
    pub fn new(url: Option<String>, http: &config::Http) -> anyhow::Result<Self> {
        let authorization = authorization(http)?;
        // On this host the certificate has another name than the address.
        let tls = TlsConfig::builder().disable_verification(url.is_none());
        let agent = Agent::config_builder()
            .timeout_global(Some(ANSWER_MAX))
            .http_status_as_error(false)
            .tls_config(tls.build())
            .build();
        let scheme = if http.tls.cert.is_some() {
            "https"
        } else {
            "http"
        };
        let url = url.unwrap_or_else(|| format!("{scheme}://{}", reached(http.listen)));
        Ok(Self {
            agent: agent.into(),
            url: url.trim_end_matches('/').to_owned(),
            authorization,
            talkers: None,
        })
    }

    /// Where it asks.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Reads everything; the talkers not more often than they change.
    pub fn read(&mut self) -> anyhow::Result<Reading> {
        let status = self.get("/status").with_context(|| {
            format!(
                "{} does not tell its status; is the collector running, and is that its \
                 http.listen? Else give --url",
                self.url
            )
        })?;
        let at = Instant::now();
        let known = self.talkers.take();
        let known = known.filter(|(asked, _)| asked.elapsed() < TALKERS_EVERY);
        let (asked, talkers) = known.unwrap_or_else(|| {
            let talkers = self.get(TALKERS);
            (
                Instant::now(),
                talkers.map_err(|error| format!("{error:#}")),
            )
        });
        self.talkers = Some((asked, talkers.clone()));
        Ok(Reading {
            at,
            status,
            talkers,
        })
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let mut answer = request.call()?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let text = body.read_to_string()?;
        let json: Result<Value, _> = serde_json::from_str(&text);
        if status.is_success() {
            return json.map_err(|error| anyhow!("no JSON came ({error})"));
        }
        // The collector's refusals say what to do.
        let told = json.ok().and_then(|json| {
            let told = json.pointer("/error/text").and_then(Value::as_str);
            told.map(str::to_owned)
        });
        match told {
            Some(told) => bail!("{told}"),
            None => bail!("the answer is {status}"),
        }
    }
}

/// What the collector wants to be shown, if it does.
fn authorization(http: &config::Http) -> anyhow::Result<Option<String>> {
    if let Some(token) = http.token()? {
        return Ok(Some(format!("Bearer {}", token.reveal())));
    }
    let password = http.password()?;
    Ok(password.map(|password| {
        let pair = format!("{}:{}", http.user, password.reveal());
        format!("Basic {}", STANDARD.encode(pair))
    }))
}

/// The address to connect to where a server listens on `listen`.
fn reached(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_before_the_pages_password() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("the {name} of it\n")).unwrap();
            Some(path)
        };
        let mut http = config::Http::default();
        assert_eq!(authorization(&http).unwrap(), None);
        http.password_file = write("password");
        let pair = STANDARD.encode("flowsluice:the password of it");
        assert_eq!(authorization(&http).unwrap(), Some(format!("Basic {pair}")));
        http.token_file = write("token");
        let token = Some("Bearer the token of it".to_owned());
        assert_eq!(authorization(&http).unwrap(), token);
    }

    #[test]
    fn who_listens_everywhere_is_reached_on_this_host() {
        for (listen, reach) in [
            ("0.0.0.0:9190", "127.0.0.1:9190"),
            ("[::]:9190", "[::1]:9190"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            let reached = reached(listen.parse().unwrap());
            assert_eq!(reached, reach.parse().unwrap());
        }
    }
}
