//! SIGKILL and SIGTERM at any moment.

use std::fs;
use std::thread;
use std::time::Duration;

use tidegate_chaos::node::Node;
use tidegate_chaos::random::Random;
use tidegate_chaos::written::Written;

/// Small batches and segments, so that files, saves, checkpoints and truncation are always under way.
pub const BUSY: &str = "insert_buffer_bytes = 65536\nsegment_bytes = 300000\nreport_period_s = 1\n";
/// A stop takes 3 s at most, and this machine may be slow.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);
const ROUNDS: u64 = 10;

#[test]
fn a_node_that_is_killed_under_load_and_while_it_recovers_loses_no_row_and_doubles_none() {
    let mut random = Random::from_env("kill");
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("n");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("tidegate.toml"), BUSY).unwrap();
    let mut written = Written::new(&dir, "things");
    let (mut under_load, mut in_recovery, mut polite) = (0, 0, 0);
    for _ in 0..ROUNDS {
        // Killed while it comes up, before it serves: recovery of a recovery.
        for _ in 0..random.below(3) {
            let node = Node::launch(&dir, &[]);
            thread::sleep(Duration::from_millis(random.below(400)));
            node.kill();
            in_recovery += 1;
        }
        let node = Node::start(&dir, &[]);
        let ingest = written.begin(20_000, 100);
        thread::sleep(Duration::from_millis(150 + random.below(900)));
        if random.below(4) == 0 {
            let (status, took) = node.terminate();
            assert!(status.success() && took < STOPPED_WITHIN, "{status} after {took:?}");
            polite += 1;
        } else {
            node.kill();
            under_load += 1;
        }
        let outcome = written.end(ingest);
        if outcome.code != Some(0) {
            let clear = ["ended the connection before it was done", "answer cannot be read", "cannot be asked", "is stopping", "is closed"];
            assert!(clear.iter().any(|words| outcome.said.contains(words)), "{}", outcome.said);
            assert_eq!(outcome.code, Some(1), "{}", outcome.said);
        }
    }
    println!("killed {under_load} times under load and {in_recovery} times in recovery, stopped {polite} times");
    assert!(written.acknowledged() > 1_000, "the kills came before anything was acknowledged");
    let node = Node::start(&dir, &[]);
    written.check();
    let (status, took) = node.terminate();
    assert!(status.success() && took < STOPPED_WITHIN, "{status} after {took:?}");
    // And once more by nobody's process.
    written.check();
}
