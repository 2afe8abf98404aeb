//! What systemd is told: that it is up, that it lives, that it ends.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use flowsluice_tests::{Collector, Settings, Store};

/// How long a message may take on a busy machine.
const TOLD_MAX: Duration = Duration::from_secs(30);
/// Of which a third is how often it must say that it lives.
const PATIENCE_MS: u64 = 900;

/// The socket that systemd would listen on.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    /// Listens until one of its lines is `wanted`.
    fn hear(&mut self, wanted: &str) -> Result<()> {
        let start = Instant::now();
        let mut message = [0; 4096];
        while start.elapsed() < TOLD_MAX {
            if let Ok(length) = self.socket.recv(&mut message) {
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                self.heard.extend(text.lines().map(str::to_owned));
            }
            if let Some(at) = self.heard.iter().position(|line| line == wanted) {
                self.heard.drain(..=at);
                return Ok(());
            }
        }
        anyhow::bail!("no {wanted} within {TOLD_MAX:?}; heard {:?}", self.heard)
    }
}

#[test]
fn systemd_is_told_that_it_collects_lives_and_ends() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut manager = Manager {
        socket,
        heard: Vec::new(),
    };
    let mut settings = Settings::new(Store::Null);
    settings.environment = vec![
        ("NOTIFY_SOCKET", path.display().to_string()),
        ("WATCHDOG_USEC", (PATIENCE_MS * 1000).to_string()),
    ];
    let collector = Collector::launch(&settings)?;
    manager.hear("READY=1")?;
    manager.hear("STATUS=collecting")?;
    // Several in a row, and in time: one would also come of a start that hangs behind it.
    manager.hear("WATCHDOG=1")?;
    let start = Instant::now();
    for _ in 0..3 {
        manager.hear("WATCHDOG=1")?;
    }
    let least = Duration::from_millis(PATIENCE_MS / 3);
    ensure!(start.elapsed() >= least, "not one a third of its patience");
    collector.terminate()?;
    manager.hear("STOPPING=1")
}

#[test]
fn a_manager_that_is_gone_does_not_keep_it_from_collecting() -> Result<()> {
    let mut settings = Settings::new(Store::Null);
    settings.environment = vec![("NOTIFY_SOCKET", "/nonexistent/notify".into())];
    let collector = Collector::launch(&settings)?;
    let stopped = collector.end()?;
    ensure!(stopped.status.success(), "{}", stopped.status);
    ensure!(
        stopped.tail.contains("systemd cannot be told"),
        "{}",
        stopped.tail
    );
    Ok(())
}
