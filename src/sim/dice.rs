//! Dice: every random choice of a run, from its seed.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A seeded source of choices.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Choices of a seed. `stream` separates uses of one seed from each other.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }
    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high.max(low))
    }
    /// A place in a list of this length, which must not be zero.
    pub fn below(&mut self, length: usize) -> usize {
        self.0.random_range(0..length)
    }
    /// True so many times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        percent > 0 && self.0.random_range(0..100) < percent
    }
    /// True so many times in a thousand.
    pub fn permille(&mut self, permille: u64) -> bool {
        permille > 0 && self.0.random_range(0..1000) < permille
    }
    /// One of a list, which must not be empty.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
    /// The list in random order.
    pub fn shuffled<T>(&mut self, mut list: Vec<T>) -> Vec<T> {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
        list
    }
    /// Any number.
    pub fn any(&mut self) -> u32 {
        self.0.random()
    }
}
