use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::config::Enrich;
use crate::enrich::applications::Told;
use crate::enrich::services::UDP;
use crate::flow::Flow;
use crate::names::Names;

const SCTP: u8 = 132;
const SYN: u16 = 0x02;
const ACK: u16 = 0x10;

/// The rule once more, one line a reason.
fn as_people_say_it(signs: &Signs) -> bool {
    let (src_port, dst_port) = signs.ports;
    match signs.biflow_direction {
        1 => return true,
        2 => return false,
        _ => {}
    }
    if signs.is_multicast || signs.is_syn_alone {
        return true;
    }
    match signs.applications {
        (false, true) => return true,
        (true, false) => return false,
        _ => {}
    }
    match signs.services {
        (false, true) => return true,
        (true, false) => return false,
        _ => {}
    }
    // The server has the lower port; of equal ones, the destination's.
    src_port >= dst_port
}

#[test]
fn the_client_is_told_by_the_first_reason_that_tells() {
    let both = [false, true];
    let pairs = || both.into_iter().flat_map(move |a| both.map(|b| (a, b)));
    let mut cases = 0;
    for biflow_direction in 0..=4 {
        for (is_multicast, is_syn_alone) in pairs() {
            for applications in pairs() {
                for services in pairs() {
                    for ports in [(1, 2), (2, 2), (2, 1), (0, u16::MAX), (u16::MAX, 0)] {
                        let signs = Signs {
                            biflow_direction,
                            is_multicast,
                            is_syn_alone,
                            applications,
                            services,
                            ports,
                        };
                        assert_eq!(client_is_src(&signs), as_people_say_it(&signs), "{signs:?}");
                        cases += 1;
                    }
                }
            }
        }
    }
    assert_eq!(cases, 5 * 4 * 4 * 4 * 5);
}

fn applications(lines: &str) -> Applications {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("applications.csv");
    std::fs::write(
        &file,
        format!("address,ports,protocol,application\n{lines}"),
    )
    .unwrap();
    with_files(vec![file])
}

fn with_files(applications: Vec<PathBuf>) -> Applications {
    let config = Enrich {
        applications,
        ..Enrich::default()
    };
    let told = Arc::new(Told::load(&config).unwrap());
    Applications::new(Arc::default(), told, &[], &Names::default())
}

fn flow(protocol: u8, src_port: u16, dst_port: u16) -> Flow {
    Flow {
        src_addr: Address::from_v4([192, 0, 2, 1]),
        dst_addr: Address::from_v4([198, 51, 100, 1]),
        exporter_addr: Address::from_v4([203, 0, 113, 1]),
        protocol,
        src_port,
        dst_port,
        ..Flow::EMPTY
    }
}

/// Whether the source is the client, the service and the application.
fn told(applications: &Applications, flow: Flow) -> (bool, String, String) {
    let mut keys = Keys::default();
    keys.read(&[flow]);
    let mut sides = [Sides::default(); KEYS];
    find(applications, &keys, &mut sides);
    let [sides, ..] = sides;
    let service = applications.services().label(sides.service);
    let application = applications.label(sides.application);
    (sides.client_is_src, service.into(), application.into())
}

#[test]
fn the_service_is_that_of_the_servers_port_or_the_protocol() {
    let applications = applications("");
    for (protocol, src_port, dst_port, expected) in [
        (TCP, 50_000, 443, (true, "https")),
        (TCP, 443, 50_000, (false, "https")),
        (UDP, 53, 53, (true, "domain")),
        (UDP, 123, 53, (true, "domain")),
        // Neither is known.
        (TCP, 50_000, 60_000, (false, "")),
        (SCTP, 50_000, 36_412, (true, "s1-control")),
        // Type and code of ICMP, as many exporters send them, are no port.
        (1, 0, 0x0800, (true, "icmp")),
        (1, 443, 53, (true, "icmp")),
        (58, 0, 0, (true, "ipv6-icmp")),
        (47, 0, 0, (true, "gre")),
        (89, 0, 0, (true, "ospf")),
        (252, 0, 0, (true, "")),
        (0, 0, 0, (true, "")),
    ] {
        let (is_src, service, application) =
            told(&applications, flow(protocol, src_port, dst_port));
        assert_eq!(
            (is_src, &*service),
            expected,
            "{protocol} {src_port} {dst_port}"
        );
        assert_eq!(application, "");
    }
}

#[test]
fn what_the_exporter_saw_counts_before_ports() {
    let applications = applications("");
    let from_server = flow(TCP, 443, 50_000);
    let is_src = |flow| told(&applications, flow).0;
    assert!(!is_src(from_server));
    for (tcp_flags, expected) in [
        (SYN, true),
        (SYN | 0x04, true),
        (SYN | ACK, false),
        (ACK, false),
        (0, false),
    ] {
        let flow = Flow {
            tcp_flags,
            ..from_server
        };
        assert_eq!(is_src(flow), expected, "{tcp_flags:#x}");
    }
    // Flags are TCP's.
    let flags = Flow {
        tcp_flags: SYN,
        ..flow(UDP, 53, 50_000)
    };
    assert!(!is_src(flags));
    for (biflow_direction, tcp_flags, expected) in [
        (1, 0, true),
        (2, SYN, false),
        (0, SYN, true),
        (3, SYN, true),
        (3, 0, false),
    ] {
        let flow = Flow {
            biflow_direction,
            tcp_flags,
            ..from_server
        };
        assert_eq!(is_src(flow), expected, "{biflow_direction}");
    }
    for group in [
        Address::from_v4([224, 0, 0, 1]),
        Address::from_v4([239, 255, 255, 255]),
        Address([0xff; 16]),
    ] {
        let flow = Flow {
            dst_addr: group,
            ..from_server
        };
        assert!(is_src(flow), "{group}");
    }
    for single in [
        Address::from_v4([223, 255, 255, 255]),
        Address::from_v4([240, 0, 0, 0]),
        Address([0xfe; 16]),
        // No IPv4 in it.
        Address([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe0, 0, 0, 1]),
    ] {
        let flow = Flow {
            dst_addr: single,
            ..from_server
        };
        assert!(!is_src(flow), "{single}");
    }
}

#[test]
fn an_application_at_a_port_tells_the_server_before_services_do() {
    let applications = applications(
        "198.51.100.1,40001,tcp,backup\n\
         192.0.2.0/24,,,office\n",
    );
    // 443 is registered, 40001 is not.
    let (is_src, service, application) = told(&applications, flow(TCP, 443, 40_001));
    assert_eq!((is_src, &*service, &*application), (true, "", "backup"));
    // What is told of an address alone says nothing of the server; of an application it does.
    let (is_src, service, application) = told(&applications, flow(TCP, 50_000, 443));
    assert_eq!(
        (is_src, &*service, &*application),
        (true, "https", "office")
    );
    let (is_src, _, application) = told(&applications, flow(TCP, 443, 50_000));
    assert_eq!((is_src, &*application), (false, "office"));
}

#[test]
fn of_two_applications_the_servers_counts() {
    let applications = applications("192.0.2.1,,,of the client\n198.51.100.1,,,of the server\n");
    let (is_src, _, application) = told(&applications, flow(TCP, 50_000, 443));
    assert_eq!((is_src, &*application), (true, "of the server"));
    let (is_src, _, application) = told(&applications, flow(TCP, 443, 50_000));
    assert_eq!((is_src, &*application), (false, "of the client"));
}

#[test]
fn an_exporters_id_counts_where_the_operator_says_nothing() {
    let applications = applications("198.51.100.1,443,,ours\n");
    let of = |dst_port, application_id| {
        let flow = Flow {
            application_id,
            ..flow(TCP, 50_000, dst_port)
        };
        told(&applications, flow).2
    };
    let iana_port = |port: u64| 3 << 56 | port;
    assert_eq!(of(443, iana_port(22)), "ours");
    assert_eq!(of(444, iana_port(22)), "ssh");
    assert_eq!(of(444, 1 << 56 | 47), "gre");
    assert_eq!(of(444, 13 << 56 | 496), "");
    assert_eq!(of(444, 0), "");
}

#[test]
fn flows_of_several_exporters_are_told_together() {
    let applications = applications("198.51.100.0/24,8000-8099,tcp,web\n");
    let flows: Vec<Flow> = (0..KEYS as u16)
        .map(|number| Flow {
            exporter_addr: Address::from_v4([203, 0, 113, (number / 25) as u8]),
            application_id: 3 << 56 | 22,
            ..flow(TCP, 50_000, 7970 + number)
        })
        .collect();
    let mut keys = Keys::default();
    keys.read(&flows);
    let mut sides = [Sides::default(); KEYS];
    find(&applications, &keys, &mut sides);
    for (flow, sides) in flows.iter().zip(&sides) {
        let expected = match flow.dst_port {
            8000..=8099 => "web",
            _ => "ssh",
        };
        assert_eq!(
            applications.label(sides.application),
            expected,
            "{}",
            flow.dst_port
        );
    }
}
