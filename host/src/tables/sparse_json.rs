//! A sparse vector as a JSON object of index and value, `{"1": 0.5, "7": 2}`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Number, Value};
use tidegate_message::sparse::{self, check_sparse};

/// Reads an object, whose indices may be in any order.
///
/// # Errors
/// Says what is wrong with it: no object, an index that is no number below 2³² − 1 or occurs twice, a value past 32-bit floats.
pub(super) fn read(text: &str) -> Result<Vec<u8>, String> {
    let Pairs(mut pairs) = serde_json::from_str(text).map_err(|e| format!("the text is no JSON object of index and value ({e})"))?;
    pairs.sort_unstable_by_key(|(index, _)| *index);
    let vector = sparse::encode(pairs);
    check_sparse(&vector)?;
    Ok(vector)
}

/// Writes a sparse vector. Values are written as 64-bit floats, which any reader turns into the same 32 bits.
pub(super) fn write(vector: &[u8]) -> String {
    let number = |value: f32| Number::from_f64(value.into()).map_or(Value::Null, Value::Number);
    // A map would sort indices as text.
    let pairs: Vec<String> = sparse::pairs(vector).map(|(index, value)| format!("\"{index}\": {}", number(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// Pairs in the order of the text, so that an index that occurs twice is noticed.
struct Pairs(Vec<(u32, f32)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object such as {\"1\": 0.5}")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs = Vec::new();
                while let Some((index, value)) = map.next_entry::<u32, f64>()? {
                    pairs.push((index, value as f32));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_back_bit_by_bit_and_sorted() {
        let vector = sparse::encode([(0, -0.0), (7, 0.1), (10, f32::MIN_POSITIVE), (4_294_967_294, f32::MAX)]);
        assert_eq!(read(&write(&vector)), Ok(vector));
        assert_eq!(write(&sparse::encode([(2, 0.5), (10, 3.0)])), r#"{"2": 0.5, "10": 3.0}"#);
        assert_eq!(read(r#"{"9": 1, "3": 2.5}"#), Ok(sparse::encode([(3, 2.5), (9, 1.0)])));
        assert_eq!((read("{}"), write(&[])), (Ok(vec![]), "{}".to_owned()));
    }

    #[test]
    fn what_is_no_sparse_vector_is_refused() {
        for (text, expected) in [
            ("[1, 2]", "no JSON object of index and value"),
            (r#"{"a": 1}"#, "no JSON object"),
            (r#"{"-1": 1}"#, "no JSON object"),
            (r#"{"1": null}"#, "no JSON object"),
            (r#"{"1": 1, "1": 2}"#, "index 1 after 1"),
            (r#"{"1": 1e39}"#, "has the value inf"),
            (r#"{"4294967295": 1}"#, "index 4294967295"),
        ] {
            let problem = read(text).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }
}
