//! The file of what exporters told before a restart: it is taken in or refused whole, nothing in it
//! goes past the limits, what is written again is read to the same, and whatever came out of it,
//! decoding goes on as it must.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use flowsluice::config;
use flowsluice::decode::persist::{self, Taken};
use flowsluice::decode::{DomainKey, ElementPattern, SAMPLERS_MAX, Shared};
use flowsluice::flow::FlowType;
use flowsluice::receive::Datagram;

use super::Watched;
use crate::tape::RECEIVED;

/// So small that a file reaches them.
fn limits() -> config::Decode {
    config::Decode {
        exporters_max: 6,
        templates_max: 12,
        templates_per_exporter_max: 5,
        template_lifetime: Duration::from_secs(3600),
        extra: vec![ElementPattern::All],
        ..config::Decode::default()
    }
}

/// Takes a file in.
///
/// # Panics
/// When a property does not hold.
pub fn state(input: &[u8]) {
    let limits = limits();
    let shared = Arc::<Shared>::default();
    let taken = match persist::read_document(input, &limits, &shared, RECEIVED, true) {
        Ok(taken) => taken,
        Err(error) => {
            let told = error.to_string();
            assert!(!told.contains(char::is_control), "it would garble {told:?}");
            let is_untouched = shared.known().is_empty() && shared.names.export().is_empty();
            assert!(is_untouched, "half of a file was taken in");
            return;
        }
    };
    check_bounds(&limits, &shared, taken);
    let written = written(&shared);
    assert!(!written.is_empty() && written.len() <= bytes_max(input));
    // Without limits: which template of a few too many is left out depends on their order.
    let roomy = config::Decode {
        extra: limits.extra.clone(),
        ..config::Decode::default()
    };
    let again = Arc::<Shared>::default();
    persist::read_document(&written, &roomy, &again, RECEIVED, true).expect("it wrote that");
    let (once, twice) = (&written, &self::written(&again));
    assert_eq!(
        String::from_utf8_lossy(once),
        String::from_utf8_lossy(twice),
        "what is written again is the same"
    );
    go_on(&limits, &shared);
}

/// What stands in a file for each byte of another is not more than that, but for what every domain
/// and name has.
fn bytes_max(input: &[u8]) -> usize {
    const A_BYTE: usize = 16;
    1024 + A_BYTE * input.len()
}

fn written(shared: &Shared) -> Vec<u8> {
    let mut bytes = Vec::new();
    persist::write_document(&mut bytes, shared, RECEIVED, true).expect("memory takes all");
    bytes
}

fn check_bounds(limits: &config::Decode, shared: &Shared, taken: Taken) {
    let known = shared.known();
    assert_eq!(known.len(), taken.domains, "{taken:?}");
    assert!(known.len() <= limits.exporters_max);
    assert!(shared.templates() <= limits.templates_max);
    let mut templates = 0;
    for known in &known {
        let DomainKey {
            source,
            flow_type,
            session,
            ..
        } = known.key;
        assert_eq!(session, 0, "sessions end with their connection");
        assert_eq!(source, source.to_canonical());
        assert!(known.last_seen <= RECEIVED, "in the future");
        let learned = &known.learned;
        assert!(learned.templates() <= limits.templates_per_exporter_max);
        let has_templates = matches!(flow_type, FlowType::Netflow9 | FlowType::Ipfix);
        assert!(has_templates || learned.templates() == 0);
        assert!(learned.sampling.rates().all(|(_, rate)| rate > 0));
        assert!(learned.sampling.rates().count() <= SAMPLERS_MAX + 1);
        for template in learned.each_template() {
            assert!(template.life.sent_s() <= RECEIVED.seconds());
            assert!(template.life.used_s() <= RECEIVED.seconds());
        }
        templates += learned.templates();
    }
    assert_eq!(templates, taken.templates);
    for name in shared.names.export() {
        let texts = [&name.name, &name.description];
        assert!(texts.iter().all(|text| !text.contains(char::is_control)));
    }
}

/// Sends each domain that is known data of all its templates.
fn go_on(limits: &config::Decode, shared: &Arc<Shared>) {
    let mut watched = Watched::new(limits, shared);
    let mut numbers = HashMap::new();
    for known in shared.known() {
        let key = known.key;
        // Nobody has such an address.
        if key.source.to_canonical().is_unspecified() || is_mapped_nobody(key.source) {
            continue;
        }
        let mut ids: Vec<_> = known.learned.each_template().map(|t| t.id).collect();
        ids.sort_unstable();
        for id in ids {
            let number: &mut u32 = numbers.entry(key).or_default();
            *number += 1;
            let payload = message(&key, *number, id);
            watched.decode(&Datagram {
                source: key.source,
                source_port: 50_000,
                local_port: 2055,
                received: RECEIVED,
                payload: &payload,
                cut: false,
            });
            assert_eq!(watched.counts.sets_held, 0, "its template is known");
        }
    }
    watched.decoder.finish(&mut watched.counts);
}

/// `::ffff:0.0.0.0` and what else is nobody once it is an address of 16 bytes.
fn is_mapped_nobody(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(v4) => v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_unspecified(),
    }
}

/// A message with a set of this template, whose bytes are all different.
fn message(key: &DomainKey, number: u32, id: u16) -> Vec<u8> {
    let words = |words: [u32; 3]| words.map(u32::to_be_bytes).concat();
    let body: Vec<u8> = (1..=124).collect();
    let set = [id, 4 + body.len() as u16].map(u16::to_be_bytes).concat();
    let (now_s, domain) = (RECEIVED.seconds(), key.observation_domain);
    let mut bytes = Vec::new();
    match key.flow_type {
        FlowType::Netflow9 => {
            bytes.extend([0, 9, 0, 1, 0, 1, 0x5f, 0x90]);
            bytes.extend(words([now_s, number, domain]));
        }
        _ => {
            let len = 16 + set.len() + body.len();
            bytes.extend([10, len as u16].map(u16::to_be_bytes).concat());
            bytes.extend(words([now_s, number, domain]));
        }
    }
    [bytes, set, body].concat()
}
