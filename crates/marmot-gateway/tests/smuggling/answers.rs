//! What each case is answered, here and by nginx and HAProxy, as `answers.tsv` has it: one case a line, with its bytes.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::{Outcome, Verdict};

/// What nginx refuses and is passed on here, by a part of its bytes, and why that is right.
const PASSED_ON: &[(&str, &str)] = &[
    (
        r"Content-Length:\t3",
        "a tab is whitespace around a value (RFC 9110, 5.5), and the head is written anew",
    ),
    (r"Transfer-Encoding:\tchunked \t\r", "the same"),
    (r"Transfer-Encoding: \tchunked\r", "the same"),
    (r"Transfer-Encoding: chunked\t\r", "the same"),
    (
        "GET /%00 ",
        "what is percent-encoded is for the app, which gets it as it was sent; nothing is decided by it here",
    ),
    ("GET /%2e%2e/case ", "the same"),
    ("OPTIONS * ", "asks the server as a whole (RFC 9110, 9.3.7), which is the app"),
];

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/smuggling/answers.tsv")
}

/// `rejected 400`; without an answer, `rejected -`.
fn said(verdict: &Verdict) -> String {
    let status = verdict.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    format!("{:?} {status}", verdict.outcome).to_lowercase()
}

/// Writes the file anew.
pub(crate) fn record(ours: &[Verdict], nginx: &[Verdict], haproxy: &[Verdict]) {
    let by_case = |verdicts: &[Verdict]| {
        verdicts.iter().map(|verdict| (verdict.case.name.clone(), said(verdict))).collect::<HashMap<_, _>>()
    };
    let (nginx, haproxy) = (by_case(nginx), by_case(haproxy));
    let mut lines: Vec<String> = ours
        .iter()
        .map(|verdict| {
            let (case, family, is) = (&verdict.case.name, verdict.case.family, verdict.case.is);
            let is = format!("{is:?}").to_lowercase();
            format!("{family}\t{is}\t{}\t{}\t{}\t{case}\n", said(verdict), nginx[case], haproxy[case])
        })
        .collect();
    lines.sort();
    let mut text = String::from("family\tby the standards\tMarmot\tnginx\tHAProxy\tbytes\n");
    lines.iter().for_each(|line| text.write_str(line).unwrap());
    std::fs::write(file(), text).unwrap();
}

/// What is wrong with these verdicts, by what is written down.
pub(crate) fn differences(ours: &[Verdict]) -> Vec<String> {
    let text = std::fs::read_to_string(file()).unwrap();
    let known: HashMap<&str, (&str, &str)> = text
        .lines()
        .skip(1)
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            let [_, _, ours, nginx, _, case] = columns[..] else { panic!("{line}") };
            (case, (ours, nginx))
        })
        .collect();
    let (mut wrong, mut seen) = (Vec::new(), HashSet::new());
    for verdict in ours {
        let case = &verdict.case.name;
        let Some((written, nginx)) = known.get(case.as_str()) else {
            wrong.push(format!("is not written down: {case}"));
            continue;
        };
        seen.insert(case.as_str());
        // An end of the connection may come before the answer is read.
        if written.split(' ').next() != said(verdict).split(' ').next() {
            wrong.push(format!("was {written}, and is {}: {case}", said(verdict)));
        }
        let passes = matches!(verdict.outcome, Outcome::Clean | Outcome::Lenient);
        if passes && nginx.starts_with("rejected") && !PASSED_ON.iter().any(|(part, _)| case.contains(*part))
        {
            wrong.push(format!("nginx refuses it ({nginx}), and it is passed on: {case}"));
        }
    }
    let gone = known.keys().filter(|case| !seen.contains(*case));
    wrong.extend(gone.map(|case| format!("is no case any more: {case}")));
    wrong
}
