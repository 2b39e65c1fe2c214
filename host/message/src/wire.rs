//! Protobuf's wire format, read field by field without a copy.
//!
//! The bodies of inserts are most of a log's bytes. A generated decoder would copy each value into a vector of its own type, once to
//! learn two ids and once more to lay out columns; walking the bytes does neither.

/// One field's value as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
}

/// Why bytes are not a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A value ends after the bytes do.
    #[error("the bytes end inside a value")]
    Truncated,
    /// A variable-length integer has more than 64 bits.
    #[error("a variable-length integer does not end within 64 bits")]
    Varint,
    /// Field 0, or a wire type that proto3 does not have.
    #[error("{0:#x} is not the tag of a field")]
    Tag(u64),
    /// The field is there with the wire type of another.
    #[error("field {0} has the wire type of another type")]
    Type(u32),
}

/// Returns the fields of a message in their order; the iterator ends after an error.
pub(crate) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

/// See [`fields`].
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Value<'a>), WireError> {
        let tag = varint(&mut self.rest)?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| (1..1 << 29).contains(n)).ok_or(WireError::Tag(tag))?;
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => Value::Fixed64(fixed(&mut self.rest)?),
            2 => {
                let length = usize::try_from(varint(&mut self.rest)?).map_err(|_| WireError::Truncated)?;
                let (bytes, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(fixed(&mut self.rest)?),
            _ => return Err(WireError::Tag(tag)),
        };
        Ok((number, value))
    }
}

/// Takes a variable-length integer off the front.
pub(crate) fn varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0;
    for (i, &byte) in rest.iter().enumerate().take(10) {
        if i == 9 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *rest = rest.get(i + 1..).unwrap_or_default();
            return Ok(value);
        }
    }
    Err(if rest.len() < 10 { WireError::Truncated } else { WireError::Varint })
}

/// Takes `N` bytes off the front.
pub(crate) fn fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], WireError> {
    let (value, tail) = rest.split_first_chunk().ok_or(WireError::Truncated)?;
    *rest = tail;
    Ok(*value)
}

impl<'a> Value<'a> {
    /// Returns an integer's value; `field` names it in the error.
    pub(crate) fn integer(self, field: u32) -> Result<u64, WireError> {
        if let Value::Varint(n) = self { Ok(n) } else { Err(WireError::Type(field)) }
    }

    /// Returns the bytes of a string, of bytes or of a message; `field` names it in the error.
    pub(crate) fn bytes(self, field: u32) -> Result<&'a [u8], WireError> {
        if let Value::Bytes(bytes) = self { Ok(bytes) } else { Err(WireError::Type(field)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_their_order_with_their_values() {
        let bytes = [0x08, 0xac, 0x02, 0x12, 2, b'h', b'i', 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8];
        let read: Result<Vec<_>, _> = fields(&bytes).collect();
        assert_eq!(
            read,
            Ok(vec![
                (1, Value::Varint(300)),
                (2, Value::Bytes(b"hi")),
                (3, Value::Fixed32([1, 2, 3, 4])),
                (4, Value::Fixed64([1, 2, 3, 4, 5, 6, 7, 8])),
            ])
        );
    }

    #[test]
    fn what_is_not_a_message_is_an_error_and_the_end() {
        let longest = [&[0x08][..], &[0xff; 9], &[1]].concat();
        assert_eq!(fields(&longest).next(), Some(Ok((1, Value::Varint(u64::MAX)))));
        for (bytes, error) in [
            (&[0x08][..], WireError::Truncated),
            (&[0x08, 0x80], WireError::Truncated),
            (&[0x12, 5, 1], WireError::Truncated),
            (&[0x0d, 1], WireError::Truncated),
            (&[0x00, 1], WireError::Tag(0)),
            (&[0x0b], WireError::Tag(11)),
            (&[&[0x08][..], &[0xff; 9], &[2]].concat(), WireError::Varint),
        ] {
            let mut fields = fields(bytes);
            assert_eq!(fields.next(), Some(Err(error)), "{bytes:?}");
            assert_eq!(fields.next(), None);
        }
    }
}
