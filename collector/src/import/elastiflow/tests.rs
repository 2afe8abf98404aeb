use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use bytesize::ByteSize;
use tempfile::TempDir;

use super::*;
use crate::config::{self, ApplicationType, Config, DnsNames};

/// A drop-in as the guide has it edited.
const SERVICE: &str = r#"[Service]
# ElastiFlow global configuration
Environment="ELASTIFLOW_GEOIP_DB_PATH=/etc/logstash/elastiflow/geoipdbs"
Environment="ELASTIFLOW_GEOIP_CACHE_SIZE=16384"
Environment="ELASTIFLOW_GEOIP_LOOKUP=true"
Environment="ELASTIFLOW_ASN_LOOKUP=true"
Environment="ELASTIFLOW_OUI_LOOKUP=false"
Environment="ELASTIFLOW_DEFAULT_APPID_SRCTYPE=__UNKNOWN"
Environment="ELASTIFLOW_RESOLVE_IP2HOST=exporters"
Environment="ELASTIFLOW_NAMESERVER=192.0.2.53"
Environment="ELASTIFLOW_DNS_HIT_CACHE_SIZE=25000"
Environment="ELASTIFLOW_DNS_HIT_CACHE_TTL=600"
Environment="ELASTIFLOW_DNS_FAILED_CACHE_SIZE=75000"
Environment="ELASTIFLOW_DNS_FAILED_CACHE_TTL=7200"
Environment="ELASTIFLOW_ES_PASSWD=open-sesame"
Environment="ELASTIFLOW_NETFLOW_IPV4_HOST=0.0.0.0"
Environment="ELASTIFLOW_NETFLOW_IPV4_PORT=9995"
Environment="ELASTIFLOW_NETFLOW_IPV6_HOST=[::]"
Environment="ELASTIFLOW_NETFLOW_IPV6_PORT=52055"
Environment="ELASTIFLOW_NETFLOW_UDP_RCV_BUFF=33554432"
Environment="ELASTIFLOW_SFLOW_IPV4_HOST=192.0.2.10"
Environment="ELASTIFLOW_SFLOW_IPV4_PORT=6343"
Environment="ELASTIFLOW_SFLOW_UDP_RCV_BUFF=67108864"
Environment="ELASTIFLOW_IPFIX_TCP_IPV4_PORT=4739"
Environment="ELASTIFLOW_IPFIX_UDP_IPV4_PORT=4739"
Environment="ELASTIFLOW_IPFIX_UDP_IPV6_PORT=4739"
Environment="ELASTIFLOW_IPFIX_UDP_WORKERS=4"
"#;

/// The dictionaries that the guide has edited.
const DICTIONARIES: [(&str, &str); 5] = [
    (
        "dictionaries/app_id.srctype.yml",
        "# the type\n\"192.0.2.1\": \"cisco_nbar2\"\n\"192.0.2.2\": \"fortinet\"\n\
             192.0.2.3: velocloud\n",
    ),
    (
        "user_settings/sampling_interval.yml",
        "\"192.0.2.1\": 1024\n\"2001:db8::1\": \"512\"\n",
    ),
    (
        "user_settings/ifName.yml",
        "\"192.0.2.1::ifName.0\": \"eth0\"\n\"192.0.2.1::ifName.3\": \"eth3\"\n\
             \"2001:db8::1::ifName.7\": \"ge-0/0/0, \\\"up\\\"\"\n",
    ),
    (
        "user_settings/applications.yml",
        "\"192.0.2.1:5601\": \"kibana\"\n\"2001:db8::1:443\": \"portal\"\n",
    ),
    (
        "user_settings/ip_rep_whitelist.yml",
        "\"1.1.1.1\": \"true\"\n\"8.8.8.8\": false\n",
    ),
];

fn of(files: &[(&str, &str)]) -> (Imported, Config, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    let folders = [folder.path().to_owned()];
    let imported = import(&folders, Path::new("/etc/flowsluice")).unwrap();
    let config = config::parse("imported", &imported.configuration);
    let config = config.unwrap_or_else(|error| panic!("{error}\n{}", imported.configuration));
    (imported, config, folder)
}

fn contents<'a>(imported: &'a Imported, name: &str) -> &'a str {
    let file = imported.files.iter().find(|(other, _)| *other == name);
    &file.unwrap_or_else(|| panic!("there is no {name}")).1
}

fn has(lines: &[String], parts: &[&str]) -> bool {
    lines
        .iter()
        .any(|line| parts.iter().all(|part| line.contains(part)))
}

#[test]
fn variables_become_listeners_names_caches_and_databases() {
    let (Imported { report, .. }, config, _folder) =
        of(&[("logstash.service.d/elastiflow.conf", SERVICE)]);
    let mut listeners: Vec<_> = config
        .receive
        .listeners
        .iter()
        .map(|it| (it.address, it.port))
        .collect();
    listeners.sort();
    let expected = [
        ("0.0.0.0", 9995),
        ("192.0.2.10", 6343),
        ("::", 4739),
        ("::", 52055),
    ];
    assert_eq!(
        listeners,
        expected.map(|(host, port)| (host.parse::<IpAddr>().unwrap(), port))
    );
    let tcp = &config.receive.tcp.listeners;
    assert!(
        tcp.len() == 1 && tcp[0].port == 4739 && tcp[0].address.is_ipv4(),
        "{tcp:?}"
    );
    assert_eq!(
        config.receive.socket_buffer,
        ByteSize::mib(64),
        "the largest"
    );
    let dns = &config.enrich.dns;
    assert_eq!(
        (dns.names, dns.servers.as_slice()),
        (DnsNames::Exporters, &["192.0.2.53".to_owned()][..])
    );
    assert_eq!((dns.hits_max, dns.misses_max), (25_000, 75_000));
    assert_eq!(
        (dns.hit_lifetime, dns.miss_lifetime),
        (Duration::from_secs(600), Duration::from_secs(7200))
    );
    let path = Path::new("/etc/logstash/elastiflow/geoipdbs");
    let databases = ["GeoLite2-City.mmdb", "GeoLite2-ASN.mmdb"].map(|name| path.join(name));
    assert_eq!(config.enrich.geo.databases, databases);
    assert!(config.enrich.mac_vendors.as_os_str().is_empty());
    assert!(has(
        &report.taken,
        &[
            "elastiflow.conf:9: ",
            "RESOLVE_IP2HOST=exporters -> enrich.dns.names"
        ]
    ));
    assert!(has(
        &report.left,
        &["elastiflow.conf:15: ", "ELASTIFLOW_ES_PASSWD: not needed"]
    ));
    assert!(has(&report.left, &["store.retention"]));
    assert!(report.odd.is_empty(), "{report:?}");
    assert!(
        !format!("{report:?}").contains("open-sesame"),
        "no password is told"
    );
}

#[test]
fn only_what_differs_from_the_defaults_is_written() {
    let (imported, config, _folder) = of(&[(
        "elastiflow.conf",
        "Environment=\"ELASTIFLOW_DNS_HIT_CACHE_SIZE=25000\"\n\
         Environment=\"ELASTIFLOW_GEOIP_LOOKUP=false\"\n\
         Environment=\"ELASTIFLOW_ASN_LOOKUP=false\"\n\
         Environment=\"ELASTIFLOW_RESOLVE_IP2HOST=false\"\n",
    )]);
    assert_eq!(config.enrich, config::Enrich::default());
    assert!(
        !imported.configuration.contains("enrich"),
        "{}",
        imported.configuration
    );
    assert!(has(
        &imported.report.taken,
        &["hits_max = 25000 (the default)"]
    ));
    let ports: Vec<_> = config.receive.listeners.iter().map(|it| it.port).collect();
    assert_eq!(ports, [2055, 6343, 4739], "its own defaults");
    assert_eq!(config.receive.tcp.listeners[0].port, 4739);
}

#[test]
fn each_mode_of_names_has_its_counterpart() {
    for (value, names) in [
        ("false", DnsNames::None),
        ("exporters", DnsNames::Exporters),
        ("endpoints", DnsNames::Endpoints),
        ("true", DnsNames::Both),
    ] {
        let line = format!("Environment=ELASTIFLOW_RESOLVE_IP2HOST={value}\n");
        let (_, config, _folder) = of(&[("elastiflow.conf", &line)]);
        assert_eq!(config.enrich.dns.names, names, "{value}");
    }
}

#[test]
fn the_inputs_of_conf_d_say_what_is_on() {
    let (Imported { report, .. }, config, _folder) = of(&[
        ("elastiflow.conf", SERVICE),
        ("conf.d/10_input_netflow_ipv4.logstash.conf", "input {}"),
        (
            "conf.d/10_input_netflow_ipv6.logstash.conf.disabled",
            "input {}",
        ),
        (
            "conf.d/10_input_sflow_ipv4.logstash.conf.disabled",
            "input {}",
        ),
    ]);
    let ports: Vec<_> = config.receive.listeners.iter().map(|it| it.port).collect();
    assert_eq!(ports, [9995]);
    assert!(config.receive.tcp.listeners.is_empty());
    assert!(
        has(
            &report.left,
            &[":22: ", "SFLOW_IPV4_PORT", "sflow_ipv4 is off"]
        ),
        "{report:?}"
    );
}

#[test]
fn types_and_rates_become_tables_of_exporters() {
    let (_, config, _folder) = of(&DICTIONARIES);
    let labels = &config.enrich.exporters;
    let kinds: Vec<_> = labels
        .iter()
        .map(|it| (it.source.to_string(), it.applications))
        .collect();
    let expected = [
        ("192.0.2.1/32".to_owned(), ApplicationType::CiscoNbar2),
        ("192.0.2.2/32".to_owned(), ApplicationType::Fortinet),
        ("192.0.2.3/32".to_owned(), ApplicationType::Velocloud),
    ];
    assert_eq!(kinds, expected);
    let rates = &config.decode.exporters;
    let rates: Vec<_> = rates
        .iter()
        .map(|it| (it.source.to_string(), it.sampling_rate, it.sampling_force))
        .collect();
    assert_eq!(
        rates,
        [
            ("192.0.2.1/32".to_owned(), 1024, false),
            ("2001:db8::1/128".to_owned(), 512, false)
        ]
    );
}

#[test]
fn names_and_addresses_become_files() {
    let (imported, config, _folder) = of(&DICTIONARIES);
    assert_eq!(
        config.enrich.interfaces,
        [Path::new("/etc/flowsluice/interfaces.csv")]
    );
    assert_eq!(
        contents(&imported, "interfaces.csv"),
        "exporter,if_index,name,alias,speed\n192.0.2.1,0,eth0,,\n192.0.2.1,3,eth3,,\n\
         2001:db8::1,7,\"ge-0/0/0, \"\"up\"\"\",,\n"
    );
    assert_eq!(
        config.enrich.applications,
        [Path::new("/etc/flowsluice/applications.csv")]
    );
    assert_eq!(
        contents(&imported, "applications.csv"),
        "address,ports,protocol,application\n192.0.2.1,5601,,kibana\n2001:db8::1,443,,portal\n"
    );
    assert_eq!(
        config.enrich.threats_whitelist,
        [Path::new("/etc/flowsluice/threats_whitelist.txt")]
    );
    assert_eq!(contents(&imported, "threats_whitelist.txt"), "1.1.1.1\n");
    let report = &imported.report;
    assert!(
        has(
            &report.taken,
            &["app_id.srctype.yml:3: 192.0.2.2: fortinet"]
        ),
        "{report:?}"
    );
    assert!(has(
        &report.taken,
        &["ifName.yml:1: to line 3: 3 of 3 entries -> interfaces.csv"]
    ));
    assert!(has(&report.left, &["enrich.application_ids"]));
    assert!(report.odd.is_empty(), "{report:?}");
    let ports: Vec<_> = config.receive.listeners.iter().map(|it| it.port).collect();
    assert_eq!(
        ports,
        [2055, 4739, 6343, 9995],
        "without variables the defaults stay"
    );
}

#[test]
fn a_default_type_is_of_every_exporter_that_is_not_listed() {
    let (_, config, _folder) = of(&[
        (
            "elastiflow.conf",
            "Environment=ELASTIFLOW_DEFAULT_APPID_SRCTYPE=fortinet\n",
        ),
        ("app_id.srctype.yml", "\"192.0.2.1\": \"cisco_nbar2\"\n"),
    ]);
    let labels = &config.enrich.exporters;
    let kinds: Vec<_> = labels
        .iter()
        .map(|it| (it.source.to_string(), it.applications))
        .collect();
    let expected = [
        ("0.0.0.0/0".to_owned(), ApplicationType::Fortinet),
        ("::/0".to_owned(), ApplicationType::Fortinet),
        ("192.0.2.1/32".to_owned(), ApplicationType::CiscoNbar2),
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn what_cannot_be_read_is_told_with_its_line_and_the_rest_is_taken() {
    let (imported, config, _folder) = of(&[
        (
            "sampling_interval.yml",
            "\"router1\": 1024\n\"192.0.2.1\": often\n\"192.0.2.2\": [1]\n\
             \"192.0.2.3\": 0\n\"192.0.2.4\": 8\n",
        ),
        (
            "ifName.yml",
            "\"192.0.2.1:1\": \"eth0\"\n\"192.0.2.1::ifName.x\": \"eth0\"\n\
             \"192.0.2.1::ifName.1\": \"a\\tb\"\n",
        ),
        ("applications.yml", "\"192.0.2.1:99999\": \"x\"\n\"a: b\n"),
        ("app_id.srctype.yml", "\"192.0.2.1\": \"sonicwall\"\n"),
        (
            "elastiflow.conf",
            "Environment=ELASTIFLOW_SFLOW_IPV4_PORT=70000\n\
             Environment=ELASTIFLOW_NAMESERVER=dns1\n",
        ),
    ]);
    let rates = &config.decode.exporters;
    assert!(rates.len() == 1 && rates[0].sampling_rate == 8, "{rates:?}");
    let odd = &imported.report.odd;
    for parts in [
        ["sampling_interval.yml:1: ", "router1"],
        ["sampling_interval.yml:2: ", "often"],
        ["sampling_interval.yml:3: ", "no plain value"],
        ["sampling_interval.yml:4: ", "sampling rate"],
        ["ifName.yml:1: ", "::ifName."],
        ["ifName.yml:2: ", "::ifName."],
        ["ifName.yml:3: ", "no name"],
        ["applications.yml:", "cannot be read"],
        ["app_id.srctype.yml:1: ", "sonicwall"],
        ["elastiflow.conf:1: ", "70000"],
        ["elastiflow.conf:2: ", "dns1"],
    ] {
        assert!(has(odd, &parts), "{parts:?} in {odd:#?}");
    }
    assert_eq!(odd.len(), 11, "{odd:#?}");
    assert!(
        imported.files.is_empty(),
        "a file without entries is not written"
    );
}

#[test]
fn of_two_entries_the_last_counts_and_that_is_told() {
    let (imported, config, _folder) = of(&[
        ("dictionaries/sampling_interval.yml", "\"192.0.2.1\": 2\n"),
        (
            "user_settings/sampling_interval.yml",
            "# none\n\"192.0.2.1\": 4\n\"192.0.2.1\": 8\n",
        ),
    ]);
    let rates = &config.decode.exporters;
    assert!(rates.len() == 1 && rates[0].sampling_rate == 8, "{rates:?}");
    assert!(has(
        &imported.report.left,
        &["sampling_interval.yml:1: ", "is there again"]
    ));
    assert!(has(
        &imported.report.left,
        &["sampling_interval.yml:2: ", ":3, which counts"]
    ));
}

#[test]
fn files_without_counterpart_are_told_and_files_of_comments_are_nothing() {
    let (imported, config, _folder) = of(&[
        ("user_settings/ifName.yml", "# nothing yet\n"),
        ("dictionaries/app_id.yml", "\"fortinet__0..1\": \"x\"\n"),
        ("own.yml", "a: b\n"),
        ("geoipdbs/GeoLite2-City.mmdb", "x"),
    ]);
    assert_eq!(config, Config::default());
    let left = &imported.report.left;
    assert!(has(left, &["app_id.yml: not needed"]), "{left:?}");
    assert!(has(left, &["own.yml: not read"]), "{left:?}");
}

#[test]
fn a_folder_without_anything_of_elastiflow_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = import(&[folder.path().to_owned()], Path::new("/x")).unwrap_err();
    assert!(error.to_string().contains("user_settings"), "{error}");
    let error = import(&[folder.path().join("none")], Path::new("/x")).unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
}
