//! A process that is stopped longer than any deadline and goes on, and other processes that want its directory meanwhile.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tidegate_chaos::node::Node;
use tidegate_chaos::written::Written;

use crate::kill::BUSY;

/// How long a refusal may take.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn a_second_process_is_refused_whatever_the_first_is_doing_and_takes_over_when_it_is_dead() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("n");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("tidegate.toml"), BUSY).unwrap();
    let mut written = Written::new(&dir, "things");
    let first = Node::start(&dir, &[]);
    written.insert(2_000);
    let held = format!("is held by another process ({})", first.pid());
    let refused = |state: &str, says: &str| {
        let (code, said) = Node::launch(&dir, &[]).refused(REFUSED_WITHIN);
        assert!(code == Some(2) && said.contains(says), "while the first is {state}: {code:?}: {said}");
    };
    refused("running", &held);
    let ingest = written.begin(50_000, 100);
    thread::sleep(Duration::from_millis(700));
    first.signal(Signal::STOP);
    refused("stopped", &held);
    // An operator who believes that the lock is a dead process' one removes it.
    fs::rename(dir.join("LOCK"), dir.join("LOCK.kept")).unwrap();
    refused("stopped and its lock removed", "is held by another process");
    fs::rename(dir.join("LOCK.kept"), dir.join("LOCK")).unwrap();
    refused("stopped", &held);

    // Nobody waits for ever: the command that was under way, and a new one.
    let began = Instant::now();
    let (code, said) = written.ask(&["status"]);
    assert!(code == Some(1) && said.contains(&format!("process {}", first.pid())) && said.contains("kill -CONT"), "{code:?}: {said}");
    let outcome = written.end(ingest);
    assert!(outcome.code == Some(1) && outcome.said.contains("has been silent for 15 s"), "{:?}: {}", outcome.code, outcome.said);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());

    // Stopped for longer than any deadline of a turn, a call or a lease, it goes on as if nothing had been.
    first.signal(Signal::CONT);
    written.insert(2_000);
    written.check();

    // A stopped process can be killed, and then the directory is free.
    first.signal(Signal::STOP);
    refused("stopped", &held);
    first.kill();
    let second = Node::start(&dir, &[]);
    written.insert(2_000);
    written.check();
    let (status, _) = second.terminate();
    assert!(status.success(), "{status}");
}
