//! Numbers by chance that a seed gives again.

/// Marsaglia's xorshift.
pub struct Chance(u64);

impl Chance {
    /// Of the seed in `SEED`, or of another one each time; it is said under the test's name.
    pub fn new(test: &str) -> Self {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed: u64 =
            seed.unwrap_or_else(|| u64::from(jiff::Timestamp::now().subsec_nanosecond().unsigned_abs()));
        println!("{test}: SEED={seed}");
        Self(seed | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
