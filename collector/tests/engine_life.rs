//! The process of the embedded ClickHouse: how it starts, ends, is killed and comes back.

mod engine;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine::{BINARY, START_MAX, TABLES, ask, config, library, run, started, within};
use flowsluice::config::Store;
use flowsluice::store::embedded::{self, Engine};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    set_capabilities,
};

fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

fn kill(pid: u32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
fn killed_child_comes_back_on_the_same_port_with_its_data() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let engine = started(&config(library, home.path()));
    let writer = engine.endpoint();
    for sql in TABLES {
        run(&writer, sql);
    }
    run(
        &writer,
        "INSERT INTO flowsluice.flows SELECT now(), 1 FROM numbers(10)",
    );
    let first = engine.pid().unwrap();
    kill(first);
    assert!(within(Duration::from_secs(30), || !engine.is_ready()));
    assert!(engine.wait_ready(START_MAX));
    assert_eq!(engine.restarts(), 1);
    assert_ne!(engine.pid(), Some(first));
    assert_eq!(engine.endpoint().url, writer.url);
    assert_eq!(
        run(&writer, "SELECT sum(bytes) FROM flowsluice.flows"),
        "10\n"
    );
}

#[test]
fn stopped_engine_leaves_no_process_and_starts_again_with_its_data_and_passwords() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let config = config(library, home.path());
    let engine = started(&config);
    let reader = engine.reader();
    for sql in TABLES {
        run(&engine.endpoint(), sql);
    }
    run(
        &engine.endpoint(),
        "INSERT INTO flowsluice.flows SELECT now(), 5",
    );
    let pid = engine.pid().unwrap();
    engine.stop();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    let engine = started(&config);
    assert_eq!(engine.reader().password, reader.password);
    let sum = "SELECT sum(bytes) FROM flowsluice.flows";
    assert_eq!(run(&engine.reader(), sum), "5\n");
}

#[test]
fn stopping_is_quick_while_a_client_asks_and_another_one_keeps_its_connection() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let engine = started(&config(library, home.path()));
    let writer = engine.endpoint();
    let mut idle = TcpStream::connect(writer.url.strip_prefix("http://").unwrap()).unwrap();
    idle.write_all(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    idle.read_exact(&mut [0; 12]).unwrap();
    let asking = std::thread::spawn(move || {
        let endless = "SELECT count() FROM system.numbers WHERE NOT ignore(number)";
        ask(&writer, endless).0
    });
    let running = "SELECT count() FROM system.processes WHERE user = 'writer'";
    assert!(within(Duration::from_secs(30), || run(
        &engine.reader(),
        running
    ) != "0\n"));
    let pid = engine.pid().unwrap();
    let began = Instant::now();
    engine.stop();
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert_ne!(asking.join().unwrap(), 200);
}

#[test]
fn engine_is_found_by_another_process_only_while_it_runs() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let config = config(library, home.path());
    let nothing = embedded::running(&config).unwrap_err().to_string();
    assert!(nothing.contains("no embedded ClickHouse runs"), "{nothing}");
    let engine = started(&config);
    let found = embedded::running(&config).unwrap();
    assert_eq!(
        (found.url.as_str(), found.user.as_str()),
        (engine.reader().url.as_str(), "reader")
    );
    assert_eq!(run(&found, "SELECT currentUser()"), "reader\n");
    engine.stop();
    let nothing = embedded::running(&config).unwrap_err().to_string();
    assert!(nothing.contains("no embedded ClickHouse runs"), "{nothing}");
}

#[test]
fn second_engine_in_the_same_folder_and_taken_port_are_refused_with_a_remedy() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let mut config = config(library, home.path());
    let engine = started(&config);
    let refused = |config: &Store| {
        let error = Engine::start_with(config, Path::new(BINARY)).unwrap_err();
        format!("{error:#}")
    };
    let error = refused(&config);
    assert!(error.contains("store.embedded.data_dir"), "{error}");
    assert!(error.contains("in use by another collector"), "{error}");
    config.embedded.data_dir = home.path().join("other");
    let url = engine.endpoint().url;
    config.embedded.http = url.strip_prefix("http://").unwrap().parse().unwrap();
    let error = refused(&config);
    assert!(error.contains("is taken by another program"), "{error}");
    assert!(error.contains(&config.embedded.http.to_string()), "{error}");
    assert!(engine.is_ready());
}

/// Another process that holds an engine; this test binary itself, see [`holds_an_engine`].
struct Holder {
    process: Child,
    engine: u32,
}

impl Holder {
    fn start(library: &Path, folder: &Path) -> Self {
        let noted = folder.join("pid");
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "holds_an_engine", "--ignored"])
            .env("HOLD_ENGINE_IN", folder)
            .env("FLOWSLUICE_LIBCHDB", library)
            .env("FLOWSLUICE_STORE_PASSWORD", "secret")
            .env("NOTIFY_SOCKET", "/run/systemd/notify")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut engine = None;
        let read = within(START_MAX, || {
            let text = std::fs::read_to_string(&noted).unwrap_or_default();
            engine = text.strip_suffix('\n').map(|pid| pid.parse().unwrap());
            engine.is_some()
        });
        assert!(read, "the other process did not start its engine");
        Self {
            process,
            engine: engine.unwrap(),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// As a unit with AmbientCapabilities has it, so that there is something to inherit. Only for root.
fn have_ambient_capability() {
    let had = capabilities(None).unwrap();
    let inheritable = CapabilitySet::NET_RAW;
    if had.permitted.contains(inheritable) {
        set_capabilities(None, CapabilitySets { inheritable, ..had }).unwrap();
        configure_capability_in_ambient_set(CapabilitySet::NET_RAW, true).unwrap();
    }
}

/// Not a test: what [`Holder`] runs.
#[test]
#[ignore = "the other process of other tests"]
fn holds_an_engine() {
    let Some(folder) = std::env::var_os("HOLD_ENGINE_IN").map(PathBuf::from) else {
        return;
    };
    core_affinity::set_for_current(core_affinity::CoreId { id: 0 });
    have_ambient_capability();
    let engine = started(&config(library().unwrap(), &folder));
    let noted = format!("{}\n", engine.pid().unwrap());
    std::fs::write(folder.join("pid"), noted).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn child_does_not_outlive_a_killed_parent() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let mut holder = Holder::start(&library, home.path());
    assert!(is_alive(holder.engine));
    holder.process.kill().unwrap();
    holder.process.wait().unwrap();
    assert!(within(Duration::from_secs(30), || !is_alive(holder.engine)));
    // A collector that is started again at once gets the folder.
    let engine = started(&config(library, home.path()));
    engine.stop();
}

const ENDLESS: &str = "--query=SELECT sleepEachRow(1) FROM system.numbers \
                       SETTINGS max_block_size = 1 FORMAT Null";

#[test]
fn engine_child_ends_when_its_standard_input_does() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(BINARY)
        .args(["engine", "--library"])
        .arg(library)
        .args(["--", ENDLESS])
        .current_dir(home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    drop(child.stdin.take());
    let mut status = None;
    let ended = within(Duration::from_secs(30), || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let _ = child.kill();
    assert!(ended);
    assert_eq!(status.unwrap().code(), Some(3));
}

#[test]
fn child_inherits_neither_cpus_nor_environment_nor_privileges_nor_group() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let holder = Holder::start(&library, home.path());
    let of = |pid: u32, file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
    let text = |pid, file: &str| String::from_utf8_lossy(&of(pid, file)).into_owned();
    let field = |pid, name: &str| {
        let status = text(pid, "status");
        let mut lines = status.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    };
    let cpus = field(std::process::id(), "Cpus_allowed_list:");
    assert_eq!(field(holder.engine, "Cpus_allowed_list:"), cpus);
    assert_eq!(field(holder.engine, "NoNewPrivs:").as_deref(), Some("1"));
    for name in ["CapAmb:", "CapInh:"] {
        let none = Some("0000000000000000");
        assert_eq!(field(holder.engine, name).as_deref(), none, "{name}");
    }
    assert_eq!(text(holder.engine, "oom_score_adj").trim(), "300");
    let environment = text(holder.engine, "environ");
    assert!(environment.contains("TZ=UTC"));
    for name in ["NOTIFY_SOCKET", "FLOWSLUICE_STORE_PASSWORD"] {
        assert!(!environment.contains(name), "{name} is inherited");
    }
    // Field 5 of stat(5), behind the name in parentheses, is the process group.
    let stat = text(holder.engine, "stat");
    let group = stat.rsplit(')').next().unwrap().split(' ').nth(3);
    assert_eq!(group, Some(holder.engine.to_string().as_str()));
}

#[test]
fn child_inherits_no_socket_even_when_it_lacks_cloexec() {
    use std::os::fd::AsFd;
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&socket.as_fd())
        .set_cloexec(false)
        .unwrap();
    let port = socket.local_addr().unwrap().port();
    let engine = started(&config(library, home.path()));
    drop(socket);
    let bound = TcpListener::bind(("127.0.0.1", port));
    assert!(bound.is_ok(), "the child still holds the socket");
    drop(engine);
}

#[test]
fn child_that_cannot_start_is_tried_again_and_stopping_does_not_hang() {
    let Some(_) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let fake = home.path().join("libchdb.so");
    std::fs::write(&fake, "not a library").unwrap();
    let engine = Engine::start_with(&config(fake, home.path()), Path::new(BINARY)).unwrap();
    assert!(within(Duration::from_secs(30), || engine.restarts() >= 2));
    assert!(!engine.is_ready());
    let began = Instant::now();
    engine.stop();
    assert!(began.elapsed() < Duration::from_secs(3));
}
