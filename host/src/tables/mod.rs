//! Files of rows that people hand in and get back: a collection's schema as JSON, its rows as Parquet, primary keys as JSON.
//!
//! Nothing of these files is trusted: each refusal is a sentence that names the file, the place in it, and what was expected there.

mod arrow_out;
mod keys_json;
mod parquet_lists;
mod parquet_out;
mod parquet_rows;
mod parquet_values;
mod schema_json;
mod sparse_json;
#[cfg(test)]
mod tests;

use std::fmt::Display;

pub use self::keys_json::read_keys;
pub use self::parquet_out::RowsOut;
pub use self::parquet_rows::{RowsFile, RowsIn};
pub use self::schema_json::{parse_schema, read_schema};

/// Why a file cannot be used, chosen by who acts next.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file is not what it should be: change it, or name another.
    #[error("{file}: {problem}")]
    Refused {
        /// The file.
        file: String,
        /// Where in it, what is there, and what was expected.
        problem: String,
    },
    /// The file cannot be written: look at its folder.
    #[error("{file} cannot be written: {problem}")]
    Unwritable {
        /// The file.
        file: String,
        /// What went wrong.
        problem: String,
    },
}

impl TableError {
    fn refused(file: &str, problem: impl Display) -> Self {
        Self::Refused { file: file.to_owned(), problem: problem.to_string() }
    }

    fn unwritable(file: &str, problem: impl Display) -> Self {
        Self::Unwritable { file: file.to_owned(), problem: problem.to_string() }
    }
}

/// A field's type, as schema files spell it.
fn dtype(data_type: tidegate_message::columns::DataType) -> &'static str {
    use tidegate_message::columns::DataType;
    match data_type {
        DataType::Bool => "BOOL",
        DataType::Int8 => "INT8",
        DataType::Int16 => "INT16",
        DataType::Int32 => "INT32",
        DataType::Int64 => "INT64",
        DataType::Float => "FLOAT",
        DataType::Double => "DOUBLE",
        DataType::String => "STRING",
        DataType::VarChar => "VARCHAR",
        DataType::Array => "ARRAY",
        DataType::Json => "JSON",
        DataType::Geometry => "GEOMETRY",
        DataType::Text => "TEXT",
        DataType::Timestamptz => "TIMESTAMPTZ",
        DataType::BinaryVector => "BINARY_VECTOR",
        DataType::FloatVector => "FLOAT_VECTOR",
        DataType::Float16Vector => "FLOAT16_VECTOR",
        DataType::BFloat16Vector => "BFLOAT16_VECTOR",
        DataType::SparseFloatVector => "SPARSE_FLOAT_VECTOR",
        DataType::Int8Vector => "INT8_VECTOR",
    }
}
