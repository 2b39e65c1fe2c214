//! Builds the component that the host embeds, so that plain `cargo run` and `cargo test` are all that is needed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What the component is compiled for.
const TARGET: &str = "wasm32-wasip2";

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let workspace = manifest.parent().expect("the host lies in the workspace").to_owned();
    for watched in ["guest/src", "guest/Cargo.toml", "wit", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(watched).display());
    }
    let component = build(&workspace, "tidegate-flusher", "tidegate_flusher.wasm");
    println!("cargo::rustc-env=TIDEGATE_COMPONENT={}", component.display());
}

/// Runs cargo for the component's target in a folder of its own: no lock is shared with the build that runs us.
fn build(workspace: &Path, package: &str, file: &str) -> PathBuf {
    let target = workspace.join("target").join("component");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace).args(["build", "--locked", "--quiet", "--lib", "--package", package]);
    cargo.args(["--target", TARGET, "--profile", "component", "--target-dir"]).arg(&target);
    // The outer build's flags are not the component's: they would change its digest.
    let foreign = |name: &str| {
        let prefixes = ["CARGO_FEATURE_", "CARGO_CFG_", "CARGO_PROFILE_", "RUSTC"];
        prefixes.iter().any(|p| name.starts_with(p))
            || ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"].contains(&name)
    };
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(foreign) {
            cargo.env_remove(name);
        }
    }
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let flags: Vec<String> = home.iter().map(|h| remap(h, "cargo")).chain([remap(workspace, "tidegate")]).collect();
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    let built = target.join(TARGET).join("component").join(file);
    let made = cargo.status().is_ok_and(|status| status.success()) && fs::metadata(&built).is_ok();
    if !made && !has_target() {
        println!("cargo::error=the component needs the target {TARGET}: rustup target add {TARGET}");
    } else if !made {
        println!("cargo::error=the component did not build; its own build says why: cargo build --package {package} --target {TARGET}");
    }
    built
}

/// Whether the compiler has the component's standard library.
fn has_target() -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    asked.is_ok_and(|answer| fs::metadata(String::from_utf8_lossy(&answer.stdout).trim()).is_ok())
}
