//! What is mutated: recorded files and bodies of a real Milvus 2.3.5, and what our own writers make.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArrayType, FixedLenByteArrayType, Int32Type, Int64Type};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tidegate_binlog::{Binlog, ColumnGroups, DeltaForm, FilterKind, PackedPlan, SegmentKey, column_groups, read};
use tidegate_binlog::{merge_statistics, primary_key_statistics, write_delta_log, write_insert_log};
use tidegate_message::build::{self, InsertAssignment};
use tidegate_message::columns::{Columns, DataType, Deletes, FieldColumn, PrimaryKey, Values};
use tidegate_message::schema::{Field, Schema};
use tidegate_message::{CreateSegment, Header, Message, MessageId, Outgoing, Record, TxnContext};
use tidegate_tests::every_type;

use super::engine::Input;

const KEY: SegmentKey = SegmentKey { collection: 1, partition: 2, segment: 3 };
const VCHANNEL: &str = "tidegate-dml_0_7v0";
const ROWS: i64 = 24;

/// The files of a crate's fixture folder whose names begin with `prefix`, in the order of their names.
fn fixtures(folder: &str, prefix: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host").join(folder).join("tests/fixtures");
    let entries = std::fs::read_dir(&folder).expect("fixtures").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> =
        entries.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no {prefix}* in {}", folder.display());
    paths.iter().map(|path| std::fs::read(path).expect("a fixture")).collect()
}

/// Schemas that bodies are held against: of every type; of the recorded collection; of the key and one more field each.
pub fn schemas() -> &'static [Schema] {
    static SCHEMAS: OnceLock<Vec<Schema>> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        let every = every_type::schema("every_type");
        let pair = |field: &Field| Schema { fields: vec![every.fields[0].clone(), field.clone()], ..every.clone() };
        let pairs: Vec<Schema> = every.fields[1..].iter().map(pair).collect();
        [every.clone(), recorded_schema()].into_iter().chain(pairs).collect()
    })
}

/// The schema of the recorded CreateCollection, whose rows are the recorded inserts.
fn recorded_schema() -> Schema {
    let properties = [("_v", "1"), ("_t", "5"), ("_h", ""), ("_vc", "p_0_1v0"), ("_tt", "1"), ("_lcs", "")];
    let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let payload = fixtures("message", "create_collection").swap_remove(0).into();
    let record = Record { id: MessageId::RocksMq(1), payload, properties: properties.into() };
    match Message::decode(record).expect("a recorded message").header {
        Header::CreateCollection { schema: Ok(schema), .. } => *schema,
        other => panic!("{other:?}"),
    }
}

/// Rows of every type, some of their values equal, so that there are dictionaries and runs.
fn batch(rows: i64) -> Columns {
    let schema = &schemas()[0];
    let mut batch = every_type::rows(schema, 0..rows);
    for column in &mut batch.fields {
        if let Values::Int8(v) = &mut column.values {
            v.iter_mut().for_each(|n| *n %= 3);
        }
    }
    batch
}

/// The first column of a type.
fn column(data_type: DataType) -> FieldColumn {
    let mut columns = batch(ROWS).fields;
    let nth = columns.iter().position(|column| column.data_type == data_type).expect("every type");
    columns.swap_remove(nth)
}

fn keys(text: bool) -> Vec<PrimaryKey> {
    (0..20).map(|n| if text { PrimaryKey::VarChar(format!("\"{n}é")) } else { PrimaryKey::Int64(n * n - 50) }).collect()
}

/// Insert logs, delta logs and packed files.
pub fn binlogs() -> Vec<Input> {
    let mut files = fixtures("binlog", "insert_");
    files.extend(fixtures("binlog", "delta_log"));
    let insert_log = |column: &FieldColumn| write_insert_log(&KEY, column, 1000, 2000).expect("a sound column");
    files.extend(batch(ROWS).fields.iter().map(insert_log));
    for data_type in [DataType::Bool, DataType::Int8, DataType::Int64, DataType::VarChar, DataType::FloatVector] {
        let column = column(data_type);
        let file = insert_log(&column);
        files.extend(plain_payloads(&column).iter().map(|payload| join(&[head(&file), payload, &[], &[]])));
    }
    for (text, form) in [(false, DeltaForm::Json), (true, DeltaForm::Json), (false, DeltaForm::Parquet), (true, DeltaForm::Parquet)] {
        let deletes = Deletes { keys: keys(text), ticks: (1..=20).collect() };
        files.push(write_delta_log(&KEY, &deletes, form).expect("sound deletes"));
    }
    files.extend(packed_files());
    // Whole, and in parts that stay consistent.
    let parts: Vec<Input> = files.iter().map(|file| split(file)).collect();
    files.into_iter().map(|file| vec![file]).chain(parts).collect()
}

/// The files of a batch of every type in storage version 2.
fn packed_files() -> Vec<Vec<u8>> {
    let schema = &schemas()[0];
    let mut columns = Columns::new(schema);
    columns.rows = ROWS as usize;
    columns.fields.truncate(2);
    columns.fields.iter_mut().for_each(|column| column.values = Values::Int64((0..ROWS).collect()));
    columns.fields.extend(batch(ROWS).fields);
    let groups = column_groups(schema, &ColumnGroups::new());
    let plan = PackedPlan::new(&columns, &groups).expect("a sound batch");
    let file = |fields: &Vec<i64>| {
        let of_group: Vec<_> = columns.fields.iter().filter(|column| fields.contains(&column.field_id)).cloned().collect();
        plan.write(&of_group).expect("a sound group")
    };
    groups.values().map(file).collect()
}

/// What lies before the payload.
pub fn head(file: &[u8]) -> &[u8] {
    let payload_at = match read(file) {
        Ok(Binlog::Insert(log)) => log.envelope.payload_at,
        Ok(Binlog::Delta(log)) => log.envelope.payload_at,
        Ok(Binlog::Packed(_)) => 0,
        // A type that is not read: the payload begins with the magic of Parquet.
        _ => file.windows(4).position(|window| window == PARQUET).expect("a Parquet payload"),
    };
    &file[..payload_at]
}

const PARQUET: &[u8] = b"PAR1";

/// Envelope (none of a packed file), pages, Parquet footer, and what is written over their lengths: nothing.
fn split(file: &[u8]) -> Input {
    let head = head(file);
    let (payload, end) = (&file[head.len()..], file.len() - 8);
    let footer_bytes = u32::from_le_bytes(file[end..end + 4].try_into().expect("4 bytes")) as usize;
    let pages = &payload[..payload.len() - 8 - footer_bytes];
    vec![head.to_vec(), pages.to_vec(), file[end - footer_bytes..end].to_vec(), Vec::new()]
}

/// The file of an input in one part, or in four: there the lengths are set right, unless the fourth part has others. Without this no change
/// of a length would get past the envelope.
pub fn join<P: AsRef<[u8]>>(parts: &[P]) -> Vec<u8> {
    let [head, pages, footer, lengths] = parts else { return parts[0].as_ref().to_vec() };
    let (head, footer) = (head.as_ref(), footer.as_ref());
    let mut file = [head, pages.as_ref(), footer].concat();
    if !footer.is_empty() {
        file.extend_from_slice(&(footer.len() as u32).to_le_bytes());
        file.extend_from_slice(PARQUET);
    }
    // The data event's header is 33 bytes before the payload: length and next position are at 9 and 13.
    if let Some(event_at) = head.len().checked_sub(33) {
        let (length, next) = ((file.len() - event_at) as u32, file.len() as u32);
        let right = [length.to_le_bytes(), next.to_le_bytes()].concat();
        let written = if lengths.as_ref().is_empty() { right.as_slice() } else { lengths.as_ref() };
        let written = &written[..written.len().min(8)];
        file[event_at + 9..event_at + 9 + written.len()].copy_from_slice(written);
    }
    file
}

/// Parquet files of a column that is not compressed, so that mutations reach values, levels and dictionaries: required and optional,
/// with and without a dictionary, with data pages of both versions.
fn plain_payloads(column: &FieldColumn) -> Vec<Vec<u8>> {
    let physical = match &column.values {
        Values::Bool(_) => "BOOLEAN f",
        Values::Int8(_) => "INT32 f (INTEGER(8,true))",
        Values::Int64(_) => "INT64 f",
        Values::Bytes { .. } => "BYTE_ARRAY f (UTF8)",
        Values::Fixed { .. } => "FIXED_LEN_BYTE_ARRAY (64) f",
        other => panic!("{other:?}"),
    };
    let mut payloads = Vec::new();
    for (repetition, version, dictionary) in [
        ("REQUIRED", WriterVersion::PARQUET_1_0, false),
        ("OPTIONAL", WriterVersion::PARQUET_1_0, true),
        ("OPTIONAL", WriterVersion::PARQUET_2_0, false),
        ("REQUIRED", WriterVersion::PARQUET_2_0, true),
    ] {
        let schema = parse_message_type(&format!("message schema {{ {repetition} {physical}; }}")).expect("a schema");
        let properties = WriterProperties::builder().set_writer_version(version).set_dictionary_enabled(dictionary);
        let properties = Arc::new(properties.set_compression(Compression::UNCOMPRESSED).build());
        let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), properties).expect("a file");
        let levels = vec![1; column.values.len()];
        let levels = (repetition == "OPTIONAL").then_some(levels.as_slice());
        let mut group = file.next_row_group().expect("a row group");
        let mut writer = group.next_column().expect("a column").expect("a column");
        let written = match &column.values {
            Values::Bool(v) => writer.typed::<BoolType>().write_batch(v, levels, None),
            Values::Int8(v) => {
                let wide: Vec<i32> = v.iter().map(|&n| n.into()).collect();
                writer.typed::<Int32Type>().write_batch(&wide, levels, None)
            }
            Values::Int64(v) => writer.typed::<Int64Type>().write_batch(v, levels, None),
            Values::Bytes { ends, bytes } => {
                let starts = [0].iter().chain(ends);
                let slices: Vec<_> = starts.zip(ends).map(|(&start, &end)| bytes[start..end].to_vec().into()).collect();
                writer.typed::<ByteArrayType>().write_batch(&slices, levels, None)
            }
            Values::Fixed { width, bytes } => {
                let vectors: Vec<_> = bytes.chunks(*width).map(|vector| vector.to_vec().into()).collect();
                writer.typed::<FixedLenByteArrayType>().write_batch(&vectors, levels, None)
            }
            other => panic!("{other:?}"),
        };
        written.expect("values");
        writer.close().expect("a column");
        group.close().expect("a row group");
        payloads.push(file.into_inner().expect("a file"));
    }
    payloads
}

/// Statistics, of a batch and merged.
pub fn statistics() -> Vec<Input> {
    let mut files = fixtures("binlog", "stats_");
    let mut ours = Vec::new();
    for filter in [FilterKind::Basic, FilterKind::Blocked] {
        ours.extend([DataType::Int64, DataType::VarChar].map(|key| primary_key_statistics(&column(key), filter).expect("a key's column")));
    }
    files.push(merge_statistics(&ours).into_bytes());
    files.extend(ours.into_iter().map(String::into_bytes));
    files.into_iter().map(|file| vec![file]).collect()
}

fn insert(fields: &[FieldColumn], rows: i64) -> Outgoing {
    let to = InsertAssignment { collection: 7, partition: 8, segment: 9, rows: rows as u64, bytes: 1 };
    build::insert(VCHANNEL, &to, fields, &(0..rows).collect::<Vec<_>>())
}

/// Bodies of inserts and deletes, each with the number of its schema among [`schemas`].
pub fn bodies() -> Vec<Input> {
    let mut bodies: Vec<(Vec<u8>, u8)> = fixtures("message", "insert").into_iter().map(|body| (body, 1)).collect();
    bodies.extend(fixtures("message", "delete").into_iter().map(|body| (body, 1)));
    let all = batch(6).fields;
    bodies.push((insert(&all, 6).payload.to_vec(), 0));
    for (nth, field) in all[1..].iter().enumerate() {
        bodies.push((insert(&[all[0].clone(), field.clone()], 6).payload.to_vec(), 2 + nth as u8));
    }
    bodies.extend([false, true].map(|text| (build::delete(VCHANNEL, 7, -1, &keys(text)).payload.to_vec(), 0)));
    bodies.into_iter().map(|(body, schema)| vec![body, vec![schema]]).collect()
}

/// Records of every type of message: the payload, then the properties in the order of [`super::targets::PROPERTIES`], the protobufs
/// among them without their base64.
pub fn records() -> Vec<Input> {
    let schema = &schemas()[0];
    let segment = CreateSegment { partition: 8, segment: 9, storage_version: 0, level: 2, max_rows: 10, max_bytes: 1 << 20 };
    let txn = TxnContext { txn_id: 5, keepalive_ms: 1_000 };
    let rows = batch(6).fields;
    let messages = [
        build::time_tick(),
        insert(&rows, 6),
        build::delete(VCHANNEL, 7, -1, &keys(true)),
        build::create_collection(VCHANNEL, "db", 7, &[8, 10], schema),
        build::drop_collection(VCHANNEL, 7),
        build::create_partition(VCHANNEL, 7, 8),
        build::drop_partition(VCHANNEL, 7, 8),
        build::create_segment(VCHANNEL, 7, &segment),
        build::flush(VCHANNEL, 7, 8, 9),
        build::manual_flush(VCHANNEL, 7, 99, &[9, 11]),
        build::flush_all("tidegate-dml_0"),
        build::truncate(VCHANNEL, 7, &[9]),
        build::schema_change(VCHANNEL, 7, &[9], schema),
        build::begin_txn(VCHANNEL, 1_000),
        build::with_txn(insert(&rows, 6), &txn),
        build::commit_txn(VCHANNEL, &txn),
        build::rollback_txn(VCHANNEL, &txn),
    ];
    let confirmed = [
        MessageId::RocksMq(470_648_468_662_911_008),
        MessageId::Kafka(-2),
        MessageId::Test(12),
        MessageId::WoodPecker { segment: 3, entry: 300 },
        MessageId::Pulsar { ledger: 1, entry: 2, partition: 0, batch_index: 3, batch_size: 4 },
    ];
    let mut records: Vec<Input> = (messages.into_iter().zip(confirmed.iter().cycle()))
        .map(|(message, confirmed)| super::targets::parts(message.stamp(77, confirmed, 3), confirmed))
        .collect();
    // The real server's bodies, under the properties of ours.
    for (name, nth) in [("insert", 1), ("delete", 2), ("create_collection", 3)] {
        let mut record = records[nth].clone();
        record[0] = fixtures("message", name).swap_remove(0);
        records.push(record);
    }
    records
}
