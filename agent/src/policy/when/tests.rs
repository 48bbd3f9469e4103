//! Every name and operator, what is refused at load, hostile texts and hostile requests.

use http::HeaderMap;
use time::OffsetDateTime;

use super::*;
use crate::policy::judge::Asked;
use crate::types::action::{Body, Http};
use crate::types::caller::Exe;
use crate::types::{Action, Caller, Destination, HostName, Identity, TagName};

/// A request that the tests vary.
pub(in crate::policy) struct Sample {
    pub caller: Caller,
    pub identity: Identity,
    pub host: HostName,
    pub headers: HeaderMap,
    pub method: &'static str,
    pub protocol: &'static str,
    pub path: &'static str,
    pub query: Option<&'static str>,
}

impl Sample {
    pub fn new() -> Self {
        let mut caller = Caller::unknown(TagName::parse("ci").expect("tag"), 42);
        caller.uid = 1000;
        caller.user = Some("build".to_owned());
        caller.unit = Some("gitlab-runner.service".to_owned());
        caller.cgroup = "/sluice/ci".to_owned();
        caller.image = Some("docker.io/library/node:22".to_owned());
        let identity = Identity {
            issuer: "https://gitlab.example.com".to_owned(),
            subject: "project_path:a/b".to_owned(),
            groups: vec!["ml-team".to_owned(), "all".to_owned()],
            claims: serde_json::json!({"ref": "main", "runner": {"id": 7}, "ref_protected": true}),
            expires: 4_000_000_000,
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-team", http::HeaderValue::from_static("a"));
        headers.append("x-team", http::HeaderValue::from_static("b"));
        Self {
            caller,
            identity,
            host: HostName::parse("api.openai.com").expect("host"),
            headers,
            method: "POST",
            protocol: "h2",
            path: "/v1/chat/completions",
            query: Some("a=1&a=2&b=x%20y"),
        }
    }

    pub fn of_kind(kind: &'static str) -> Self {
        let mut sample = Self::new();
        sample.headers.insert("content-type", http::HeaderValue::from_static(kind));
        sample
    }

    fn destination() -> Destination {
        Destination::new("192.0.2.7".parse().expect("address"), 443)
    }

    pub fn asked<'a>(&'a self, body: Body<'a>) -> Asked<'a> {
        let http = Http {
            destination: Self::destination(),
            host: Some(&self.host),
            protocol: self.protocol,
            method: self.method,
            path: self.path,
            query: self.query,
            headers: &self.headers,
            body,
        };
        // A Sunday, 13:30.
        let now = OffsetDateTime::from_unix_timestamp(1_795_354_200).expect("time");
        Asked { caller: &self.caller, identity: Some(Some(&self.identity)), action: Action::Http(http), now }
    }
}

fn judge(text: &str, asked: &Asked<'_>, refuses: bool) -> Known {
    let when = When::compile(text).unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}"));
    when.holds(&Facts::new(asked), 1 << 20, refuses)
}

/// As an allowing rule judges it.
fn allows(text: &str, body: &str) -> Known {
    judge(text, &Sample::new().asked(Body::Whole(body.as_bytes())), false)
}

const CHAT: &str = r#"{"model": "gpt-4o-mini", "max_tokens": 100, "temperature": 0.5, "stream": true, "n": null,
    "messages": [{"role": "user", "content": "Hello world"}], "tools": [{"type": "function", "function": {"name": "f"}}]}"#;

#[test]
fn names_and_operators() {
    for text in [
        r#"caller.tag == "ci" && caller.user == "build" && caller.uid == 1000 && caller.pid == 42"#,
        r#"caller.unit.endsWith(".service") && caller.cgroup.startsWith("/sluice") && caller.image.contains("node")"#,
        r#"!has(caller.exe) && !has(caller.container)"#,
        r#"identity.subject == "project_path:a/b" && identity.issuer.matches("^https://gitlab[.]") && "ml-team" in identity.groups"#,
        r#"identity.claims.ref == "main" && identity.claims.runner.id == 7 && identity.claims["ref_protected"]"#,
        r#"destination.address == "192.0.2.7" && destination.port == 443 && host == "api.openai.com""#,
        r#"request.protocol == "h2" && request.method in ["GET", "POST"] && request.path.startsWith("/v1/")"#,
        r#"request.query.a == ["1", "2"] && request.query["b"][0] == "x y" && !("c" in request.query)"#,
        r#"request.headers["x-team"].all(t, t in ["a", "b"]) && size(request.headers["x-team"]) == 2"#,
        r#"request.json.model in ["gpt-4o-mini"] && request.json.max_tokens <= 1000"#,
        r#"request.json.tools.exists(t, t.type == "function") && !request.json.tools.exists(t, t.type == "code_interpreter")"#,
        r#"request.json.temperature < 1 && request.json.temperature == 0.5 && request.json.max_tokens == 100.0"#,
        r#"request.json.n == null && has(request.json.n) && !has(request.json.user) && !has(request.json.a.b.c)"#,
        r#"request.json.messages[0].content.lowerAscii().contains("hello") && request.json.messages.size() == 1"#,
        r#"request.json.messages.map(m, m.role) == ["user"] && request.json.messages.filter(m, m.role == "x") == []"#,
        r#"request.json.messages.exists_one(m, m.role == "user") && [1, 2, 3].map(x, x > 1, x * 2) == [4, 6]"#,
        r#"request.llm.provider == "openai" && request.llm.model == "gpt-4o-mini" && request.llm.stream"#,
        r#"request.llm.prompt.contains("Hello") && request.llm.tools == ["f"] && request.llm.max_tokens == 100"#,
        r#"now > timestamp("2026-11-22T00:00:00Z") && now < timestamp("2026-11-22T00:00:00Z") + duration("24h")"#,
        r#"now.getDayOfWeek() == 0 && now.getHours() == 13 && now.getMinutes() == 30 && now.getFullYear() == 2026"#,
        r#"now.getMonth() == 10 && now.getDate() == 22 && now - timestamp("2026-11-22T13:00:00Z") == duration("1h30m") - duration("60m")"#,
        r#"(request.json.max_tokens > 50 ? "a" : "b") == "a" && {"gpt-4o-mini": 200}[request.json.model] >= request.json.max_tokens"#,
        r#"1 + 2 * 3 == 7 && 7 % 4 == 3 && -(2) == -2 && 7 / 2 == 3 && 7.0 / 2 == 3.5 && "a" + "b" == "ab" && [1] + [2] == [1, 2]"#,
        r#"int("5") == 5 && string(5) == "5" && double(1) < 1.5 && int(2.9) == 2 && "\u00e9".size() == 1 && 5u == 5"#,
        r#""model" in request.json && request.json == request.json && {"a": [1]} == {"a": [1.0]} && "a" != "b" && true || false"#,
        r#"request.json.exists(k, k == "model") && {"x": 1}.all(k, k == "x")"#,
        // A side that decides does so whatever is wrong with the other.
        r#"request.json.nothing == 1 || request.json.model == "gpt-4o-mini""#,
        r#"!(request.json.model > 3 && false)"#,
        r#"[1, "a", 3].exists(x, x + 1 == 4)"#,
    ] {
        assert_eq!(allows(text, CHAT), Known::Yes, "{text}");
        assert_eq!(
            judge(text, &Sample::new().asked(Body::Whole(CHAT.as_bytes())), true),
            Known::Yes,
            "refusing: {text}"
        );
    }
    let mut sample = Sample::new();
    sample.caller.exe = Some(Exe { path: "/usr/bin/node".to_owned(), device: 1, inode: 1, sha256: None });
    sample.caller.container = Some("abc".to_owned());
    let text = r#"caller.exe == "/usr/bin/node" && caller.container == "abc""#;
    assert_eq!(judge(text, &sample.asked(Body::Unread), false), Known::Yes);
}

#[test]
fn shapes_of_bodies() {
    let form = Sample::of_kind("application/x-www-form-urlencoded");
    let multipart = Sample::of_kind("multipart/form-data; boundary=x");
    let mut grpc = Sample::new();
    (grpc.protocol, grpc.path) = ("grpc", "/hello.v1.Greeter/SayHello");
    let parts =
        "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.pdf\"\r\n\r\n1\r\n--x--\r\n";
    let graphql = r#"{"query": "mutation M { deleteIssue(id: 1) { id } }"}"#;
    for (sample, text, body) in [
        (&form, r#"request.form.grant_type == ["password"] && !has(request.form.x)"#, "grant_type=password"),
        (
            &multipart,
            r#"request.multipart.names == ["file"] && request.multipart.files.all(f, f.endsWith(".pdf"))"#,
            parts,
        ),
        (&grpc, r#"request.grpc.service == "hello.v1.Greeter" && request.grpc.method == "SayHello""#, ""),
        (
            &Sample::new(),
            r#"request.graphql.type == "mutation" && request.graphql.operation == "M" && "deleteIssue" in request.graphql.names"#,
            graphql,
        ),
        (&form, r#"!has(request.json.x) || true"#, "x=1"),
        (
            &grpc,
            r#"!has(request.llm.model) && !has(request.form.x) && !has(request.graphql.type) && !has(request.json.x)"#,
            "",
        ),
    ] {
        assert_eq!(judge(text, &sample.asked(Body::Whole(body.as_bytes())), false), Known::Yes, "{text}");
    }
}

#[test]
fn what_is_not_known_yet() {
    let sample = Sample::new();
    let unread = sample.asked(Body::Unread);
    let nobody_yet = Asked { identity: None, ..unread };
    let nobody = Asked { identity: Some(None), ..unread };
    let connect = Asked { action: Action::Connect { destination: Sample::destination() }, ..nobody_yet };
    let tunnel = Action::Tunnel { destination: Sample::destination(), host: None, why: "opaque" };
    let tunnel = Asked { action: tunnel, ..unread };
    for (text, asked, want) in [
        (r#"request.json.model == "x""#, &unread, Known::NotYet),
        (r#"request.method == "GET" && request.json.model == "x""#, &unread, Known::No),
        (r#"request.json.model == "x" && request.method == "GET""#, &unread, Known::No),
        (r#"request.json.model == "x" || request.method == "POST""#, &unread, Known::Yes),
        (r#"request.json.tools.all(t, t == 1) || caller.pid == 42"#, &unread, Known::Yes),
        (r#"has(request.llm.model)"#, &unread, Known::NotYet),
        (r#"request.method == "POST""#, &connect, Known::NotYet),
        (r#"host == "api.openai.com""#, &connect, Known::NotYet),
        (r#"destination.port == 22 && host == "x""#, &connect, Known::No),
        (r#"destination.port == 443"#, &connect, Known::Yes),
        (r#"identity.subject == "x""#, &nobody_yet, Known::NotYet),
        (r#"identity.subject == "x""#, &nobody, Known::No),
        (r#"has(identity.subject)"#, &nobody, Known::No),
        (r#"request.method == "POST""#, &tunnel, Known::No),
        (r#"request.protocol == "tunnel" && !has(request.method)"#, &tunnel, Known::Yes),
    ] {
        assert_eq!(judge(text, asked, false), want, "{text}");
    }
    // An identity that has ended is nobody's.
    let ended = Asked { now: OffsetDateTime::from_unix_timestamp(4_000_000_000).expect("time"), ..unread };
    assert_eq!(judge(r#"identity.subject.startsWith("p")"#, &ended, false), Known::No);
}

/// What an allowing rule takes for no, a refusing one takes for no only where the request says nothing.
#[test]
fn nobody_escapes_a_refusal_by_what_cannot_be_judged() {
    let cannot = |known: &Known| matches!(known, Known::Cannot(_));
    for (text, body, refuses) in [
        (r#"request.json.model == "x""#, r#"{"a": 1}"#, "no"),
        (r#"request.json.model == "x""#, "", "no"),
        (r#"request.json.model == "x""#, r#"{"model": null}"#, "no"),
        (r#"request.json.model != "x""#, r#"{"a": 1}"#, "yes"),
        (r#"!(request.json.model in ["x", "y"])"#, r#"{"a": 1}"#, "yes"),
        (r#"!(request.json.max_tokens <= 1000)"#, r#"{"a": 1}"#, "yes"),
        (r#"request.json.max_tokens > 1000"#, r#"{"a": 1}"#, "no"),
        (r#"request.json.max_tokens > 1000"#, r#"{"max_tokens": null}"#, "no"),
        (r#"request.json.tools.exists(t, t.type == "code_interpreter")"#, r#"{"tools": null}"#, "no"),
        (
            r#"request.json.tools.exists(t, t.type == "code_interpreter")"#,
            r#"{"tools": [{}, {"type": "code_interpreter"}]}"#,
            "yes",
        ),
        (r#"!request.json.user.startsWith("ci-")"#, r#"{}"#, "yes"),
        (r#"size(request.json.messages) + 1 > 10"#, r#"{}"#, "no"),
        (r#"request.json.max_tokens > 1000"#, r#"{"max_tokens": "5000"}"#, "cannot"),
        (r#"request.json.model.startsWith("x")"#, r#"{"model": ["x"]}"#, "cannot"),
        (r#"request.json.model == "x""#, r#"{"model": "y", "model": "x"}"#, "cannot"),
        (r#"request.json.model == "x""#, r#"[{"model": "x"}]"#, "cannot"),
        (r#"request.json.model == "x""#, "model=x", "cannot"),
        (r#"request.json.stream"#, r#"{"stream": "yes"}"#, "cannot"),
        (r#"request.json.n + 9223372036854775807 > 1"#, r#"{"n": 1}"#, "cannot"),
        (r#"request.llm.model == "x""#, r#"{"model": ["x"]}"#, "cannot"),
        (r#"request.llm.max_tokens > 9"#, r#"{"max_tokens": "10"}"#, "cannot"),
    ] {
        let sample = Sample::new();
        let asked = sample.asked(Body::Whole(body.as_bytes()));
        let got = judge(text, &asked, true);
        let word = match got {
            Known::Yes => "yes",
            Known::No => "no",
            Known::NotYet => "not yet",
            Known::Cannot(_) => "cannot",
        };
        assert_eq!(word, refuses, "{text} {body}");
        let allows = judge(text, &asked, false);
        let two_ways = text.contains("exists") && refuses == "yes";
        assert!(two_ways || allows == Known::No || cannot(&allows), "{text} {body}: {allows:?}");
    }
    let sample = Sample::new();
    let unknowable = sample.asked(Body::Unknowable("its content coding is \"gzip\""));
    assert!(cannot(&judge(r#"request.json.a == 1"#, &unknowable, true)));
    assert_eq!(judge(r#"request.method == "GET" && request.json.a == 1"#, &unknowable, true), Known::No);
    let long = format!(r#"{{"a": "{}"}}"#, "x".repeat(100));
    let asked = sample.asked(Body::Whole(long.as_bytes()));
    let when = When::compile(r#"has(request.json.a)"#).expect("good");
    assert!(cannot(&when.holds(&Facts::new(&asked), 50, true)), "longer than this rule's bound");
    assert_eq!(when.holds(&Facts::new(&asked), 200, true), Known::Yes);
}
