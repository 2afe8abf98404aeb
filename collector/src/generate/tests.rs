use std::collections::HashMap;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::reader::{Reader, Seen};
use super::*;

const START: UnixNanos = UnixNanos(1_750_000_000_123_456_789);
const SECOND: u64 = 1_000_000_000;

fn settings(protocols: Protocols, exporters: usize) -> Settings {
    Settings {
        protocols,
        exporters,
        ..Settings::default()
    }
}

/// Flows spread over so many seconds, read by an independent reader.
fn read(settings: &Settings, flows: u64, seconds: u64) -> (Simulator, Reader) {
    let mut simulator = Simulator::new(settings, START).unwrap();
    let mut reader = Reader::default();
    while simulator.totals.all.flows < flows {
        let passed = simulator.totals.all.flows * seconds * SECOND / flows;
        let datagram = simulator.next(UnixNanos(START.0 + passed));
        reader.read(&datagram);
    }
    (simulator, reader)
}

fn bytes(settings: &Settings) -> Vec<u8> {
    let mut simulator = Simulator::new(settings, START).unwrap();
    let mut all = Vec::new();
    for step in 0..2_000 {
        let now = UnixNanos(START.0 + step * SECOND / 10);
        all.extend_from_slice(simulator.next(now).payload);
    }
    all
}

fn share(seen: &[Seen], is: impl Fn(&Seen) -> bool) -> f64 {
    seen.iter().filter(|flow| is(flow)).count() as f64 / seen.len() as f64
}

#[test]
fn the_same_seed_makes_the_same_bytes_and_another_seed_others() {
    let settings = settings(Protocols::Mix, 50);
    let other = Settings {
        seed: 2,
        ..settings.clone()
    };
    assert_eq!(bytes(&settings), bytes(&settings));
    assert_ne!(bytes(&settings), bytes(&other));
}

#[test]
fn totals_are_what_a_reader_of_the_bytes_adds_up() {
    for profile in [Profile::Realistic, Profile::Uniform] {
        for exporters in [1, 2, 4, 50] {
            let settings = Settings {
                profile,
                ..settings(Protocols::Mix, exporters)
            };
            let (simulator, reader) = read(&settings, 40_000, 200);
            let mut sums = vec![Sums::default(); exporters];
            for flow in &reader.flows {
                sums[flow.exporter].add_flow(flow.packets, flow.octets, flow.sampling_rate);
            }
            for (sums, datagrams) in sums.iter_mut().zip(&reader.datagrams) {
                sums.datagrams = *datagrams;
            }
            assert_eq!(sums, simulator.totals.by_exporter);
            let mut all = Sums::default();
            sums.iter().for_each(|of_exporter| all.add(of_exporter));
            assert_eq!(all, simulator.totals.all);
            assert_eq!(reader.gaps, 0);
        }
    }
}

#[test]
fn records_are_numbered_in_the_order_of_sending_and_nothing_else_changes() {
    let plain = settings(Protocols::Mix, 50);
    let (_, without) = read(&plain, 40_000, 200);
    for field in [Numbered::Source, Numbered::NextHop] {
        let numbered = Settings {
            number: Some(field),
            ..plain.clone()
        };
        let (simulator, with) = read(&numbered, 40_000, 200);
        assert_eq!(with.flows.len() as u64, simulator.totals.all.flows);
        for (index, (numbered, plain)) in with.flows.iter().zip(&without.flows).enumerate() {
            let [is, was, same, as_before] = match field {
                Numbered::Source => [
                    numbered.src_addr,
                    plain.src_addr,
                    numbered.next_hop,
                    plain.next_hop,
                ],
                Numbered::NextHop => [
                    numbered.next_hop,
                    plain.next_hop,
                    numbered.src_addr,
                    plain.src_addr,
                ],
            };
            assert_eq!(is as u32, index as u32 + 1);
            assert_eq!(is >> 32, was >> 32);
            assert_eq!(same, as_before);
            assert_eq!(
                (numbered.exporter, numbered.dst_addr, numbered.octets),
                (plain.exporter, plain.dst_addr, plain.octets)
            );
        }
    }
}

#[test]
fn records_that_are_lost_on_purpose_take_their_numbers_with_them() {
    let settings = Settings {
        number: Some(Numbered::Source),
        loss: 0.5,
        ..settings(Protocols::Netflow9, 2)
    };
    let (simulator, reader) = read(&settings, 10_000, 10);
    let Totals { all, lost, .. } = simulator.totals();
    let last = reader.flows.last().unwrap().src_addr as u32;
    assert!(lost.flows > 0);
    let missing = u64::from(last) - all.flows;
    assert!(missing <= lost.flows, "{missing} of {}", lost.flows);
    assert!(
        reader
            .flows
            .is_sorted_by(|a, b| a.src_addr as u32 <= b.src_addr as u32)
    );
}

#[test]
fn netflow9_and_ipfix_have_20_fields_and_24_ipv4_flows_a_datagram() {
    for protocols in [Protocols::Netflow9, Protocols::Ipfix] {
        let settings = Settings {
            ipv6: 0.0,
            ..settings(protocols, 1)
        };
        let mut simulator = Simulator::new(&settings, START).unwrap();
        let mut reader = Reader::default();
        reader.read(&simulator.next(START));
        for template in reader.templates.values().filter(|t| !t.is_options) {
            assert_eq!(template.fields.len(), 20);
        }
        assert_eq!(
            reader.templates.values().filter(|t| !t.is_options).count(),
            2
        );
        for _ in 0..100 {
            assert_eq!(simulator.next(START).flows, 24);
        }
    }
}

#[test]
fn sflow_datagrams_have_5_to_7_samples_and_the_mean_that_is_planned_with() {
    let mut simulator = Simulator::new(&settings(Protocols::Sflow5, 5), START).unwrap();
    let mut counts = [0_u32; 8];
    for _ in 0..20_000 {
        counts[simulator.next(START).flows as usize] += 1;
    }
    // A datagram with counters has room for five at least.
    assert_eq!(counts[..5], [0; 5]);
    let mean = simulator.totals.all.flows as f64 / 20_000.0;
    assert!(
        (mean - sflow::SAMPLES_MEAN).abs() < 0.1,
        "{mean}: {counts:?}"
    );
}

#[test]
fn protocols_and_families_have_their_shares() {
    for exporters in [4, 50] {
        let (simulator, reader) = read(&settings(Protocols::Mix, exporters), 400_000, 40);
        let all = simulator.totals.all.flows as f64;
        for (protocol, expected) in [
            (Protocol::Netflow9, 0.55),
            (Protocol::Ipfix, 0.30),
            (Protocol::Sflow5, 0.10),
            (Protocol::Netflow5, 0.05),
        ] {
            let share = simulator.totals.of(protocol).flows as f64 / all;
            assert!((share - expected).abs() < 0.01, "{protocol:?}: {share}");
        }
        let v6 = share(&reader.flows, |flow| flow.family == Family::V6);
        assert!((v6 - 0.25).abs() < 0.01, "{v6}");
    }
}

#[test]
fn services_have_their_shares() {
    let (_, reader) = read(&settings(Protocols::Mix, 50), 400_000, 40);
    let served = |protocol: u8, port: u16| {
        share(&reader.flows, |flow| {
            flow.protocol == protocol && (flow.src_port == port || flow.dst_port == port)
        })
    };
    for (protocol, port, expected) in [
        (services::TCP, 443, 0.45),
        (services::UDP, 443, 0.15),
        (services::UDP, 53, 0.12),
        (services::TCP, 80, 0.06),
        (services::UDP, 123, 0.02),
        (services::TCP, 22, 0.015),
    ] {
        let share = served(protocol, port);
        let tolerance = 0.003 + expected * 0.05;
        assert!(
            (share - expected).abs() < tolerance,
            "{protocol}/{port}: {share}"
        );
    }
    let tcp: Vec<Seen> = reader
        .flows
        .iter()
        .copied()
        // A sample of sFlow has the flags of one packet only.
        .filter(|flow| flow.protocol == services::TCP && flow.start_ms > 0)
        .collect();
    let complete = share(&tcp, |flow| flow.tcp_flags == 0x1b);
    assert!((complete - 0.80).abs() < 0.02, "{complete}");
    let syn_only = share(&tcp, |flow| flow.tcp_flags == 0x02);
    assert!((syn_only - 0.06).abs() < 0.01, "{syn_only}");
}

#[test]
fn a_tenth_of_the_flows_stays_inside() {
    let (_, reader) = read(&settings(Protocols::Mix, 50), 200_000, 20);
    let inside = share(&reader.flows, |flow| {
        hosts::is_inside(flow.family, flow.src_addr) && hosts::is_inside(flow.family, flow.dst_addr)
    });
    assert!((inside - 0.10).abs() < 0.015, "{inside}");
}

#[test]
fn few_hosts_have_most_of_the_flows() {
    let (_, reader) = read(&settings(Protocols::Mix, 50), 200_000, 20);
    let mut inside: HashMap<u128, u32> = HashMap::new();
    let mut outside: HashMap<u128, u32> = HashMap::new();
    for flow in reader.flows.iter().filter(|flow| flow.family == Family::V4) {
        for address in [flow.src_addr, flow.dst_addr] {
            let population = if hosts::is_inside(Family::V4, address) {
                &mut inside
            } else {
                &mut outside
            };
            *population.entry(address).or_default() += 1;
        }
    }
    for (population, top) in [(&inside, 200), (&outside, 3_000)] {
        let mut counts: Vec<u32> = population.values().copied().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let of_top: u32 = counts[..top].iter().sum();
        let share = f64::from(of_top) / f64::from(counts.iter().sum::<u32>());
        assert!(share > 0.5, "the top hundredth has {share}");
    }
}

#[test]
fn uniform_addresses_hardly_repeat() {
    let settings = Settings {
        profile: Profile::Uniform,
        ..settings(Protocols::Netflow9, 4)
    };
    let (_, reader) = read(&settings, 20_000, 2);
    let mut sources: Vec<u128> = reader.flows.iter().map(|flow| flow.src_addr).collect();
    let flows = sources.len();
    sources.sort_unstable();
    sources.dedup();
    assert!(sources.len() as f64 > flows as f64 * 0.999);
}

#[test]
fn packets_are_log_normal_and_an_answer_is_eight_times_its_request() {
    let (_, reader) = read(&settings(Protocols::Netflow9, 1), 200_000, 20);
    let mut packets: Vec<u32> = Vec::new();
    let (mut requested, mut answered) = (0.0, 0.0);
    for flow in reader
        .flows
        .iter()
        .filter(|f| f.protocol == 6 && f.tcp_flags == 0x1b)
    {
        packets.push(flow.packets);
        let octets = f64::from(flow.octets) / f64::from(flow.packets);
        match (flow.src_port, flow.dst_port) {
            (443, _) => answered += octets,
            (_, 443) => requested += octets,
            _ => {}
        }
    }
    packets.sort_unstable();
    let median = packets[packets.len() / 2];
    let high = packets[packets.len() * 95 / 100];
    assert!((6..=10).contains(&median), "{median}");
    assert!((320..=480).contains(&high), "{high}");
    let ratio = answered / requested;
    assert!((6.5..9.0).contains(&ratio), "{ratio}");
}

#[test]
fn no_flow_is_longer_than_the_active_timeout_or_from_the_future() {
    let (_, reader) = read(&settings(Protocols::Mix, 4), 200_000, 400);
    let mut full = 0;
    for flow in reader.flows.iter().filter(|flow| flow.start_ms > 0) {
        let age_ms = flow.export_ms as i64 - flow.end_ms as i64;
        // NetFlow v9 tells its time in whole seconds.
        assert!((-1_000..=80_000).contains(&age_ms), "{flow:?}");
        let duration_ms = flow.end_ms - flow.start_ms;
        assert!(duration_ms <= 60_000, "{flow:?}");
        full += u32::from(duration_ms == 60_000);
    }
    assert!(full > 1_000, "{full} flows were cut by the active timeout");
}

#[test]
fn announcements_come_first_and_again_within_their_time() {
    let (_, reader) = read(&settings(Protocols::Mix, 50), 100_000, 150);
    for (key, times) in &reader.announced_ms {
        assert!(times.len() >= 2, "{key:?}");
        for pair in times.windows(2) {
            assert!(pair[1] - pair[0] < 75_000, "{key:?}: {times:?}");
        }
    }
}

#[test]
fn lost_datagrams_leave_gaps_and_are_counted_apart() {
    let settings = Settings {
        loss: 0.1,
        ..settings(Protocols::Netflow9, 4)
    };
    let (simulator, reader) = read(&settings, 200_000, 10);
    let totals = simulator.totals();
    assert!(totals.lost.datagrams > 30, "{}", totals.lost.datagrams);
    assert_eq!(reader.gaps, totals.lost.datagrams);
    assert_eq!(reader.flows.len() as u64, totals.all.flows);
}

#[test]
fn a_restarted_exporter_begins_its_sequence_and_announces_again() {
    let (_, reader) = read(&settings(Protocols::Mix, 50), 200_000, 600);
    assert_eq!(reader.restarts, 1);
}

#[test]
fn impossible_settings_say_what_is_possible() {
    let error = Simulator::new(&settings(Protocols::Mix, 0), START).unwrap_err();
    assert_eq!(
        error.to_string(),
        "0 exporters are not possible; ask for 1 to 4096"
    );
}

#[test]
fn a_flow_is_made_in_less_than_five_microseconds() {
    // The bound is for an unoptimised build; a release build needs a tenth. It is the processor's
    // time, since how long others had it says nothing.
    let used = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    for protocols in [
        Protocols::Netflow5,
        Protocols::Netflow9,
        Protocols::Ipfix,
        Protocols::Sflow5,
    ] {
        let mut simulator = Simulator::new(&settings(protocols, 50), START).unwrap();
        let before = used();
        while simulator.totals.all.flows < 300_000 {
            simulator.next(START);
        }
        let flows = simulator.totals.all.flows as f64;
        let nanoseconds = (used() - before).as_nanos() as f64 / flows;
        println!("{protocols:?}: {nanoseconds:.0} ns a flow");
        assert!(nanoseconds < 5_000.0, "{protocols:?}: {nanoseconds} ns");
    }
}
