//! `enrich`: what it costs to know more of flows than they say.
//!
//! First place and autonomous system of both sides of a flow, beside maxminddb's own look-up of the
//! same databases, and what the table costs; then the stage with everything that can be known; then
//! the whole collector with it, beside itself without it and beside nfcapd.

pub(crate) mod databases;
pub(crate) mod files;
pub(crate) mod names;
mod peer;
mod stage;
mod whole;

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytesize::ByteSize;
use flowsluice::config;
use flowsluice::decode::{Decoder, FlowSink, Shared};
use flowsluice::enrich::geo::Places;
use flowsluice::flow::{Address, Flow};
use flowsluice::generate::Protocols;
use flowsluice::ledger::WorkerCounts;
use flowsluice::units::UnixNanos;

use crate::cpu;
use crate::machine::crate_version;
use crate::options::Options;
use crate::report::{self, Section, Table};
use crate::rounds::{self, Figure, Round};
use crate::streams::{Recipe, Stream};
use names::NameServer;
use peer::Peer;

/// CPU time of one round of one candidate: many passes.
const ROUND: Duration = Duration::from_millis(200);
/// Flows that are enriched together: those of a datagram.
const BURST_FLOWS: usize = 24;
/// Flows of a case; their addresses are far more than caches hold of the table.
const FLOWS: usize = 1 << 16;

/// Measures and reports.
///
/// # Errors
/// When the databases are not there, or the two look-ups differ.
pub fn main(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let config = config::Geo {
        databases: databases::all(folder.path())?,
        ..config::Geo::default()
    };
    let mut section = Section::new("enrich", "Enrichment");
    section.text(&explanation());
    let (places, costs) = load(&config)?;
    let peer = Peer::open(&config.databases)?;
    section.table(
        "CPU ns a flow, City and AS of both sides, 24 flows a burst:",
        &table(&places, &peer, options)?,
    );
    section.table("What the table costs:", &costs);
    drop((places, peer));
    let names = NameServer::start()?;
    let all = files::write(
        folder.path(),
        &config.databases,
        names.address(),
        whole::EXPORTERS,
    )?;
    stage::measure(&all, options, &mut section)?;
    whole::measure(&all, options, &mut section)?;
    report::publish(options, &section)
}

fn explanation() -> String {
    format!(
        "DB-IP's City Lite (IPv4 and IPv6) and the autonomous systems that Route Views sees, one \
         thread, thread CPU time, {} ms a round, in alternating rounds; median and range. Ours \
         finds the number that a worker writes into a batch, and reads the number of the system. \
         maxminddb {} looks each address up in the City database of its family and in the AS \
         database and decodes country, region, city, latitude, longitude and number, without \
         making a text of them. For each address both have said the same.",
        ROUND.as_millis(),
        crate_version("maxminddb").unwrap_or("?")
    )
}

/// Loads the databases, then again beside what is there, as a change of a file does.
fn load(config: &config::Geo) -> Result<(Places, Table)> {
    let mut costs = Table::new(["what", "first", "beside the old one"]);
    let mut times = Vec::new();
    let mut peaks = Vec::new();
    let mut places = Places::default();
    for _ in 0..2 {
        // Makes the highest memory so far that of now: proc_pid_clear_refs(5).
        fs::write("/proc/self/clear_refs", "5").context("reset the peak of memory")?;
        let (begun, used) = (Instant::now(), cpu::of_this_thread());
        let new = Places::load(config)?;
        let (took, used) = (begun.elapsed(), cpu::of_this_thread() - used);
        times.push(format!(
            "{:.2} s, {:.2} s CPU",
            took.as_secs_f64(),
            used.as_secs_f64()
        ));
        peaks.push(ByteSize(rss_peak_bytes()?).to_string());
        places = new;
    }
    costs.row([vec!["load".to_owned()], times].concat());
    costs.row([vec!["memory of the process at most".to_owned()], peaks].concat());
    let bytes = ByteSize(places.memory_bytes() as u64).to_string();
    costs.row([String::from("table"), bytes.clone(), bytes]);
    Ok((places, costs))
}

fn rss_peak_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("VmHWM")?.parse::<u64>()? * 1024)
}

fn table(places: &Places, peer: &Peer, options: &Options) -> Result<Table> {
    let mut table = Table::new(["addresses", "flowsluice", "maxminddb"]);
    for (name, addresses) in [
        ("of the traffic model, IPv4", simulated(0.0)?),
        ("of the traffic model, 25 % IPv6", simulated(0.25)?),
        ("random, IPv4", random(0)),
        ("random, 25 % IPv6", random(1)),
    ] {
        same(places, peer, &addresses).context(name)?;
        let mut candidates: [Round<'_, f64>; 2] = [
            Box::new(|| Ok(round(&addresses, |burst| ours(places, burst)))),
            Box::new(|| Ok(round(&addresses, |burst| peers(peer, burst)))),
        ];
        let measured = rounds::alternate(options.rounds(), &mut candidates)?;
        let figures: Vec<Figure> = measured.into_iter().map(Figure::of).collect();
        let [ours, peers] = &figures[..] else {
            unreachable!("a list of samples a candidate");
        };
        let times = peers.median / ours.median;
        table.row([
            name.to_owned(),
            ours.to_string(),
            format!("{peers}, {times:.0} x"),
        ]);
    }
    Ok(table)
}

/// CPU ns a flow over passes of [`ROUND`].
fn round(addresses: &[Address], mut look_up: impl FnMut(&[Address])) -> f64 {
    let (mut used, mut flows) = (Duration::ZERO, 0);
    while used < ROUND {
        let begun = cpu::of_this_thread();
        for burst in addresses.chunks(2 * BURST_FLOWS) {
            look_up(burst);
        }
        used += cpu::of_this_thread() - begun;
        flows += addresses.len() / 2;
    }
    used.as_nanos() as f64 / flows as f64
}

fn ours(places: &Places, burst: &[Address]) {
    let mut ids = [0; 2 * BURST_FLOWS];
    places.find(burst, &mut ids);
    for &id in &ids[..burst.len()] {
        black_box(places.as_number(id));
    }
    black_box(ids);
}

fn peers(peer: &Peer, burst: &[Address]) {
    for &address in burst {
        black_box(peer.look_up(address).ok());
    }
}

/// Do both say the same of each address?
fn same(places: &Places, peer: &Peer, addresses: &[Address]) -> Result<()> {
    let mut ids = vec![0; addresses.len()];
    places.find(addresses, &mut ids);
    for (&address, id) in addresses.iter().zip(ids) {
        let found = peer.look_up(address)?;
        let (label, number) = (places.label(id), places.as_number(id));
        ensure!(
            label.split('\t').next() == Some(found.country_or_none()) && number == found.as_number,
            "{address}: ours says {label:?} and {number}, maxminddb {found:?}"
        );
    }
    Ok(())
}

/// Both addresses of each flow that exporters send, in their order.
fn simulated(ipv6: f64) -> Result<Vec<Address>> {
    let stream = Stream::new(&recipe(ipv6), UnixNanos::now())?;
    let mut decoder = Decoder::new(&config::Decode::default(), &[], Arc::new(Shared::default()));
    let mut counts = WorkerCounts::default();
    let mut sink = Addresses(Vec::new());
    for datagram in stream.announcements(UnixNanos::now()) {
        decoder.decode(&datagram, &mut counts, &mut sink);
    }
    let data = stream.data();
    for index in 0..data.len() {
        decoder.decode(&data.get(index, UnixNanos::now()), &mut counts, &mut sink);
    }
    ensure!(
        sink.0.len() > FLOWS,
        "{} addresses are too few",
        sink.0.len()
    );
    Ok(sink.0)
}

/// [`FLOWS`] of NetFlow v9, or a little more.
fn recipe(ipv6: f64) -> Recipe {
    Recipe {
        protocols: Protocols::Netflow9,
        exporters: whole::EXPORTERS,
        ipv6,
        bytes: 64 * FLOWS,
        ..Recipe::default()
    }
}

/// Keeps the addresses of flows.
struct Addresses(Vec<Address>);

impl FlowSink for Addresses {
    fn flows(&mut self, flows: &mut [Flow]) {
        self.0
            .extend(flows.iter().flat_map(|flow| [flow.src_addr, flow.dst_addr]));
    }
}

/// Uniformly random addresses, `quarters` quarters of them in 2000::/3.
fn random(quarters: u64) -> Vec<Address> {
    let address = |n: u64| {
        let (a, b) = (scramble(n), scramble(n ^ 1 << 40));
        if n / 2 % 4 < quarters {
            let bits = u128::from(a) << 64 | u128::from(b);
            Address((bits >> 3 | 1 << 125).to_be_bytes())
        } else {
            Address::from_v4((a as u32).to_be_bytes())
        }
    };
    (0..2 * FLOWS as u64).map(address).collect()
}

/// The finaliser of SplitMix64.
const fn scramble(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
