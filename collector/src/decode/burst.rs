//! The flows that one worker decodes before it hands them on.

use std::ops::Range;

use super::{ExtraBuffer, FlowSink};
use crate::flow::Flow;
use crate::ledger::WorkerCounts;

/// Flows handed on at once: 64 of them stay in the first two caches.
pub const BURST_FLOWS: usize = 64;

/// Storage of a burst; made once a worker.
#[derive(Debug)]
pub struct BurstBuffer {
    flows: Box<[Flow; BURST_FLOWS]>,
    extra: ExtraBuffer,
}

impl Default for BurstBuffer {
    /// Without room for what fills no column.
    fn default() -> Self {
        Self::new(ExtraBuffer::default())
    }
}

impl BurstBuffer {
    /// With `extra` for what fills no column.
    #[must_use]
    pub fn new(extra: ExtraBuffer) -> Self {
        Self {
            flows: Box::new([Flow::EMPTY; BURST_FLOWS]),
            extra,
        }
    }
}

/// A burst being filled in place. Hands on when it is full and when it is finished.
#[derive(Debug)]
pub struct Burst<'a, S: FlowSink> {
    flows: &'a mut [Flow; BURST_FLOWS],
    filled: usize,
    extra: &'a mut ExtraBuffer,
    sink: &'a mut S,
    /// When all flows are to end, milliseconds since the epoch; 0 leaves them as they are.
    end_ms: u64,
}

/// A function of its own: where the optimizer sees how `base` was made or what becomes of `flow`,
/// it may set fields one by one instead of copying them together, which took a third more
/// instructions.
#[inline(never)]
fn begin_one(flow: &mut Flow, base: &Flow) {
    flow.begin(base);
}

/// [`begin_one`] for many, in one call.
#[inline(never)]
fn begin_all(flows: &mut [Flow], base: &Flow) {
    Flow::begin_all(flows, base);
}

impl<'a, S: FlowSink> Burst<'a, S> {
    /// An empty burst in `buffer` that goes to `sink`.
    #[inline]
    pub fn new(buffer: &'a mut BurstBuffer, sink: &'a mut S) -> Self {
        Self {
            flows: &mut buffer.flows,
            filled: 0,
            extra: &mut buffer.extra,
            sink,
            end_ms: 0,
        }
    }

    /// The same, with all flows moved to end at `end_ms`, milliseconds since the epoch, unless that
    /// is 0.
    #[must_use]
    #[inline]
    pub fn ending(self, end_ms: u64) -> Self {
        Self { end_ms, ..self }
    }

    /// Hands on what there is, and has flows end at `end_ms` from here on, as in
    /// [`Burst::ending`].
    pub fn end_at(&mut self, end_ms: u64) {
        if self.end_ms != end_ms {
            self.flush();
            self.end_ms = end_ms;
        }
    }

    /// The next flow of the burst, set to `base`. It counts as decoded from here on.
    #[inline]
    pub fn next(&mut self, base: &Flow, counts: &mut WorkerCounts) -> &mut Flow {
        if self.filled == BURST_FLOWS {
            self.flush();
        }
        let flow = &mut self.flows[self.filled];
        begin_one(flow, base);
        self.filled += 1;
        counts.flows_decoded += 1;
        flow
    }

    /// The next flows of the burst, one at least and `max` at most, set to `base`. They count as
    /// decoded from here on.
    ///
    /// # Panics
    /// When `max` is 0.
    #[inline]
    pub fn next_many(&mut self, max: usize, base: &Flow, counts: &mut WorkerCounts) -> &mut [Flow] {
        assert!(max > 0, "somebody wants a flow");
        if self.filled == BURST_FLOWS {
            self.flush();
        }
        let start = self.filled;
        self.filled = BURST_FLOWS.min(start + max);
        let flows = &mut self.flows[start..self.filled];
        begin_all(flows, base);
        counts.flows_decoded += flows.len() as u64;
        flows
    }

    /// The `count` newest flows.
    #[inline]
    pub fn newest(&mut self, count: usize) -> &mut [Flow] {
        let start = self.filled.saturating_sub(count);
        &mut self.flows[start..self.filled]
    }

    /// Room for what the `count` newest flows say beside their fields, and their numbers. Each flow
    /// says it once, before a newer one is begun.
    #[inline]
    pub fn extra_of_newest(&mut self, count: usize) -> (&mut ExtraBuffer, Range<usize>) {
        let start = self.filled.saturating_sub(count);
        (self.extra, start..self.filled)
    }

    /// Hands on what there is.
    #[inline]
    pub fn flush(&mut self) {
        if self.filled > 0 {
            let flows = &mut self.flows[..self.filled];
            if self.end_ms > 0 {
                flows.iter_mut().for_each(|flow| flow.end_at(self.end_ms));
            }
            if self.extra.is_empty() {
                self.sink.flows(flows);
            } else {
                self.sink
                    .flows_with_extra(flows, self.extra.rows(self.filled));
                self.extra.clear();
            }
            self.filled = 0;
        }
    }
}
