//! Two network namespaces and one veth pair between them.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use super::namespace::Namespace;

/// A network of two: whoever exports, and whoever collects.
#[derive(Debug)]
pub struct Pair {
    /// Where exporters are.
    pub sender: Namespace,
    /// Where the collector is.
    pub receiver: Namespace,
    /// Index of the sender's interface in its namespace.
    pub sender_index: u32,
}

impl Pair {
    /// Makes both namespaces and the pair, of two queues in each direction.
    ///
    /// The receiver's end has GRO on, so that all frames come by NAPI, as from a network card, and
    /// the sender's end takes frames without socket buffers.
    ///
    /// # Errors
    /// When this user may not, or `ip` or `ethtool` is missing or fails.
    pub fn new() -> Result<Self> {
        let (sender, receiver) = (Namespace::new()?, Namespace::new()?);
        let path = sender.path();
        let (from, to) = (mac(MAC_SENDER), mac(MAC_RECEIVER));
        receiver.ip(&format!(
            "link add {RECEIVER} address {to} {QUEUES} type veth \
             peer name {SENDER} address {from} {QUEUES} netns {path}"
        ))?;
        for (namespace, interface, address) in [
            (&sender, SENDER, ADDRESS_SENDER),
            (&receiver, RECEIVER, ADDRESS_RECEIVER),
        ] {
            namespace.ip(&format!("address add {address}/24 dev {interface}"))?;
            namespace.ip(&format!("link set {interface} up"))?;
        }
        // Nothing shall depend on when an address is asked for.
        sender.ip(&format!(
            "neighbour add {ADDRESS_RECEIVER} lladdr {to} dev {SENDER} nud permanent"
        ))?;
        receiver.run("ethtool", &format!("-K {RECEIVER} gro on"))?;
        let line = sender.ip(&format!("-oneline link show dev {SENDER}"))?;
        let index = line.split(':').next().and_then(|n| n.trim().parse().ok());
        let sender_index = index.with_context(|| format!("no index in {line:?}"))?;
        Ok(Self {
            sender,
            receiver,
            sender_index,
        })
    }

    /// How an XDP program is attached to the receiver's interface, as the kernel tells: `xdp` in
    /// the driver, `xdpgeneric`; `None` when there is no program.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn attached(&self) -> Result<Option<String>> {
        let show = format!("-oneline link show dev {RECEIVER}");
        let line = self.receiver.ip(&show)?;
        let words = line.split_whitespace();
        let mut names = words.map(|word| word.split('/').next().unwrap_or(word));
        Ok(names.find(|word| word.starts_with("xdp")).map(Into::into))
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// The receiver's interface.
pub const RECEIVER: &str = "collect0";
/// The sender's interface.
pub const SENDER: &str = "export0";
/// Of the network for documentation, RFC 5737.
pub const ADDRESS_SENDER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Where exporters send to.
pub const ADDRESS_RECEIVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Locally administered.
pub const MAC_SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Of the interface that frames are sent to.
pub const MAC_RECEIVER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const QUEUES: &str = "numtxqueues 2 numrxqueues 2";
