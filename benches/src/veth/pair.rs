//! The cable between exporter and collector, as the benchmark wants it.

use std::net::IpAddr;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::namespace::{self, COLLECTOR, EXPORTER, Namespace, Veth};
use flowsluice_tests::place;

/// A network of two: whoever exports, and whoever collects.
#[derive(Debug)]
pub struct Pair {
    veth: Veth,
    /// Index of the sender's interface in its namespace.
    pub sender_index: u32,
}

impl Pair {
    /// The receiver's end has GRO on, so that all frames come by NAPI, as from a network card, and
    /// the sender's end takes frames without socket buffers.
    ///
    /// # Errors
    /// When this user may not make namespaces, or `ip` or `ethtool` is missing or fails.
    pub fn new() -> Result<Self> {
        let veth = Veth::new_without_names().context("lay a veth pair; run it as root")?;
        let to = Veth::COLLECTOR_MAC
            .map(|byte| format!("{byte:02x}"))
            .join(":");
        // Nothing shall depend on when an address is asked for.
        let (receiver, device) = (receiver_address(), Veth::EXPORTER);
        veth.exporter.ip(&format!(
            "neighbour replace {receiver} lladdr {to} dev {device} nud permanent\n"
        ))?;
        let gro = ["-K", Veth::COLLECTOR, "gro", "on"];
        run(&veth.collector, "ethtool", &gro)?;
        let line = run(
            &veth.exporter,
            "ip",
            &["-oneline", "link", "show", "dev", device],
        )?;
        let index = line.split(':').next().and_then(|n| n.trim().parse().ok());
        let sender_index = index.with_context(|| format!("no index in {line:?}"))?;
        Ok(Self { veth, sender_index })
    }

    /// Does `work` in a thread of its own where exporters are. Sockets and processes that it makes
    /// stay there; what it does to the thread ends with it.
    ///
    /// # Errors
    /// Those of `work`, or when the namespace cannot be entered.
    ///
    /// # Panics
    /// When `work` does.
    pub fn at_sender<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        in_thread(&self.veth.exporter, work)
    }

    /// The same where the collector is.
    ///
    /// # Errors
    /// As [`Pair::at_sender`].
    ///
    /// # Panics
    /// When `work` does.
    pub fn at_receiver<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        in_thread(&self.veth.collector, work)
    }

    /// How an XDP program is attached to the receiver's interface, as the kernel tells: `xdp` in
    /// the driver, `xdpgeneric`; `None` when there is no program.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn attached(&self) -> Result<Option<String>> {
        let show = ["-oneline", "link", "show", "dev", Veth::COLLECTOR];
        let line = run(&self.veth.collector, "ip", &show)?;
        let words = line.split_whitespace();
        let mut names = words.map(|word| word.split('/').next().unwrap_or(word));
        Ok(names.find(|word| word.starts_with("xdp")).map(Into::into))
    }
}

/// The exporter's address.
pub fn sender_address() -> IpAddr {
    namespace::ipv4(EXPORTER)
}

/// Where exporters send to.
pub fn receiver_address() -> IpAddr {
    namespace::ipv4(COLLECTOR)
}

/// Runs a program of the system in there; yields what it printed.
fn run(there: &Namespace, program: &str, arguments: &[&str]) -> Result<String> {
    let file = place::program(program).with_context(|| format!("{program} is not here"))?;
    let output = there.run(|| Command::new(file).args(arguments).output())??;
    let said = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    ensure!(
        status.success(),
        "{program} {arguments:?}: {status}: {said}"
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn in_thread<T: Send>(there: &Namespace, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let outcome = thread::scope(|scope| scope.spawn(|| there.run(work)).join());
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?
}
