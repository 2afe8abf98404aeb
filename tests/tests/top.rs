//! `flowsluice top`: in a terminal, as one frame, of a collector and of one that lies.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use flowsluice_tests::generator::generate;
use flowsluice_tests::terminal::Terminal;
use flowsluice_tests::{Collector, Settings, Store, place};
use serde_json::{Value, json};

const WAIT_MAX: Duration = Duration::from_secs(60);
/// The name of a host that would take over a terminal, turn its line around, and push others away.
const HOSTILE: &str = "\u{1b}]0;taken\u{7}\u{1b}[2J\u{202e}moc.elpmaxe\u{9b}31m\r\n東京";

/// Answers like a collector until the test ends.
fn liar() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // Who asks may be gone already.
            let _ = answer(connection);
        }
    });
    Ok(address)
}

fn answer(mut connection: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let (mut asked, mut line) = (String::new(), String::new());
    reader.read_line(&mut asked)?;
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let body = match asked.contains("/talkers") {
        true => json!({"talkers": [{"address": HOSTILE, "name": HOSTILE, "bytes_sent": 1,
            "bytes_received": 2, "flows": 3}]}),
        false => status(),
    };
    let body = body.to_string();
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length";
    write!(connection, "{head}: {}\r\n\r\n{body}", body.len())?;
    Ok(())
}

fn status() -> Value {
    let exporter = |source: &str, rate: f64, flows: u64| {
        json!({"source": source, "flow_type": HOSTILE, "flows": flows, "flows_per_s": rate,
            "sequence": {"lost": 0}})
    };
    json!({
        "version": "9.9.9", "uptime_s": 5, "ready": true,
        "exporters": [exporter("192.0.2.1", 9.0, 1), exporter("192.0.2.2", 1.0, 99)],
        "ledger": {"counters": {}, "store": {}, "dropped": {HOSTILE: 7},
            "equations": [], "unaccounted": 0},
    })
}

fn top(url: &str, more: &[&str]) -> Result<Command> {
    let mut command = Command::new(place::binary()?);
    command
        .args(["top", "--url", url, "--every", "200ms"])
        .args(more);
    Ok(command)
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn a_terminal_shows_exporters_takes_keys_and_is_given_back() -> Result<()> {
    let url = format!("http://{}", liar()?);
    let mut terminal = Terminal::start(&mut top(&url, &[])?, 60, 24)?;
    terminal.wait_for("by flows/s", WAIT_MAX)?;
    terminal.wait_for("q quit", WAIT_MAX)?;
    let before = terminal.drawn();
    let order = |text: &str| text.find("192.0.2.1") < text.find("192.0.2.2");
    assert!(order(&before), "the busiest first: {before:?}");
    terminal.press("s")?;
    terminal.wait_for("by flows\u{1b}", WAIT_MAX)?;
    terminal.press("q")?;
    let ended = terminal.wait(WAIT_MAX)?;
    assert!(ended.success(), "{:?}", terminal.drawn());
    // Back on the screen that was there before, with a cursor.
    terminal.wait_for("\u{1b}[?1049l", WAIT_MAX)?;
    terminal.wait_for("\u{1b}[?25h", WAIT_MAX)?;
    let drawn = terminal.drawn();
    for hostile in ["\u{1b}]", "\u{1b}[2J", "\u{202e}", "\u{9b}", "\r\n東"] {
        assert!(!drawn.contains(hostile), "{hostile:?} in {drawn:?}");
    }
    assert!(
        drawn.contains("\\u{1b}]0;taken"),
        "it is told as text: {drawn:?}"
    );
    Ok(())
}

#[test]
fn one_frame_of_a_collector_tells_its_flows_drops_and_why_there_are_no_talkers() -> Result<()> {
    let settings = Settings::new(Store::Null);
    let collector = Collector::start(&settings)?;
    let arguments = ["--rate", "10000", "--flows", "3000"];
    let sent = generate(
        &settings.binary,
        collector.target(),
        &arguments,
        collector.folder(),
    )?;
    collector.settle(sent.datagrams)?;
    let output = top(
        &collector.url(),
        &["--once", "--width", "72", "--sort", "address"],
    )?
    .output()?;
    let text = printed(&output);
    assert!(output.status.success(), "{text}");
    let datagrams = sent.datagrams;
    let received = format!("datagrams: received {datagrams} = decoded {datagrams} + dropped 0\n");
    for part in [
        "ready",
        "store null",
        "LEDGER  unaccounted 0\n",
        &received,
        " kept 3000 = stored 0 + lost 3000\n",
        "store_null\n",
        "EXPORTERS ",
        " 127.1.0.",
        "TALKERS\n",
    ] {
        assert!(text.contains(part), "{part:?}\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "plain text: {text:?}");
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest.is_some_and(|columns| columns <= 72), "{text}");
    collector.stop()?;
    Ok(())
}

#[test]
fn where_nobody_answers_and_without_a_terminal_it_says_what_to_do() -> Result<()> {
    let nobody = format!("http://127.0.0.1:{}", place::free_tcp_port(0)?);
    let output = top(&nobody, &["--once"])?.output()?;
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("is the collector running"), "{text}");
    let url = format!("http://{}", liar()?);
    let output = top(&url, &[])?.output()?;
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("--once"), "{text}");
    Ok(())
}
