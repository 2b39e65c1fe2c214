//! Damaged files are refused with a reason: no panic, no endless loop, no memory for what a liar claims.

use proptest::prelude::*;
use tidegate_binlog::{
    Binlog, FilterKind, ReadError, SegmentKey, describe, merge_statistics, primary_key_statistics, read, read_column, read_deletes,
};
use tidegate_binlog::{DeltaForm, write_delta_log, write_insert_log};
use tidegate_message::columns::{DataType, Deletes, FieldColumn, PrimaryKey, Values};

const KEY: SegmentKey = SegmentKey { collection: 1, partition: 2, segment: 3 };

fn ids() -> FieldColumn {
    let values = Values::Int64((0..300).map(|i| i / 3).collect());
    FieldColumn { field_id: 100, name: "id".to_owned(), data_type: DataType::Int64, is_primary: false, valid: None, values }
}

fn files() -> Vec<Vec<u8>> {
    let bytes: Vec<u8> = (0..60).flat_map(|i| format!("{:03}", i % 10).into_bytes()).collect();
    let values = Values::Bytes { ends: (1..=60).map(|i| i * 3).collect(), bytes };
    let text = FieldColumn { data_type: DataType::VarChar, values, ..ids() };
    let vector = FieldColumn { data_type: DataType::FloatVector, values: Values::Fixed { width: 16, bytes: vec![1; 320] }, ..ids() };
    let deletes = Deletes { keys: (0..40).map(PrimaryKey::Int64).collect(), ticks: (1..=40).collect() };
    let statistics =
        [(&ids(), FilterKind::Basic), (&text, FilterKind::Blocked)].map(|(keys, kind)| primary_key_statistics(keys, kind).unwrap());
    let logs = [ids(), text, vector].map(|column| write_insert_log(&KEY, &column, 1000, 2000).unwrap());
    let others = [write_delta_log(&KEY, &deletes, DeltaForm::Json).unwrap(), merge_statistics(&statistics).into_bytes()];
    logs.into_iter().chain(others).collect()
}

#[test]
fn every_truncation_is_refused() {
    for file in files() {
        for length in 0..file.len() {
            assert!(read(&file[..length]).is_err(), "{length} of {}", file.len());
            assert!(describe(&file[..length], 3).is_err());
        }
    }
}

#[test]
fn every_bit_of_the_envelope_is_checked_or_is_a_value() {
    let file = write_insert_log(&KEY, &ids(), 1000, 2000).unwrap();
    let values = ids().values;
    let Ok(Binlog::Insert(log)) = read(&file) else { panic!("an insert log") };
    for bit in 0..log.envelope.payload_at * 8 {
        let mut bytes = file.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(read) = read_column(&bytes) {
            assert_eq!(read.values, values, "bit {bit}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_payload_is_an_error_or_another_value() {
    for file in files() {
        for bit in 0..file.len() * 8 {
            let mut bytes = file.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = read(&bytes);
        }
    }
}

#[test]
fn what_is_no_segment_file_is_called_so() {
    let index = b"\x00\x01\x02\x03\x04 and so on";
    for (bytes, message) in [
        (&b""[..], "not a segment file at byte 0: it has 0 bytes"),
        (b"\x00", "not a segment file at byte 0: it has 1 bytes"),
        (
            index,
            "not a segment file at byte 0: it begins with [00, 01, 02, 03], a binlog with [bc, fa, ff, 00], a packed file with PAR1, \
             statistics with '{' or '['",
        ),
    ] {
        assert_eq!(read(bytes).unwrap_err().to_string(), message);
    }
    let delta = &files()[3];
    assert_eq!(read_column(delta), Err(ReadError::Kind { expected: "an insert log", found: "a delta log" }));
    let statistics = &files()[4];
    assert_eq!(read_deletes(statistics), Err(ReadError::Kind { expected: "a delta log", found: "primary key statistics" }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits_never_panic(which in 0..5usize, flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..6)) {
        let mut file = files().swap_remove(which);
        for (at, bit) in flips {
            let at = at.index(file.len());
            file[at] ^= 1 << bit;
        }
        let decoded = read(&file);
        let described = describe(&file, 5);
        prop_assert!(decoded.is_err() || described.is_ok());
    }

    #[test]
    fn flipped_bits_of_the_parquet_footer_never_panic(which in 0..4usize, from_end in 9..160usize, byte in any::<u8>()) {
        let mut file = files().swap_remove(which);
        let at = file.len() - from_end;
        file[at] = byte;
        let _ = read(&file);
    }

    #[test]
    fn noise_in_an_envelope_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut file = vec![0xbc, 0xfa, 0xff, 0];
        file.extend(noise);
        prop_assert!(read(&file).is_err());
    }
}
