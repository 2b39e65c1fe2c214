//! Keys and values on disk: text keys that a person can list, postcard values behind a version byte.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

/// Version of every value; a change of any stored shape raises it.
const VERSION: u8 = 2;

/// One durable change: a value to store under a key, or `None` to remove the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// UTF-8 text such as `segment/449`.
    pub key: Vec<u8>,
    /// A version byte and a postcard value.
    pub value: Option<Vec<u8>>,
}

/// Why stored state cannot be used: another version wrote it, or it is damaged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The key is none of ours.
    #[error("key `{0}` is not one of this version")]
    Key(String),
    /// The value is of another version.
    #[error("value of `{key}` has version {found}, this build reads version {VERSION}")]
    Version {
        /// The entry's key.
        key: String,
        /// The version byte found.
        found: u8,
    },
    /// The value does not decode.
    #[error("value of `{key}` is damaged: {reason}")]
    Damaged {
        /// The entry's key.
        key: String,
        /// The decoder's words.
        reason: String,
    },
}

/// A key, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Term(String),
    Consume(String),
    Checkpoint(String),
    Schema(String, u64),
    Collection(i64),
    Segment(i64),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Term(pchannel) => write!(f, "term/{pchannel}"),
            Key::Consume(pchannel) => write!(f, "consume-checkpoint/{pchannel}"),
            Key::Checkpoint(vchannel) => write!(f, "channel-cp/{vchannel}"),
            Key::Schema(vchannel, tick) => write!(f, "schema/{vchannel}/{tick}"),
            Key::Collection(id) => write!(f, "collection/{id}"),
            Key::Segment(id) => write!(f, "segment/{id}"),
        }
    }
}

impl Key {
    pub(super) fn parse(key: &[u8]) -> Result<Key, LoadError> {
        let unknown = || LoadError::Key(String::from_utf8_lossy(key).into_owned());
        let (kind, name) = std::str::from_utf8(key).ok().and_then(|text| text.split_once('/')).ok_or_else(unknown)?;
        Ok(match kind {
            "term" => Key::Term(name.to_owned()),
            "consume-checkpoint" => Key::Consume(name.to_owned()),
            "channel-cp" => Key::Checkpoint(name.to_owned()),
            "schema" => {
                let (vchannel, tick) = name.rsplit_once('/').ok_or_else(unknown)?;
                Key::Schema(vchannel.to_owned(), tick.parse().map_err(|_| unknown())?)
            }
            "collection" => Key::Collection(name.parse().map_err(|_| unknown())?),
            "segment" => Key::Segment(name.parse().map_err(|_| unknown())?),
            _ => return Err(unknown()),
        })
    }
}

/// The writes of one step, at most one a key.
#[derive(Debug, Default)]
pub(super) struct Changes(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl Changes {
    pub(super) fn put(&mut self, key: Key, value: &impl Serialize) {
        self.0.insert(key.to_string().into_bytes(), Some(encode(value)));
    }

    pub(super) fn remove(&mut self, key: Key) {
        self.0.insert(key.to_string().into_bytes(), None);
    }

    pub(super) fn into_writes(self) -> Vec<Write> {
        self.0.into_iter().map(|(key, value)| Write { key, value }).collect()
    }
}

pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    // Growing a vector, postcard refuses only sequences of unknown length and values that refuse themselves; ours are neither.
    postcard::to_extend(value, vec![VERSION]).expect("state serializes")
}

pub(super) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, LoadError> {
    let key = || String::from_utf8_lossy(key).into_owned();
    let damaged = |reason: &str| LoadError::Damaged { key: key(), reason: reason.to_owned() };
    match value.split_first() {
        None => Err(damaged("it is empty")),
        Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(damaged(&format!("{} bytes too many", rest.len()))),
            Err(error) => Err(damaged(&error.to_string())),
        },
        Some((&found, _)) => Err(LoadError::Version { key: key(), found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_reads_back() {
        let keys = [
            Key::Term("by-dev-dml_0".into()),
            Key::Consume("by-dev-dml_0".into()),
            Key::Checkpoint("by-dev-dml_0_449v0".into()),
            Key::Schema("by/dev_0_449v0".into(), 7),
            Key::Collection(449),
            Key::Segment(450),
        ];
        for key in keys {
            assert_eq!(Key::parse(key.to_string().as_bytes()), Ok(key));
        }
    }

    #[test]
    fn foreign_keys_other_versions_and_damage_are_told_apart() {
        assert_eq!(Key::parse(b"segment/x"), Err(LoadError::Key("segment/x".into())));
        assert_eq!(Key::parse(b"nonsense"), Err(LoadError::Key("nonsense".into())));
        assert_eq!(decode::<i64>(b"term/p", &[9, 2]), Err(LoadError::Version { key: "term/p".into(), found: 9 }));
        assert!(matches!(decode::<i64>(b"term/p", &[]), Err(LoadError::Damaged { .. })));
        assert!(matches!(decode::<i64>(b"term/p", &[VERSION, 2, 0]), Err(LoadError::Damaged { .. })));
        assert_eq!(decode::<i64>(b"term/p", &encode(&-5i64)), Ok(-5));
    }
}
