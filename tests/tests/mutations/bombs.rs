//! Inputs built to take more memory or time than their size justifies, or to meet an assertion: each says the most that it can in a byte.

use std::time::{Duration, Instant};

use tidegate_binlog::{DeltaForm, ReadError, SegmentKey, describe, read, write_delta_log, write_insert_log};
use tidegate_message::columns::{DataType, Deletes, FieldColumn, PrimaryKey, Values};

use super::engine::{Input, Target};
use super::memory::measured;
use super::targets::{PROPERTIES, binlog_reader, message_codec, rows_decoder, statistics_reader};
use super::{corpus, engine};

const KEY: SegmentKey = SegmentKey { collection: 1, partition: 2, segment: 3 };
/// The longest of them, in a debug build on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Thrift's compact protocol, as far as Parquet's headers need it.
#[derive(Clone, Default)]
struct Thrift(Vec<u8>);

impl Thrift {
    const I32: u8 = 5;
    const I64: u8 = 6;
    const BINARY: u8 = 8;
    const LIST: u8 = 9;
    const STRUCT: u8 = 12;

    fn varint(&mut self, mut n: u64) {
        while n > 127 {
            self.0.push(n as u8 | 128);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    /// A field, its id given as the difference to the one before.
    fn number(mut self, delta: u8, kind: u8, n: i64) -> Thrift {
        self.0.push(delta << 4 | kind);
        self.varint((n << 1 ^ n >> 63) as u64);
        self
    }

    fn text(mut self, delta: u8, text: &str) -> Thrift {
        self.0.push(delta << 4 | Thrift::BINARY);
        self.varint(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn nested(mut self, delta: u8, fields: Thrift) -> Thrift {
        self.0.push(delta << 4 | Thrift::STRUCT);
        self.0.extend(fields.end());
        self
    }

    fn list(mut self, delta: u8, kind: u8, items: &[Vec<u8>]) -> Thrift {
        self.0.push(delta << 4 | Thrift::LIST);
        self.0.push(0xf0 | kind);
        self.varint(items.len() as u64);
        items.iter().for_each(|item| self.0.extend_from_slice(item));
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(0);
        self.0
    }
}

/// What a crafted Parquet file has instead of what a writer would write.
struct Crafted {
    /// Parquet's type of the column: 2 is INT64, 6 BYTE_ARRAY.
    physical: i64,
    /// Whether the column is OPTIONAL.
    optional: bool,
    children: i64,
    pages: Vec<u8>,
    rows: i64,
    groups: usize,
}

const INT64: i64 = 2;
const TEXT: i64 = 6;
const PLAIN: i64 = 0;
const DICTIONARY: i64 = 8;

impl Crafted {
    fn new(physical: i64, pages: Vec<u8>, rows: i64) -> Crafted {
        Crafted { physical, optional: false, children: 1, pages, rows, groups: 1 }
    }

    fn payload(&self) -> Vec<u8> {
        let root = Thrift::default().text(4, "schema").number(1, Thrift::I32, self.children).end();
        let column =
            Thrift::default().number(1, Thrift::I32, self.physical).number(2, Thrift::I32, self.optional.into()).text(1, "val").end();
        let path = vec![3, b'v', b'a', b'l'];
        let size = self.pages.len() as i64;
        let metadata = Thrift::default()
            .number(1, Thrift::I32, self.physical)
            .list(1, Thrift::I32, &[vec![0]])
            .list(1, Thrift::BINARY, &[path])
            .number(1, Thrift::I32, 0)
            .number(1, Thrift::I64, self.rows)
            .number(1, Thrift::I64, size)
            .number(1, Thrift::I64, size)
            .number(2, Thrift::I64, 4);
        let chunk = Thrift::default().number(2, Thrift::I64, 4).nested(1, metadata).end();
        let group =
            Thrift::default().list(1, Thrift::STRUCT, &[chunk]).number(1, Thrift::I64, size).number(1, Thrift::I64, self.rows).end();
        let footer = Thrift::default()
            .number(1, Thrift::I32, 1)
            .list(1, Thrift::STRUCT, &[root, column])
            .number(1, Thrift::I64, self.rows)
            .list(1, Thrift::STRUCT, &vec![group; self.groups])
            .end();
        closed(&self.pages, &footer)
    }

    fn insert_log(&self) -> Vec<u8> {
        insert_log(self.physical, &self.payload())
    }
}

/// A Parquet file of pages and a footer.
fn closed(pages: &[u8], footer: &[u8]) -> Vec<u8> {
    [b"PAR1", pages, footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()
}

fn insert_log(physical: i64, payload: &[u8]) -> Vec<u8> {
    let (data_type, values) = match physical {
        TEXT => (DataType::VarChar, Values::Bytes { ends: vec![1], bytes: b"a".to_vec() }),
        _ => (DataType::Int64, Values::Int64(vec![1])),
    };
    let column = FieldColumn { field_id: 100, name: "f".to_owned(), data_type, is_primary: false, valid: None, values };
    in_envelope(&write_insert_log(&KEY, &column, 1, 2).expect("a sound column"), payload)
}

fn in_envelope(file: &[u8], payload: &[u8]) -> Vec<u8> {
    corpus::join(&[corpus::head(file), payload, &[], &[]])
}

fn page(kind: i64, values: i64, encoding: i64, unpacked: i64, content: &[u8]) -> Vec<u8> {
    let inner = Thrift::default().number(1, Thrift::I32, values).number(1, Thrift::I32, encoding);
    let (delta, inner) = if kind == 0 { (2, inner.number(1, Thrift::I32, 3).number(1, Thrift::I32, 3)) } else { (4, inner) };
    let header =
        Thrift::default().number(1, Thrift::I32, kind).number(1, Thrift::I32, unpacked).number(1, Thrift::I32, content.len() as i64);
    [header.nested(delta, inner).end(), content.to_vec()].concat()
}

fn data_page(values: i64, encoding: i64, content: &[u8]) -> Vec<u8> {
    page(0, values, encoding, content.len() as i64, content)
}

fn dictionary_page(values: i64, content: &[u8]) -> Vec<u8> {
    page(2, values, PLAIN, content.len() as i64, content)
}

/// One value as often as one likes: a dictionary of it, and a run of its index.
fn repeated(value: &[u8], rows: i64) -> Vec<u8> {
    let mut run = Thrift(vec![1]);
    run.varint((rows as u64) << 1);
    run.0.push(0);
    [dictionary_page(1, value), data_page(rows, DICTIONARY, &run.0)].concat()
}

/// Decodes a bomb as its target does, within the target's memory; returns the peak.
fn defused(target: &Target, input: &Input) -> usize {
    let began = Instant::now();
    let (_, peak) = measured(engine::limit(target, input), "", || (target.decode)(input));
    assert!(began.elapsed() < TIME_MAX, "{:?}", began.elapsed());
    println!("{}: {peak} bytes for {} of input, {:.1?}", target.name, engine::size(input), began.elapsed());
    peak
}

fn refused(file: &[u8], says: &str) {
    let peak = defused(&binlog_reader(), &vec![file.to_vec()]);
    let error = read(file).expect_err("a refusal").to_string();
    assert!(error.contains(says) && error.contains("byte "), "{error}");
    assert_eq!(describe(file, 3).expect_err("a refusal").to_string(), error);
    assert!(peak < (64 << 10) + 2 * file.len(), "{peak} bytes");
}

#[test]
fn a_crafted_file_is_read_when_it_is_sound() {
    let rows = |file: &[u8]| match read(file).expect("a sound file") {
        tidegate_binlog::Binlog::Insert(log) => log.column.values,
        other => panic!("{other:?}"),
    };
    assert_eq!(rows(&Crafted::new(INT64, data_page(1, PLAIN, &7_i64.to_le_bytes()), 1).insert_log()), Values::Int64(vec![7]));
    assert_eq!(rows(&Crafted::new(INT64, repeated(&7_i64.to_le_bytes(), 1000), 1000).insert_log()), Values::Int64(vec![7; 1000]));
    let text = Values::Bytes { ends: vec![1, 2], bytes: b"aa".to_vec() };
    assert_eq!(rows(&Crafted::new(TEXT, repeated(&[1, 0, 0, 0, b'a'], 2), 2).insert_log()), text);
}

#[test]
fn a_footer_that_claims_columns_takes_no_memory_for_them() {
    let file = Crafted { children: i32::MAX.into(), ..Crafted::new(INT64, data_page(1, PLAIN, &[0; 8]), 1) }.insert_log();
    refused(&file, "the Parquet schema has 1 columns and claims Some(2147483647)");
}

#[test]
fn a_schema_nested_without_end_does_not_end_the_stack() {
    let nest = Thrift::default().number(3, Thrift::I32, 0).text(1, "").number(1, Thrift::I32, 1).end();
    let root = Thrift::default().text(4, "").number(1, Thrift::I32, 1).end();
    let schema: Vec<Vec<u8>> = std::iter::once(root).chain(std::iter::repeat_n(nest, 200_000)).collect();
    let footer = Thrift::default().number(1, Thrift::I32, 1).list(1, Thrift::STRUCT, &schema).number(1, Thrift::I64, 1).end();
    refused(&insert_log(INT64, &closed(&[], &footer)), "a column of the Parquet payload is nested");
}

/// The Parquet crate reads fields by their ids, whatever type they have, in any order and more than once.
#[test]
fn a_footer_that_two_readers_would_read_differently_is_refused() {
    let sound = || Thrift::default().text(4, "schema").number(1, Thrift::I32, 1).end();
    let column = || Thrift::default().number(1, Thrift::I32, INT64).number(2, Thrift::I32, 0).text(1, "val");
    let hidden = |root: Vec<u8>, column: Vec<u8>| {
        let footer = Thrift::default().number(1, Thrift::I32, 1).list(1, Thrift::STRUCT, &[root, column]).number(1, Thrift::I64, 1).end();
        refused(&insert_log(INT64, &closed(&data_page(1, PLAIN, &[0; 8]), &footer)), "the Parquet footer is not what writers write");
    };
    // The number of children as 64 bits, as field 65,541, as its second value.
    hidden(Thrift::default().text(4, "schema").number(1, Thrift::I64, i64::from(i32::MAX)).end(), column().end());
    hidden(sound(), Thrift([column().0, vec![Thrift::I32]].concat()).number_only(65_541).number_only(i64::from(i32::MAX)).end());
    hidden(sound(), Thrift([column().number(1, Thrift::I32, 0).0, vec![Thrift::I32]].concat()).number_only(5).number_only(9).end());
}

impl Thrift {
    /// A number without the head of a field: a full field id, or the value after one.
    fn number_only(mut self, n: i64) -> Thrift {
        self.varint((n << 1) as u64);
        self
    }
}

#[test]
fn a_page_that_claims_more_than_a_file_may_hold_is_refused() {
    let page = page(0, 1, PLAIN, i64::from(i32::MAX), &[0; 8]);
    refused(&Crafted::new(INT64, page, 1).insert_log(), "a page of 2147483647 bytes, more than 67108864");
}

#[test]
fn one_value_repeated_fills_the_limit_and_not_more() {
    let target = binlog_reader();
    let at_the_limit = (64 << 20) / 8;
    for rows in [at_the_limit, at_the_limit + 1, i64::from(i32::MAX)] {
        let file = Crafted::new(INT64, repeated(&[7; 8], rows), rows).insert_log();
        defused(&target, &vec![file.clone()]);
        match read(&file) {
            Ok(_) => assert_eq!(rows, at_the_limit),
            Err(error) => assert!(rows > at_the_limit && matches!(error, ReadError::Unsupported { .. }), "{error}"),
        }
    }
    // Texts without a byte still cost their end, and deletes more than their text.
    let empty = (64 << 20) / 8;
    defused(&target, &vec![Crafted::new(TEXT, repeated(&[0; 4], empty), empty).insert_log()]);
    let deletes = Deletes { keys: vec![PrimaryKey::Int64(1)], ticks: vec![1] };
    let delta = write_delta_log(&KEY, &deletes, DeltaForm::Json).expect("sound deletes");
    let rows = (64 << 20) / (3 + 8);
    let payload = Crafted::new(TEXT, repeated(b"\x03\0\0\x001,1", rows), rows).payload();
    let file = in_envelope(&delta, &payload);
    defused(&target, &vec![file.clone()]);
    assert!(read(&file).is_ok());
}

/// A null is nothing in a file and a vector of zeros in memory.
#[test]
fn one_vector_among_nulls_fills_the_limit_of_vectors_and_not_more() {
    let vector = FieldColumn {
        field_id: 100,
        name: "f".to_owned(),
        data_type: DataType::FloatVector,
        is_primary: false,
        valid: Some(vec![true]),
        values: Values::Fixed { width: 4, bytes: vec![1; 4] },
    };
    let envelope = write_insert_log(&KEY, &vector, 1, 2).expect("a sound column");
    for (rows, width, fits) in [(7_000_000, 36, true), (7_000_000, 40, false), (20_000, 128 << 10, false)] {
        let mut levels = Thrift(vec![1 << 1, 1]);
        levels.varint((rows - 1) << 1);
        levels.0.push(0);
        let length = |bytes: &[u8]| (bytes.len() as u32).to_le_bytes();
        let value = vec![1; width];
        let content = [&length(&levels.0)[..], &levels.0, &length(&value), &value].concat();
        let pages = data_page(rows as i64, PLAIN, &content);
        let payload = Crafted { optional: true, ..Crafted::new(TEXT, pages, rows as i64) }.payload();
        let file = in_envelope(&envelope, &payload);
        defused(&binlog_reader(), &vec![file.clone()]);
        match read(&file) {
            Ok(_) => assert!(fits, "{rows} vectors of {width} bytes"),
            Err(error) => assert!(!fits && error.to_string().contains("with nulls as zeros"), "{error}"),
        }
    }
}

#[test]
fn row_groups_that_share_their_pages_do_not_take_for_ever() {
    // Pages without a value, which are passed over by each of the groups.
    let empty: Vec<u8> = std::iter::repeat_n(data_page(0, PLAIN, &[]), 50_000).flatten().collect();
    let file = Crafted { groups: 20_000, ..Crafted::new(INT64, empty, 0) }.insert_log();
    let peak = defused(&binlog_reader(), &vec![file.clone()]);
    assert!(read(&file).expect_err("a refusal").to_string().contains("the columns are larger than the payload"));
    assert!(peak < 64 * file.len(), "{peak} bytes for {}", file.len());
}

#[test]
fn values_that_pass_their_page_are_refused_without_a_panic() {
    let past = "the values of a page are not within it";
    // A text longer than its page, a text too few, a run of indices too short, a length of eleven bytes.
    refused(&Crafted::new(TEXT, data_page(1, PLAIN, &[9, 0, 0, 0, 1]), 1).insert_log(), past);
    refused(&Crafted::new(TEXT, data_page(2, PLAIN, &[1, 0, 0, 0, b'a']), 2).insert_log(), past);
    let dictionary = || dictionary_page(1, &[1, 0, 0, 0, b'a']);
    refused(&Crafted::new(TEXT, [dictionary(), data_page(9, DICTIONARY, &[1, 2, 0])].concat(), 9).insert_log(), past);
    let endless = [&[1][..], &[0xff; 11]].concat();
    refused(&Crafted::new(TEXT, [dictionary(), data_page(9, DICTIONARY, &endless)].concat(), 9).insert_log(), past);
    let short = [dictionary_page(2, &[1, 0, 0, 0, b'a']), data_page(1, DICTIONARY, &[1, 2, 0])].concat();
    refused(&Crafted::new(TEXT, short, 1).insert_log(), past);
    refused(&Crafted::new(TEXT, data_page(9, DICTIONARY, &[1, 18, 0]), 9).insert_log(), "in a dictionary that is not there");
    let levels = data_page(1, PLAIN, &[5, 0, 0, 0, 2, 1]);
    refused(&Crafted { optional: true, ..Crafted::new(INT64, levels, 1) }.insert_log(), past);
}

#[test]
fn statistics_of_many_small_values_stay_within_their_multiple() {
    let target = statistics_reader();
    let many = |value: &str| vec![value; 100_000].join(",");
    let numbers = format!(r#"{{"fieldID":100,"bf":[{}],"pkType":5,"maxPk":3,"minPk":1}}"#, many("0"));
    let keys = format!(r#"{{"fieldID":100,"pkType":5,"maxPk":[{}],"minPk":1}}"#, many("0"));
    let names: Vec<String> = (0..50_000).map(|n| format!("\"{n:x}\":0")).collect();
    let names = format!(r#"{{"fieldID":100,"bf":{{{}}},"pkType":5,"maxPk":3,"minPk":1}}"#, names.join(","));
    let batches = format!("[{}]", many(r#"{"fieldID":1,"bfType":1,"pkType":5,"maxPk":3,"minPk":1}"#));
    let nested = format!(r#"{{"fieldID":100,"bf":{}"#, "[".repeat(100_000));
    for file in [numbers, keys, names, batches, nested] {
        defused(&target, &vec![file.into_bytes()]);
    }
}

/// A protobuf field of bytes.
fn field(number: u64, content: &[u8]) -> Vec<u8> {
    let mut head = Thrift::default();
    head.varint(number << 3 | 2);
    head.varint(content.len() as u64);
    [head.0, content.to_vec()].concat()
}

fn body(target: &Target, body: Vec<u8>) {
    defused(target, &vec![body, vec![0]]);
}

#[test]
fn bodies_of_many_small_values_stay_within_their_multiple() {
    let target = rows_decoder();
    let zeros = vec![0; 100_000];
    let count = |number: u8| [&[number << 3][..], &[0xa0, 0x8d, 0x06]].concat();
    let version = [15 << 3, 1];
    // Columns without anything in them; row ids of a byte; keys of a byte, keys without a byte.
    body(&target, [field(13, &[]).repeat(100_000), version.to_vec()].concat());
    body(&target, [field(11, &zeros), count(14), version.to_vec()].concat());
    body(&target, [field(12, &field(1, &field(1, &zeros))), count(11)].concat());
    body(&target, [field(12, &field(2, &field(1, &[]).repeat(100_000))), count(11)].concat());
}

#[test]
fn records_of_many_small_values_stay_within_their_multiple() {
    let target = message_codec();
    let many = |number: u64| field(number, &[]).repeat(100_000);
    let bomb = |kind: &str, payload: Vec<u8>, header: Vec<u8>| {
        let mut input: Input = vec![payload];
        input.extend(PROPERTIES.map(|(key, _)| match key {
            "_v" => b"1".to_vec(),
            "_t" => kind.as_bytes().to_vec(),
            "_vc" => b"p_0_1v0".to_vec(),
            "_h" => header.clone(),
            "_tt" | "_lc" => b"1".to_vec(),
            _ => Vec::new(),
        }));
        input.extend([vec![0; 8], many(2)]);
        defused(&target, &input);
    };
    // Fields of a schema, partitions of an insert, segments of a CreateSegment, everything else by its number.
    for number in 1..=20 {
        bomb("5", field(number, &many(4)), vec![8, 1]);
        bomb("5", many(number), vec![8, 1]);
        bomb("10", many(number), vec![8, 1]);
        bomb("2", vec![], many(number));
        bomb("13", field(number, &field(1, &many(4))), vec![8, 1]);
    }
    bomb("9", vec![], [8, 1].repeat(50_000));
    bomb("9", vec![], field(3, &[1; 100_000]));
}
