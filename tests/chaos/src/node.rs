//! A node as a process: started, signalled and ended by its pid, with what it says on standard error.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tidegate_tests::process::{Ended, binary};

/// How long a node may take until it serves; a debug build compiles the component the first time.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long a node may take to end after SIGTERM: 3 s, and the machine's slowness.
const STOP_MAX: Duration = Duration::from_secs(10);

/// A process that runs `tidegate node`.
pub struct Node {
    process: Ended,
    said: Arc<Mutex<String>>,
    ready: Receiver<String>,
}

impl Node {
    /// Starts a node and waits until it serves.
    pub fn start(dir: &Path, env: &[(&str, &str)]) -> Self {
        let mut node = Self::launch(dir, env);
        node.wait_until_ready();
        node
    }

    /// Starts a node and does not wait for it.
    pub fn launch(dir: &Path, env: &[(&str, &str)]) -> Self {
        Self::launch_in(&[], dir, env)
    }

    /// Starts a node by way of another command, which becomes it, and does not wait for it.
    pub fn launch_in(enter: &[String], dir: &Path, env: &[(&str, &str)]) -> Self {
        let mut command = match enter {
            [] => Command::new(binary()),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(binary());
                command
            }
        };
        command.args(["node", "--json", "--dir"]).arg(dir).envs(env.iter().copied());
        // The object store of a test is on loopback, whatever lies between this machine and the world.
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a node starts");
        let said = Arc::new(Mutex::new(String::new()));
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (tell, ready) = mpsc::channel();
        thread::spawn(move || {
            let mut out = BufReader::new(out);
            let mut line = String::new();
            // A node that ends without a line drops the sender.
            if out.read_line(&mut line).is_ok_and(|read| read > 0) {
                let _waited_for = tell.send(line);
            }
            let _to_the_end = out.read_to_end(&mut Vec::new());
        });
        let heard = said.clone();
        thread::spawn(move || {
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                heard.lock().expect("no test panics here").push_str(&(line + "\n"));
            }
        });
        Self { process: Ended(child), said, ready }
    }

    /// Waits until the node serves.
    pub fn wait_until_ready(&mut self) {
        let line = self.ready.recv_timeout(READY_MAX).unwrap_or_else(|e| panic!("the node does not serve, {e}: {}", self.said()));
        assert!(line.contains("ready"), "{line}: {}", self.said());
    }

    /// Waits until the node serves, or ends; says which.
    pub fn serves(&mut self) -> bool {
        self.ready.recv_timeout(READY_MAX).is_ok_and(|line| line.contains("ready"))
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// What it said on standard error until now.
    pub fn said(&self) -> String {
        self.said.lock().expect("no test panics here").clone()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid")).expect("not 0");
        kill_process(pid, signal).expect("the process is there");
    }

    /// Ends it as a power cut of its process would.
    pub fn kill(mut self) {
        self.process.0.kill().expect("the process is there");
        self.process.0.wait().expect("a child");
    }

    /// Ends it politely; returns how it ended and how long that took.
    pub fn terminate(mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        self.signal(Signal::TERM);
        (ended(&mut self.process.0, STOP_MAX), began.elapsed())
    }

    /// Waits for a node that ends by itself; returns its exit code and what it said.
    pub fn refused(mut self, within: Duration) -> (Option<i32>, String) {
        let status = ended(&mut self.process.0, within);
        // Its standard error may be read a moment later.
        let until = Instant::now() + Duration::from_secs(2);
        while !self.said().contains("error:") && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
        (status.code(), self.said())
    }
}

fn ended(child: &mut Child, within: Duration) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        assert!(began.elapsed() < within, "the process does not end within {within:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
