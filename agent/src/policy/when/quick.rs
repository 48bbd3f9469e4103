//! A condition's no where it can be had for next to nothing: most conditions fail on a method, a path or a header field
//! that is not there, and whoever asks them all should not pay for each. What is not certain here is judged in full.

use super::names::Name;
use super::node::{Call, Loop, LoopKind, Node, Op};
use super::value::Val;
use crate::policy::facts::Facts;
use crate::types::Action;

impl Node {
    /// Whether it certainly is false; `lenient` as in [`Run::new`](super::eval::Run::new).
    pub(super) fn fails(&self, facts: &Facts<'_>, lenient: bool) -> bool {
        match self {
            Self::And(both) => both.0.fails(facts, lenient) || both.1.fails(facts, lenient),
            Self::Or(both) => both.0.fails(facts, lenient) && both.1.fails(facts, lenient),
            Self::Binary(Op::Eq, of) => match (&of.0, &of.1) {
                (Self::Name(name), Self::Const(value)) | (Self::Const(value), Self::Name(name)) => {
                    both(name, value, facts).is_some_and(|(is, asked)| is != asked)
                }
                (of, Self::Const(_)) | (Self::Const(_), of) => lenient && of.is_absent(facts),
                _ => false,
            },
            Self::Call(call, of) => match (call, &of[..]) {
                (Call::StartsWith, [Self::Name(name), Self::Const(value)]) => {
                    both(name, value, facts).is_some_and(|(is, asked)| !is.starts_with(asked))
                }
                (Call::EndsWith, [Self::Name(name), Self::Const(value)]) => {
                    both(name, value, facts).is_some_and(|(is, asked)| !is.ends_with(asked))
                }
                _ => false,
            },
            Self::Loop(of) => match &**of {
                Loop { kind: LoopKind::Exists, over, .. } => lenient && over.is_absent(facts),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether it is a header field that is not there, or an entry of one.
    fn is_absent(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Member(of, name) => matches!(**of, Self::Name(Name::Headers)) && facts.lacks_header(name),
            Self::Index(of) => match &**of {
                (Self::Name(Name::Headers), Self::Const(name)) => {
                    name.text().is_some_and(|name| facts.lacks_header(name))
                }
                (of, Self::Const(Val::Int(_))) => of.is_absent(facts),
                _ => false,
            },
            _ => false,
        }
    }
}

/// The text of a name that costs nothing to know, and what it is compared with.
fn both<'f>(name: &Name, value: &'f Val<'_>, facts: &'f Facts<'_>) -> Option<(&'f str, &'f str)> {
    let http = facts.http();
    let is = match name {
        Name::Method => http.ok()?.method,
        Name::Path => facts.path().ok()?,
        Name::Host => match &facts.asked.action {
            Action::Http(http) => http.host?.as_str(),
            _ => return None,
        },
        Name::Tag => facts.asked.caller.tag.as_str(),
        _ => return None,
    };
    Some((is, value.text()?))
}

#[cfg(test)]
mod tests {
    use super::super::When;
    use super::super::eval::Run;
    use super::super::tests::Sample;
    use super::*;
    use crate::types::action::Body;

    const ATOMS: [&str; 20] = [
        r#"request.method == "GET""#,
        r#""POST" == request.method"#,
        r#"request.method == 1"#,
        r#"request.path.startsWith("/v1/")"#,
        r#"request.path.startsWith("/v2")"#,
        r#"request.path.endsWith("completions")"#,
        r#"request.path.endsWith("/")"#,
        r#"host == "api.openai.com""#,
        r#"host == "other.example""#,
        r#"caller.tag == "ci""#,
        r#"caller.tag == "cd""#,
        r#"request.headers["x-team"][0] == "a""#,
        r#"request.headers["x-none"][0] == "a""#,
        r#"request.headers["X-None"][0] == "a""#,
        r#"request.headers["x-none"].exists(v, v == "a")"#,
        r#"request.headers["x-team"].exists(v, v == "b")"#,
        r#"request.headers["x-none"] == null"#,
        r#"request.json.a == 1"#,
        r#"has(request.headers.x)"#,
        r#"caller.uid > 7"#,
    ];

    #[test]
    fn a_quick_no_is_the_answer_of_the_whole_condition() {
        let (mut sample, mut alike) = (Sample::new(), Sample::new());
        let (mut quick, mut all) = (0, 0);
        sample.headers.insert("x-other", http::HeaderValue::from_static("a"));
        // Some servers take it for the one that is not there.
        alike.headers.insert("x_none", http::HeaderValue::from_static("a"));
        for (one, other) in ATOMS.iter().flat_map(|one| ATOMS.iter().map(move |other| (one, other))) {
            for text in [
                (*one).to_owned(),
                format!("{one} && {other}"),
                format!("{one} || {other}"),
                format!("!({one}) && {other}"),
                format!("({one} || {other}) && ({other} || request.json.b == 2)"),
            ] {
                let Ok(when) = When::compile(&text) else { continue };
                for (sample, body, lenient) in [
                    (&sample, Body::Unread, true),
                    (&sample, Body::Unread, false),
                    (&sample, Body::Whole(b"{}"), true),
                    (&alike, Body::Unread, true),
                ] {
                    let asked = sample.asked(body);
                    let facts = Facts::new(&asked);
                    all += 1;
                    if when.node.fails(&facts, lenient) {
                        quick += 1;
                        let whole = Run::new(&facts, 1 << 20, lenient).condition(&when.node);
                        assert_eq!(whole, Ok(false), "{text} {body:?} {lenient}");
                    }
                }
            }
        }
        assert!(quick > all / 5 && quick < all, "{quick} of {all}");
    }
}
