//! `tidegate component` by the real binary.

use std::path::PathBuf;

use tidegate::engine::BUILT_IN;
use tidegate_tests::guests::PREVIOUS;
use tidegate_tests::process::{run, run_json};

struct Folder(tempfile::TempDir);

impl Folder {
    fn put(&self, name: &str, bytes: &[u8]) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.into_os_string().into_string().unwrap()
    }
}

#[test]
fn a_component_is_shown_and_checked_and_a_file_at_fault_is_bad_input() {
    let folder = Folder(tempfile::tempdir().unwrap());
    for (name, bytes, contract) in [("built-in", BUILT_IN, "0.2.0"), ("previous", PREVIOUS, "0.1.0")] {
        let file = folder.put(name, bytes);
        let shown = run_json(&["component", "inspect", &file, "--json"]);
        assert_eq!(shown["component"]["contract"], contract, "{shown}");
        assert_eq!(shown["verdict"], format!("fits contract {contract}"), "{shown}");
        assert!(shown["component"]["exports"][0]["functions"].as_array().unwrap().iter().any(|f| f == "turn"), "{shown}");
        let checked = run_json(&["component", "check", &file, "--json"]);
        assert_eq!((&checked["contract"], &checked["digest"]), (&contract.into(), &shown["component"]["digest"]));
        let passed: Vec<&str> = checked["checks"].as_array().unwrap().iter().map(|c| c["check"].as_str().unwrap()).collect();
        assert_eq!((passed[0], passed[passed.len() - 1]), ("fits its contract", "passes the self-test"), "{passed:?}");
        assert!(!checked["scenarios"].as_array().unwrap().is_empty(), "{checked}");
    }
    let lacking = wat::parse_str("(component)").unwrap();
    for (command, bytes, said) in [
        ("inspect", b"no component".as_slice(), "not a WebAssembly component"),
        ("inspect", b"\0asm\x01\0\0\0", "a core module"),
        ("check", b"\0asm\x01\0\0\0", "a core module"),
        ("check", &lacking, "does not export the interface tidegate:flusher/logic"),
    ] {
        let file = folder.put("bad", bytes);
        let output = run(&["component", command, &file]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(said) && error.contains(&file), "{error}");
    }
    let shown = run_json(&["component", "inspect", &folder.put("lacking", &lacking), "--json"]);
    assert!(shown["verdict"].as_str().unwrap().contains("does not export"), "{shown}");
}
