//! Keeps the arrows between the modules of `marmot` true, by reading what each file uses.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("source folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Every line in `places` that holds one of `words`, as `file:line: text`.
fn lines_with(places: &[&str], words: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for file in sources(&root) {
        let name = file.strip_prefix(&root).expect("below the root").display().to_string();
        if !places.iter().any(|place| name.starts_with(place)) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("source file");
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| code.contains(word)) {
                found.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn only_db_names_the_database() {
    let elsewhere = ["api", "web", "service", "cli", "config", "lifecycle", "server", "main.rs", "demo"];
    assert_eq!(lines_with(&elsewhere, &["sqlx::", "use sqlx"]), [""; 0]);
}

#[test]
fn api_and_pages_call_only_the_service() {
    assert_eq!(
        lines_with(&["api", "web"], &["crate::db", "crate::lifecycle", "crate::server", "super::db"]),
        [""; 0]
    );
    assert_eq!(lines_with(&["api"], &["crate::web"]), [""; 0]);
    assert_eq!(lines_with(&["web"], &["crate::api"]), [""; 0]);
}

#[test]
fn the_service_knows_neither_handlers_nor_pages() {
    assert_eq!(
        lines_with(
            &["service", "db"],
            &["crate::api", "crate::web", "crate::server", "axum::", "crate::cli"]
        ),
        [""; 0]
    );
    assert_eq!(lines_with(&["db"], &["crate::service"]), [""; 0]);
}

/// Rust's `forbid` cannot be taken back further down, so a crate with the workspace's lints has no `unsafe`.
#[test]
fn one_function_of_one_crate_is_unsafe() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crates' directory");
    let root = fs::read_to_string(crates.parent().expect("the root").join("Cargo.toml")).expect("manifest");
    assert!(root.contains("unsafe_code = \"forbid\""));
    for entry in fs::read_dir(crates).expect("the crates' directory") {
        let path = entry.expect("entry").path();
        let manifest = fs::read_to_string(path.join("Cargo.toml")).expect("manifest");
        let forbids = manifest.contains("[lints]\nworkspace = true");
        let uses: usize = sources(&path.join("src"))
            .iter()
            .map(|file| fs::read_to_string(file).expect("source file").matches("unsafe {").count())
            .sum();
        match path.file_name().and_then(|name| name.to_str()) {
            Some("marmot-madvise") => assert_eq!((forbids, uses), (false, 1)),
            name => assert!(forbids, "{name:?} does not take the workspace's lints"),
        }
    }
}
