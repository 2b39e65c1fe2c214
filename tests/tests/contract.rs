//! The versions of the contract between host and component, and what is said about a component that fits none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tidegate::engine::{BUILT_IN, Contract, Engine, GuestConfig, inspect};
use tidegate_core::turn::{Answer, Completion, EVERY_CHANNEL, Fault, GuestPhase, IntentKind, TurnInput};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

fn wit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit")
}

/// Digests of the files in a folder, by their paths below `wit/`.
fn digests(version: &str, below: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(below).unwrap() {
        let (path, name) = entry.map(|e| (e.path(), e.file_name().into_string().unwrap())).unwrap();
        let relative = format!("{version}/{name}");
        if path.is_dir() {
            digests(&relative, &path, found);
        } else {
            let digest = Sha256::digest(fs::read(path).unwrap());
            found.insert(relative, digest.iter().map(|b| format!("{b:02x}")).collect());
        }
    }
}

fn number(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or_else(|_| panic!("wit/{version} is not named by a version"))).collect()
}

/// `wit/frozen.txt` is what `sha256sum` prints; a version is released once it is listed there.
#[test]
fn released_versions_do_not_change() {
    let list = fs::read_to_string(wit().join("frozen.txt")).unwrap();
    let listed: BTreeMap<String, String> =
        list.lines().map(|line| line.split_once("  ").unwrap()).map(|(digest, path)| (path.to_owned(), digest.to_owned())).collect();
    let released: BTreeSet<&str> = listed.keys().filter_map(|path| path.split_once('/')).map(|(version, _)| version).collect();
    let mut found = BTreeMap::new();
    for version in &released {
        digests(version, &wit().join(version), &mut found);
    }
    assert_eq!(found, listed, "released versions do not change: add a new folder");
    let folders = fs::read_dir(wit()).unwrap().map(|e| e.unwrap()).filter(|e| e.path().is_dir());
    let mut versions: Vec<String> = folders.map(|e| e.file_name().into_string().unwrap()).collect();
    versions.sort_by_key(|version| number(version));
    versions.pop();
    for version in versions {
        assert!(released.contains(version.as_str()), "wit/{version} is not the newest version: list its files in wit/frozen.txt");
    }
}

/// A component for a contract's text; without code of its own each function traps.
fn component(wit: &str, code: Option<&str>) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("flusher.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some("flusher")).unwrap();
    let made = || dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    let mut module = code.map_or_else(made, |text| wat::parse_str(text).unwrap());
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

fn text(version: &str) -> String {
    fs::read_to_string(wit().join(version).join("flusher.wit")).unwrap()
}

/// The text with one part exchanged, which must be there.
fn with(version: &str, part: &str, other: &str) -> String {
    let text = text(version);
    assert!(text.contains(part), "{part}");
    text.replace(part, other)
}

fn verdict(component: &[u8]) -> String {
    let error = inspect(component).and_then(|i| i.judge()).unwrap_err().to_string();
    let loaded = Engine::new().unwrap().load(component, None).unwrap_err().to_string();
    assert_eq!(error, loaded, "what is not fit is not compiled");
    error
}

fn config() -> GuestConfig {
    GuestConfig {
        pchannel: "p_0".into(),
        term: 1,
        insert_bytes_max: 1 << 20,
        delete_bytes_max: 1 << 20,
        sync_period_ms: 600_000,
        report_period_ms: 60_000,
        reports_max: 128,
        idle_tick_ms: 1_000,
        page_max: 256,
    }
}

#[test]
fn a_component_says_its_version_what_it_wants_and_what_it_gives() {
    let built_in = inspect(BUILT_IN).unwrap();
    assert_eq!((built_in.contract.as_deref(), built_in.bytes), (Some("0.2.0"), BUILT_IN.len()));
    let functions = |of: &[tidegate::engine::Interface], name: &str| of.iter().find(|i| i.name == name).unwrap().functions.join(" ");
    assert_eq!(functions(&built_in.exports, "tidegate:flusher/logic@0.2.0"), "start turn snapshot accounts explain");
    assert_eq!(functions(&built_in.imports, "tidegate:flusher/wal@0.2.0"), "open next append-flush");
    for contract in Contract::SERVED {
        let made = component(&text(contract.version()), None);
        assert_eq!(inspect(&made).unwrap().judge().unwrap(), contract);
        assert_eq!(Engine::new().unwrap().load(&made, None).unwrap().contract, contract);
    }
}

#[test]
fn what_is_no_component_is_told_apart_and_a_core_module_hears_how_to_become_one() {
    assert!(verdict(b"tgs").contains("not a WebAssembly component"), "{}", verdict(b"tgs"));
    assert!(verdict(&BUILT_IN[..BUILT_IN.len() / 2]).contains("not a WebAssembly component"));
    let module = wat::parse_str("(module)").unwrap();
    assert!(verdict(&module).contains("a core module") && verdict(&module).contains("wasm32-wasip2"));
}

#[test]
fn what_a_component_wants_and_does_not_get_is_named_before_it_is_compiled() {
    let foreign = "package wasi:filesystem@0.2.0 { interface types { read: func() -> u32; } }";
    let wanting = with("0.2.0", "import wal;", "import wal; import wasi:filesystem/types@0.2.0;") + foreign;
    let said = verdict(&component(&wanting, None));
    assert!(said.contains("imports wasi:filesystem/types@0.2.0, which no flusher gets"), "{said}");
    let newer = with("0.2.0", "next: func(max: u32) -> page;", "next: func(max: u32) -> page; peek: func() -> u32;");
    let said = verdict(&component(&newer, None));
    assert!(said.contains("imports the function `peek` of tidegate:flusher/wal@0.2.0, which version 0.2.0"), "{said}");
    let more = with("0.2.0", "import wal;", "import wal; import clock;") + "interface clock { now: func() -> u64; }";
    let said = verdict(&component(&more, None));
    assert!(said.contains("imports the interface tidegate:flusher/clock@0.2.0"), "{said}");
}

#[test]
fn what_a_component_does_not_give_is_named_before_it_is_compiled() {
    let fewer = with("0.2.0", "accounts: func() -> holdings;", "");
    let said = verdict(&component(&fewer, None));
    assert!(said.contains("does not export the function `accounts` of tidegate:flusher/logic@0.2.0"), "{said}");
    let nothing = with("0.1.0", "export logic;", "");
    let said = verdict(&component(&nothing, None));
    assert!(said.contains("does not export the interface tidegate:flusher/logic@0.1.0"), "{said}");
    let said = verdict(&wat::parse_str("(component)").unwrap());
    assert!(said.contains("does not export the interface tidegate:flusher/logic") && said.contains("0.1.0 and 0.2.0"), "{said}");
}

#[test]
fn a_version_that_is_not_served_hears_which_are() {
    let newer = with("0.2.0", "package tidegate:flusher@0.2.0;", "package tidegate:flusher@0.3.0;");
    let said = verdict(&component(&newer, None));
    assert!(said.contains("made for version 0.3.0") && said.contains("serves 0.1.0 and 0.2.0"), "{said}");
}

#[test]
fn types_that_differ_are_refused_when_the_component_is_linked() {
    let other = with("0.2.0", "explain: func(channel: channel) -> string;", "explain: func(channel: string) -> string;");
    let said = Engine::new().unwrap().load(&component(&other, None), None).unwrap_err().to_string();
    assert!(said.contains("does not fit version 0.2.0") && said.contains("expected `u32` found `string`"), "{said}");
}

/// A component in a few lines: it says that it works, wants nothing, and its snapshot is what it was started from, or `size` bytes.
fn small(version: &str, size: u32) -> Vec<u8> {
    let pages = (size >> 16) + 2;
    let logic = format!("tidegate:flusher/logic@{version}");
    let accounts = format!("(func (export \"{logic}#accounts\") (result i32) (i32.const 128))");
    let code = format!(
        r#"(module
            (memory (export "memory") {pages})
            (global $free (mut i32) (i32.const 1024))
            (global $at (mut i32) (i32.const 0))
            (global $length (mut i32) (i32.const {size}))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $new i32)
                (local.set $new (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
                (global.set $free (i32.add (local.get $new) (local.get 3)))
                (local.get $new))
            (func (export "{logic}#start")
                (param i32 i32 i64 i64 i64 i64 i64 i32 i64 i32 i32 i32 i32) (result i32)
                (if (local.get 10) (then (global.set $at (local.get 11)) (global.set $length (local.get 12))))
                (i32.const 64))
            (func (export "{logic}#turn") (param i32 i32 i64) (result i32)
                (i32.store8 (i32.const 16) (i32.const 1))
                (i32.const 16))
            (func (export "{logic}#snapshot") (result i32)
                (i32.store (i32.const 80) (global.get $at))
                (i32.store (i32.const 84) (global.get $length))
                (i32.const 80))
            (func (export "{logic}#explain") (param i32) (result i32)
                (i32.store (i32.const 96) (i32.const 0))
                (i32.store (i32.const 100) (i32.const 0))
                (i32.const 96))
            {})"#,
        if version == "0.2.0" { &accounts } else { "" }
    );
    component(&text(version), Some(&code))
}

#[test]
fn components_of_both_versions_run_side_by_side() {
    let engine = Engine::new().unwrap();
    let completion = Completion {
        ticket: 1,
        kind: IntentKind::Open,
        channel: EVERY_CHANNEL,
        segment: 0,
        up_to: 0,
        outcome: Ok(Answer::VChannels(vec![(1, "a name".into())])),
    };
    let input = TurnInput { completions: vec![completion], first_ticket: 1, ..TurnInput::default() };
    for (contract, accounts) in [(Contract::V0_1, None), (Contract::V0_2, Some(Vec::new()))] {
        let loaded = engine.load(&small(contract.version(), 0), None).unwrap();
        let mut instance = loaded.start(&config(), Some(b"what it was")).unwrap();
        let output = instance.turn(&input).unwrap();
        assert_eq!((output.report.phase, output.taken, output.intents.len()), (GuestPhase::Working, 0, 0), "{contract}");
        assert_eq!(instance.accounts().unwrap(), accounts, "{contract}");
        assert_eq!(instance.snapshot().unwrap(), b"what it was", "{contract}");
        assert_eq!(instance.explain(0).unwrap(), "", "{contract}");
    }
}

#[test]
fn a_snapshot_over_the_limit_is_a_fault_of_that_name() {
    let engine = Engine::new().unwrap();
    let fault = engine.load(&small("0.2.0", (64 << 20) + 1), None).unwrap().start(&config(), None).unwrap().snapshot().unwrap_err();
    assert!(matches!(&fault, Fault::Snapshot(said) if said.contains("67108865 bytes, 67108864 allowed")), "{fault}");
}

#[test]
fn a_damaged_snapshot_is_refused_without_a_trap() {
    let loaded = Engine::new().unwrap().load(BUILT_IN, None).unwrap();
    let mut instance = loaded.start(&config(), None).unwrap();
    let answer = Answer::VChannels((0..20).map(|n| (n, format!("p_0_{n}v0"))).collect());
    instance.turn(&TurnInput { first_ticket: 1, ..TurnInput::default() }).unwrap();
    let listed = Completion { ticket: 1, kind: IntentKind::VChannels, channel: EVERY_CHANNEL, segment: 0, up_to: 0, outcome: Ok(answer) };
    instance.turn(&TurnInput { completions: vec![listed], first_ticket: 2, ..TurnInput::default() }).unwrap();
    let snapshot = instance.snapshot().unwrap();
    let mut whole = loaded.start(&config(), Some(&snapshot)).unwrap();
    assert_eq!(whole.snapshot().unwrap(), snapshot);
    let refused = |damaged: &[u8]| matches!(loaded.start(&config(), Some(damaged)), Err(Fault::Start(_)));
    for at in (0..snapshot.len()).step_by(7) {
        let mut damaged = snapshot.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(refused(&damaged), "byte {at}");
        assert!(refused(&snapshot[..at]), "cut at {at}");
    }
}
