//! A node behind its socket and its routes.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::{Answered, Socket, connect};
use crate::cli::{Progress, Request, Sink};
use crate::node::{Node, Settings, eventually};

#[derive(Default)]
struct Heard(Vec<Value>);

impl Sink for Heard {
    fn line(&mut self, line: Value) -> anyhow::Result<()> {
        self.0.push(line);
        Ok(())
    }

    fn progress(&mut self, _: Progress) -> anyhow::Result<()> {
        Ok(())
    }
}

fn request(text: Value) -> Request {
    serde_json::from_value(text).unwrap()
}

#[test]
fn a_node_with_a_long_path_and_a_stale_socket_answers_and_refuses_in_words() {
    let root = tempfile::tempdir().unwrap();
    let dir: PathBuf = root.path().join("d".repeat(120));
    let node = Arc::new(Node::open(&dir, Settings::default(), true).unwrap());
    let (address, _folder) = super::address(&dir).unwrap();
    drop(UnixListener::bind(address).unwrap());
    assert!(connect(&dir).is_none(), "a dead process' socket answers nobody");
    let socket = Socket::serve(node.clone()).unwrap();
    let schema = root.path().join("s.json");
    let text = r#"{"name": "c", "fields": [{"name": "id", "dtype": "INT64", "is_primary": true}]}"#;
    std::fs::write(&schema, text).unwrap();
    let ask = |text: Value, heard: &mut Heard| connect(&dir).unwrap().ask(&request(text), heard);

    let create = serde_json::json!({"command": "create_collection", "schema": schema, "shards": 1, "partitions": []});
    let done = ask(create.clone(), &mut Heard::default()).unwrap();
    assert_eq!(done["collection"], "c");
    let again = ask(create, &mut Heard::default()).unwrap_err();
    assert_eq!(again.downcast_ref::<Answered>().map(|a| a.code), Some(2), "{again}");
    let unknown = ask(serde_json::json!({"command": "flush", "collection": "x"}), &mut Heard::default()).unwrap_err();
    assert!(unknown.to_string().contains("there is no collection \"x\""), "{unknown}");

    let rows = root.path().join("r.parquet");
    let of = crate::tables::read_schema(&schema).unwrap();
    let mut out = crate::tables::RowsOut::create(&rows, &of).unwrap();
    let mut columns = tidegate_message::columns::Columns::new(&of);
    columns.rows = 5;
    columns.fields[2].values = tidegate_message::columns::Values::Int64((0..5).collect());
    out.write(&columns).unwrap();
    out.finish().unwrap();
    let mut heard = Heard::default();
    let ingest =
        serde_json::json!({"command": "ingest", "collection": "c", "file": rows, "partition": null, "batch_rows": 2, "from_row": 1});
    assert_eq!(ask(ingest, &mut heard).unwrap()["rows"], 4);
    let acknowledged = [[1, 2], [3, 4]].map(|range| serde_json::json!({ "acknowledged": range }));
    assert_eq!(heard.0, acknowledged);

    socket.stop();
    assert!(connect(&dir).is_none());
    // The last connection's thread may be about to end.
    let freed = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        Arc::strong_count(&node) == 1
    });
    assert!(freed, "a stopped socket keeps no node");
}

#[test]
fn the_series_of_a_channel_end_with_its_drop() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::open(&root.path().join("n"), Settings::default(), true).unwrap();
    let schema = root.path().join("s.json");
    std::fs::write(&schema, r#"{"name": "c", "fields": [{"name": "id", "dtype": "INT64", "is_primary": true}]}"#).unwrap();
    let collection = node.create_collection(&crate::tables::read_schema(&schema).unwrap(), 1, &[]).unwrap();
    node.flush(&collection, &mut |_| ()).unwrap();
    let vchannel = &collection.shards[0].vchannel;
    assert!(super::metrics::render(node.status()).contains(vchannel));
    node.drop_collection("c").unwrap();
    // The flusher may hear of its own drop a moment later.
    eventually("the drop", || {
        let mut channels = node.status().pchannels.into_iter().flat_map(|p| p.channels);
        channels.any(|c| c.vchannel == *vchannel && c.standing == "dropped")
    });
    let scrape = super::metrics::render(node.status());
    assert!(!scrape.contains(vchannel), "{scrape}");
}
