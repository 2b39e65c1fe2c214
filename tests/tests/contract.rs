//! The versions of the contract between host and component.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

fn wit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit")
}

/// Digests of the files in a folder, by their paths below `wit/`.
fn digests(version: &str, below: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(below).unwrap() {
        let (path, name) = entry.map(|e| (e.path(), e.file_name().into_string().unwrap())).unwrap();
        let relative = format!("{version}/{name}");
        if path.is_dir() {
            digests(&relative, &path, found);
        } else {
            let digest = Sha256::digest(fs::read(path).unwrap());
            found.insert(relative, digest.iter().map(|b| format!("{b:02x}")).collect());
        }
    }
}

fn number(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or_else(|_| panic!("wit/{version} is not named by a version"))).collect()
}

/// `wit/frozen.txt` is what `sha256sum` prints; a version is released once it is listed there.
#[test]
fn released_versions_do_not_change() {
    let list = fs::read_to_string(wit().join("frozen.txt")).unwrap();
    let listed: BTreeMap<String, String> =
        list.lines().map(|line| line.split_once("  ").unwrap()).map(|(digest, path)| (path.to_owned(), digest.to_owned())).collect();
    let released: BTreeSet<&str> = listed.keys().filter_map(|path| path.split_once('/')).map(|(version, _)| version).collect();
    let mut found = BTreeMap::new();
    for version in &released {
        digests(version, &wit().join(version), &mut found);
    }
    assert_eq!(found, listed, "released versions do not change: add a new folder");
    let folders = fs::read_dir(wit()).unwrap().map(|e| e.unwrap()).filter(|e| e.path().is_dir());
    let mut versions: Vec<String> = folders.map(|e| e.file_name().into_string().unwrap()).collect();
    versions.sort_by_key(|version| number(version));
    versions.pop();
    for version in versions {
        assert!(released.contains(version.as_str()), "wit/{version} is not the newest version: list its files in wit/frozen.txt");
    }
}
