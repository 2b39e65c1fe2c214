//! Builds the variants of the component that tests swap to.

use std::env;
use std::path::PathBuf;

/// Packages below `guests/`, and the environment variable that names each one's file.
const VARIANTS: [(&str, &str); 3] =
    [("tidegate-guest-next", "TIDEGATE_NEXT"), ("tidegate-guest-previous", "TIDEGATE_PREVIOUS"), ("tidegate-guest-bad", "TIDEGATE_BAD")];

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let workspace = manifest.parent().expect("the tests lie in the workspace");
    let components = tidegate_component_builder::build(workspace, &VARIANTS.map(|(package, _)| package), &["tests/guests"]);
    for ((_, variable), component) in VARIANTS.iter().zip(components) {
        println!("cargo::rustc-env={variable}={}", component.display());
    }
}
