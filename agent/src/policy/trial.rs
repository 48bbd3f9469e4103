//! A condition tried on requests that nobody has sent: one that cannot be judged of any of them is a mistake, and better told
//! when rules are read than when the first request comes.

use time::OffsetDateTime;

use super::facts::Facts;
use super::known::Known;
use super::question::Question;
use super::rule::BODY_MAX;
use super::when::When;
use crate::types::action::Speaker;
use crate::types::{Identity, TagName};

/// Tries a condition; why it is a mistake, if it is one.
pub fn trial(when: &When) -> Option<String> {
    if !when.asks() {
        return Some("it asks for nothing, and says the same of every request".to_owned());
    }
    let mut whys = samples().into_iter().map(|sample| {
        let asked = sample.asked();
        match when.holds(&Facts::without(&asked, &super::past::NOTHING), BODY_MAX, false) {
            Known::Cannot(why) => Some(why),
            Known::Yes | Known::No | Known::NotYet => None,
        }
    });
    let first = whys.next()??;
    whys.all(|why| why.is_some()).then(|| format!("it can be judged of no request: {first}"))
}

/// A request with nothing, one with all that a model's client sends, and a message.
fn samples() -> Vec<Question> {
    let of = |url: &str| Question::of(TagName::parse("trial").ok()?, url).ok();
    let identity = Identity {
        issuer: "https://issuer.example".to_owned(),
        subject: "somebody".to_owned(),
        groups: vec!["group".to_owned()],
        claims: serde_json::json!({ "sub": "somebody" }),
        expires: i64::MAX,
    };
    let plain = of("http://www.example/");
    let chat = of("https://api.example/v1/chat/completions?x=1").map(|mut chat| {
        chat.http.method = "POST".to_owned();
        chat.identity = Some(identity);
        chat.by_exe("/usr/bin/program".to_owned(), None);
        chat.with_json(
            r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"text"}],"tools":[]}"#
                .to_owned(),
        );
        chat
    });
    let message = of("wss://ws.example/socket").map(|mut message| {
        message.with_message(Speaker::Client, r#"{"type":"text"}"#.to_owned());
        message
    });
    let mut all: Vec<_> = [plain, chat, message].into_iter().flatten().collect();
    all.iter_mut().for_each(|sample| sample.now = OffsetDateTime::UNIX_EPOCH);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_be_judged_is_told() {
        let tried = |text: &str| trial(&When::compile(text).expect(text));
        for good in [
            "request.json.model == \"a\"",
            "message.text.contains(\"x\")",
            "identity.claims.level > 3",
            "int(request.query.n[0]) < 5",
            "request.path.startsWith(\"/\") && now.getHours() > 8",
        ] {
            assert_eq!(tried(good), None, "{good}");
        }
        let same = Some("it asks for nothing, and says the same of every request".to_owned());
        assert_eq!(tried("1 < 2"), same);
        assert_eq!(tried("\"a\" in [\"b\"]"), same);
        for never in ["destination.port / 0 == 1", "int(request.method + \"x\") == 1"] {
            assert!(
                tried(never).is_some_and(|why| why.starts_with("it can be judged of no request: ")),
                "{never}"
            );
        }
    }
}
