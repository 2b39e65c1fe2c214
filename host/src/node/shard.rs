//! Which shard a primary key belongs to, and which partition a partition key, as a Milvus proxy decides it: both by one hash.

use tidegate_message::columns::{PrimaryKey, Values};

/// Bytes of a VarChar key that are hashed; they may end inside a character.
const HASHED_BYTES: usize = 100;

/// The shard of a key.
pub(super) fn shard_of(key: &PrimaryKey, shards: usize) -> usize {
    match key {
        PrimaryKey::Int64(key) => of_int64(*key, shards),
        PrimaryKey::VarChar(key) => of_text(key.as_bytes(), shards),
    }
}

/// The shard, or the partition, of every key of a column; `of` is how many there are.
pub(super) fn places(keys: &Values, of: usize) -> Vec<usize> {
    match keys {
        Values::Int64(keys) => keys.iter().map(|key| of_int64(*key, of)).collect(),
        keys => (0..keys.len()).map(|row| of_text(keys.bytes_at(row), of)).collect(),
    }
}

fn of_int64(key: i64, shards: usize) -> usize {
    (murmur3_32(&key.to_le_bytes()) & 0x7fff_ffff) as usize % shards
}

fn of_text(key: &[u8], shards: usize) -> usize {
    crc32fast::hash(&key[..key.len().min(HASHED_BYTES)]) as usize % shards
}

/// MurmurHash3 x86 32-bit of eight bytes, seed 0.
fn murmur3_32(key: &[u8; 8]) -> u32 {
    let mut hash = 0_u32;
    for block in key.chunks_exact(4) {
        let mut k = u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
        k = k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
        hash = (hash ^ k).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    hash ^= key.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur_of_zeros_is_the_published_value() {
        assert_eq!(murmur3_32(&[0; 8]), 0x6385_2afc);
    }

    #[test]
    fn keys_spread_over_shards_and_each_row_has_one() {
        let places = places(&Values::Int64((0..1_000).collect()), 2);
        assert_eq!(places.len(), 1_000);
        assert!((400..600).contains(&places.iter().filter(|place| **place == 0).count()));
        assert_eq!(places[7], shard_of(&PrimaryKey::Int64(7), 2));
    }

    /// A Go slice `key[:100]` cuts the second byte off the fiftieth character here.
    #[test]
    fn text_is_hashed_by_its_first_hundred_bytes() {
        let key = format!("x{}", "ä".repeat(60));
        assert_eq!(of_text(key.as_bytes(), usize::MAX), crc32fast::hash(&key.as_bytes()[..100]) as usize);
        let text = Values::Bytes { ends: vec![0, 3], bytes: b"abc".to_vec() };
        assert_eq!(places(&text, 16), [0, 0x3524_41c2 % 16]);
    }
}
