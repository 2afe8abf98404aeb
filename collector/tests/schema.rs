//! The schema in a real ClickHouse: two collectors at once, retention and settings that change
//! under rows, and the command that does it.

mod engine;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use engine::{BINARY, config, library, run, started, within};
use flowsluice::config::{Profile, Store};
use flowsluice::store::embedded::Engine;
use flowsluice::store::schema::{self, Plan, Wanted};
use flowsluice::store::{ClickHouse, Endpoint, Insert, clickhouse};
use tokio::runtime::Runtime;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// An engine with its configuration as a file.
struct Place {
    engine: Engine,
    config: Store,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Option<Self> {
        let library = library()?;
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(library, folder.path());
        // Machines that do much beside make sixty tables and views in more than half a minute.
        config.insert_timeout = Duration::from_secs(180);
        let engine = started(&config);
        Some(Self {
            engine,
            config,
            folder,
        })
    }

    fn writer(&self) -> Endpoint {
        self.engine.endpoint()
    }

    fn run(&self, sql: &str) -> String {
        run(&self.writer(), sql)
    }

    /// A file that names this engine, with further keys of `[store]`.
    fn file(&self, keys: &str) -> PathBuf {
        let path = self.folder.path().join("flowsluice.toml");
        let text = format!(
            "[store]\n{keys}\n[store.embedded]\ndata_dir = {:?}\n",
            self.config.embedded.data_dir
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `flowsluice schema ...` with a configuration of these keys.
    fn command(&self, arguments: &[&str], keys: &str) -> Output {
        let mut command = schema_command(&self.file(keys), arguments);
        command.output().unwrap()
    }

    fn apply(&self, config: &Store) -> Plan {
        let client = clickhouse::client(&self.writer());
        let wanted = Wanted::new(config);
        let applied = schema::apply(&client, "flowsluice", &wanted);
        runtime().block_on(applied).unwrap()
    }

    fn empty(&self) {
        self.run("DROP DATABASE IF EXISTS flowsluice SYNC");
    }

    /// Each migration once, every table, and nothing left to do.
    fn assert_whole(&self, round: usize) {
        let client = clickhouse::client(&self.writer());
        let wanted = Wanted::new(&self.config);
        let left = runtime().block_on(schema::plan(&client, "flowsluice", &wanted));
        assert_eq!(left.unwrap(), Plan::default(), "round {round}");
        let versions = self.run("SELECT uniqExact(version) FROM flowsluice.schema_migrations");
        assert_eq!(
            versions.trim(),
            schema::version().to_string(),
            "round {round}"
        );
        self.run("INSERT INTO flowsluice.flows (time_received) VALUES (now())");
    }
}

fn schema_command(file: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("schema").args(arguments);
    command.arg("--config").arg(file);
    command
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn said(output: &Output) -> (bool, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn collectors_that_start_at_once_make_one_schema() {
    let Some(place) = Place::new() else { return };
    for round in 0..6 {
        place.empty();
        let begin = Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let collector = ClickHouse::new(&place.writer(), &place.config);
                    begin.wait();
                    runtime().block_on(collector.prepare()).unwrap();
                });
            }
        });
        place.assert_whole(round);
    }
    // The same with processes.
    let file = place.file("");
    for round in 0..2 {
        place.empty();
        let both = [(); 2].map(|()| {
            let mut command = schema_command(&file, &["apply"]);
            let piped = command.stdout(std::process::Stdio::piped());
            piped.stderr(std::process::Stdio::piped()).spawn().unwrap()
        });
        for process in both {
            let (done, told) = said(&process.wait_with_output().unwrap());
            assert!(done, "{told}");
        }
        place.assert_whole(round);
    }
}

#[test]
fn a_schema_of_a_newer_version_is_refused_and_left_alone() {
    let Some(place) = Place::new() else { return };
    place.apply(&place.config);
    place.run("INSERT INTO flowsluice.schema_migrations (version, name) VALUES (9999, 'later')");
    let before = place.run("SELECT count() FROM flowsluice.schema_migrations");
    for arguments in [&["apply"][..], &["apply", "--dry-run"]] {
        let (done, told) = said(&place.command(arguments, "retention = \"5days\""));
        assert!(!done, "{told}");
        let expected = format!(
            "database flowsluice has schema 9999, this version knows {} at most; install the newer",
            schema::version()
        );
        assert!(told.contains(&expected), "{told}");
    }
    let kept = place.run("SELECT engine_full FROM system.tables WHERE name = 'flows'");
    assert!(kept.contains("toIntervalSecond(2592000)"), "{kept}");
    assert_eq!(
        place.run("SELECT count() FROM flowsluice.schema_migrations"),
        before
    );
}

#[test]
fn the_command_tells_what_it_would_do_then_does_it_then_has_nothing_to_do() {
    let Some(place) = Place::new() else { return };
    let (done, printed) = said(&place.command(&["print"], "partition = \"6hours\""));
    assert!(done, "{printed}");
    assert!(printed.contains("toStartOfInterval(time_received, toIntervalHour(6))"));
    assert!(!printed.contains('{'), "all is filled in: {printed}");

    let exists = "SELECT count() FROM system.databases WHERE name = 'flowsluice'";
    let (done, planned) = said(&place.command(&["apply", "--dry-run"], ""));
    assert!(done && planned.starts_with("CREATE DATABASE"), "{planned}");
    assert_eq!(place.run(exists), "0\n", "a dry run changes nothing");
    let (done, told) = said(&place.command(&["apply"], ""));
    assert!(
        done && told.starts_with("database flowsluice\nmigration 1, flows\n"),
        "{told}"
    );
    let again = said(&place.command(&["apply"], ""));
    let nothing = format!(
        "nothing to change: schema {}, as configured\n",
        schema::version()
    );
    assert_eq!(again, (true, nothing));

    // What was printed makes the same: ClickHouse finds everything there already.
    let (_, printed) = said(&place.command(&["print"], ""));
    let statements = printed.split(";\n").filter(|sql| !sql.trim().is_empty());
    for statement in statements {
        place.run(statement);
    }

    let keys = "retention = \"7days\"\nprofile = \"hdd\"\n\
                [store.retention_of]\ncounters = \"2days\"";
    let (done, planned) = said(&place.command(&["apply", "--dry-run"], keys));
    let ttl = "ALTER TABLE `flowsluice`.flows MODIFY TTL time_received + \
               toIntervalSecond(604800) SETTINGS alter_sync = 0;\n";
    assert!(done && planned.contains(ttl), "{planned}");
    let (done, told) = said(&place.command(&["apply"], keys));
    for line in [
        "flows: retention 30days -> 7days\n",
        "interface_counters: retention 30days -> 2days\n",
        "flows: min_bytes_for_wide_part 134217728 -> 536870912\n",
        "flows: max_bytes_to_merge_at_max_space_in_pool default -> 34359738368\n",
    ] {
        assert!(done && told.contains(line), "{line}{told}");
    }
    let (done, told) = said(&place.command(&["apply"], "retention = \"7days\""));
    let back = "flows: max_bytes_to_merge_at_max_space_in_pool 34359738368 -> default\n";
    assert!(done && told.contains(back), "{told}");
    assert!(!told.contains("flows: retention"), "{told}");
}

#[test]
fn partitions_are_as_long_as_configured_where_flows_is_made_and_refused_where_it_is_there() {
    let Some(place) = Place::new() else { return };
    let key = "SELECT partition_key FROM system.tables WHERE name = 'flows'";
    let (done, told) = said(&place.command(&["apply"], "partition = \"hour\""));
    assert!(done, "{told}");
    assert_eq!(place.run(key), "toStartOfHour(time_received)\n");
    let keys = "partition = \"day\"\nretention = \"9days\"";
    let (done, told) = said(&place.command(&["apply"], keys));
    assert!(!done, "{told}");
    assert!(
        told.contains("flows: retention 30days -> 9days\n"),
        "the rest is done: {told}"
    );
    let why = "store.partition: \"day\" is for a table that is made; flows has partitions by \
               toStartOfHour(time_received), which ClickHouse cannot alter; set \"auto\"";
    assert!(told.contains(why), "{told}");
    let (done, told) = said(&place.command(&["apply"], "retention = \"9days\""));
    assert!(done, "auto takes what is there: {told}");
}

#[test]
fn a_shorter_retention_drops_what_is_past_it_and_nothing_newer() {
    let Some(place) = Place::new() else { return };
    place.apply(&place.config);
    // Ten days back, 500 rows a day, three hours from the days' ends.
    place.run(
        "INSERT INTO flowsluice.flows (time_received, raw_bytes) \
         SELECT now() - intDiv(number, 500) * 86400, number FROM numbers(5000)",
    );
    place.run(
        "INSERT INTO flowsluice.interface_counters (time_received, source_index) \
         SELECT now() - intDiv(number, 500) * 86400, number FROM numbers(5000)",
    );
    let shorter = Store {
        retention: 5 * DAY,
        profile: Profile::Ssd,
        ..place.config.clone()
    };
    let mut of = shorter.clone();
    of.retention_of.counters = Some(20 * DAY);
    let plan = place.apply(&of);
    assert!(
        plan.changes()
            .any(|what| what == "flows: retention 30days -> 5days")
    );
    // Parts are dropped whole, so what shares a day with something newer may stay.
    let old = "SELECT count() FROM flowsluice.flows WHERE time_received < now() - 86400 * 6";
    let gone = within(Duration::from_secs(60), || place.run(old) == "0\n");
    let parts = "SELECT partition, name, active, rows, delete_ttl_info_max FROM system.parts \
                 WHERE table = 'flows' ORDER BY 1 FORMAT TSV";
    assert!(gone, "{}", place.run(parts));
    let newer = "SELECT countIf(raw_bytes < 2500) FROM flowsluice.flows";
    assert_eq!(place.run(newer), "2500\n", "{}", place.run(parts));
    let others = "SELECT count() FROM flowsluice.interface_counters";
    assert_eq!(place.run(others), "5000\n", "kept for longer");
}

#[test]
fn an_engine_for_rotating_disks_merges_less_at_once_and_reads_more() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(library, folder.path());
    config.profile = Profile::Hdd;
    let engine = started(&config);
    let runtime = runtime();
    let collector = ClickHouse::new(&engine.endpoint(), &config);
    runtime.block_on(collector.prepare()).unwrap();
    let sql = "SELECT value FROM system.settings WHERE name = 'max_read_buffer_size_local_fs'";
    assert_eq!(run(&engine.reader(), sql), "1048576\n");
    let sql = "SELECT toUInt64(value) * toUInt64((SELECT value FROM system.server_settings \
               WHERE name = 'background_merges_mutations_concurrency_ratio')) \
               FROM system.server_settings WHERE name = 'background_pool_size'";
    assert_eq!(run(&engine.endpoint(), sql), "2\n");
    // It knows that name, or merges would hold up inserts and questions.
    let sql = "SELECT value FROM system.server_settings \
               WHERE name = 'os_threads_nice_value_merge_mutate'";
    assert_eq!(run(&engine.endpoint(), sql), "5\n");
    let sql = "SELECT engine_full LIKE '%min_bytes_for_wide_part = 536870912%' \
               FROM system.tables WHERE name = 'flows'";
    assert_eq!(run(&engine.endpoint(), sql), "1\n");
}

#[test]
fn a_database_without_a_cluster_is_not_taken_for_one_with() {
    let Some(place) = Place::new() else { return };
    place.apply(&place.config);
    let client = clickhouse::client(&place.writer());
    let clustered = Store {
        url: Some(place.writer().url),
        cluster: Some("main".into()),
        ..place.config.clone()
    };
    let wanted = Wanted::new(&clustered);
    let plan = schema::apply(&client, "flowsluice", &wanted);
    let told = runtime().block_on(plan).unwrap_err().to_string();
    assert!(told.starts_with("flowsluice."), "{told}");
    let why = " was made without store.cluster; name another store.database, or set the key as it \
               was";
    assert!(told.ends_with(why), "{told}");
}

#[test]
fn a_dry_run_without_an_engine_makes_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let file = folder.path().join("flowsluice.toml");
    std::fs::write(
        &file,
        format!("[store.embedded]\ndata_dir = {data_dir:?}\n"),
    )
    .unwrap();
    let mut command = schema_command(&file, &["apply", "--dry-run"]);
    let (done, told) = said(&command.output().unwrap());
    let head = format!(
        "-- no database in {} yet: everything would be made\nCREATE DATABASE",
        data_dir.display()
    );
    assert!(done && told.starts_with(&head), "{told}");
    assert!(!data_dir.exists());
}

#[test]
fn each_server_of_several_that_share_nothing_is_asked_and_one_that_is_away_told_with_its_remedy() {
    let Some(place) = Place::new() else { return };
    let endpoint = place.writer();
    let away = "http://127.0.0.1:9";
    let password = place.folder.path().join("password");
    std::fs::write(&password, endpoint.password.reveal()).unwrap();
    let keys = format!(
        "[store]\nurls = [{away:?}, {:?}]\nuser = {:?}\npassword_file = {password:?}\n",
        endpoint.url, endpoint.user
    );
    let file = place.folder.path().join("servers.toml");
    std::fs::write(&file, keys).unwrap();
    let command = |arguments| said(&schema_command(&file, arguments).output().unwrap());
    let (done, told) = command(&["apply"][..]);
    assert!(!done, "{told}");
    let made = format!(
        "{away}:\n{}:\ndatabase flowsluice\nmigration 1, flows\n",
        endpoint.url
    );
    assert!(told.starts_with(&made), "{told}");
    assert!(
        told.contains(&format!("database flowsluice at {away}: ")),
        "{told}"
    );
    let remedy = "; see that ClickHouse runs and that store.url or store.urls is right\n";
    assert!(told.ends_with(remedy), "{told}");
    let (_, planned) = command(&["apply", "--dry-run"]);
    let nothing = format!("-- {}:\n-- nothing to change: schema ", endpoint.url);
    assert!(planned.contains(&nothing), "{planned}");
}

#[test]
fn an_engine_that_cannot_start_is_given_up_before_long() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let fake = folder.path().join("libchdb.so");
    std::fs::write(&fake, "not a library").unwrap();
    let file = folder.path().join("flowsluice.toml");
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = free.local_addr().unwrap().to_string();
    drop(free);
    let keys = format!("data_dir = {data_dir:?}\nlibrary = {fake:?}\nhttp = {http:?}\n");
    std::fs::write(&file, format!("[store.embedded]\n{keys}")).unwrap();
    let begun = Instant::now();
    let (done, told) = said(&schema_command(&file, &["apply"]).output().unwrap());
    let why = "the embedded ClickHouse does not answer; look into ";
    assert!(!done && told.contains(why), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(120), "{told}");
}
