//! Which shard a primary key belongs to, as a Milvus proxy decides it.

use tidegate_message::columns::{PrimaryKey, Values};

/// Characters of a VarChar key that are hashed.
const HASHED_CHARS: usize = 100;

/// The shard of a key.
pub(super) fn shard_of(key: &PrimaryKey, shards: usize) -> usize {
    match key {
        PrimaryKey::Int64(key) => of_int64(*key, shards),
        PrimaryKey::VarChar(key) => of_text(key, shards),
    }
}

/// The rows of each shard, by the primary key's column.
pub(super) fn rows_by_shard(keys: &Values, shards: usize) -> Vec<Vec<usize>> {
    let mut rows = vec![Vec::new(); shards];
    match keys {
        Values::Int64(keys) => keys.iter().enumerate().for_each(|(row, key)| rows[of_int64(*key, shards)].push(row)),
        Values::Bytes { ends, bytes } => {
            let mut start = 0;
            for (row, &end) in ends.iter().enumerate() {
                let text = String::from_utf8_lossy(&bytes[start..end]);
                rows[of_text(&text, shards)].push(row);
                start = end;
            }
        }
        _ => {}
    }
    rows
}

fn of_int64(key: i64, shards: usize) -> usize {
    (murmur3_32(&key.to_le_bytes()) & 0x7fff_ffff) as usize % shards
}

fn of_text(key: &str, shards: usize) -> usize {
    let end = key.char_indices().nth(HASHED_CHARS).map_or(key.len(), |(at, _)| at);
    crc32fast::hash(&key.as_bytes()[..end]) as usize % shards
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
        let rows = rows_by_shard(&Values::Int64((0..1_000).collect()), 2);
        assert_eq!(rows.iter().map(Vec::len).sum::<usize>(), 1_000);
        assert!(rows.iter().all(|r| r.len() > 400));
        assert!(rows[shard_of(&PrimaryKey::Int64(7), 2)].contains(&7));
    }
}
