//! The body of a delete.

use bytes::Bytes;

use super::RowsError;
use super::repeated::Repeated;
use crate::columns::{DataType, Deletes, PrimaryKey};
use crate::schema::Schema;
use crate::wire::fields;

/// Milvus `msg.DeleteRequest`, as far as its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteBody {
    keys: Vec<PrimaryKey>,
}

impl DeleteBody {
    /// Reads a body.
    ///
    /// # Errors
    /// [`RowsError`] if it is not a delete's, has keys of two types, no valid UTF-8, or not as many as it says.
    pub fn parse(payload: &Bytes) -> Result<DeleteBody, RowsError> {
        let mut rows = 0;
        let mut keys = Vec::new();
        for field in fields(payload) {
            match field? {
                (11, value) => rows = value.integer(11)?,
                (12, value) => read_ids(&payload.slice_ref(value.bytes(12)?), &mut keys)?,
                _ => {}
            }
        }
        if keys.is_empty() {
            // Deprecated, still read by Milvus.
            read_integers(payload, 9, &mut keys)?;
        }
        if keys.len() as u64 != rows {
            return Err(RowsError::Body(format!("has {} primary keys for {rows} rows", keys.len())));
        }
        Ok(DeleteBody { keys })
    }

    /// Returns the number of keys.
    pub fn rows(&self) -> usize {
        self.keys.len()
    }

    /// Checks the keys against the schema's primary key.
    ///
    /// # Errors
    /// [`RowsError::Field`] if the keys are of another type.
    pub fn check(&self, schema: &Schema) -> Result<(), RowsError> {
        let Some(primary) = schema.primary() else { return Ok(()) };
        let fits = match self.keys.first() {
            Some(PrimaryKey::Int64(_)) => primary.data_type == DataType::Int64,
            Some(PrimaryKey::VarChar(_)) => primary.data_type == DataType::VarChar,
            None => true,
        };
        if fits {
            return Ok(());
        }
        let reason = format!("is a {:?} primary key; the deletes name keys of another type", primary.data_type);
        Err(RowsError::Field { field: format!("{:?} ({})", primary.name, primary.id), reason })
    }

    /// Appends the keys, each with the message's tick.
    pub fn append_to(&self, tick: u64, out: &mut Deletes) {
        out.keys.extend_from_slice(&self.keys);
        out.ticks.resize(out.keys.len(), tick);
    }
}

/// Reads Milvus `schema.IDs`.
fn read_ids(ids: &Bytes, keys: &mut Vec<PrimaryKey>) -> Result<(), RowsError> {
    for field in fields(ids) {
        match field? {
            (1 | 2, _) if !keys.is_empty() => return Err(RowsError::Body("has two lists of primary keys".to_owned())),
            (1, value) => read_integers(&ids.slice_ref(value.bytes(1)?), 1, keys)?,
            (2, value) => Repeated { message: ids.slice_ref(value.bytes(2)?), field: 1 }.texts(|text| {
                let text = std::str::from_utf8(text).map_err(|e| RowsError::Value {
                    field: "primary key".to_owned(),
                    row: keys.len(),
                    reason: format!("not UTF-8: {e}"),
                })?;
                keys.push(PrimaryKey::VarChar(text.to_owned()));
                Ok(())
            })?,
            _ => {}
        }
    }
    Ok(())
}

fn read_integers(message: &Bytes, field: u32, keys: &mut Vec<PrimaryKey>) -> Result<(), RowsError> {
    Repeated { message: message.clone(), field }.integers(|key| {
        keys.push(PrimaryKey::Int64(key as i64));
        Ok(())
    })
}
