//! Follows the frames of a WebSocket while its bytes pass untouched.
//!
//! Only heads are read (RFC 6455, section 5.2): memory is constant, whatever the size of a frame and however its
//! bytes are split.

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text, binary, or the continuation of either.
    Data,
    /// Asks for a pong.
    Ping,
    /// Answers a ping, or comes unasked.
    Pong,
    /// The end.
    Close,
}

impl Kind {
    fn of(first: u8) -> Self {
        match first & 0x0f {
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            // Reserved ones too: better awake once too often than asleep when somebody waits.
            _ => Self::Data,
        }
    }
}

/// Bytes that belong to the same frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// How many.
    pub len: usize,
    /// What their frame carries.
    pub kind: Kind,
    /// The last of them is the last of the frame.
    pub ends: bool,
}

/// Where in a stream of frames the bytes seen so far end.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    at: At,
}

#[derive(Debug, Clone, Default)]
enum At {
    /// Between two frames.
    #[default]
    Boundary,
    /// In a head of which this much is known.
    Head { bytes: [u8; 10], seen: usize },
    /// In a frame of which this many bytes are still to come, the mask included.
    Rest { kind: Kind, left: u64 },
}

impl Frames {
    /// The first bytes of `bytes` that belong to the same frame; `None` when there are none.
    pub fn segment(&mut self, bytes: &[u8]) -> Option<Segment> {
        let first = *bytes.first()?;
        let mut used = 0;
        if matches!(self.at, At::Boundary) {
            self.at = At::Head { bytes: [first, 0, 0, 0, 0, 0, 0, 0, 0, 0], seen: 1 };
            used = 1;
        }
        if let At::Head { bytes: head, seen } = &mut self.at {
            let kind = Kind::of(head[0]);
            let left = loop {
                if let Some(left) = length_after_head(&head[..*seen]) {
                    break left;
                }
                let Some(&byte) = bytes.get(used) else {
                    return Some(Segment { len: used, kind, ends: false });
                };
                head[*seen] = byte;
                *seen += 1;
                used += 1;
            };
            self.at = At::Rest { kind, left };
        }
        let At::Rest { kind, left } = &mut self.at else { return None };
        let kind = *kind;
        let here = usize::try_from(*left).map_or(bytes.len() - used, |left| left.min(bytes.len() - used));
        *left -= here as u64;
        let ends = *left == 0;
        if ends {
            self.at = At::Boundary;
        }
        Some(Segment { len: used + here, kind, ends })
    }

    /// The next byte is the first of a frame.
    pub fn at_boundary(&self) -> bool {
        matches!(self.at, At::Boundary)
    }
}

/// How many bytes follow a head without its mask; `None` while it is incomplete.
fn length_after_head(head: &[u8]) -> Option<u64> {
    let &[_, second, ref rest @ ..] = head else { return None };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let payload = match second & 0x7f {
        126 => u64::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?)),
        127 => u64::from_be_bytes(rest.get(..8)?.try_into().ok()?),
        short => u64::from(short),
    };
    Some(payload.saturating_add(mask))
}

/// Longest control frame there may be, with its head and mask.
pub(crate) const CONTROL_FRAME_BYTES: usize = 2 + 4 + 125;

/// The pong that answers a ping of a client; `None` when it is no well-formed ping.
pub(crate) fn pong_for(ping: &[u8]) -> Option<Vec<u8>> {
    let &[0x89, second, ref rest @ ..] = ping else { return None };
    let length = usize::from(second & 0x7f);
    if second & 0x80 == 0 || length > 125 || rest.len() != 4 + length {
        return None;
    }
    let (mask, payload) = rest.split_at(4);
    let mut pong = vec![0x8a, second & 0x7f];
    pong.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Some(pong)
}

/// A close frame for a client.
pub(crate) fn close_for_client(code: u16) -> [u8; 4] {
    let [high, low] = code.to_be_bytes();
    [0x88, 2, high, low]
}

/// A close frame for an app: what clients send is masked, here with zeros.
pub(crate) fn close_for_app(code: u16) -> [u8; 8] {
    let [high, low] = code.to_be_bytes();
    [0x88, 0x82, 0, 0, 0, 0, high, low]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(opcode: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x80 | opcode];
        let mask_bit = if masked { 0x80 } else { 0 };
        match payload.len() {
            short @ 0..126 => bytes.push(mask_bit | short as u8),
            medium @ 126..65536 => {
                bytes.push(mask_bit | 126);
                bytes.extend((medium as u16).to_be_bytes());
            }
            long => {
                bytes.push(mask_bit | 127);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        if masked {
            bytes.extend([1, 2, 3, 4]);
        }
        bytes.extend(payload);
        bytes
    }

    proptest! {
        #[test]
        fn finds_the_same_frames_however_the_bytes_are_split(
            frames in proptest::collection::vec((0u8..16, any::<bool>(), 0usize..70_000), 1..6),
            cuts in proptest::collection::vec(1usize..30_000, 1..40),
        ) {
            let mut stream = Vec::new();
            let mut expected = Vec::new();
            for (opcode, masked, length) in frames {
                let bytes = frame(opcode, masked, &vec![7; length]);
                expected.push((Kind::of(opcode), bytes.len()));
                stream.extend(bytes);
            }
            let (mut found, mut length) = (Vec::new(), 0);
            let mut follow = Frames::default();
            let mut rest = &stream[..];
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let (mut chunk, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                rest = after;
                while let Some(segment) = follow.segment(chunk) {
                    prop_assert!(segment.len > 0);
                    chunk = &chunk[segment.len..];
                    length += segment.len;
                    if segment.ends {
                        found.push((segment.kind, std::mem::take(&mut length)));
                    }
                }
            }
            prop_assert!(follow.at_boundary());
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_bytes_panic_and_all_are_accounted_for(bytes: Vec<u8>) {
            let mut follow = Frames::default();
            let mut rest = &bytes[..];
            while let Some(segment) = follow.segment(rest) {
                prop_assert!(segment.len > 0);
                rest = &rest[segment.len..];
            }
            prop_assert!(rest.is_empty());
            let _ = pong_for(&bytes);
        }

        #[test]
        fn answers_a_ping_with_its_own_payload(payload in proptest::collection::vec(any::<u8>(), 0..=125)) {
            let masked: Vec<u8> = payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(a, b)| a ^ b).collect();
            prop_assert_eq!(pong_for(&frame(0x9, true, &masked)), Some(frame(0xa, false, &payload)));
        }
    }
}
