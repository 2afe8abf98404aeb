//! ClickHouse nodes that know of each other: the embedded engine, each a process of its own.
//!
//! They are servers to a collector, and shards of the cluster [`CLUSTER`] to each other
//! (`remote_servers`). The engine takes neither replicated tables nor `ON CLUSTER`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{ClickHouse, place};

/// The name of the cluster whose shards the nodes are.
pub const CLUSTER: &str = "shards";

const USER: &str = "writer";
const PASSWORD: &str = "for tests";
/// Until a node answers: a cold library is read from the disk.
const READY_MAX: Duration = Duration::from_secs(60);

/// One node. Dropped, it is killed.
#[derive(Debug)]
pub struct Node {
    binary: PathBuf,
    library: PathBuf,
    folder: PathBuf,
    http: u16,
    tcp: u16,
    /// It ends when its standard input does.
    process: Option<Child>,
}

impl Node {
    /// Starts so many nodes in `folder` and waits until they answer.
    ///
    /// # Errors
    /// When one does not.
    pub fn start_all(count: usize, library: &Path, folder: &Path) -> Result<Vec<Self>> {
        let binary = place::binary()?;
        let mut nodes = Vec::new();
        for number in 0..count {
            nodes.push(Self {
                binary: binary.clone(),
                library: library.to_path_buf(),
                folder: folder.join(format!("node{number}")),
                http: place::free_tcp_port(0)?,
                tcp: place::free_tcp_port(0)?,
                process: None,
            });
        }
        let shards: String = nodes.iter().map(Self::shard).collect();
        for node in &mut nodes {
            fs::create_dir_all(&node.folder)?;
            fs::write(node.folder.join("config.xml"), config_xml(&shards))?;
            fs::write(node.folder.join("users.xml"), users_xml())?;
            node.start()?;
        }
        Ok(nodes)
    }

    fn shard(&self) -> String {
        format!(
            "<shard><replica><host>127.0.0.1</host><port>{}</port><user>{USER}</user>\
             <password>{PASSWORD}</password></replica></shard>\n",
            self.tcp
        )
    }

    /// Starts it, again if it was killed, and waits until it answers.
    ///
    /// # Errors
    /// When it does not; the error holds what it printed.
    pub fn start(&mut self) -> Result<()> {
        const QUERY: &str = "SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; \
                             SELECT sleepEachRow(0.2) FROM system.numbers \
                             SETTINGS max_block_size=1 FORMAT Null";
        let out = fs::File::create(self.folder.join("output"))?;
        let mut command = Command::new(&self.binary);
        command
            .args(["engine", "--library"])
            .arg(&self.library)
            .arg("--")
            .arg(format!("--path={}", self.folder.join("data").display()))
            .arg("--listen_host=127.0.0.1")
            .arg(format!("--http_port={}", self.http))
            .arg(format!("--tcp_port={}", self.tcp))
            .args(["--config-file=config.xml", "--log-level=warning"])
            .arg(format!("--query={QUERY}"))
            .current_dir(&self.folder)
            .env("HOME", &self.folder)
            .stdin(Stdio::piped())
            .stderr(out.try_clone()?)
            .stdout(out);
        let mut process = command.spawn().context("start a ClickHouse node")?;
        let deadline = Instant::now() + READY_MAX;
        while self.clickhouse("default").query("SELECT 1").is_err() {
            let ended = process.try_wait()?;
            if ended.is_some() || Instant::now() >= deadline {
                let _ = process.kill();
                let _ = process.wait();
                let output = fs::read_to_string(self.folder.join("output"))?;
                bail!("a ClickHouse node does not answer ({ended:?})\n{output}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.process = Some(process);
        Ok(())
    }

    /// Sends SIGKILL and waits until it has ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Port of its HTTP listener on 127.0.0.1.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.http
    }

    /// Itself, asked as the user who may do everything.
    #[must_use]
    pub fn clickhouse(&self, database: &str) -> ClickHouse {
        ClickHouse {
            url: format!("http://127.0.0.1:{}", self.http),
            user: USER.into(),
            password: PASSWORD.into(),
            database: database.into(),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("a ClickHouse node is left behind: {error:#}");
        }
    }
}

fn config_xml(shards: &str) -> String {
    // The defaults suppose a pool of 32 and refuse to make tables with a smaller one.
    let entries = [
        "number_of_free_entries_in_pool_to_execute_mutation",
        "number_of_free_entries_in_pool_to_lower_max_size_of_merge",
        "number_of_free_entries_in_pool_to_execute_optimize_entire_partition",
    ];
    let entries = entries.map(|name| format!("<{name}>2</{name}>")).concat();
    format!(
        "<clickhouse>\n<users_config>users.xml</users_config>\n<timezone>UTC</timezone>\n\
         <max_server_memory_usage>1000000000</max_server_memory_usage>\n\
         <background_pool_size>2</background_pool_size>\n\
         <background_schedule_pool_size>8</background_schedule_pool_size>\n\
         <background_distributed_schedule_pool_size>1</background_distributed_schedule_pool_size>\n\
         <logger><level>warning</level><log>clickhouse.log</log></logger>\n\
         <send_crash_reports><enabled>false</enabled></send_crash_reports>\n\
         <merge_tree>{entries}</merge_tree>\n\
         <remote_servers><{CLUSTER}>\n{shards}</{CLUSTER}></remote_servers>\n</clickhouse>\n"
    )
}

fn users_xml() -> String {
    let user = |name: &str, password: &str| {
        format!(
            "<{name}><password>{password}</password><networks><ip>127.0.0.1</ip></networks>\
             <profile>default</profile><quota>default</quota></{name}>\n"
        )
    };
    format!(
        "<clickhouse>\n<profiles><default/></profiles>\n<quotas><default/></quotas>\n\
         <users>\n{}{}</users>\n</clickhouse>\n",
        user("default", ""),
        user(USER, PASSWORD)
    )
}
