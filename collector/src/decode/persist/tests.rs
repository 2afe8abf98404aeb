//! A file that is written is read to the same knowledge; one that is no such file does no harm.

use std::fs;
use std::net::Ipv4Addr;

use tempfile::TempDir;

use super::*;
use crate::decode::Wanted;
use crate::decode::sequence::{Held, Observation, SequenceState, SequenceUnit};
use crate::decode::shared::{Change, DomainKey, Known, Learned};
use crate::decode::template::{Dialect, Entries, Entry, Kind, Template};
use crate::flow::FlowType;
use crate::names::{SavedName, Subject};

const NOW_S: u32 = 1_800_000_000;

fn now() -> UnixNanos {
    UnixNanos(u64::from(NOW_S) * 1_000_000_000)
}

fn config(folder: &TempDir) -> config::Decode {
    config::Decode {
        state_dir: folder.path().join("state"),
        ..config::Decode::default()
    }
}

/// IPFIX, one field of four bytes, known since `age_s` seconds.
fn template(id: u16, age_s: u32) -> Template {
    let bytes = [id, 1, 1, 4].map(u16::to_be_bytes).concat();
    let entry = Entries::new(&bytes, Kind::Data, Dialect::Ipfix).next();
    let Some(Entry::Definition(definition)) = entry else {
        panic!("no template: {entry:?}");
    };
    let template = definition.compile(Wanted::NOTHING).unwrap();
    template.life.sent(NOW_S - age_s);
    template
}

fn key(host: u8) -> DomainKey {
    DomainKey {
        source: Ipv4Addr::new(192, 0, 2, host).into(),
        flow_type: FlowType::Ipfix,
        observation_domain: 7,
        session: 0,
    }
}

fn sequence() -> SequenceState {
    SequenceState {
        next: 77,
        unit: SequenceUnit::Records,
        uptime_ms: None,
        seen_ms: now().millis(),
    }
}

fn known(host: u8, changes: &[Change]) -> Known {
    let mut learned = Learned::default();
    changes.iter().for_each(|change| learned.apply(change));
    Known {
        key: key(host),
        learned: Arc::new(learned),
        last_seen: now(),
        has_flows: true,
        sequence: Some(sequence()),
    }
}

fn with_templates(host: u8, ages_s: &[u32]) -> Known {
    let templates = (256..).zip(ages_s).map(|(id, age_s)| template(id, *age_s));
    let changes = templates.map(|template| Change::Template(Arc::new(template)));
    known(host, &changes.collect::<Vec<_>>())
}

/// Writes `all` to the folder of `config`.
fn write(config: &config::Decode, all: Vec<Known>) {
    let shared = Arc::<Shared>::default();
    for one in all {
        assert!(shared.restore(one, false, 4096));
    }
    let keeper = Keeper::open(config, &shared, now()).unwrap();
    keeper.file.write(&shared, now(), true).unwrap();
}

fn read(config: &config::Decode) -> Arc<Shared> {
    let shared = Arc::<Shared>::default();
    assert!(Keeper::open(config, &shared, now()).is_some());
    shared
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let addr = Ipv4Addr::new(203, 0, 113, 9).into();
    let told = [
        Change::Template(Arc::new(template(256, 10))),
        Change::Template(Arc::new(template(65_535, 20))),
        Change::Rate(None, 100),
        Change::Rate(Some(u64::MAX), 200),
        Change::ExporterAddr(addr),
        Change::Boot(1_700_000_000_123),
    ];
    write(&config, vec![known(1, &told), with_templates(2, &[0])]);
    let shared = read(&config);
    assert_eq!(shared.templates(), 3);
    let all = shared.known();
    let one = all.iter().find(|known| known.key == key(1)).unwrap();
    assert_eq!((one.last_seen, one.has_flows), (now(), true));
    let learned = &one.learned;
    assert_eq!(learned.templates(), 2);
    assert_eq!(learned.sampling.of(u64::MAX), Some(200));
    assert_eq!(learned.sampling.plain(), Some(100));
    assert_eq!(learned.exporter_addr, addr);
    assert_eq!(learned.boot_ms, 1_700_000_000_123);
    assert_eq!(one.sequence, Some(sequence()));
    let again = learned.template(65_535).unwrap();
    assert_eq!(again.life.sent_s(), NOW_S - 20);
    assert_eq!(again.definition(), template(65_535, 0).definition());
    assert_eq!(again.plan, template(65_535, 0).plan);
    // The rate holds in all domains of the exporter.
    let other = DomainKey {
        observation_domain: 8,
        ..key(1)
    };
    let elsewhere = shared.register(other, now(), 4096).unwrap().elsewhere;
    assert_eq!(elsewhere.plain(), Some(100));
}

#[test]
fn templates_past_their_lifetime_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let day_s = 24 * 3600;
    write(
        &config,
        vec![
            with_templates(1, &[day_s, day_s + 1]),
            with_templates(2, &[day_s + 1]),
        ],
    );
    let shared = read(&config);
    assert_eq!(shared.templates(), 1);
    let known = shared.known();
    let other = known.iter().find(|known| known.key == key(2)).unwrap();
    assert!(other.learned.is_empty(), "its sequence numbers are left");
}

#[test]
fn bounds_hold_while_a_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let all = |hosts: u8| {
        (0..hosts)
            .map(|host| with_templates(host, &[0; 10]))
            .collect()
    };
    write(&config(&folder), all(20));
    let config = config::Decode {
        exporters_max: 10,
        templates_max: 25,
        templates_per_exporter_max: 4,
        ..config(&folder)
    };
    let shared = read(&config);
    assert_eq!(shared.templates(), 25);
    let known = shared.known();
    assert!(known.len() <= 10);
    assert!(known.iter().all(|known| known.learned.templates() <= 4));
}

#[test]
fn a_file_that_is_of_no_use_is_set_aside_and_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    write(&config, vec![with_templates(1, &[0])]);
    let path = config.state_dir.join(FILE);
    let good = fs::read(&path).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    let other_version = text.replacen("\"version\":1", "\"version\":2", 1);
    assert_ne!(other_version, text);
    let deep = "[".repeat(100_000);
    let odd_word = text.replacen("\"data\"", "\"\\u0007\\u001b[2J\"", 1);
    assert_ne!(odd_word, text);
    let bad: [(&[u8], &str); 8] = [
        (odd_word.as_bytes(), "unknown variant"),
        (b"", "not what this program writes"),
        (&good[..good.len() / 2], "not what this program writes"),
        (b"\x7fELF\0\0\0", "not what this program writes"),
        (b"{\"version\":1}", "missing field"),
        (
            b"{\"version\":1,\"saved_unix_s\":0,\"domains\":7}",
            "invalid type",
        ),
        (other_version.as_bytes(), "of version 2"),
        (deep.as_bytes(), "not what this program writes"),
    ];
    for (bytes, why) in bad {
        fs::write(&path, bytes).unwrap();
        let shared = Shared::default();
        let error = restore(&path, &config, &shared, now(), true).unwrap_err();
        let told = error.to_string();
        assert!(told.contains(why), "{told}");
        assert!(!told.contains(char::is_control), "it garbles {told:?}");
        assert_eq!(read(&config).templates(), 0);
        assert!(!path.exists(), "{why}");
        let aside = fs::read(path.with_extension("json.broken")).unwrap();
        assert_eq!(aside, bytes);
    }
}

#[test]
fn single_entries_that_make_no_sense_cost_only_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    write(&config, vec![with_templates(1, &[0, 0, 0])]);
    let path = config.state_dir.join(FILE);
    let text = fs::read_to_string(&path).unwrap();
    // A template of no field, and one with something behind it.
    let text = text.replacen("0100000100010004", "01000000", 1);
    let text = text.replacen("0101000100010004", "010100010001000400", 1);
    fs::write(&path, text).unwrap();
    assert_eq!(read(&config).templates(), 1);
    let odd = format!(
        "{{\"version\":1,\"saved_unix_s\":1,\"domains\":[\
         {{\"source\":\"192.0.2.1\",\"protocol\":\"sflow5\",\"observation_domain\":0,\
         \"last_seen_unix_s\":{NOW_S},\"templates\":[{{\"kind\":\"data\",\
         \"sent_unix_s\":{NOW_S},\"definition\":\"0101000100010004\"}}]}},\
         {{\"source\":\"::ffff:192.0.2.2\",\"protocol\":\"netflow9\",\"observation_domain\":0,\
         \"last_seen_unix_s\":4294967295,\"later\":[1,2],\"rates\":[[null,0],[3,7]]}}]}}"
    );
    fs::write(&path, odd).unwrap();
    let known = read(&config).known();
    assert_eq!(known.len(), 1, "a protocol without templates tells nothing");
    assert_eq!(known[0].key.source, Ipv4Addr::new(192, 0, 2, 2));
    assert_eq!(known[0].last_seen, now(), "not in the future");
    let rates: Vec<_> = known[0].learned.sampling.rates().collect();
    assert_eq!(rates, [(Some(3), 7)]);
}

#[test]
fn an_empty_name_and_a_folder_that_cannot_be_used_do_without() {
    let folder = tempfile::tempdir().unwrap();
    let open = |state_dir: PathBuf| {
        let config = config::Decode {
            state_dir,
            ..config::Decode::default()
        };
        Keeper::open(&config, &Arc::default(), now())
    };
    assert!(open(PathBuf::new()).is_none());
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(open(file.join("state")).is_none(), "a file is no folder");
    let first = open(folder.path().join("state"));
    assert!(first.is_some());
    assert!(
        open(folder.path().join("state")).is_none(),
        "another has it"
    );
    drop(first);
    assert!(open(folder.path().join("state")).is_some());
}

#[test]
fn a_document_is_final_until_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    write(&config, vec![with_templates(1, &[0])]);
    let path = config.state_dir.join(FILE);
    let is_final = || {
        let text = fs::read_to_string(&path).unwrap();
        text.contains("\"is_final\":true")
    };
    assert!(is_final());
    read(&config);
    assert!(!is_final());
    assert_eq!(read(&config).templates(), 1);
}

/// Numbers that are missing when an exporter goes on three numbers behind what the file says.
fn lost_before_the_start(config: &config::Decode) -> u64 {
    let shared = read(config);
    let (_, sequence) = shared.sequences().pop().unwrap();
    let observation = Observation {
        sequence: 80,
        records: Some(1),
        uptime_ms: None,
        source_port: 50_000,
        received: now(),
    };
    sequence.observe(&observation, &mut Held::default());
    sequence.finish();
    sequence.status().counts.lost
}

#[test]
fn what_is_missing_behind_a_file_was_lost_only_when_nothing_was_received_since() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    write(&config, vec![with_templates(1, &[0])]);
    assert_eq!(lost_before_the_start(&config), 3);
    // The second start comes after a run that did not end in order.
    assert_eq!(lost_before_the_start(&config), 0);
    write(&config, vec![with_templates(1, &[0])]);
    // Nor after one whose file could not be written, be it at the start.
    fs::create_dir(config.state_dir.join("exporters.json.new")).unwrap();
    assert_eq!(lost_before_the_start(&config), 3);
    assert_eq!(lost_before_the_start(&config), 0);
}

#[test]
fn a_keeper_writes_what_is_new_and_once_more_at_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let shared = Arc::<Shared>::default();
    let keeping = Keeper::open(&config, &shared, now())
        .unwrap()
        .keep()
        .unwrap();
    assert!(shared.restore(with_templates(1, &[0]), false, 4096));
    let path = config.state_dir.join(FILE);
    let begun = Instant::now();
    while !path.exists() && begun.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(10));
    }
    assert!(path.exists(), "the first change is written at once");
    assert!(shared.restore(with_templates(2, &[0]), false, 4096));
    keeping.stop();
    let path = path.to_str().unwrap();
    assert_eq!(
        fs::read_to_string(path).unwrap().matches("source").count(),
        2
    );
    assert!(!Path::new(&format!("{path}.new")).exists());
}

#[test]
fn names_outlast_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let name = SavedName {
        exporter: Ipv4Addr::new(192, 0, 2, 1).into(),
        observation_domain: 7,
        subject: Subject::Interface(3),
        name: "eth3".into(),
        description: "uplink".into(),
        last_seen_s: NOW_S,
    };
    let before = Arc::<Shared>::default();
    let keeping = Keeper::open(&config, &before, now()).unwrap();
    let keeping = keeping.keep().unwrap();
    before.names.import([name.clone()]);
    keeping.stop();
    let after = Arc::<Shared>::default();
    assert!(Keeper::open(&config, &after, now()).is_some());
    assert_eq!(after.names.export(), [name]);
}
