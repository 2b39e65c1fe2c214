//! Fields of fixed width, little-endian, one after another: a table of them is read and written without a decision a field.

use crate::buffer::{Batch, Sync};
use crate::contract::SegmentState;
use crate::flusher::Timer;

/// What always takes the same number of bytes.
pub(super) trait Fixed: Sized {
    /// So many.
    const BYTES: usize;

    /// Appends it.
    fn put(&self, out: &mut Vec<u8>);

    /// Takes it off the front; `None` if too little is left, or it has no such value.
    fn get(from: &mut &[u8]) -> Option<Self>;
}

macro_rules! integers {
    ($($integer:ident)*) => { $(
        impl Fixed for $integer {
            const BYTES: usize = size_of::<$integer>();

            #[inline]
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn get(from: &mut &[u8]) -> Option<Self> {
                let (bytes, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_le_bytes(*bytes))
            }
        }
    )* };
}

integers!(u8 u16 u32 u64 i64);

/// Makes a struct fixed: its fields in this order.
macro_rules! fixed {
    ($name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        impl $crate::snapshot::fixed::Fixed for $name {
            const BYTES: usize = 0 $( + <$kind>::BYTES )*;

            #[inline]
            fn put(&self, out: &mut Vec<u8>) {
                $( self.$field.put(out); )*
            }

            #[inline]
            fn get(from: &mut &[u8]) -> Option<Self> {
                Some(Self { $( $field: <$kind>::get(from)? ),* })
            }
        }
    };
}
pub(super) use fixed;

fixed!(Batch { first: u64, first_tick: u64, last: u64, rows: u64, bytes: u64 });
fixed!(Sync { up_to: u64, batch: Option<Batch> });

/// Without one, the first message is 0: ordinals begin at 1.
impl Fixed for Option<Batch> {
    const BYTES: usize = Batch::BYTES;

    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        self.unwrap_or(Batch { first: 0, first_tick: 0, last: 0, rows: 0, bytes: 0 }).put(out);
    }

    #[inline]
    fn get(from: &mut &[u8]) -> Option<Self> {
        let batch = Batch::get(from)?;
        Some((batch.first != 0).then_some(batch))
    }
}

/// An ordinal, or 0: ordinals begin at 1.
impl Fixed for Option<u64> {
    const BYTES: usize = u64::BYTES;

    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        self.unwrap_or_default().put(out);
    }

    #[inline]
    fn get(from: &mut &[u8]) -> Option<Self> {
        let ordinal = u64::get(from)?;
        Some((ordinal != 0).then_some(ordinal))
    }
}

impl Fixed for bool {
    const BYTES: usize = 1;

    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        u8::from(*self).put(out);
    }

    #[inline]
    fn get(from: &mut &[u8]) -> Option<Self> {
        match u8::get(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Fixed for SegmentState {
    const BYTES: usize = 1;

    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        let code: u8 = match self {
            Self::Growing => 0,
            Self::Flushed => 1,
            Self::Dropped => 2,
        };
        code.put(out);
    }

    #[inline]
    fn get(from: &mut &[u8]) -> Option<Self> {
        match u8::get(from)? {
            0 => Some(Self::Growing),
            1 => Some(Self::Flushed),
            2 => Some(Self::Dropped),
            _ => None,
        }
    }
}

impl Fixed for Timer {
    const BYTES: usize = 9;

    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        let (code, id): (u8, i64) = match *self {
            Self::Segment(id) => (0, id),
            Self::Deletes(partition) => (1, partition),
            Self::Report => (2, 0),
        };
        code.put(out);
        id.put(out);
    }

    #[inline]
    fn get(from: &mut &[u8]) -> Option<Self> {
        match (u8::get(from)?, i64::get(from)?) {
            (0, id) => Some(Self::Segment(id)),
            (1, partition) => Some(Self::Deletes(partition)),
            (2, 0) => Some(Self::Report),
            _ => None,
        }
    }
}

/// Returns a length, or how many there are, as it is written. Nothing here has 2^32 of anything: an instance's memory does not reach that far.
pub(super) fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Takes bytes off the front, their length first.
pub(super) fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::get(from)?;
    take(from, length)
}

/// Takes so many bytes off the front.
pub(super) fn take<'a>(from: &mut &'a [u8], length: u32) -> Option<&'a [u8]> {
    let (bytes, rest) = from.split_at_checked(usize::try_from(length).ok()?)?;
    *from = rest;
    Some(bytes)
}
