//! Chance that can be repeated.

/// A xorshift generator; its seed is printed when it is made.
pub struct Random(u64);

impl Random {
    /// Takes the seed from `TIDEGATE_SEED`, else from the clock, and prints it.
    pub fn from_env(test: &str) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let given = std::env::var("TIDEGATE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or(now.as_nanos() as u64) | 1;
        println!("{test}: TIDEGATE_SEED={seed}");
        Self(seed)
    }

    /// A generator of its own for another thread.
    pub fn split(&mut self) -> Self {
        Self(self.number() | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end.max(1)
    }
}
