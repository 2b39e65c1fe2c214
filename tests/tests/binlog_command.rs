//! `tidegate binlog FILE` by the real binary: every kind of segment file is shown; whatever is damaged or no segment file is refused with
//! exit code 2, a sentence, and the offset of what is wrong.

use std::path::{Path, PathBuf};
use std::process::Output;

use tidegate_binlog::{ColumnGroups, DeltaForm, FilterKind, PackedPlan, SegmentKey, column_groups};
use tidegate_binlog::{merge_statistics, primary_key_statistics, write_delta_log, write_insert_log};
use tidegate_message::columns::{Columns, DataType, Deletes, FieldColumn, PrimaryKey, Values};
use tidegate_message::schema::{Field, Schema};
use tidegate_tests::process::run;

const KEY: SegmentKey = SegmentKey { collection: 1, partition: 2, segment: 3 };

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/binlog/tests/fixtures").join(name);
    std::fs::read(path).expect("a fixture")
}

/// A file of every kind, of a real Milvus and of our own, and what the first line of its description has.
fn files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let values = Values::Int64((0..300).collect());
    let ids = FieldColumn { field_id: 100, name: "id".to_owned(), data_type: DataType::Int64, is_primary: true, valid: None, values };
    let deletes = Deletes { keys: (0..40).map(PrimaryKey::Int64).collect(), ticks: (1..=40).collect() };
    let statistics = [FilterKind::Basic, FilterKind::Blocked].map(|filter| primary_key_statistics(&ids, filter).expect("a key"));
    vec![
        ("insert", fixture("insert_int64"), "insert log of field 100, Int64"),
        ("text", fixture("insert_varchar"), "insert log of field 108, VarChar"),
        ("delta", fixture("delta_log"), "delta log, String"),
        ("statistics", fixture("stats_batch"), "primary key statistics"),
        ("merged", fixture("stats_merged"), "primary key statistics"),
        ("own_insert", write_insert_log(&KEY, &ids, 1000, 2000).expect("a column"), "insert log of field 100, Int64"),
        ("own_delta", write_delta_log(&KEY, &deletes, DeltaForm::Json).expect("deletes"), "delta log, String"),
        ("own_parquet_delta", write_delta_log(&KEY, &deletes, DeltaForm::Parquet).expect("deletes"), "delta log, Int64"),
        ("own_packed", packed(), "packed file of fields 0, 1, 100"),
        ("own_merged", merge_statistics(&statistics).into_bytes(), "primary key statistics"),
    ]
}

/// The packed file of a key alone.
fn packed() -> Vec<u8> {
    let key = Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) };
    let schema = Schema { name: "things".to_owned(), fields: vec![key], enable_dynamic_field: false, version: 0 };
    let mut batch = Columns::new(&schema);
    batch.rows = 300;
    batch.fields.iter_mut().for_each(|column| column.values = Values::Int64((0..300).collect()));
    let plan = PackedPlan::new(&batch, &column_groups(&schema, &ColumnGroups::new())).expect("a batch");
    plan.write(&batch.fields).expect("a file")
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    }
}

fn binlog(path: &Path) -> Output {
    run(&["binlog", path.to_str().expect("a name in UTF-8")])
}

/// What the binary says of a file that it must refuse: one line with the file's name.
fn refusal(path: &Path) -> String {
    let output = binlog(path);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{}: {said}", path.display());
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(said.starts_with(&format!("error: {}: ", path.display())) && said.lines().count() == 1, "{said}");
    said
}

#[test]
fn every_kind_of_file_is_shown() {
    let folder = Folder::new();
    for (name, bytes, first_line) in files() {
        let output = binlog(&folder.put(name, &bytes));
        let shown = String::from_utf8(output.stdout).expect("text");
        assert_eq!(output.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(shown.starts_with(first_line) && shown.contains("\n  rows        "), "{name}: {shown}");
    }
}

#[test]
fn a_truncated_file_names_its_offset() {
    let folder = Folder::new();
    for (name, bytes, _) in files() {
        for length in [1, 5, 30, 84, 120, bytes.len() / 2, bytes.len() - 9, bytes.len() - 1] {
            let said = refusal(&folder.put(name, &bytes[..length]));
            let at: Vec<usize> = said
                .split("byte ")
                .skip(1)
                .map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default())
                .map(|n| n.parse().expect("a number"))
                .collect();
            assert!(!at.is_empty() && at[0] <= length, "{name} of {length} bytes: {said}");
            // A binlog knows how long it should be; JSON only that it goes on.
            assert!(at.contains(&length) || length < 4 || bytes[0] != 0xbc, "{name} of {length} bytes: {said}");
        }
    }
}

#[test]
fn a_flipped_bit_is_found_where_it_is() {
    let folder = Folder::new();
    let insert = fixture("insert_int64");
    let end = insert.len();
    // Byte to flip, bit, and what is said. The layout is that of `host/binlog/src/envelope.rs`; the extras of this file are 24 bytes.
    for (at, bit, says) in [
        (0, 0, "not a segment file at byte 0: it begins with [bd, fa, ff, 00]"),
        (12, 0, "damaged at byte 12: event type 1, a descriptor is 0"),
        (13, 0, "damaged at byte 13: descriptor event at 4 of 104 bytes, yet the next position is 109"),
        (17, 1, "damaged at byte 13: descriptor event at 4 of 105 bytes, yet the next position is 111"),
        (70, 4, "damaged at byte 69: values of type 4101, which Milvus does not have"),
        (73, 1, "damaged at byte 73: post-header lengths"),
        (81, 0, "damaged at byte 81: extras of 25 bytes"),
        (87, 5, "damaged at byte 85: the extras lack original_size"),
        (117, 2, "cannot be read here, byte 117: event type 5"),
        (118, 0, "damaged at byte 118: data event at 109"),
        (end - 1, 0, "the Parquet payload ends with [50, 41, 52, 30]"),
        (end - 8, 7, "damaged at byte 1878: the Parquet schema has 0 columns"),
        (end - 5, 6, "a Parquet footer of 1073"),
    ] {
        let mut bytes = insert.clone();
        bytes[at] ^= 1 << bit;
        let said = refusal(&folder.put("insert", &bytes));
        assert!(said.contains(says) && said.contains("byte "), "byte {at}: {said}");
    }
    // In a compressed page the damage is known by its column.
    let mut bytes = insert.clone();
    bytes[end / 2] ^= 1;
    let said = refusal(&folder.put("insert", &bytes));
    assert!(said.contains("damaged at byte 146: Parquet payload: "), "{said}");
    let mut statistics = fixture("stats_merged");
    let at = statistics.windows(4).rposition(|window| window == b"\"bf\"").expect("a filter");
    statistics[at + 6] ^= 1;
    assert!(refusal(&folder.put("statistics", &statistics)).contains("damaged at byte "));
}

#[test]
fn what_is_no_segment_file_is_called_so() {
    let folder = Folder::new();
    let png = [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, b'I', b'H', b'D', b'R'];
    for (name, bytes, says) in [
        ("empty", &b""[..], "not a segment file at byte 0: it has 0 bytes"),
        ("notes.txt", b"Dear reader,\n", "not a segment file at byte 0: it begins with [44, 65, 61, 72]"),
        ("picture.png", &png, "not a segment file at byte 0: it begins with [89, 50, 4e, 47]"),
        ("rows.parquet", include_bytes!("../../host/demo/digits.parquet"), "a column of the Parquet payload is nested"),
        ("keys.parquet", b"PAR1\x15\x04", "cut off: Parquet file at byte 0 ends at byte 12, the file at byte 6"),
        ("data.json", b"{\"a\": 1}", "damaged at byte 7: statistics: missing field `fieldID`"),
        ("list.json", b"[1, 2]", "damaged at byte 1: statistics: "),
    ] {
        let said = refusal(&folder.put(name, bytes));
        assert!(said.contains(says), "{name}: {said}");
    }
    assert!(refusal(folder.0.path()).contains("directory"));
    assert!(refusal(&folder.0.path().join("missing")).contains("No such file"));
}
