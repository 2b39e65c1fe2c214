//! The state for a successor: versioned, checked, and tolerant of sections that a newer version added.

use serde::{Deserialize, Serialize};

use crate::contract::{Config, Ordinal};
use crate::flusher::{Flusher, State};

/// The layout of the sections that this version writes.
const SCHEMA_VERSION: u16 = 1;
/// First bytes of a snapshot.
const MAGIC: [u8; 4] = *b"tgs\x01";
/// Section of the whole state.
const STATE: u16 = 1;

/// Part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Section {
    pub id: u16,
    /// The ordinal that the section is relative to.
    pub base: Ordinal,
    pub bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    schema_version: u16,
    pchannel: String,
    term: i64,
    digest: u64,
    sections: Vec<Section>,
}

/// Why bytes are not a snapshot that this component can go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// Not a snapshot at all.
    Foreign,
    /// Of a layout that this version does not read.
    Version(u16),
    /// Of another pchannel or term.
    Misplaced {
        /// Whose it is.
        pchannel: String,
        /// The term it was taken in.
        term: i64,
    },
    /// Changed since it was taken, or cut short.
    Damaged,
}

impl std::fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Foreign => write!(f, "not a flusher's snapshot"),
            Self::Version(v) => write!(f, "snapshot of schema version {v}; this component reads version {SCHEMA_VERSION}"),
            Self::Misplaced { pchannel, term } => write!(f, "snapshot of pchannel {pchannel:?} in term {term}"),
            Self::Damaged => write!(f, "snapshot is damaged: its digest does not match its content"),
        }
    }
}

impl std::error::Error for SnapshotError {}

impl Flusher {
    /// Returns the whole state as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut sections = vec![Section { id: STATE, base: self.state.group_end, bytes: encode(&self.state) }];
        sections.extend(self.foreign_sections.iter().cloned());
        let envelope = Envelope {
            schema_version: SCHEMA_VERSION,
            pchannel: self.config.pchannel.clone(),
            term: self.config.term,
            digest: digest(&sections),
            sections,
        };
        [MAGIC.as_slice(), &encode(&envelope)].concat()
    }

    /// Goes on from a snapshot.
    ///
    /// # Errors
    /// Says why the snapshot is not ours.
    pub fn restore(config: Config, snapshot: &[u8]) -> Result<Self, SnapshotError> {
        let bytes = snapshot.strip_prefix(&MAGIC).ok_or(SnapshotError::Foreign)?;
        let envelope: Envelope = postcard::from_bytes(bytes).map_err(|_| SnapshotError::Damaged)?;
        if envelope.schema_version != SCHEMA_VERSION {
            return Err(SnapshotError::Version(envelope.schema_version));
        }
        if envelope.digest != digest(&envelope.sections) {
            return Err(SnapshotError::Damaged);
        }
        if (&envelope.pchannel, envelope.term) != (&config.pchannel, config.term) {
            return Err(SnapshotError::Misplaced { pchannel: envelope.pchannel, term: envelope.term });
        }
        let (own, foreign_sections): (Vec<_>, Vec<_>) = envelope.sections.into_iter().partition(|s| s.id == STATE);
        let state: State = own.first().and_then(|s| postcard::from_bytes(&s.bytes).ok()).ok_or(SnapshotError::Damaged)?;
        Ok(Self { config, state, foreign_sections })
    }
}

/// Encodes into memory, where nothing of these types can fail.
fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(value).unwrap_or_default()
}

/// 64-bit FNV-1a over the sections.
fn digest(sections: &[Section]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    sections.iter().fold(0xcbf2_9ce4_8422_2325, |hash, s| {
        let head = [s.id.to_le_bytes().as_slice(), &s.base.to_le_bytes(), &(s.bytes.len() as u64).to_le_bytes()].concat();
        s.bytes.iter().fold(head.iter().fold(hash, step), step)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            pchannel: "p_0".into(),
            term: 3,
            insert_bytes_max: 1,
            delete_bytes_max: 1,
            sync_period_ms: 1,
            report_period_ms: 1,
            reports_max: 1,
            idle_tick_ms: 1,
            page_max: 1,
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        let snapshot = Flusher::new(config()).snapshot();
        for at in 0..snapshot.len() {
            let mut damaged = snapshot.clone();
            damaged[at] ^= 1;
            assert!(Flusher::restore(config(), &damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_snapshot_of_another_term_is_refused_by_name() {
        let snapshot = Flusher::new(config()).snapshot();
        let refusal = Flusher::restore(Config { term: 4, ..config() }, &snapshot).unwrap_err();
        assert_eq!(refusal, SnapshotError::Misplaced { pchannel: "p_0".into(), term: 3 });
    }

    #[test]
    fn a_newer_versions_section_survives_verbatim() {
        let mut flusher = Flusher::new(config());
        flusher.foreign_sections.push(Section { id: 900, base: 4, bytes: vec![1, 2, 3] });
        let back = Flusher::restore(config(), &flusher.snapshot()).unwrap();
        assert_eq!(back, flusher);
    }
}
