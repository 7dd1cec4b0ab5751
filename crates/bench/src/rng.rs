//! A small, fast random generator whose sequence is part of the workload's definition.
//!
//! Invariant: the same seed gives the same numbers in every release and on every machine, so that
//! figures measured a year apart are of the same bytes. That is why the generator is spelled out
//! here: the `rand` crate reserves the right to change `SmallRng`. The algorithm is xoshiro256++
//! (Blackman and Vigna, 2019), seeded by SplitMix64.

/// The generator; `Clone` gives an independent copy that continues with the same numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// A generator for `seed`; near seeds give unrelated sequences.
    pub fn new(seed: u64) -> Self {
        let mut mix = seed;
        let mut split = || {
            mix = mix.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let a = (mix ^ (mix >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            b ^ (b >> 31)
        };
        Self { state: [split(), split(), split(), split()] }
    }

    /// The next 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `0..bound`. The bias of the multiply-shift is below 2^-32 for all bounds
    /// used here.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `low..=high`.
    #[inline]
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True once in `n` calls on average.
    #[inline]
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One element of `items`, which must not be empty.
    #[inline]
    pub fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        assert!(!items.is_empty(), "nothing to pick from");
        items[self.below(items.len() as u64) as usize]
    }
}
