//! The API against its own document, by generated requests: `schemathesis`, as an administrator, as a person, and as nobody.
//!
//! No answer is a failure of the server, or one that the document does not name; each fits its schema; requests that the
//! document forbids are refused, and methods that it does not have answer 405.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::harness::Server;

/// More finds more, and takes longer: CI has the coverage of every parameter, and a few examples of everything.
const EXAMPLES: &str = "3";

#[tokio::test]
async fn generated_requests_are_answered_as_the_document_says() {
    let Some(program) = find("schemathesis") else {
        assert!(std::env::var_os("CI").is_none(), "`cargo xtask setup` installs schemathesis");
        eprintln!("skipped: schemathesis is not installed");
        return;
    };
    let server = Server::start(&[]).await;
    server.admin(&["create-user", "root", "--admin"], "");
    server.admin(&["create-user", "ada"], "");
    let root = server.admin(&["create-token", "root"], "");
    let ada = server.admin(&["create-token", "ada"], "");
    let runs = [
        ("an administrator", Some(root), "coverage,stateful"),
        ("a person", Some(ada), "fuzzing,stateful"),
        ("nobody", None, "fuzzing"),
    ];
    for (who, token, phases) in runs {
        let output =
            schemathesis(&program, &server.url, token.as_deref(), phases).output().await.expect("output");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "as {who}:\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("generated,"), "as {who}: no case was generated:\n{said}");
    }
}

fn schemathesis(program: &Path, url: &str, token: Option<&str>, phases: &str) -> Command {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/contract/schemathesis.toml");
    let api = format!("{url}/api/data");
    let mut command = Command::new(program);
    command.args(["--config-file", config, "run", &format!("{api}/spec.json"), "--url", &api]);
    command.args(["--phases", phases, "--max-examples", EXAMPLES, "--no-color", "--warnings", "off"]);
    // Whoever asks must be known until the end; and a log that is followed has none.
    command.args([
        "--exclude-path-regex",
        "^/user/(tokens|sessions)/",
        "--exclude-path",
        "/apps/{name}/logs",
    ]);
    if let Some(token) = token {
        command.args(["--header", &format!("Authorization: Bearer {token}")]);
    }
    let somewhere_else = std::env::temp_dir();
    command.current_dir(somewhere_else).stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}
