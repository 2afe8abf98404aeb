//! The name servers: who is asked, who is left alone because it does not answer, and what an
//! answer means.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use tracing::{info, warn};

use crate::config;
use crate::flow::Address;

/// Questions in a row without an answer, after which a server is left alone.
const UNANSWERED_MAX: u32 = 8;
/// How long, until it is tried again; it doubles up to the second.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Servers that are asked; further ones of resolv.conf are not.
const SERVERS_MAX: usize = 16;
/// Bytes of a name (RFC 1035 section 2.3.4), and all that is kept of one with escapes.
const NAME_MAX: usize = 255;
const DNS_PORT: u16 = 53;

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A name, clean and not empty.
    Name(Box<str>),
    /// There is none: NXDOMAIN, or no PTR record, or one that names nothing.
    NoName,
    /// It could not say: SERVFAIL, REFUSED, or something that is no answer.
    Failed,
    /// Nothing within the time.
    Timeout,
    /// The host cannot send to it.
    Unreachable,
}

impl Answer {
    /// Whether the server did anything at all.
    pub const fn is_alive(&self) -> bool {
        !matches!(self, Self::Timeout | Self::Unreachable)
    }
}

/// One server.
pub(super) struct Server {
    pub at: SocketAddr,
    resolver: TokioResolver,
    health: Health,
}

/// All servers, in the order in which they are asked.
pub(super) struct Servers {
    all: Vec<Server>,
    /// They are the host's own and may change.
    is_of_host: bool,
    timeout: Duration,
    /// When the host may be asked for them again.
    reload_due: Duration,
    /// Why there is none was told.
    is_told: bool,
}

impl Servers {
    pub fn new(config: &config::Dns) -> Self {
        let mut servers = Self {
            all: Vec::new(),
            is_of_host: config.servers.is_empty(),
            timeout: config.timeout,
            reload_due: Duration::ZERO,
            is_told: false,
        };
        let named = config.servers.iter().filter_map(|server| {
            let address = |ip: IpAddr| SocketAddr::new(ip, DNS_PORT);
            let with_port = |_| server.parse::<SocketAddr>();
            server.parse().map(address).or_else(with_port).ok()
        });
        let named: Vec<_> = named.collect();
        servers.replace(&named);
        servers.reload(Duration::ZERO);
        servers
    }

    /// Reads the host's servers anew, when they are those asked and none of them answers.
    pub fn reload(&mut self, now: Duration) {
        if !self.is_of_host || self.has_any() || now < self.reload_due {
            return;
        }
        self.reload_due = now + PAUSE_MAX;
        match of_host() {
            Ok(found) => {
                self.is_told = false;
                self.replace(&found);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_told, true) {
                    warn!(
                        error = format!("{error:#}"),
                        remedy = "name servers in enrich.dns.servers",
                        "no name server is known: addresses get no names"
                    );
                }
            }
        }
    }

    fn replace(&mut self, found: &[SocketAddr]) {
        let found = &found[..found.len().min(SERVERS_MAX)];
        if self.all.iter().map(|server| &server.at).eq(found) {
            return;
        }
        let made = found.iter().filter_map(|at| {
            Some(Server {
                at: *at,
                resolver: resolver(*at, self.timeout)
                    .inspect_err(|error| warn!(server = %at, %error, "name server is not asked"))
                    .ok()?,
                health: Health::default(),
            })
        });
        self.all = made.collect();
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// How many are left alone.
    pub fn dead(&self) -> usize {
        let is_dead = |server: &&Server| server.health.dead.is_some();
        self.all.iter().filter(is_dead).count()
    }

    /// True when one of them may be asked.
    pub fn has_any(&self) -> bool {
        self.dead() < self.len()
    }

    /// The first server that may be asked and is none of `tried`.
    pub fn pick(&self, tried: &[SocketAddr]) -> Option<(SocketAddr, TokioResolver)> {
        let is_good =
            |server: &&Server| server.health.dead.is_none() && !tried.contains(&server.at);
        let server = self.all.iter().find(is_good)?;
        Some((server.at, server.resolver.clone()))
    }

    /// Those to be tried again now.
    pub fn probes(&mut self, now: Duration) -> Vec<(SocketAddr, TokioResolver)> {
        let due = self.all.iter_mut().filter_map(|server| {
            let is_due = server.health.begin_probe(now);
            is_due.then(|| (server.at, server.resolver.clone()))
        });
        due.collect()
    }

    /// What became of a question or of a probe; a server that goes or comes back is told.
    pub fn heard(&mut self, at: SocketAddr, is_alive: bool, is_probe: bool, now: Duration) {
        let Some(server) = self.all.iter_mut().find(|server| server.at == at) else {
            return;
        };
        match server.health.heard(is_alive, is_probe, now) {
            Change::None => {}
            Change::Dead => warn!(
                server = %at,
                remedy = "see whether it runs and can be reached, or correct enrich.dns.servers",
                "name server does not answer: it is left alone, names stay as they are"
            ),
            Change::Back { after } => {
                info!(server = %at, after_s = after.as_secs(), "name server answers again");
            }
        }
    }
}

#[derive(Debug, Default)]
struct Health {
    /// Questions in a row.
    unanswered: u32,
    dead: Option<Dead>,
}

#[derive(Debug)]
struct Dead {
    since: Duration,
    probe_at: Duration,
    pause: Duration,
    is_probing: bool,
    /// Not before a probe has failed as well: single zones that do not answer look the same.
    is_told: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Change {
    None,
    Dead,
    Back { after: Duration },
}

impl Health {
    fn begin_probe(&mut self, now: Duration) -> bool {
        let Some(dead) = &mut self.dead else {
            return false;
        };
        let is_due = !dead.is_probing && dead.probe_at <= now;
        dead.is_probing |= is_due;
        is_due
    }

    fn heard(&mut self, is_alive: bool, is_probe: bool, now: Duration) -> Change {
        if is_alive {
            self.unanswered = 0;
            return match self.dead.take() {
                Some(dead) if dead.is_told => Change::Back {
                    after: now.saturating_sub(dead.since),
                },
                _ => Change::None,
            };
        }
        self.unanswered = self.unanswered.saturating_add(1);
        match &mut self.dead {
            Some(dead) if is_probe => {
                dead.is_probing = false;
                dead.probe_at = now + dead.pause;
                dead.pause = (dead.pause * 2).min(PAUSE_MAX);
                let is_news = !std::mem::replace(&mut dead.is_told, true);
                if is_news { Change::Dead } else { Change::None }
            }
            // A question from before.
            Some(_) => Change::None,
            None => {
                if self.unanswered >= UNANSWERED_MAX {
                    self.dead = Some(Dead {
                        since: now,
                        probe_at: now,
                        pause: PAUSE_MIN,
                        is_probing: false,
                        is_told: false,
                    });
                }
                Change::None
            }
        }
    }
}

/// The host's name servers.
fn of_host() -> anyhow::Result<Vec<SocketAddr>> {
    let (config, _) = read_system_conf().context("/etc/resolv.conf")?;
    let servers = config.name_servers().iter();
    Ok(servers
        .map(|server| SocketAddr::new(server.ip, DNS_PORT))
        .collect())
}

/// One that keeps nothing itself and asks each question once. UDP is sent again within the time.
fn resolver(at: SocketAddr, timeout: Duration) -> Result<TokioResolver, NetError> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = at.port();
        connection
    });
    let server = NameServerConfig::new(at.ip(), true, connections.into());
    let config = ResolverConfig::from_name_servers(vec![server]);
    let mut options = ResolverOpts::default();
    options.timeout = timeout;
    options.attempts = 0;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
}

/// Asks for the name of `address`.
pub(super) async fn ask(resolver: TokioResolver, address: Address, timeout: Duration) -> Answer {
    let question = resolver.reverse_lookup(Name::from(address.to_ip()));
    // Twice: a long answer comes again by TCP.
    let answer = match tokio::time::timeout(timeout * 2, question).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return meaning(&error),
        Err(_) => return Answer::Timeout,
    };
    let names = answer
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::PTR(name) => clean(&name.0.to_ascii()),
            _ => None,
        });
    // Servers turn lists of several round; the name stays the same.
    names.min().map_or(Answer::NoName, Answer::Name)
}

/// Whether a server answers at all: to who serves the root, any answer will do.
pub(super) async fn probe(resolver: TokioResolver, timeout: Duration) -> bool {
    let question = resolver.lookup(Name::root(), RecordType::NS);
    match tokio::time::timeout(timeout * 2, question).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => meaning(&error).is_alive(),
        Err(_) => false,
    }
}

fn meaning(error: &NetError) -> Answer {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(NoRecords {
            response_code: ResponseCode::NXDomain | ResponseCode::NoError,
            ..
        })) => Answer::NoName,
        NetError::Timeout => Answer::Timeout,
        NetError::Io(_) | NetError::NoConnections => Answer::Unreachable,
        _ => Answer::Failed,
    }
}

/// A name as it is kept: without the last dot and without control characters, of at most
/// [`NAME_MAX`] bytes. Those of the root and of nothing are none.
fn clean(name: &str) -> Option<Box<str>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut clean = String::with_capacity(name.len().min(NAME_MAX));
    for c in name.chars().filter(|c| !c.is_control()) {
        if clean.len() + c.len_utf8() > NAME_MAX {
            break;
        }
        clean.push(c);
    }
    (!clean.is_empty()).then(|| clean.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn silent(health: &mut Health, times: u32) {
        for _ in 0..times {
            assert_eq!(health.heard(false, false, s(1)), Change::None);
        }
    }

    #[test]
    fn a_server_is_dead_after_a_row_of_silence_and_a_silent_probe() {
        let mut health = Health::default();
        silent(&mut health, UNANSWERED_MAX - 1);
        assert_eq!(health.heard(true, false, s(1)), Change::None);
        silent(&mut health, UNANSWERED_MAX - 1);
        assert!(health.dead.is_none());
        silent(&mut health, 50);
        assert!(health.begin_probe(s(1)));
        assert!(!health.begin_probe(s(100)), "one at a time");
        assert_eq!(health.heard(false, true, s(3)), Change::Dead);
        let mut probes = Vec::new();
        for second in 3..100 {
            if health.begin_probe(s(second)) {
                probes.push(second);
                assert_eq!(health.heard(false, true, s(second)), Change::None);
            }
        }
        assert_eq!(probes, [4, 6, 10, 18, 34, 64, 94]);
        let back = Change::Back { after: s(199) };
        assert_eq!(health.heard(true, true, s(200)), back);
        assert!(health.dead.is_none());
    }

    #[test]
    fn silent_zones_behind_a_live_server_are_not_told() {
        let mut health = Health::default();
        silent(&mut health, UNANSWERED_MAX);
        assert!(health.begin_probe(s(1)));
        assert_eq!(health.heard(true, true, s(1)), Change::None);
        assert!(health.dead.is_none());
    }

    #[test]
    fn names_are_bounded_and_harmless() {
        let kept = |name: &str| clean(name).map(String::from);
        assert_eq!(kept("Router1.Example.").as_deref(), Some("Router1.Example"));
        assert_eq!(kept("a\tb\nc\u{9b}d.").as_deref(), Some("abcd"));
        assert_eq!(kept("."), None);
        assert_eq!(kept(""), None);
        assert_eq!(kept(&"é".repeat(200)).unwrap().len(), 254);
    }

    #[test]
    fn servers_are_asked_in_their_order_and_the_dead_left_out() {
        let mut servers = Servers::new(&config::Dns {
            servers: vec!["192.0.2.1".into(), "[2001:db8::1]:5353".into()],
            ..config::Dns::default()
        });
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let [first, second] = [at("192.0.2.1:53"), at("[2001:db8::1]:5353")];
        let picked = |servers: &Servers, tried: &[SocketAddr]| Some(servers.pick(tried)?.0);
        assert_eq!(picked(&servers, &[]), Some(first));
        assert_eq!(picked(&servers, &[first]), Some(second));
        assert_eq!(picked(&servers, &[first, second]), None);
        for _ in 0..UNANSWERED_MAX {
            servers.heard(first, false, false, s(1));
        }
        assert_eq!(picked(&servers, &[]), Some(second));
        assert_eq!((servers.dead(), servers.has_any()), (1, true));
        let probed: Vec<_> = servers.probes(s(1)).into_iter().map(|(at, _)| at).collect();
        assert_eq!(probed, [first]);
        servers.heard(first, true, true, s(1));
        assert_eq!(picked(&servers, &[]), Some(first));
    }
}
