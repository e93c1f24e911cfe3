//! Finds the heads of requests among the bytes of HTTP/1, and those that could be read in two ways.
//!
//! hyper drops one of two contradicting framing headers, and with it the proof that there were two. [`Scanner`] follows
//! the bytes on their way to hyper; a request with more than one `Content-Length` or `Transfer-Encoding`, with a line that
//! a line feed alone ends, or with a fragment in its target is refused, whatever hyper makes of it. It refuses, and never
//! lets anything pass that hyper refuses: where the two disagree, the stricter one counts.

/// As much of a line as is looked at: a framing header with the longest length there can be.
const LINE: usize = 64;

/// Where in the stream of requests the bytes so far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A request is complete, the next has not begun.
    Between,
    /// In the head of one.
    Head,
    /// In the body of one.
    Body,
}

/// Finds the heads of HTTP/1 requests among the bytes of a connection.
#[derive(Debug)]
pub(crate) struct Scanner {
    at: At,
    /// Complete heads before this one.
    pub(crate) heads: u64,
    line: [u8; LINE],
    /// Bytes of the line so far, also those beyond what is kept.
    line_bytes: usize,
    /// The byte before those that come next.
    last: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the first line of a head.
    Start,
    /// In a head, past its first line: its framing so far.
    Fields { lengths: u32, encodings: u32, length: u64 },
    /// In a body of which this much is still to come.
    Body(u64),
    /// In the line that tells the size of a chunk.
    ChunkSize,
    /// In a chunk, with the line break at its end.
    Chunk(u64),
    /// In the fields after the last chunk.
    Trailers,
    /// Past a request that is refused: what follows means nothing.
    Lost,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { at: At::Start, heads: 0, line: [0; LINE], line_bytes: 0, last: 0 }
    }
}

impl Scanner {
    pub(crate) fn phase(&self) -> Phase {
        match self.at {
            At::Start if self.line_bytes == 0 => Phase::Between,
            At::Start | At::Fields { .. } | At::Lost => Phase::Head,
            At::Body(_) | At::ChunkSize | At::Chunk(_) | At::Trailers => Phase::Body,
        }
    }

    /// Follows these bytes. True: the request that they are in can be read in two ways.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Lost => return false,
                At::Body(left) | At::Chunk(left) => {
                    let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    *left -= here as u64;
                    bytes = &bytes[here..];
                    if *left == 0 {
                        self.at = if matches!(self.at, At::Body(_)) { At::Start } else { At::ChunkSize };
                    }
                }
                _ => {
                    let end = bytes.iter().position(|&byte| byte == b'\n');
                    let here = end.map_or(bytes.len(), |end| end + 1);
                    if self.line_bytes < LINE {
                        let kept = here.min(LINE - self.line_bytes);
                        self.line[self.line_bytes..self.line_bytes + kept].copy_from_slice(&bytes[..kept]);
                    }
                    self.line_bytes += here;
                    let last = if here > 1 { bytes[here - 2] } else { self.last };
                    self.last = bytes[here - 1];
                    // hyper takes a fragment off, and a line feed alone for the end of a line.
                    let cut_off = self.at == At::Start && bytes[..here].contains(&b'#');
                    bytes = &bytes[here..];
                    if end.is_some() || cut_off {
                        let bare = last != b'\r' && matches!(self.at, At::Start | At::Fields { .. });
                        let ambiguous = cut_off || bare || self.end_line();
                        self.line_bytes = 0;
                        if ambiguous {
                            self.at = At::Lost;
                            return true;
                        }
                    }
                }
            }
        }
        false
    }

    /// A line is complete. True: its request can be read in two ways.
    fn end_line(&mut self) -> bool {
        let whole = self.line_bytes <= LINE;
        let line = self.line[..self.line_bytes.min(LINE)].trim_ascii_end();
        match &mut self.at {
            // Empty lines before a request are skipped, by hyper as well.
            At::Start if whole && line.is_empty() => {}
            At::Start => self.at = At::Fields { lengths: 0, encodings: 0, length: 0 },
            At::Fields { lengths, encodings, length } if whole && line.is_empty() => {
                let next = match (*lengths, *encodings) {
                    (_, 1..) => At::ChunkSize,
                    (1.., _) if *length > 0 => At::Body(*length),
                    _ => At::Start,
                };
                self.at = next;
                self.heads += 1;
            }
            At::Fields { lengths, encodings, length } => {
                if let Some(value) = field(line, b"content-length") {
                    *lengths += 1;
                    match number(value).filter(|_| whole) {
                        Some(number) => *length = number,
                        None => return true,
                    }
                } else if field(line, b"transfer-encoding").is_some() {
                    *encodings += 1;
                }
                return *lengths + *encodings > 1;
            }
            At::ChunkSize => {
                let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
                let size =
                    std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
                match size {
                    Some(0) => self.at = At::Trailers,
                    // With the line break at its end.
                    Some(size) => self.at = At::Chunk(size.saturating_add(2)),
                    // hyper refuses it.
                    None => self.at = At::Lost,
                }
            }
            At::Trailers if whole && line.is_empty() => self.at = At::Start,
            At::Trailers | At::Body(_) | At::Chunk(_) | At::Lost => {}
        }
        false
    }
}

/// The value of a field of this name. Blanks before the colon are no excuse.
fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    let rest = rest.trim_ascii_start().strip_prefix(b":")?;
    start.eq_ignore_ascii_case(name).then(|| rest.trim_ascii())
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How many heads there are, which is the first ambiguous one, and where it ends.
    fn scan(stream: &[u8], cuts: &[usize]) -> (u64, Option<u64>, Phase) {
        let mut scanner = Scanner::default();
        let mut ambiguous = None;
        let (mut rest, mut cuts) = (stream, cuts.iter().cycle());
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            rest = after;
            if scanner.feed(chunk) {
                ambiguous = ambiguous.or(Some(scanner.heads));
            }
        }
        (scanner.heads, ambiguous, scanner.phase())
    }

    const STREAM: &[u8] = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\
        POST / HTTP/1.1\r\nContent-Length: 41\r\n\r\nTransfer-Encoding: a\r\nContent-Length: 1\r\n\
        POST / HTTP/1.1\r\ntransfer-encoding : chunked\r\n\r\n3;x=y\r\na\r\n\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n\
        0\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n\
        POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n";

    proptest! {
        #[test]
        fn finds_the_heads_however_the_bytes_are_split(cuts in proptest::collection::vec(1usize..90, 1..30)) {
            prop_assert_eq!(scan(STREAM, &cuts), (4, None, Phase::Between));
            let mut stream = STREAM.to_vec();
            stream.extend(b"POST / HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length: 3\n\nGET / HTTP/1.1\r\n\r\n");
            prop_assert_eq!(scan(&stream, &cuts).1, Some(4));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, cuts in proptest::collection::vec(1usize..90, 1..30)) {
            scan(&bytes, &cuts);
            let mut head = b"GET / HTTP/1.1\r\nContent-Length:".to_vec();
            head.extend(bytes);
            scan(&head, &cuts);
        }
    }

    #[test]
    fn sees_two_ways_to_frame_a_request() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 1",
            "transfer-encoding:chunked\r\nX: y\r\nTRANSFER-ENCODING: chunked",
            "Content-Length : 1\r\nContent-Length: 1",
            "Content-Length: 1, 1",
            "Content-Length: +1",
            "Content-Length:",
            "Content-Length: 99999999999999999999999",
            "X: y\nZ: a",
        ] {
            let stream = format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
            assert_eq!(scan(stream.as_bytes(), &[7]).1, Some(0), "{fields}");
        }
    }
}
