//! The versions of the contract between host and component that this host serves, and what each has.

use std::fmt;

use serde::Serialize;

/// A version of the contract, a folder of `wit/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contract {
    /// The first.
    V0_1,
    /// With `accounts`.
    V0_2,
}

/// An interface and its functions.
pub(super) type Functions = (&'static str, &'static [&'static str]);

/// The interface that a component exports, in each version.
pub(super) const LOGIC: &str = "tidegate:flusher/logic";

/// What a component may import, in both versions.
const IMPORTS: &[Functions] = &[
    ("types", &[]),
    ("wal", &["open", "next", "append-flush"]),
    ("coordinator", &["vchannels", "recovery-info", "alloc-segment", "report", "drop-channel"]),
    ("chunk-storage", &["sync", "sync-deletes", "drop-segment", "filter", "detach"]),
    ("checkpoint", &["save"]),
    ("log", &["enabled", "event"]),
];

impl Contract {
    /// Those that are served, the oldest first.
    pub const SERVED: [Self; 2] = [Self::V0_1, Self::V0_2];

    /// Returns the version as it stands in names.
    pub fn version(self) -> &'static str {
        match self {
            Self::V0_1 => "0.1.0",
            Self::V0_2 => "0.2.0",
        }
    }

    /// Returns the served version of this name.
    pub fn of_version(version: &str) -> Option<Self> {
        Self::SERVED.into_iter().find(|c| c.version() == version)
    }

    /// Returns what a component may import from the package.
    pub(super) fn imports(self) -> &'static [Functions] {
        IMPORTS
    }

    /// Returns what a component must export from [`LOGIC`].
    pub(super) fn exports(self) -> &'static [&'static str] {
        match self {
            Self::V0_1 => &["start", "turn", "snapshot", "explain"],
            Self::V0_2 => &["start", "turn", "snapshot", "accounts", "explain"],
        }
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.version())
    }
}

impl Serialize for Contract {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.version())
    }
}

/// Lists the served versions, for a sentence.
pub(super) fn served() -> String {
    Contract::SERVED.map(Contract::version).join(" and ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The functions of each interface, by a look at the text.
    fn functions(text: &str) -> BTreeMap<&str, Vec<&str>> {
        let mut of: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut interface = "";
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("interface ").and_then(|l| l.strip_suffix(" {")) {
                interface = name;
                of.entry(name).or_default();
            } else if let Some((name, _)) = line.split_once(": func(") {
                of.get_mut(interface).unwrap().push(name);
            }
        }
        of
    }

    #[test]
    fn what_is_said_here_is_what_the_wit_says() {
        let texts = [include_str!("../../../wit/0.1.0/flusher.wit"), include_str!("../../../wit/0.2.0/flusher.wit")];
        for (contract, text) in Contract::SERVED.into_iter().zip(texts) {
            assert!(text.contains(&format!("package tidegate:flusher@{contract};")));
            let mut wanted: BTreeMap<&str, Vec<&str>> = contract.imports().iter().map(|(name, of)| (*name, of.to_vec())).collect();
            wanted.insert("logic", contract.exports().to_vec());
            assert_eq!(functions(text), wanted, "{contract}");
        }
    }
}
