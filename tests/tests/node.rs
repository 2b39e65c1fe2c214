//! A whole node in a temporary folder: rows in, segment files, rows out.

use tidegate::node::{Node, Settings};
use tidegate_message::columns::PrimaryKey;
use tidegate_tests::rows::{keys, rows, schema};

fn read_keys(node: &Node, collection: &str) -> Vec<i64> {
    let collection = node.collection(collection).unwrap();
    let mut found = Vec::new();
    node.read_rows(&collection, &mut |columns| {
        found.extend(keys(&columns));
        Ok(())
    })
    .unwrap();
    found.sort_unstable();
    found
}

#[test]
fn rows_survive_flush_delete_and_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let schema = schema("things");
    let node = Node::open(&dir.path().join("n"), Settings::default(), true).unwrap();
    let collection = node.create_collection(&schema, 2, &[]).unwrap();
    for batch in 0..10 {
        node.insert(&collection, None, &rows(&schema, batch * 100..batch * 100 + 100)).unwrap();
    }
    node.flush(&collection, &mut |_| ()).unwrap();
    assert_eq!(read_keys(&node, "things"), (0..1000).collect::<Vec<_>>());

    let gone: Vec<PrimaryKey> = (0..1000).step_by(10).map(PrimaryKey::Int64).collect();
    node.delete(&collection, &gone).unwrap();
    node.insert(&collection, None, &rows(&schema, 1000..1500)).unwrap();
    node.flush(&collection, &mut |_| ()).unwrap();
    let expected: Vec<i64> = (0..1500).filter(|k| k % 10 != 0 || *k >= 1000).collect();
    assert_eq!(read_keys(&node, "things"), expected);
    assert!(node.ledger_closed(), "{:#?}", node.status());

    node.insert(&collection, None, &rows(&schema, 1500..1600)).unwrap();
    node.shutdown();
    let node = Node::open(&dir.path().join("n"), Settings::default(), false).unwrap();
    let collection = node.collection("things").unwrap();
    node.flush(&collection, &mut |_| ()).unwrap();
    let expected: Vec<i64> = (0..1600).filter(|k| k % 10 != 0 || *k >= 1000).collect();
    assert_eq!(read_keys(&node, "things"), expected);
    node.drop_collection("things").unwrap();
}
