//! Builds the component that the host embeds.

use std::env;
use std::path::PathBuf;

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let workspace = manifest.parent().expect("the host lies in the workspace");
    for component in tidegate_component_builder::build(workspace, &["tidegate-component"], &[]) {
        println!("cargo::rustc-env=TIDEGATE_COMPONENT={}", component.display());
    }
}
