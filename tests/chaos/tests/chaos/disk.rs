//! A disk that is full: of the log, and of the segment files.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::{Duration, Instant};

use tidegate_chaos::disk::SmallDisk;
use tidegate_chaos::node::Node;
use tidegate_chaos::written::Written;

use crate::kill::BUSY;

const MIB: u64 = 1 << 20;

#[test]
fn a_full_disk_of_the_log_refuses_appends_and_loses_nothing_and_a_restart_goes_on() {
    let Some(disk) = SmallDisk::or_skip("a full disk of the log", 400) else { return };
    let (inside, outside) = (disk.inside().join("n"), disk.outside().join("n"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("tidegate.toml"), BUSY).unwrap();
    let start = || {
        let mut node = Node::launch_in(&disk.enter(), &inside, &[]);
        node.wait_until_ready();
        node
    };
    let mut node = start();
    let mut written = Written::new(&outside, "things");
    written.insert(2_000);
    for round in 0..3 {
        disk.fill(2 * MIB);
        let began = Instant::now();
        let said = loop {
            let ingest = written.begin(20_000, 500);
            let outcome = written.end(ingest);
            if outcome.code != Some(0) {
                assert_eq!(outcome.code, Some(1), "{}", outcome.said);
                break outcome.said;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "a disk with 2 MiB takes everything");
        };
        println!("round {round}: {}", said.trim());
        // Whichever write came first: the append's own, or one of the database in the background.
        assert!(said.contains("No space left on device") || said.contains("check the disk, it may be full"), "{said}");
        assert!(said.contains("restart"), "it does not say what to do: {said}");
        assert!(node.said().contains("StorageFull"), "{}", node.said());
        // Nothing is acknowledged from here on, and each refusal comes at once and says why.
        let ingest = written.begin(100, 100);
        let outcome = written.end(ingest);
        assert!(outcome.code == Some(1) && outcome.acknowledged == 0, "{:?}", outcome.code);
        disk.empty();
        let (status, took) = node.terminate();
        assert!(status.success() && took < Duration::from_secs(5), "{status} after {took:?}");
        node = start();
        written.insert(1_000);
    }
    written.check();
    node.kill();
}

#[test]
fn a_full_disk_of_segment_files_is_said_and_the_node_goes_on_by_itself_when_there_is_room() {
    let Some(disk) = SmallDisk::or_skip("a full disk of segment files", 16) else { return };
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("n");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("tidegate.toml"), BUSY).unwrap();
    symlink(disk.inside(), dir.join("chunks")).unwrap();
    let mut node = Node::launch_in(&disk.enter(), &dir, &[]);
    node.wait_until_ready();
    let mut written = Written::new(&dir, "things");
    written.insert(2_000);
    disk.fill(64 << 10);
    // The log has room: rows are taken.
    for _ in 0..5 {
        written.insert(4_000);
    }
    let began = Instant::now();
    while !written.ask(&["status", "--json"]).1.contains("segment write failed") {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", written.ask(&["status"]).1);
        thread::sleep(Duration::from_millis(200));
    }
    assert!(written.ask(&["status", "--json"]).1.contains("No space left on device"), "{}", written.ask(&["status"]).1);
    assert!(node.said().contains("No space left on device"), "{}", node.said());
    disk.empty();
    written.check();
    node.kill();
}
