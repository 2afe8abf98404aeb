//! What the operator knows better than an exporter: rates, scope and clock.

mod messages;

use std::net::Ipv4Addr;

use flowsluice::config::{self, ExporterOverride, TemplateScope, TimeSource};
use flowsluice::flow::SamplingSource;
use messages::{
    Bench, EXPORT_MS, RECEIVED, ipfix, netflow5, netflow9, options_template_ipfix, set, template,
    twenty_field_records, twenty_field_template,
};

/// The exporter of the test messages; nothing known of it yet.
const NOTHING: ExporterOverride = ExporterOverride {
    source: ipnet::IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24)),
    sampling_rate: 0,
    sampling_force: false,
    scope: TemplateScope::Domain,
    time: TimeSource::Exporter,
};

fn bench(known: ExporterOverride) -> Bench {
    let config = config::Decode {
        sampling_rate_default: 5,
        exporters: vec![known],
        ..Default::default()
    };
    Bench::with(&config, Default::default())
}

/// The domain tells that one of 100 packets is taken (IE 34).
fn sampling_options() -> Vec<u8> {
    let sets = [
        set(3, &options_template_ipfix(257, 1, &[(149, 4), (34, 4)])),
        set(257, &[0, 0, 0, 7, 0, 0, 0, 100]),
    ];
    ipfix(&sets)
}

#[test]
fn a_static_rate_counts_before_the_default_and_after_what_the_exporter_says() {
    let mut bench = bench(ExporterOverride {
        sampling_rate: 50,
        ..NOTHING
    });
    let data = set(256, &[0, 0, 0, 9]);
    let rows = bench.decode(&ipfix(&[set(2, &template(256, &[(1, 4)])), data.clone()]));
    let rate = (rows[0].sampling_rate, rows[0].sampling_source);
    assert_eq!(rate, (50, SamplingSource::Static));
    bench.decode(&sampling_options());
    let rows = bench.decode(&ipfix(std::slice::from_ref(&data)));
    let rate = (rows[0].sampling_rate, rows[0].sampling_source);
    assert_eq!(rate, (100, SamplingSource::Options));
    // v5 with and without a rate in its header.
    let rows = bench.decode(&netflow5(1, 1, 0x4000 | 64));
    let rate = (rows[0].sampling_rate, rows[0].sampling_source);
    assert_eq!(rate, (64, SamplingSource::Header));
    let neighbour = Ipv4Addr::new(192, 0, 2, 99);
    let rows = bench.decode_of(neighbour, 0, &netflow5(1, 1, 0));
    let rate = (rows[0].sampling_rate, rows[0].sampling_source);
    assert_eq!(rate, (50, SamplingSource::Static));
    // Another exporter has the default.
    let stranger = Ipv4Addr::new(198, 51, 100, 1);
    let rows = bench.decode_of(stranger, 0, &netflow5(1, 1, 0));
    let rate = (rows[0].sampling_rate, rows[0].sampling_source);
    assert_eq!(rate, (5, SamplingSource::Default));
}

#[test]
fn a_forced_rate_counts_whatever_the_exporter_says() {
    let mut bench = bench(ExporterOverride {
        sampling_rate: 50,
        sampling_force: true,
        ..NOTHING
    });
    bench.decode(&sampling_options());
    // The record tells a rate of its own.
    let of_record = set(2, &template(256, &[(1, 4), (34, 4)]));
    let data = set(256, &[0, 0, 0, 9, 0, 0, 0, 10]);
    for payload in [ipfix(&[of_record, data]), netflow5(1, 1, 0x4000 | 64)] {
        let rows = bench.decode(&payload);
        let rate = (rows[0].sampling_rate, rows[0].sampling_source);
        assert_eq!(rate, (50, SamplingSource::Static));
    }
}

#[test]
fn templates_of_another_source_id_are_used_where_the_scope_is_the_exporter() {
    let templates = netflow9(&[twenty_field_template()]);
    let mut data = netflow9(&[set(256, &twenty_field_records(2))]);
    data[19] = 9;
    let mut by_domain = bench(NOTHING);
    by_domain.decode(&templates);
    assert_eq!(by_domain.decode(&data).len(), 0);
    let mut by_exporter = bench(ExporterOverride {
        scope: TemplateScope::Exporter,
        ..NOTHING
    });
    by_exporter.decode(&templates);
    let rows = by_exporter.decode(&data);
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].observation_domain, 9);
}

#[test]
fn flows_end_when_they_are_received_where_the_clock_is_not_to_be_believed() {
    let payloads = [
        netflow5(2, 2, 0),
        netflow9(&[twenty_field_template(), set(256, &twenty_field_records(2))]),
    ];
    let mut believed = bench(NOTHING);
    let mut received = bench(ExporterOverride {
        time: TimeSource::Received,
        ..NOTHING
    });
    for payload in &payloads {
        let (told, ours) = (believed.decode(payload), received.decode(payload));
        assert_eq!((told.len(), ours.len()), (2, 2));
        for (told, ours) in told.iter().zip(&ours) {
            assert_eq!(told.flow_end_ms, EXPORT_MS - 1000);
            assert_eq!(ours.flow_end_ms, RECEIVED.millis());
            assert_eq!(told.duration_ms(), ours.duration_ms());
            assert_eq!(ours.duration_ms(), 1000);
        }
    }
}
