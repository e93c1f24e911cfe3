//! Takes chunked bodies of answers apart (RFC 9112, section 7.1), strictly.

use bytes::Bytes;
use http::HeaderMap;

use super::head::{MAX_FIELDS, fields};

/// Bytes of extensions in one body, which mean nothing to anybody.
const EXTENSION_BYTES: usize = 16 * 1024;
/// Bytes of the fields after a body.
const TRAILER_BYTES: usize = 16 * 1024;

/// Where in a chunked body the bytes so far end.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    at: At,
    extensions: usize,
    /// The fields after the last chunk, as far as they have come.
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    /// Before the first digit of a size.
    #[default]
    Start,
    Size(u64),
    /// In blanks after a size.
    Blank(u64),
    Extension(u64),
    /// Before the line feed that ends a size's line.
    SizeFeed(u64),
    Data(u64),
    DataReturn,
    DataFeed,
    Trailers,
    End,
}

/// What comes next in a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Bytes),
    /// It is complete.
    End(Option<HeaderMap>),
}

/// It is not chunked as it should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chunks of the answer cannot be told apart")]
pub(super) struct BadChunk;

impl Chunks {
    /// The next of the body from `input`, which keeps what is behind it. `None`: more has to come.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Option<Piece>, BadChunk> {
        while !input.is_empty() {
            match self.at {
                At::Data(left) => {
                    let here = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                    let left = left - here as u64;
                    self.at = if left == 0 { At::DataReturn } else { At::Data(left) };
                    return Ok(Some(Piece::Data(input.split_to(here))));
                }
                At::Trailers => return self.trailers(input),
                At::End => break,
                _ => self.step(input.split_to(1)[0])?,
            }
        }
        Ok(None)
    }

    fn step(&mut self, byte: u8) -> Result<(), BadChunk> {
        self.at = match (self.at, byte) {
            (At::Start, _) => At::Size(digit(byte).ok_or(BadChunk)?),
            (At::Size(size) | At::Blank(size) | At::Extension(size), b'\r') => At::SizeFeed(size),
            (At::Size(size) | At::Blank(size), b' ' | b'\t') => At::Blank(size),
            (At::Size(size) | At::Blank(size), b';') => At::Extension(size),
            (At::Size(size), _) => {
                let more = size.checked_mul(16).zip(digit(byte));
                At::Size(more.map(|(size, digit)| size + digit).ok_or(BadChunk)?)
            }
            // Others may take a line feed alone for the end of the line.
            (At::Extension(size), _) if byte != b'\n' && self.extensions < EXTENSION_BYTES => {
                self.extensions += 1;
                At::Extension(size)
            }
            (At::SizeFeed(0), b'\n') => At::Trailers,
            (At::SizeFeed(size), b'\n') => At::Data(size),
            (At::DataReturn, b'\r') => At::DataFeed,
            (At::DataFeed, b'\n') => At::Start,
            _ => return Err(BadChunk),
        };
        Ok(())
    }

    /// Lines up to an empty one.
    fn trailers(&mut self, input: &mut Bytes) -> Result<Option<Piece>, BadChunk> {
        while let Some(feed) = input.iter().position(|&byte| byte == b'\n') {
            let start = self.trailers.len();
            self.trailers.extend_from_slice(&input.split_to(feed + 1));
            // A line may have come in pieces.
            let line = self.trailers[..start].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            if !self.trailers.ends_with(b"\r\n") || self.trailers.len() > TRAILER_BYTES {
                return Err(BadChunk);
            }
            if self.trailers[line..] == *b"\r\n" {
                self.at = At::End;
                let text = Bytes::from(std::mem::take(&mut self.trailers));
                if text.len() == 2 {
                    return Ok(Some(Piece::End(None)));
                }
                let mut room = [httparse::EMPTY_HEADER; MAX_FIELDS];
                let Ok(httparse::Status::Complete((_, found))) = httparse::parse_headers(&text, &mut room)
                else {
                    return Err(BadChunk);
                };
                return Ok(Some(Piece::End(Some(fields(found, &text).ok_or(BadChunk)?))));
            }
        }
        self.trailers.extend_from_slice(&std::mem::take(input));
        if self.trailers.len() > TRAILER_BYTES { Err(BadChunk) } else { Ok(None) }
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}
