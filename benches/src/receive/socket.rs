//! What the kernel tells of somebody's UDP sockets.
//!
//! Specs: proc_net(5); net/ipv4/udp.c, `udp4_format_sock`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Datagrams that the kernel dropped for the sockets bound to `port` in this thread's network
/// namespace, all together; `None` when nobody has it.
///
/// # Errors
/// When /proc does not tell.
pub fn drops(port: u16) -> Result<Option<u64>> {
    Ok(read(port)?.map(|socket| socket.drops))
}

/// Waits until nothing waits in the sockets bound to `port`; yields the drops until then.
///
/// # Errors
/// When nobody has the port, or something waits still after `limit`.
pub fn emptied(port: u16, limit: Duration) -> Result<u64> {
    let deadline = Instant::now() + limit;
    loop {
        let socket = read(port)?;
        let socket = socket.with_context(|| format!("nobody listens on UDP port {port}"))?;
        if socket.waiting_bytes == 0 {
            return Ok(socket.drops);
        }
        if Instant::now() >= deadline {
            let bytes = socket.waiting_bytes;
            bail!("{bytes} bytes still wait at UDP port {port} after {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the kernel tells of sockets, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sockets {
    waiting_bytes: u64,
    drops: u64,
}

fn read(port: u16) -> Result<Option<Sockets>> {
    let mut found: Option<Sockets> = None;
    for file in ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"] {
        // Without IPv6 there is no second file.
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            read => read.with_context(|| format!("read {file}"))?,
        };
        for one in text.lines().filter_map(|line| socket_of(line, port)) {
            let sum = found.get_or_insert_default();
            sum.waiting_bytes += one.waiting_bytes;
            sum.drops += one.drops;
        }
    }
    Ok(found)
}

/// The queue and the last field of a line whose second field, the local address, ends with `port`.
fn socket_of(line: &str, port: u16) -> Option<Sockets> {
    let mut fields = line.split_whitespace();
    let (_, local) = fields.nth(1)?.rsplit_once(':')?;
    if u16::from_str_radix(local, 16) != Ok(port) {
        return None;
    }
    // The remote address and the state stand between.
    let (_, waiting) = fields.nth(2)?.split_once(':')?;
    Some(Sockets {
        waiting_bytes: u64::from_str_radix(waiting, 16).ok()?,
        drops: fields.next_back()?.parse().ok()?,
    })
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
        assert!(read(target.port()).unwrap().unwrap().waiting_bytes > 100_000);
        let waits = Duration::from_millis(10);
        assert!(emptied(target.port(), waits).is_err());
        socket.set_nonblocking(true).unwrap();
        while socket.recv_from(&mut [0; 1400]).is_ok() {}
        assert_eq!(emptied(target.port(), waits).unwrap(), dropped);
        drop(socket);
        assert_eq!(drops(target.port()).unwrap(), None);
    }
}
