//! Which part of a file is asked for.

/// What a `Range` header means for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ranged {
    /// All of it: also where several parts are asked for, which a server need not give.
    Whole,
    /// From the first to the last of these bytes.
    Part {
        /// The first.
        first: u64,
        /// The last; not before the first.
        last: u64,
    },
    /// A part that it does not have.
    Nowhere,
}

impl Ranged {
    /// Reads the value of a `Range` header for a file of so many bytes.
    pub(super) fn read(asked: &[u8], length: u64) -> Self {
        let text = std::str::from_utf8(asked).unwrap_or_default();
        let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
        else {
            return Self::Whole;
        };
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>());
        match (first.trim(), last.trim()) {
            ("", count) => match number(count) {
                Some(Ok(count)) if count > 0 && length > 0 => {
                    Self::Part { first: length.saturating_sub(count), last: length - 1 }
                }
                Some(Ok(_)) => Self::Nowhere,
                _ => Self::Whole,
            },
            (first, last) => match (number(first), last.is_empty(), number(last)) {
                (Some(Ok(first)), ..) if first >= length => Self::Nowhere,
                (Some(Ok(first)), true, _) => Self::Part { first, last: length - 1 },
                (Some(Ok(first)), false, Some(Ok(last))) if last >= first => {
                    Self::Part { first, last: last.min(length - 1) }
                }
                _ => Self::Whole,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_is_given_and_what_makes_no_sense_is_the_whole() {
        let part = |first, last| Ranged::Part { first, last };
        for (asked, expected) in [
            ("bytes=0-3", part(0, 3)),
            ("bytes=2-", part(2, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-30", part(0, 9)),
            ("bytes=9-99", part(9, 9)),
            ("bytes=10-", Ranged::Nowhere),
            ("bytes=-0", Ranged::Nowhere),
            ("bytes=5-2", Ranged::Whole),
            ("bytes=0-1,3-4", Ranged::Whole),
            ("bytes=a-b", Ranged::Whole),
            ("bytes=", Ranged::Whole),
            ("lines=0-3", Ranged::Whole),
            ("bytes=99999999999999999999999-", Ranged::Whole),
        ] {
            assert_eq!(Ranged::read(asked.as_bytes(), 10), expected, "{asked}");
        }
        assert_eq!(Ranged::read(b"bytes=0-", 0), Ranged::Nowhere);
        assert_eq!(Ranged::read(b"bytes=-5", 0), Ranged::Nowhere);
    }
}
