//! One exporter heard by several collectors: each datagram is passed on to all of them.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long it takes to hear of its end.
const WAIT: Duration = Duration::from_millis(50);

/// A port of 127.0.0.1 whose datagrams go to several targets. Dropped, it ends.
#[derive(Debug)]
pub struct Duplicator {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
    datagrams: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Duplicator {
    /// Passes on what arrives at [`Self::address`] to each of `targets`.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub fn start(targets: Vec<SocketAddr>) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("bind a UDP port")?;
        socket.set_read_timeout(Some(WAIT))?;
        let address = socket.local_addr()?;
        let (ends, datagrams) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (is_over, count) = (Arc::clone(&ends), Arc::clone(&datagrams));
        let pass_on = move || {
            let mut payload = vec![0; 65_536];
            while !is_over.load(Ordering::Relaxed) {
                let len = match socket.recv(&mut payload) {
                    Ok(len) => len,
                    Err(error) if is_nothing(error.kind()) => continue,
                    Err(error) => return Err(error).context("receive a datagram"),
                };
                for target in &targets {
                    socket
                        .send_to(&payload[..len], target)
                        .with_context(|| format!("pass a datagram on to {target}"))?;
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        Ok(Self {
            address,
            ends,
            datagrams,
            thread: Some(std::thread::spawn(pass_on)),
        })
    }

    /// Where exporters send to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until nothing has arrived for half a second, ends, and returns how many datagrams were
    /// passed on.
    ///
    /// # Errors
    /// When one could not be passed on.
    pub fn finish(mut self) -> Result<u64> {
        let mut before = u64::MAX;
        loop {
            let now = self.datagrams.load(Ordering::Relaxed);
            if now == before {
                break;
            }
            before = now;
            std::thread::sleep(10 * WAIT);
        }
        self.ends.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it ends once")?;
        let Ok(outcome) = thread.join() else {
            bail!("the thread that passes datagrams on panicked");
        };
        outcome.map(|()| before)
    }
}

impl Drop for Duplicator {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

/// The timeout; and what the kernel tells of a collector that is not there (any more).
fn is_nothing(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_datagram_reaches_every_target_as_it_is() -> Result<()> {
        let ears: Vec<_> = (0..2)
            .map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<Result<_, _>>()?;
        let targets = ears.iter().map(UdpSocket::local_addr);
        let duplicator = Duplicator::start(targets.collect::<Result<_, _>>()?)?;
        let mouth = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        for word in [&b"one"[..], b"", b"three"] {
            mouth.send_to(word, duplicator.address())?;
        }
        for ear in &ears {
            ear.set_read_timeout(Some(Duration::from_secs(5)))?;
            for word in [&b"one"[..], b"", b"three"] {
                let mut payload = [0; 16];
                let len = ear.recv(&mut payload)?;
                assert_eq!(&payload[..len], word);
            }
        }
        assert_eq!(duplicator.finish()?, 3);
        Ok(())
    }
}
