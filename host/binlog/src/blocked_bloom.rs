//! The blocked bloom filter of Milvus' primary key statistics, bit for bit that of Go's `blobloom` over XXH3.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// One cache line: 512 bits, as the little-endian words that hold them.
type Block = [u32; BLOCK_WORDS];
const BLOCK_WORDS: usize = 16;
const BLOCK_BYTES: usize = BLOCK_WORDS * 4;
const BLOCK_BITS: usize = BLOCK_BYTES * 8;
/// Bits a key at one false positive in a thousand: 15 would do in one large filter, and blocks fill unevenly.
const BITS_PER_KEY: usize = 17;
/// Hash functions at that density, rounded. The file says how many, so any other number would be read as well.
const HASHES: u32 = 12;
/// Most hash functions a filter may ask for: Go's takes more the emptier the filter is, up to 355 for a single key.
const HASHES_MAX: u32 = 512;

/// A set of keys that may say yes to a key it does not hold, and never no to one it does. All bits of a key lie in one block.
///
/// ```
/// let mut bloom = tidegate_binlog::BlockedBloom::sized(3);
/// bloom.add(b"a key");
/// assert!(bloom.test(b"a key"));
/// assert!(!bloom.test(b"another"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct BlockedBloom {
    hashes: u32,
    blocks: Vec<Block>,
}

/// The filter in JSON: a block is URL-safe base64 of its bytes.
#[derive(Serialize, Deserialize)]
struct Wire {
    k: u32,
    b: Vec<String>,
}

impl BlockedBloom {
    /// Creates an empty filter that errs once in a thousand when it holds `keys` keys; at least one block.
    pub fn sized(keys: usize) -> BlockedBloom {
        let blocks = keys.max(1).saturating_mul(BITS_PER_KEY).div_ceil(BLOCK_BITS);
        BlockedBloom { hashes: HASHES, blocks: vec![[0; BLOCK_WORDS]; blocks] }
    }

    /// Adds a key: an Int64 as 8 little-endian bytes, a VarChar as its UTF-8.
    pub fn add(&mut self, key: &[u8]) {
        let hash = xxh3_64(key);
        let at = self.block_of(hash);
        for (word, bit) in places(hash, self.hashes) {
            self.blocks[at][word] |= bit;
        }
    }

    /// Whether the key may have been added.
    pub fn test(&self, key: &[u8]) -> bool {
        let hash = xxh3_64(key);
        let block = &self.blocks[self.block_of(hash)];
        places(hash, self.hashes).all(|(word, bit)| block[word] & bit != 0)
    }

    /// Number of bits.
    pub fn bits(&self) -> u64 {
        (self.blocks.len() * BLOCK_BITS) as u64
    }

    /// Number of hash functions; one of them chooses the block.
    pub fn hashes(&self) -> u32 {
        self.hashes
    }

    fn block_of(&self, hash: u64) -> usize {
        ((u64::from(hash as u32) * self.blocks.len() as u64) >> 32) as usize
    }
}

/// The words and bits of a key in its block.
fn places(hash: u64, hashes: u32) -> impl Iterator<Item = (usize, u32)> {
    let (mut h1, mut h2) = ((hash >> 32) as u32, hash as u32);
    (1..hashes).map(move |i| {
        h1 = h1.wrapping_add(h2);
        h2 = h2.wrapping_add(i);
        ((h1 / 32) as usize % BLOCK_WORDS, 1 << (h1 % 32))
    })
}

impl From<BlockedBloom> for Wire {
    fn from(bloom: BlockedBloom) -> Wire {
        let encode = |block: &Block| URL_SAFE.encode(block.map(u32::to_le_bytes).as_flattened());
        Wire { k: bloom.hashes, b: bloom.blocks.iter().map(encode).collect() }
    }
}

impl TryFrom<Wire> for BlockedBloom {
    type Error = String;

    fn try_from(wire: Wire) -> Result<BlockedBloom, String> {
        let decode = |text: &String| {
            let bytes = URL_SAFE.decode(text).map_err(|e| format!("bloom filter: {e}"))?;
            let block: [u8; BLOCK_BYTES] =
                bytes.try_into().map_err(|bytes: Vec<u8>| format!("bloom filter: a block of {} bytes", bytes.len()))?;
            let (words, _) = block.as_chunks::<4>();
            Ok(std::array::from_fn(|at| u32::from_le_bytes(words[at])))
        };
        let blocks: Vec<Block> = wire.b.iter().map(decode).collect::<Result<_, String>>()?;
        // More blocks than 32 bits of a hash can choose among do not occur.
        if blocks.is_empty() || u32::try_from(blocks.len()).is_err() {
            return Err(format!("bloom filter: {} blocks", blocks.len()));
        }
        if !(2..=HASHES_MAX).contains(&wire.k) {
            return Err(format!("bloom filter: {} hash functions", wire.k));
        }
        Ok(BlockedBloom { hashes: wire.k, blocks })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hash_is_that_of_milvus() {
        assert_eq!(xxh3_64(&1i64.to_le_bytes()), 0x2fbc_5935_64db_792e);
        assert_eq!(xxh3_64(b"abc"), 0x78af_5f94_892f_3950);
    }

    #[test]
    fn a_filter_of_three_keys_is_that_of_milvus() {
        let mut bloom = BlockedBloom::sized(3);
        (1i64..=3).for_each(|key| bloom.add(&key.to_le_bytes()));
        let block = "AAACAoAAAAAACAAAOBIAAAAAAIBAQAAACAEAAAgAAAJACAAAEIIABAAAAAAAAAQAAAAEgFCAAYAAEAAAAACAAA==";
        let json = format!(r#"{{"k":12,"b":["{block}"]}}"#);
        assert_eq!(serde_json::to_string(&bloom).unwrap(), json);
        assert_eq!(serde_json::from_str::<BlockedBloom>(&json).unwrap(), bloom);
    }

    #[test]
    fn a_filter_errs_about_once_in_a_thousand() {
        let mut bloom = BlockedBloom::sized(10_000);
        (0i64..10_000).for_each(|key| bloom.add(&key.to_le_bytes()));
        assert_eq!(bloom.bits(), 333 * 512);
        let wrong = (10_000i64..110_000).filter(|key| bloom.test(&key.to_le_bytes())).count();
        assert!((20..300).contains(&wrong), "{wrong} of 100000");
    }

    #[test]
    fn a_filter_that_does_not_add_up_is_refused() {
        let block = URL_SAFE.encode([0; BLOCK_BYTES]);
        let short = URL_SAFE.encode([0; BLOCK_BYTES - 1]);
        let filter = |k: u32, b: &str| format!(r#"{{"k":{k},"b":[{b}]}}"#);
        let block = format!("\"{block}\"");
        assert!(serde_json::from_str::<BlockedBloom>(&filter(2, &block)).is_ok());
        for json in [
            filter(1, &block),
            filter(HASHES_MAX + 1, &block),
            filter(12, ""),
            filter(12, &format!("\"{short}\"")),
            filter(12, "\"not base64\""),
        ] {
            assert!(serde_json::from_str::<BlockedBloom>(&json).is_err(), "{json}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_added_key_is_found_also_after_a_round_trip(keys in proptest::collection::vec(".{0,40}", 1..200)) {
            let mut bloom = BlockedBloom::sized(keys.len());
            keys.iter().for_each(|key| bloom.add(key.as_bytes()));
            let read: BlockedBloom = serde_json::from_str(&serde_json::to_string(&bloom).unwrap()).unwrap();
            prop_assert!(keys.iter().all(|key| read.test(key.as_bytes())));
        }
    }
}
