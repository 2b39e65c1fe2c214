//! The rows of inserts and deletes, read from their bodies without a copy until they are appended to columns.

mod column;
mod delete;
mod insert;
mod repeated;

pub use delete::DeleteBody;
pub use insert::InsertBody;

use crate::wire::WireError;

/// Why the rows of a body cannot be read, or do not fit their collection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// The body is not a protobuf message.
    #[error("the body is not a protobuf message: {0}")]
    Wire(#[from] WireError),
    /// The body as a whole is not of the form that is read.
    #[error("the body {0}")]
    Body(String),
    /// A field's column is not what its schema says.
    #[error("field {field} {reason}")]
    Field {
        /// The field's name and id.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// One value is not what its schema says.
    #[error("field {field}, row {row}: {reason}")]
    Value {
        /// The field's name and id.
        field: String,
        /// The row, from 0.
        row: usize,
        /// What is wrong with the value.
        reason: String,
    },
}

/// Names a field in an error.
fn label(name: &str, id: i64) -> String {
    format!("{name:?} (id {id})")
}
