//! The value of an array field: Milvus `schema.ScalarField`, serialised, both on the wire and in a segment file.

use prost::Message as _;

use crate::columns::DataType;
use crate::proto::schema::{self as proto, scalar_field::Data};
use crate::schema::Field;
use crate::wire::{Value, WireError, fields, varint};

/// The values of one array.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// Of [`DataType::Bool`].
    Bools(Vec<bool>),
    /// Of [`DataType::Int8`], [`DataType::Int16`] and [`DataType::Int32`].
    Ints(Vec<i32>),
    /// Of [`DataType::Int64`].
    Longs(Vec<i64>),
    /// Of [`DataType::Float`].
    Floats(Vec<f32>),
    /// Of [`DataType::Double`].
    Doubles(Vec<f64>),
    /// Of [`DataType::String`] and [`DataType::VarChar`].
    Texts(Vec<String>),
}

impl Elements {
    /// Returns an array without values.
    pub fn new(element_type: DataType) -> Elements {
        match element_type {
            DataType::Bool => Elements::Bools(Vec::new()),
            DataType::Int64 => Elements::Longs(Vec::new()),
            DataType::Float => Elements::Floats(Vec::new()),
            DataType::Double => Elements::Doubles(Vec::new()),
            DataType::String | DataType::VarChar => Elements::Texts(Vec::new()),
            _ => Elements::Ints(Vec::new()),
        }
    }

    /// Reads an array. No bytes are no values of no known type: `None`. Takes at most 24 bytes of memory a byte.
    ///
    /// # Errors
    /// Says what is no such message: not protobuf, two lists, a list of another kind, or text that is not UTF-8.
    pub fn decode(bytes: &[u8]) -> Result<Option<Elements>, String> {
        let wire = |e: WireError| e.to_string();
        let mut elements = None;
        for field in fields(bytes) {
            let (number, value) = field.map_err(wire)?;
            let list = value.bytes(number).map_err(wire)?;
            let read = match number {
                1 => integers(list, |v| v != 0).map(Elements::Bools),
                2 => integers(list, |v| v as i32).map(Elements::Ints),
                3 => integers(list, |v| v as i64).map(Elements::Longs),
                4 => reals(list, f32::from_le_bytes).map(Elements::Floats),
                5 => reals(list, f64::from_le_bytes).map(Elements::Doubles),
                6 => texts(list).map(Elements::Texts),
                _ => Err(format!("a list of kind {number}, which no array has")),
            };
            if elements.replace(read?).is_some() {
                return Err("two lists of values".to_owned());
            }
        }
        Ok(elements)
    }

    /// Writes the array as a Milvus proxy does.
    pub fn encode(&self) -> Vec<u8> {
        let data = match self.clone() {
            Elements::Bools(data) => Data::Bools(proto::BoolArray { data }),
            Elements::Ints(data) => Data::Ints(proto::IntArray { data }),
            Elements::Longs(data) => Data::Longs(proto::LongArray { data }),
            Elements::Floats(data) => Data::Floats(proto::FloatArray { data }),
            Elements::Doubles(data) => Data::Doubles(proto::DoubleArray { data }),
            Elements::Texts(data) => Data::Strings(proto::BytesArray { data: data.into_iter().map(Into::into).collect() }),
        };
        proto::ScalarField { data: Some(data) }.encode_to_vec()
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        match self {
            Elements::Bools(v) => v.len(),
            Elements::Ints(v) => v.len(),
            Elements::Longs(v) => v.len(),
            Elements::Floats(v) => v.len(),
            Elements::Doubles(v) => v.len(),
            Elements::Texts(v) => v.len(),
        }
    }

    /// Returns whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Checks that a value is one of an array field: of its element type, of at most its capacity, every element in its range.
///
/// # Errors
/// Says what is wrong.
pub fn check_array(field: &Field, bytes: &[u8]) -> Result<(), String> {
    let Some(elements) = Elements::decode(bytes).map_err(|e| format!("no array: {e}"))? else { return Ok(()) };
    let element_type = field.element_type.unwrap_or(field.data_type);
    if std::mem::discriminant(&elements) != std::mem::discriminant(&Elements::new(element_type)) {
        return Err(format!("an array of {}, not of {element_type:?}", elements.name()));
    }
    if elements.len() > field.max_capacity {
        return Err(format!("an array of {} values, more than max_capacity {}", elements.len(), field.max_capacity));
    }
    let wrong = match (&elements, element_type) {
        (Elements::Ints(v), DataType::Int8) => v.iter().position(|&v| i8::try_from(v).is_err()),
        (Elements::Ints(v), DataType::Int16) => v.iter().position(|&v| i16::try_from(v).is_err()),
        (Elements::Texts(v), DataType::VarChar) => v.iter().position(|v| v.len() > field.max_length),
        _ => None,
    };
    match (wrong, &elements) {
        (None, _) => Ok(()),
        (Some(at), Elements::Texts(v)) => {
            Err(format!("value {at} of the array has {} bytes, more than max_length {}", v[at].len(), field.max_length))
        }
        (Some(at), _) => Err(format!("value {at} of the array is out of the range of {element_type:?}")),
    }
}

impl Elements {
    fn name(&self) -> &'static str {
        match self {
            Elements::Bools(_) => "booleans",
            Elements::Ints(_) => "32-bit integers",
            Elements::Longs(_) => "64-bit integers",
            Elements::Floats(_) => "32-bit floats",
            Elements::Doubles(_) => "64-bit floats",
            Elements::Texts(_) => "text",
        }
    }
}

/// Reads the integers of a list, packed or not.
fn integers<T>(list: &[u8], convert: impl Fn(u64) -> T) -> Result<Vec<T>, String> {
    let mut out = Vec::new();
    for field in fields(list) {
        match field.map_err(|e| e.to_string())? {
            (1, Value::Varint(value)) => out.push(convert(value)),
            (1, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    out.push(convert(varint(&mut packed).map_err(|e| e.to_string())?));
                }
            }
            (number, _) => return Err(WireError::Type(number).to_string()),
        }
    }
    Ok(out)
}

/// Reads the floats of a list, packed or not.
fn reals<T, const N: usize>(list: &[u8], convert: impl Fn([u8; N]) -> T) -> Result<Vec<T>, String> {
    let mut out = Vec::new();
    for field in fields(list) {
        let (number, value) = field.map_err(|e| e.to_string())?;
        let run = match &value {
            Value::Fixed32(value) if N == 4 => &value[..],
            Value::Fixed64(value) if N == 8 => &value[..],
            Value::Bytes(packed) => packed,
            _ => return Err(WireError::Type(number).to_string()),
        };
        let (chunks, rest) = run.as_chunks::<N>();
        if number != 1 || !rest.is_empty() {
            return Err(WireError::Truncated.to_string());
        }
        out.extend(chunks.iter().map(|&chunk| convert(chunk)));
    }
    Ok(out)
}

fn texts(list: &[u8]) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    for field in fields(list) {
        let (number, value) = field.map_err(|e| e.to_string())?;
        let text = value.bytes(number).map_err(|e| e.to_string())?;
        out.push(std::str::from_utf8(text).map_err(|e| format!("value {}: not UTF-8: {e}", out.len()))?.to_owned());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(element_type: DataType) -> Field {
        Field { element_type: Some(element_type), max_capacity: 2, max_length: 3, ..Field::new(100, "a", DataType::Array) }
    }

    #[test]
    fn arrays_of_every_kind_are_read_as_they_were_written() {
        for elements in [
            Elements::Bools(vec![true, false]),
            Elements::Ints(vec![-1, i32::MAX]),
            Elements::Longs(vec![i64::MIN, 300]),
            Elements::Floats(vec![-0.0, 1.5]),
            Elements::Doubles(vec![f64::MAX]),
            Elements::Texts(vec![String::new(), "ä".to_owned()]),
            Elements::Longs(vec![]),
        ] {
            assert_eq!(Elements::decode(&elements.encode()), Ok(Some(elements)));
        }
        assert_eq!(Elements::decode(&[]), Ok(None));
        // One by one, as an old writer may: longs 1 and 300.
        assert_eq!(Elements::decode(&[0x1a, 5, 0x08, 1, 0x08, 0xac, 2]), Ok(Some(Elements::Longs(vec![1, 300]))));
    }

    #[test]
    fn an_array_that_is_not_its_fields_is_refused_with_the_reason() {
        for (element_type, bytes, expected) in [
            (DataType::Int64, Elements::Ints(vec![1]).encode(), "an array of 32-bit integers, not of Int64"),
            (DataType::Bool, Elements::Bools(vec![true; 3]).encode(), "an array of 3 values, more than max_capacity 2"),
            (DataType::Int8, Elements::Ints(vec![1, 128]).encode(), "value 1 of the array is out of the range of Int8"),
            (DataType::Int16, Elements::Ints(vec![-32769]).encode(), "value 0 of the array is out of the range of Int16"),
            (DataType::VarChar, Elements::Texts(vec!["ääää".into()]).encode(), "value 0 of the array has 8 bytes, more than max_length 3"),
            (DataType::VarChar, vec![0x32, 3, 0x0a, 1, 0xff], "no array: value 0: not UTF-8"),
            (DataType::Float, vec![0x22, 5, 0x0a, 3, 0, 0, 0], "no array: the bytes end inside a value"),
            (DataType::Bool, vec![0x0a, 1, 0x08], "no array: the bytes end inside a value"),
            (DataType::Bool, vec![0x42, 0], "no array: a list of kind 8"),
            (DataType::Bool, [Elements::Bools(vec![true]).encode(), Elements::Bools(vec![]).encode()].concat(), "two lists"),
        ] {
            let problem = check_array(&field(element_type), &bytes).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
        assert_eq!(check_array(&field(DataType::Int8), &Elements::Ints(vec![-128, 127]).encode()), Ok(()));
        assert_eq!(check_array(&field(DataType::Int8), &[]), Ok(()));
    }
}
