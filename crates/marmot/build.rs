//! Fetches what the pages load in a browser from npm, and lays it out to be embedded, named by its content.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use sha2::{Digest, Sha256};

/// What a browser is sent: its name, the files it is made of, its content type.
const ASSETS: &[(&str, &[&str], &str)] = &[
    // First, since the style sheet names it.
    (
        "figtree.woff2",
        &["node_modules/@fontsource-variable/figtree/files/figtree-latin-wght-normal.woff2"],
        "font/woff2",
    ),
    (
        "marmot.css",
        &["css/tokens.css", "css/base.css", "css/components.css", "css/pages.css"],
        "text/css; charset=utf-8",
    ),
    (
        "marmot.js",
        &[
            "node_modules/htmx.org/dist/htmx.min.js",
            "node_modules/idiomorph/dist/idiomorph.min.js",
            "node_modules/htmx-ext-sse/sse.js",
            "marmot.js",
            "doing.js",
        ],
        "text/javascript; charset=utf-8",
    ),
    ("icons.svg", &["icons.svg"], "image/svg+xml"),
    ("mark.svg", &["mark.svg"], "image/svg+xml"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for watched in ["package.json", "package-lock.json", "assets"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    if let Err(why) = run() {
        println!("cargo::error={why}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("web");
    fs::create_dir_all(&out).map_err(|why| format!("cannot create {}: {why}", out.display()))?;
    fetch_packages(&root, &out)?;
    embed(&root, &out)
}

/// Puts the packages of the lock file below `out`, unless those of this very lock file are there.
fn fetch_packages(root: &Path, out: &Path) -> Result<(), String> {
    let stamp = out.join("fetched-package-lock.json");
    let lock = read(&root.join("package-lock.json"))?;
    if fs::read(&stamp).is_ok_and(|fetched| fetched == lock) {
        return Ok(());
    }
    write(&out.join("package-lock.json"), &lock)?;
    write(&out.join("package.json"), &read(&root.join("package.json"))?)?;
    // No scripts: a package is files to embed, not a program to run.
    let npm = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(out)
        .output()
        .map_err(|why| {
            format!("the pages need a few packages from npm, but `npm` cannot be run ({why}): install Node.js 18 or newer with npm")
        })?;
    if !npm.status.success() {
        let said = String::from_utf8_lossy(&npm.stderr);
        return Err(format!("`npm ci` in {} failed: {}", out.display(), said.trim().replace('\n', " | ")));
    }
    // Last, so that an interrupted fetch is done again.
    write(&stamp, &lock)
}

/// Writes each asset under a name that changes with its content, its compressed twin, and the table of them.
fn embed(root: &Path, out: &Path) -> Result<(), String> {
    let mut table = String::from("static ASSETS: &[Asset] = &[\n");
    let mut constants = String::new();
    let mut font = String::new();
    for (name, parts, content_type) in ASSETS {
        let mut bytes = Vec::new();
        for part in *parts {
            let dir = if part.starts_with("node_modules/") { out.to_owned() } else { root.join("assets") };
            bytes.extend(read(&dir.join(part))?);
            // A script that ends without a semicolon would call the next one.
            match *name {
                "marmot.js" => bytes.extend(b"\n;\n"),
                _ if parts.len() > 1 => bytes.push(b'\n'),
                _ => {}
            }
        }
        if name.ends_with(".css") {
            bytes = String::from_utf8_lossy(&bytes).replace("figtree.woff2", &font).into_bytes();
        }
        let (stem, extension) = name.split_once('.').ok_or("assets have an extension")?;
        let digest = Sha256::digest(&bytes);
        let hash = digest.iter().take(6).fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let hashed = format!("{stem}.{hash}.{extension}");
        let file = out.join(name);
        write(&file, &bytes)?;
        let brotli = if *extension == *"woff2" {
            "None".to_owned()
        } else {
            format!("Some(include_bytes!({:?}))", compress(&file)?)
        };
        let _ = writeln!(
            table,
            "    Asset {{ file: {hashed:?}, content_type: {content_type:?}, bytes: include_bytes!({file:?}), brotli: {brotli} }},"
        );
        let constant = name.replace('.', "_").to_uppercase();
        let _ = writeln!(
            constants,
            "/// Where a browser finds `{name}`.\npub(super) const {constant}: &str = \"/assets/{hashed}\";"
        );
        if name.ends_with(".woff2") {
            font = hashed;
        }
    }
    table.push_str("];\n");
    write(&out.join("assets.rs"), (table + &constants).as_bytes())
}

/// Compresses a file with the compressor that comes with Node.js, which is here anyway; says where the result is.
fn compress(file: &Path) -> Result<PathBuf, String> {
    let compressed = PathBuf::from(format!("{}.br", file.display()));
    let script = "const [from, to] = process.argv.slice(1), fs = require('fs'); \
                  fs.writeFileSync(to, require('zlib').brotliCompressSync(fs.readFileSync(from)));";
    let status = Command::new("node").args(["-e", script]).arg(file).arg(&compressed).status();
    match status {
        Ok(status) if status.success() => Ok(compressed),
        Ok(status) => Err(format!("`node` could not compress {}: {status}", file.display())),
        Err(why) => Err(format!("`node` cannot be run ({why}): install Node.js 18 or newer")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|why| format!("cannot read {}: {why}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|why| format!("cannot write {}: {why}", path.display()))
}
