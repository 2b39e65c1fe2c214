//! `docs/threads.md`: every thread is in it, and every name in it exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tidegate_sim::{golden, stories};

/// The threads that the table must have, by number; those of other projects by theirs.
const THREADS: &str = "
    44194 47802 47637 46799 45872 45088 48389 49959 43597 43598 46214 44434 41544 42018 42649 41495 41715 41654 40532 42162 42506
    43207 43513 46540 45210 45602 48927 39732 44052 51418 41028 53558 49996 milvus-helm#252 birdwatcher#522 birdwatcher#524
    birdwatcher#531 birdwatcher#532 41842 51423 47295 43072 43431 50493 37172 41665 45750 50878 41904 49077 37493 49069 49998 28549
    43413 33696 34018 33795 22142 22270 28243 32879 28479 38273 29156 43574 30111 35895 33540 30552 31470 29689 30823 44105 33676
    24640 26504 19764 20213 23169 32187 26820 21262 22038 34725 43131 21117 25338 23562 29694 41428 35379 38284 21331 22032
    birdwatcher#530 milvus-backup#923 milvus-backup#830 milvus-backup#412 milvus-backup#895 milvus-backup#1145
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The rows of the tables, each as its cells.
fn table() -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("docs/threads.md")).expect("the document");
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| thread"));
    rows.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// What stands between backticks.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn mutants() -> BTreeSet<String> {
    let switches = tidegate_core::switches::ALL.iter().map(|(name, _)| format!("switch-{name}"));
    let core = tidegate_core::mutants::ALL.iter().map(|(name, _)| format!("core-{name}"));
    switches.chain(core).chain(tidegate_flusher::mutants::ALL.iter().map(|(name, _)| format!("guest-{name}"))).collect()
}

#[test]
fn every_thread_is_in_the_table() {
    let table = table();
    let listed = |cell: &str| -> Vec<String> {
        // A number without a project's name before it is of the project before.
        let mut project = "milvus".to_owned();
        let mut found = Vec::new();
        for word in cell.split([' ', ',']).filter(|w| !w.is_empty()) {
            match word.strip_prefix('#') {
                Some(number) => found.push(format!("{project}#{number}")),
                None => project = word.to_owned(),
            }
        }
        found
    };
    let known: BTreeSet<String> = table.iter().flat_map(|row| listed(&row[0])).collect();
    let whole = |t: &str| if t.contains('#') { t.to_owned() } else { format!("milvus#{t}") };
    let wanted: BTreeSet<String> = THREADS.split_whitespace().map(whole).collect();
    assert_eq!(known, wanted);
}

#[test]
fn every_name_in_the_table_exists() {
    let golden: BTreeSet<&str> = golden::all().into_iter().map(|(name, _)| name).collect();
    let stories = stories::all();
    let mutants = mutants();
    for row in table().iter().filter(|row| row.len() == 4) {
        let played = names(&row[2]);
        assert!(!played.is_empty(), "{row:?} is played by nothing");
        for name in &played {
            let exists = if let Some((path, test)) = name.split_once("::") {
                let text = fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
                text.contains(&format!("fn {test}("))
            } else if name.ends_with(".json") {
                Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name).exists()
            } else {
                golden.contains(name) || stories.iter().any(|s| s.name == *name)
            };
            assert!(exists, "{name} does not exist");
        }
        for mutant in names(&row[3]) {
            assert!(mutants.contains(mutant), "no mutant is called {mutant}");
            let of_a_story = stories.iter().any(|s| s.mutant == Some(mutant) && played.contains(&s.name));
            assert!(of_a_story || played.contains(&format!("{mutant}.json").as_str()), "nothing in {row:?} is run with {mutant}");
        }
    }
}

#[test]
fn every_story_is_of_a_thread() {
    let table = table();
    let played: BTreeSet<&str> = table.iter().flat_map(|row| names(&row[2])).collect();
    let idle: Vec<&str> = stories::all().iter().map(|s| s.name).filter(|name| !played.contains(name)).collect();
    assert!(idle.is_empty(), "{idle:?}");
}
