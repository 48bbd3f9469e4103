//! `sluice show`, on what was recorded.

use crate::scene::{id, sluice};

fn shown(args: &[&str]) -> String {
    let ended = sluice(&[&["show"], args].concat());
    assert!(ended.good(), "{ended:?}");
    assert!(!ended.stdout.contains(['\x1b', '\x07', '\u{9b}', '\u{202e}', '\r']), "{:?}", ended.stdout);
    ended.stdout
}

#[test]
fn bodies_by_their_types() {
    let json = shown(&[&id("/echo?q=1", "")]);
    assert!(
        json.contains("\n  {\n    \"b\": [\n      1.0e2,\n      {}\n    ],\n    \"a\": \"text\"\n  }\n"),
        "{json}"
    );
    assert!(shown(&["--raw", &id("/echo?q=1", "")]).contains("\n  {\"b\":[1.0e2,{}],\"a\":\"text\"}\n"));
}
