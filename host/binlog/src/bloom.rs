//! The basic bloom filter of Milvus' primary key statistics, bit for bit that of Go's `bits-and-blooms`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde::{Deserialize, Serialize};

/// Most hash functions a filter may ask for: at one false positive in 10^18 a well-sized one has 60.
const HASHES_MAX: u32 = 64;

/// A set of keys that may say yes to a key it does not hold, and never no to one it does.
///
/// ```
/// let mut bloom = tidegate_binlog::BasicBloom::sized(3, 0.001);
/// bloom.add(b"a key");
/// assert!(bloom.test(b"a key"));
/// assert!(!bloom.test(b"another"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct BasicBloom {
    bits: u64,
    hashes: u32,
    words: Vec<u64>,
}

/// The filter in JSON: `b` is URL-safe base64 of the bit count and the words, big-endian.
#[derive(Serialize, Deserialize)]
struct Wire {
    m: u64,
    k: u32,
    b: String,
}

impl BasicBloom {
    /// Creates an empty filter that errs with probability `error` once it holds `keys` keys; at least one bit and one hash.
    pub fn sized(keys: usize, error: f64) -> BasicBloom {
        let (n, ln2) = (keys.max(1) as f64, std::f64::consts::LN_2);
        let bits = (-n * error.ln() / (ln2 * ln2)).ceil().max(1.0);
        let hashes = (ln2 * bits / n).ceil().clamp(1.0, f64::from(HASHES_MAX)) as u32;
        let bits = bits as u64;
        BasicBloom { bits, hashes, words: vec![0; bits.div_ceil(64) as usize] }
    }

    /// Adds a key: an Int64 as 8 little-endian bytes, a VarChar as its UTF-8.
    pub fn add(&mut self, key: &[u8]) {
        let hash = base_hashes(key);
        for i in 0..self.hashes {
            let (word, bit) = self.place(&hash, i);
            self.words[word] |= bit;
        }
    }

    /// Whether the key may have been added.
    pub fn test(&self, key: &[u8]) -> bool {
        let hash = base_hashes(key);
        (0..self.hashes).all(|i| {
            let (word, bit) = self.place(&hash, i);
            self.words[word] & bit != 0
        })
    }

    /// Number of bits.
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// Number of hash functions.
    pub fn hashes(&self) -> u32 {
        self.hashes
    }

    fn place(&self, hash: &[u64; 4], i: u32) -> (usize, u64) {
        let bit = location(hash, i) % self.bits;
        ((bit / 64) as usize, 1 << (bit % 64))
    }
}

impl From<BasicBloom> for Wire {
    fn from(bloom: BasicBloom) -> Wire {
        let mut bytes = Vec::with_capacity(8 + bloom.words.len() * 8);
        bytes.extend_from_slice(&bloom.bits.to_be_bytes());
        bytes.extend(bloom.words.iter().flat_map(|word| word.to_be_bytes()));
        Wire { m: bloom.bits, k: bloom.hashes, b: URL_SAFE.encode(bytes) }
    }
}

impl TryFrom<Wire> for BasicBloom {
    type Error = String;

    fn try_from(wire: Wire) -> Result<BasicBloom, String> {
        let bytes = URL_SAFE.decode(&wire.b).map_err(|e| format!("bloom filter: {e}"))?;
        let (numbers, rest) = bytes.as_chunks::<8>();
        let mut numbers = numbers.iter().copied().map(u64::from_be_bytes);
        let bits = numbers.next().unwrap_or(0);
        let words: Vec<u64> = numbers.collect();
        if !rest.is_empty() || bits == 0 || bits != wire.m || bits.div_ceil(64) != words.len() as u64 {
            return Err(format!("bloom filter: {} words for {bits} bits, m = {}", words.len(), wire.m));
        }
        if !(1..=HASHES_MAX).contains(&wire.k) {
            return Err(format!("bloom filter: {} hash functions", wire.k));
        }
        Ok(BasicBloom { bits, hashes: wire.k, words })
    }
}

/// The four numbers that all bit positions of a key derive from.
fn base_hashes(key: &[u8]) -> [u64; 4] {
    let [h0, h1] = murmur3_x64_128(key, None);
    let [h2, h3] = murmur3_x64_128(key, Some(1));
    [h0, h1, h2, h3]
}

fn location(hash: &[u64; 4], i: u32) -> u64 {
    let odd = i % 2;
    let factor = hash[2 + (((i + odd) % 4) / 2) as usize];
    hash[odd as usize].wrapping_add(u64::from(i).wrapping_mul(factor))
}

/// MurmurHash3 x64 128 with seed 0 of `key`, or of `key` and one more byte, without copying it.
fn murmur3_x64_128(key: &[u8], last: Option<u8>) -> [u64; 2] {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let scramble1 = |k: u64| k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let scramble2 = |k: u64| k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let halves = |block: u128| (block as u64, (block >> 64) as u64);
    let body = |[h1, h2]: [u64; 2], block: u128| {
        let (k1, k2) = halves(block);
        let h1 = (h1 ^ scramble1(k1)).rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        let h2 = (h2 ^ scramble2(k2)).rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
        [h1, h2]
    };

    let (blocks, rest) = key.as_chunks::<16>();
    let mut state = blocks.iter().copied().map(u128::from_le_bytes).fold([0, 0], body);
    let mut tail = rest.iter().copied().chain(last).enumerate().fold(0u128, |tail, (i, byte)| tail | u128::from(byte) << (8 * i));
    if rest.len() + usize::from(last.is_some()) == 16 {
        state = body(state, tail);
        tail = 0;
    }

    let length = key.len() as u64 + u64::from(last.is_some());
    let (k1, k2) = halves(tail);
    let (h1, h2) = (state[0] ^ scramble1(k1) ^ length, state[1] ^ scramble2(k2) ^ length);
    let h1 = h1.wrapping_add(h2);
    let h2 = h2.wrapping_add(h1);
    let (h1, h2) = (mix(h1), mix(h2));
    let h1 = h1.wrapping_add(h2);
    [h1, h2.wrapping_add(h1)]
}

fn mix(mut h: u64) -> u64 {
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hashes_are_those_of_milvus() {
        let one = [0x0044_03b7_fb05_c44a, 0x3d8a_cdb4_d36d_9c06, 0x35a2_ca94_d0a1_72cf, 0x337d_25f6_5b51_9c76];
        assert_eq!(base_hashes(&1i64.to_le_bytes()), one);
        let abc = [0xb496_3f3f_3fad_7867, 0x3ba2_7441_26ca_2d52, 0x7d35_b1b4_2c0b_2132, 0x4b26_cbf4_7f02_216c];
        assert_eq!(base_hashes(b"abc"), abc);
        let bits = [19144387141682250, 8144746367672072316, 7439471203236511030, 16029205471849215091];
        assert_eq!(std::array::from_fn(|i| location(&one, i as u32)), bits);
    }

    #[test]
    fn a_filter_of_three_keys_is_that_of_milvus() {
        let mut bloom = BasicBloom::sized(3, 0.001);
        (1i64..=3).for_each(|key| bloom.add(&key.to_le_bytes()));
        let json = r#"{"m":44,"k":11,"b":"AAAAAAAAACwAAAeSV1hVWA=="}"#;
        assert_eq!(serde_json::to_string(&bloom).unwrap(), json);
        assert_eq!(serde_json::from_str::<BasicBloom>(json).unwrap(), bloom);
    }

    #[test]
    fn a_filter_errs_about_as_often_as_it_was_told_to() {
        let mut bloom = BasicBloom::sized(10_000, 0.001);
        (0i64..10_000).for_each(|key| bloom.add(&key.to_le_bytes()));
        let wrong = (10_000i64..110_000).filter(|key| bloom.test(&key.to_le_bytes())).count();
        assert!((20..300).contains(&wrong), "{wrong} of 100000");
    }

    #[test]
    fn a_filter_that_does_not_add_up_is_refused() {
        for json in [
            r#"{"m":45,"k":11,"b":"AAAAAAAAACwAAAeSV1hVWA=="}"#,
            r#"{"m":44,"k":0,"b":"AAAAAAAAACwAAAeSV1hVWA=="}"#,
            r#"{"m":44,"k":11,"b":"AAAAAAAAACw="}"#,
            r#"{"m":0,"k":11,"b":"AAAAAAAAAAA="}"#,
            r#"{"m":44,"k":11,"b":"not base64"}"#,
        ] {
            assert!(serde_json::from_str::<BasicBloom>(json).is_err(), "{json}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn one_more_byte_is_the_same_as_a_longer_key(key in proptest::collection::vec(any::<u8>(), 0..70)) {
            let mut longer = key.clone();
            longer.push(1);
            prop_assert_eq!(murmur3_x64_128(&key, Some(1)), murmur3_x64_128(&longer, None));
        }

        #[test]
        fn an_added_key_is_found(keys in proptest::collection::vec(".{0,40}", 1..50)) {
            let mut bloom = BasicBloom::sized(keys.len(), 0.001);
            keys.iter().for_each(|key| bloom.add(key.as_bytes()));
            prop_assert!(keys.iter().all(|key| bloom.test(key.as_bytes())));
        }
    }
}
