//! Which processor each worker runs on, and which are left for everything else.

use std::fmt;

use core_affinity::CoreId;

use crate::config;

/// Why workers cannot be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AffinityError {
    /// More workers than processors to pin them to.
    TooManyWorkers {
        /// `receive.workers`.
        workers: usize,
        /// Processors there are for them.
        cpus: usize,
        /// They are those of `receive.cpus`, not all of the machine.
        listed: bool,
    },
    /// A processor of `receive.cpus` that this process may not run on, or that does not exist.
    UnknownCpu(usize),
    /// A processor stands twice in `receive.cpus`.
    RepeatedCpu(usize),
}

impl fmt::Display for AffinityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooManyWorkers {
                workers,
                cpus,
                listed: true,
            } => write!(
                f,
                "receive.workers: {workers} is more than receive.cpus lists ({cpus}); lower it or \
                 list more processors"
            ),
            Self::TooManyWorkers {
                workers,
                cpus,
                listed: false,
            } => write!(
                f,
                "receive.workers: {workers} is more than there are processors ({cpus}); lower it \
                 or set receive.pin = false"
            ),
            Self::UnknownCpu(cpu) => write!(
                f,
                "receive.cpus: processor {cpu} does not exist or is not allowed to this process; \
                 see 'taskset -cp $$' for those that are"
            ),
            Self::RepeatedCpu(cpu) => write!(
                f,
                "receive.cpus: processor {cpu} is listed twice; two workers on one would share it"
            ),
        }
    }
}

impl std::error::Error for AffinityError {}

/// The processors that this process may run on. Ask before the first worker is pinned.
#[must_use]
pub fn available() -> Vec<CoreId> {
    core_affinity::get_core_ids().unwrap_or_default()
}

/// One entry a worker: the processor that it is to be pinned to, `None` without pinning.
///
/// `receive.workers = 0` makes as many workers as `receive.cpus` lists, or half of the processors,
/// at least one. Without `receive.cpus` the last processors are taken: interrupts and everything
/// else gather on the first ones.
///
/// # Errors
/// When there are not enough processors, or a listed one cannot be used.
pub fn plan(
    config: &config::Receive,
    available: &[CoreId],
) -> Result<Vec<Option<usize>>, AffinityError> {
    let workers = match (config.workers, config.cpus.len()) {
        (0, 0) => (available.len() / 2).max(1),
        (0, listed) => listed,
        (workers, _) => workers,
    };
    // Where the processors cannot be asked for, there is nothing to pin to either.
    if !config.pin || available.is_empty() {
        return Ok(vec![None; workers]);
    }
    for (index, cpu) in config.cpus.iter().copied().enumerate() {
        if !available.iter().any(|core| core.id == cpu) {
            return Err(AffinityError::UnknownCpu(cpu));
        }
        if config.cpus[..index].contains(&cpu) {
            return Err(AffinityError::RepeatedCpu(cpu));
        }
    }
    let listed = !config.cpus.is_empty();
    let cpus = if listed {
        config.cpus.len()
    } else {
        available.len()
    };
    if workers > cpus {
        return Err(AffinityError::TooManyWorkers {
            workers,
            cpus,
            listed,
        });
    }
    if listed {
        return Ok(config.cpus[..workers].iter().copied().map(Some).collect());
    }
    let last = &available[available.len() - workers..];
    Ok(last.iter().map(|core| Some(core.id)).collect())
}

/// The processors that no worker is pinned to; all of them when none is left over.
#[must_use]
pub fn housekeeping(plan: &[Option<usize>], available: &[CoreId]) -> Vec<usize> {
    let free: Vec<usize> = available
        .iter()
        .map(|core| core.id)
        .filter(|id| !plan.contains(&Some(*id)))
        .collect();
    if free.is_empty() {
        return available.iter().map(|core| core.id).collect();
    }
    free
}

/// Pins the calling thread to `cpu`; threads that it starts later inherit that. False when the
/// system refuses, which costs speed and nothing else.
#[must_use]
pub fn pin(cpu: usize) -> bool {
    core_affinity::set_for_current(CoreId { id: cpu })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(n: usize) -> Vec<CoreId> {
        (0..n).map(|id| CoreId { id }).collect()
    }

    fn config(workers: usize, cpus: &[usize]) -> config::Receive {
        config::Receive {
            workers,
            cpus: cpus.into(),
            ..config::Receive::default()
        }
    }

    #[test]
    fn by_default_half_of_the_processors_work_and_they_are_the_last() {
        assert_eq!(plan(&config(0, &[]), &cores(4)), Ok(vec![Some(2), Some(3)]));
        assert_eq!(plan(&config(0, &[]), &cores(1)), Ok(vec![Some(0)]));
        assert_eq!(plan(&config(0, &[]), &cores(3)), Ok(vec![Some(2)]));
    }

    #[test]
    fn listed_processors_are_taken_in_order_and_number_the_workers() {
        assert_eq!(
            plan(&config(0, &[3, 1]), &cores(4)),
            Ok(vec![Some(3), Some(1)])
        );
        assert_eq!(plan(&config(1, &[3, 1]), &cores(4)), Ok(vec![Some(3)]));
    }

    #[test]
    fn more_workers_than_processors_is_an_error_that_says_what_to_do() {
        let error = plan(&config(3, &[]), &cores(2)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "receive.workers: 3 is more than there are processors (2); lower it or set \
             receive.pin = false"
        );
        let error = plan(&config(3, &[0, 1]), &cores(4)).unwrap_err();
        assert_eq!(
            error,
            AffinityError::TooManyWorkers {
                workers: 3,
                cpus: 2,
                listed: true
            }
        );
    }

    #[test]
    fn unknown_and_repeated_processors_are_refused() {
        assert_eq!(
            plan(&config(1, &[7]), &cores(2)),
            Err(AffinityError::UnknownCpu(7))
        );
        assert_eq!(
            plan(&config(2, &[1, 1]), &cores(2)),
            Err(AffinityError::RepeatedCpu(1))
        );
    }

    #[test]
    fn without_pinning_any_number_of_workers_runs_anywhere() {
        let unpinned = config::Receive {
            pin: false,
            ..config(5, &[])
        };
        assert_eq!(plan(&unpinned, &cores(2)), Ok(vec![None; 5]));
    }

    #[test]
    fn housekeeping_gets_what_workers_leave_or_everything() {
        assert_eq!(housekeeping(&[Some(2), Some(3)], &cores(4)), [0, 1]);
        assert_eq!(housekeeping(&[Some(0)], &cores(1)), [0]);
        assert_eq!(housekeeping(&[None], &cores(2)), [0, 1]);
    }

    #[test]
    fn a_pinned_thread_may_run_on_that_processor_only() {
        std::thread::spawn(|| {
            let last = available().last().expect("a test runs somewhere").id;
            assert!(pin(last));
            let allowed: Vec<usize> = available().iter().map(|core| core.id).collect();
            assert_eq!(allowed, [last]);
        })
        .join()
        .unwrap();
    }
}
