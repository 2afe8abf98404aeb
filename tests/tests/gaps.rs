//! What exporters sent and the collector did not get stands in `exporter_gaps`, to the number.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::wire::{Sender, netflow5};
use flowsluice_tests::{ClickHouse, Collector, Settings, Store};

const EXPORTERS: usize = 8;
/// Datagrams of a domain until something befalls them: the collector is sure by then what their
/// numbers count.
const UNHARMED: usize = 8;

/// A datagram on its way, with what its header says.
struct Datagram {
    domain: Domain,
    sequence: u32,
    payload: Vec<u8>,
}

/// Exporter, protocol and observation domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Domain {
    source: Ipv4Addr,
    flow_type: &'static str,
    number: u32,
}

/// What befalls a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Arrives,
    Lost,
    Repeated,
    /// Arrives behind the next one of its domain.
    Late,
}

/// What the collector must find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    lost: u64,
    reordered: u64,
    duplicated: u64,
    restarts: u64,
}

impl Datagram {
    /// RFC 3954 section 5.1, RFC 7011 section 3.1, sFlow v5, and Cisco's format of NetFlow v5.
    fn read(source: Ipv4Addr, payload: Vec<u8>) -> Result<Self> {
        let word = |at: usize| -> Result<u32> {
            let bytes = payload.get(at..at + 4).context("a header is cut")?;
            Ok(u32::from_be_bytes(bytes.try_into()?))
        };
        let (flow_type, sequence, number) = match word(0)? >> 16 {
            5 => ("netflow5", word(16)?, word(20)? >> 16),
            9 => ("netflow9", word(12)?, word(16)?),
            10 => ("ipfix", word(8)?, word(12)?),
            0 => ("sflow5", word(16)?, word(12)?),
            other => anyhow::bail!("a datagram of version {other}"),
        };
        Ok(Self {
            domain: Domain {
                source,
                flow_type,
                number,
            },
            sequence,
            payload,
        })
    }
}

/// What simulated exporters send, each from an address of its own on the loopback.
fn simulated(binary: &Path, folder: &Path) -> Result<Vec<Datagram>> {
    let file = folder.join("simulated.pcap");
    let output = Command::new(binary)
        .args(["generate", "--flows=30000", "--rate=3000"])
        .arg(format!("--exporters={EXPORTERS}"))
        .arg("--write")
        .arg(&file)
        .output()?;
    ensure!(output.status.success(), "generate: {output:?}");
    let bytes = std::fs::read(file)?;
    let mut sources = Vec::new();
    let mut datagrams = Vec::new();
    // A header of 24 bytes, and 16 before each frame of Ethernet, IPv4 and UDP.
    let mut rest = bytes.get(24..).context("no capture")?;
    while let Some((head, behind)) = rest.split_at_checked(16) {
        let len = u32::from_le_bytes(head[8..12].try_into()?) as usize;
        let frame = behind.get(..len).context("a frame is cut")?;
        let exporter = frame[26..30].to_vec();
        let known = sources.iter().position(|source| *source == exporter);
        let at = known.unwrap_or_else(|| {
            sources.push(exporter);
            sources.len() - 1
        });
        let source = Ipv4Addr::new(127, 3, 0, at as u8 + 1);
        datagrams.push(Datagram::read(source, frame[42..].to_vec())?);
        rest = &behind[len..];
    }
    Ok(datagrams)
}

/// Decides what befalls each datagram, and what must be found of each domain.
fn fates(datagrams: &[Datagram]) -> (Vec<Fate>, BTreeMap<Domain, Found>) {
    let mut domains = BTreeMap::<_, Vec<usize>>::new();
    for (at, datagram) in datagrams.iter().enumerate() {
        domains.entry(&datagram.domain).or_default().push(at);
    }
    let mut fates = vec![Fate::Arrives; datagrams.len()];
    let mut all = BTreeMap::new();
    for (domain, places) in domains {
        let mut found = Found::default();
        let mut is_late = false;
        for (number, pair) in places.windows(2).enumerate() {
            let (at, next) = (pair[0], pair[1]);
            let fate = match number {
                ..UNHARMED => Fate::Arrives,
                // The one behind a late one pushes it on.
                _ if is_late => Fate::Arrives,
                n if n % 11 == 7 => Fate::Lost,
                n if n % 17 == 9 => Fate::Late,
                n if n % 13 == 5 => Fate::Repeated,
                _ => Fate::Arrives,
            };
            is_late = fate == Fate::Late;
            // The next number tells how many this one stands for, whatever it counts.
            let stands_for = datagrams[next]
                .sequence
                .wrapping_sub(datagrams[at].sequence);
            match fate {
                Fate::Arrives => {}
                Fate::Lost => found.lost += u64::from(stands_for),
                Fate::Repeated => found.duplicated += 1,
                Fate::Late => found.reordered += 1,
            }
            fates[at] = fate;
        }
        all.insert(domain.clone(), found);
    }
    (fates, all)
}

/// Sends what arrives, alternating between so many source ports of each exporter; yields how many
/// datagrams that were.
fn send(
    collector: &Collector,
    datagrams: &[Datagram],
    fates: &[Fate],
    ports: usize,
) -> Result<u64> {
    let mut senders = BTreeMap::new();
    let mut late = BTreeMap::new();
    let mut sent = 0;
    for (number, (datagram, fate)) in datagrams.iter().zip(fates).enumerate() {
        let Datagram {
            domain, payload, ..
        } = datagram;
        let mut send = |payload: &[u8]| -> Result<()> {
            let sender = match senders.entry((domain.source, sent % ports as u64)) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => new.insert(Sender::between(
                    IpAddr::V4(domain.source),
                    collector.target(),
                )?),
            };
            sent += 1;
            sender.send(payload)
        };
        match fate {
            Fate::Lost => continue,
            Fate::Late => {
                late.insert(domain, payload);
                continue;
            }
            Fate::Arrives => send(payload)?,
            Fate::Repeated => {
                send(payload)?;
                send(payload)?;
            }
        }
        if let Some(payload) = late.remove(domain) {
            send(payload)?;
        }
        if number % 8 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    ensure!(late.is_empty(), "what is late arrives in the end");
    Ok(sent)
}

/// What stands in a table, by domain.
fn found(clickhouse: &ClickHouse, sql: &str) -> Result<BTreeMap<Domain, Found>> {
    let mut all = BTreeMap::new();
    for row in clickhouse.rows(sql)? {
        let [source, flow_type, number, figures @ ..] = &row[..] else {
            anyhow::bail!("not the columns that were asked for: {row:?}");
        };
        let flow_types = ["netflow5", "netflow9", "ipfix", "sflow5"];
        let flow_type = flow_types.into_iter().find(|name| name == flow_type);
        let figures: Vec<u64> = figures
            .iter()
            .map(|figure| Ok(figure.parse()?))
            .collect::<Result<_>>()?;
        let [lost, reordered, duplicated, restarts] = figures[..] else {
            anyhow::bail!("not four figures: {row:?}");
        };
        let domain = Domain {
            source: source.trim_start_matches("::ffff:").parse()?,
            flow_type: flow_type.context("an unknown protocol")?,
            number: number.parse()?,
        };
        let found = Found {
            lost,
            reordered,
            duplicated,
            restarts,
        };
        ensure!(all.insert(domain, found).is_none(), "twice: {row:?}");
    }
    Ok(all)
}

const GAPS: &str = "SELECT exporter_source, flow_type, observation_domain, sum(lost), \
    sum(reordered), sum(duplicated), sum(restarts) FROM exporter_gaps \
    GROUP BY exporter_source, flow_type, observation_domain, unit";
const EXPORTERS_SQL: &str = "SELECT exporter_source, flow_type, observation_domain, lost, \
    reordered, duplicated, restarts FROM exporters FINAL";

fn exactly_what_was_left_out(workers: usize, ports: usize) -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let settings = Settings {
        workers,
        data_dir: Some(folder.path().join("data")),
        ..settings
    };
    let datagrams = simulated(&settings.binary, folder.path())?;
    let (fates, mut expected) = fates(&datagrams);
    let collector = Collector::start(&settings)?;
    let sent = send(&collector, &datagrams, &fates, ports)?;
    let ledger = collector.settle(sent)?;
    assert_eq!(ledger.counter("datagrams_dropped_by_kernel"), 0);
    assert_eq!(collector.stop()?.unaccounted, 0);

    // What was told to the end is there for the next one.
    let collector = Collector::start(&settings)?;
    let clickhouse = collector.clickhouse()?;
    for sql in [GAPS, EXPORTERS_SQL] {
        let mut found = found(&clickhouse, sql)?;
        if ports > 1 {
            // Two ways overtake each other as they like.
            for found in found.values_mut().chain(expected.values_mut()) {
                found.reordered = 0;
            }
        }
        assert_eq!(found, expected, "{sql}");
    }
    let sources: BTreeSet<_> = expected.keys().map(|domain| domain.source).collect();
    assert_eq!(sources.len(), EXPORTERS);
    for flow_type in ["netflow5", "netflow9", "ipfix", "sflow5"] {
        let of_type = expected.iter().filter(|(d, _)| d.flow_type == flow_type);
        let lost: u64 = of_type.map(|(_, found)| found.lost).sum();
        assert!(lost > 0, "{flow_type}: nothing was left out");
    }
    let units = clickhouse
        .rows("SELECT DISTINCT flow_type, unit FROM exporter_gaps ORDER BY toString(flow_type)")?;
    let units: Vec<String> = units.into_iter().map(|row| row.join(" ")).collect();
    assert_eq!(
        units,
        [
            "ipfix records",
            "netflow5 flows",
            "netflow9 packets",
            "sflow5 packets"
        ]
    );
    collector.stop()?;
    Ok(())
}

#[test]
fn exporter_gaps_tell_exactly_what_was_left_out() -> Result<()> {
    exactly_what_was_left_out(1, 1)
}

#[test]
fn an_exporter_with_two_ports_at_two_workers_is_followed_as_one() -> Result<()> {
    exactly_what_was_left_out(2, 2)
}

#[test]
fn of_an_exporter_that_is_shared_only_what_the_kernel_dropped_is_missing() -> Result<()> {
    const RECORDS: u16 = 30;
    const DATAGRAMS: u32 = 40_000;
    let settings = Settings {
        workers: 2,
        share: true,
        ..Settings::new(Store::Null)
    };
    let collector = Collector::start(&settings)?;
    let mut sender = Sender::new(collector.target())?;
    let mut send = |number: u32| sender.send(&netflow5(number * u32::from(RECORDS), RECORDS));
    (0..DATAGRAMS).try_for_each(&mut send)?;
    collector.settle(u64::from(DATAGRAMS))?;
    // Behind the last one nobody knows what is missing.
    send(DATAGRAMS)?;
    let ledger = collector.settle(u64::from(DATAGRAMS) + 1)?;
    assert!(ledger.counter("datagrams_lent") > 0, "\n{}", ledger.table());
    let dropped = ledger.counter("datagrams_dropped_by_kernel");
    let what = "every number that did not arrive is lost";
    let status = collector.wait_until(what, Duration::from_secs(60), |status| {
        let figure = |name: &str| {
            let pointer = format!("/exporters/0/sequence/{name}");
            status.at(&pointer).and_then(serde_json::Value::as_u64)
        };
        figure("lost").unwrap_or_default() == dropped * u64::from(RECORDS)
    })?;
    let duplicated = status.at("/exporters/0/sequence/duplicated");
    assert_eq!(duplicated.and_then(serde_json::Value::as_u64), Some(0));
    collector.stop()?;
    Ok(())
}
