//! What a file is, by its name: its type, and whether it ever changes.

use std::path::Path;

/// What is not known by its name: browsers download it.
pub(super) const UNKNOWN: &str = "application/octet-stream";

/// What browsers need to be told. Whatever is not listed is downloaded.
pub(super) fn content_type(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" | "cjs" => "text/javascript; charset=utf-8",
        "json" | "map" | "geojson" | "ipynb" => "application/json",
        "webmanifest" => "application/manifest+json",
        "xml" | "rss" | "atom" => "application/xml",
        "txt" | "md" | "log" | "yml" | "yaml" | "toml" | "bib" | "r" | "py" | "rmd" | "qmd" | "jsonl" => {
            "text/plain; charset=utf-8"
        }
        "csv" => "text/csv; charset=utf-8",
        "tsv" => "text/tab-separated-values; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "wasm" => "application/wasm",
        "xhtml" => "application/xhtml+xml",
        "gz" => "application/gzip",
        "zip" => "application/zip",
        "epub" => "application/epub+zip",
        "pdf" => "application/pdf",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "ogg" => "audio/ogg",
        "eot" => "application/vnd.ms-fontobject",
        _ => UNKNOWN,
    }
}

/// Whether a file is named after what is in it, as bundlers do: another content would have another name. Only where they
/// write to, since `report-20260101.pdf` looks alike.
pub(super) fn never_changes(path: &str) -> bool {
    const WHOLE: [&str; 4] = ["_app/immutable/", "_astro/", "_next/static/", "_nuxt/"];
    const MIXED: [&str; 4] = ["assets/", "static/js/", "static/css/", "static/media/"];
    let below = |dirs: &[&str]| dirs.iter().any(|dir| path.trim_start_matches('/').starts_with(dir));
    if !below(&WHOLE) && !below(&MIXED) {
        return false;
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let stem = name.strip_suffix(".map").unwrap_or(name).rsplit_once('.').map_or("", |(stem, _)| stem);
    // `index-BX3_a9Qz.js`, `main.4f3a2b1c.chunk.css`
    stem.split('.').any(|part| {
        is_hash(part) || part.char_indices().any(|(at, letter)| letter == '-' && is_hash(&part[at + 1..]))
    })
}

fn is_hash(text: &str) -> bool {
    let fits = (8..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let (mut digits, mut letters) = (0, 0);
    for byte in text.bytes() {
        digits += usize::from(byte.is_ascii_digit());
        letters += usize::from(byte.is_ascii_alphabetic());
    }
    fits && digits > 0 && letters > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_bundlers_name_after_its_content_never_changes() {
        for (path, expected) in [
            ("/assets/index-BX3_a9Qz.js", true),
            ("/assets/index-4f3a2b1c.css", true),
            ("/static/js/main.4f3a2b1c.chunk.js.map", true),
            ("/_next/static/chunks/main-4f3a2b1c9d.js", true),
            ("/assets/logo.png", false),
            ("/assets/report.pdf", false),
            ("/report-4f3a2b1c.pdf", false),
            ("/assets/index.html", false),
            ("/assets/", false),
        ] {
            assert_eq!(never_changes(path), expected, "{path}");
        }
    }
}
