//! Message properties: the reserved keys, and the text forms of their values.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A message's properties: UTF-8 keys and values, unknown ones included.
pub type Properties = BTreeMap<String, String>;

/// Version, decimal: 1 (body of `msg.proto`) or 2 (body of `messages.proto`).
pub const VERSION: &str = "_v";
/// Message type, decimal.
pub const TYPE: &str = "_t";
/// Vchannel; absent means every vchannel of the pchannel.
pub const VCHANNEL: &str = "_vc";
/// Header of the message type, base64 of its protobuf.
pub const HEADER: &str = "_h";
/// Term of the node that appended the message, base 36.
pub const TERM: &str = "_wt";
/// Time tick, base 36.
pub const TIME_TICK: &str = "_tt";
/// Last confirmed id, in its log's text form.
pub const LAST_CONFIRMED: &str = "_lc";
/// Present if the last confirmed id is the message's own.
pub const LAST_CONFIRMED_SELF: &str = "_lcs";
/// Transaction context, base64 of its protobuf.
pub const TXN: &str = "_tx";
/// Broadcast header; a message that has one and no vchannel was not split.
pub const BROADCAST: &str = "_bh";
/// Cipher header of an encrypted insert or delete, base64 of its protobuf.
pub const CIPHER: &str = "_ch";
/// Present if the message lives only in its writer's memory; time ticks only.
pub const NOT_PERSISTED: &str = "_np";
/// Present if the message concerns the whole pchannel, whatever its vchannel says.
pub const PCHANNEL_LEVEL: &str = "_pcl";

/// Returns the base-36 text of an integer as Go's `strconv` writes it: lower case, `-` for negatives, no padding.
pub fn encode_base36(n: i64) -> String {
    let digits = encode_base36_unsigned(n.unsigned_abs());
    if n < 0 { format!("-{digits}") } else { digits }
}

/// Returns the base-36 text of an unsigned integer.
pub fn encode_base36_unsigned(mut n: u64) -> String {
    let mut digits = Vec::with_capacity(13);
    loop {
        let digit = (n % 36) as u8;
        digits.push(char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }));
        n /= 36;
        if n == 0 {
            return digits.iter().rev().collect();
        }
    }
}

/// Returns the base64 text of some bytes: standard alphabet, padded.
pub fn encode_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads base64 text: standard alphabet, padded.
///
/// # Errors
/// What is wrong with the text.
pub fn decode_base64(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    STANDARD.decode(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base36_is_written_as_go_writes_it() {
        for (n, text) in [(0, "0"), (9, "9"), (10, "a"), (35, "z"), (36, "10"), (-1, "-1"), (-37, "-11"), (i64::MIN, "-1y2p0ij32e8e8")] {
            assert_eq!(encode_base36(n), text);
        }
        assert_eq!(encode_base36_unsigned(u64::MAX), "3w5e11264sgsf");
    }

    proptest! {
        #[test]
        fn base36_reads_back(n: i64, u: u64) {
            prop_assert_eq!(i64::from_str_radix(&encode_base36(n), 36), Ok(n));
            prop_assert_eq!(u64::from_str_radix(&encode_base36_unsigned(u), 36), Ok(u));
        }
    }
}
