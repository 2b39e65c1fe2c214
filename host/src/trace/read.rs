//! Reads a trace: whole and undamaged, or not at all.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tidegate_core::journal::Turn;
use tidegate_core::turn::{Page, TurnInput, TurnOutput};

use super::format::{End, FRAME_BYTES, Kind, MAGIC, VERSION, checksum};
use super::{Header, Trace, TraceError};

impl Trace {
    /// Reads a trace.
    ///
    /// # Errors
    /// [`TraceError::Damaged`] says at which byte it is cut or damaged.
    pub fn read(path: &Path) -> Result<Trace, TraceError> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Self::read_from(BufReader::new(file), len)
    }

    /// Reads a trace of `len` bytes.
    pub(super) fn read_from(input: impl Read, len: u64) -> Result<Trace, TraceError> {
        let mut frames = Frames { input, offset: 0, len };
        let magic: [u8; MAGIC.len()] = frames.array("magic")?;
        if magic != MAGIC {
            return Err(damaged(0, "this is not a trace of turns, `tidegate record` writes them"));
        }
        let version = u32::from_le_bytes(frames.array("version")?);
        if version != VERSION {
            return Err(damaged(MAGIC.len() as u64, format!("version {version} of the format, this program reads version {VERSION}")));
        }
        let header: Header = frames.next(&[Kind::Header])?.decode()?;
        let base: Option<Vec<u8>> = frames.next(&[Kind::Base])?.decode()?;
        let mut turns = Vec::new();
        loop {
            let frame = frames.next(&[Kind::Turn, Kind::End])?;
            if frame.kind == Kind::Turn {
                turns.push(turn(&frame)?);
                continue;
            }
            let End { turns: counted, bytes, why } = frame.decode()?;
            if counted != turns.len() as u64 || bytes != frame.offset {
                let (found, at) = (turns.len(), frame.offset);
                let text = format!("the end counts {counted} turns in {bytes} bytes, there are {found} in {at}: some are missing");
                return Err(damaged(frame.offset, text));
            }
            if frames.offset != len {
                return Err(damaged(frames.offset, format!("{} bytes after the end", len - frames.offset)));
            }
            return Ok(Trace { header, base, turns, end: why });
        }
    }
}

/// Decodes a turn, and looks at what a host takes for granted in its own.
fn turn(frame: &Frame) -> Result<Turn, TraceError> {
    let (input, output): (TurnInput, TurnOutput) = frame.decode()?;
    let page = &input.page;
    let wrong = if !columns_agree(page) {
        "the columns of the page differ in length"
    } else if page.first.checked_add(page.len() as u64).is_none() || page.controls.iter().any(|c| !within(page, c.ordinal)) {
        "a control is of no message of the page"
    } else if output.taken > page.len() {
        "more messages were taken than there are"
    } else {
        return Ok(Turn { input: Arc::new(input), output: Arc::new(output) });
    };
    Err(damaged(frame.offset, format!("turn: {wrong}")))
}

fn columns_agree(page: &Page) -> bool {
    let Page { first: _, kinds, flags, channels, collections, partitions, segments, rows, bytes, ticks, controls: _ } = page;
    let lengths = [flags.len(), channels.len(), collections.len(), partitions.len(), segments.len(), rows.len(), bytes.len(), ticks.len()];
    lengths.iter().all(|&len| len == kinds.len())
}

fn within(page: &Page, ordinal: u64) -> bool {
    (page.first..page.first.saturating_add(page.len() as u64)).contains(&ordinal)
}

/// A frame whose checksum is right.
struct Frame {
    offset: u64,
    kind: Kind,
    body: Vec<u8>,
}

impl Frame {
    fn decode<T: DeserializeOwned>(&self) -> Result<T, TraceError> {
        let name = self.kind.name();
        match postcard::take_from_bytes(&self.body) {
            Ok((decoded, [])) => Ok(decoded),
            Ok((_, rest)) => Err(damaged(self.offset, format!("{name}: {} bytes too many", rest.len()))),
            Err(error) => Err(damaged(self.offset, format!("{name}: {error}"))),
        }
    }
}

struct Frames<R> {
    input: R,
    offset: u64,
    len: u64,
}

impl<R: Read> Frames<R> {
    fn next(&mut self, wanted: &[Kind]) -> Result<Frame, TraceError> {
        let offset = self.offset;
        let names = wanted.iter().map(|k| k.name()).collect::<Vec<_>>().join(" or ");
        if offset == self.len {
            return Err(damaged(offset, format!("cut before its end: {names} is missing")));
        }
        let [kind, head @ ..] = self.array::<FRAME_BYTES>("frame")?;
        let [b0, b1, b2, b3, c0, c1, c2, c3] = head;
        let (bytes, expected) = (u32::from_le_bytes([b0, b1, b2, b3]), u32::from_le_bytes([c0, c1, c2, c3]));
        let left = self.len - self.offset;
        if u64::from(bytes) > left {
            return Err(damaged(offset, format!("a frame of {bytes} bytes, and {left} are left: cut, or its length is damaged")));
        }
        // No more than the file has.
        let mut body = vec![0; bytes as usize];
        self.fill(&mut body, "frame")?;
        if checksum(kind, bytes, &body) != expected {
            return Err(damaged(offset, format!("a frame of {bytes} bytes does not match its checksum")));
        }
        match wanted.iter().find(|k| **k as u8 == kind) {
            Some(&kind) => Ok(Frame { offset, kind, body }),
            None => Err(damaged(offset, format!("a frame of kind {kind} where {names} belongs"))),
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], TraceError> {
        let mut array = [0; N];
        self.fill(&mut array, what)?;
        Ok(array)
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<(), TraceError> {
        let offset = self.offset;
        self.input.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => damaged(offset, format!("cut in a {what}, {} bytes of it should follow", bytes.len())),
            _ => error.into(),
        })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

fn damaged(offset: u64, problem: impl Into<String>) -> TraceError {
    TraceError::Damaged { offset, problem: problem.into() }
}
