//! A repeated scalar, packed or not, as it stands in its message.

use bytes::Bytes;

use super::RowsError;
use crate::wire::{Value, WireError, fields, varint};

/// Every value of one field of a message.
#[derive(Clone, Debug)]
pub(super) struct Repeated {
    pub(super) message: Bytes,
    pub(super) field: u32,
}

impl Repeated {
    /// Returns the field's values as they stand: a packed run is one.
    fn runs(&self) -> impl Iterator<Item = Result<Value<'_>, WireError>> {
        fields(&self.message).filter_map(|field| match field {
            Ok((number, value)) if number == self.field => Some(Ok(value)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
    }

    /// Calls `f` with every integer.
    pub(super) fn integers(&self, mut f: impl FnMut(u64) -> Result<(), RowsError>) -> Result<(), RowsError> {
        for run in self.runs() {
            match run? {
                Value::Varint(value) => f(value)?,
                Value::Bytes(mut packed) => {
                    while !packed.is_empty() {
                        f(varint(&mut packed)?)?;
                    }
                }
                _ => return Err(WireError::Type(self.field).into()),
            }
        }
        Ok(())
    }

    /// Calls `f` with the bytes of every run of values that are `width` bytes wide: whole values, one or more.
    pub(super) fn fixed_runs(&self, width: usize, mut f: impl FnMut(&[u8]) -> Result<(), RowsError>) -> Result<(), RowsError> {
        for run in self.runs() {
            match run? {
                Value::Fixed32(value) if width == 4 => f(&value)?,
                Value::Fixed64(value) if width == 8 => f(&value)?,
                Value::Bytes(packed) if packed.len().is_multiple_of(width) => f(packed)?,
                Value::Bytes(_) => return Err(WireError::Truncated.into()),
                _ => return Err(WireError::Type(self.field).into()),
            }
        }
        Ok(())
    }

    /// Calls `f` with every string, or bytes.
    pub(super) fn texts(&self, mut f: impl FnMut(&[u8]) -> Result<(), RowsError>) -> Result<(), RowsError> {
        self.runs().try_for_each(|run| f(run?.bytes(self.field)?))
    }
}
