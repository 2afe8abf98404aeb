//! The supervisor's own client: one question, one connection, blocking, bounded in time.
//!
//! It is used once a second and must work without a runtime, so it speaks HTTP/1.0 itself.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::config::Secret;

/// Asks the engine as the user that may only supervise.
#[derive(Debug)]
pub(super) struct Client {
    pub address: SocketAddr,
    pub user: &'static str,
    pub password: Secret,
    /// What our own child answers with: another ClickHouse on this port says something else.
    pub display_name: String,
}

impl Client {
    /// Runs `sql` and returns its output; an error when anything but our child answers, or when
    /// it refuses.
    pub fn query(&self, sql: &str, timeout: Duration) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let request = format!(
            "POST / HTTP/1.0\r\nX-ClickHouse-User: {}\r\nX-ClickHouse-Key: {}\r\n\
             Content-Length: {}\r\n\r\n{sql}",
            self.user,
            self.password.reveal(),
            sql.len()
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        self.judge(&String::from_utf8_lossy(&answer))
    }

    fn judge(&self, answer: &str) -> io::Result<String> {
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or_else(|| io::Error::other("it does not speak HTTP"))?;
        let mut lines = head.lines();
        let status = lines.next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("200") {
            let reason = body.lines().next().unwrap_or_default();
            return Err(io::Error::other(format!("{status}: {reason}")));
        }
        let name = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("X-ClickHouse-Server-Display-Name")
                .then(|| value.trim())
        });
        if name != Some(&self.display_name) {
            return Err(io::Error::other("another ClickHouse answers"));
        }
        Ok(body.into())
    }
}

/// Longest answer that is read: the supervisor asks for a few lines.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client {
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            user: "supervisor",
            password: Secret::new("secret"),
            display_name: "ours".into(),
        }
    }

    #[test]
    fn our_child_is_known_by_its_display_name() {
        let answer = "HTTP/1.0 200 OK\r\nX-ClickHouse-Server-Display-Name: ours\r\n\r\n1\n";
        assert_eq!(client().judge(answer).unwrap(), "1\n");
    }

    #[test]
    fn another_server_on_the_port_is_not_taken_for_ours() {
        for name in ["X-ClickHouse-Server-Display-Name: theirs\r\n", ""] {
            let answer = format!("HTTP/1.0 200 OK\r\n{name}\r\n1\n");
            assert!(client().judge(&answer).is_err());
        }
    }

    #[test]
    fn refusal_is_told_with_its_first_line() {
        let answer = "HTTP/1.0 403 Forbidden\r\n\r\nCode: 516. No such user\nstack\n";
        let error = client().judge(answer).unwrap_err();
        assert_eq!(
            error.to_string(),
            "HTTP/1.0 403 Forbidden: Code: 516. No such user"
        );
    }
}
