//! Sends the datagrams of captures to a collector, with the timing that they were captured with.

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flowsluice::generate::send::{SendError, Sender, source_address};
use flowsluice::receive::Datagram;
use flowsluice::receive::replay::{Capture, CaptureCounts, CaptureError};
use hashbrown::HashMap;

use super::super::sending;
use super::schedule::Schedule;

// Without a comment for documentation: clap would show it in place of the command's.
#[derive(Debug, clap::Args)]
pub struct Resend {
    /// Send the datagrams of the captures to a collector instead of decoding them, for example to
    /// 192.0.2.10:2055 or [2001:db8::10]:2055.
    ///
    /// Every UDP datagram is sent, whatever its port, unchanged, and when it is due by the times of
    /// the capture; where those go backwards, and for raw payloads, at once. The times within
    /// datagrams stay those of the capture. What is not sent is counted with its reason.
    ///
    /// All datagrams leave from this host: a collector sees its address instead of the exporters'.
    /// Each source of the capture has a port of its own, but to a collector they are one exporter,
    /// and templates of one may replace another's. To a loopback address of IPv4 each exporter
    /// sends from an address of its own (127.1.0.1, 127.1.0.2, ...), so that a collector on this
    /// host tells them apart.
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_parser = sending::target,
        conflicts_with_all = ["print", "keep_time", "config"]
    )]
    pub to: Option<SocketAddr>,
    /// How many times faster than captured, with --to; 0 sends as fast as possible.
    #[arg(
        long,
        value_name = "FACTOR",
        value_parser = speed,
        default_value = "1",
        requires = "to"
    )]
    speed: f64,
    /// Longest gap of a capture that is kept, with --to, for example 10s; longer ones count as it.
    #[arg(
        long,
        value_name = "TIME",
        value_parser = humantime::parse_duration,
        requires = "to"
    )]
    gap_max: Option<Duration>,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok();
    speed
        .filter(|speed: &f64| speed.is_finite() && *speed >= 0.0)
        .ok_or_else(|| {
            "a number from 0 is wanted: 2 is twice as fast, 0 as fast as possible".into()
        })
}

impl Resend {
    /// Sends what is in `files` to `target`, then tells what became of it.
    pub fn send(&self, files: Vec<PathBuf>, target: SocketAddr) -> anyhow::Result<()> {
        let schedule = Schedule::new(self.speed, self.gap_max);
        let mut resender = Resender::new(target, schedule, sending::stop_at_signal()?);
        let (read, outcome) = resender.read(files);
        resender.wait_for_refusals();
        let report = &mut io::stderr();
        // What was read of a file with a fault is not among its counts.
        if outcome.is_ok() {
            super::summary_of_files(&read, report)?;
        }
        resender.summary(report)?;
        outcome?;
        let refused = resender.sender.refused();
        match resender.failed {
            Some(error) => Err(error.into()),
            None => sending::ensure_heard(target, resender.counts.sent, refused),
        }
    }
}

/// What became of the datagrams: `read = sent + cut + too_long + stopped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    read: u64,
    /// The kernel took them.
    sent: u64,
    /// Payload of those.
    bytes: u64,
    /// Not whole in the capture.
    cut: u64,
    /// Longer than the kernel sends.
    too_long: u64,
    /// Read when nothing was sent any more.
    stopped: u64,
}

impl Counts {
    fn unaccounted(&self) -> i128 {
        let told = self.sent + self.cut + self.too_long + self.stopped;
        i128::from(self.read) - i128::from(told)
    }
}

struct Resender {
    target: SocketAddr,
    sender: Sender,
    /// The socket of each source, address and port, of the capture.
    sources: HashMap<(IpAddr, u16), usize>,
    /// Their addresses, in the order of their first datagrams.
    exporters: Vec<IpAddr>,
    schedule: Schedule,
    /// When the first datagram was sent.
    began: Option<Instant>,
    /// From then to the last one.
    took: Duration,
    /// The same in the capture, with gaps shortened.
    captured: Duration,
    /// Files that were left when sending ended.
    files_left: u64,
    counts: Counts,
    stop: Arc<AtomicBool>,
    /// Nothing is sent after it.
    failed: Option<SendError>,
    progress: Progress,
}

impl Resender {
    fn new(target: SocketAddr, schedule: Schedule, stop: Arc<AtomicBool>) -> Self {
        Self {
            target,
            sender: Sender::new(target),
            sources: HashMap::new(),
            exporters: Vec::new(),
            schedule,
            began: None,
            took: Duration::ZERO,
            captured: Duration::ZERO,
            files_left: 0,
            counts: Counts::default(),
            stop,
            failed: None,
            progress: Progress::new(),
        }
    }

    /// Reads one file after the other until sending ends.
    fn read(&mut self, files: Vec<PathBuf>) -> (CaptureCounts, Result<(), CaptureError>) {
        let mut read = CaptureCounts::default();
        let mut files = files.into_iter();
        while let Some(file) = files.next() {
            if self.is_over() {
                self.files_left = 1 + files.len() as u64;
                break;
            }
            match Capture::new(vec![file]).for_each(&mut |datagram| self.take(datagram)) {
                Ok(one) => read = read.plus(&one),
                Err(error) => return (read, Err(error)),
            }
        }
        (read, Ok(()))
    }

    fn is_over(&self) -> bool {
        self.failed.is_some() || self.stop.load(Ordering::Relaxed)
    }

    /// Sends a datagram when it is due.
    fn take(&mut self, datagram: &Datagram<'_>) {
        self.counts.read += 1;
        if datagram.cut {
            self.counts.cut += 1;
            return;
        }
        // A raw payload has no ports, and its time is when it was read.
        let is_captured = datagram.local_port != 0 || datagram.source_port != 0;
        let due = self.schedule.due(is_captured.then_some(datagram.received));
        let began = *self.began.get_or_insert_with(Instant::now);
        if !self.wait(began, due) {
            self.counts.stopped += 1;
            return;
        }
        let outcome = self
            .socket(datagram)
            .and_then(|socket| self.sender.send(socket, datagram.payload));
        match outcome {
            Ok(()) => {
                self.counts.sent += 1;
                self.counts.bytes += datagram.payload.len() as u64;
                self.took = began.elapsed();
                self.captured = self.schedule.captured();
            }
            Err(SendError::Send { error, .. }) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                self.counts.too_long += 1;
            }
            Err(error) => {
                self.counts.stopped += 1;
                self.failed = Some(error);
            }
        }
        if self.sender.refused() > 0 && !self.progress.is_refusal_told {
            self.progress.is_refusal_told = true;
            let target = self.target;
            let text = format!("{target} refuses datagrams: nobody listens there; it goes on");
            self.progress.say(&text);
        }
    }

    /// Waits until `due` has passed since `began`; false when sending is over.
    fn wait(&mut self, began: Instant, due: Duration) -> bool {
        let pause = due.saturating_sub(began.elapsed());
        if pause > PAUSE_TOLD && !self.is_over() {
            let pause = humantime::format_duration(Duration::from_secs(pause.as_secs()));
            let text = format!("the next datagram is due in {pause}; --gap-max shortens gaps");
            self.progress.say(&text);
        }
        loop {
            if self.is_over() {
                return false;
            }
            let at = began.elapsed();
            self.progress.show(at, &self.counts);
            let left = due.saturating_sub(at);
            if left.is_zero() {
                return true;
            }
            // Short enough to notice `stop`.
            thread::sleep(left.min(SLEEP_MAX));
        }
    }

    /// The socket for the source of a datagram.
    fn socket(&mut self, datagram: &Datagram<'_>) -> Result<usize, SendError> {
        let source = (datagram.source, datagram.source_port);
        if let Some(&socket) = self.sources.get(&source) {
            return Ok(socket);
        }
        let known = self.exporters.iter().position(|&known| known == source.0);
        let socket = self.sender.add(known.unwrap_or(self.exporters.len()))?;
        if known.is_none() {
            self.exporters.push(source.0);
        }
        self.sources.insert(source, socket);
        Ok(socket)
    }

    /// What the last datagrams meet is known a little later.
    fn wait_for_refusals(&mut self) {
        if self.counts.sent > 0 {
            thread::sleep(REFUSAL_WAIT);
            self.sender.count_refusals();
        }
        self.progress.end();
    }

    /// What became of the datagrams.
    fn summary(&self, report: &mut impl Write) -> io::Result<()> {
        let (target, counts) = (self.target, &self.counts);
        let Counts {
            read,
            sent,
            bytes,
            cut,
            too_long,
            stopped,
        } = *counts;
        writeln!(
            report,
            "replay: {sent} of {read} datagrams sent to {target}, {bytes} bytes, in {:.1} s for \
             {:.1} s of the capture; unaccounted: {}",
            self.took.as_secs_f64(),
            self.captured.as_secs_f64(),
            counts.unaccounted(),
        )?;
        let notes = [
            (cut, "not sent: they are cut in the capture"),
            (
                too_long,
                "not sent: they are longer than UDP can be to there",
            ),
            (stopped, "not sent: sending had ended before"),
            (self.files_left, "files not read: sending had ended before"),
            (
                self.sender.refused(),
                "or more refused: nobody listens there",
            ),
        ];
        for (n, note) in notes {
            if n > 0 {
                writeln!(report, "replay: {n} {note}")?;
            }
        }
        self.summary_of_exporters(report)
    }

    /// How the exporters of the capture are told apart.
    fn summary_of_exporters(&self, report: &mut impl Write) -> io::Result<()> {
        let n = self.exporters.len();
        if n < 2 {
            return Ok(());
        }
        let ip = self.target.ip();
        if source_address(ip, 0) == source_address(ip, 1) {
            let ports = self.sources.len();
            return writeln!(
                report,
                "replay: {n} exporters were sent from one address, from {ports} ports: a collector \
                 takes them for one, and templates may replace each other; replay to 127.0.0.1 on \
                 its host, where each has an address of its own"
            );
        }
        writeln!(
            report,
            "replay: {n} exporters, each from an address of its own"
        )?;
        for (exporter, address) in self.exporters.iter().enumerate().take(EXPORTERS_SHOWN) {
            let from = source_address(ip, exporter);
            writeln!(report, "replay: {address} was sent from {from}")?;
        }
        match n.saturating_sub(EXPORTERS_SHOWN) {
            0 => Ok(()),
            more => writeln!(
                report,
                "replay: and {more} more, as their first datagrams came"
            ),
        }
    }
}

/// Tells people how far it is.
struct Progress {
    is_terminal: bool,
    is_refusal_told: bool,
    /// When it was told last, and what was sent then.
    before: (Duration, u64),
    /// The line is not ended yet.
    is_open: bool,
}

impl Progress {
    fn new() -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
            is_refusal_told: false,
            before: (Duration::ZERO, 0),
            is_open: false,
        }
    }

    /// Once a second on a terminal, else once a minute.
    fn show(&mut self, at: Duration, counts: &Counts) {
        let every = match self.is_terminal {
            true => Duration::from_secs(1),
            false => Duration::from_secs(60),
        };
        let (at_before, sent_before) = self.before;
        let since = at.saturating_sub(at_before);
        if since < every {
            return;
        }
        let Counts { sent, bytes, .. } = *counts;
        let rate = (sent - sent_before) as f64 / since.as_secs_f64();
        let seconds = at.as_secs();
        let line = format!("{seconds} s, {sent} datagrams, {rate:.0} a second, {bytes} bytes");
        self.before = (at, sent);
        match self.is_terminal {
            true => eprint!("\rreplay: {line:<70}"),
            false => eprintln!("replay: {line}"),
        }
        self.is_open = self.is_terminal;
    }

    /// Writes a line of its own.
    fn say(&mut self, text: &str) {
        self.end();
        eprintln!("replay: {text}");
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.is_open) {
            eprintln!();
        }
    }
}

const SLEEP_MAX: Duration = Duration::from_millis(100);
/// Whoever waits longer wonders why nothing is sent.
const PAUSE_TOLD: Duration = Duration::from_secs(30);
/// How long the way to a target and back takes at most, as a rule.
const REFUSAL_WAIT: Duration = Duration::from_millis(200);
const EXPORTERS_SHOWN: usize = 32;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use flowsluice::units::UnixNanos;

    use super::*;

    fn resender(listener: &UdpSocket) -> Resender {
        let target = listener.local_addr().unwrap();
        Resender::new(target, Schedule::new(0.0, None), Arc::default())
    }

    fn datagram<'a>(source: &str, source_port: u16, payload: &'a [u8]) -> Datagram<'a> {
        Datagram {
            source: source.parse().unwrap(),
            source_port,
            local_port: 2055,
            received: UnixNanos(1_750_000_000_000_000_000),
            payload,
            cut: false,
        }
    }

    fn summary(resender: &Resender) -> String {
        let mut report = Vec::new();
        resender.summary(&mut report).unwrap();
        String::from_utf8(report).unwrap()
    }

    #[test]
    fn every_datagram_is_sent_or_counted_with_its_reason() {
        let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut resender = resender(&listener);
        resender.take(&datagram("192.0.2.1", 5000, b"whole"));
        resender.take(&Datagram {
            cut: true,
            ..datagram("192.0.2.1", 5000, b"cut")
        });
        resender.take(&datagram("192.0.2.1", 5000, &[0; 65_520]));
        resender.take(&datagram("192.0.2.1", 5000, b""));
        resender.stop.store(true, Ordering::Relaxed);
        resender.take(&datagram("192.0.2.1", 5000, b"late"));
        let counts = Counts {
            read: 5,
            sent: 2,
            bytes: 5,
            cut: 1,
            too_long: 1,
            stopped: 1,
        };
        assert_eq!(resender.counts, counts);
        let said = summary(&resender);
        assert!(
            said.contains("2 of 5 datagrams sent to 127.0.0.1:"),
            "{said}"
        );
        assert!(said.contains(", 5 bytes, "), "{said}");
        assert!(said.contains("unaccounted: 0"), "{said}");
        assert_eq!(said.matches("1 not sent: ").count(), 3, "{said}");
        let mut buffer = [0; 10];
        assert_eq!(listener.recv(&mut buffer).unwrap(), 5);
        assert_eq!(listener.recv(&mut buffer).unwrap(), 0);
    }

    #[test]
    fn an_exporter_has_one_address_on_loopback_whatever_its_ports_are() {
        let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut resender = resender(&listener);
        let sources = [("192.0.2.9", 1), ("2001:db8::1", 1), ("192.0.2.9", 2)];
        let arrived: Vec<_> = [sources, sources]
            .concat()
            .into_iter()
            .map(|(address, port)| {
                resender.take(&datagram(address, port, b"x"));
                listener.recv_from(&mut [0; 10]).unwrap().1
            })
            .collect();
        let addresses: Vec<_> = arrived.iter().map(|from| from.ip().to_string()).collect();
        assert_eq!(addresses[..3], ["127.1.0.1", "127.1.0.2", "127.1.0.1"]);
        assert_ne!(
            arrived[0], arrived[2],
            "each source has a socket of its own"
        );
        assert_eq!(arrived[..3], arrived[3..], "and keeps it");
        let said = summary(&resender);
        assert!(said.contains("2 exporters, each from an address"), "{said}");
        assert!(
            said.contains("2001:db8::1 was sent from 127.1.0.2"),
            "{said}"
        );
    }

    #[test]
    fn exporters_that_share_an_address_are_told() {
        let listener = UdpSocket::bind("[::1]:0").unwrap();
        let mut resender = resender(&listener);
        resender.take(&datagram("192.0.2.1", 5000, b"x"));
        assert!(!summary(&resender).contains("exporters"));
        resender.take(&datagram("192.0.2.2", 5000, b"x"));
        let [first, second] = [(); 2].map(|()| listener.recv_from(&mut [0; 10]).unwrap().1);
        assert_ne!(first, second);
        let said = summary(&resender);
        assert!(
            said.contains("2 exporters were sent from one address, from 2 ports"),
            "{said}"
        );
    }

    #[test]
    fn a_speed_is_a_number_from_0() {
        for (text, factor) in [("0", 0.0), ("1", 1.0), ("0.5", 0.5), ("1e3", 1000.0)] {
            assert_eq!(speed(text), Ok(factor));
        }
        for text in ["-1", "NaN", "inf", "fast", ""] {
            assert!(speed(text).is_err(), "{text}");
        }
    }
}
