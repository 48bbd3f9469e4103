//! gRPC's names, from the path (gRPC over HTTP/2, "Path").

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

/// Whether a request says that it is gRPC, by any of its Content-Types: servers differ in which they take.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    const BEGIN: &[u8] = b"application/grpc";
    let begins =
        |value: &[u8]| value.get(..BEGIN.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(BEGIN));
    headers.get_all(CONTENT_TYPE).iter().any(|value| begins(value.as_bytes()))
}

/// `/package.Service/Method`; `None` for any other path or protocol.
pub fn grpc(protocol: &str, path: &str) -> Option<Value> {
    if protocol != "grpc" {
        return None;
    }
    let (service, method) = path.strip_prefix('/')?.rsplit_once('/')?;
    let word = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    (word(service, "._-/") && word(method, "_")).then(|| json!({"service": service, "method": method}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let read = grpc("grpc", "/helloworld.v1.Greeter/SayHello").expect("gRPC");
        assert_eq!(read, json!({"service": "helloworld.v1.Greeter", "method": "SayHello"}));
        for (protocol, path) in [
            ("h2", "/a.B/C"),
            ("grpc", "/a.B"),
            ("grpc", "/a.B/"),
            ("grpc", "//C"),
            ("grpc", "/a.B/%43"),
            ("grpc", "a/b"),
        ] {
            assert_eq!(grpc(protocol, path), None, "{protocol} {path}");
        }
    }
}
