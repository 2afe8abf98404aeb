//! Wrong configurations, as one list: each is refused with its file, its line and what to do, and
//! exit status 2, by `flowsluice check` and by `flowsluice run`, which opens no port and makes no
//! file before.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use flowsluice_tests::place;
use rustix::process::{Pid, Signal, kill_process};

/// One mistake.
struct Wrong {
    /// The whole file; `DIR` stands for a folder of the case's own.
    text: &'static str,
    /// The line that is told; 0 where the file has none for it.
    line: usize,
    /// What is told: the key, what was found, and what to do.
    told: &'static [&'static str],
}

const fn wrong(line: usize, text: &'static str, told: &'static [&'static str]) -> Wrong {
    Wrong { text, line, told }
}

/// What is wrong with the file itself, or with its values.
const VALUES: &[Wrong] = &[
    wrong(2, "[receive]\nmode = \n", &["text stands in \"quotes\""]),
    wrong(1, "[receive\n", &["a table begins with its [name]"]),
    wrong(2, "[log]\nlevel = info\n", &["text stands in \"quotes\""]),
    wrong(
        3,
        "[log]\nlevel = \"info\"\nlevel = \"warn\"\n",
        &["duplicate", "remove one"],
    ),
    wrong(
        3,
        "[log]\nlevel = \"info\"\n[log]\n",
        &["duplicate", "remove one"],
    ),
    wrong(
        1,
        "[recieve]\nworkers = 1\n",
        &["recieve", "did you mean 'receive'?"],
    ),
    wrong(
        2,
        "[receive]\nqueues = 16\n",
        &["receive.queues", "unknown key", "allowed:"],
    ),
    wrong(
        2,
        "[store]\ndata_dir = \"/srv\"\n",
        &["it belongs under [store.embedded]"],
    ),
    wrong(
        2,
        "[receive]\nmode = \"fast\"\n",
        &["receive.mode", "\"recvmmsg\""],
    ),
    wrong(
        2,
        "[receive]\nworkers = -1\n",
        &["receive.workers", "0 or more"],
    ),
    wrong(
        2,
        "[receive]\nworkers = 9999\n",
        &["receive.workers", "0 to 256"],
    ),
    wrong(
        2,
        "[receive]\nworkers = \"2\"\n",
        &["receive.workers", "a whole number"],
    ),
    wrong(
        2,
        "[receive]\ncpus = [1, 1]\n",
        &["receive.cpus", "give each worker its own"],
    ),
    wrong(2, "[receive]\npin = 1\n", &["receive.pin", "true or false"]),
    wrong(
        2,
        "[receive]\nsocket_buffer = 65536\n",
        &["receive.socket_buffer", "\"64MiB\""],
    ),
    wrong(
        2,
        "[receive]\nsocket_buffer = \"1GiB\"\n",
        &["receive.socket_buffer", "1023MiB"],
    ),
    wrong(
        2,
        "[receive]\ndatagram_max = \"100B\"\n",
        &["receive.datagram_max", "576B to"],
    ),
    wrong(2, "[receive]\nburst = 0\n", &["receive.burst", "1 to 4096"]),
    wrong(
        2,
        "[receive]\ngro = true\n",
        &["receive.gro", "set receive.mode = \"recvmmsg\""],
    ),
    wrong(
        2,
        "[receive]\nallow = [\"10.0.0.0/33\"]\n",
        &["receive.allow", "a list of prefixes"],
    ),
    wrong(
        2,
        "[receive]\nmode = \"af_xdp\"\n",
        &["receive.xdp.interfaces", "name those"],
    ),
    wrong(
        2,
        "[receive]\nlisteners = []\n",
        &["receive.listeners", "add [[receive.listeners]]"],
    ),
    wrong(
        1,
        "[[receive.listeners]]\naddress = \"::\"\n",
        &["listeners[0].port", "missing"],
    ),
    wrong(
        2,
        "[[receive.listeners]]\nport = 70000\n",
        &["listeners[0].port", "1 to 65535"],
    ),
    wrong(
        4,
        "[[receive.listeners]]\nport = 2055\n[[receive.listeners]]\nport = 2055\n",
        &["listeners[1].port", "remove one of the two"],
    ),
    wrong(
        3,
        "[[receive.listeners]]\nport = 2055\nprotocols = [\"netflow\"]\n",
        &["listeners[0].protocols", "\"netflow5\""],
    ),
    wrong(
        2,
        "[receive.xdp]\nframes = 1000\n",
        &["receive.xdp.frames", "a power of two"],
    ),
    wrong(
        2,
        "[[receive.tcp.listeners]]\nport = 9190\n",
        &[
            "receive.tcp.listeners[0].port",
            "also http.listen",
            "its own port",
        ],
    ),
    wrong(
        2,
        "[decode]\nprotocols = []\n",
        &["decode.protocols", "name at least one"],
    ),
    wrong(
        2,
        "[decode]\nstate_dir = \"state\"\n",
        &["decode.state_dir", "an absolute path"],
    ),
    wrong(
        2,
        "[decode]\nextra = [\"flow_id\"]\n",
        &["decode.extra[0]", "\"PEN.id\""],
    ),
    wrong(
        2,
        "[decode]\ntemplate_lifetime = \"1s\"\n",
        &["template_lifetime", "allowed:"],
    ),
    wrong(
        2,
        "[decode]\nexporters_max = 0\n",
        &["decode.exporters_max", "allowed:"],
    ),
    wrong(
        2,
        "[[decode.exporters]]\nsource = \"router1\"\n",
        &["source", "a prefix"],
    ),
    wrong(
        2,
        "[enrich]\nnetworks = [\"networks.csv\"]\n",
        &["enrich.networks", "absolute"],
    ),
    wrong(
        2,
        "[enrich.dns]\nservers = [\"dns1\"]\n",
        &["enrich.dns.servers[0]", "an address"],
    ),
    wrong(
        2,
        "[[enrich.interface_rules]]\nalias = \"(\"\n",
        &["interface_rules[0].alias"],
    ),
    wrong(
        1,
        "[[enrich.snmp.targets]]\nsource = \"10.0.0.0/8\"\n",
        &["a community_file"],
    ),
    wrong(
        2,
        "[batch]\nage_max = \"1 parsec\"\n",
        &["batch.age_max", "a time with its unit"],
    ),
    wrong(
        2,
        "[batch]\nper_worker = 1\n",
        &["batch.per_worker", "2 to 256"],
    ),
    wrong(
        2,
        "[store]\nretention = \"10min\"\n",
        &["store.retention", "1h to"],
    ),
    wrong(
        2,
        "[store]\nkind = \"server\"\n",
        &["store.kind", "needs store.url; add it"],
    ),
    wrong(
        2,
        "[store]\nurl = \"db:8123\"\n",
        &["store.url", "\"http://host:8123\""],
    ),
    wrong(
        2,
        "[store]\nurl = \"http://me:secret@db\"\n",
        &["store.url", "store.password_file"],
    ),
    wrong(
        2,
        "[store]\nuser = \"me\"\n",
        &["store.user", "add store.url or remove this key"],
    ),
    wrong(
        2,
        "[store]\ndatabase = \"a; drop\"\n",
        &["store.database", "letters, digits"],
    ),
    wrong(
        3,
        "[store]\nurl = \"http://a\"\ncluster = \"it's\"\n",
        &["store.cluster", "letters"],
    ),
    wrong(
        4,
        "[store]\nurl = \"https://a\"\n[store.tls]\ncert = \"/c.pem\"\n",
        &["store.tls.cert", "needs store.tls.key"],
    ),
    wrong(
        2,
        "[store.spool]\nmax_bytes = \"1kB\"\n",
        &["store.spool.max_bytes", "1MiB to"],
    ),
    wrong(
        2,
        "[store.embedded]\nmemory_max = \"1MiB\"\n",
        &["memory_max", "512MiB to"],
    ),
    wrong(
        2,
        "[http]\nlisten = \"localhost\"\n",
        &["http.listen", "an address with a port"],
    ),
    wrong(
        2,
        "[http]\nuser = \"a:b\"\n",
        &["http.user", "a name without a colon"],
    ),
    wrong(
        2,
        "[http.tls]\ncert = \"/c.pem\"\n",
        &["http.tls.cert", "needs http.tls.key"],
    ),
    wrong(
        2,
        "[log]\nlevel = \"inof\"\n",
        &["log.level", "error, warn, info"],
    ),
    wrong(
        2,
        "[log]\nformat = \"xml\"\n",
        &["log.format", "\"text\" or \"json\""],
    ),
];

/// What is wrong with the values on this host: `DIR/file` is a file, `DIR/empty` an empty one,
/// `DIR/open` one that everybody may change, `DIR/missing` is not there.
const HERE: &[Wrong] = &[
    wrong(
        2,
        "[receive]\ncpus = [4095]\n",
        &["receive.cpus", "taskset -cp"],
    ),
    wrong(
        2,
        "[receive]\nworkers = 255\n",
        &["receive.workers", "receive.pin = false"],
    ),
    wrong(
        2,
        "[decode]\nstate_dir = \"DIR/file\"\n",
        &["decode.state_dir", "is a file; choose another"],
    ),
    wrong(
        2,
        "[decode]\nstate_dir = \"DIR/everybodys\"\n",
        &["decode.state_dir", "run 'chmod o-w DIR/everybodys'"],
    ),
    wrong(
        2,
        "[store.embedded]\ndata_dir = \"DIR/file/data\"\n",
        &["store.embedded.data_dir", "is a file; choose another"],
    ),
    wrong(
        2,
        "[store.embedded]\nlibrary = \"DIR/missing\"\n",
        &["store.embedded.library", "leave store.embedded.library out"],
    ),
    wrong(
        2,
        "[store.spool]\ndir = \"DIR/file\"\n",
        &["store.spool.dir", "is a file; choose another"],
    ),
    wrong(
        3,
        "[store]\nurl = \"http://127.0.0.1:9\"\npassword_file = \"DIR/missing\"\n",
        &["store.password_file", "name a file that this user may read"],
    ),
    wrong(
        3,
        "[store]\nurl = \"http://127.0.0.1:9\"\npassword_file = \"DIR/empty\"\n",
        &["store.password_file", "the password belongs there"],
    ),
    wrong(
        3,
        "[store]\nurl = \"http://127.0.0.1:9\"\npassword_file = \"DIR/open\"\n",
        &["store.password_file", "run 'chmod o-w DIR/open'"],
    ),
    wrong(
        4,
        "[store]\nurl = \"https://127.0.0.1:9\"\n[store.tls]\nca = \"DIR/missing\"\n",
        &["store.tls.ca", "name a PEM file"],
    ),
    wrong(
        4,
        "[store]\nurl = \"https://127.0.0.1:9\"\n[store.tls]\nca = \"DIR/empty\"\n",
        &["store.tls.ca", "holds no certificate"],
    ),
    wrong(
        2,
        "[http]\npassword_file = \"DIR/missing\"\n",
        &["http.password_file", "name a file that this user may read"],
    ),
    wrong(
        2,
        "[http]\npassword_file = \"DIR/file\"\n",
        &["http.password_file", "openssl rand"],
    ),
    wrong(
        2,
        "[http]\nlisten = \"0.0.0.0:0\"\n",
        &["http.listen", "set http.token_file"],
    ),
    wrong(
        2,
        "[http]\ntoken_file = \"DIR/file\"\n",
        &["http.token_file", "openssl rand"],
    ),
    wrong(
        2,
        "[http.tls]\ncert = \"DIR/missing\"\nkey = \"DIR/missing\"\n",
        &["http.tls.cert", "name a PEM file"],
    ),
];

/// Makes the files that the list names.
fn furnish(folder: &Path) -> Result<()> {
    std::fs::write(folder.join("file"), "short\n")?;
    std::fs::write(folder.join("empty"), "")?;
    std::fs::write(folder.join("open"), "a long enough password\n")?;
    std::fs::create_dir(folder.join("everybodys"))?;
    for name in ["open", "everybodys"] {
        std::fs::set_permissions(folder.join(name), PermissionsExt::from_mode(0o777))?;
    }
    Ok(())
}

/// What the collector says, and its exit status. One that starts all the same is ended.
fn said(command: &str, config: &Path) -> Result<(String, Option<i32>)> {
    let mut process = Command::new(place::binary()?)
        .args([command, "--config"])
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let pid = Pid::from_child(&process);
    let mut stderr = process.stderr.take().context("it is piped")?;
    let (told, ended) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let text = std::io::read_to_string(&mut stderr);
        let _ = told.send(());
        text
    });
    if ended
        .recv_timeout(std::time::Duration::from_secs(60))
        .is_err()
    {
        kill_process(pid, Signal::KILL)?;
    }
    let text = reader.join().expect("it does not panic")?;
    Ok((text, process.wait()?.code()))
}

/// The configuration of one case, in a folder of its own.
fn configured(text: &str) -> Result<(tempfile::TempDir, std::path::PathBuf)> {
    let folder = tempfile::tempdir()?;
    furnish(folder.path())?;
    let config = folder.path().join("flowsluice.toml");
    let shown = folder.path().display().to_string();
    std::fs::write(&config, text.replace("DIR", &shown))?;
    Ok((folder, config))
}

/// The names of everything in a folder.
fn listed(folder: &Path) -> Result<Vec<std::ffi::OsString>> {
    let entries = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    let mut names = entries.collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// That both commands refuse it, with the line and the words.
fn assert_refused(case: &Wrong) -> Result<()> {
    let (folder, config) = configured(case.text)?;
    let before = listed(folder.path())?;
    let place = match case.line {
        0 => format!("{}: ", config.display()),
        line => format!("{}:{line}: ", config.display()),
    };
    for command in ["check", "run"] {
        let (said, status) = said(command, &config)?;
        let context = || format!("{command}:\n{}\n{said}", case.text);
        ensure!(status == Some(2), "status {status:?} of {}", context());
        // One mistake, one line; `run` puts its name before, `check` counts below.
        let lines: Vec<_> = said.lines().filter(|line| line.contains(&place)).collect();
        ensure!(
            lines.len() == 1,
            "{} lines {place} of {}",
            lines.len(),
            context()
        );
        for word in case.told {
            let word = word.replace("DIR", &folder.path().display().to_string());
            ensure!(lines[0].contains(&word), "no {word} in {}", context());
        }
        ensure!(said.lines().count() <= 2, "more lines of {}", context());
    }
    ensure!(
        listed(folder.path())? == before,
        "it made files: {}",
        case.text
    );
    Ok(())
}

/// Runs all cases, half of them beside the others, and tells every one that fails.
fn assert_all(cases: &[Wrong]) {
    let (first, second) = cases.split_at(cases.len() / 2);
    let faults = |cases: &[Wrong]| -> Vec<String> {
        let failed = cases.iter().filter_map(|case| assert_refused(case).err());
        failed.map(|error| format!("{error:#}")).collect()
    };
    let mut told = std::thread::scope(|scope| {
        let other = scope.spawn(|| faults(second));
        let mut told = faults(first);
        told.extend(other.join().expect("it does not panic"));
        told
    });
    told.sort();
    assert!(told.is_empty(), "{}", told.join("\n---\n"));
}

#[test]
fn wrong_values_are_refused_with_line_and_remedy() {
    assert!(VALUES.len() + HERE.len() >= 60);
    assert_all(VALUES);
}

#[test]
fn what_cannot_work_on_this_host_is_refused_with_line_and_remedy() {
    assert_all(HERE);
}

#[test]
fn a_file_that_is_none_is_refused_with_a_remedy() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"[log]\nlevel = \"\xff\"\n")?;
    let files = [
        (
            folder.path().join("missing.toml"),
            "",
            "name one with --config",
        ),
        (folder.path().to_owned(), "", "name the file in it"),
        (binary, ":2", "write the file again as UTF-8"),
    ];
    for (file, line, remedy) in files {
        for command in ["check", "run"] {
            let (said, status) = said(command, &file)?;
            let place = format!("{}{line}: ", file.display());
            let is_told = said.contains(&place) && said.contains(remedy);
            ensure!(is_told && status == Some(2), "{status:?} {said}");
        }
    }
    Ok(())
}

#[test]
fn a_refused_start_leaves_every_port_free_and_every_folder_unmade() -> Result<()> {
    let (udp, http) = (place::free_udp_port()?, place::free_tcp_port(0)?);
    let text = format!(
        "[receive]\nworkers = 1\n[[receive.listeners]]\nport = {udp}\n\
         [decode]\nstate_dir = \"DIR/state\"\n\
         [http]\nlisten = \"127.0.0.1:{http}\"\n\
         [store]\nurl = \"http://127.0.0.1:9\"\npassword_file = \"DIR/missing\"\n\
         [store.spool]\ndir = \"DIR/spool\"\n"
    );
    let (folder, config) = configured(&text)?;
    // Whoever holds the ports does not come into it: it does not get as far as that.
    let _udp = UdpSocket::bind(("::", udp))?;
    let _http = TcpListener::bind(("127.0.0.1", http))?;
    let (said, status) = said("run", &config)?;
    ensure!(status == Some(2), "{said}");
    ensure!(
        said.contains("store.password_file") && !said.contains("taken"),
        "{said}"
    );
    for name in ["state", "spool"] {
        ensure!(!folder.path().join(name).exists(), "it made {name}");
    }
    Ok(())
}

#[test]
fn check_finds_what_is_wrong_with_the_file_and_with_the_host_at_once() -> Result<()> {
    let text = "[receive]\nmode = \"fast\"\ncpus = [4095]\n\
                [http]\npassword_file = \"DIR/missing\"\n\
                [enrich]\nnetworks = [\"DIR/absent.csv\"]\n\
                [store]\nretention = \"soon\"\n";
    let (_folder, config) = configured(text)?;
    let (said, status) = said("check", &config)?;
    ensure!(status == Some(2), "{said}");
    let lines = [":2: ", ":3: ", ":5: ", ":6: ", ":9: "];
    let places = lines.map(|line| format!("{}{line}", config.display()));
    let told: Vec<_> = said.lines().collect();
    ensure!(told.len() == places.len() + 1, "{said}");
    for (line, place) in told.iter().zip(&places) {
        ensure!(line.starts_with(place), "{place}: {said}");
    }
    ensure!(told[places.len()].ends_with(": 5 errors"), "{said}");
    Ok(())
}
