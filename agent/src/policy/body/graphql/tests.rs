//! Documents and requests of every kind, and what is not read.

use super::*;

fn asked(document: &str, name: Option<&str>) -> Result<Value, &'static str> {
    read(document, name)
}

#[test]
fn documents() {
    let q = |names: &[&str]| json!({"type": "query", "names": names});
    for (document, name, want) in [
        ("{ me { id } }", None, q(&["me"])),
        ("query { a: me(id: \"}{\") @include(if: $x) { id } , viewer }", None, q(&["me", "viewer"])),
        ("# mutation\n{ x(t: \"\"\"a \\\"\"\" } b\"\"\") }", None, q(&["x"])),
        (
            "mutation Del($id: ID! = {a: [1]}) @d(x: 1) { deleteRepository(input: {id: $id}) { id } }",
            None,
            json!({"type": "mutation", "operation": "Del", "names": ["deleteRepository"]}),
        ),
        (
            "query A { a } mutation B { b }",
            Some("B"),
            json!({"type": "mutation", "operation": "B", "names": ["b"]}),
        ),
        ("subscription S { s }", None, json!({"type": "subscription", "operation": "S", "names": ["s"]})),
        (
            "query { ...F ... on Query { x } ... @skip(if: false) { y } ...F } fragment F on Query { f ...G } fragment G on Query { g }",
            None,
            q(&["f", "g", "x", "y"]),
        ),
        ("query { ...F } fragment F on Q { a ...F }", None, q(&["a"])),
    ] {
        assert_eq!(asked(document, name), Ok(want), "{document}");
    }
    for (document, name) in [
        ("", None),
        ("query A { a } query B { b }", None),
        ("query A { a } query A { b }", Some("A")),
        ("query A { a }", Some("B")),
        ("{ a", None),
        ("{ a } }", None),
        ("{ a(x: [1) }", None),
        ("{ ...F }", None),
        ("type Q { a: Int }", None),
        ("{ a(x: \") }", None),
        ("{ a \u{e9} }", None),
        ("query", None),
        ("{ ...F } fragment F on Q { a } fragment F on Q { b }", None),
    ] {
        assert!(asked(document, name).is_err(), "{document}");
    }
}

#[test]
fn hostile_documents_end_soon() {
    let before = std::time::Instant::now();
    for document in [
        "{".repeat(1_000_000),
        "{ ...on Q ".repeat(100_000),
        format!("{{ a {}", "(".repeat(90_000)),
        "{a}".repeat(90_000),
        (0..5_000)
            .fold("{ ...F0 }".to_owned(), |all, n| all + &format!(" fragment F{n} on Q {{ ...F{} }}", n + 1)),
        format!("{{ {} }}", "a{b}".repeat(20_000)),
    ] {
        let _ = asked(&document, None);
    }
    assert!(before.elapsed() < std::time::Duration::from_secs(20), "{:?}", before.elapsed());
}

fn request(query: Option<&str>, kind: Option<&'static str>, body: &str) -> View {
    let mut headers = HeaderMap::new();
    if let Some(kind) = kind {
        headers.insert("content-type", http::HeaderValue::from_static(kind));
    }
    let json = super::super::json(body.as_bytes());
    graphql(query, &headers, body.as_bytes(), || json.as_ref().map(Some).map_err(Clone::clone))
}

#[test]
fn requests() {
    let me = Some(json!({"type": "query", "names": ["me"]}));
    let json = Some("application/json");
    assert_eq!(request(Some("query=%7Bme%7D&operationName="), None, "").expect("GET"), me);
    assert_eq!(request(None, json, r#"{"query": "{me}", "operationName": null}"#).expect("POST"), me);
    assert_eq!(request(None, Some("application/graphql"), "{me}").expect("document"), me);
    assert_eq!(request(None, Some("application/x-www-form-urlencoded"), "query=%7Bme%7D").expect("form"), me);
    let upload =
        "--x\r\nContent-Disposition: form-data; name=\"operations\"\r\n\r\n{\"query\":\"{me}\"}\r\n--x--";
    assert_eq!(request(None, Some("multipart/form-data; boundary=x"), upload).expect("upload"), me);
    assert_eq!(request(None, json, r#"{"model": "x"}"#).expect("JSON"), None);
    assert_eq!(request(Some("a=b"), None, "").expect("GET"), None);
    for (query, kind, body) in [
        (Some("query={me}"), json, r#"{"query": "mutation { x }"}"#),
        (Some("operationName=A"), json, r#"{"query": "query A {a} mutation B {b}"}"#),
        (Some("query={a}&query={b}"), None, ""),
        (None, json, r#"[{"query": "{me}"}, {"query": "mutation {x}"}]"#),
        (None, json, r#"{"extensions": {"persistedQuery": {"sha256Hash": "x"}}}"#),
        (None, json, r#"{"query": ["{me}"]}"#),
        (None, json, "no json"),
        (None, Some("application/x-www-form-urlencoded"), "query={a}&query={b}"),
    ] {
        assert!(request(query, kind, body).is_err(), "{query:?} {body}");
    }
}
