//! Reads the simulator's datagrams for its tests, by the specifications and not by the writer.

use std::collections::HashMap;

use super::Protocol;
use super::{Family, SimDatagram};
use crate::decode::Cursor;

/// One flow as read.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub exporter: usize,
    pub family: Family,
    pub src_addr: u128,
    pub dst_addr: u128,
    pub next_hop: u128,
    pub packets: u32,
    pub octets: u32,
    pub sampling_rate: u32,
    pub start_ms: u64,
    pub end_ms: u64,
    pub export_ms: u64,
    pub src_port: u16,
    pub dst_port: u16,
    pub protocol: u8,
    pub tcp_flags: u8,
}

/// The record of a sample that tells the next hop.
const EXTENDED_ROUTER: u32 = 1002;

/// A template of NetFlow v9 or IPFIX: element (scopes of v9 as 0xffff) and length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub fields: Vec<(u16, u16)>,
    pub is_options: bool,
}

type Domain = (usize, u32);

#[derive(Debug, Default)]
pub struct Reader {
    pub flows: Vec<Seen>,
    pub templates: HashMap<(Domain, u16), Template>,
    /// Datagrams by exporter.
    pub datagrams: Vec<u64>,
    /// Sequence numbers that are missing.
    pub gaps: u64,
    /// Sequence numbers that began again.
    pub restarts: u64,
    /// When each domain announced.
    pub announced_ms: HashMap<Domain, Vec<u64>>,
    sampling: HashMap<Domain, u32>,
    next_sequence: HashMap<Domain, u32>,
}

impl Reader {
    pub fn read(&mut self, datagram: &SimDatagram<'_>) {
        assert!(datagram.payload.len() <= 1472, "needs fragments");
        self.datagrams
            .resize(self.datagrams.len().max(datagram.exporter + 1), 0);
        self.datagrams[datagram.exporter] += 1;
        let before = self.flows.len();
        let cursor = Cursor::new(datagram.payload);
        match datagram.protocol {
            Protocol::Netflow5 => self.netflow5(datagram.exporter, cursor),
            Protocol::Netflow9 => self.netflow9(datagram.exporter, cursor),
            Protocol::Ipfix => self.ipfix(datagram.exporter, cursor),
            Protocol::Sflow5 => self.sflow(datagram.exporter, cursor),
        }
        assert_eq!(self.flows.len() - before, datagram.flows as usize);
    }

    fn sequence(&mut self, domain: Domain, sequence: u32, counted: u32) {
        let next = sequence.wrapping_add(counted);
        if let Some(expected) = self.next_sequence.insert(domain, next) {
            if sequence == 0 {
                self.restarts += 1;
            } else {
                self.gaps += u64::from(sequence.wrapping_sub(expected));
            }
        }
    }

    fn netflow5(&mut self, exporter: usize, mut cursor: Cursor<'_>) {
        assert_eq!(cursor.u16(), Some(5));
        let count = cursor.u16().unwrap();
        let uptime_ms = cursor.u32().unwrap();
        let export_ms =
            u64::from(cursor.u32().unwrap()) * 1000 + u64::from(cursor.u32().unwrap()) / 1_000_000;
        let sequence = cursor.u32().unwrap();
        let engine = cursor.u16().unwrap();
        let sampling = cursor.u16().unwrap();
        self.sequence((exporter, u32::from(engine)), sequence, u32::from(count));
        for _ in 0..count {
            let record = cursor.array::<48>().unwrap();
            let u16_at = |at: usize| u16::from_be_bytes([record[at], record[at + 1]]);
            let u32_at = |at: usize| u32::from(u16_at(at)) << 16 | u32::from(u16_at(at + 2));
            let wall = |switched: u32| export_ms - u64::from(uptime_ms.wrapping_sub(switched));
            self.flows.push(Seen {
                exporter,
                family: Family::V4,
                src_addr: u128::from(u32_at(0)),
                dst_addr: u128::from(u32_at(4)),
                next_hop: u128::from(u32_at(8)),
                packets: u32_at(16),
                octets: u32_at(20),
                sampling_rate: u32::from(sampling & 0x3fff).max(1),
                start_ms: wall(u32_at(24)),
                end_ms: wall(u32_at(28)),
                export_ms,
                src_port: u16_at(32),
                dst_port: u16_at(34),
                protocol: record[38],
                tcp_flags: record[37],
            });
        }
        assert!(cursor.is_empty());
    }

    fn netflow9(&mut self, exporter: usize, mut cursor: Cursor<'_>) {
        assert_eq!(cursor.u16(), Some(9));
        let count = cursor.u16().unwrap();
        let uptime_ms = cursor.u32().unwrap();
        let export_ms = u64::from(cursor.u32().unwrap()) * 1000;
        let sequence = cursor.u32().unwrap();
        let domain = (exporter, cursor.u32().unwrap());
        self.sequence(domain, sequence, 1);
        let boot_ms = export_ms - u64::from(uptime_ms);
        let records = self.sets(domain, export_ms, boot_ms, [0, 1], cursor);
        assert_eq!(records.of_any_kind, u32::from(count));
    }

    fn ipfix(&mut self, exporter: usize, mut cursor: Cursor<'_>) {
        let length = cursor.remaining();
        assert_eq!(cursor.u16(), Some(10));
        assert_eq!(cursor.u16().map(usize::from), Some(length));
        let export_ms = u64::from(cursor.u32().unwrap()) * 1000;
        let sequence = cursor.u32().unwrap();
        let domain = (exporter, cursor.u32().unwrap());
        let records = self.sets(domain, export_ms, 0, [2, 3], cursor);
        self.sequence(domain, sequence, records.of_data);
    }

    fn sets(
        &mut self,
        domain: Domain,
        export_ms: u64,
        boot_ms: u64,
        [templates, options_templates]: [u16; 2],
        mut cursor: Cursor<'_>,
    ) -> Records {
        let mut records = Records::default();
        while !cursor.is_empty() {
            let id = cursor.u16().unwrap();
            let length = cursor.u16().unwrap();
            assert!(length.is_multiple_of(4));
            let mut set = Cursor::new(cursor.bytes(usize::from(length) - 4).unwrap());
            if id == templates || id == options_templates {
                let is_options = id == options_templates;
                records.of_any_kind += self.templates(domain, is_options, templates == 0, set);
                if !is_options {
                    self.announced_ms.entry(domain).or_default().push(export_ms);
                }
                continue;
            }
            let template = self
                .templates
                .get(&(domain, id))
                .expect("announced before")
                .clone();
            let record_length: usize = template.fields.iter().map(|f| usize::from(f.1)).sum();
            while set.remaining() >= record_length {
                let record = Cursor::new(set.bytes(record_length).unwrap());
                let fields = fields(&template, record);
                records.of_any_kind += 1;
                records.of_data += 1;
                if template.is_options {
                    self.sampling.insert(domain, announced_rate(&fields));
                } else {
                    self.flow(domain, export_ms, boot_ms, &fields);
                }
            }
            assert!(set.rest().iter().all(|&byte| byte == 0) && set.remaining() < 4);
        }
        records
    }

    fn templates(
        &mut self,
        domain: Domain,
        is_options: bool,
        is_v9: bool,
        mut set: Cursor<'_>,
    ) -> u32 {
        let mut count = 0;
        while set.remaining() > 4 {
            let id = set.u16().unwrap();
            let (fields, scopes) = match (is_options, is_v9) {
                (false, _) => (set.u16().unwrap(), 0),
                (true, true) => {
                    let scope_bytes = set.u16().unwrap();
                    let bytes = set.u16().unwrap();
                    ((scope_bytes + bytes) / 4, scope_bytes / 4)
                }
                (true, false) => (set.u16().unwrap(), set.u16().unwrap()),
            };
            let fields = (0..fields)
                .map(|index| {
                    let element = set.u16().unwrap();
                    let is_scope = is_v9 && index < scopes;
                    (if is_scope { 0xffff } else { element }, set.u16().unwrap())
                })
                .collect();
            self.templates
                .insert((domain, id), Template { fields, is_options });
            count += 1;
        }
        count
    }

    fn flow(&mut self, domain: Domain, export_ms: u64, boot_ms: u64, fields: &Fields) {
        let get = |element: u16| fields.get(&element).copied();
        let family = if get(27).is_some() {
            Family::V6
        } else {
            Family::V4
        };
        let time = |absolute, switched| {
            get(absolute).map_or_else(|| boot_ms + get(switched).unwrap() as u64, |t| t as u64)
        };
        self.flows.push(Seen {
            exporter: domain.0,
            family,
            src_addr: get(8).or(get(27)).unwrap(),
            dst_addr: get(12).or(get(28)).unwrap(),
            next_hop: get(15).or(get(62)).unwrap(),
            packets: get(2).unwrap() as u32,
            octets: get(1).unwrap() as u32,
            sampling_rate: self.sampling[&domain],
            start_ms: time(152, 22),
            end_ms: time(153, 21),
            export_ms,
            src_port: get(7).unwrap() as u16,
            dst_port: get(11).unwrap() as u16,
            protocol: get(4).unwrap() as u8,
            tcp_flags: get(6).unwrap() as u8,
        });
    }

    fn sflow(&mut self, exporter: usize, mut cursor: Cursor<'_>) {
        assert_eq!(cursor.u32(), Some(5));
        assert_eq!(cursor.u32(), Some(1));
        cursor.u32().unwrap();
        let domain = (exporter, cursor.u32().unwrap());
        let sequence = cursor.u32().unwrap();
        cursor.u32().unwrap();
        let samples = cursor.u32().unwrap();
        self.sequence(domain, sequence, 1);
        for _ in 0..samples {
            let kind = cursor.u32().unwrap();
            let length = cursor.u32().unwrap() as usize;
            let sample = Cursor::new(cursor.bytes(length).unwrap());
            match kind {
                1 => self.sample(exporter, 2, sample),
                3 => self.sample(exporter, 3, sample),
                2 => assert_eq!(length, 12 + 8 + 88),
                other => panic!("sample of kind {other}"),
            }
        }
        assert!(cursor.is_empty());
    }

    /// Expanded samples have a word more before the sampling rate and before each interface.
    fn sample(&mut self, exporter: usize, words_before_rate: usize, mut cursor: Cursor<'_>) {
        cursor.bytes(4 * words_before_rate).unwrap();
        let sampling_rate = cursor.u32().unwrap();
        cursor.bytes(8 + 8 * (words_before_rate - 1)).unwrap();
        let records = cursor.u32().unwrap();
        assert_eq!(records, 3);
        for _ in 0..records {
            let kind = cursor.u32().unwrap();
            let length = cursor.u32().unwrap() as usize;
            let mut record = Cursor::new(cursor.bytes(length).unwrap());
            if kind == EXTENDED_ROUTER {
                let sampled = self.flows.last_mut().expect("the packet comes first");
                sampled.next_hop = match record.u32() {
                    Some(1) => u128::from(record.u32().unwrap()),
                    family => {
                        assert_eq!(family, Some(2));
                        u128::from_be_bytes(record.array().unwrap())
                    }
                };
            }
            if kind != 1 {
                continue;
            }
            assert_eq!(record.u32(), Some(1));
            let frame_length = record.u32().unwrap() - record.u32().unwrap();
            let sampled = record.u32().unwrap() as usize;
            assert!(sampled <= frame_length as usize);
            let seen = frame(
                exporter,
                sampling_rate,
                Cursor::new(record.bytes(sampled).unwrap()),
            );
            assert!(seen.octets <= frame_length);
            self.flows.push(seen);
        }
        assert!(cursor.is_empty());
    }
}

#[derive(Debug, Default)]
struct Records {
    of_any_kind: u32,
    of_data: u32,
}

type Fields = HashMap<u16, u128>;

fn fields(template: &Template, mut record: Cursor<'_>) -> Fields {
    let mut fields = Fields::new();
    for &(element, length) in &template.fields {
        let bytes = record.bytes(usize::from(length)).unwrap();
        let value = bytes
            .iter()
            .fold(0_u128, |value, &byte| value << 8 | u128::from(byte));
        fields.insert(element, value);
    }
    fields
}

fn announced_rate(fields: &Fields) -> u32 {
    if let Some(&interval) = fields.get(&305) {
        return (interval + fields[&306]) as u32;
    }
    *fields.get(&34).or(fields.get(&50)).expect("an interval") as u32
}

fn frame(exporter: usize, sampling_rate: u32, mut cursor: Cursor<'_>) -> Seen {
    cursor.bytes(12).unwrap();
    let mut ethertype = cursor.u16().unwrap();
    if ethertype == 0x8100 {
        cursor.u16().unwrap();
        ethertype = cursor.u16().unwrap();
    }
    let (family, protocol, octets, src_addr, dst_addr) = if ethertype == 0x0800 {
        let header = cursor.array::<20>().unwrap();
        assert_eq!(super::frame::checksum(&header), 0);
        let word = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
        (
            Family::V4,
            header[9],
            word(0) & 0xffff,
            u128::from(word(12)),
            u128::from(word(16)),
        )
    } else {
        assert_eq!(ethertype, 0x86dd);
        assert_eq!(cursor.u32().unwrap() >> 28, 6);
        let payload = u32::from(cursor.u16().unwrap());
        let protocol = cursor.u8().unwrap();
        cursor.u8().unwrap();
        let mut address = || u128::from_be_bytes(cursor.array().unwrap());
        (Family::V6, protocol, payload + 40, address(), address())
    };
    let (src_port, dst_port, tcp_flags) = match protocol {
        6 => {
            let header = cursor.array::<20>().unwrap();
            let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
            (word(0), word(2), header[13])
        }
        17 => {
            let ports = (cursor.u16().unwrap(), cursor.u16().unwrap());
            let ip_header = if family == Family::V4 { 20 } else { 40 };
            assert_eq!(cursor.u16().map(u32::from), Some(octets - ip_header));
            (ports.0, ports.1, 0)
        }
        _ => (0, 0, 0),
    };
    Seen {
        exporter,
        family,
        src_addr,
        dst_addr,
        next_hop: 0,
        packets: 1,
        octets,
        sampling_rate,
        start_ms: 0,
        end_ms: 0,
        export_ms: 0,
        src_port,
        dst_port,
        protocol,
        tcp_flags,
    }
}
