//! Whether the values mean something together.
//!
//! What the file cannot know (other processes, the kernel, the disk) is the matter of
//! `flowsluice check` and of the stages themselves.

mod enrich;
mod http;
mod servers;
mod spool;
mod tables;
mod tee;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use collector_ebpf::maps;

use super::{
    Batch, Config, Decode, Embedded, ExporterOverride, Limit, Problem, Protocol, Receive,
    ReceiveMode, Store, display,
};

/// Most workers; more than this on one host share processors and gain nothing.
pub const WORKERS_MAX: usize = 256;
/// Most listeners; each is a socket of every worker.
pub const LISTENERS_MAX: usize = 64;
/// Most rows of a block; ClickHouse cuts an insert into blocks of about this many.
pub const BATCH_ROWS_MAX: usize = 1_048_576;
/// Longest retention. `time_received` is a DateTime, which ends in 2106: an expiry after that wraps
/// around and drops the row at once. 54 years are safe until 2051.
const RETENTION_MAX: Duration = Duration::from_secs(20_000 * 24 * 3600);
/// Most prefixes of exporters: the XDP program's table takes new ones in before old ones go.
pub const PREFIXES_MAX: usize = maps::ALLOWED_MAX as usize / 2;
/// Lifetimes of templates. RFC 7011 section 10.3.6: at least three times the interval at which
/// exporters send them again, which is 30 minutes where routers take longest by default.
const TEMPLATE_LIFETIME_MIN: Duration = Duration::from_secs(90 * 60);
const TEMPLATE_LIFETIME_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Most TCP connections; each has a buffer of 64 KiB.
const CONNECTIONS_MAX: usize = 4096;
/// Most interfaces to receive from by AF_XDP.
const INTERFACES_MAX: usize = 64;
/// Most destinations, likewise.
const DESTINATIONS_MAX: usize = maps::DESTINATIONS_MAX as usize / 2;
/// Frames of a queue: at least a burst, at most 512 MiB of the larger ones.
const FRAMES_MIN: u32 = 256;
const FRAMES_MAX: u32 = 131_072;
/// A waiting worker gives way to others after this time at the latest.
const BUSY_POLL_US_MAX: usize = 10_000;
/// Most datagrams a second of one sender: a limit beyond what a network card brings is none.
const RATE_MAX: usize = 100_000_000;
/// Most datagrams of one turn.
pub const BURST_MAX: usize = 4096;

impl Config {
    /// Everything that makes no sense, in the order of the file; empty when all is well.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Problems(Vec::new());
        problems.receive(&self.receive, &self.decode);
        problems.decode(&self.decode);
        problems.enrich(&self.enrich);
        problems.batch(&self.batch);
        problems.store(&self.store);
        problems.embedded(&self.store.embedded);
        problems.http(&self.http);
        problems.clashes(self);
        if let Err(text) = crate::log::filter(&self.log.level) {
            problems.add("log.level", text);
        }
        problems.0
    }
}

struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.0.push(Problem::new(key, text));
    }

    /// Refuses what is outside `range`; the range is told in `show`'s words.
    fn within<T: PartialOrd>(
        &mut self,
        key: &str,
        value: &T,
        range: &RangeInclusive<T>,
        show: impl Fn(&T) -> String,
    ) {
        if !range.contains(value) {
            let text = format!(
                "found {}; allowed: {} to {}",
                show(value),
                show(range.start()),
                show(range.end())
            );
            self.add(key, text);
        }
    }

    fn count(&mut self, key: &str, value: usize, range: RangeInclusive<usize>) {
        self.within(key, &value, &range, usize::to_string);
    }

    fn bytes(&mut self, key: &str, value: ByteSize, range: RangeInclusive<ByteSize>) {
        self.within(key, &value, &range, |bytes| display::bytes(*bytes));
    }

    fn time(&mut self, key: &str, value: Duration, range: RangeInclusive<Duration>) {
        self.within(key, &value, &range, |time| display::duration(*time));
    }

    fn receive(&mut self, receive: &Receive, decode: &Decode) {
        self.count("receive.workers", receive.workers, 0..=WORKERS_MAX);
        self.cpus(receive);
        self.listeners(receive, decode);
        // SO_RCVBUF is an int that the kernel doubles.
        let buffer = ByteSize::kib(64)..=ByteSize::mib(1023);
        self.bytes("receive.socket_buffer", receive.socket_buffer, buffer);
        // RFC 791: every host takes 576; the UDP length field ends at 65535.
        let datagram = ByteSize::b(576)..=ByteSize::b(65_535);
        self.bytes("receive.datagram_max", receive.datagram_max, datagram);
        self.count("receive.burst", receive.burst, 1..=BURST_MAX);
        self.count("receive.allow", receive.allow.len(), 0..=PREFIXES_MAX);
        if receive.gro && receive.mode != ReceiveMode::Recvmmsg {
            let text = format!(
                "true, but receive.mode is \"{}\", which does not take merged datagrams; set \
                 receive.mode = \"recvmmsg\" or remove receive.gro",
                receive.mode.name()
            );
            self.add("receive.gro", text);
        }
        self.limit(&receive.limit);
        self.xdp(receive);
        self.tcp(receive);
        self.tee(receive);
    }

    fn limit(&mut self, limit: &Limit) {
        let rates = 0..=RATE_MAX;
        self.count("receive.limit.rate", limit.rate as usize, rates.clone());
        self.count("receive.limit.burst", limit.burst as usize, rates.clone());
        let key = "receive.limit.exporters";
        self.prefixes(key, limit.exporters.iter().map(|one| one.source));
        for (index, one) in limit.exporters.iter().enumerate() {
            let at = |name: &str| format!("{key}[{index}].{name}");
            self.count(&at("rate"), one.rate as usize, rates.clone());
            self.count(&at("burst"), one.burst as usize, rates.clone());
        }
    }

    fn tcp(&mut self, receive: &Receive) {
        let tcp = &receive.tcp;
        self.count(
            "receive.tcp.listeners",
            tcp.listeners.len(),
            0..=LISTENERS_MAX,
        );
        for (index, listener) in tcp.listeners.iter().enumerate() {
            // Port 0 takes a free one, so two of them are two.
            if listener.port != 0 && tcp.listeners[..index].contains(listener) {
                let socket = SocketAddr::new(listener.address, listener.port);
                let text = format!("{socket} is listed twice; remove one of the two");
                self.add(format!("receive.tcp.listeners[{index}].port"), text);
            }
        }
        let (key, range) = ("receive.tcp.connections_max", 1..=CONNECTIONS_MAX);
        self.count(key, tcp.connections_max, range);
        let idle = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
        self.time("receive.tcp.idle_max", tcp.idle_max, idle);
    }

    fn xdp(&mut self, receive: &Receive) {
        let xdp = &receive.xdp;
        let (key, interfaces) = ("receive.xdp.interfaces", &xdp.interfaces);
        self.count(key, interfaces.len(), 0..=INTERFACES_MAX);
        if receive.mode == ReceiveMode::AfXdp && interfaces.is_empty() {
            let text = "no interface to receive from by AF_XDP; name those that exporters reach, \
                        or set receive.mode = \"auto\"";
            self.0.push(Problem::new(key, text).with("receive.mode"));
        }
        for (index, name) in interfaces.iter().enumerate() {
            if interfaces[..index].contains(name) {
                self.add(
                    key,
                    format!("\"{name}\" is listed twice; remove one of the two"),
                );
            }
        }
        let destinations = xdp.destinations.len();
        self.count(
            "receive.xdp.destinations",
            destinations,
            0..=DESTINATIONS_MAX,
        );
        if !(FRAMES_MIN..=FRAMES_MAX).contains(&xdp.frames) || !xdp.frames.is_power_of_two() {
            let text = format!(
                "found {}; allowed: a power of two, {FRAMES_MIN} to {FRAMES_MAX}",
                xdp.frames
            );
            self.add("receive.xdp.frames", text);
        }
        let busy_poll_us = xdp.busy_poll_us as usize;
        self.count(
            "receive.xdp.busy_poll_us",
            busy_poll_us,
            0..=BUSY_POLL_US_MAX,
        );
    }

    fn cpus(&mut self, receive: &Receive) {
        let mut seen = HashSet::new();
        for cpu in &receive.cpus {
            if !seen.insert(cpu) {
                let text = format!("cpu {cpu} is named twice; give each worker its own");
                self.add("receive.cpus", text);
            }
        }
        let (cpus, workers) = (receive.cpus.len(), receive.workers);
        if cpus > 0 && workers > cpus {
            let text = format!(
                "found {cpus} for {workers} workers; name one for each, or leave \
                 receive.workers at 0 to have one worker for each cpu"
            );
            let problem = Problem::new("receive.cpus", text);
            self.0.push(problem.with("receive.workers"));
        }
    }

    fn listeners(&mut self, receive: &Receive, decode: &Decode) {
        let listeners = &receive.listeners;
        if listeners.is_empty() {
            let text = "no listener, so nothing can arrive; add [[receive.listeners]] with a \
                        port, or leave receive.listeners away for 2055, 4739, 6343 and 9995";
            self.add("receive.listeners", text);
        }
        let key = "receive.listeners";
        self.within(
            key,
            &listeners.len(),
            &(0..=LISTENERS_MAX),
            usize::to_string,
        );
        for (index, listener) in listeners.iter().enumerate() {
            let at = format!("receive.listeners[{index}]");
            let same = |other: &super::Listener| {
                (other.address, other.port) == (listener.address, listener.port)
            };
            let earlier = &listeners[..index];
            // Port 0 takes a free one, so two of them are two.
            if listener.port != 0 && earlier.iter().any(same) {
                let socket = SocketAddr::new(listener.address, listener.port);
                let text = format!("{socket} is listed twice; remove one of the two");
                self.add(format!("{at}.port"), text);
            }
            let at = format!("{at}.protocols");
            self.repeated(&at, &listener.protocols);
            for protocol in &listener.protocols {
                if !decode.protocols.contains(protocol) {
                    let name = display::protocol(*protocol);
                    let text = format!(
                        "\"{name}\" is off for all ports; add it to decode.protocols or remove \
                         it here"
                    );
                    self.add(&at, text);
                }
            }
        }
    }

    fn repeated(&mut self, key: &str, protocols: &[Protocol]) {
        let mut seen = HashSet::new();
        for protocol in protocols {
            if !seen.insert(protocol) {
                let name = display::protocol(*protocol);
                self.add(
                    key,
                    format!("\"{name}\" is listed twice; remove one of the two"),
                );
            }
        }
    }

    fn absolute(&mut self, key: &str, path: &Path) {
        if !path.is_absolute() {
            let text = format!(
                "found {path:?}; allowed: an absolute path, so that it means the same from \
                 everywhere"
            );
            self.add(key, text);
        }
    }

    fn overrides(&mut self, overrides: &[ExporterOverride]) {
        let key = "decode.exporters";
        self.prefixes(key, overrides.iter().map(|one| one.source));
        for (index, one) in overrides.iter().enumerate() {
            if one.sampling_force && one.sampling_rate == 0 {
                let text = "true, but sampling_rate names none; set it beside, or remove this";
                self.add(format!("{key}[{index}].sampling_force"), text);
            }
        }
    }

    fn decode(&mut self, decode: &Decode) {
        self.overrides(&decode.exporters);
        // Empty is none.
        if !decode.state_dir.as_os_str().is_empty() {
            self.absolute("decode.state_dir", &decode.state_dir);
        }
        if decode.protocols.is_empty() {
            let text = "empty, so every datagram would be dropped; name at least one protocol, \
                        or leave the key away for all of them";
            self.add("decode.protocols", text);
        }
        self.repeated("decode.protocols", &decode.protocols);
        self.count("decode.exporters_max", decode.exporters_max, 1..=1_000_000);
        self.count("decode.templates_max", decode.templates_max, 1..=4_000_000);
        if decode.template_lifetime != Duration::ZERO {
            let lifetimes = TEMPLATE_LIFETIME_MIN..=TEMPLATE_LIFETIME_MAX;
            self.time(
                "decode.template_lifetime",
                decode.template_lifetime,
                lifetimes,
            );
        }
        let pending = ByteSize::mib(1)..=ByteSize::gib(16);
        self.bytes("decode.pending_max", decode.pending_max, pending);
        let (one, all) = (decode.templates_per_exporter_max, decode.templates_max);
        let key = "decode.templates_per_exporter_max";
        if one == 0 {
            self.add(
                key,
                "found 0; without templates only NetFlow v1, v5, v7 and sFlow are decoded",
            );
        } else if one > all {
            let text =
                format!("found {one}, which is more than decode.templates_max ({all}); lower it");
            self.0
                .push(Problem::new(key, text).with("decode.templates_max"));
        }
    }

    fn batch(&mut self, batch: &Batch) {
        self.count("batch.rows_max", batch.rows_max, 1..=BATCH_ROWS_MAX);
        let ages = Duration::from_millis(10)..=Duration::from_secs(3600);
        self.time("batch.age_max", batch.age_max, ages);
        // One is filled while another is stored; with one alone every insert would lose flows.
        self.count("batch.per_worker", batch.per_worker, 2..=256);
    }

    fn store(&mut self, store: &Store) {
        self.servers(store);
        if !is_identifier(&store.database) {
            let text = format!(
                "found {:?}; allowed: letters, digits and '_', not beginning with a digit",
                store.database
            );
            self.add("store.database", text);
        }
        if store.user.is_empty() {
            self.add("store.user", "empty; name the user of the server");
        }
        if store.password.is_some() && store.password_file.is_some() {
            let text = "store.password and store.password_file are both set; remove one of them";
            let problem = Problem::new("store.password", text);
            self.0.push(problem.with("store.password_file"));
        }
        let hour = Duration::from_secs(3600);
        self.time("store.retention", store.retention, hour..=RETENTION_MAX);
        self.tables(store);
        let queue = ByteSize::mib(1)..=ByteSize::gib(1024);
        self.bytes("store.queue_max", store.queue_max, queue);
        self.count("store.inserts", store.inserts, 1..=64);
        let timeout = Duration::from_secs(1)..=hour;
        self.time("store.insert_timeout", store.insert_timeout, timeout);
        let timeout = Duration::from_millis(100)..=hour;
        self.time("store.stop_timeout", store.stop_timeout, timeout);
        self.spool(&store.spool);
    }

    fn embedded(&mut self, embedded: &Embedded) {
        self.absolute("store.embedded.data_dir", &embedded.data_dir);
        // Idle, the engine holds about 220 MB.
        let memory = ByteSize::mib(512)..=ByteSize::gib(16 * 1024);
        self.bytes("store.embedded.memory_max", embedded.memory_max, memory);
    }
}

fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    let first = letters.next();
    first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}
