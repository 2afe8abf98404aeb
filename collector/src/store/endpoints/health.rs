//! What is known of each server, and which one is in use.

use std::time::{Duration, Instant};

use super::PROBES_FAILED_MAX;

/// A preferred server that fails again soon after each return waits at most so many times longer.
const HOLD_TIMES_MAX: u32 = 64;

/// All of them; time is a parameter.
pub(super) struct Servers {
    servers: Vec<Server>,
    in_use: usize,
    failback_after: Duration,
}

struct Server {
    url: String,
    /// Since when it answers; none while it does not.
    up_since: Option<Instant>,
    /// Probes since the last answer.
    probes_failed: u32,
    /// When it was returned to last.
    returned: Option<Instant>,
    /// It must answer for so many times `failback_after`.
    hold_times: u32,
    failures: u64,
    error: Option<String>,
}

/// What is known of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// Its address.
    pub url: String,
    /// Rows go there.
    pub in_use: bool,
    /// It answered when it was asked or written to last.
    pub up: bool,
    /// Inserts and probes that failed there.
    pub failures: u64,
    /// The last failure, while it is not up.
    pub error: Option<String>,
}

impl Servers {
    /// Nothing is known yet of any: the first is in use, and all are believed to work.
    pub fn new(urls: Vec<String>, failback_after: Duration) -> Self {
        let now = Instant::now();
        let servers = urls.into_iter().map(|url| Server {
            url,
            up_since: Some(now),
            probes_failed: 0,
            returned: None,
            hold_times: 1,
            failures: 0,
            error: None,
        });
        let servers: Vec<_> = servers.collect();
        assert!(!servers.is_empty(), "an endpoint has an address");
        Self {
            servers,
            in_use: 0,
            failback_after,
        }
    }

    pub fn in_use(&self) -> usize {
        self.in_use
    }

    pub fn url(&self, index: usize) -> &str {
        &self.servers[index].url
    }

    pub fn status(&self) -> Vec<ServerStatus> {
        let status = |(index, server): (usize, &Server)| ServerStatus {
            url: server.url.clone(),
            in_use: index == self.in_use,
            up: server.up_since.is_some(),
            failures: server.failures,
            error: server.error.clone(),
        };
        self.servers.iter().enumerate().map(status).collect()
    }

    /// Something was done at `index`. True when it had failed before.
    pub fn worked(&mut self, index: usize, now: Instant) -> bool {
        self.servers[index].answers(now)
    }

    /// An insert failed at `index`, or it was silent for too long. If it was the one in use, the
    /// next that answers is; if none does, the next one, so that all have their turn. True when
    /// one that answers took over.
    pub fn failed(&mut self, index: usize, error: &str, now: Instant) -> bool {
        let failback_after = self.failback_after;
        self.servers[index].fails(error, failback_after, now);
        if index != self.in_use {
            return false;
        }
        let preferred = self
            .servers
            .iter()
            .position(|server| server.up_since.is_some());
        self.in_use = preferred.unwrap_or((index + 1) % self.servers.len());
        preferred.is_some()
    }

    /// `index` answered a probe. True when it is in use from now on.
    pub fn answered(&mut self, index: usize, now: Instant) -> bool {
        self.servers[index].answers(now);
        let hold = self.failback_after * self.servers[index].hold_times;
        let used_is_up = self.servers[self.in_use].up_since.is_some();
        let server = &mut self.servers[index];
        let answers_for = server.up_since.map_or(Duration::ZERO, |since| now - since);
        let is_preferred = index < self.in_use && answers_for >= hold;
        let takes_over = index != self.in_use && (is_preferred || !used_is_up);
        if takes_over {
            server.returned = Some(now);
            self.in_use = index;
        }
        takes_over
    }

    /// `index` did not answer a probe. True when that was once too often for the one in use; the
    /// others just do not answer.
    pub fn silent(&mut self, index: usize, error: &str, now: Instant) -> bool {
        let server = &mut self.servers[index];
        server.probes_failed += 1;
        if index == self.in_use {
            return server.probes_failed == PROBES_FAILED_MAX;
        }
        server.fails(error, self.failback_after, now);
        false
    }
}

impl Server {
    /// True when it did not before.
    fn answers(&mut self, now: Instant) -> bool {
        let was_down = self.up_since.is_none();
        self.up_since.get_or_insert(now);
        self.probes_failed = 0;
        self.error = None;
        was_down
    }

    fn fails(&mut self, error: &str, failback_after: Duration, now: Instant) {
        if let Some(returned) = self.returned.take() {
            let was_soon = now - returned < failback_after * self.hold_times;
            let doubled = (self.hold_times * 2).min(HOLD_TIMES_MAX);
            self.hold_times = if was_soon { doubled } else { 1 };
        }
        self.up_since = None;
        self.failures += 1;
        self.error = Some(error.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(30);

    fn servers(count: usize) -> (Servers, Instant) {
        let urls = (0..count).map(|n| format!("http://{n}")).collect();
        (Servers::new(urls, AFTER), Instant::now())
    }

    #[test]
    fn the_one_in_use_stays_until_it_fails() {
        let (mut servers, now) = servers(2);
        assert!(!servers.failed(1, "down", now), "it is not in use");
        assert!(!servers.answered(1, now + AFTER * 2), "it is not preferred");
        assert_eq!(servers.in_use(), 0);
        assert!(servers.failed(0, "down", now));
        assert_eq!(servers.in_use(), 1);
        assert!(
            !servers.failed(0, "down", now),
            "a late failure moves nothing"
        );
        assert_eq!(servers.in_use(), 1);
    }

    #[test]
    fn the_first_that_answers_takes_over_and_when_none_does_all_have_their_turn() {
        let (mut servers, now) = servers(3);
        servers.silent(1, "silent", now);
        assert!(servers.failed(0, "down", now));
        assert_eq!(servers.in_use(), 2);
        let turns: Vec<_> = (0..3)
            .map(|_| {
                let index = servers.in_use();
                assert!(!servers.failed(index, "down", now));
                servers.in_use()
            })
            .collect();
        assert_eq!(turns, [0, 1, 2]);
        assert!(
            servers.answered(1, now),
            "one that answers is better than none"
        );
        assert_eq!(servers.in_use(), 1);
    }

    #[test]
    fn a_preferred_one_is_returned_to_when_it_has_answered_long_enough() {
        let (mut servers, now) = servers(2);
        servers.failed(0, "down", now);
        assert!(!servers.answered(0, now));
        assert!(!servers.answered(0, now + AFTER / 2));
        servers.silent(0, "silent", now + AFTER / 2);
        assert!(!servers.answered(0, now + AFTER), "it was silent meanwhile");
        assert!(servers.answered(0, now + AFTER * 2));
        assert_eq!(servers.in_use(), 0);
    }

    #[test]
    fn one_that_fails_again_and_again_after_its_return_waits_longer_each_time() {
        let (mut servers, mut now) = servers(2);
        for times in [1, 2, 4, 8, 16, 32, 64, 64] {
            servers.failed(0, "down", now);
            assert!(!servers.answered(0, now));
            assert!(!servers.answered(0, now + AFTER * times - Duration::from_secs(1)));
            now += AFTER * times;
            assert!(servers.answered(0, now), "{times}");
        }
        // It works for long: the next return is soon again.
        now += AFTER * 64;
        servers.failed(0, "down", now);
        servers.answered(0, now);
        assert!(servers.answered(0, now + AFTER));
    }

    #[test]
    fn the_one_in_use_may_be_silent_for_two_probes() {
        let (mut servers, now) = servers(2);
        assert!(!servers.silent(0, "silent", now));
        assert!(!servers.silent(0, "silent", now));
        assert!(servers.silent(0, "silent", now));
        servers.worked(0, now);
        assert!(
            !servers.silent(0, "silent", now),
            "an insert is a sign of life"
        );
    }
}
