//! Real agents are asked for their interfaces: Debian's snmpd, on a port of loopback.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use flowsluice::config::{self, Secret, SnmpAuth, SnmpPrivacy, SnmpTarget, SnmpVersion};
use flowsluice::enrich::interfaces::{InterfaceRules, Interfaces, StaticInterfaces};
use flowsluice::enrich::snmp::{Snmp, SnmpCounts};
use flowsluice::flow::Address;
use flowsluice::ledger::StoreCounts;
use flowsluice::names::Names;
use flowsluice::store::{SideTable, Store};
use flowsluice_tests::agent::{Agent, COMMUNITY, Row, SYSTEM_NAME};
use flowsluice_tests::process::Signal;
use tokio::runtime::Runtime;

/// The agent's exporter, as flows name it.
const EXPORTER: [u8; 4] = [192, 0, 2, 1];
const AUTH_PASSWORD: &str = "an auth password";
const PRIVACY_PASSWORD: &str = "a privacy password";
/// What a test waits for at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the agent is asked by version 2c.
fn plain(agent: &Agent) -> SnmpTarget {
    target(agent.port())
}

/// How it is asked by version 3.
fn user(agent: &Agent, user: &str, auth: SnmpAuth, privacy: SnmpPrivacy) -> Result<SnmpTarget> {
    Ok(SnmpTarget {
        version: SnmpVersion::V3,
        user: user.into(),
        auth,
        auth_password_file: agent.file("auth", AUTH_PASSWORD)?,
        privacy,
        privacy_password_file: agent.file("privacy", PRIVACY_PASSWORD)?,
        ..plain(agent)
    })
}

fn target(port: u16) -> SnmpTarget {
    SnmpTarget {
        source: IpAddr::V4(EXPORTER.into()).into(),
        address: Some(Ipv4Addr::LOCALHOST.into()),
        port,
        version: SnmpVersion::V2c,
        community: Some(Secret::new(COMMUNITY)),
        community_file: PathBuf::new(),
        user: String::new(),
        auth: SnmpAuth::None,
        auth_password_file: PathBuf::new(),
        privacy: SnmpPrivacy::None,
        privacy_password_file: PathBuf::new(),
    }
}

/// A poller over the null store, asked for `EXPORTER`.
struct Rig {
    snmp: Option<Snmp>,
    counts: Arc<StoreCounts>,
    runtime: Runtime,
    _store: Store,
}

impl Rig {
    fn start(targets: &[SnmpTarget], state_dir: Option<&Path>) -> Self {
        let config = config::Snmp {
            every: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            retries: 1,
            targets: targets.to_vec(),
            ..config::Snmp::default()
        };
        Self::start_with(&config, state_dir)
    }

    fn start_with(config: &config::Snmp, state_dir: Option<&Path>) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let counts = Arc::new(StoreCounts::default());
        let (store, snmp) = {
            let _inside = runtime.enter();
            let (store, batch) = (config::Store::default(), config::Batch::default());
            let (store, _) = Store::start(&store, None, Arc::clone(&counts), 1, &batch);
            let rows = store.side_rows();
            let snmp = Snmp::start(config, state_dir, rows, runtime.handle());
            (store, snmp)
        };
        snmp.wants(&[exporter(), Address::from_v4([203, 0, 113, 9])]);
        Self {
            snmp: Some(snmp),
            counts,
            runtime,
            _store: store,
        }
    }

    fn snmp(&self) -> &Snmp {
        self.snmp.as_ref().expect("it was not stopped")
    }

    /// Waits until the figures are so.
    fn wait(&self, what: &str, is_so: impl Fn(&SnmpCounts) -> bool) -> Result<SnmpCounts> {
        let begun = Instant::now();
        loop {
            let counts = self.snmp().counts();
            if is_so(&counts) {
                return Ok(counts);
            }
            ensure!(begun.elapsed() < PATIENCE, "{what}: {counts:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the first poll and yields how it ended.
    fn first(&self) -> Result<SnmpCounts> {
        self.wait("no poll ended", |counts| counts.polls > 0)
    }

    fn label(&self, if_index: u32) -> String {
        self.label_with(&StaticInterfaces::default(), if_index)
    }

    fn label_with(&self, files: &StaticInterfaces, if_index: u32) -> String {
        let polled = self.snmp().snapshot();
        let rules = InterfaceRules::default();
        let all = Interfaces::new(files, &polled, &Names::default(), &rules);
        let id = all.exporter(exporter()).map_or(0, |of| of.get(if_index));
        all.label(id).to_owned()
    }

    fn stop(mut self) {
        let snmp = self.snmp.take().expect("it is stopped once");
        self.runtime.block_on(snmp.stop());
    }
}

fn exporter() -> Address {
    Address::from_v4(EXPORTER)
}

/// Lines of the agent's configuration for such rows.
fn rows(rows: &[(u32, &'static str, &'static str, u32)]) -> String {
    let lines = |(index, name, alias, high_speed): &(u32, &'static str, &'static str, u32)| {
        let row = Row {
            index: *index,
            name,
            alias,
            high_speed: *high_speed,
        };
        row.lines()
    };
    rows.iter().map(lines).collect()
}

#[test]
fn names_aliases_and_speeds_come_by_version_2c() -> Result<()> {
    let lines = rows(&[
        (700, "xe-0/0/1", "Transit: Example", 10_000),
        (1_000_000, "ae1", "", 400_000),
    ]);
    let Some(agent) = Agent::start_or_skip(&lines)? else {
        return Ok(());
    };
    let community = agent.file("community", "public\nof last year\n")?;
    let by_file = SnmpTarget {
        community: Some(Secret::new("not this")),
        community_file: community,
        ..plain(&agent)
    };
    let rig = Rig::start(&[by_file], None);
    let counts = rig.wait("no interfaces", |counts| counts.interfaces > 0)?;
    assert_eq!((counts.exporters, counts.exporters_failing), (1, 0));
    assert_eq!((counts.rows_cut, counts.rows_put_off), (0, 0));
    assert_eq!(
        rig.snmp().system_name(exporter()).as_deref(),
        Some(SYSTEM_NAME)
    );
    assert_eq!(
        rig.snmp().system_name(Address::from_v4([203, 0, 113, 9])),
        None
    );
    assert!(
        rig.label(1).starts_with("lo\t\t10000000\t"),
        "{:?}",
        rig.label(1)
    );
    assert_eq!(
        rig.label(700),
        "xe-0/0/1\tTransit: Example\t10000000000\t\t\t"
    );
    assert_eq!(rig.label(1_000_000), "ae1\t\t400000000000\t\t\t");
    assert_eq!(rig.label(701), "");
    // Each interface became a row, once.
    let told = || rig.counts.side(SideTable::Interfaces).read().rows_offered;
    assert_eq!(told(), counts.interfaces);
    let epoch = rig.snmp().epoch();
    rig.wait("polls go on", |counts| counts.polls >= 3)?;
    assert_eq!(told(), counts.interfaces);
    assert_eq!(rig.snmp().epoch(), epoch, "nothing new was said");
    Ok(())
}

#[test]
fn every_authentication_and_encryption_of_version_3_is_spoken() -> Result<()> {
    let auths = [
        (SnmpAuth::Md5, "MD5"),
        (SnmpAuth::Sha1, "SHA"),
        (SnmpAuth::Sha256, "SHA-256"),
        (SnmpAuth::Sha512, "SHA-512"),
    ];
    let privacies = [
        (SnmpPrivacy::None, "AES", "auth"),
        (SnmpPrivacy::Des, "DES", "priv"),
        (SnmpPrivacy::Aes128, "AES", "priv"),
        (SnmpPrivacy::Aes256, "AES-256", "priv"),
        // The other way to make a long key of a short hash.
        (SnmpPrivacy::Aes256, "AES-256-C", "priv"),
    ];
    let mut lines = "createUser nobody\nrouser nobody noauth\n".to_owned();
    let mut users = Vec::new();
    for (auth, auth_name) in auths {
        for (privacy, privacy_name, level) in privacies {
            let name = format!("user{}", users.len());
            lines += &format!(
                "createUser {name} {auth_name} \"{AUTH_PASSWORD}\" {privacy_name} \
                 \"{PRIVACY_PASSWORD}\"\nrouser {name} {level}\n"
            );
            users.push((name, auth, privacy));
        }
    }
    users.push(("nobody".into(), SnmpAuth::None, SnmpPrivacy::None));
    let Some(agent) = Agent::start_or_skip(&lines)? else {
        return Ok(());
    };
    for (name, auth, privacy) in users {
        let target = user(&agent, &name, auth, privacy)?;
        let rig = Rig::start(&[target], None);
        let counts = rig.wait("no answer", |counts| {
            counts.interfaces > 0 || counts.polls > 2
        });
        let counts = counts?;
        assert!(
            counts.interfaces > 0,
            "{name} {auth:?} {privacy:?}: {counts:?}"
        );
        assert!(
            rig.label(1).starts_with("lo\t"),
            "{name} {auth:?} {privacy:?}"
        );
    }
    Ok(())
}

#[test]
fn a_wrong_user_password_or_community_fails_and_a_changed_file_mends_it() -> Result<()> {
    let lines = format!(
        "createUser someone SHA-256 \"{AUTH_PASSWORD}\" AES \"{PRIVACY_PASSWORD}\"\n\
         rouser someone priv\n"
    );
    let Some(agent) = Agent::start_or_skip(&lines)? else {
        return Ok(());
    };
    let v3 = |name| user(&agent, name, SnmpAuth::Sha256, SnmpPrivacy::Aes128);
    // The agent is there before it is asked.
    let right = Rig::start(&[v3("someone")?], None);
    right.wait("it is there", |counts| counts.interfaces > 0)?;
    let stranger = Rig::start(&[v3("stranger")?], None);
    let counts = stranger.first()?;
    assert_eq!(
        (counts.failures, counts.timeouts),
        (1, 0),
        "the agent refuses it"
    );
    assert_eq!((counts.exporters_failing, counts.interfaces), (1, 0));
    let wrong = SnmpTarget {
        auth_password_file: agent.file("wrong", "another password")?,
        ..v3("someone")?
    };
    let counts = Rig::start(&[wrong], None).first()?;
    assert_eq!(
        (counts.failures, counts.timeouts, counts.interfaces),
        (1, 0, 0)
    );
    let other_privacy = agent.file("other", "another password")?;
    let wrong = SnmpTarget {
        privacy_password_file: other_privacy,
        ..v3("someone")?
    };
    let counts = Rig::start(&[wrong], None).first()?;
    assert_eq!((counts.failures, counts.interfaces), (1, 0));
    let community = agent.file("community", "wrong\n")?;
    let by_file = SnmpTarget {
        community_file: community.clone(),
        ..plain(&agent)
    };
    let rig = Rig::start(&[by_file], None);
    let counts = rig.first()?;
    assert_eq!((counts.failures, counts.timeouts), (1, 1), "it is silent");
    fs::write(&community, "public\n")?;
    rig.wait("the new secret is read", |counts| counts.interfaces > 0)?;
    fs::remove_file(&community)?;
    let before = rig.snmp().counts();
    let counts = rig.wait("no file", |counts| counts.failures > before.failures)?;
    assert_eq!(
        counts.interfaces, before.interfaces,
        "what was said is kept"
    );
    Ok(())
}

#[test]
fn what_an_agent_said_is_kept_while_it_is_dead_and_new_when_it_is_back() -> Result<()> {
    let lines = format!(
        "createUser someone SHA \"{AUTH_PASSWORD}\" AES \"{PRIVACY_PASSWORD}\"\n\
         rouser someone priv\n"
    );
    let before = format!("{lines}{}", rows(&[(700, "xe-0", "before", 1000)]));
    let Some(mut agent) = Agent::start_or_skip(&before)? else {
        return Ok(());
    };
    let targets = [user(
        &agent,
        "someone",
        SnmpAuth::Sha1,
        SnmpPrivacy::Aes128,
    )?];
    let rig = Rig::start(&targets, None);
    rig.wait("no interfaces", |counts| counts.interfaces > 0)?;
    let label = "xe-0\tbefore\t1000000000\t\t\t";
    assert_eq!(rig.label(700), label);
    let epoch = rig.snmp().epoch();

    agent.process().signal(Signal::STOP)?;
    let counts = rig.wait("it is silent", |counts| counts.exporters_failing == 1)?;
    assert!(counts.timeouts > 0, "{counts:?}");
    assert_eq!(
        (rig.label(700).as_str(), rig.snmp().epoch()),
        (label, epoch)
    );
    agent.process().signal(Signal::CONT)?;
    rig.wait("it is back", |counts| counts.exporters_failing == 0)?;

    agent.process().kill()?;
    rig.wait("it is dead", |counts| counts.exporters_failing == 1)?;
    assert_eq!(rig.label(700), label);
    // Another boot of the engine, with another clock.
    let after = format!("{lines}{}", rows(&[(700, "xe-0", "after", 1000)]));
    agent.configure(&after)?;
    agent.start()?;
    rig.wait("it is back", |counts| counts.exporters_failing == 0)?;
    assert_eq!(rig.label(700), "xe-0\tafter\t1000000000\t\t\t");
    assert!(rig.snmp().epoch() > epoch);
    Ok(())
}

#[test]
fn what_agents_said_outlasts_a_restart() -> Result<()> {
    let lines = rows(&[(700, "xe-0", "kept", 1000)]);
    let Some(mut agent) = Agent::start_or_skip(&lines)? else {
        return Ok(());
    };
    let state = tempfile::tempdir()?;
    let targets = [plain(&agent)];
    let rig = Rig::start(&targets, Some(state.path()));
    rig.wait("no interfaces", |counts| counts.interfaces > 0)?;
    rig.stop();
    agent.process().kill()?;
    let rig = Rig::start(&targets, Some(state.path()));
    assert_eq!(rig.label(700), "xe-0\tkept\t1000000000\t\t\t");
    assert_eq!(
        rig.snmp().system_name(exporter()).as_deref(),
        Some(SYSTEM_NAME)
    );
    let counts = rig.first()?;
    assert_eq!((counts.failures, counts.exporters_failing), (1, 1));
    assert_eq!(rig.label(700), "xe-0\tkept\t1000000000\t\t\t");
    Ok(())
}

#[test]
fn static_interfaces_count_before_what_agents_say() -> Result<()> {
    let lines = rows(&[(700, "xe-0", "of the agent", 1000)]);
    let Some(agent) = Agent::start_or_skip(&lines)? else {
        return Ok(());
    };
    let csv = agent.file(
        "interfaces.csv",
        "exporter,if_index,alias\n192.0.2.1,700,of the file\n192.0.2.1,7,seven\n",
    )?;
    let files = StaticInterfaces::load(&[csv])?;
    let rig = Rig::start(&[plain(&agent)], None);
    rig.wait("no interfaces", |counts| counts.interfaces > 0)?;
    assert_eq!(
        rig.label_with(&files, 700),
        "xe-0\tof the file\t1000000000\t\t\t"
    );
    assert_eq!(rig.label_with(&files, 7), "\tseven\t\t\t\t");
    Ok(())
}

#[test]
fn the_longest_prefix_says_how_an_exporter_is_asked() -> Result<()> {
    let Some(agent) = Agent::start_or_skip("")? else {
        return Ok(());
    };
    let nobody = UdpSocket::bind("127.0.0.1:0")?;
    let wide = SnmpTarget {
        source: "192.0.2.0/24".parse()?,
        ..target(nobody.local_addr()?.port())
    };
    let rig = Rig::start(&[wide.clone(), plain(&agent)], None);
    let counts = rig.first()?;
    assert_eq!((counts.failures, counts.exporters), (0, 1));
    let rig = Rig::start(&[wide], None);
    assert_eq!(rig.first()?.timeouts, 1);
    // Nobody wants it any more.
    rig.snmp().wants(&[]);
    rig.wait("it is let alone", |counts| counts.exporters == 0)?;
    Ok(())
}
