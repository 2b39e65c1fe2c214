//! The state for a successor: versioned, checked, and tolerant of sections that a newer version added.
//!
//! ```text
//! "tgs" 2 | digest | term | pchannel: length, bytes | sections: number, and for each id, base, length | their bytes, in that order
//! ```
//!
//! Integers are little-endian; lengths are 4 bytes, ids 2, digest, term and base 8. `tables` says what the sections are. Schema 1 was one
//! section in postcard, and is still read.

mod digest;
mod fixed;
mod schema_1;
mod tables;

use crate::contract::{Config, Ordinal};
use crate::flusher::Flusher;
use crate::policy::Policy;

use self::fixed::Fixed;

/// The layout that this version writes.
const SCHEMA_VERSION: u8 = 2;
/// First bytes of a snapshot; the schema's version follows.
const MAGIC: [u8; 3] = *b"tgs";

/// Part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub id: u16,
    /// The last whole group when it was written.
    pub base: Ordinal,
    pub bytes: Vec<u8>,
}

/// The same, where it lies.
#[derive(Clone, Copy, serde::Deserialize)]
struct View<'a> {
    id: u16,
    base: Ordinal,
    bytes: &'a [u8],
}

/// Why bytes are not a snapshot that this component can go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// Not a snapshot at all.
    Foreign,
    /// Of a layout that this version does not read.
    Version(u8),
    /// Of another pchannel or term.
    Misplaced {
        /// Whose it is.
        pchannel: String,
        /// The term it was taken in.
        term: i64,
    },
    /// Changed since it was taken, or cut short.
    Damaged,
    /// Whole, but its writer and this version do not agree on what this part of it is.
    Unreadable(&'static str),
}

impl std::fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Foreign => write!(f, "not a flusher's snapshot"),
            Self::Version(v) => write!(f, "snapshot of schema version {v}; this component reads versions 1 to {SCHEMA_VERSION}"),
            Self::Misplaced { pchannel, term } => write!(f, "snapshot of pchannel {pchannel:?} in term {term}"),
            Self::Damaged => write!(f, "snapshot is damaged: its digest does not match its content"),
            Self::Unreadable(part) => write!(f, "snapshot's {part} are not what this version takes them for"),
        }
    }
}

impl std::error::Error for SnapshotError {}

/// What every schema says of a snapshot.
struct Envelope<'a> {
    pchannel: String,
    term: i64,
    sections: Vec<View<'a>>,
}

impl Flusher {
    /// Returns the whole state as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let own = tables::write(&self.state);
        let own = own.iter().map(|(id, bytes)| View { id: *id, base: self.state.group_end, bytes });
        let foreign = self.foreign_sections.iter().map(|s| View { id: s.id, base: s.base, bytes: &s.bytes });
        let sections: Vec<View<'_>> = own.chain(foreign).collect();
        let mut out = Vec::with_capacity(64 + self.config.pchannel.len() + sections.iter().map(|s| s.bytes.len() + 16).sum::<usize>());
        out.extend(MAGIC);
        out.push(SCHEMA_VERSION);
        let digest_at = out.len();
        0_u64.put(&mut out);
        let content_at = out.len();
        self.config.term.put(&mut out);
        fixed::number(self.config.pchannel.len()).put(&mut out);
        out.extend(self.config.pchannel.as_bytes());
        fixed::number(sections.len()).put(&mut out);
        for s in &sections {
            s.id.put(&mut out);
            s.base.put(&mut out);
            fixed::number(s.bytes.len()).put(&mut out);
        }
        for s in &sections {
            out.extend_from_slice(s.bytes);
        }
        let digest = digest::of(&out[content_at..]);
        out[digest_at..content_at].copy_from_slice(&digest.to_le_bytes());
        out
    }

    /// Goes on from a snapshot.
    ///
    /// # Errors
    /// Says why the snapshot is not ours.
    pub fn restore(config: Config, snapshot: &[u8]) -> Result<Self, SnapshotError> {
        let (&schema, bytes) = snapshot.strip_prefix(&MAGIC).and_then(|rest| rest.split_first()).ok_or(SnapshotError::Foreign)?;
        let envelope = match schema {
            1 => schema_1::envelope(bytes)?,
            2 => envelope(bytes).ok_or(SnapshotError::Damaged)?,
            other => return Err(SnapshotError::Version(other)),
        };
        if (&envelope.pchannel, envelope.term) != (&config.pchannel, config.term) {
            return Err(SnapshotError::Misplaced { pchannel: envelope.pchannel, term: envelope.term });
        }
        let (own, foreign): (Vec<_>, Vec<_>) = envelope.sections.into_iter().partition(|s| match schema {
            1 => s.id == schema_1::STATE,
            _ => tables::SECTIONS.contains(&s.id),
        });
        let state = match schema {
            1 => schema_1::read(&own)?,
            _ => tables::read(&own)?,
        };
        let foreign_sections = foreign.into_iter().map(|s| Section { id: s.id, base: s.base, bytes: s.bytes.to_vec() }).collect();
        Ok(Self { config, policy: Policy::default(), state, foreign_sections })
    }
}

/// Takes a snapshot of schema 2 apart; `None` if its digest does not match, or it is not made of what it says.
fn envelope(mut bytes: &[u8]) -> Option<Envelope<'_>> {
    let from = &mut bytes;
    let digest = u64::get(from)?;
    if digest != digest::of(from) {
        return None;
    }
    let term = i64::get(from)?;
    let pchannel = String::from_utf8(fixed::take_bytes(from)?.to_vec()).ok()?;
    let heads = u32::get(from)?;
    // Each head that is counted has to be there before the next one is made room for.
    let heads: Vec<(u16, Ordinal, u32)> =
        (0..heads).map(|_| Some((u16::get(from)?, Ordinal::get(from)?, u32::get(from)?))).collect::<Option<_>>()?;
    let section = |(id, base, length): (u16, Ordinal, u32)| Some(View { id, base, bytes: fixed::take(from, length)? });
    let sections = heads.into_iter().map(section).collect::<Option<_>>()?;
    from.is_empty().then_some(Envelope { pchannel, term, sections })
}

#[cfg(test)]
mod tests;
