//! The timer's service: databases of places come, and the collector sees them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use flowsluice_tests::mmdb::{Database, city};
use flowsluice_tests::pcap::{Capture, Transport};

use super::machine::Machine;
use super::packages::{CONFIGURATION, configure};
use super::{saw, traffic};

/// Where databases come from in this check.
const ORIGIN: &str = "/opt/geoip";
const KEPT: &str = "/var/lib/flowsluice/geoip/city.mmdb";
const CLIENTS: u8 = 20;

/// Started once, as its timer does: what it fetched is in the next rows.
pub fn is_updated(machine: &Machine) -> Result<()> {
    let root = machine.root();
    fs::create_dir(root.path(ORIGIN))?;
    let tokyo = city("JP", "Tokyo", "Tokyo", 35.7, 139.7);
    let database = Database::new_v4("GeoLite2-City").network("203.0.113.0/24", &tokyo);
    fs::write(root.path(ORIGIN).join("city-2026.mmdb"), database.bytes())?;
    configure(
        root,
        "#databases = []",
        &format!("databases = [\"{KEPT}\"]"),
    )?;
    let file = root.path(CONFIGURATION);
    let updates = format!("[[enrich.geo.updates]]\nfile = \"{KEPT}\"\nfrom = \"{ORIGIN}\"\n");
    fs::write(&file, fs::read_to_string(&file)? + &updates)?;
    machine.run(&["systemctl", "start", "flowsluice-geoip.service"])?;
    let owner = machine.run(&["stat", "--format", "%U", KEPT])?;
    ensure!(owner.trim() == "flowsluice", "{KEPT} is {owner}'s");
    machine.run(&["systemctl", "reload", "flowsluice"])?;
    let is_loaded = |line: &str| line.contains("loaded part=\"geo\"");
    let was_loaded = || Ok(machine.journal().lines().any(is_loaded));
    machine.until("the database is loaded", was_loaded)?;
    let mut capture = Capture::default();
    let server = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 53);
    for number in 1..=CLIENTS {
        let client = IpAddr::V4(Ipv4Addr::new(203, 0, 113, number));
        capture.add(Transport::Udp, (client, 20_000), server, 100);
    }
    traffic::feed(machine, &capture)?;
    let places = "SELECT count() FROM flows WHERE src_country = 'JP' AND src_city = 'Tokyo'";
    machine.until_answer(places, &CLIENTS)?;
    fs::remove_dir_all(root.path(ORIGIN))?;
    // It stays enabled until the packages go.
    machine.run(&["systemctl", "enable", "--now", "flowsluice-geoip.timer"])?;
    machine.run(&["systemctl", "is-active", "flowsluice-geoip.timer"])?;
    saw(&format!(
        "the timer's service fetched a database, the collector loaded it: {CLIENTS} rows with \
         their place; the timer enabled"
    ));
    Ok(())
}
