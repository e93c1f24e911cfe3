//! Style sheet, script, font and pictures: embedded in the binary, named by their content, kept by browsers for good.

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

struct Asset {
    file: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    brotli: Option<&'static [u8]>,
}

// Written by build.rs: `ASSETS`, and a constant with the path of each of them.
include!(concat!(env!("OUT_DIR"), "/web/assets.rs"));

/// Answers `/assets/{file}`.
pub(super) async fn serve(Path(file): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.file == file) else {
        return (StatusCode::NOT_FOUND, "There is no such file.").into_response();
    };
    let accepts_brotli =
        headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).is_some_and(|value| {
            value.split(',').any(|coding| coding.split(';').next().map(str::trim) == Some("br"))
        });
    let common = [
        (header::CONTENT_TYPE, asset.content_type),
        // Another content has another name.
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::VARY, "accept-encoding"),
    ];
    match asset.brotli {
        Some(compressed) if accepts_brotli => {
            (common, [(header::CONTENT_ENCODING, "br")], compressed).into_response()
        }
        _ => (common, asset.bytes).into_response(),
    }
}
