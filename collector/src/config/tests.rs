//! What the operator reads: the messages of bad files, word for word, and the documented file.

use super::documented::DOCUMENTED;
use super::*;

fn errors(text: &str) -> String {
    parse("f.toml", text).unwrap_err().to_string()
}

/// A file with its commented keys made real: `#key = ...`, with `examples` also `##key = ...`.
pub(super) fn uncommented(file: &str, examples: bool) -> String {
    let begins_key =
        |rest: &str| rest.starts_with("[[") || rest.starts_with(|c: char| c.is_ascii_lowercase());
    let line = |line: &str| match (line.strip_prefix("##"), line.strip_prefix('#')) {
        (Some(rest), _) if examples => rest.to_owned(),
        (Some(_), _) => String::new(),
        (None, Some(rest)) if begins_key(rest) => rest.to_owned(),
        _ => line.to_owned(),
    };
    file.lines().map(|text| line(text) + "\n").collect()
}

#[test]
fn an_empty_file_and_the_documented_one_are_the_defaults() {
    assert_eq!(parse("f.toml", "").unwrap(), Config::default());
    assert_eq!(parse("f.toml", DOCUMENTED).unwrap(), Config::default());
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let text = uncommented(DOCUMENTED, false);
    assert!(text.contains("\nworkers = 0\n"), "the keys are uncommented");
    assert_eq!(parse("f.toml", &text).unwrap(), Config::default());
}

#[test]
fn every_key_is_documented_and_every_example_has_the_right_type() {
    let text = uncommented(DOCUMENTED, true);
    let table: toml::Table = text.parse().unwrap();
    for key in keys::all() {
        let mut place = toml::Value::Table(table.clone());
        for step in key.path.split('.') {
            let name = step.trim_end_matches("[]");
            let inner = place.get(name).cloned();
            place = inner.unwrap_or_else(|| panic!("{} is not in the documented file", key.path));
            if step.ends_with("[]") {
                place = place[0].clone();
            }
        }
    }
    // Together the examples contradict each other; none may be of the wrong type.
    let told = errors(&text);
    assert!(!told.contains("found"), "{told}");
}

#[test]
fn what_check_prints_is_read_back_to_the_same_values() {
    let mut config = Config::default();
    config.receive.datagram_max = ByteSize::b(1500);
    config.receive.cpus = vec![3, 1];
    config.receive.listeners[1].protocols = vec![Protocol::Ipfix];
    config.decode.extra = ["9.*", "0.148", "4000000.7"]
        .map(|text| text.parse().unwrap())
        .into();
    config.batch.age_max = Duration::from_millis(1500);
    config.store.retention = Duration::from_secs(90 * 86_400);
    config.store.url = Some("https://db:8443".into());
    config.log.format = LogFormat::Json;
    let text = display::toml(&config);
    assert_eq!(parse("f.toml", &text).unwrap(), config, "{text}");
}

#[test]
fn a_size_is_printed_in_the_unit_that_it_was_given_in() {
    for text in [
        "4TB", "4TiB", "500GB", "1536GiB", "64MB", "64MiB", "1kB", "1000KiB", "999B",
    ] {
        let size: ByteSize = text.parse().unwrap();
        assert_eq!(display::bytes(size), text);
    }
}

#[test]
fn a_password_is_never_printed() {
    let config = parse(
        "f.toml",
        "[store]\nurl = \"http://db\"\npassword = \"hunter2\"\n",
    )
    .unwrap();
    for text in [display::toml(&config), format!("{config:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("********"), "{text}");
    }
    for bad in [
        "[store]\nurl = \"http://db\"\npassword = 20232\n",
        "[store]\nurl = \"http://me:20232@db:8123\"\n",
        "[store]\nurl = \"tcp://me:20232@db:8123\"\n",
        "[store]\nurl = \"http://db\"\npassword = \"20232\nuser = \"me\"\n",
        "[store]\npassword = 20232abc\n",
        "[store]\npassword = [\"20232\"]\n",
    ] {
        let told = errors(bad);
        assert!(!told.contains("20232"), "{told}");
    }
}

#[test]
fn an_unknown_key_is_told_with_its_line_its_neighbours_and_the_likely_one() {
    assert_eq!(
        errors("[receive]\nworkerz = 4\n\n[batch]\nsize = 3\n"),
        "f.toml:2: receive.workerz: unknown key; did you mean 'workers'? allowed: mode, workers, \
         cpus, pin, listeners, socket_buffer, datagram_max, burst, share, gro, allow, limit, tee, \
         xdp, tcp\n\
         f.toml:5: batch.size: unknown key; allowed: rows_max, age_max, per_worker"
    );
    assert_eq!(
        errors("[recieve]\nworkers = 4\n"),
        "f.toml:1: recieve: unknown key; did you mean 'receive'? allowed: receive, decode, enrich, \
         batch, store, http, log"
    );
}

#[test]
fn a_key_in_the_wrong_table_is_told_its_place() {
    assert_eq!(
        errors("[store]\ndata_dir = \"/srv\"\n"),
        "f.toml:2: store.data_dir: unknown key; it belongs under [store.embedded]; allowed: \
         kind, url, urls, failback_after, cluster, database, user, password, password_file, \
         retention, queue_max, compression, inserts, insert_timeout, stop_timeout, tls, embedded, \
         spool, partition, profile, retention_of, budget"
    );
}

#[test]
fn values_of_the_wrong_type_are_all_told_with_what_was_found() {
    let text = "[receive]\n\
                mode = \"fast\"\n\
                workers = -1\n\
                cpus = [\"a\"]\n\
                socket_buffer = 65536\n\
                [batch]\n\
                age_max = \"soon\"\n\
                [store]\n\
                embedded = true\n\
                [http]\n\
                listen = \"localhost\"\n";
    assert_eq!(
        errors(text),
        "f.toml:2: receive.mode: found \"fast\"; allowed: \"auto\" or \"af_xdp\" or \
         \"io_uring\" or \"recvmmsg\"\n\
         f.toml:3: receive.workers: found -1; allowed: a whole number, 0 or more\n\
         f.toml:4: receive.cpus: found [\"a\"]; allowed: a list of whole numbers, such as [2, 3]\n\
         f.toml:5: receive.socket_buffer: found 65536; allowed: a size with its unit, such as \
         \"64MiB\"\n\
         f.toml:7: batch.age_max: found \"soon\"; allowed: a time with its unit, such as \"30s\" \
         or \"30days\"\n\
         f.toml:9: store.embedded: found true; allowed: a table, written [name]\n\
         f.toml:11: http.listen: found \"localhost\"; allowed: an address with a port, such as \
         \"127.0.0.1:8123\""
    );
}

#[test]
fn mistakes_in_a_listener_are_told_with_its_index() {
    let text = "[[receive.listeners]]\n\
                port = 2055\n\
                [[receive.listeners]]\n\
                adress = \"::1\"\n\
                protocols = [\"netflow\"]\n";
    assert_eq!(
        errors(text),
        "f.toml:3: receive.listeners[1].port: missing; allowed: a port, 1 to 65535\n\
         f.toml:4: receive.listeners[1].adress: unknown key; did you mean 'address'? allowed: \
         address, port, protocols\n\
         f.toml:5: receive.listeners[1].protocols: found [\"netflow\"]; allowed: a list of \
         \"netflow1\", \"netflow5\", \"netflow7\", \"netflow9\", \"ipfix\", \"sflow5\""
    );
    assert_eq!(
        errors("receive.listeners = [2055]\n"),
        "f.toml:1: receive.listeners[0]: found 2055; allowed: tables, each written [[name]]"
    );
}

#[test]
fn values_without_meaning_are_all_told() {
    let text = "[receive]\n\
                burst = 0\n\
                datagram_max = \"100B\"\n\
                cpus = [1, 1]\n\
                [batch]\n\
                rows_max = 2000000\n\
                age_max = \"0s\"\n\
                per_worker = 1\n\
                [decode]\n\
                protocols = []\n\
                [store]\n\
                retention = \"10min\"\n\
                [log]\n\
                level = \"inof\"\n";
    assert_eq!(
        errors(text),
        "f.toml:2: receive.burst: found 0; allowed: 1 to 4096\n\
         f.toml:3: receive.datagram_max: found 100B; allowed: 576B to 65535B\n\
         f.toml:4: receive.cpus: cpu 1 is named twice; give each worker its own\n\
         f.toml:6: batch.rows_max: found 2000000; allowed: 1 to 1048576\n\
         f.toml:7: batch.age_max: found 0s; allowed: 10ms to 1h\n\
         f.toml:8: batch.per_worker: found 1; allowed: 2 to 256\n\
         f.toml:10: decode.protocols: empty, so every datagram would be dropped; name at least \
         one protocol, or leave the key away for all of them\n\
         f.toml:12: store.retention: found 10m; allowed: 1h to 20000days\n\
         f.toml:14: log.level: found \"inof\"; allowed: error, warn, info, debug, trace, off, or \
         a filter such as \"info,flowsluice::store=debug\""
    );
}

#[test]
fn listeners_that_cannot_both_be_are_told() {
    let text = "[decode]\n\
                protocols = [\"ipfix\"]\n\
                [[receive.listeners]]\n\
                port = 2055\n\
                protocols = [\"sflow5\"]\n\
                [[receive.listeners]]\n\
                address = \"0.0.0.0\"\n\
                port = 2055\n\
                [[receive.listeners]]\n\
                port = 2055\n";
    assert_eq!(
        errors(text),
        "f.toml:5: receive.listeners[0].protocols: \"sflow5\" is off for all ports; add it to \
         decode.protocols or remove it here\n\
         f.toml:10: receive.listeners[2].port: [::]:2055 is listed twice; remove one of the two"
    );
    assert_eq!(
        errors("[receive]\nlisteners = []\n"),
        "f.toml:2: receive.listeners: no listener, so nothing can arrive; add \
         [[receive.listeners]] with a port, or leave receive.listeners away for 2055, 4739, 6343 \
         and 9995"
    );
}

#[test]
fn a_server_and_the_embedded_clickhouse_exclude_each_other() {
    let text = "[store]\n\
                url = \"clickhouse:8123\"\n\
                password = \"a\"\n\
                password_file = \"/b\"\n\
                [store.embedded]\n\
                data_dir = \"srv\"\n";
    assert_eq!(
        errors(text),
        "f.toml:2: store.url: found \"clickhouse:8123\"; allowed: \"http://host:8123\" or \
         \"https://host:8443\"\n\
         f.toml:2: store.url: a server is named and [store.embedded] is set; remove \
         [store.embedded] to use the server, or store.url to use the embedded ClickHouse\n\
         f.toml:3: store.password: store.password and store.password_file are both set; remove \
         one of them\n\
         f.toml:6: store.embedded.data_dir: found \"srv\"; allowed: an absolute path, so that it \
         means the same from everywhere"
    );
    assert_eq!(
        errors("[store]\nuser = \"me\"\n"),
        "f.toml:2: store.user: set, but there is no store.url: the embedded ClickHouse makes its \
         own users; add store.url or remove this key"
    );
}

#[test]
fn merged_datagrams_need_a_receive_loop_that_takes_them_apart() {
    assert!(parse("f.toml", "[receive]\nmode = \"recvmmsg\"\ngro = true\n").is_ok());
    assert_eq!(
        errors("[receive]\ngro = true\n"),
        "f.toml:2: receive.gro: true, but receive.mode is \"auto\", which does not take merged \
         datagrams; set receive.mode = \"recvmmsg\" or remove receive.gro"
    );
}

#[test]
fn a_kind_of_store_that_contradicts_the_other_keys_is_told() {
    assert_eq!(
        errors("[store]\nretention = \"1days\"\nkind = \"server\"\n"),
        "f.toml:3: store.kind: \"server\" needs store.url; add it, or take \"embedded\""
    );
    assert_eq!(
        errors("[store]\nkind = \"embedded\"\nurl = \"http://db\"\n"),
        "f.toml:2: store.kind: \"embedded\" and store.url are both set; remove store.url to use \
         the embedded ClickHouse, or store.kind to use the server"
    );
    assert_eq!(
        errors("[store]\nkind = \"none\"\n"),
        "f.toml:2: store.kind: found \"none\"; allowed: \"auto\" or \"embedded\" or \"server\" \
         or \"null\""
    );
}

#[test]
fn the_kind_and_the_address_decide_where_rows_go() {
    let target = |keys: &str| {
        let config = parse("f.toml", &format!("[store]\n{keys}")).unwrap();
        format!("{:?}", config.store.target())
    };
    assert_eq!(target(""), "Embedded");
    assert_eq!(target("kind = \"embedded\"\n"), "Embedded");
    let url = "url = \"http://db\"\n";
    assert_eq!(target(url), "Server(\"http://db\")");
    let server = format!("kind = \"server\"\n{url}");
    assert_eq!(target(&server), "Server(\"http://db\")");
    // Switched on in a configuration of either store, the null store takes its keys along.
    let null = "kind = \"null\"\n";
    assert_eq!(target(null), "Null");
    assert_eq!(target(&format!("{null}{url}password = \"a\"\n")), "Null");
    let embedded = "[store.embedded]\nhttp = \"127.0.0.1:9190\"\n";
    assert_eq!(target(&format!("{null}{embedded}")), "Null");
}

#[test]
fn a_clash_of_ports_is_told_at_the_key_that_the_file_has() {
    assert_eq!(
        errors("[store.embedded]\nhttp = \"0.0.0.0:9190\"\n"),
        "f.toml:2: http.listen: 127.0.0.1:9190 is also store.embedded.http; give each its own \
         port"
    );
    assert!(parse("f.toml", "[store.embedded]\nhttp = \"127.0.0.2:9190\"\n").is_ok());
}

#[test]
fn what_is_wrong_with_exporters_that_the_operator_knows_better_is_told() {
    let text = "[decode]\n\
                state_dir = \"state\"\n\
                [[decode.exporters]]\n\
                source = \"192.0.2.0/24\"\n\
                sampling_force = true\n\
                [[decode.exporters]]\n\
                source = \"192.0.2.9/24\"\n";
    assert_eq!(
        errors(text),
        "f.toml:2: decode.state_dir: found \"state\"; allowed: an absolute path, so that it means \
         the same from everywhere\n\
         f.toml:5: decode.exporters[0].sampling_force: true, but sampling_rate names none; set it \
         beside, or remove this\n\
         f.toml:7: decode.exporters[1].source: 192.0.2.0/24 is listed twice; remove one of the two"
    );
    assert!(parse("f.toml", "[decode]\nstate_dir = \"\"\n").is_ok());
}

#[test]
fn types_and_meaning_are_told_together() {
    let told = errors("[receive]\nworkerz = 1\nburst = 9999\npin = 1\n");
    assert_eq!(told.lines().count(), 3, "{told}");
}

#[test]
fn an_element_that_nobody_knows_by_its_name_is_told() {
    let text = "[decode]\n\
                extra = [\n\
                \"flowId\",\n\
                \"flow_id\", 7,\n\
                ]\n";
    let allowed = "allowed: \"PEN.id\", \"PEN.name\", \"PEN.*\", the name of one of IANA's, or \
                   \"*\" for all; write one that no list names as \"PEN.id\"";
    assert_eq!(
        errors(text),
        format!(
            "f.toml:4: decode.extra[1]: found \"flow_id\"; {allowed}\n\
             f.toml:4: decode.extra[2]: found 7; {allowed}"
        )
    );
    assert_eq!(
        errors("[decode]\nextra = \"*\"\n"),
        format!(
            "f.toml:2: decode.extra: found \"*\"; allowed: a list of elements, each {}",
            &allowed["allowed: ".len()..]
        )
    );
}

#[test]
fn rollups_are_kept_longer_than_flows_unless_the_file_says_otherwise() {
    let kept = |keys: &str, group| {
        let config = parse("f.toml", &format!("[store]\n{keys}")).unwrap();
        config.store.retention_of_group(group).as_secs() / 86_400
    };
    assert_eq!(kept("", Group::Flows), 30);
    assert_eq!(kept("", Group::RollupMinute), 90);
    assert_eq!(kept("", Group::RollupHour), 400);
    assert_eq!(kept("retention = \"2days\"\n", Group::Counters), 2);
    assert_eq!(kept("retention = \"500days\"\n", Group::RollupHour), 500);
    let keys = "[store.retention_of]\nrollup_hour = \"10days\"\nnames = \"1days\"\n";
    assert_eq!(kept(keys, Group::RollupHour), 10);
    assert_eq!(kept(keys, Group::Names), 1);
    let table = parse("f.toml", keys)
        .unwrap()
        .store
        .retention_for("rollup_hour_hosts");
    assert_eq!(table, Duration::from_secs(10 * 86_400));
}

#[test]
fn partitions_of_auto_cut_the_retention_into_small_steps() {
    let chosen = |keys: &str| {
        let config = parse("f.toml", &format!("[store]\n{keys}")).unwrap();
        config.store.partition_chosen().name()
    };
    assert_eq!(chosen(""), "day");
    assert_eq!(chosen("retention = \"14days\"\n"), "12hours");
    assert_eq!(chosen("retention = \"7days\"\n"), "6hours");
    assert_eq!(chosen("retention = \"2days\"\n"), "hour");
    assert_eq!(chosen("retention = \"1h\"\n"), "hour");
    assert_eq!(chosen("partition = \"3hours\"\n"), "3hours");
}

#[test]
fn what_makes_too_many_partitions_or_a_budget_that_holds_nothing_is_told() {
    assert_eq!(
        errors("[store]\nretention = \"365days\"\npartition = \"hour\"\n"),
        "f.toml:3: store.partition: \"hour\" cuts store.retention into 8760 partitions, of which \
         every query that reads many is slow; allowed: 3000; take a longer one or \"auto\""
    );
    assert_eq!(
        errors(
            "[store.retention_of]\nnames = \"5m\"\n\
             [store.budget]\nmax_bytes = \"10MiB\"\nevery = \"1ms\"\npaths = [\"spool\"]\n"
        ),
        "f.toml:2: store.retention_of.names: found 5m; allowed: 1h to 20000days\n\
         f.toml:4: store.budget.max_bytes: found 10MiB; allowed: 256MiB to 65536TiB\n\
         f.toml:5: store.budget.every: found 1ms; allowed: 1s to 1h\n\
         f.toml:6: store.budget.paths: found \"spool\"; allowed: an absolute path, so that it \
         means the same from everywhere"
    );
}

#[test]
fn sums_by_hour_are_kept_for_longer_than_what_they_are_folded_of() {
    let kept = |time: &str| format!("[store.retention_of]\nnames = \"1h\"\nrollup_hour = {time}\n");
    assert_eq!(
        errors(&kept("\"119h\"")),
        "f.toml:3: store.retention_of.rollup_hour: found 119h; allowed: 5days to 20000days, as \
         sums that are dropped sooner would be made again and again of what came in during the \
         last four days; raise it, or remove the key for 400 days"
    );
    assert!(parse("f.toml", &kept("\"120h\"")).is_ok());
}
