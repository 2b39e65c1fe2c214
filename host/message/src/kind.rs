//! Message types.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The type of a message, as its number: one that this build does not know passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MessageType(pub i32);

/// Declares the constants and the names of the types from one list.
macro_rules! types {
    ($($code:literal $constant:ident $name:literal $doc:literal;)*) => {
        impl MessageType {
            $(#[doc = $doc] pub const $constant: MessageType = MessageType($code);)*

            /// Returns Milvus' name of the type; `Unknown` if this build does not read it.
            pub fn name(&self) -> &'static str {
                match *self {
                    $(MessageType::$constant => $name,)*
                    _ => "Unknown",
                }
            }
        }
    };
}

types! {
    1 TIME_TICK "TimeTick" "Nothing with a lower or equal tick follows.";
    2 INSERT "Insert" "Rows.";
    3 DELETE "Delete" "Primary keys to remove.";
    4 FLUSH "Flush" "Seals a segment.";
    5 CREATE_COLLECTION "CreateCollection" "Opens a vchannel.";
    6 DROP_COLLECTION "DropCollection" "Ends a vchannel.";
    7 CREATE_PARTITION "CreatePartition" "Adds a partition.";
    8 DROP_PARTITION "DropPartition" "Removes a partition and its segments.";
    9 MANUAL_FLUSH "ManualFlush" "Seals the segments of a collection.";
    10 CREATE_SEGMENT "CreateSegment" "Opens a segment.";
    11 IMPORT "Import" "Starts a bulk import.";
    12 SCHEMA_CHANGE "SchemaChange" "A new schema; what 2.6 wrote before `ALTER_COLLECTION`.";
    13 ALTER_COLLECTION "AlterCollection" "New properties, or a new schema.";
    37 FLUSH_ALL "FlushAll" "Seals every segment of the pchannel.";
    38 TRUNCATE_COLLECTION "TruncateCollection" "Removes a collection's rows.";
    700 ALTER_WAL "AlterWAL" "Moves the pchannel to another kind of log.";
    800 ALTER_REPLICATE_CONFIG "AlterReplicateConfig" "New replication topology.";
    900 BEGIN_TXN "BeginTxn" "Opens a transaction.";
    901 COMMIT_TXN "CommitTxn" "Commits a transaction.";
    902 ROLLBACK_TXN "RollbackTxn" "Rolls a transaction back.";
    999 TXN "Txn" "A committed transaction as one message; only in memory.";
}

impl fmt::Display for MessageType {
    /// The name and the number, `Insert(2)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}
