//! Chance that replays: splitmix64. `Rng::fixed` always answers the lower bound, for the exhaustive
//! search, where every choice is a branch of its own.

#[derive(Clone, Debug)]
pub struct Rng {
    state: Option<u64>,
}

impl Rng {
    pub fn seeded(seed: u64) -> Self {
        let mut rng = Self { state: Some(seed ^ 0x5117_ab1e_0000_0001) };
        rng.next();
        rng
    }

    pub fn fixed() -> Self {
        Self { state: None }
    }

    fn next(&mut self) -> u64 {
        let Some(state) = &mut self.state else { return 0 };
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to below `high`.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        if high <= low { low } else { low + self.next() % (high - low) }
    }

    /// True in so many of a thousand cases.
    pub fn permille(&mut self, chance: u64) -> bool {
        self.state.is_some() && self.range(0, 1_000) < chance
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let index = usize::try_from(self.range(0, from.len() as u64)).ok()?;
        from.get(index)
    }
}
