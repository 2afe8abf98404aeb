//! Files of operators, flows, and waiting.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use flowsluice_tests::wire::netflow9;
use flowsluice_tests::{Collector, Settings, Status};
use tempfile::TempDir;

/// Until what was caused must be seen; the machine may be busy.
pub const LONG: Duration = Duration::from_secs(60);

/// The operator's folder.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a file in the place of the one before at once. It was written some time ago, so that
    /// the next look takes it.
    pub fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        let made = self.path(&format!("{name}.new"));
        std::fs::write(&made, bytes)?;
        let written = SystemTime::now() - Duration::from_secs(5);
        let file = std::fs::File::options().write(true).open(&made)?;
        file.set_modified(written)?;
        std::fs::rename(&made, self.path(name))?;
        Ok(())
    }

    /// `text` with this folder for each `DIR/`.
    pub fn config(&self, text: &str) -> String {
        text.replace("DIR/", &format!("{}/", self.0.path().display()))
    }
}

/// A collector on the embedded ClickHouse with such an `[enrich]`.
pub fn settings(enrich: String) -> Option<Settings> {
    Some(Settings {
        socket_buffer: Some(32 << 20),
        more: enrich,
        ..Settings::embedded()?
    })
}

/// Asks again and again until it is so.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LONG;
    while !is_so().with_context(|| what.to_owned())? {
        ensure!(Instant::now() < deadline, "not within {LONG:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// A number of `/status` below `/enrich`.
pub fn figure(status: &Status, pointer: &str) -> u64 {
    let value = status.at(&format!("/enrich/{pointer}"));
    let number = value.and_then(|value| value.as_u64().or(value.as_bool().map(u64::from)));
    number.unwrap_or_else(|| panic!("/status has no figure at /enrich/{pointer}"))
}

/// The lines of a collector's log that have `text`.
pub fn told(collector: &Collector, text: &str) -> Result<Vec<String>> {
    let log = std::fs::read_to_string(collector.folder().join("log"))?;
    let lines = log.lines().filter(|line| line.contains(text));
    Ok(lines.map(str::to_owned).collect())
}

/// A flow of 3 packets.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub protocol: u8,
    pub tcp_flags: u8,
    /// In and out.
    pub interfaces: [u32; 2],
    /// IE 95: the engine and three bytes of the selector.
    pub application: [u8; 4],
    /// Source and destination.
    pub macs: [[u8; 6]; 2],
    /// Source and destination.
    pub systems: [u32; 2],
    /// IE 239.
    pub biflow_direction: u8,
}

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

impl Record {
    /// TCP between two of `address:port`.
    pub fn new(source: &str, destination: &str) -> Self {
        Self {
            source: source.parse().expect(source),
            destination: destination.parse().expect(destination),
            protocol: TCP,
            tcp_flags: 0x18,
            interfaces: [0; 2],
            application: [0; 4],
            macs: [[0; 6]; 2],
            systems: [0; 2],
            biflow_direction: 0,
        }
    }

    fn append(&self, raw_bytes: u32, body: &mut Vec<u8>) {
        for address in [self.source.ip(), self.destination.ip()] {
            match address {
                IpAddr::V4(v4) => body.extend(v4.octets()),
                IpAddr::V6(v6) => body.extend(v6.octets()),
            }
        }
        let ports = [self.source.port(), self.destination.port()];
        body.extend(ports.map(u16::to_be_bytes).concat());
        body.extend([self.protocol, self.tcp_flags]);
        body.extend(self.interfaces.map(u32::to_be_bytes).concat());
        body.extend([raw_bytes, 3].map(u32::to_be_bytes).concat());
        body.extend(self.application);
        body.extend(self.macs.concat());
        body.extend(self.systems.map(u32::to_be_bytes).concat());
        body.push(self.biflow_direction);
    }
}

/// Elements of IPv4 and IPv6 addresses, and what both templates have, with their lengths.
const ADDRESSES: [[(u16, u16); 2]; 2] = [[(8, 4), (12, 4)], [(27, 16), (28, 16)]];
const FIELDS: [(u16, u16); 14] = [
    (7, 2),
    (11, 2),
    (4, 1),
    (6, 1),
    (10, 4),
    (14, 4),
    (1, 4),
    (2, 4),
    (95, 4),
    (56, 6),
    (80, 6),
    (16, 4),
    (17, 4),
    (239, 1),
];
/// The template of IPv4; that of IPv6 is the next.
const TEMPLATE: u16 = 256;

/// A NetFlow v9 datagram with `records`, and the templates that they need; each has `raw_bytes`.
pub fn flows(raw_bytes: u32, records: &[Record]) -> Vec<u8> {
    let mut sets = Vec::new();
    let mut count = 0;
    for (id, addresses) in (TEMPLATE..).zip(ADDRESSES) {
        let fields = addresses.iter().chain(&FIELDS);
        let mut template = [id, (2 + FIELDS.len()) as u16]
            .map(u16::to_be_bytes)
            .concat();
        template.extend(fields.flat_map(|(id, len)| [*id, *len].map(u16::to_be_bytes).concat()));
        let mut body = Vec::new();
        for record in records {
            if record.source.is_ipv4() == (id == TEMPLATE) {
                record.append(raw_bytes, &mut body);
                count += 1;
            }
        }
        if !body.is_empty() {
            sets.extend([(0, template), (id, body)]);
            count += 1;
        }
    }
    netflow9(count, &sets)
}

/// A NetFlow v9 datagram with an options template of one scope, and a record of it.
pub fn options(id: u16, scope: (u16, u16), fields: &[(u16, u16)], record: &[u8]) -> Vec<u8> {
    let lengths = [id, 4, fields.len() as u16 * 4];
    let mut template = lengths.map(u16::to_be_bytes).concat();
    let fields = std::iter::once(&scope).chain(fields);
    template.extend(fields.flat_map(|(id, len)| [*id, *len].map(u16::to_be_bytes).concat()));
    netflow9(2, &[(1, template), (id, record.to_vec())])
}

/// `text` with zeros behind it.
pub fn padded(text: &str, length: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(length, 0);
    bytes
}
