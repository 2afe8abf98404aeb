use super::*;
use crate::config::Enrich;
use crate::flow::Address;
use crate::names::{ApplicationId, Fact, NameBook, Subject, Text};

const ROUTER: [u8; 4] = [192, 0, 2, 1];
const FIREWALL: [u8; 4] = [192, 0, 2, 2];

fn id(engine: u8, selector: u64) -> u64 {
    ApplicationId { engine, selector }.packed().unwrap()
}

/// Names that exporters tell: exporter, domain, bytes of IE 95 and name.
fn names(facts: &[([u8; 4], u32, &[u8], &str)]) -> Arc<Names> {
    let book = NameBook::default();
    for (exporter, observation_domain, bytes, name) in facts {
        let fact = Fact {
            exporter: Address::from_v4(*exporter),
            observation_domain: *observation_domain,
            seen_s: 1,
            subject: Subject::Application(ApplicationId::from_bytes(bytes).unwrap()),
            name: Text::of(name.as_bytes()),
            description: Text::of(b"described"),
        };
        assert!(book.offer(fact));
    }
    // Names of other things are no applications.
    assert!(book.offer(Fact {
        exporter: Address::from_v4(ROUTER),
        observation_domain: 0,
        seen_s: 1,
        subject: Subject::Interface(496),
        name: Text::of(b"eth0"),
        description: Text::EMPTY,
    }));
    book.take_in(|_| {});
    book.snapshot()
}

fn told(ids: &str) -> Arc<Told> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ids.csv");
    std::fs::write(&file, format!("type,id,application\n{ids}")).unwrap();
    let config = Enrich {
        application_ids: vec![file],
        ..Enrich::default()
    };
    Arc::new(Told::load(&config).unwrap())
}

fn labels_of(source: &str, applications: ApplicationType) -> ExporterLabels {
    ExporterLabels {
        source: source.parse().unwrap(),
        name: String::new(),
        group: String::new(),
        site: String::new(),
        region: String::new(),
        role: String::new(),
        tenant: String::new(),
        applications,
    }
}

fn found(applications: &Applications, exporter: [u8; 4], protocol: u8, id: u64) -> &str {
    let of = applications.exporter(Address::from_v4(exporter));
    let found = of.get(protocol, id);
    assert!(found <= applications.id_max());
    applications.label(found)
}

#[test]
fn an_application_is_called_what_its_own_exporter_calls_it() {
    let names = names(&[
        (ROUTER, 7, &[13, 0, 1, 240], "youtube"),
        (ROUTER, 9, &[13, 0, 1, 240], "of another domain"),
        (ROUTER, 7, &[3, 0, 0, 80], "web"),
        (ROUTER, 7, &[13, 0, 0, 1], ""),
        (FIREWALL, 0, &[13, 0, 1, 240], "netflix"),
        (FIREWALL, 0, &[20, 1, 0, 0, 0, 0, 0, 0, 1], "too long"),
    ]);
    let applications = Applications::new(Arc::default(), Arc::default(), &[], &names);
    let found = |exporter, id| found(&applications, exporter, TCP, id);
    assert_eq!(found(ROUTER, id(13, 496)), "youtube");
    assert_eq!(found(FIREWALL, id(13, 496)), "netflix");
    assert_eq!(found(ROUTER, id(3, 80)), "web", "before IANA's");
    assert_eq!(found(FIREWALL, id(3, 80)), "http");
    assert_eq!(found(ROUTER, id(13, 1)), "", "has a description alone");
    assert_eq!(found(ROUTER, id(13, 497)), "");
    assert_eq!(found([192, 0, 2, 3], id(13, 496)), "");
}

/// RFC 6759 section 4.1.
#[test]
fn ids_of_the_iana_engines_are_protocols_and_ports() {
    let applications = Applications::new(Arc::default(), Arc::default(), &[], &Names::default());
    for (protocol, id, expected) in [
        (TCP, id(1, 89), "ospf"),
        (TCP, id(1, 256 + 89), ""),
        (TCP, id(3, 443), "https"),
        (UDP, id(3, 53), "domain"),
        (17, id(3, 514), "syslog"),
        (TCP, id(3, 514), "shell"),
        // Registered for SCTP alone; for TCP, but flows of GRE have no ports.
        (TCP, id(3, 36_412), ""),
        (132, id(3, 36_412), "s1-control"),
        (47, id(3, 443), "https"),
        (TCP, id(3, 65_536 + 443), ""),
        (TCP, id(2, 443), ""),
        (TCP, id(13, 443), ""),
    ] {
        assert_eq!(
            found(&applications, ROUTER, protocol, id),
            expected,
            "{id:x}"
        );
    }
}

#[test]
fn the_type_of_an_exporter_says_whose_numbers_it_sends() {
    let told = told(
        "fortinet,16001,Fortinet's 16001\n\
         velocloud,16001,VeloCloud's 16001\n\
         velocloud,496,VeloCloud's 496\n\
         fortinet,13:7,Fortinet's 13:7\n\
         cisco_nbar2,496,known to the operator\n\
         cisco_nbar2,13:8,eight\n\
         cisco_nbar2,80,eighty\n",
    );
    let exporters = [
        labels_of("192.0.2.0/24", ApplicationType::Fortinet),
        labels_of("192.0.2.1/32", ApplicationType::CiscoNbar2),
        labels_of("198.51.100.0/24", ApplicationType::Velocloud),
    ];
    let names = names(&[
        (ROUTER, 0, &[13, 0, 0, 8], "told eight"),
        (FIREWALL, 0, &[13, 0, 0, 7], "told seven"),
        (FIREWALL, 0, &[13, 0, 0, 9], "told nine"),
    ]);
    let applications = Applications::new(Arc::default(), told, &exporters, &names);
    let edge = [198, 51, 100, 1];
    let elsewhere = [203, 0, 113, 1];
    for (exporter, id, expected) in [
        (FIREWALL, id(20, 12_356 << 32 | 16_001), "Fortinet's 16001"),
        (FIREWALL, id(20, 45_346 << 32 | 16_001), ""),
        (FIREWALL, id(13, 16_001), "Fortinet's 16001"),
        (FIREWALL, id(13, 7), "Fortinet's 13:7"),
        (FIREWALL, id(14, 7), ""),
        (FIREWALL, id(13, 9), "told nine"),
        (FIREWALL, id(13, 496), ""),
        (edge, id(20, 45_346 << 24 | 16_001), "VeloCloud's 16001"),
        (edge, id(20, 45_346 << 24 | 496), "VeloCloud's 496"),
        (edge, id(13, 7), ""),
        (ROUTER, id(13, 8), "told eight"),
        (ROUTER, id(13, 496), "known to the operator"),
        (elsewhere, id(13, 8), "eight"),
        (elsewhere, id(13, 80), "eighty"),
        // A number without an engine is none of IANA's.
        (elsewhere, id(3, 80), "http"),
        (elsewhere, id(1, 80), "iso-ip"),
        (elsewhere, id(13, 16_001), ""),
    ] {
        assert_eq!(
            found(&applications, exporter, TCP, id),
            expected,
            "{exporter:?} {id:x}"
        );
    }
}

#[test]
fn equal_names_have_one_id_and_none_has_no_label() {
    let names = names(&[
        (ROUTER, 0, &[13, 0, 0, 8], "web"),
        (ROUTER, 0, &[13, 0, 0, 9], "web"),
        (FIREWALL, 0, &[13, 0, 0, 8], "web"),
    ]);
    let told = told("fortinet,1,web\nfortinet,2,mail\n");
    let applications = Applications::new(Arc::default(), told, &[], &names);
    let of = |exporter, selector| {
        let exporter = applications.exporter(Address::from_v4(exporter));
        exporter.get(TCP, id(13, selector))
    };
    assert_eq!((of(ROUTER, 8), of(ROUTER, 9), of(FIREWALL, 8)), (1, 1, 1));
    assert_eq!(applications.label(2), "mail");
    assert_ne!(applications.label(3), "", "the first of IANA's");
    assert_ne!(applications.label(applications.id_max()), "");
    for nobodys in [0, applications.id_max() + 1, u32::MAX] {
        assert_eq!(applications.label(nobodys), "");
    }
    assert!(applications.memory_bytes() > 0);
}
