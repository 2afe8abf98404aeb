//! How far a long step is: rewritten in place on a terminal, a line every few seconds elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// A step that counts bytes towards a known total.
pub struct Progress {
    label: &'static str,
    total: u64,
    started: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// Starts a step of `total` bytes.
    pub fn new(label: &'static str, total: u64) -> Self {
        Self {
            label,
            total,
            started: Instant::now(),
            shown: Some(Instant::now()),
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// `done` bytes are done.
    pub fn at(&mut self, done: u64) {
        let pause = Duration::from_millis(if self.terminal { 200 } else { 5000 });
        if self.shown.is_some_and(|shown| shown.elapsed() < pause) {
            return;
        }
        self.shown = Some(Instant::now());
        let (done_mb, total_mb) = (done / 1_000_000, self.total / 1_000_000);
        let percent = (done * 100).checked_div(self.total).unwrap_or(0).min(100);
        let (start, end) = if self.terminal {
            ("\r", "")
        } else {
            ("", "\n")
        };
        let label = self.label;
        eprint!("{start}xtask: {label}: {done_mb} of {total_mb} MB ({percent} %){end}");
        let _ = std::io::stderr().flush();
    }

    /// The step is done.
    pub fn done(self) {
        let start = if self.terminal { "\r" } else { "" };
        let seconds = self.started.elapsed().as_secs_f64();
        let label = self.label;
        eprintln!("{start}xtask: {label}: done in {seconds:.1} s          ");
    }
}
