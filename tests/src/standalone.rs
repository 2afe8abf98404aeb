//! A ClickHouse that lives apart from every collector, as a server does: it can die alone.
//!
//! It is the embedded engine with the settings and users that a collector made for it, started by
//! `flowsluice engine` at a port of its own. It ends with the process that started it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::Process;
use crate::{ClickHouse, Collector, Settings, place};

/// Until one answers: a cold library is read from the disk, and parts are loaded.
const ANSWERS_MAX: Duration = Duration::from_secs(60);

/// A ClickHouse server, running or not.
#[derive(Debug)]
pub struct Standalone {
    binary: PathBuf,
    library: PathBuf,
    data_dir: PathBuf,
    http: SocketAddr,
    writer: ClickHouse,
    process: Option<Process>,
}

impl Standalone {
    /// Has a collector with an embedded ClickHouse make settings, users and tables in `data_dir`,
    /// then starts the same ClickHouse by itself.
    ///
    /// # Errors
    /// When the collector or the engine does not start.
    pub fn start(binary: PathBuf, library: PathBuf, data_dir: PathBuf) -> Result<Self> {
        let settings = Settings {
            data_dir: Some(data_dir.clone()),
            ..Settings::of(binary.clone(), crate::Store::Embedded(library.clone()))
        };
        let maker = Collector::start(&settings).context("have a collector make the tables")?;
        let reader = maker.clickhouse()?;
        maker.stop()?;
        let file = data_dir.join("writer.password");
        let password = std::fs::read_to_string(&file)
            .with_context(|| format!("read the writer's password in {}", file.display()))?;
        let http = SocketAddr::from(([127, 0, 0, 1], place::free_tcp_port(0)?));
        let mut server = Self {
            binary,
            library,
            data_dir,
            http,
            writer: ClickHouse {
                url: format!("http://{http}"),
                user: "writer".into(),
                password: password.trim().into(),
                database: reader.database,
            },
            process: None,
        };
        server.start_again()?;
        Ok(server)
    }

    /// Asked as the user who makes tables and writes.
    #[must_use]
    pub fn clickhouse(&self) -> &ClickHouse {
        &self.writer
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// When it runs already, or does not answer within a minute.
    pub fn start_again(&mut self) -> Result<()> {
        if let Some(process) = &self.process {
            bail!("it runs already: process {}", process.pid());
        }
        let engine = self.data_dir.join("engine");
        let log = self.data_dir.join("standalone.log");
        let mut path = std::ffi::OsString::from("--path=");
        path.push(self.data_dir.join("clickhouse"));
        // ClickHouse holds many parts open: as many files as this user may have.
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -n \"$(ulimit -H -n)\"; exec \"$@\"", "sh"])
            .arg(&self.binary)
            .args(["engine", "--library"])
            .arg(&self.library)
            .arg("--")
            .arg(path)
            .args([
                &format!("--listen_host={}", self.http.ip()),
                &format!("--http_port={}", self.http.port()),
                "--config-file=config.xml",
                "--log-level=warning",
                // It lives as long as this query: one that sleeps until it is killed.
                "--query=SYSTEM START LISTEN HTTP; SELECT sleepEachRow(0.2) FROM system.numbers \
                 SETTINGS max_block_size=1 FORMAT Null",
            ])
            .current_dir(&engine)
            .env_clear()
            .env("TZ", "UTC")
            .env("HOME", &engine);
        let mut process = Process::spawn_held("ClickHouse", &mut command, &log)?;
        let started = Instant::now();
        while let Err(error) = self.writer.query("SELECT 1") {
            if let Some(status) = process.poll()? {
                bail!("ClickHouse ended with {status}\n{}", process.tail(20));
            }
            if started.elapsed() >= ANSWERS_MAX {
                bail!(
                    "no answer within {ANSWERS_MAX:?}: {error:#}\n{}",
                    process.tail(20)
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.process = Some(process);
        Ok(())
    }

    /// Sends SIGKILL and waits until it has ended; its process id was this.
    ///
    /// # Errors
    /// When it does not run, or the kernel refuses.
    pub fn kill(&mut self) -> Result<u32> {
        let mut process = self.process.take().context("no ClickHouse runs")?;
        process.kill()?;
        Ok(process.pid())
    }
}
