//! Masks as users write them.

use super::*;
use crate::policy::mask::{Directions, Mask, With, Within, Words};

const GOOD: &str = r#"
record_masked = "own"
[[mask]]
name = "pii"
detect = ["email", "credit_card", "us_ssn"]
fields = ["*.password", "messages[*].content"]
headers = "X-Customer"
[[mask]]
name = "own"
regex = [{ name = "staff", pattern = '\bEMP-[0-9]{4,9}\b' }]
words = [{ name = "towns", list = ["New York"], any_case = true }, { name = "more", file = "words.txt" }]
query = ["q"]
form = ["pin"]
multipart = ["scan"]
attributes = ["name"]
with = "partial"
scope = "tag"
directions = "request"
binary = "refuse"
[[rule]]
name = "all"
verdict = "allow"
mask = ["pii", "own"]
"#;

#[test]
fn every_key_of_a_mask() {
    let dir = directory(&[("sluice.toml", GOOD), ("words.txt", "# names\n\nBlue Heron\n  Grey Owl \n")]);
    let config = load(dir.path()).expect("good configuration");
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let words =
        |name: &str, list: &[&str], any_case| Words { name: name.into(), words: texts(list), any_case };
    assert_eq!(
        config.policy.masks,
        [
            Mask {
                name: "pii".into(),
                detect: texts(&["email", "credit_card", "us_ssn"]),
                fields: texts(&["*.password", "messages[*].content"]),
                headers: texts(&["X-Customer"]),
                ..Mask::default()
            },
            Mask {
                name: "own".into(),
                regex: vec![("staff".into(), r"\bEMP-[0-9]{4,9}\b".into())],
                words: vec![
                    words("towns", &["New York"], true),
                    words("more", &["Blue Heron", "Grey Owl"], false)
                ],
                query: texts(&["q"]),
                form: texts(&["pin"]),
                multipart: texts(&["scan"]),
                attributes: texts(&["name"]),
                with: With::Partial,
                scope: Within::Tag,
                directions: Directions::Request,
                binary_refused: true,
                ..Mask::default()
            },
        ]
    );
    assert_eq!(config.policy.rules[0].masks, ["pii", "own"]);
    assert_eq!(config.policy.record_masked, ["own"]);
    let policy = crate::policy::Policy::compile(config.policy).expect("masks that can be made ready");
    assert!(policy.record_masks().is_some());
}

#[test]
fn mistakes_in_masks() {
    let text = "record_masked = [\"pi\"]\n[[mask]]\ndetect = [\"emial\"]\n[[mask]]\nname = \"pii\"\nwith = \"tokens\"\nscope = \"host\"\n\
        headers = [\"a b\"]\nregex = [{ name = \"x\", pattern = \"a+\" }, { name = \"email\", pattern = \"b\" }, { pattern = \"b\" }]\n\
        words = [{ name = \"w\" }, { name = \"v\", file = \"absent.txt\" }, { name = \"u\", list = [\"a\"] }]\nfeilds = []\n\
        [[mask]]\nname = \"pii\"\ndetect = \"email\"\n[[mask]]\nname = \"none\"\n[[rule]]\nname = \"r\"\nverdict = \"deny\"\nmask = [\"pij\"]\n";
    let said = complaints(&[("sluice.toml", text)]);
    for wanted in [
        "sluice.toml:1:18: record_masked: there is no mask \"pi\" (did you mean \"pii\"?)",
        "sluice.toml:2:1: [[mask]] has no name",
        "sluice.toml:3:11: mask.detect: there is no detector \"emial\" (did you mean \"email\"?)",
        "sluice.toml:6:8: mask.with is \"tokens\" (did you mean \"token\"?)",
        "sluice.toml:7:9: mask.scope is \"host\"",
        "sluice.toml:8:12: mask.headers has \"a b\"",
        "sluice.toml:9:34: mask.regex: ",
        "sluice.toml:9:51: mask.regex.name is \"email\", which is a detector of its own",
        "sluice.toml:9:77: mask.regex has no name",
        "sluice.toml:10:10: mask.words has no words, or two lists",
        "sluice.toml:10:47: absent.txt cannot be read",
        "sluice.toml:10:63: mask.words: ",
        "sluice.toml:11:1: unknown key mask.feilds (did you mean mask.fields?)",
        "sluice.toml:12:1: [[mask]] pii: its name is taken already at sluice.toml:4:1",
        "sluice.toml:15:1: [[mask]] none looks for nothing",
        "sluice.toml:20:9: [[rule]] r: there is no mask \"pij\" (did you mean \"pii\"?)",
        "sluice.toml:20:9: [[rule]] r: it refuses, and names a mask",
    ] {
        assert!(said.iter().any(|line| line.starts_with(wanted)), "{wanted}\n{said:#?}");
    }
    assert_eq!(said.len(), 17, "{said:#?}");
}
