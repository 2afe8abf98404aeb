//! Files of an operator who knows much: networks, threats, applications, interfaces, exporters.
//!
//! They do not change from run to run.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flowsluice::config::{self, DnsNames, Enrich, ExporterLabels, ThreatList};
use flowsluice::generate::{Simulator, send};
use ipnet::IpNet;
use serde::Serialize;

use super::scramble;

/// Prefixes with a name.
pub const NETWORKS: u32 = 5_000;
/// Addresses and prefixes with a bad reputation.
pub const THREATS: u64 = 100_000;
/// Ports of servers with an application.
pub const APPLICATIONS: u32 = 1_000;
/// Interfaces of each exporter.
const INTERFACES: u32 = 200;

/// Writes them into `folder`; what a collector is told of them, of `databases` and of a name
/// server.
///
/// # Errors
/// When a file cannot be written.
pub fn write(
    folder: &Path,
    databases: &[PathBuf],
    name_server: SocketAddr,
    exporters: usize,
) -> Result<Enrich> {
    let sources = (0..exporters).map(|number| send::source_address(COLLECTOR, number));
    let sources: Vec<IpAddr> = sources.collect();
    write_for(folder, databases, name_server, &sources)
}

/// The same for exporters with these addresses.
///
/// # Errors
/// As [`write`].
pub fn write_for(
    folder: &Path,
    databases: &[PathBuf],
    name_server: SocketAddr,
    sources: &[IpAddr],
) -> Result<Enrich> {
    let file = |name: &str, text: String| {
        let file = folder.join(name);
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        anyhow::Ok(file)
    };
    Ok(Enrich {
        networks: vec![file("networks.csv", networks())?],
        applications: vec![file("applications.csv", applications())?],
        interfaces: vec![file("interfaces.csv", interfaces(sources))?],
        threats: vec![ThreatList {
            file: file("threats.txt", threats())?,
            tag: "botnet".into(),
        }],
        exporters: sources.iter().map(|source| labels(*source)).collect(),
        geo: config::Geo {
            databases: databases.to_vec(),
            ..config::Geo::default()
        },
        dns: config::Dns {
            names: DnsNames::Both,
            servers: vec![name_server.to_string()],
            ..config::Dns::default()
        },
        ..Enrich::default()
    })
}

/// What is said of enrichment in a configuration file.
///
/// # Errors
/// When it cannot be said in TOML.
pub fn toml(enrich: &Enrich) -> Result<String> {
    #[derive(Serialize)]
    struct More<'a> {
        enrich: &'a Enrich,
    }
    Ok(toml::to_string(&More { enrich })?)
}

/// By which exporters are known: their own addresses, and those that they send from.
#[must_use]
pub fn addresses(simulator: &Simulator) -> Vec<IpAddr> {
    let mut addresses = BTreeSet::new();
    for (number, exporter) in simulator.exporters().iter().enumerate() {
        addresses.insert(IpAddr::V4(exporter.management));
        addresses.insert(send::source_address(COLLECTOR, number));
    }
    addresses.into_iter().collect()
}

/// Every inside subnet, and prefixes of others all over the internet.
fn networks() -> String {
    let mut text = String::from("prefix,name,role,site,region,tenant\n");
    for number in 0..NETWORKS {
        let (address, length) = match number {
            ..1024 => (0x0a14_0000 + (number << 8), 24),
            _ => (0x1000_0000 + (number - 1024) * 0xc_8000, 20),
        };
        let address = Ipv4Addr::from_bits(address);
        let (site, region, tenant) = (number % 40, number % 7, number % 12);
        let _ = writeln!(
            text,
            "{address}/{length},net-{number},access,site-{site},region-{region},tenant-{tenant}"
        );
    }
    text
}

/// Those that the traffic model has a flow in 10,000 of, and others at random; a tenth are /24, and
/// a tenth IPv6.
fn threats() -> String {
    let mut text = String::new();
    for number in 0..THREATS {
        let hash = scramble(number | 7 << 40);
        let v4 = Ipv4Addr::from_bits(hash as u32 % 0xd000_0000 + 0x0b00_0000);
        let v6 = Ipv6Addr::from_bits(0x2000 << 112 | u128::from(hash) << 48);
        let _ = match number {
            ..200 => writeln!(text, "203.0.113.{}", number + 1),
            _ if number % 10 == 0 => {
                writeln!(text, "{}/24", Ipv4Addr::from_bits(v4.to_bits() & !0xff))
            }
            _ if number % 10 == 1 => writeln!(text, "{v6}"),
            _ => writeln!(text, "{v4}"),
        };
    }
    text
}

fn applications() -> String {
    let mut text = String::from("address,ports,protocol,application\n");
    for number in 0..APPLICATIONS {
        let address = Ipv4Addr::from_bits(0x0a14_000a + (number << 8));
        let _ = writeln!(text, "{address},443,tcp,application-{number}");
    }
    text
}

fn interfaces(exporters: &[IpAddr]) -> String {
    let mut text = String::from("exporter,if_index,name,alias,speed\n");
    for exporter in exporters {
        for index in 1..=INTERFACES {
            let _ = writeln!(
                text,
                "{exporter},{index},ge-0/0/{index},port {index} to the wall,1000000000"
            );
        }
    }
    text
}

fn labels(source: IpAddr) -> ExporterLabels {
    ExporterLabels {
        source: IpNet::from(source),
        name: format!("router-{source}"),
        group: "edge".into(),
        site: "tokyo".into(),
        region: "kanto".into(),
        role: "border".into(),
        tenant: "noc".into(),
        applications: config::ApplicationType::default(),
    }
}

/// Where they send to.
const COLLECTOR: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
