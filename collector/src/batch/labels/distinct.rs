//! Which numbers there are in a lane of a batch: what they stand for is found out once for each of
//! them, and not for each row.

/// The numbers of a lane; keeps its buffers.
#[derive(Debug, Default)]
pub(super) struct Distinct {
    /// Each number once, 0 first, the others as they come.
    pub(super) numbers: Vec<u32>,
    /// For each row where its number stands among them.
    pub(super) rows: Vec<u32>,
    /// Twice as many as rows or more, a power of two.
    slots: Box<[Slot]>,
    hash: Hash,
    /// What `place` of a slot is counted from. Slots of the lanes before are not above.
    base: u32,
}

/// Makes slots out of numbers. Autonomous systems are what exporters say: the factor is drawn at
/// the start, so that nobody can have his numbers meet in one slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(rand::random::<u64>() | 1)
    }
}

impl Hash {
    /// The slot of `number` among `slots`, a power of two from 2 on: the upper bits of the product
    /// depend on all bits.
    #[inline]
    pub(super) fn slot(self, number: u32, slots: usize) -> usize {
        let product = u64::from(number).wrapping_mul(self.0);
        (product >> (u64::BITS - slots.ilog2())) as usize
    }
}

/// A number that was seen, in the first free slot from its own on.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    number: u32,
    /// `base` and the place of the number.
    place: u32,
}

impl Distinct {
    /// Tells the numbers of `ids` apart.
    pub(super) fn fill(&mut self, ids: &[u32]) {
        self.begin(ids.len());
        let Self {
            numbers,
            rows,
            slots,
            hash,
            base,
        } = self;
        let mask = slots.len() - 1;
        let mut before = Slot::default();
        rows.extend(ids.iter().map(|&number| {
            // Flows of one datagram often say the same.
            if number == before.number {
                return before.place;
            }
            before = Slot { number, place: 0 };
            if number == 0 {
                return 0;
            }
            let mut at = hash.slot(number, slots.len());
            // Half of the slots are free, so it ends.
            while slots[at & mask].place > *base && slots[at & mask].number != number {
                at += 1;
            }
            let slot = &mut slots[at & mask];
            if slot.place <= *base {
                let place = *base + numbers.len() as u32;
                *slot = Slot { number, place };
                numbers.push(number);
            }
            before.place = slot.place - *base;
            before.place
        }));
    }

    /// Forgets the lane before, of which there are no slots but at `base` and below.
    fn begin(&mut self, rows: usize) {
        let slots = (2 * rows.max(1)).next_power_of_two();
        let next = self.base.checked_add(self.numbers.len() as u32);
        let next = next.filter(|next| u32::MAX - next > rows as u32);
        match next {
            Some(next) if self.slots.len() >= slots => self.base = next,
            _ => {
                self.slots = vec![Slot::default(); slots.max(self.slots.len())].into();
                self.base = 0;
            }
        }
        self.rows.clear();
        self.numbers.clear();
        self.numbers.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(distinct: &mut Distinct, ids: &[u32]) {
        distinct.fill(ids);
        let Distinct { numbers, rows, .. } = &*distinct;
        let again: Vec<u32> = rows.iter().map(|row| numbers[*row as usize]).collect();
        assert_eq!(again, ids);
        assert_eq!(numbers[0], 0);
        let mut once = numbers.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), numbers.len());
    }

    #[test]
    fn each_number_is_there_once_and_each_row_finds_its_own() {
        let mut distinct = Distinct::default();
        check(&mut distinct, &[]);
        check(&mut distinct, &[7, 7, 0, 0, 3, 7, u32::MAX, 3]);
        assert_eq!(distinct.numbers, [0, 7, 3, u32::MAX]);
        // What one lane had is no number of the next.
        check(&mut distinct, &[3, 8]);
        assert_eq!(distinct.numbers, [0, 3, 8]);
        let many: Vec<u32> = (0..10_000_u32)
            .map(|n| n.wrapping_mul(0x0101_0101))
            .collect();
        check(&mut distinct, &many);
        check(&mut distinct, &many[..100]);
    }

    #[test]
    fn the_base_begins_anew_before_it_ends() {
        let mut distinct = Distinct::default();
        check(&mut distinct, &[1, 2, 3]);
        distinct.base = u32::MAX - 5;
        check(&mut distinct, &[3, 2, 1]);
        assert_eq!(distinct.base, 0);
        check(&mut distinct, &[4, 3]);
    }
}
