//! Debian's dnsmasq as a name server, an ordinary process on a port of loopback.

use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::place;
use crate::process::Process;

/// How long it may take until it answers.
const START_MAX: Duration = Duration::from_secs(60);
/// It listens by TCP as well, and somebody may have the port for that.
const PORTS_TRIED: u32 = 8;

/// A dnsmasq with a configuration of its own. Dropped, it ends.
#[derive(Debug)]
pub struct NameServer {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    process: Option<Process>,
}

impl NameServer {
    /// Starts it with `lines` of its configuration and waits until it answers; `None`, with the
    /// reason printed, where it is not installed. What they do not name it refuses.
    ///
    /// # Errors
    /// When it does not answer on any port.
    ///
    /// # Panics
    /// Under CI, where it is not installed.
    pub fn start_or_skip(lines: &str) -> Result<Option<Self>> {
        let Some(program) = place::program_or_skip("dnsmasq", "dnsmasq-base") else {
            return Ok(None);
        };
        let mut server = Self {
            program,
            folder: tempfile::tempdir()?,
            port: 0,
            process: None,
        };
        let mut left = PORTS_TRIED;
        loop {
            server.port = place::free_udp_port()?;
            left -= 1;
            match server.serve(lines) {
                Ok(()) => return Ok(Some(server)),
                Err(error) if left == 0 => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Starts it anew on its port with other lines, and waits until it answers.
    ///
    /// # Errors
    /// When it ends by itself or does not answer; with what it printed.
    pub fn serve(&mut self, lines: &str) -> Result<()> {
        self.process = None;
        let file = self.folder.path().join("dnsmasq.conf");
        let text = format!(
            "port={}\nno-resolv\nno-hosts\nbind-interfaces\nlisten-address=127.0.0.1\n{lines}\n",
            self.port
        );
        std::fs::write(&file, text)?;
        let mut command = Command::new(&self.program);
        command.args(["--keep-in-foreground", "--pid-file"]);
        command.arg(format!("--conf-file={}", file.display()));
        if std::fs::metadata(&file)?.uid() == 0 {
            // There may be no user dnsmasq.
            command.arg("--user=root");
        }
        let log = self.folder.path().join("log");
        let mut process = Process::spawn("dnsmasq", &mut command, &log)?;
        let deadline = Instant::now() + START_MAX;
        while !self.answers()? {
            if let Some(status) = process.poll()? {
                bail!("dnsmasq ended, {status}; {}", process.tail(10));
            }
            if Instant::now() >= deadline {
                bail!("no answer within {START_MAX:?}; {}", process.tail(10));
            }
        }
        self.process = Some(process);
        Ok(())
    }

    fn answers(&self) -> Result<bool> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(("127.0.0.1", self.port))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        // The header of a question for the root's name servers, and the question.
        let _ = socket.send(b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\0\0\x02\0\x01");
        let answers = socket.recv(&mut [0; 512]).is_ok();
        if !answers {
            // A refusal of the kernel comes at once.
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(answers)
    }

    /// The running process.
    ///
    /// # Panics
    /// When its last start failed.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    /// Where it listens: `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
