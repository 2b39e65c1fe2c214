//! A real Milvus: prepared once, started on free ports, and ended with whatever it started. The Python beside it is in `tests/milvus`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

/// How long the environment may take to make: it downloads 200 MB.
const PREPARE_MAX: Duration = Duration::from_secs(600);
/// How long the server may take to start, and to stop.
const START_MAX: Duration = Duration::from_secs(150);
const STOP_MAX: Duration = Duration::from_secs(15);
/// How long making rows, or the import and comparison of a collection, may take.
const SCRIPT_MAX: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(20);

/// A process and all that it starts, ended as one.
struct Group(Child);

impl Group {
    fn start(command: &mut Command) -> std::io::Result<Self> {
        command.process_group(0).spawn().map(Self)
    }

    /// Whether it ended within `wait`.
    fn ends_within(&mut self, wait: Duration) -> bool {
        let began = Instant::now();
        loop {
            if self.0.try_wait().expect("a child can be waited for").is_some() {
                return true;
            }
            if began.elapsed() >= wait {
                return false;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Runs to the end and returns what it said, or that it took too long.
    fn output(command: &mut Command, wait: Duration) -> Result<Output, String> {
        let started = Self::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
        let mut group = started.map_err(|e| format!("{command:?}: {e}"))?;
        let mut out = group.0.stdout.take().expect("piped");
        let mut err = group.0.stderr.take().expect("piped");
        let read = |from: &mut dyn Read| {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).map(|_| bytes)
        };
        std::thread::scope(|scope| {
            let out = scope.spawn(move || read(&mut out));
            let err = scope.spawn(move || read(&mut err));
            let ended = group.ends_within(wait);
            group.kill();
            let status = group.0.wait().map_err(|e| e.to_string())?;
            let read = |thread: std::thread::ScopedJoinHandle<'_, std::io::Result<Vec<u8>>>| match thread.join() {
                Ok(Ok(bytes)) => Ok(bytes),
                other => Err(format!("{command:?}: its output cannot be read: {other:?}")),
            };
            let output = Output { status, stdout: read(out)?, stderr: read(err)? };
            if ended { Ok(output) } else { Err(format!("{command:?} did not end within {wait:?}: {}", said(&output))) }
        })
    }

    /// Ends what is left of it.
    fn kill(&mut self) {
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // There may be nothing left.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        let _already_reaped = self.0.wait();
    }
}

/// What a process wrote, for messages.
fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned()).join("\n")
}

/// The Python environment with the server and its client.
pub struct Environment {
    python: PathBuf,
    scripts: PathBuf,
}

impl Environment {
    /// Makes the environment, or finds it made.
    ///
    /// # Errors
    /// It cannot be made here, and why: no Python, no network.
    pub fn prepare() -> Result<Self, String> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let scripts = tests.join("milvus");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tests.with_file_name("target"), PathBuf::from);
        let venv = std::env::var_os("TIDEGATE_MILVUS_VENV").map_or_else(|| target.join("milvus-venv"), PathBuf::from);
        let made = Group::output(Command::new(scripts.join("prepare.sh")).env("TIDEGATE_MILVUS_VENV", &venv), PREPARE_MAX)?;
        if made.status.success() { Ok(Self { python: venv.join("bin/python"), scripts }) } else { Err(said(&made)) }
    }

    /// Runs `judge.py`; returns what it printed.
    ///
    /// # Errors
    /// It failed, or did not end in time.
    pub fn judge(&self, args: &[&str]) -> Result<String, String> {
        let output = Group::output(Command::new(&self.python).arg("-B").arg(self.scripts.join("judge.py")).args(args), SCRIPT_MAX)?;
        if output.status.success() { Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()) } else { Err(said(&output)) }
    }

    /// Starts a server in a folder of its own; it is not healthy yet.
    ///
    /// # Panics
    /// There is no Python to start it with.
    pub fn start_server(&self, folder: &Path) -> Server {
        let log = folder.join("harness.log");
        let mut command = Command::new(&self.python);
        command.arg(self.scripts.join("server.py")).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(File::create(&log).expect("the server's folder can be written"));
        let mut group = Group::start(&mut command).expect("the server's script starts");
        let out = BufReader::new(group.0.stdout.take().expect("piped"));
        Server { group, out: Some(out), log }
    }
}

/// A running server.
pub struct Server {
    group: Group,
    out: Option<BufReader<std::process::ChildStdout>>,
    log: PathBuf,
}

impl Server {
    /// Waits until it is healthy; returns the port that it serves clients on.
    ///
    /// # Panics
    /// It does not come up, with what it said.
    pub fn port(&mut self) -> String {
        let mut out = self.out.take().expect("asked once");
        let (sender, line) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // Nobody may wait any more.
            let _told = sender.send(out.read_line(&mut line).map(|_| line));
        });
        let line = line.recv_timeout(START_MAX).ok().and_then(Result::ok).unwrap_or_default();
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        match ready["port"].as_u64() {
            Some(port) => port.to_string(),
            None => panic!("Milvus did not come up: {line} {}", std::fs::read_to_string(&self.log).unwrap_or_default()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input is the script's sign to stop the server; what does not heed it is killed.
        drop(self.group.0.stdin.take());
        self.group.ends_within(STOP_MAX);
    }
}

/// Says something to whoever runs the tests, also when they pass.
pub fn tell(line: &str) {
    // A line that cannot be said is no reason to fail.
    let _said = writeln!(std::io::stderr(), "{line}");
}
