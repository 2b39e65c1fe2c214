//! Where the files of a segment lie; coordinators and readers parse these keys, so the layout is Milvus' own.

use tidegate_binlog::SegmentKey;

/// The folders of segment files.
pub const FOLDERS: [&str; 3] = ["insert_log", "stats_log", "delta_log"];
/// The log id of a segment's merged primary-key statistics.
pub const MERGED_STATISTICS: i64 = 1;

/// Returns `insert_log/<collection>/<partition>/<segment>/<field or column group>/<log id>`.
pub fn insert_log(segment: &SegmentKey, field: i64, log_id: i64) -> String {
    format!("insert_log/{}/{field}/{log_id}", folder(segment))
}

/// Returns `stats_log/<collection>/<partition>/<segment>/<primary key field>/<log id>`.
pub fn stats_log(segment: &SegmentKey, primary_key: i64, log_id: i64) -> String {
    format!("stats_log/{}/{primary_key}/{log_id}", folder(segment))
}

/// Returns `delta_log/<collection>/<partition>/<segment>/<log id>`.
pub fn delta_log(segment: &SegmentKey, log_id: i64) -> String {
    format!("delta_log/{}/{log_id}", folder(segment))
}

fn folder(segment: &SegmentKey) -> String {
    format!("{}/{}/{}", segment.collection, segment.partition, segment.segment)
}
