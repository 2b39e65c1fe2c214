//! A digest of a snapshot: quick, since a hand-over waits for it, and sure to tell one changed word.

/// Odd, so that multiplying by it loses nothing: 2^64 over the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Returns the digest of bytes, eight at a time.
///
/// Each step turns states into states one to one, for a given word, and words into states one to one, for a given state. So bytes that differ
/// in a single word never have the same digest.
pub(super) fn of(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let body = words.iter().fold(0, |state, &word| step(state, u64::from_le_bytes(word)));
    step(step(body, u64::from_le_bytes(last)), bytes.len() as u64)
}

fn step(state: u64, word: u64) -> u64 {
    (state ^ word).wrapping_mul(FACTOR).rotate_left(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_and_the_length_count() {
        let bytes: Vec<u8> = (0..61).collect();
        let whole = of(&bytes);
        for at in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[at / 8] ^= 1 << (at % 8);
            assert_ne!(of(&changed), whole, "bit {at}");
        }
        assert_ne!(of(&[0; 8]), of(&[0; 7]));
        assert_ne!(of(&[]), of(&[0; 8]));
    }
}
