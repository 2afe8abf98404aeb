//! Connections that cannot use up the descriptors that sockets and the store need.
//!
//! In: the listener. Out: at most [`Limits::connections`] connections at once; further clients wait
//! in the kernel's backlog, where they cost no descriptor. A client that says nothing, stops within
//! a request or does not take its answer is hung up on after [`Limits::patience`].

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// How long the first byte of a request may take, then the rest of it, then each part of the
    /// answer that the client takes.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            patience: Duration::from_secs(10),
        }
    }
}

/// A listener that keeps to [`Limits`].
pub(super) struct Bounded {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    free: Arc<Semaphore>,
    patience: Duration,
}

impl Bounded {
    pub fn new(listener: TcpListener, tls: Option<TlsAcceptor>, limits: Limits) -> Self {
        Self {
            listener,
            tls,
            free: Arc::new(Semaphore::new(limits.connections)),
            patience: limits.patience,
        }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        let permit = permit.expect("nobody closes the semaphore");
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let stream = match &self.tls {
            Some(tls) => Stream::Greeting(Box::new(tls.accept(stream))),
            None => Stream::Clear(stream),
        };
        let connection = Connection {
            stream,
            patience: self.patience,
            deadline: Box::pin(sleep(self.patience)),
            in_request: false,
            _permit: permit,
        };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with a deadline that moves when a request begins and when a part of an answer is
/// taken. Further bytes of a request do not move it, or one now and then would hold the connection.
pub(super) struct Connection {
    stream: Stream,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
    in_request: bool,
    _permit: OwnedSemaphorePermit,
}

/// What bytes come and go by.
enum Stream {
    Clear(TcpStream),
    /// The handshake of TLS; it is done when the first bytes are read.
    Greeting(Box<Accept<TcpStream>>),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A stream that bytes can come and go by, or the handshake before.
trait Bytes: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Bytes for T {}

impl Stream {
    /// Goes on with the handshake, if there is one to be done.
    fn greet(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut dyn Bytes>>> {
        if let Self::Greeting(accept) = self {
            let stream = ready!(Pin::new(accept).poll(cx))?;
            *self = Self::Tls(Box::new(stream));
        }
        Poll::Ready(Ok(match self {
            Self::Clear(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream),
            Self::Greeting(_) => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }))
    }
}

impl Connection {
    fn move_deadline(&mut self) {
        let deadline = Instant::now() + self.patience;
        self.deadline.as_mut().reset(deadline);
    }

    /// What the stream said, or the end of patience when it is not ready.
    fn or_timed_out<T>(
        &mut self,
        poll: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            return poll;
        }
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn written(
        &mut self,
        poll: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(_)) = poll {
            self.in_request = false;
            self.move_deadline();
        }
        self.or_timed_out(poll, cx)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = match self.stream.greet(cx) {
            Poll::Ready(Ok(stream)) => stream.poll_read(cx, buffer),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        if poll.is_ready() && !self.in_request {
            self.in_request = true;
            self.move_deadline();
        }
        self.or_timed_out(poll, cx)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = match self.stream.greet(cx) {
            Poll::Ready(Ok(stream)) => stream.poll_write(cx, bytes),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        self.written(poll, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.stream.greet(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whoever never got as far as a handshake has nothing to be told.
        match self.stream {
            Stream::Greeting(_) => Poll::Ready(Ok(())),
            _ => ready!(self.stream.greet(cx))?.poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::super::tests::collector;
    use super::super::{bind, serve_bounded};
    use super::*;

    /// The address of a server with these limits; it ends with the test.
    async fn server(limits: Limits) -> SocketAddr {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::clone(&collector(&[]).state);
        tokio::spawn(serve_bounded(
            listener,
            None,
            state,
            limits,
            std::future::pending(),
        ));
        address
    }

    async fn connect(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// Whether the server ends the connection within `limit`, with or without an answer.
    async fn is_hung_up(stream: &mut TcpStream, limit: Duration) -> bool {
        let mut answer = Vec::new();
        // A reset is an end as well.
        timeout(limit, stream.read_to_end(&mut answer))
            .await
            .is_ok()
    }

    /// Asks over a connection that is kept and returns the body.
    async fn ask(stream: &mut TcpStream, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        body_of_answer(stream).await
    }

    async fn body_of_answer(stream: &mut TcpStream) -> String {
        let (mut answer, mut part) = (String::new(), [0; 4096]);
        loop {
            let read = stream.read(&mut part).await.unwrap();
            assert!(read > 0, "hung up after {answer:?}");
            answer += std::str::from_utf8(&part[..read]).unwrap();
            let Some((head, body)) = answer.split_once("\r\n\r\n") else {
                continue;
            };
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == length.unwrap().parse::<usize>().unwrap() {
                return body.to_owned();
            }
        }
    }

    const HALF: &str = "GET /status HTTP/1.1\r\nHost:";
    const LONG: Duration = Duration::from_secs(15);

    #[tokio::test]
    async fn half_requests_are_hung_up_on_and_keep_nobody_out() {
        let address = server(Limits {
            patience: Duration::from_millis(500),
            ..Limits::default()
        })
        .await;
        let mut half_open = Vec::new();
        for _ in 0..80 {
            half_open.push(connect(address, HALF).await);
        }
        let mut client = connect(address, "").await;
        let body = timeout(LONG, ask(&mut client, "/status")).await.unwrap();
        assert!(body.starts_with('{'), "{body}");
        for stream in &mut half_open {
            assert!(is_hung_up(stream, LONG).await);
        }
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_or_nothing_more_is_hung_up_on() {
        let patience = Duration::from_millis(300);
        let limits = Limits {
            patience,
            ..Limits::default()
        };
        let address = server(limits).await;
        assert!(is_hung_up(&mut connect(address, "").await, LONG).await);
        let mut idle = connect(address, "").await;
        ask(&mut idle, "/healthz").await;
        assert!(is_hung_up(&mut idle, LONG).await);
    }

    #[tokio::test]
    async fn a_request_that_comes_byte_by_byte_is_not_waited_for() {
        let patience = Duration::from_millis(300);
        let limits = Limits {
            patience,
            ..Limits::default()
        };
        let mut stream = connect(server(limits).await, HALF).await;
        for _ in 0..100 {
            // The write after the server's hanging up may still succeed.
            let _ = stream.write_all(b"x").await;
            if is_hung_up(&mut stream, patience / 6).await {
                return;
            }
        }
        panic!("still connected");
    }

    #[tokio::test]
    async fn a_kept_connection_is_answered_for_longer_than_the_patience() {
        let patience = Duration::from_millis(1000);
        let limits = Limits {
            patience,
            ..Limits::default()
        };
        let mut stream = connect(server(limits).await, "").await;
        for _ in 0..6 {
            assert!(ask(&mut stream, "/metrics").await.ends_with("# EOF\n"));
            assert!(ask(&mut stream, "/status").await.starts_with('{'));
            sleep(patience / 4).await;
        }
    }

    #[tokio::test]
    async fn clients_beyond_the_bound_wait_until_another_leaves() {
        let address = server(Limits {
            connections: 2,
            patience: Duration::from_secs(60),
        })
        .await;
        let first = connect(address, HALF).await;
        let _second = connect(address, HALF).await;
        let mut third = connect(address, "").await;
        let early = timeout(Duration::from_millis(300), ask(&mut third, "/healthz")).await;
        assert!(early.is_err(), "answered beyond the bound");
        drop(first);
        let body = timeout(LONG, body_of_answer(&mut third)).await.unwrap();
        assert_eq!(body, "ok\n");
    }
}
