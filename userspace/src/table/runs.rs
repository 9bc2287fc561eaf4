//! Which elements of an array map are free: chunks of TABLES, ids.

use std::collections::BTreeMap;

/// Which chunks are free: first fit, neighbours merge on release.
#[derive(Debug, Clone)]
pub struct Runs {
    /// Start to length.
    free: BTreeMap<u32, u32>,
}

impl Runs {
    /// All of `capacity` chunks free.
    pub fn new(capacity: u32) -> Self {
        Self { free: BTreeMap::from_iter((capacity > 0).then_some((0, capacity))) }
    }

    /// How many chunks are free.
    pub fn free(&self) -> u32 {
        self.free.values().sum()
    }

    /// Takes a certain run, of whose chunks all must be free; false if one is not.
    pub fn take(&mut self, start: u32, length: u32) -> bool {
        let Some((&before, &free)) = self.free.range(..=start).next_back() else { return false };
        let (end, free_end) = (start + length, before + free);
        if end > free_end {
            return false;
        }
        self.free.remove(&before);
        if before < start {
            self.free.insert(before, start - before);
        }
        if end < free_end {
            self.free.insert(end, free_end - end);
        }
        true
    }

    /// Takes a run of `length` chunks (at least 1); its start, or None if no run is that long.
    pub fn allocate(&mut self, length: u32) -> Option<u32> {
        let (&start, &free) = self.free.iter().find(|&(_, &free)| free >= length)?;
        self.free.remove(&start);
        if free > length {
            self.free.insert(start + length, free - length);
        }
        Some(start)
    }

    /// Gives a run back that [`Runs::allocate`] gave out.
    pub fn release(&mut self, start: u32, length: u32) {
        let (mut start, mut length) = (start, length);
        if let Some(after) = self.free.remove(&(start + length)) {
            length += after;
        }
        if let Some((&before, &free)) = self.free.range(..start).next_back()
            && before + free == start
        {
            start = before;
            length += free;
        }
        self.free.insert(start, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use probe_common::hash::mix;

    #[test]
    fn runs_never_overlap_and_all_come_back() {
        let mut runs = Runs::new(1000);
        let mut held: Vec<(u32, u32)> = Vec::new();
        let mut owner = vec![false; 1000];
        for step in 0..20_000u64 {
            let draw = mix(step);
            if draw & 1 == 0 {
                let length = (draw >> 8) as u32 % 40 + 1;
                if let Some(start) = runs.allocate(length) {
                    for chunk in start..start + length {
                        assert!(!std::mem::replace(&mut owner[chunk as usize], true));
                    }
                    held.push((start, length));
                }
            } else if !held.is_empty() {
                let (start, length) = held.swap_remove((draw >> 8) as usize % held.len());
                owner[start as usize..(start + length) as usize].fill(false);
                runs.release(start, length);
            }
        }
        held.drain(..).for_each(|(start, length)| runs.release(start, length));
        assert_eq!(runs.allocate(1000), Some(0));
    }
}
