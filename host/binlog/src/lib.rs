//! Segment files of Milvus: insert logs, delta logs and primary key statistics, written and read.
//!
//! A segment's rows lie in object storage one file a field and sync (storage version 1), or one a column group and sync (storage version 2);
//! its deletes and the statistics of its primary key lie beside them.
//!
//! ```text
//! insert_log/<collection>/<partition>/<segment>/<field>/<log id>     envelope, Parquet with one column     write_insert_log
//! insert_log/<collection>/<partition>/<segment>/<group>/<log id>     Parquet, footer metadata              PackedPlan
//! stats_log/<collection>/<partition>/<segment>/<pk field>/<log id>   a JSON object                         primary_key_statistics
//! stats_log/<collection>/<partition>/<segment>/<pk field>/1          a JSON list of those                  merge_statistics
//! delta_log/<collection>/<partition>/<segment>/<log id>              envelope, Parquet                     write_delta_log
//! ```
//!
//! Storage version 1 with [`DeltaForm::Json`] and [`FilterKind::Basic`], nothing nullable, opens in Milvus 2.3 and in 2.6; the other forms
//! are for 2.6. FL-3: equal input gives equal bytes, in every process and on every day. [`read()`] takes what either version wrote, trusts
//! none of it, and says at which byte a file stops making sense. This crate touches no files: bytes in, bytes out.
//!
//! ```
//! use tidegate_binlog::{Binlog, SegmentKey, describe, read, write_insert_log};
//! use tidegate_message::columns::{DataType, FieldColumn, Values};
//!
//! let key = SegmentKey { collection: 1, partition: 2, segment: 3 };
//! let values = Values::Int64(vec![7, 8, 9]);
//! let column = FieldColumn { field_id: 100, name: "id".into(), data_type: DataType::Int64, is_primary: true, valid: None, values };
//! let file = write_insert_log(&key, &column, 1000, 2000)?;
//!
//! let Binlog::Insert(log) = read(&file)? else { panic!("an insert log") };
//! assert_eq!((log.envelope.key, log.envelope.field), (key, 100));
//! assert_eq!(log.column.values, column.values);
//! println!("{}", describe(&file, 10)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod blocked_bloom;
mod bloom;
mod columns;
mod compression;
mod delta;
mod describe;
mod envelope;
mod error;
mod footer;
mod insert;
mod memory;
mod packed;
mod packed_read;
mod packed_write;
mod page_values;
mod pages;
mod parquet_read;
mod parquet_write;
mod read;
mod show;
mod statistics;
mod thrift;

pub use blocked_bloom::BlockedBloom;
pub use bloom::BasicBloom;
pub use delta::{DeltaForm, write_delta_log};
pub use describe::describe;
pub use envelope::{Envelope, EventKind};
pub use error::{ReadError, WriteError};
pub use insert::write_insert_log;
pub use memory::{deletes_memory_size, memory_size};
pub use packed::{ColumnGroups, column_groups};
pub use packed_read::{PackedColumn, PackedFile, read_packed};
pub use packed_write::PackedPlan;
pub use read::{Binlog, DeltaLog, InsertLog, read, read_column, read_deletes};
pub use statistics::{FilterKind, PkFilter, PkStatistics, merge_statistics, primary_key_statistics};

/// Whose file it is: the ids in its key and its envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentKey {
    /// Collection id.
    pub collection: i64,
    /// Partition id.
    pub partition: i64,
    /// Segment id.
    pub segment: i64,
}
