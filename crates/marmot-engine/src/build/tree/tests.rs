//! What is refused before it is checked out, and what is not.

use super::*;

fn listing(records: &[(&str, &str, u64, &str)]) -> Vec<u8> {
    let record = |(mode, kind, size, path): &(&str, &str, u64, &str)| {
        format!("{mode} {kind} {} {size:>7}\t{path}\0", "a".repeat(40))
    };
    records.iter().map(record).collect::<String>().into_bytes()
}

fn read(records: &[(&str, &str, u64, &str)]) -> Result<Vec<Entry>, String> {
    let limits = BuildLimits { code_bytes: 1000, code_entries: 3, ..BuildLimits::default() };
    read_listing(&listing(records)[..], &limits).map_err(|refused| refused.to_string())
}

#[test]
fn files_links_and_submodules_are_told_apart() {
    let records = [
        ("100644", "blob", 5, "a b/c\u{e9}.py"),
        ("100755", "blob", 6, "run"),
        ("120000", "blob", 3, "link"),
    ];
    let kinds: Vec<_> = read(&records).unwrap().iter().map(|entry| (entry.kind, entry.size)).collect();
    assert_eq!(kinds, [(Kind::File, 5), (Kind::Executable, 6), (Kind::Link, 3)]);
    let submodule =
        read_listing(&b"160000 commit aaaa       -\tvendor/x\0"[..], &BuildLimits::default()).unwrap();
    assert_eq!(submodules(&submodule).into_iter().collect::<Vec<_>>(), ["vendor/x"]);
}

#[test]
fn size_and_number_are_bounded_and_named() {
    let large = read(&[("100644", "blob", 600, "a"), ("100644", "blob", 600, "b")]).unwrap_err();
    assert!(large.contains("larger than"), "{large}");
    let many = ["a", "b", "c", "d"].map(|path| ("100644", "blob", 0, path));
    assert!(read(&many).unwrap_err().contains("more than 3 files"));
}

#[test]
fn a_listing_without_end_is_left_after_the_first_thing_too_much() {
    // 2^63 bytes of the same record: reading them all would take forever.
    let record = listing(&[("100644", "blob", 0, "again")]);
    let endless = std::io::BufReader::new(Endless { record, at: 0 });
    let refused = read_listing(endless, &BuildLimits::default()).unwrap_err();
    assert!(matches!(refused, TreeRefused::TooMany(50_000)), "{refused}");
}

struct Endless {
    record: Vec<u8>,
    at: usize,
}

impl io::Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        for byte in into.iter_mut() {
            *byte = self.record[self.at];
            self.at = (self.at + 1) % self.record.len();
        }
        Ok(into.len())
    }
}

#[test]
fn paths_that_could_be_something_else_are_refused() {
    let long = "x".repeat(256);
    let longer = "d/".repeat(3000) + "x";
    let deep = "d/".repeat(100) + "x";
    for path in [
        ".git/config",
        ".GIT/hooks/post-checkout",
        "a/.git",
        ".g\u{200c}it/config",
        "GIT~1/config",
        ".git./x",
        ".git /x",
        ".git::$INDEX_ALLOCATION/x",
        ".git\\x",
        "../x",
        "a/../b",
        "a//b",
        "/etc/passwd",
        "./x",
        "",
        "a\nb",
        "a\u{1b}[31mb",
        "photo\u{202e}gpj.exe",
        &long,
        &longer,
        &deep,
    ] {
        assert!(read(&[("100644", "blob", 1, path)]).is_err(), "{path:?} was accepted");
    }
    for path in
        [".gitignore", ".github/workflows/ci.yml", ".gitattributes", "a..b", "...", "git", "d\u{fc}/\u{65e5}"]
    {
        assert!(read(&[("100644", "blob", 1, path)]).is_ok(), "{path:?} was refused");
    }
    assert!(read_listing(&b"100644 blob aa 1\t\xff\xfe\0"[..], &BuildLimits::default()).is_err());
    assert!(read_listing(&b"nonsense\0"[..], &BuildLimits::default()).is_err());
}

fn links(pairs: &[(&str, &str)]) -> Result<(), TreeRefused> {
    check_links(&pairs.iter().map(|&(link, target)| (link.to_owned(), target.to_owned())).collect())
}

#[test]
fn links_may_lead_anywhere_inside() {
    links(&[("a/b/link", "../../data/x"), ("here", "."), ("top", "a/.."), ("nowhere", "missing/file")])
        .unwrap();
    links(&[("current", "releases/2"), ("logo.png", "current/logo.png")]).unwrap();
}

#[test]
fn links_that_leave_are_refused_whatever_their_detour() {
    for leaving in [
        &[("passwd", "/etc/passwd")][..],
        &[("up", "..")],
        &[("a/up", "../../etc")],
        &[("a/b", "")],
        // Cleaned lexically, `deep/er/link/../../..` is the root; followed, it is above.
        &[("deep/er/flat", "../../z"), ("out", "deep/er/flat/../../..")],
        &[("a", "b/x"), ("b", "c"), ("c", "/")],
        &[("ring", "gnir"), ("gnir", "ring")],
    ] {
        assert!(links(leaving).is_err(), "{leaving:?} was accepted");
    }
}
