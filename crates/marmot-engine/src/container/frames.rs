//! What containers print, as engines tell it.

use bytes::{Buf as _, BytesMut};

/// Takes the engine's stream apart: pieces of what was printed, each behind eight bytes that tell its length.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn next(&mut self) -> Option<BytesMut> {
        let head: [u8; 8] = self.buffer.get(..8)?.try_into().ok()?;
        let [stream, 0, 0, 0, length @ ..] = head else { return self.unframed() };
        if stream > 2 {
            return self.unframed();
        }
        let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
        if self.buffer.len() < 8 + length {
            return None;
        }
        self.buffer.advance(8);
        Some(self.buffer.split_to(length))
    }

    /// A container with a terminal has but one stream, which is told as it is.
    fn unframed(&mut self) -> Option<BytesMut> {
        Some(self.buffer.split())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(text: &[u8]) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[1, 0, 0, 0][..], &length, text].concat()
    }

    fn taken_apart(bytes: &[u8], at_once: usize) -> Vec<u8> {
        let (mut frames, mut out) = (Frames::default(), Vec::new());
        for chunk in bytes.chunks(at_once.max(1)) {
            frames.feed(chunk);
            while let Some(payload) = frames.next() {
                out.extend_from_slice(&payload);
                if payload.is_empty() && frames.buffer.is_empty() {
                    break;
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn what_was_printed_comes_out_whole_however_it_is_cut(
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..8), at_once in 1usize..40,
        ) {
            let bytes: Vec<u8> = texts.iter().flat_map(|text| frame(text)).collect();
            prop_assert_eq!(taken_apart(&bytes, at_once), texts.concat());
        }

        #[test]
        fn nothing_makes_it_panic_or_stand_still(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = taken_apart(&bytes, 7);
        }
    }
}
