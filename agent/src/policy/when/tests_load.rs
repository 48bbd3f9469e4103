//! What is refused when a policy is loaded, and hostile texts and requests.

use super::tests::Sample;
use super::*;
use crate::types::action::Body;

use std::time::{Duration, Instant};

#[test]
fn mistakes_have_a_place_and_a_remedy() {
    for (text, at, what) in [
        ("request.jsn.model == 1", 7, "did you mean request.json?"),
        ("reqest.json.model == 1", 0, "did you mean request"),
        ("caller.tagg == \"x\"", 6, "did you mean caller.tag?"),
        ("identity.group.exists(g, g == \"x\")", 8, "did you mean identity.groups?"),
        ("foo == 1", 0, "known: caller"),
        ("caller == 1", 0, "caller is no value"),
        ("request.llm == 1", 7, "request.llm is no value"),
        ("request.llm.modl == \"x\"", 11, "did you mean request.llm.model?"),
        ("caller.uid == \"root\"", 11, "never the same"),
        ("caller.uid < \"root\"", 11, "cannot be ordered"),
        ("caller.tag in \"ci\"", 11, "looks in a list"),
        ("caller.uid in [\"a\"]", 11, "never in a list"),
        ("request.method", 7, "stands where true or false must"),
        ("caller.tag && true", 6, "stands where true or false must"),
        ("caller.tag.size() == \"x\"", 18, "never the same"),
        ("caller.uid.startsWith(\"x\")", 6, "given to startsWith()"),
        ("caller.tag.startWith(\"x\")", 20, "did you mean startsWith?"),
        ("caller.tag.foo == 1", 10, "a text has no member foo"),
        ("request.json.a.matches(request.json.b)", 35, "must be a text that stands here"),
        ("request.path.matches(\"(\")", 21, "cannot be used"),
        ("request.path.matches(\"\\\\w{1000}{1000}\")", 21, "cannot be used"),
        ("timestamp(\"today\") < now", 9, "takes a time"),
        ("duration(\"5 days\") == duration(\"5h\")", 8, "takes a time span"),
        ("b\"x\" == b\"x\"", 0, "bytes are not known"),
        ("\"\u{e9}\u{e9}\" == foo", 10, "unknown name foo"),
        ("1 +", 3, "cannot be read"),
        ("request.json.?a == 1", 13, "cannot be read"),
        ("[1].all(x, [1].all(y, [1].all(z, z == x)))", 29, "more than 2"),
        ("[1].all(host, true)", 7, "has a meaning already"),
        ("[1].all(x)", 7, "takes a name and a test"),
        ("1 + 1", 2, "stands where true or false must"),
        ("1 - \"a\" == 0", 2, "cannot be reckoned with"),
        ("has(caller)", 3, "asks for a member"),
        ("Foo{a: 1} == 1", 3, "structs are not known"),
        ("", 0, "empty"),
    ] {
        let mistakes = When::compile(text).expect_err(text);
        let found =
            mistakes.iter().any(|mistake| mistake.what.contains(what) && mistake.at.abs_diff(at) <= 1);
        assert!(found, "{text}: {mistakes:?}");
    }
    let many = When::compile("foo == 1 && caller.bar == 2 && request.path > 3").expect_err("three");
    assert_eq!(many.len(), 3, "{many:?}");
}

#[test]
fn hostile_texts_are_refused_soon() {
    let before = cpu();
    for text in [
        "(".repeat(4000),
        "[".repeat(60) + &"]".repeat(60),
        "!".repeat(4090) + "tru",
        "-(".repeat(40) + "1" + &")".repeat(40) + " == \"\"",
        "1+".repeat(2000) + "1 == 1",
        "true ? ".repeat(500),
        "a.".repeat(2000) + "a",
        "[[[{{{(((".repeat(400),
        "\"".repeat(4001),
        "x".repeat(5000),
        "request.json".to_owned() + &"[0]".repeat(1200) + " == 1",
        "\0\u{1}\u{fffd}".repeat(100),
        ")]}".repeat(1000),
    ] {
        assert!(When::compile(&text).is_err(), "{}", &text[..20]);
    }
    // Balanced by the parser, so not deep: fine, and cheap.
    assert!(When::compile(&("true && ".repeat(500) + "true")).is_ok());
    assert!(cpu() - before < Duration::from_secs(20), "{:?}", cpu() - before);
}

/// The processor time of this thread and those that it waited for.
fn cpu() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).expect("usage");
    let time = usage.user_time();
    Duration::new(time.tv_sec().unsigned_abs(), 0) + Duration::from_micros(time.tv_usec().unsigned_abs())
}

/// Conditions that do as much as they can, on bodies that make them.
pub fn worst() -> Vec<(&'static str, String)> {
    let list = |n: usize, of: &str| {
        format!("{{\"a\": [{}{of}], \"t\": \"{}\"}}", format!("{of},").repeat(n - 1), "ab".repeat(400_000))
    };
    vec![
        ("request.json.a.all(x, request.json.a.all(y, x == y))", list(90_000, "1")),
        ("request.json.a.map(x, request.json.a + request.json.a) == []", list(90_000, "1")),
        ("request.json.a.all(x, request.json.t.contains(\"aab\") || true)", list(90_000, "1")),
        ("request.json.a.all(x, request.json.t.matches(\"(a|b)*aab[ab]{20}$\") || true)", list(90_000, "1")),
        ("request.json.a.map(x, request.json.t + request.json.t) == []", list(90_000, "1")),
        ("request.json.a.all(x, request.json.a == request.json.a)", list(90_000, "[]")),
        ("request.json.a.map(x, request.json.t.lowerAscii()) == []", list(90_000, "1")),
        ("request.json.a.exists(x, request.json.t.size() == 1)", list(90_000, "1")),
        ("request.json.a.filter(x, x in request.json.a) == []", list(90_000, "2")),
    ]
}

#[test]
fn steps_are_bounded() {
    for (text, body) in worst() {
        let (sample, when) = (Sample::new(), When::compile(text).expect(text));
        let asked = sample.asked(Body::Whole(body.as_bytes()));
        let facts = Facts::new(&asked);
        let before = Instant::now();
        let known = when.holds(&facts, 1 << 30, true);
        assert!(matches!(&known, Known::Cannot(why) if why.contains("steps")), "{text}: {known:?}");
        assert!(facts.steps.get() <= eval::STEPS + 100_000);
        assert!(before.elapsed() < Duration::from_secs(10), "{text}: {:?}", before.elapsed());
    }
}
