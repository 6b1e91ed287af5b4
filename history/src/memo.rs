//! A set of 128-bit numbers that only grows: open addressing, no hasher, the same order always.

/// Slots of an empty memo. Most keys are judged without a single entry.
const SLOTS_MIN: usize = 16;

/// The set. Its numbers must look random; 0 stands for an empty slot and is never inserted.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    slots: Vec<u128>,
    len: usize,
}

impl Memo {
    /// How many numbers are in it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether a number is in it.
    pub(crate) fn contains(&self, number: u128) -> bool {
        !self.slots.is_empty() && self.slots[self.place(number)] == number
    }

    /// Adds a number.
    pub(crate) fn insert(&mut self, number: u128) {
        if self.len * 4 >= self.slots.len() * 3 {
            self.grow();
        }
        let place = self.place(number);
        if self.slots[place] != number {
            self.slots[place] = number;
            self.len += 1;
        }
    }

    /// Where a number is, or would be.
    fn place(&self, number: u128) -> usize {
        let mask = self.slots.len() - 1;
        let mut place = number as usize & mask;
        while self.slots[place] != 0 && self.slots[place] != number {
            place = (place + 1) & mask;
        }
        place
    }

    fn grow(&mut self) {
        let slots = (self.slots.len() * 2).max(SLOTS_MIN);
        let old = std::mem::replace(&mut self.slots, vec![0; slots]);
        for number in old.into_iter().filter(|number| *number != 0) {
            let place = self.place(number);
            self.slots[place] = number;
        }
    }
}
