//! A name server on loopback that has a name for every address.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use super::scramble;

/// A thread that answers; dropped, it ends.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub fn start() -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("a socket for names")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (address, stop) = (socket.local_addr()?, Arc::new(AtomicBool::new(false)));
        let is_over = Arc::clone(&stop);
        let thread = thread::spawn(move || serve(&socket, &is_over));
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it is asked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, stop: &AtomicBool) {
    let mut question = [0; 512];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut question)
            && let Some(answer) = answer(&question[..len])
        {
            // One that is lost is asked for again.
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// One PTR record for a question about one name (RFC 1035, sections 4.1.1 to 4.1.3).
fn answer(message: &[u8]) -> Option<Vec<u8>> {
    let mut end = HEAD;
    while *message.get(end)? != 0 {
        end += 1 + usize::from(message[end]);
    }
    let question = message.get(HEAD..end + 5)?;
    let folded = question.iter().fold(0, |hash, byte| {
        scramble(hash ^ u64::from(byte.to_ascii_lowercase()))
    });
    let label = format!("host-{:012x}", folded >> 16);
    let mut name = Vec::new();
    for label in [&*label, "customer", "example", "net", ""] {
        name.push(label.len() as u8);
        name.extend_from_slice(label.as_bytes());
    }
    let mut answer = message.get(..2)?.to_vec();
    // An answer, recursion wanted and available; one question, one answer.
    answer.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    answer.extend_from_slice(question);
    // Its name is that of the question; PTR, IN, an hour.
    answer.extend([0xc0, HEAD as u8, 0, 12, 0, 1, 0, 0, 14, 16]);
    answer.extend((name.len() as u16).to_be_bytes());
    answer.extend(name);
    Some(answer)
}

/// Bytes before the question.
const HEAD: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_with_a_name_of_its_own() {
        let ask = |host: u8| {
            let mut question = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            question.extend([1, host, 0, 0, 12, 0, 1]);
            answer(&question).unwrap()
        };
        let (one, two) = (ask(b'1'), ask(b'2'));
        assert_eq!(one[..4], [7, 7, 0x81, 0x80]);
        assert_eq!(one[12..19], [1, b'1', 0, 0, 12, 0, 1]);
        assert_eq!(one[19..23], [0xc0, 12, 0, 12]);
        assert_ne!(one[30..], two[30..]);
        assert_eq!(answer(&[7, 7, 1, 0]), None);
    }
}
