//! Addresses, revisions and directories, as tables.

use super::*;

const PUBLIC: Allowed = Allowed { local_repositories: false, private_networks: false };
const OPEN: Allowed = Allowed { local_repositories: true, private_networks: true };

#[test]
fn ordinary_addresses_are_taken_as_they_are() {
    for (given, text, transport) in [
        ("https://github.com/a/b", "https://github.com/a/b", "https"),
        ("https://GitHub.com/a/b.git", "https://github.com/a/b.git", "https"),
        ("  https://gitlab.example.org:8443/g/s/p/  ", "https://gitlab.example.org:8443/g/s/p/", "https"),
        ("HTTPS://github.com/a/b", "https://github.com/a/b", "https"),
        ("https://b\u{fc}cher.example/a/b", "https://xn--bcher-kva.example/a/b", "https"),
        ("ssh://git@github.com/a/b.git", "ssh://git@github.com/a/b.git", "ssh"),
        ("ssh://git@host.example:2222/~me/b", "ssh://git@host.example:2222/~me/b", "ssh"),
        ("git@github.com:a/b.git", "git@github.com:a/b.git", "ssh"),
        ("github.com:a/b", "github.com:a/b", "ssh"),
    ] {
        let address = Address::parse(given, PUBLIC).unwrap();
        assert_eq!((address.text.as_str(), address.transport.protocol()), (text, transport), "{given}");
    }
}

#[test]
fn what_an_operator_allows_is_taken() {
    for (given, text, transport) in [
        ("/srv/git/app", "/srv/git/app", "file"),
        ("file:///srv/git/app", "/srv/git/app", "file"),
        ("http://git.lab/a/b", "http://git.lab/a/b", "http"),
        ("https://10.0.0.7/a/b", "https://10.0.0.7/a/b", "https"),
        ("git@[fd00::7]:a/b", "", ""),
        ("ssh://git@[fd00::7]:22/a/b", "ssh://git@[fd00::7]:22/a/b", "ssh"),
    ] {
        match Address::parse(given, OPEN) {
            Ok(address) => {
                assert_eq!((address.text.as_str(), address.transport.protocol()), (text, transport))
            }
            Err(refused) => assert_eq!(text, "", "{given}: {refused}"),
        }
    }
}

/// Addresses that lead somewhere else than they seem to, or nowhere good.
const HOSTILE: [&str; 83] = [
    "",
    " ",
    "-",
    "--upload-pack=touch /tmp/x",
    "-oProxyCommand=touch /tmp/x",
    "-u./payload",
    "ext::sh -c touch% /tmp/x",
    "ext::sh",
    "fd::17",
    "fd::17/foo",
    "transport::https://github.com/a/b",
    "EXT::sh",
    "ftp://host.example/a/b",
    "ftps://host.example/a/b",
    "git://host.example/a/b",
    "rsync://host.example/a/b",
    "svn+ssh://host.example/a/b",
    "git+ssh://host.example/a/b",
    "ssh+git://host.example/a/b",
    "javascript://host.example/a/b",
    "file:///etc",
    "FILE:///etc",
    "file://host/share",
    "/etc",
    "/",
    "./repository",
    "../repository",
    "~/repository",
    "~root/repository",
    "repository",
    "a/b",
    "C:\\repository",
    "\\\\host\\share",
    "http://github.com/a/b",
    "http://127.0.0.1/a/b",
    "https://",
    "https:///a/b",
    "https://github.com",
    "https://github.com/",
    "https://github.com//",
    "https://github.com/a/b?x=1",
    "https://github.com/a/b#frag",
    "https://user@github.com/a/b",
    "https://user:password@github.com/a/b",
    "https://:password@github.com/a/b",
    "https://@github.com/a/b",
    "https://github.com@127.0.0.1/a/b",
    "https://github.com:x@127.0.0.1/a/b",
    "https://github.com\\@127.0.0.1/a/b",
    "https://github.com%00.evil.example/a/b",
    "https://git hub.com/a/b",
    "https://github.com/a/b\n--upload-pack=x",
    "https://github.com/a\tb",
    "https://github.com/a/b\0",
    "https://localhost:99999/a/b",
    "https://-oProxyCommand=x/a",
    "https://127.0.0.1/a/b",
    "https://127.1/a/b",
    "https://2130706433/a/b",
    "https://0x7f000001/a/b",
    "https://0x7f.1/a/b",
    "https://0177.0.0.1/a/b",
    "https://0/a/b",
    "https://[::1]/a/b",
    "https://[::]/a/b",
    "https://[::ffff:127.0.0.1]/a/b",
    "https://[::ffff:7f00:1]/a/b",
    "https://[64:ff9b::7f00:1]/a/b",
    "https://[fe80::1]/a/b",
    "https://[fd00:ec2::254]/a/b",
    "https://[2002:7f00:1::]/a/b",
    "https://169.254.169.254/latest",
    "https://100.100.100.200/a/b",
    "https://10.1.2.3/a/b",
    "https://192.168.0.1/a/b",
    "https://\u{ff11}\u{ff12}\u{ff17}.0.0.1/a/b",
    "ssh://-oProxyCommand=touch/a",
    "ssh://-oProxyCommand=touch@host/a",
    "ssh://user@-oProxyCommand=touch/a",
    "ssh://user:password@host/a/b",
    "ssh://user@host/-oProxyCommand=x",
    "ssh://127.0.0.1/a/b",
    "ssh://user@host/a b;touch x",
];

const HOSTILE_SCP: [&str; 11] = [
    "-oProxyCommand=x:a/b",
    "user@-host:a",
    "-u@host:a",
    "git@127.0.0.1:a/b",
    "git@[::1]:a/b",
    "git@host:",
    "git@host:-x",
    "git@host:a;b",
    "git@host:$(x)",
    "us er@host:a",
    "@host:a",
];

#[test]
fn hostile_addresses_are_refused_with_what_was_given_and_what_is_allowed() {
    for given in HOSTILE.into_iter().chain(HOSTILE_SCP) {
        let refused = match Address::parse(given, PUBLIC) {
            Ok(address) => panic!("{given:?} was taken as {address:?}"),
            Err(refused) => refused.to_string(),
        };
        assert!(!refused.chars().any(char::is_control), "{refused:?}");
        assert!(!refused.contains("password@"), "{refused}");
        let tells = refused.contains("https://host/path") || refused.contains("give the address without");
        assert!(tells, "{given:?}: {refused}");
    }
}

#[test]
fn long_addresses_are_refused() {
    let refused = Address::parse(&format!("https://github.com/{}", "a".repeat(3000)), PUBLIC).unwrap_err();
    assert!(refused.to_string().contains("2048"), "{refused}");
}

#[test]
fn addresses_of_the_public_internet_are_told_from_all_others() {
    for public in ["140.82.121.3", "8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001:82a::200e"] {
        assert!(is_public(public.parse().unwrap()), "{public}");
    }
    for other in [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.1",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "203.0.113.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:808:808::1",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "ff02::1",
        "4000::1",
    ] {
        assert!(!is_public(other.parse().unwrap()), "{other}");
    }
}

#[test]
fn revisions_cannot_be_options_or_expressions() {
    for fine in [
        "main",
        "feature/x-1",
        "v1.0.2",
        "refs/tags/v1",
        "2023.01",
        "a1b2c3d",
        "release_2",
        "dependabot/npm@4",
        "\u{fc}ml\u{e4}ut",
    ] {
        assert_eq!(revision(fine).unwrap(), fine);
    }
    let long = "a".repeat(300);
    for wrong in [
        "-x",
        "--upload-pack=x",
        "a..b",
        "main~1",
        "main^",
        "main:path",
        "a b",
        "x\n",
        "@{-1}",
        "a?",
        "a*",
        "[a]",
        "a\\b",
        "/a",
        "a/",
        "a//b",
        ".hidden",
        "x.lock",
        "x.",
        "$(x)",
        "`x`",
        "a;b",
        &long,
    ] {
        assert!(revision(wrong).is_err(), "{wrong:?} was accepted");
    }
}

#[test]
fn directories_are_beneath_the_root_and_without_detours() {
    for (given, expected) in [
        ("", ""),
        (".", ""),
        ("./", ""),
        ("a", "a"),
        ("a/b/", "a/b"),
        ("./a//b", "a/b"),
        ("a b", "a b"),
        ("-x", "-x"),
    ] {
        assert_eq!(directory(given).unwrap(), expected);
    }
    let long = "a/".repeat(2048);
    for wrong in [
        "..",
        "a/..",
        "../a",
        "a/../../b",
        "/a",
        "/",
        "a\\..\\b",
        "a\0b",
        "a\nb",
        ".git",
        "a/.GIT/b",
        "a:b",
        &long,
    ] {
        let refused = directory(wrong).unwrap_err().to_string();
        assert!(!refused.chars().any(char::is_control), "{refused:?}");
    }
}

#[test]
fn a_source_is_checked_as_a_whole() {
    let source = |repository: &str, revision: Option<&str>, dir: Option<&str>| Source {
        repository: repository.into(),
        revision: revision.map(str::to_owned),
        context_dir: dir.map(str::to_owned),
    };
    check(&source("https://github.com/a/b", Some(""), Some("")), PUBLIC).unwrap();
    check(&source("https://github.com/a/b", Some("--x"), None), PUBLIC).unwrap_err();
    check(&source("https://github.com/a/b", None, Some("..")), PUBLIC).unwrap_err();
}
