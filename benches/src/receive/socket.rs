//! What the kernel tells of somebody's UDP sockets.
//!
//! Specs: proc_net(5); net/ipv4/udp.c, `udp4_format_sock`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Datagrams that the kernel dropped for the sockets bound to `port`, all together; `None` when
/// nobody has it.
///
/// # Errors
/// When /proc does not tell.
pub fn drops(port: u16) -> Result<Option<u64>> {
    let mut drops = None;
    for file in ["/proc/net/udp", "/proc/net/udp6"] {
        // Without IPv6 there is no second file.
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            read => read.with_context(|| format!("read {file}"))?,
        };
        for one in text.lines().filter_map(|line| drops_of(line, port)) {
            drops = Some(drops.unwrap_or(0) + one);
        }
    }
    Ok(drops)
}

/// The last field of a line whose second one, the local address, ends with `port`.
fn drops_of(line: &str, port: u16) -> Option<u64> {
    let mut fields = line.split_whitespace();
    let (_, local) = fields.nth(1)?.rsplit_once(':')?;
    let is_ours = u16::from_str_radix(local, 16) == Ok(port);
    is_ours.then(|| fields.next_back()?.parse().ok()).flatten()
}

/// Waits until somebody has bound `port`.
///
/// # Errors
/// When nobody does within `limit`.
pub fn wait_bound(port: u16, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    while drops(port)?.is_none() {
        if Instant::now() >= deadline {
            bail!("nobody listens on UDP port {port} after {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The largest receive buffer that any program may ask for, bytes: `net.core.rmem_max`.
///
/// # Errors
/// When /proc does not tell.
pub fn buffer_max() -> Result<u64> {
    let file = "/proc/sys/net/core/rmem_max";
    let text = std::fs::read_to_string(file).with_context(|| format!("read {file}"))?;
    let bytes = text.trim().parse();
    bytes.with_context(|| format!("{file}: {text:?} is no number"))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn drops_of_a_full_socket_are_seen() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = socket.local_addr().unwrap();
        assert_eq!(drops(target.port()).unwrap(), Some(0));
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..2_000 {
            sender.send_to(&[0; 1400], target).unwrap();
        }
        let dropped = drops(target.port()).unwrap().unwrap();
        assert!((1_000..2_000).contains(&dropped), "{dropped}");
        drop(socket);
        assert_eq!(drops(target.port()).unwrap(), None);
    }
}
