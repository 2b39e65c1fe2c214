//! The real binary as a process: built once without test switches, run with a bound on its time, ended by its pid.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a command may take.
const COMMAND_MAX: Duration = Duration::from_secs(240);

/// The binary, built the first time it is asked for.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace");
        let mut cargo = Command::new(env!("CARGO"));
        // What cargo says about the test's own package would make some build scripts run again, here and in the next build outside.
        let of_the_test = |name: &str| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"].iter().any(|p| name.starts_with(p))
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_the_test)) {
            cargo.env_remove(name);
        }
        cargo.current_dir(workspace).args(["build", "--quiet", "--locked", "--bin", "tidegate"]);
        assert!(cargo.status().expect("cargo runs").success(), "the binary builds");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
        target.join("debug").join("tidegate")
    })
}

/// Runs a command to its end.
pub fn run(args: &[&str]) -> Output {
    let child = Command::new(binary()).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = Ended(child.expect("the binary starts"));
    let began = Instant::now();
    let (mut out, mut err) = (child.0.stdout.take().expect("piped"), child.0.stderr.take().expect("piped"));
    std::thread::scope(|scope| {
        let read = |from: &mut (dyn std::io::Read + Send)| {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).expect("output can be read");
            bytes
        };
        let stdout = scope.spawn(move || read(&mut out));
        let stderr = scope.spawn(move || read(&mut err));
        let status = loop {
            if let Some(status) = child.0.try_wait().expect("a child can be waited for") {
                break status;
            }
            assert!(began.elapsed() < COMMAND_MAX, "{args:?} takes too long");
            std::thread::sleep(Duration::from_millis(5));
        };
        Output { status, stdout: stdout.join().expect("read"), stderr: stderr.join().expect("read") }
    })
}

/// Runs a command that must succeed; returns the JSON object of its last line.
pub fn run_json(args: &[&str]) -> Value {
    let output = run(args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {err}");
    serde_json::from_str(out.lines().last().unwrap_or_default()).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}"))
}

/// A process that does not outlive its test.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _already_dead = self.0.kill();
        let _already_reaped = self.0.wait();
    }
}

/// Starts a node and waits until it serves.
pub fn node(dir: &str) -> Ended {
    let started = Command::new(binary()).args(["node", "--dir", dir, "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut node = Ended(started.expect("a node starts"));
    let mut ready = String::new();
    BufReader::new(node.0.stdout.take().expect("piped")).read_line(&mut ready).expect("a line");
    assert!(ready.contains("ready"), "the node did not come up: {ready:?}");
    node
}

/// Largest memory that a process ever had, in bytes.
pub fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}
