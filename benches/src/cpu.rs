//! CPU time: of this thread, of a process, of the whole machine.
//!
//! Specs: clock_gettime(2), proc_pid_stat(5), proc_stat(5).

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of the calling thread so far, user and system, to the nanosecond.
#[must_use]
pub fn of_this_thread() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// CPU time of all threads of this process so far, user and system, to the nanosecond.
#[must_use]
pub fn of_this_process() -> Duration {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).expect("a CPU clock never runs below zero")
}

/// CPU time of a process, in steps of the kernel's tick (10 ms).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessTimes {
    /// In user mode, seconds.
    pub user_s: f64,
    /// In the kernel, seconds.
    pub system_s: f64,
}

impl ProcessTimes {
    /// What process `pid` has used so far, with all its threads and without its children.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: u32) -> Result<Self> {
        let file = format!("/proc/{pid}/stat");
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
        Self::parse(&text).with_context(|| format!("{file}: no CPU times in it: {text:?}"))
    }

    /// Fields 14 and 15. The name, field 2, may hold spaces and brackets; field 3 follows its last.
    fn parse(text: &str) -> Option<Self> {
        let (_, after_name) = text.rsplit_once(") ")?;
        let mut ticks = after_name.split_whitespace().skip(11);
        let user_s = seconds(ticks.next()?)?;
        let system_s = seconds(ticks.next()?)?;
        Some(Self { user_s, system_s })
    }

    /// User and system time, seconds.
    #[must_use]
    pub fn total_s(&self) -> f64 {
        self.user_s + self.system_s
    }

    /// What was used since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user_s: self.user_s - earlier.user_s,
            system_s: self.system_s - earlier.system_s,
        }
    }
}

/// CPU time, user and system, of those threads of process `pid` whose names begin with `prefix`, to
/// the nanosecond.
///
/// # Errors
/// When there is no such process or thread.
pub fn of_threads(pid: u32, prefix: &str) -> Result<Duration> {
    let folder = format!("/proc/{pid}/task");
    let threads = std::fs::read_dir(&folder).with_context(|| format!("read {folder}"))?;
    let mut sum = None;
    for thread in threads {
        let thread = thread?.path();
        // One that has just ended has no files any more.
        let read = |name: &str| std::fs::read_to_string(thread.join(name)).unwrap_or_default();
        if read("comm").starts_with(prefix) {
            // Time on a processor, time spent waiting for one, times on one: sched-stats.rst.
            let schedstat = read("schedstat");
            let ns = schedstat.split_whitespace().next();
            let ns = ns.and_then(|ns| ns.parse().ok());
            let ns = ns.with_context(|| format!("{}: no schedstat", thread.display()))?;
            sum = Some(sum.unwrap_or_default() + Duration::from_nanos(ns));
        }
    }
    sum.with_context(|| format!("process {pid} has no thread {prefix}..."))
}

/// CPU time of the whole machine, summed over its processors, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MachineTimes {
    /// In user mode, at any priority.
    pub user_s: f64,
    /// In the kernel on behalf of processes.
    pub system_s: f64,
    /// In interrupts and what they leave to do: on loopback, most of receiving.
    pub interrupts_s: f64,
    /// Wanted, and given by the hypervisor to others.
    pub stolen_s: f64,
    /// Not used, waiting for a disk included.
    pub idle_s: f64,
}

impl MachineTimes {
    /// Since the machine was started.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn now() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        Self::parse(&text).context("/proc/stat: the line 'cpu' is missing or too short")
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let times: Vec<f64> = line.split_whitespace().map_while(seconds).collect();
        let &[
            user,
            nice,
            system,
            idle,
            waiting,
            interrupts,
            softirqs,
            stolen,
            ..,
        ] = &*times
        else {
            return None;
        };
        Some(Self {
            user_s: user + nice,
            system_s: system,
            interrupts_s: interrupts + softirqs,
            stolen_s: stolen,
            idle_s: idle + waiting,
        })
    }

    /// Everything but idle and stolen time, seconds.
    #[must_use]
    pub fn busy_s(&self) -> f64 {
        self.user_s + self.system_s + self.interrupts_s
    }

    /// What was used since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user_s: self.user_s - earlier.user_s,
            system_s: self.system_s - earlier.system_s,
            interrupts_s: self.interrupts_s - earlier.interrupts_s,
            stolen_s: self.stolen_s - earlier.stolen_s,
            idle_s: self.idle_s - earlier.idle_s,
        }
    }
}

fn seconds(ticks: &str) -> Option<f64> {
    let ticks: u64 = ticks.parse().ok()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_process_are_found_behind_an_odd_name() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 9 8 7 6 250 150 3 2 20 0 1 0 5 6 7";
        let times = ProcessTimes::parse(text).unwrap();
        let ticks_a_second = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(times.user_s, 250.0 / ticks_a_second);
        assert_eq!(times.system_s, 150.0 / ticks_a_second);
        assert_eq!(ProcessTimes::parse("7 (short) S 1"), None);
    }

    #[test]
    fn the_times_of_the_machine_are_those_of_all_processors() {
        let text = "cpu  100 20 30 400 50 6 7 8 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        let times = MachineTimes::parse(text).unwrap();
        let ticks_a_second = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(times.user_s, 120.0 / ticks_a_second);
        assert_eq!(times.interrupts_s, 13.0 / ticks_a_second);
        assert_eq!(times.idle_s, 450.0 / ticks_a_second);
        assert_eq!(times.since(&times), MachineTimes::default());
    }

    #[test]
    fn the_times_of_a_thread_are_found_by_its_name() {
        let pid = std::process::id();
        assert!(of_threads(pid, "nobody-is-called").is_err());
        let thread = std::thread::Builder::new().name("spin-7".into());
        let spin = move || {
            let begun = of_this_thread();
            while of_this_thread() - begun < Duration::from_millis(30) {
                std::hint::spin_loop();
            }
            of_threads(pid, "spin-").unwrap()
        };
        let found = thread.spawn(spin).unwrap().join().unwrap();
        // The kernel writes down the current slice at a tick.
        assert!(found >= Duration::from_millis(15), "{found:?}");
        assert!(found < Duration::from_secs(1), "{found:?}");
    }

    #[test]
    fn work_shows_in_the_clocks_of_thread_process_and_proc() {
        let (thread, process) = (of_this_thread(), of_this_process());
        let of_pid = ProcessTimes::of(std::process::id()).unwrap();
        let machine = MachineTimes::now().unwrap();
        while of_this_thread() - thread < Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        assert!(of_this_process() - process >= Duration::from_millis(60));
        let of_pid = ProcessTimes::of(std::process::id()).unwrap().since(&of_pid);
        assert!(of_pid.total_s() >= 0.03, "{of_pid:?}");
        assert!(MachineTimes::now().unwrap().since(&machine).busy_s() > 0.0);
    }
}
