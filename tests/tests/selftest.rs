//! The built-in scenarios: what passes them, and what does not and why.

use tidegate::engine::{EngineError, Loaded};
use tidegate::selftest;
use tidegate_tests::guests::{NEXT, PREVIOUS, bad, exports_too_little, load, wants_files};

fn loaded(bytes: &[u8]) -> std::sync::Arc<Loaded> {
    load(bytes).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn other_versions_pass_and_so_does_one_that_could_misbehave_and_does_not() {
    for bytes in [NEXT, PREVIOUS, &bad("")] {
        let passed = selftest::run(&loaded(bytes)).unwrap_or_else(|e| panic!("{e}"));
        assert!(passed.len() >= 10 && passed.iter().all(|p| p.rows > 0), "{passed:?}");
    }
}

#[test]
fn each_way_to_misbehave_is_called_by_its_name() {
    let told = [
        ("traps 3", "turn 3 is one too many"),
        ("hoards 2", "memory limit"),
        ("overtakes 1", "the guard refuses"),
        ("filters 1", "the guard refuses to filter"),
        ("refuses", "start refused: this version goes on from nothing"),
        ("snapshot traps", "nobody gets this state"),
        ("snapshot rots", "start refused: snapshot is damaged"),
    ];
    for (how, words) in told {
        let error = selftest::run(&loaded(&bad(how))).expect_err(how).to_string();
        assert!(error.contains(words), "{how}: {error}");
    }
}

#[test]
fn a_turn_that_does_not_end_is_cut_off() {
    let error = selftest::run(&loaded(&bad("loops 2"))).expect_err("a loop").to_string();
    assert!(error.contains("deadline missed"), "{error}");
}

#[test]
fn a_component_that_wants_files_or_exports_nothing_is_not_loaded() {
    let error = load(&wants_files()).expect_err("no flusher gets files");
    assert!(matches!(&error, EngineError::ForeignImport(name) if name.starts_with("wasi:filesystem/")), "{error}");
    let error = load(&exports_too_little()).expect_err("a flusher exports its logic").to_string();
    assert!(error.contains("logic"), "{error}");
}
