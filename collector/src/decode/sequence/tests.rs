use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// Milliseconds between two messages.
const STEP_MS: u64 = 1;
const START_MS: u64 = 1_800_000_000_000;

fn at(ms: u64) -> UnixNanos {
    UnixNanos((START_MS + ms) * 1_000_000)
}

/// One domain with a clock that goes on by a millisecond a message.
struct Follower {
    sequence: Sequence,
    port: u16,
    ms: u64,
}

impl Follower {
    fn new(flow_type: FlowType) -> Self {
        Self {
            sequence: Sequence::new(flow_type),
            port: 50_000,
            ms: 0,
        }
    }

    /// One whose numbers surely count `unit`, and go on at `next`.
    fn sure(unit: SequenceUnit, next: u32) -> Self {
        let follower = Self::new(FlowType::Ipfix);
        let state = SequenceState {
            next,
            unit,
            uptime_ms: None,
            seen_ms: START_MS,
        };
        follower.sequence.restore(&state, true);
        follower
    }

    fn take(&mut self, sequence: u32, records: impl Into<Option<u32>>) {
        self.take_up(sequence, records, None);
    }

    fn take_up(&mut self, sequence: u32, records: impl Into<Option<u32>>, uptime: Option<u32>) {
        self.ms += STEP_MS;
        let observation = Observation {
            sequence,
            records: records.into(),
            uptime_ms: uptime,
            source_port: self.port,
            received: at(self.ms),
        };
        assert!(self.sequence.try_observe(&observation));
    }

    /// Messages with consecutive numbers.
    fn take_all(&mut self, sequences: impl IntoIterator<Item = u32>) {
        sequences.into_iter().for_each(|n| self.take(n, 24));
    }

    fn counts(&self) -> SequenceCounts {
        self.sequence.status().counts
    }

    /// Lost, reordered, duplicated and restarts, in the end.
    fn end(&self) -> [u64; 4] {
        self.sequence.finish();
        let SequenceCounts {
            lost,
            reordered,
            duplicated,
            restarts,
            ..
        } = self.counts();
        [lost, reordered, duplicated, restarts]
    }
}

#[test]
fn the_numbers_of_a_domain_take_the_memory_that_the_configuration_says() {
    // With the counts of the Arc, and the status of one worker.
    let one = size_of::<Sequence>() + 16;
    let all = one + size_of::<SequenceStatus>();
    assert!(all as u64 <= crate::config::memory::SEQUENCE_BYTES, "{all}");
}

#[test]
fn the_first_message_of_ipfix_may_be_overtaken_by_several() {
    // A worker that learns a template hands it in behind those of another.
    let mut follower = Follower::new(FlowType::Ipfix);
    follower.take_all([24, 48, 72, 0]);
    follower.take_all((4..40).map(|n| n * 24));
    assert_eq!(follower.end(), [0, 1, 0, 0]);
    // Not a second time: the numbers were there.
    follower.take(0, 24);
    follower.take_all((1..20).map(|n| n * 24));
    assert_eq!(follower.end()[3], 1);
}

#[test]
fn what_is_missing_for_two_seconds_is_lost_and_not_before() {
    let mut follower = Follower::new(FlowType::Sflow5);
    follower.take_all([1, 2, 5]);
    let (unit, counts) = follower.sequence.drain(at(2002));
    assert_eq!((unit, counts.lost), (SequenceUnit::Packets, 0));
    let (_, counts) = follower.sequence.drain(at(2003));
    assert_eq!((counts.received, counts.lost), (0, 2));
    assert_eq!(follower.counts().received, 3);
}

#[test]
fn a_drain_tells_each_number_once() {
    let mut follower = Follower::new(FlowType::Sflow5);
    follower.take_all([1, 2, 4]);
    assert_eq!(follower.sequence.drain(at(5000)).1.lost, 1);
    assert_eq!(
        follower.sequence.drain(at(5000)).1,
        SequenceCounts::default()
    );
    assert_eq!(follower.counts().lost, 1);
}

#[test]
fn a_late_message_fills_its_hole_and_a_repeated_one_fills_none() {
    let mut follower = Follower::new(FlowType::Sflow5);
    follower.take_all([1, 5, 3, 3, 5, 2]);
    // 4 never came.
    assert_eq!(follower.end(), [1, 2, 2, 0]);
    assert_eq!(follower.counts().received, 4);
}

#[test]
fn a_message_that_an_even_later_one_overtook_at_the_start_is_not_taken_for_a_repeated_one() {
    let mut follower = Follower::new(FlowType::Sflow5);
    follower.take_all([7, 6, 6, 8]);
    assert_eq!(follower.end(), [0, 1, 1, 0]);
    assert_eq!(follower.counts().received, 3);
}

#[test]
fn a_message_that_overlaps_the_first_one_from_before_makes_no_hole() {
    let observation = |sequence, records| Observation {
        sequence,
        records: Some(records),
        uptime_ms: None,
        source_port: 50_000,
        received: at(0),
    };
    let unit = SequenceUnit::Records;
    let (mut stream, _) = stream::Stream::begin(unit, &observation(100, 30));
    let mut counts = SequenceCounts::default();
    stream.take(unit, &observation(90, 20), &mut counts);
    assert_eq!((counts.reordered, stream.holes.len()), (1, 0));
    // One that ends before it does.
    stream.take(unit, &observation(60, 20), &mut counts);
    assert_eq!((counts.reordered, stream.holes.len()), (2, 1));
}

#[test]
fn numbers_wrap() {
    let mut follower = Follower::new(FlowType::Sflow5);
    follower.take_all([u32::MAX - 1, 1, u32::MAX, 2]);
    assert_eq!(follower.end(), [1, 1, 0, 0]);
}

#[test]
fn records_are_counted_where_the_numbers_count_them() {
    let mut follower = Follower::new(FlowType::Ipfix);
    for n in 0..6 {
        follower.take(100 + 24 * n, 24);
    }
    // One message of 24 records is missing, and templates alone count as nothing.
    follower.take(100 + 24 * 7, 0);
    follower.take(100 + 24 * 7, 10);
    assert_eq!(follower.end(), [24, 0, 0, 0]);
    let status = follower.sequence.status();
    assert_eq!(status.next, Some(100 + 24 * 7 + 10));
    assert_eq!(status.unit.name(FlowType::Ipfix), "records");
}

#[test]
fn a_message_whose_records_cannot_be_counted_makes_no_gap() {
    let mut follower = Follower::sure(SequenceUnit::Records, 100);
    follower.take(100, 24);
    follower.take(124, None);
    follower.take(190, 24);
    follower.take(238, 24);
    assert_eq!(follower.end(), [24, 0, 0, 0]);
}

#[test]
fn an_exporter_of_netflow9_that_counts_flows_is_found_out_without_a_false_gap() {
    let mut follower = Follower::new(FlowType::Netflow9);
    let mut next = 7000;
    for n in 0..12 {
        let records = 20 + n % 3;
        follower.take(next, records);
        next += records;
    }
    assert_eq!(follower.sequence.status().unit, SequenceUnit::Records);
    follower.take(next + 15, 24);
    assert_eq!(follower.end(), [15, 0, 0, 0]);
}

#[test]
fn numbers_that_count_up_to_the_end_of_their_message_are_found_out() {
    let mut follower = Follower::new(FlowType::Netflow9);
    let mut total = 7000;
    for n in 0..16 {
        let records = 20 + n % 3;
        total += records;
        follower.take(total, records);
    }
    let unit = follower.sequence.status().unit;
    assert_eq!(unit, SequenceUnit::RecordsThrough);
    assert_eq!(unit.name(FlowType::Netflow9), "flows");
    follower.take(total + 15 + 24, 24);
    assert_eq!(follower.end(), [15, 0, 0, 0]);
}

#[test]
fn a_slow_exporter_that_counts_to_the_end_of_its_messages_makes_no_false_gap() {
    // As softflowd does with IPFIX: full messages, and now and then what was left.
    let mut follower = Follower::new(FlowType::Ipfix);
    let mut total = 0;
    for n in 0..40 {
        let records = if n % 7 == 6 { 5 } else { 32 };
        total += records;
        follower.take(total, records);
        follower.ms += 3000;
        let _ = follower.sequence.drain(at(follower.ms));
    }
    assert_eq!(
        follower.sequence.status().unit,
        SequenceUnit::RecordsThrough
    );
    assert_eq!(follower.counts().lost, 0);
    follower.take(total + 7 + 32, 32);
    assert_eq!(follower.end()[0], 7);
}

#[test]
fn an_exporter_that_counts_messages_is_not_taken_for_another_by_its_losses() {
    let mut follower = Follower::new(FlowType::Netflow9);
    follower.take_all(1..9);
    for n in 0..20 {
        // Each time as much further on as a message has records.
        follower.take_all([9 + 25 * n, 10 + 25 * n]);
    }
    assert_eq!(follower.sequence.status().unit, SequenceUnit::Packets);
    assert_eq!(follower.end(), [19 * 23, 0, 0, 0]);
}

#[test]
fn losses_before_it_is_sure_what_numbers_count_are_counted_afterwards() {
    let mut follower = Follower::new(FlowType::Netflow9);
    follower.take_all([1, 2, 4]);
    assert_eq!(follower.sequence.drain(at(60_000)).1.lost, 0);
    follower.take_all([5, 6, 7]);
    assert_eq!(follower.sequence.drain(at(60_000)).1.lost, 1);
}

#[test]
fn an_uptime_that_begins_anew_is_a_restart_however_near_the_numbers_are() {
    let mut follower = Follower::new(FlowType::Netflow9);
    for n in 0..6 {
        follower.take_up(n, 24, Some(500_000 + n));
    }
    follower.take_up(2, 24, Some(100));
    follower.take_up(3, 24, Some(200));
    // The same run two minutes later, then another restart.
    follower.take_up(6, 24, Some(120_000));
    follower.take_up(9, 24, Some(50));
    assert_eq!(follower.end(), [2, 0, 0, 2]);
}

#[test]
fn an_uptime_that_wraps_is_no_restart() {
    let mut follower = Follower::new(FlowType::Sflow5);
    follower.take_up(7, 1, Some(u32::MAX - 5));
    follower.take_up(9, 1, Some(20));
    assert_eq!(follower.end(), [1, 0, 0, 0]);
}

#[test]
fn a_jump_far_away_is_a_restart_without_a_gap() {
    for start in [0, 2_000_000_000] {
        let mut follower = Follower::new(FlowType::Ipfix);
        for n in 0..6 {
            follower.take(1_000_000 + 24 * n, 24);
        }
        follower.take(start, 24);
        follower.take(start + 24, 24);
        assert_eq!(follower.end(), [0, 0, 0, 1], "from {start}");
    }
}

#[test]
fn ipfix_that_begins_at_zero_again_is_a_restart_however_little_came_before() {
    let mut follower = Follower::new(FlowType::Ipfix);
    for n in 0..6 {
        follower.take(24 * n, 24);
    }
    follower.take(0, 24);
    assert_eq!(follower.end(), [0, 0, 0, 1]);
}

#[test]
fn exporters_that_have_all_but_their_ports_in_common_are_followed_each_by_itself() {
    let mut follower = Follower::new(FlowType::Sflow5);
    for n in 0..50 {
        for exporter in 0..10 {
            // Their numbers are near each other, and each loses one of its own.
            if n != 20 + exporter {
                follower.port = 50_000 + exporter as u16;
                follower.take_all([100 * exporter + n * (1 + exporter % 2)]);
            }
        }
    }
    // Those with an odd number leave every second number out.
    assert_eq!(follower.end(), [5 + 5 * (49 + 1), 0, 0, 0]);
    assert_eq!(follower.sequence.state(), None);
}

#[test]
fn what_ports_mean_and_what_numbers_count_may_be_found_out_at_the_same_time() {
    let mut follower = Follower::new(FlowType::Netflow9);
    let mut totals = [1000, 50_000];
    let mut drained = SequenceCounts::default();
    for n in 0..60_usize {
        let exporter = if n < 3 { 0 } else { n % 2 };
        follower.port = 50_000 + exporter as u16;
        let records = 20 + n as u32 % 3;
        follower.take(totals[exporter], records);
        totals[exporter] += records;
        if n % 10 == 9 {
            drained.add(&follower.sequence.drain(at(follower.ms)).1);
        }
    }
    assert_eq!(follower.sequence.status().unit, SequenceUnit::Records);
    follower.take(totals[1] + 33, 20);
    assert_eq!(follower.end(), [33, 0, 0, 0]);
    drained.add(&follower.sequence.drain(at(follower.ms)).1);
    assert_eq!(drained, follower.counts());
}

#[test]
fn an_exporter_that_uses_several_ports_is_followed_as_one() {
    let mut follower = Follower::new(FlowType::Sflow5);
    for n in (0..100).filter(|n| ![30, 31, 50, 70].contains(n)) {
        follower.port = 50_000 + (n % 2) as u16;
        follower.take_all([n]);
    }
    assert_eq!(follower.end(), [4, 0, 0, 0]);
}

#[test]
fn an_exporter_that_changes_its_port_each_time_is_followed_as_one() {
    let mut follower = Follower::new(FlowType::Sflow5);
    for n in (0..100).filter(|n| ![30, 31, 50, 70].contains(n)) {
        follower.port = 40_000 + n as u16;
        follower.take_all([n]);
    }
    assert_eq!(follower.end(), [4, 0, 0, 0]);
}

#[test]
fn a_process_that_comes_back_with_another_port_after_a_while_is_a_restart() {
    let mut follower = Follower::new(FlowType::Sflow5);
    follower.take_all(100..110);
    follower.port += 1;
    follower.ms += 6000;
    follower.take_all([1, 2]);
    assert_eq!(follower.end(), [0, 0, 0, 1]);
}

#[test]
fn more_exporters_in_one_domain_than_are_followed_make_no_false_gaps() {
    let mut follower = Follower::new(FlowType::Sflow5);
    for n in 0..50 {
        for exporter in 0..40 {
            follower.port = 50_000 + exporter as u16;
            follower.take_all([10_000 * exporter + 7 * exporter + n]);
        }
    }
    assert_eq!(follower.end(), [0, 0, 0, 0]);
}

#[test]
fn numbers_that_begin_anew_not_far_back_are_taken_for_repeated_only_at_first() {
    let mut follower = Follower::new(FlowType::Netflow9);
    follower.take_all(100..300);
    follower.take_all((0..60).filter(|n| *n != 50).map(|n| 120 + n));
    assert_eq!(follower.end(), [1, 0, 15, 1]);
}

#[test]
fn a_long_outage_is_a_gap_as_far_as_somebody_can_have_sent_so_much() {
    let mut follower = Follower::new(FlowType::Sflow5);
    follower.take_all([1]);
    follower.ms += 3_600_000;
    follower.take_all([100_000_002]);
    assert_eq!(follower.end(), [100_000_000, 0, 0, 0]);
}

#[test]
fn what_was_lost_while_the_collector_was_dead_is_a_gap_if_its_state_is_exact() {
    for (is_exact, lost) in [(true, 40), (false, 0)] {
        let mut before = Follower::new(FlowType::Netflow9);
        before.take_all(1..10);
        let state = before.sequence.state().unwrap();
        let text = serde_json::to_string(&state).unwrap();
        let state = serde_json::from_str(&text).unwrap();
        let mut after = Follower::new(FlowType::Netflow9);
        after.sequence.restore(&state, is_exact);
        after.take_all([50, 51]);
        assert_eq!(after.end(), [lost, 0, 0, 0], "exact: {is_exact}");
    }
}

#[test]
fn nothing_is_restored_over_what_was_observed() {
    let mut follower = Follower::new(FlowType::Sflow5);
    follower.take_all([1000]);
    let state = Follower::sure(SequenceUnit::Packets, 5).sequence.state();
    follower.sequence.restore(&state.unwrap(), true);
    assert_eq!(follower.sequence.status().next, Some(1001));
}

#[test]
fn holes_beyond_those_that_are_kept_are_lost_early_and_once() {
    let mut follower = Follower::sure(SequenceUnit::Packets, 0);
    follower.take_all((0..5000).map(|n| 2 * n));
    assert!(follower.counts().lost > 2000);
    assert_eq!(follower.end(), [4999, 0, 0, 0]);
}

#[test]
fn a_worker_that_meets_another_one_hands_in_later() {
    let sequence = Arc::new(Sequence::new(FlowType::Sflow5));
    let observation = |sequence| Observation {
        sequence,
        records: None,
        uptime_ms: None,
        source_port: 1,
        received: at(0),
    };
    let mut held = Held::default();
    sequence.observe(&observation(1), &mut held);
    let inside = sequence.tracker.try_lock().unwrap();
    sequence.observe(&observation(2), &mut held);
    held.hand_in();
    assert_eq!(held.0.len(), 1);
    drop(inside);
    sequence.observe(&observation(3), &mut held);
    held.hand_in();
    assert!(held.0.is_empty());
    let counts = sequence.status().counts;
    assert_eq!((counts.received, counts.reordered), (3, 1));
}

#[test]
fn what_a_worker_cannot_keep_is_no_gap() {
    let sequence = Arc::new(Sequence::new(FlowType::Sflow5));
    let mut held = Held::default();
    let mut next = 0;
    let mut observe = |held: &mut Held, count: u32| {
        for _ in 0..count {
            let observation = Observation {
                sequence: next,
                records: None,
                uptime_ms: None,
                source_port: 1,
                received: at(0),
            };
            sequence.observe(&observation, held);
            next += 1;
        }
    };
    observe(&mut held, 1);
    {
        let _inside = sequence.tracker.try_lock().unwrap();
        observe(&mut held, HELD_MAX as u32 + 100);
    }
    held.hand_in();
    observe(&mut held, 1);
    sequence.finish();
    assert_eq!(sequence.status().counts.lost, 0);
}

/// What a network does to a message.
#[derive(Clone, Copy, Debug)]
struct Fate {
    records: u32,
    is_lost: bool,
    is_repeated: bool,
    /// By how many messages it is late.
    late: usize,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = (1..40_u32, 0..100, 0..100, 0..100, 1..30_usize);
    let fate = fate.prop_map(|(records, lost, repeated, late, by)| Fate {
        records,
        is_lost: lost < 15,
        is_repeated: repeated < 10,
        late: if late < 20 { by } else { 0 },
    });
    prop::collection::vec(fate, 2..300)
}

proptest! {
    #[test]
    fn whatever_a_network_loses_repeats_and_reorders_exactly_its_losses_are_found(
        mut fates in fates(),
        start in prop_oneof![1..1_000_000_u32, u32::MAX - 2000..u32::MAX],
        counts_records in any::<bool>(),
    ) {
        // What nobody can know: whether more was sent before the first and behind the last.
        for end in [0, fates.len() - 1] {
            fates[end] = Fate { is_lost: false, late: 0, ..fates[end] };
        }
        let unit = match counts_records {
            true => SequenceUnit::Records,
            false => SequenceUnit::Packets,
        };
        let last = fates.len() - 1;
        let mut next = start;
        let (mut lost, mut repeated) = (0, 0);
        let mut arriving = Vec::new();
        for (n, fate) in fates.iter().enumerate() {
            let len = if counts_records { fate.records } else { 1 };
            if fate.is_lost {
                lost += u64::from(len);
            } else {
                // Nothing is behind the last one.
                let place = (n + fate.late).min(last.max(1) - usize::from(n < last));
                arriving.push((place, n, next, fate.records));
                // Repeated, the number 0 looks like a restart.
                if fate.is_repeated && next != 0 {
                    repeated += 1;
                    arriving.push((place, n, next, fate.records));
                }
            }
            next = next.wrapping_add(len);
        }
        arriving.sort_by_key(|(place, n, ..)| (*place, *n));
        let mut follower = Follower::sure(unit, start);
        for (_, _, number, records) in arriving {
            follower.take(number, records);
        }
        let [found, _, duplicated, restarts] = follower.end();
        prop_assert_eq!((found, duplicated, restarts), (lost, repeated, 0));
    }

    #[test]
    fn whoever_uses_two_ports_is_followed_as_one_in_whatever_order_they_are_read(
        messages in prop::collection::vec((0..100, any::<bool>()), 100..300),
        bursts in prop::collection::vec(1..30_usize, 300),
        start in 1..1_000_000_u32,
    ) {
        let numbered = (start..).zip(messages);
        let mut lost = 0;
        let mut ways = [VecDeque::new(), VecDeque::new()];
        for (number, (chance, way)) in numbered {
            // What was sent before all others and behind them nobody can know of.
            let is_inside = (20..80).contains(&(number - start));
            match is_inside && chance < 10 {
                true => lost += 1,
                false => ways[usize::from(way)].push_back(number),
            }
        }
        let mut follower = Follower::new(FlowType::Sflow5);
        for (turn, burst) in bursts.into_iter().enumerate() {
            follower.port = 50_000 + (turn % 2) as u16;
            let way = &mut ways[turn % 2];
            follower.take_all(way.drain(..burst.min(way.len())));
        }
        prop_assert!(ways.iter().all(VecDeque::is_empty));
        let [found, _, duplicated, restarts] = follower.end();
        prop_assert_eq!((found, duplicated, restarts), (lost, 0, 0));
    }

    #[test]
    fn exporters_with_one_address_are_followed_each_in_whatever_order_they_are_read(
        exporters in prop::collection::vec((1..3000_u32, any::<u64>()), 2..8),
        bursts in prop::collection::vec((0..8_usize, 1..10_usize), 1000),
    ) {
        let mut lost = 0;
        let ways = exporters.iter().map(|(start, losses)| {
            let is_lost = |n: &u32| (20..80).contains(n) && losses >> (n % 64) & 7 == 0;
            lost += (0..100).filter(is_lost).count() as u64;
            (0..100).filter(|n| !is_lost(n)).map(|n| start + n).collect::<VecDeque<_>>()
        });
        let mut ways: Vec<_> = ways.collect();
        let mut follower = Follower::new(FlowType::Sflow5);
        for (exporter, burst) in bursts {
            let exporter = exporter % ways.len();
            follower.port = 50_000 + exporter as u16;
            let way = &mut ways[exporter];
            follower.take_all(way.drain(..burst.min(way.len())));
        }
        prop_assume!(ways.iter().all(VecDeque::is_empty));
        let [found, _, duplicated, restarts] = follower.end();
        prop_assert_eq!((found, duplicated, restarts), (lost, 0, 0));
    }

    #[test]
    fn whatever_comes_what_was_drained_adds_up_to_what_the_status_says(
        messages in prop::collection::vec(
            (
                prop_oneof![0..200_u32, any::<u32>()],
                prop::option::of(0..40_u32),
                prop::option::of(prop_oneof![Just(100_000_u32), any::<u32>()]),
                0..4_u16,
                0..3000_u64,
                0..10,
            ),
            1..400,
        ),
        flow_type in prop_oneof![
            Just(FlowType::Netflow5),
            Just(FlowType::Netflow9),
            Just(FlowType::Ipfix),
            Just(FlowType::Sflow5),
        ],
    ) {
        let mut follower = Follower::new(flow_type);
        let mut drained = SequenceCounts::default();
        let mut number = 0_u32;
        for (other, records, uptime, port, pause_ms, event) in messages {
            follower.port = port;
            follower.ms += pause_ms;
            // Mostly one that goes on, else any.
            let sequence = if event < 7 { number } else { other };
            number = sequence.wrapping_add(records.unwrap_or(1));
            follower.take_up(sequence, records, uptime);
            if event % 3 == 0 {
                drained.add(&follower.sequence.drain(at(follower.ms)).1);
                prop_assert_eq!(drained, follower.counts());
            }
        }
        follower.sequence.finish();
        drained.add(&follower.sequence.drain(at(follower.ms)).1);
        prop_assert_eq!(drained, follower.counts());
    }
}
