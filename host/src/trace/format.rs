//! What writer and reader of a trace share: frames.

use serde::Serialize;

/// What a trace begins with.
pub(super) const MAGIC: [u8; 8] = *b"TIDETRC\n";
/// The version of the format.
pub const VERSION: u32 = 1;
/// Bytes of a trace, unless more are allowed: a thousand full pages a megabyte or two, so hours of a busy pchannel.
pub const BYTES_MAX: u64 = 64 << 20;

/// Bytes before the first frame.
pub(super) const PREFIX_BYTES: usize = MAGIC.len() + 4;
/// Bytes of a frame before its body.
pub(super) const FRAME_BYTES: usize = 1 + 4 + 4;

/// What a frame's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Header = 1,
    Base = 2,
    Turn = 3,
    End = 4,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Base => "base",
            Self::Turn => "turn",
            Self::End => "end",
        }
    }
}

/// The body of an end frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(super) struct End {
    /// Turns before it.
    pub turns: u64,
    /// Bytes before it.
    pub bytes: u64,
    /// Why the recording ended.
    pub why: String,
}

/// CRC-32 of a frame, its own kind and length included.
pub(super) fn checksum(kind: u8, bytes: u32, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[kind]);
    crc.update(&bytes.to_le_bytes());
    crc.update(body);
    crc.finalize()
}

/// Builds a frame.
///
/// # Errors
/// The body does not fit in a frame.
pub(super) fn frame<T: Serialize + ?Sized>(kind: Kind, body: &T) -> Result<Vec<u8>, postcard::Error> {
    let mut frame = postcard::to_extend(body, vec![0; FRAME_BYTES])?;
    let body = &frame[FRAME_BYTES..];
    let bytes = u32::try_from(body.len()).map_err(|_| postcard::Error::SerializeBufferFull)?;
    let checksum = checksum(kind as u8, bytes, body);
    frame[0] = kind as u8;
    frame[1..5].copy_from_slice(&bytes.to_le_bytes());
    frame[5..FRAME_BYTES].copy_from_slice(&checksum.to_le_bytes());
    Ok(frame)
}
