//! A server that we did not write opens what we write: collections are exported, imported into a real Milvus 2.3.5, and compared there
//! row by row, field by field.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use tidegate_tests::milvus::{Environment, tell};
use tidegate_tests::process::{node, run_json};

/// Small enough that a segment of a few hundred rows is written in several files a field.
const SETTINGS: &str = "insert_buffer_bytes = 8192\nmessage_bytes = 2048\n";

fn text(path: &Path) -> String {
    path.to_str().expect("temporary paths are text").to_owned()
}

/// What happens to a collection, as the cases say it.
fn carry_out(environment: &Environment, dir: &str, folder: &Path, case: &Value) {
    let string = |value: &Value| value.as_str().expect("a text in the plan").to_owned();
    let (name, shards) = (string(&case["name"]), case["shards"].to_string());
    let partitions: Vec<String> = case["partitions"].as_array().expect("partitions").iter().map(string).collect();
    let schema = string(&case["schema"]);
    let create = ["collection", "create", "--dir", dir, "--schema", &schema, "--shards", &shards, "--json"];
    let partitions = partitions.join(",");
    run_json(&[&create[..], &["--partitions", &partitions]].concat());
    for step in case["steps"].as_array().expect("steps") {
        let at = ["--dir", dir, "--collection", &name, "--json"];
        match string(&step["kind"]).as_str() {
            "ingest" => {
                let (file, partition) = (string(&step["file"]), string(&step["partition"]));
                run_json(&[&["ingest"], &at[..], &["--file", &file, "--partition", &partition, "--batch-rows", "50"]].concat());
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
    for case in plan.as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        carry_out(&environment, &dir, &cases, case);
        let out = text(&root.path().join(name));
        let exported = run_json(&["export", "--dir", &dir, "--collection", name, "--out", &out, "--json"]);
        assert_eq!(exported["not_for_2_3"], serde_json::json!([]), "{exported}");
        let told = text(&cases.join(format!("{name}.exported.json")));
        fs::write(&told, exported.to_string()).unwrap();
    }
    drop(node);
    let port = server.port();
    let told: Vec<Result<String, String>> = std::thread::scope(|scope| {
        let judge = |case: &Value| {
            let name = case["name"].as_str().unwrap().to_owned();
            let exported = text(&cases.join(format!("{name}.exported.json")));
            let (environment, port) = (&environment, &port);
            scope.spawn(move || environment.judge(&["compare", &name, port, &exported]))
        };
        let asked: Vec<_> = plan.as_array().unwrap().iter().map(judge).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    told.iter().flatten().for_each(|said| tell(said));
    let differences: Vec<String> = told.into_iter().filter_map(Result::err).collect();
    assert!(differences.is_empty(), "Milvus does not have what was exported:\n{}", differences.join("\n"));
    tell(&format!("{} collections judged by Milvus in {:.0} s", plan.as_array().unwrap().len(), began.elapsed().as_secs_f64()));
}
