//! Sets of pages of one process.

use std::ops::Range;

/// A set of pages by their numbers, as ranges in ascending order that neither touch nor overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PageSet {
    ranges: Vec<Range<u64>>,
}

impl PageSet {
    /// Adds a page that is not before any other one of the set.
    pub(crate) fn push(&mut self, page: u64) {
        match self.ranges.last_mut() {
            Some(last) if page < last.end => {}
            Some(last) if page == last.end => last.end += 1,
            _ => self.ranges.push(page..page + 1),
        }
    }

    /// The ranges, in ascending order.
    pub(crate) fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Answers for pages in ascending order whether they are in the set.
    pub(crate) fn cursor(&self) -> Cursor<'_> {
        Cursor { ranges: &self.ranges }
    }
}

/// Goes through a set once.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    ranges: &'a [Range<u64>],
}

impl Cursor<'_> {
    /// Whether the page is in the set. It must not be before the one that was asked for last.
    pub(crate) fn contains(&mut self, page: u64) -> bool {
        while let [first, rest @ ..] = self.ranges {
            if page < first.end {
                return page >= first.start;
            }
            self.ranges = rest;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_exactly_what_was_put_in(pages in proptest::collection::btree_set(0u64..200, 0..100)) {
            let mut set = PageSet::default();
            pages.iter().for_each(|&page| set.push(page));
            let mut cursor = set.cursor();
            for page in 0..200 {
                prop_assert_eq!(cursor.contains(page), pages.contains(&page));
            }
            let apart = set.ranges().windows(2).all(|pair| pair[0].end < pair[1].start);
            prop_assert!(apart);
        }
    }
}
