//! The value of a sparse vector: pairs of an index and a value, little-endian, indices ascending.

/// Bytes of a pair.
const PAIR_BYTES: usize = 8;

/// Returns the pairs of a sparse vector; bytes past the last whole pair are left out.
pub fn pairs(bytes: &[u8]) -> impl Iterator<Item = (u32, f32)> {
    let pair = |[a, b, c, d, e, f, g, h]: &[u8; PAIR_BYTES]| (u32::from_le_bytes([*a, *b, *c, *d]), f32::from_le_bytes([*e, *f, *g, *h]));
    bytes.as_chunks().0.iter().map(pair)
}

/// Writes a sparse vector.
pub fn encode(pairs: impl IntoIterator<Item = (u32, f32)>) -> Vec<u8> {
    pairs.into_iter().flat_map(|(index, value)| [index.to_le_bytes(), value.to_le_bytes()].concat()).collect()
}

/// Checks that a value is a sparse vector, as Milvus takes them: whole pairs, ascending indices below 2³² − 1, finite values. None at all
/// are a vector too.
///
/// # Errors
/// Says what is wrong, and with which pair.
pub fn check_sparse(bytes: &[u8]) -> Result<(), String> {
    if !bytes.len().is_multiple_of(PAIR_BYTES) {
        return Err(format!("a sparse vector of {} bytes, which are not pairs of {PAIR_BYTES}", bytes.len()));
    }
    let mut before = None;
    for (at, (index, value)) in pairs(bytes).enumerate() {
        if index == u32::MAX {
            return Err(format!("pair {at} of the sparse vector has index {index}, which is none"));
        }
        if before.is_some_and(|before| before >= index) {
            return Err(format!("pair {at} of the sparse vector has index {index} after {}", before.unwrap_or_default()));
        }
        if !value.is_finite() {
            return Err(format!("pair {at} of the sparse vector, index {index}, has the value {value}"));
        }
        before = Some(index);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_they_were_written() {
        let vector = [(0, -1.5), (7, f32::MIN), (u32::MAX - 1, 0.0)];
        assert_eq!(encode(vector).len(), 24);
        assert!(pairs(&encode(vector)).eq(vector));
        assert_eq!((check_sparse(&encode(vector)), check_sparse(&[])), (Ok(()), Ok(())));
    }

    #[test]
    fn what_is_no_sparse_vector_is_refused_with_its_pair() {
        for (bytes, expected) in [
            (vec![0; 12], "12 bytes"),
            (encode([(1, 1.0), (1, 1.0)]), "pair 1 of the sparse vector has index 1 after 1"),
            (encode([(2, 1.0), (1, 1.0)]), "has index 1 after 2"),
            (encode([(1, f32::NAN)]), "pair 0 of the sparse vector, index 1, has the value NaN"),
            (encode([(1, f32::INFINITY)]), "has the value inf"),
            (encode([(u32::MAX, 1.0)]), "has index 4294967295"),
        ] {
            let problem = check_sparse(&bytes).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
