//! Segment files in an object store that resets, delays, refuses, is full, or is somebody else's.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tidegate_chaos::node::Node;
use tidegate_chaos::random::Random;
use tidegate_chaos::s3::{Fault, Mood, S3, SLOW_MAX};
use tidegate_chaos::written::Written;

const URL: &str = "s3://files/mine";
/// Small batches: each is some requests, any of which may take seconds.
const SETTINGS: &str = "insert_buffer_bytes = 50000\nsegment_bytes = 200000\nreport_period_s = 1\npchannels = 1\n";
const STORM: Mood = Mood::Stormy { one_in: 10 };
/// How long the storm may last until every fault was met.
const STORM_MAX: Duration = Duration::from_secs(60);
/// A start that finds its storage failing gives up within this.
const GIVES_UP_WITHIN: Duration = Duration::from_secs(40);

fn node_dir(root: &Path, s3: &S3) -> std::path::PathBuf {
    let dir = root.join("n");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("tidegate.toml"), format!("{SETTINGS}{}", s3.settings(URL))).unwrap();
    dir
}

/// Starts a node whose storage may refuse at any moment: what it then says is that, and it starts at a later try.
fn start_at_last(dir: &Path, s3: &S3) -> Node {
    for _ in 0..20 {
        let mut node = Node::launch(dir, &s3.env());
        if node.serves() {
            return node;
        }
        let (code, said) = node.refused(Duration::from_secs(1));
        assert!(code == Some(1) && said.contains("error: storage:"), "{code:?}: {said}");
    }
    panic!("the node does not start though its storage works most of the time");
}

#[test]
fn a_storage_that_resets_delays_and_refuses_loses_no_row_and_doubles_none() {
    let mut random = Random::from_env("storage");
    let s3 = S3::start(random.split());
    let root = tempfile::tempdir().unwrap();
    let dir = node_dir(root.path(), &s3);
    let mut node = Node::start(&dir, &s3.env());
    let mut written = Written::new(&dir, "things");
    written.insert(500);
    s3.set(STORM);
    let began = Instant::now();
    let mut killed = 0;
    while s3.met().len() < Fault::ALL.len() || killed < 2 {
        let is_full = killed == 1;
        if is_full {
            s3.set(Mood::Full);
        }
        let ingest = written.begin(4_000, 200);
        thread::sleep(Duration::from_millis(300 + random.below(1_500)));
        if is_full {
            // Longer than the client's own tries: the host writes again.
            let began = Instant::now();
            while s3.refused_writes() < 12 && began.elapsed() < Duration::from_secs(60) {
                thread::sleep(Duration::from_millis(50));
            }
            s3.set(STORM);
        }
        if random.below(2) == 0 || killed == 0 {
            node.kill();
            killed += 1;
            node = start_at_last(&dir, &s3);
        }
        let _killed_or_not = written.end(ingest);
        if began.elapsed() > STORM_MAX {
            break;
        }
    }
    println!("{killed} kills and, in {:?}, {:?}", began.elapsed(), s3.met());
    s3.set(Mood::Well);
    written.check();
    let (status, _) = node.terminate();
    assert!(status.success(), "{status}");
    // A request of a dead process may be done as late as the store is slow; what it leaves is found by the next start after it.
    thread::sleep(SLOW_MAX);
    // Files that were written and never saved are gone once the directory was opened again; the others are read back.
    let node = Node::start(&dir, &s3.env());
    written.check();
    let named = written.files();
    let keys = s3.keys();
    let stored = keys.iter().filter_map(|key| key.strip_prefix("files/mine/")).filter(|key| *key != "tidegate.owner");
    let left: Vec<&str> = stored.filter(|key| !named.contains(*key)).collect();
    assert!(left.is_empty(), "objects that no segment names are left behind: {left:?}: {}", node.said());
    assert_eq!(s3.met().len(), Fault::ALL.len(), "faults that never came: {:?}", s3.met());
    assert!(s3.refused_writes() >= 12, "no write ever failed for long");
    node.kill();
}

#[test]
fn a_full_storage_is_said_and_waited_for_and_the_node_goes_on_by_itself() {
    let s3 = S3::start(Random::from_env("full storage"));
    let root = tempfile::tempdir().unwrap();
    let dir = node_dir(root.path(), &s3);
    let node = Node::start(&dir, &s3.env());
    let mut written = Written::new(&dir, "things");
    written.insert(1_000);
    written.flush();
    s3.set(Mood::Full);
    // The log has room: rows are taken.
    written.insert(1_000);
    let (code, said) = written.ask(&["flush", "--collection", "things"]);
    let clear = ["cannot go on: segment write failed", "tried again", "507", "Nothing got done for"];
    assert!(code == Some(1) && clear.iter().all(|words| said.contains(words)), "{code:?}: {said}");
    assert!(s3.refused_writes() > 5, "{}", s3.refused_writes());
    let (_, status) = written.ask(&["status", "--json"]);
    assert!(status.contains("507"), "{status}");
    assert!(node.said().contains("507"), "{}", node.said());
    written.insert(500);
    s3.set(Mood::Well);
    written.check();
    let (status, _) = node.terminate();
    assert!(status.success(), "{status}");
}

#[test]
fn a_storage_that_is_gone_or_another_ones_is_refused_in_words() {
    let s3 = S3::start(Random::from_env("refusals"));
    let root = tempfile::tempdir().unwrap();
    let dir = node_dir(root.path(), &s3);
    let refused = |dir: &Path, code: i32, says: &str| {
        let (was, said) = Node::launch(dir, &s3.env()).refused(GIVES_UP_WITHIN);
        assert!(was == Some(code) && said.contains(says), "{was:?}, not {code} and {says:?}: {said}");
    };
    s3.set(Mood::Gone);
    refused(&dir, 1, "error: storage: `tidegate.owner`");
    s3.set(Mood::Well);
    let node = Node::start(&dir, &s3.env());
    let mut written = Written::new(&dir, "things");
    written.insert(100);
    written.check();
    node.kill();

    // Another directory, the same bucket: the same ids.
    let other = root.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::copy(dir.join("tidegate.toml"), other.join("tidegate.toml")).unwrap();
    refused(&other, 2, "s3://files/mine at http://127.0.0.1:");
    refused(&other, 2, "belongs to the node of another directory");
    // The same directory, another storage, or none.
    let settings = fs::read_to_string(dir.join("tidegate.toml")).unwrap();
    fs::write(dir.join("tidegate.toml"), settings.replace("s3://files/mine", "s3://files/elsewhere")).unwrap();
    refused(&dir, 2, "its segment files are in s3://files/mine, not in s3://files/elsewhere; a directory keeps its storage");
    fs::write(dir.join("tidegate.toml"), SETTINGS).unwrap();
    refused(&dir, 2, "say storage = \"s3://files/mine\" in its tidegate.toml");
    fs::write(dir.join("tidegate.toml"), "storage = \"files\"\n").unwrap();
    refused(&dir, 2, "such as s3://bucket/prefix");
    // A directory with files of its own, and a bucket with somebody's.
    let local = root.path().join("local");
    Written::new(&local, "things").insert(100);
    fs::create_dir_all(local.join("chunks/insert_log/1")).unwrap();
    fs::write(local.join("chunks/insert_log/1/2"), "x").unwrap();
    fs::write(local.join("tidegate.toml"), s3.settings("s3://files/local")).unwrap();
    refused(&local, 2, "its segment files are in its folder chunks, not in s3://files/local");
    s3.put("files/milvus/insert_log/1/2/3/4/5", b"x");
    fs::write(other.join("tidegate.toml"), s3.settings("s3://files/milvus")).unwrap();
    fs::remove_file(other.join("STORAGE")).unwrap();
    refused(&other, 2, "has segment files of somebody else, such as insert_log/1/2/3/4/5");

    fs::write(dir.join("tidegate.toml"), settings).unwrap();
    let node = Node::start(&dir, &s3.env());
    written.check();
    node.kill();
}
