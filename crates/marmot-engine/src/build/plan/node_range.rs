//! Reads ranges of Node versions, as `engines` and `.nvmrc` have them: <https://docs.npmjs.com/cli/commands/npm#semver>.

/// Three numbers.
type Version = [u64; 3];

/// Whether `version` is in `range`; `None` where the range is not understood.
pub(in crate::build) fn allows(range: &str, version: &str) -> Option<bool> {
    let version = exact(version)?;
    let range = range.trim();
    if range.len() > 200 {
        return None;
    }
    let mut any = false;
    for set in range.split("||") {
        any |=
            bounds(set)?.iter().all(|(low, high)| *low <= version && high.is_none_or(|high| version < high));
    }
    Some(any)
}

/// The versions that a name of Node's long-term releases stands for, as `.nvmrc` has them.
pub(in crate::build) fn of_name(name: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 8] = [
        ("dubnium", "10"),
        ("erbium", "12"),
        ("fermium", "14"),
        ("gallium", "16"),
        ("hydrogen", "18"),
        ("iron", "20"),
        ("jod", "22"),
        ("krypton", "24"),
    ];
    let name = name.trim().to_ascii_lowercase();
    let name = name.strip_prefix("lts/")?;
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, major)| *major)
}

/// The versions from the first to just before the second, for each comparator: all must hold.
fn bounds(set: &str) -> Option<Vec<(Version, Option<Version>)>> {
    let set = set.trim();
    if let Some((from, to)) = set.split_once(" - ") {
        let (low, _) = parts(from)?;
        let (high, given) = parts(to)?;
        return Some(vec![(low, next(high, given))]);
    }
    // An operator may stand apart from its version.
    let mut words: Vec<String> = Vec::new();
    for word in set.split_whitespace() {
        match words.last_mut() {
            Some(last) if last.chars().all(|letter| "<>=~^".contains(letter)) => last.push_str(word),
            _ => words.push(word.to_owned()),
        }
    }
    words.iter().map(|word| comparator(word)).collect()
}

fn comparator(word: &str) -> Option<(Version, Option<Version>)> {
    let digits = word.trim_start_matches(['<', '>', '=', '~', '^']);
    let operator = &word[..word.len() - digits.len()];
    let (low, given) = parts(digits)?;
    Some(match operator {
        "" | "=" if given == 0 => ([0; 3], None),
        "" | "=" => (low, next(low, given)),
        ">=" => (low, None),
        ">" => (next(low, given).unwrap_or(low), None),
        "<" => ([0; 3], Some(low)),
        "<=" => ([0; 3], next(low, given)),
        "~" | "~>" => (low, next(low, given.min(2))),
        "^" => {
            let first = low.iter().position(|&number| number > 0).unwrap_or(2) + 1;
            (low, next(low, first.min(given.max(1))))
        }
        _ => return None,
    })
}

/// The first version after all that begin with the first `given` numbers of `version`.
fn next(version: Version, given: usize) -> Option<Version> {
    let last = given.checked_sub(1)?;
    let mut next = [0; 3];
    next[..given].copy_from_slice(&version[..given]);
    next[last] = next[last].checked_add(1)?;
    Some(next)
}

/// The numbers of a version, and how many of them are given: `18.x` gives one.
fn parts(text: &str) -> Option<(Version, usize)> {
    let text = text.trim().trim_start_matches(['v', 'V', '=']);
    let text = text.split(['-', '+']).next().unwrap_or(text);
    let mut version = [0; 3];
    let mut given = 0;
    if text.is_empty() || text == "*" || text == "x" {
        return Some((version, 0));
    }
    for (place, part) in text.split('.').enumerate() {
        match part {
            "x" | "X" | "*" => break,
            digits => *version.get_mut(place)? = digits.parse().ok()?,
        }
        given = place + 1;
    }
    Some((version, given))
}

fn exact(version: &str) -> Option<Version> {
    parts(version).filter(|(_, given)| *given == 3).map(|(version, _)| version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_npm_reads_them() {
        for (range, inside, outside) in [
            (">=18", &["18.0.0", "20.20.2"][..], &["17.9.9"][..]),
            ("20.x", &["20.0.0", "20.20.2"], &["21.0.0", "19.9.9"]),
            ("20", &["20.20.2"], &["22.0.0"]),
            ("v20.20.2", &["20.20.2"], &["20.20.1"]),
            ("^20.9.0 || >=22.0.0", &["20.20.2", "24.1.0"], &["20.8.0", "21.0.0"]),
            ("~20.9", &["20.9.4"], &["20.10.0"]),
            (">=18 <21", &["20.20.2"], &["21.0.0"]),
            (">= 18.0.0 < 21", &["20.20.2"], &["17.0.0"]),
            ("18 - 20", &["20.20.2"], &["21.0.0"]),
            ("^0.2.3", &["0.2.9"], &["0.3.0"]),
            ("^0.0.3", &["0.0.3"], &["0.0.4"]),
            ("<=20", &["20.20.2"], &["21.0.0"]),
            (">20", &["21.0.0"], &["20.20.2"]),
            ("*", &["1.0.0"], &[]),
            ("", &["1.0.0"], &[]),
        ] {
            for version in inside {
                assert_eq!(allows(range, version), Some(true), "{version} in {range}");
            }
            for version in outside {
                assert_eq!(allows(range, version), Some(false), "{version} in {range}");
            }
        }
        for range in ["lts/*", "lts/iron", "node", ">=a", "1.2.3.4", "99999999999999999999999"] {
            assert_eq!(allows(range, "20.20.2"), None, "{range}");
        }
    }

    #[test]
    fn names_of_long_term_releases_stand_for_their_versions() {
        assert_eq!(of_name("lts/Iron"), Some("20"));
        for name in ["lts/*", "lts/-1", "node", "20", "iron"] {
            assert_eq!(of_name(name), None, "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_range_makes_it_panic(range in "[0-9v.x*<>=~^| -]{0,40}|\\PC{0,20}", version in "[0-9.]{0,12}") {
            let _ = allows(&range, &version);
        }
    }
}
