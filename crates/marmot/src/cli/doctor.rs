//! `marmot doctor`: what this machine offers, what is missing, what that costs, and the commands to get it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use marmot_engine::capabilities::{self, Capabilities, Check, CheckState};
use marmot_gateway::Validity;
use serde_json::{Value, json};

use super::output::Output;
use crate::acme::Store;

/// Looks at the machine as `marmot serve` would, when the same user starts it, and changes nothing.
#[derive(Debug, Clone, Args)]
pub(super) struct Doctor {
    /// The server's data directory.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The server's settings.
    #[arg(long, value_name = "FILE", env = "MARMOT_CONFIG", hide_env = true)]
    config: Option<PathBuf>,
}

impl Doctor {
    pub(super) async fn run(&self, output: Output) -> anyhow::Result<()> {
        let mut found = capabilities::examine();
        found.checks.push(marmot_engine::container::check(&marmot_engine::Endpoint::Usual).await);
        found.checks.push(pictures(&std::env::var_os("PATH").unwrap_or_default()));
        let data_dir = super::admin::data_dir(self.config.clone(), self.data_dir.clone())?;
        found.checks.extend(certificates(&data_dir, Timestamp::now()));
        output.print(&as_json(&found), |_| as_text(&found.checks))
    }
}

/// Browsers that can take pictures, in the order in which they are looked for.
const BROWSERS: [&str; 2] = ["chromium", "google-chrome"];

/// Whether pictures of apps could be taken here. They are where the operator names a browser.
fn pictures(search_path: &OsStr) -> Check {
    let mut files = std::env::split_paths(search_path).flat_map(|dir| BROWSERS.map(|name| dir.join(name)));
    let (state, found, cost, commands) = match files.find(|file| file.is_file()) {
        Some(browser) => {
            let found = format!(
                "`thumbnails = \"{}\"` in the configuration takes them, where apps are confined.",
                browser.display()
            );
            (CheckState::Good, found, None, Vec::new())
        }
        None => {
            let cost = "The gallery shows the first letter of an app in the place of a picture.".to_owned();
            let commands = vec!["sudo apt-get install chromium".to_owned()];
            (CheckState::Reduced, "There is no Chromium.".to_owned(), Some(cost), commands)
        }
    };
    Check { name: "pictures of apps", state, found, cost, commands }
}

/// What an authority has issued for the server, and what it would not: one check for each authority.
fn certificates(data_dir: &Path, now: Timestamp) -> Vec<Check> {
    let check = |store: Store| {
        let kept = (|| anyhow::Ok((store.certificates()?, store.book()?)))();
        let (kept, book) = match kept {
            Ok(kept) => kept,
            Err(error) => return broken(&store, format!("{error:#}")),
        };
        let until = |pem: &[u8]| {
            let validity = Validity::of_pem(pem)?;
            Timestamp::from_second(validity.until).ok()
        };
        let ends: Vec<(&str, Option<Timestamp>)> =
            kept.iter().map(|(host, pem)| (host.as_str(), until(pem))).collect();
        let ended: Vec<&str> =
            ends.iter().filter(|(_, end)| end.is_none_or(|end| end <= now)).map(|(host, _)| *host).collect();
        let first = ends.iter().filter_map(|(host, end)| Some((end.filter(|end| *end > now)?, *host))).min();
        let mut said = format!("{} has issued {} certificates", store.name(), kept.len());
        if let Some((end, host)) = first {
            said.push_str(&format!("; the first that ends is for {host}, on {}", end.strftime("%Y-%m-%d")));
        }
        let mut problems: Vec<String> =
            ended.iter().map(|host| format!("that for {host} is good no more")).collect();
        problems
            .extend(book.trouble.iter().map(|trouble| format!("nothing could be ordered: {}", trouble.why)));
        problems.extend(
            book.failed.iter().map(|(host, failed)| format!("none could be had for {host}: {}", failed.why)),
        );
        let state = match (ended.is_empty(), problems.is_empty()) {
            (true, true) => CheckState::Good,
            (true, false) => CheckState::Reduced,
            (false, _) => CheckState::Missing,
        };
        let cost = (!problems.is_empty())
            .then(|| format!("Visitors are or will be warned, or cannot come: {}.", problems.join("; ")));
        Check { name: "certificates", state, found: format!("{said}."), cost, commands: Vec::new() }
    };
    Store::all(data_dir).into_iter().map(check).collect()
}

fn broken(store: &Store, why: String) -> Check {
    Check {
        name: "certificates",
        state: CheckState::Missing,
        found: format!("What {} has issued cannot be read: {why}.", store.name()),
        cost: Some("Certificates are ordered again.".to_owned()),
        commands: Vec::new(),
    }
}

fn state(state: CheckState) -> &'static str {
    match state {
        CheckState::Good => "good",
        CheckState::Reduced => "reduced",
        CheckState::Missing => "missing",
    }
}

fn as_json(found: &Capabilities) -> Value {
    let check = |check: &Check| {
        json!({
            "name": check.name,
            "state": state(check.state),
            "found": check.found,
            "cost": check.cost,
            "commands": check.commands,
        })
    };
    json!({
        "memory_bytes": found.memory_bytes,
        "swap_bytes": found.swap_bytes,
        "checks": found.checks.iter().map(check).collect::<Vec<_>>(),
    })
}

fn as_text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        text.push_str(&format!("{:<8}  {}: {}\n", state(check.state), check.name, check.found));
        if let Some(cost) = &check.cost {
            text.push_str(&format!("{:8}  {cost}\n", ""));
        }
        for (number, command) in check.commands.iter().enumerate() {
            let word = if number == 0 { "to get it" } else { "or" };
            text.push_str(&format!("{:8}  {word}: {command}\n", ""));
        }
    }
    let bad = checks.iter().filter(|check| check.state != CheckState::Good).count();
    text.push_str(&match bad {
        0 => "\nNothing is missing.".to_owned(),
        1 => "\n1 thing could be better.".to_owned(),
        _ => format!("\n{bad} things could be better."),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_for_pictures_is_found_on_the_path_or_how_to_get_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = std::env::join_paths([Path::new("/nowhere"), dir.path()]).unwrap();
        let without = pictures(&path);
        assert_eq!((without.state, without.commands.len()), (CheckState::Reduced, 1));
        std::fs::write(dir.path().join("chromium"), "").unwrap();
        let with = pictures(&path);
        assert_eq!((with.state, with.cost), (CheckState::Good, None));
        assert!(with.found.contains(dir.path().join("chromium").to_str().unwrap()), "{}", with.found);
    }

    #[test]
    fn certificates_that_end_and_hosts_that_got_none_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        assert_eq!(certificates(dir.path(), now).len(), 0);
        let kept = dir.path().join("acme/ca.test-dir/certificates");
        std::fs::create_dir_all(&kept).unwrap();
        let issue = |host: &str, year: i32| {
            let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 2);
            let key = rcgen::KeyPair::generate().unwrap();
            let pem = key.serialize_pem() + &params.self_signed(&key).unwrap().pem();
            std::fs::write(kept.join(format!("{host}.pem")), pem).unwrap();
        };
        issue("iris.test", 2028);
        issue("rose.test", 2027);
        insta::assert_snapshot!(as_text(&certificates(dir.path(), now)), @r"
        good      certificates: ca.test-dir has issued 2 certificates; the first that ends is for rose.test, on 2027-01-02.

        Nothing is missing.
        ");
        issue("late.test", 2026);
        let failed = r#"{"orders":[],"failed":{"new.test":{"times":1,"at":"2026-11-24T07:00:00Z","again_at":"2026-11-24T09:00:00Z","why":"no such host"}},"trouble":null}"#;
        std::fs::write(dir.path().join("acme/ca.test-dir/book.json"), failed).unwrap();
        insta::assert_snapshot!(as_text(&certificates(dir.path(), now)), @r"
        missing   certificates: ca.test-dir has issued 3 certificates; the first that ends is for rose.test, on 2027-01-02.
                  Visitors are or will be warned, or cannot come: that for late.test is good no more; none could be had for new.test: no such host.

        1 thing could be better.
        ");
        std::fs::write(dir.path().join("acme/ca.test-dir/book.json"), "{").unwrap();
        assert!(as_text(&certificates(dir.path(), now)).contains("is damaged"));
    }

    #[test]
    fn says_what_is_there_what_is_missing_what_it_costs_and_what_to_do() {
        let good = Check {
            name: "freezing",
            state: CheckState::Good,
            found: "Idle replicas are frozen by control groups.".to_owned(),
            cost: None,
            commands: Vec::new(),
        };
        let missing = Check {
            name: "swap",
            state: CheckState::Missing,
            found: "There is no swap.".to_owned(),
            cost: Some("A hibernated replica keeps its memory.".to_owned()),
            commands: vec!["swapon /swapfile".to_owned(), "swapon /dev/zram0".to_owned()],
        };
        insta::assert_snapshot!(as_text(&[good, missing]), @r"
        good      freezing: Idle replicas are frozen by control groups.
        missing   swap: There is no swap.
                  A hibernated replica keeps its memory.
                  to get it: swapon /swapfile
                  or: swapon /dev/zram0

        1 thing could be better.
        ");
    }
}
