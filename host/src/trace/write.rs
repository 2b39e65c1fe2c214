//! Writes a trace.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tidegate_core::journal::Turn;

use super::format::{End, FRAME_BYTES, Kind, MAGIC, PREFIX_BYTES, VERSION, frame};
use super::{Header, TraceError};

/// Bytes that are kept free for the end frame: its numbers, and a reason cut to [`WHY_BYTES_MAX`].
const END_BYTES: u64 = FRAME_BYTES as u64 + 32 + WHY_BYTES_MAX as u64;
/// Bytes of the reason in an end frame: one sentence, whatever a component put into it.
const WHY_BYTES_MAX: usize = 1_024;

/// A trace being written; one that is dropped before its end leaves nothing behind.
#[derive(Debug)]
pub struct TraceWriter {
    out: Option<BufWriter<File>>,
    path: PathBuf,
    partial: PathBuf,
    bytes: u64,
    bytes_max: u64,
    turns: u64,
}

/// A trace that is whole and durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Turns in it.
    pub turns: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

impl TraceWriter {
    /// Begins a trace of at most `bytes_max` bytes; it gets its name in [`Self::finish`], which replaces a file of that name.
    ///
    /// # Errors
    /// [`TraceError::NoRoom`] where header and base do not fit; the file cannot be made, or another recording writes it.
    pub fn create(path: &Path, header: &Header, base: Option<&[u8]>, bytes_max: u64) -> Result<Self, TraceError> {
        let header = frame(Kind::Header, header).map_err(unencodable)?;
        let base = frame(Kind::Base, &base).map_err(unencodable)?;
        let bytes = (PREFIX_BYTES + header.len() + base.len()) as u64;
        if bytes + END_BYTES > bytes_max {
            return Err(TraceError::NoRoom { bytes: bytes + END_BYTES, max: bytes_max });
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = OpenOptions::new().write(true).create_new(true).open(&partial).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                let text = format!("{} exists: a recording writes it, or did not end; remove it then", partial.display());
                io::Error::new(ErrorKind::AlreadyExists, text)
            }
            _ => error,
        })?;
        let out = BufWriter::new(file);
        let mut writer = Self { out: Some(out), path: path.to_owned(), partial, bytes: 0, bytes_max, turns: 0 };
        writer.put(&MAGIC)?;
        writer.put(&VERSION.to_le_bytes())?;
        writer.put(&header)?;
        writer.put(&base)?;
        Ok(writer)
    }

    /// Appends a turn; `false` where it does not fit any more, and the trace is to be finished without it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn turn(&mut self, turn: &Turn) -> io::Result<bool> {
        let frame = frame(Kind::Turn, &(&*turn.input, &*turn.output)).map_err(unencodable)?;
        if self.bytes + frame.len() as u64 + END_BYTES > self.bytes_max {
            return Ok(false);
        }
        self.put(&frame)?;
        self.turns += 1;
        Ok(true)
    }

    /// Returns the number of turns so far.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// Returns the number of bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the trace, and returns when it is durable under its name.
    ///
    /// # Errors
    /// The file cannot be written; nothing is left of it.
    pub fn finish(mut self, why: &str) -> io::Result<Finished> {
        let why = why[..why.floor_char_boundary(WHY_BYTES_MAX)].to_owned();
        let end = frame(Kind::End, &End { turns: self.turns, bytes: self.bytes, why }).map_err(unencodable)?;
        self.put(&end)?;
        if let Some(out) = self.out.take() {
            let durable = out.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
            if let Err(error) = durable.and_then(|()| fs::rename(&self.partial, &self.path)) {
                remove(&self.partial);
                return Err(error);
            }
        }
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
        Ok(Finished { turns: self.turns, bytes: self.bytes })
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(out) = &mut self.out {
            out.write_all(bytes)?;
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for TraceWriter {
    fn drop(&mut self) {
        if self.out.take().is_some() {
            remove(&self.partial);
        }
    }
}

fn remove(partial: &Path) {
    if let Err(error) = fs::remove_file(partial) {
        tracing::warn!(%error, path = %partial.display(), "a trace without an end is left behind");
    }
}

fn unencodable(error: postcard::Error) -> io::Error {
    io::Error::other(format!("a frame of a trace cannot be encoded: {error}"))
}
