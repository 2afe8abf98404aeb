//! What the system says of this process.

/// Figures of `/proc/self`; what cannot be read is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// Memory that is resident.
    pub(super) resident_bytes: u64,
    /// The most that ever was.
    pub(super) resident_bytes_max: u64,
    /// Processor time of all threads, user and system.
    pub(super) cpu_seconds: f64,
    /// Threads.
    pub(super) threads: u64,
}

/// `USER_HZ`: the unit of times in `/proc`, 100 on every architecture that Rust's standard library
/// runs on, <https://github.com/torvalds/linux/blob/v6.12/include/asm-generic/param.h>.
const USER_HZ: f64 = 100.0;

impl Process {
    pub(super) fn read() -> Self {
        let read = |name: &str| std::fs::read_to_string(name).unwrap_or_default();
        Self::parse(&read("/proc/self/status"), &read("/proc/self/stat"))
    }

    fn parse(status: &str, stat: &str) -> Self {
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_whitespace().next());
            number
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or_default()
        };
        // The name in parentheses may contain anything, so the fields count from its end.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks = fields.split_whitespace().skip(UTIME_AFTER_NAME).take(2);
        let ticks: f64 = ticks.filter_map(|text| text.parse::<f64>().ok()).sum();
        Self {
            resident_bytes: value("VmRSS:") * 1024,
            resident_bytes_max: value("VmHWM:") * 1024,
            cpu_seconds: ticks / USER_HZ,
            threads: value("Threads:"),
        }
    }
}

/// proc(5): utime and stime are fields 14 and 15, the name is field 2.
const UTIME_AFTER_NAME: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_a_parenthesis_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 99 1 1";
        let status = "Name:\ta\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n";
        let process = Process::parse(status, stat);
        assert_eq!(process.cpu_seconds, 3.0);
        assert_eq!(process.resident_bytes, 1 << 20);
        assert_eq!(process.resident_bytes_max, 2 << 20);
        assert_eq!(process.threads, 3);
    }

    #[test]
    fn this_process_has_memory_and_threads() {
        let process = Process::read();
        assert!(process.resident_bytes > 1 << 20, "{process:?}");
        assert!(process.threads >= 1, "{process:?}");
    }
}
