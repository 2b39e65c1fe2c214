//! Builds components from build scripts, so that plain `cargo run` and `cargo test` are all that is needed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What components are compiled for.
const TARGET: &str = "wasm32-wasip2";

/// Builds packages of the workspace as components, all by one call of cargo, and returns their files in the same order. Also tells the
/// cargo that runs the build script what to watch: the packages' folders, what all of them are made of, and whatever is given as `watched`,
/// relative to the workspace. An error is told to it as well.
pub fn build(workspace: &Path, packages: &[&str], watched: &[&str]) -> Vec<PathBuf> {
    for path in ["guest", "wit", "Cargo.toml", "Cargo.lock"].iter().chain(watched) {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    // A folder of its own: no lock is shared with the build that runs us.
    let target = workspace.join("target").join("component");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace).args(["build", "--locked", "--quiet", "--lib"]);
    cargo.args(packages.iter().flat_map(|package| ["--package", package]));
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
    let folder = target.join(TARGET).join("component");
    let built: Vec<PathBuf> = packages.iter().map(|package| folder.join(format!("{}.wasm", package.replace('-', "_")))).collect();
    let made = cargo.status().is_ok_and(|status| status.success()) && built.iter().all(|file| fs::metadata(file).is_ok());
    if !made && !has_target() {
        println!("cargo::error=components need the target {TARGET}: rustup target add {TARGET}");
    } else if !made {
        let packages = packages.join(" --package ");
        println!("cargo::error=a component did not build; its own build says why: cargo build --package {packages} --target {TARGET}");
    }
    built
}

/// Whether the compiler has the components' standard library.
fn has_target() -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    asked.is_ok_and(|answer| fs::metadata(String::from_utf8_lossy(&answer.stdout).trim()).is_ok())
}
