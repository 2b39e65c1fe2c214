//! A server that we did not write opens what we write: collections are exported, imported into a real Milvus 2.3.5, and compared there
//! row by row, field by field.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use tidegate_tests::milvus::{Environment, tell};
use tidegate_tests::process::{node, run_json};

/// Small enough that a segment of a few hundred rows is written in several files a field.
const SETTINGS: &str = "insert_buffer_bytes = 512\nmessage_bytes = 1024\n";

fn text(path: &Path) -> String {
    path.to_str().expect("temporary paths are text").to_owned()
}

/// What happens to a collection, as the cases say it.
fn carry_out(environment: &Environment, dir: &str, folder: &Path, case: &Value) {
    let string = |value: &Value| value.as_str().expect("a text in the plan").to_owned();
    let (name, shards) = (string(&case["name"]), case["shards"].to_string());
    let partitions = match &case["partitions"] {
        Value::Array(names) => ["--partitions".to_owned(), names.iter().map(string).collect::<Vec<_>>().join(",")],
        count => ["--num-partitions".to_owned(), count.to_string()],
    };
    let schema = string(&case["schema"]);
    let create = ["collection", "create", "--dir", dir, "--schema", &schema, "--shards", &shards, "--json"];
    run_json(&[&create[..], &partitions.each_ref().map(String::as_str)].concat());
    for step in case["steps"].as_array().expect("steps") {
        let at = ["--dir", dir, "--collection", &name, "--json"];
        match string(&step["kind"]).as_str() {
            "ingest" => {
                let file = string(&step["file"]);
                let to = step["partition"].as_str().map(|name| ["--partition", name]);
                let to = to.as_ref().map_or(&[][..], |to| to);
                run_json(&[&["ingest"], &at[..], &["--file", &file, "--batch-rows", "50"], to].concat());
            }
            "delete" => {
                let mut keys = string(&step["file"]);
                if step["by_number"] == true {
                    // Tidegate gave the keys: the flushed rows have them.
                    let (rows, found) = (text(&folder.join("rows.parquet")), text(&folder.join("keys.json")));
                    run_json(&[&["flush"], &at[..]].concat());
                    run_json(&[&["scan"], &at[..], &["--out", &rows]].concat());
                    environment.judge(&["keys", &name, &rows, &keys, &found]).expect("keys of rows are found");
                    keys = found;
                }
                run_json(&[&["delete"], &at[..], &["--file", &keys]].concat());
            }
            _ => drop(run_json(&[&["flush"], &at[..]].concat())),
        }
    }
}

/// Exports a collection, and notes what the command said and the rows that Tidegate itself reads back.
fn export(dir: &str, root: &Path, cases: &Path, name: &str) {
    let out = root.join(name);
    let exported = run_json(&["export", "--dir", dir, "--collection", name, "--out", &text(&out), "--json"]);
    assert_eq!(exported["not_for_2_3"], serde_json::json!([]), "{exported}");
    assert!(most_files_a_field(&out) > 1, "{name}: each segment has one file a field; the buffers are not small enough");
    fs::write(cases.join(format!("{name}.exported.json")), exported.to_string()).unwrap();
    run_json(&["scan", "--dir", dir, "--collection", name, "--out", &text(&cases.join(format!("{name}.rows.parquet"))), "--json"]);
}

/// Files that the field with the most of them has in one segment of an export.
fn most_files_a_field(out: &Path) -> usize {
    let entries = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let mut folders = vec![out.join("insert_log")];
    for _collection_partition_segment_field in 0..4 {
        folders = folders.iter().flat_map(|folder| entries(folder)).collect();
    }
    folders.iter().map(|folder| entries(folder).len()).max().unwrap_or_default()
}

#[test]
fn milvus_has_every_row_and_value_that_was_exported() {
    let environment = match Environment::prepare() {
        Ok(environment) => environment,
        Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("the real Milvus cannot be prepared: {why}"),
        Err(why) => return tell(&format!("skipped: the real Milvus cannot be prepared here: {}", why.replace('\n', " "))),
    };
    let began = Instant::now();
    let root = tempfile::tempdir().unwrap();
    let (dir, cases) = (root.path().join("node"), root.path().join("cases"));
    let run_dir = root.path().join("milvus");
    [&dir, &cases, &run_dir].into_iter().for_each(|folder| fs::create_dir(folder).unwrap());
    let mut server = environment.start_server(&run_dir);
    fs::write(dir.join("tidegate.toml"), SETTINGS).unwrap();
    let dir = text(&dir);
    environment.judge(&["make", &text(&cases)]).unwrap();
    let plan: Value = serde_json::from_slice(&fs::read(cases.join("plan.json")).unwrap()).unwrap();
    let node = node(&dir);
    let plan = plan.as_array().unwrap();
    // The collections share the node, as users' do.
    std::thread::scope(|scope| {
        for case in plan {
            let (environment, dir, root, cases) = (&environment, &dir, root.path(), &cases);
            scope.spawn(move || {
                carry_out(environment, dir, &cases.join(case["name"].as_str().unwrap()), case);
                export(dir, root, cases, case["name"].as_str().unwrap());
            });
        }
    });
    drop(node);
    let written = began.elapsed().as_secs_f64();
    let port = server.port();
    let told: Vec<Result<String, String>> = std::thread::scope(|scope| {
        let judge = |case: &Value| {
            let name = case["name"].as_str().unwrap().to_owned();
            let [exported, rows] = ["exported.json", "rows.parquet"].map(|of| text(&cases.join(format!("{name}.{of}"))));
            let (environment, port) = (&environment, &port);
            scope.spawn(move || environment.judge(&["compare", &name, port, &exported, &rows]))
        };
        let asked: Vec<_> = plan.iter().map(judge).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    told.iter().flatten().for_each(|said| tell(said));
    let differences: Vec<String> = told.into_iter().filter_map(Result::err).collect();
    assert!(differences.is_empty(), "Milvus does not have what was exported:\n{}", differences.join("\n"));
    let (cases, seconds) = (plan.len(), began.elapsed().as_secs_f64());
    tell(&format!("{cases} collections: {written:.0} s to write and export them, {:.0} s with Milvus", seconds - written));
}
