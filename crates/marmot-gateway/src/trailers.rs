//! What a message may still say once its body is complete.

use http::header::{self, HeaderMap, HeaderName};

use crate::headers::{remove_claims, remove_hop_by_hop};

/// What has to be known at the beginning (RFC 9110, section 6.5.1): how the message is framed, whom it is for, who sent
/// it, what is in it. A server that joins these fields with those of the head would act on them after all.
const TOO_LATE: [HeaderName; 15] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::TRAILER,
    header::AUTHORIZATION,
    header::COOKIE,
    header::SET_COOKIE,
    header::EXPECT,
    header::RANGE,
    header::CACHE_CONTROL,
    header::AGE,
    header::VIA,
    header::LOCATION,
];

/// Of a request on its way to an app.
pub(crate) fn of_request(trailers: &mut HeaderMap) {
    remove_claims(trailers);
    of_answer(trailers);
}

/// Of an app's answer.
pub(crate) fn of_answer(trailers: &mut HeaderMap) {
    remove_hop_by_hop(trailers);
    for name in &TOO_LATE {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_late_is_left_out() {
        let names =
            ["content-length", "host", "cookie", "x-forwarded-for", "x_marmot_user", "transfer-encoding"];
        let mut trailers = HeaderMap::new();
        for name in names.into_iter().chain(["grpc-status", "server-timing"]) {
            trailers.append(name, http::HeaderValue::from_static("1"));
        }
        let mut of_app = trailers.clone();
        of_request(&mut trailers);
        of_answer(&mut of_app);
        let left = |trailers: &HeaderMap| {
            let mut left: Vec<_> = trailers.keys().map(|name| name.as_str().to_owned()).collect();
            left.sort_unstable();
            left
        };
        assert_eq!(left(&trailers), ["grpc-status", "server-timing"]);
        assert_eq!(left(&of_app), ["grpc-status", "server-timing", "x-forwarded-for", "x_marmot_user"]);
    }
}
