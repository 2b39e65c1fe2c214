//! Compiles the protobuf files of `proto/` without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["wal", "common", "schema", "msg", "messages"].map(|name| format!("proto/{name}.proto"));
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    prost_build::Config::new().bytes(["."]).btree_map(["."]).include_file("proto.rs").compile_fds(descriptors)?;
    Ok(())
}
