//! Bodies of every kind, in every cut.

use std::sync::{Arc, OnceLock};

use super::*;
use crate::mask::{Custom, Mask, Replacement};

pub(super) fn mask(with: Replacement) -> Mask {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    Mask {
        name: "pii".into(),
        detect: names(&["default"]),
        custom: vec![
            Custom::Regex { name: "staff".into(), pattern: r"\bEMP-[0-9]{4,9}\b".into() },
            Custom::Words { name: "towns".into(), words: names(&["New York", "Köln"]), any_case: true },
        ],
        json: names(&["nick", "*.password", "$.history[*].said"]),
        headers: names(&["X-User"]),
        query: names(&["who"]),
        form: names(&["who"]),
        multipart: names(&["who"]),
        attributes: names(&["who"]),
        with,
        binary: Binary::Pass,
    }
}

pub(super) fn plan(with: Replacement) -> Arc<Plan> {
    static PLANS: [OnceLock<Arc<Plan>>; 2] = [OnceLock::new(), OnceLock::new()];
    let made = &PLANS[usize::from(with == Replacement::Token)];
    made.get_or_init(|| Arc::new(Plan::compile(&[mask(with)]).expect("a plan"))).clone()
}

pub(super) fn scope() -> Arc<Scope> {
    Arc::new(Scope::new([7; 32]))
}

pub(super) fn through(mut body: Body, text: &[u8], cut: usize) -> Result<Vec<u8>, Refused> {
    let mut out = Vec::new();
    for piece in text.chunks(cut) {
        body.push(piece, &mut out)?;
        assert!(body.memory() <= MEMORY, "{}", body.memory());
    }
    body.end(&mut out)?;
    Ok(out)
}

/// Every cut gives what is wanted; tokens come back.
fn check(kind: &Kind, text: &str, want: &str) {
    let (redact, token) = (plan(Replacement::Redact), plan(Replacement::Token));
    for cut in [1, 2, 3, 5, 8, 13, 64, text.len().max(1)] {
        let got = through(Body::hiding(redact.clone(), scope(), kind.clone()), text.as_bytes(), cut);
        let got = got.map(|got| String::from_utf8_lossy(&got).into_owned());
        assert_eq!(got.as_deref(), Ok(want), "cut {cut}");
        let scope = scope();
        let hidden = through(Body::hiding(token.clone(), scope.clone(), kind.clone()), text.as_bytes(), cut);
        let hidden = hidden.expect("as above");
        for body in [
            Body::restoring(scope.clone(), kind.clone()),
            Body::both(token.clone(), scope.clone(), kind.clone()),
        ] {
            let back = through(body, &hidden, cut).expect("tokens keep the form");
            let (back, hidden) = (String::from_utf8_lossy(&back), String::from_utf8_lossy(&hidden));
            if !text.contains('\\') && !text.contains(['%', '&']) && !text.contains("DELTA") {
                assert_eq!(back, text, "cut {cut}: {hidden}");
            }
        }
    }
}

fn refused(kind: &Kind, text: &[u8]) -> Refused {
    let redact = plan(Replacement::Redact);
    let whole = through(Body::hiding(redact.clone(), scope(), kind.clone()), text, text.len().max(1));
    let bytes = through(Body::hiding(redact, scope(), kind.clone()), text, 1);
    assert_eq!(whole, bytes);
    whole.expect_err("refused")
}

#[test]
fn plain_text() {
    check(
        &Kind::Text,
        "Write to jane@corp.test of new york, EMP-12345, card 4111 1111 1111 1111. Köln",
        "Write to [email] of [towns], [staff], card [card]. [towns]",
    );
    check(&Kind::Text, "", "");
    check(&Kind::Text, " [INFO] jane@corp.test {", " [INFO] [email] {");
    check(&Kind::Text, r#"{"a":"jane\u0040corp.test"} and jane@corp.test"#, r#"{"a":"[email]"} and [email]"#);
}

#[test]
fn json() {
    check(
        &Kind::Json,
        r#"{ "a" : "jane@corp.test" , "b":[1.50, 2e3,"x","EMP-1234"],"EMP-99999":null,"t":true }"#,
        r#"{ "a" : "[email]" , "b":[1.50, 2e3,"x","[staff]"],"[staff]":null,"t":true }"#,
    );
    check(
        &Kind::Json,
        r#"{"a":"j\u0061ne\u0040corp.test \ud83d\ude00\n\"q\" New\u0020York"}"#,
        r#"{"a":"[email] \ud83d\ude00\n\"q\" [towns]"}"#,
    );
    check(&Kind::Json, r#"[4111111111111111,12,-4]"#, r#"["[card]",12,-4]"#);
    check(&Kind::Json, r#""jane@corp.test""#, r#""[email]""#);
    check(&Kind::Json, "4111111111111111", r#""[card]""#);
    check(&Kind::Json, " ", " ");
    check(&Kind::Json, "\u{feff}{\"nick\":1}", "\u{feff}{\"nick\":\"[nick]\"}");
}

#[test]
fn fields_of_json_go_whole() {
    check(
        &Kind::Json,
        r#"{"nick":"Jo","password":"stays","u":{"password":12,"nick":"","x":[{"nick":true}]},"nick":null}"#,
        r#"{"nick":"[nick]","password":"stays","u":{"password":"[password]","nick":"","x":[{"nick":"[nick]"}]},"nick":null}"#,
    );
    check(
        &Kind::Json,
        r#"{"history":[{"said":"a \"b\""},{"said":"c","by":"d"}],"in":{"history":[{"said":"e"}]}}"#,
        r#"{"history":[{"said":"[said]"},{"said":"[said]","by":"d"}],"in":{"history":[{"said":"e"}]}}"#,
    );
    check(&Kind::Json, r#"{"n\u0069ck":"Jo"}"#, r#"{"n\u0069ck":"[nick]"}"#);
    let redact = plan(Replacement::Redact);
    let text = r#"{"nick": {"a":["x",{"nick":1}],"b":2} ,"c":[3]}"#;
    for cut in 1..text.len() {
        let got = through(Body::hiding(redact.clone(), scope(), Kind::Json), text.as_bytes(), cut);
        assert_eq!(got.as_deref(), Ok(&br#"{"nick": "[nick]" ,"c":[3]}"#[..]), "cut {cut}");
    }
}

#[test]
fn what_is_no_json_is_refused() {
    for text in [
        "{",
        "[1,]",
        "{\"a\":}",
        "{\"a\" 1}",
        "[1 2]",
        "{]",
        "[}",
        "01",
        "1.",
        "tru",
        "nul",
        "\"a",
        "\"\\x\"",
        "{} {}",
        "a",
        "]",
        "{,}",
        "[\"a\":1]",
        "{\"a\",1}",
        "\"\\u12\"",
        "+1",
        "--1",
    ] {
        assert!(matches!(refused(&Kind::Json, text.as_bytes()), Refused::Json { .. }), "{text}");
    }
    assert_eq!(refused(&Kind::Json, "[".repeat(200).as_bytes()), Refused::TooDeep(128));
    assert!(matches!(refused(&Kind::Json, "1".repeat(2000).as_bytes()), Refused::TooLong { .. }));
}

#[test]
fn charsets() {
    for text in
        [&b"jane\xc1\x80corp.test"[..], b"\xff\xfej\0a\0", b"j\0a\0", b"caf\xe9", b"\xed\xa0\x80", b"x\xc3"]
    {
        assert!(matches!(refused(&Kind::Text, text), Refused::Charset(_)), "{text:?}");
    }
    let latin = |kind: Kind| Kind::Latin1(Box::new(kind));
    let redact = plan(Replacement::Redact);
    for cut in 1..20 {
        let got =
            through(Body::hiding(redact.clone(), scope(), latin(Kind::Text)), b"K\xf6ln \x80 caf\xe9", cut);
        assert_eq!(got.as_deref(), Ok(&b"[towns] \x80 caf\xe9"[..]));
    }
}

#[test]
fn forms() {
    check(
        &Kind::Form,
        "mail=jane%40corp.test&to=New+York&x=%E2%82%AC%&who=M%C3%BCller+x&who=&y=4111-1111-1111-1111",
        "mail=%5Bemail%5D&to=%5Btowns%5D&x=%E2%82%AC%&who=%5Bwho%5D&who=&y=%5Bcard%5D",
    );
    assert!(matches!(refused(&Kind::Form, b"a=jane%C1%80corp.test"), Refused::Charset(_)));
}

#[test]
fn short_texts() {
    let (plan, scope, mut counts) = (plan(Replacement::Redact), scope(), Counts::default());
    let mut hidden = |spelling, name, value: &str| {
        let new = text(&plan, &scope, spelling, name, value.as_bytes(), &mut counts);
        new.map(|new| String::from_utf8_lossy(&new).into_owned())
    };
    assert_eq!(
        hidden(Spelling::Query, None, "q=jane@corp.test&who=Jo").as_deref(),
        Some("q=%5Bemail%5D&who=%5Bwho%5D")
    );
    assert_eq!(hidden(Spelling::Path, None, "/u/jane%40corp.test/x").as_deref(), Some("/u/%5Bemail%5D/x"));
    assert_eq!(hidden(Spelling::Header, Some("x-user"), "Jo").as_deref(), Some("[x-user]"));
    assert_eq!(hidden(Spelling::Header, Some("From"), "Jo <jo@corp.test>").as_deref(), Some("Jo <[email]>"));
    assert_eq!(hidden(Spelling::Header, Some("x-ssn"), "219098765").as_deref(), Some("[us-ssn]"));
    assert_eq!(hidden(Spelling::Query, None, "q=%ff%fe%zz&\u{80}=%"), None);
    assert_eq!(counts.total(), 6);
}

#[test]
fn lines() {
    check(
        &Kind::Ndjson,
        "{\"a\":\"jane@corp.test\"}\n\n[1, \"EMP-12345\"]\r\n\x1e{\"nick\":1}",
        "{\"a\":\"[email]\"}\n\n[1, \"[staff]\"]\r\n\x1e{\"nick\":\"[nick]\"}",
    );
    check(
        &Kind::Ndjson,
        "{\"message\":{\"content\":\"DELTA jane@co\"}}\n{\"message\":{\"content\":\"rp.test ok\"},\"done\":true}\n",
        "{\"message\":{\"content\":\"DELTA [email]\"}}\n{\"message\":{\"content\":\" ok\"},\"done\":true}\n",
    );
    assert!(matches!(refused(&Kind::Ndjson, b"{\"a\":1}\n{\"a\":\n1}"), Refused::Json { .. }));
}

#[test]
fn events() {
    check(
        &Kind::Sse,
        ": jane@corp.test\r\nevent: x\r\ndata: {\"a\":\r\ndata: \"jane@corp.test\",\r\ndata:\"nick\":1}\r\n\r\nid: 7\ndata: plain EMP-12345\n\ndata:[DONE]\n\n",
        ": [email]\r\nevent: x\r\ndata: {\"a\":\r\ndata: \"[email]\",\r\ndata:\"nick\":\"[nick]\"}\r\n\r\nid: 7\ndata: plain [staff]\n\ndata:[DONE]\n\n",
    );
    let event = |index: u8, text: &str| {
        format!(
            "data: {{\"id\":\"DELTA\",\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}},\"index\":{index}}}]}}\n\n"
        )
    };
    let (mut text, mut want) = (String::new(), String::new());
    for (index, piece, hidden) in [
        (0, "Write to ja", "Write to [email]"),
        (1, "card 4111 11", "card [card]"),
        (0, "ne@ex", ""),
        (0, "", ""),
        (1, "11 1111 11", ""),
        (0, "ample.com", ""),
        (1, "11.", "."),
        (0, " or not\\n", " or not\\n"),
    ] {
        text += &event(index, piece);
        want += &event(index, hidden);
    }
    text += "data: [DONE]\n\n";
    want += "data: [DONE]\n\n";
    check(&Kind::Sse, &text, &want);
}

#[test]
fn tokens_that_a_model_splits_come_back() {
    let (scope, plan) = (scope(), plan(Replacement::Token));
    let hidden =
        through(Body::hiding(plan.clone(), scope.clone(), Kind::Text), b"jane@corp.test", 99).expect("text");
    let token = String::from_utf8(hidden).expect("text");
    for cut in 1..token.len() {
        let event = |text: &str| {
            format!(
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
            )
        };
        let text = event(&format!("To {}", &token[..cut]))
            + "event: ping\ndata: {\"type\": \"ping\"}\n\n"
            + &event(&format!("{}, ok", &token[cut..]));
        let want =
            event("To jane@corp.test") + "event: ping\ndata: {\"type\": \"ping\"}\n\n" + &event(", ok");
        for body in
            [Body::restoring(scope.clone(), Kind::Sse), Body::both(plan.clone(), scope.clone(), Kind::Sse)]
        {
            let got = through(body, text.as_bytes(), 17).expect("events");
            assert_eq!(String::from_utf8_lossy(&got), want, "cut {cut}");
        }
    }
}

#[test]
fn markup() {
    check(
        &Kind::Xml,
        r#"<?xml version="1.0" encoding="UTF-8"?><a m="jane&#64;corp.test"><!-- EMP-12345 --><b>jane&commat;corp.test &lt;</b><![CDATA[jane@corp.test]]></a>"#,
        r#"<?xml version="1.0" encoding="UTF-8"?><a m="[email]"><!-- [staff] --><b>[email] &lt;</b><![CDATA[[email]]]></a>"#,
    );
    check(
        &Kind::Html,
        "<p who=Jo x='who' who='A \"b\"' WHO = \"\">Jane <jane@corp.test> &amp; &#x4B&#246;ln</p><br/><script>x = '</b>jane@corp.test'</script>",
        "<p who=[who] x='who' who='[who]' WHO = \"\">Jane <[email]> &amp; [towns]</p><br/><script>x = '</b>[email]'</script>",
    );
    check(
        &Kind::Xml,
        "<x><who>Jo</who><s:who a='1'>Jo</s:who><who/><who2>Jo</who2></x>",
        "<x><who>[who]</who><s:who a='1'>[who]</s:who><who/><who2>Jo</who2></x>",
    );
    let text = "<x><who>Jo <who>and</who> <b>Al</b></who >, ok</x>";
    for cut in 1..text.len() {
        let got = through(Body::hiding(plan(Replacement::Redact), scope(), Kind::Html), text.as_bytes(), cut);
        assert_eq!(got.as_deref(), Ok(&b"<x><who>[who]</who >, ok</x>"[..]), "cut {cut}");
    }
    let entity = b"<!DOCTYPE a [<!ENTITY e \"jane@\">]><a>&e;corp.test</a>";
    assert!(matches!(refused(&Kind::Xml, entity), Refused::Form { .. }));
    assert!(matches!(
        refused(&Kind::Xml, b"<?xml version='1.0' encoding='utf-7'?><a/>"),
        Refused::Charset(_)
    ));
}

#[test]
fn columns() {
    check(
        &Kind::Csv,
        "id,nick,\"e \"\"mail\"\"\"\r\n1,Jo,jane@corp.test\r\n2,\"A \"\"b\"\", c\",\"x, EMP-12345\"\n3,,\"y\"",
        "id,nick,\"e \"\"mail\"\"\"\r\n1,[nick],[email]\r\n2,\"[nick]\",\"x, [staff]\"\n3,,\"y\"",
    );
    check(&Kind::Csv, "nick;a\nJo;1,2\n", "nick;a\n[nick];1,2\n");
}

#[test]
fn parts() {
    let kind = Kind::Multipart { boundary: b"XX".to_vec() };
    let text = "pre\r\n--XX\r\nContent-Disposition: form-data; name=\"who\"\r\n\r\nJo\r\nAl\r\n--XX\r\nContent-Disposition: form-data; name=\"a\"; filename=\"EMP-12345.json\"\r\nContent-Type: application/json\r\n\r\n{\"nick\":\"Jo\",\"m\":\"jane@corp.test\"}\r\n--XXX\r\n".replace("\r\n--XXX\r\n", "\r\n--XX\r\ncontent-type: text/plain\r\n\r\n--XXX jane@corp.test\r\n--XX \r\n\r\n\r\n--XX--\r\nend");
    let want = text
        .replace("Jo\r\nAl", "[who]")
        .replace("\"Jo\"", "\"[nick]\"")
        .replace("jane@corp.test", "[email]")
        .replace("EMP-12345", "[staff]");
    check(&kind, &text, &want);
    let binary = b"--XX\r\ncontent-type: image/png\r\n\r\n\x89PNG\0\xff jane@corp.test\0\r\n--XX--\r\n";
    for cut in 1..40 {
        let got = through(Body::hiding(plan(Replacement::Redact), scope(), kind.clone()), binary, cut);
        assert_eq!(
            got.as_deref(),
            Ok(&b"--XX\r\ncontent-type: image/png\r\n\r\n\x89PNG\0\xff **************\0\r\n--XX--\r\n"[..])
        );
    }
    for (head, body) in [
        ("content-type: application/json", "{\"a\":"),
        ("content-type: multipart/mixed; boundary=a", "--a\r\n"),
        ("content-transfer-encoding: base64", "amFuZUBjb3JwLnRlc3Q="),
        ("content-type: text/plain", "\u{0}"),
        ("content-type: text/plain; charset=utf-16", "a"),
    ] {
        refused(&kind, format!("--XX\r\n{head}\r\n\r\n{body}\r\n--XX--\r\n").as_bytes());
    }
}

#[test]
fn messages() {
    let message = |mail: &str| {
        let inner = [&[0x0a, mail.len() as u8], mail.as_bytes(), &[0x10, 7]].concat();
        [&[0x08, 1, 0x12, inner.len() as u8], &inner[..], b"\x1a\x03\xff\xfe\xfd"].concat()
    };
    let framed = |mail: &str| {
        let message = message(mail);
        [&[0, 0, 0, 0, message.len() as u8], &message[..], b"\0\0\0\0\0"].concat()
    };
    for cut in 1..40 {
        let hiding = |kind| Body::hiding(plan(Replacement::Redact), scope(), kind);
        let got = through(hiding(Kind::Grpc), &framed("jane@corp.test"), cut);
        assert_eq!(got.as_deref(), Ok(&framed("[email]")[..]));
        let got = through(hiding(Kind::Protobuf), &message("jane@corp.test"), cut);
        assert_eq!(got.as_deref(), Ok(&message("[email]")[..]));
    }
    assert!(matches!(refused(&Kind::Grpc, b"\x01\0\0\0\x02xx"), Refused::Unread(_)));
    assert!(matches!(refused(&Kind::Grpc, b"\0\xff\0\0\0"), Refused::TooLong { .. }));
    assert!(matches!(refused(&Kind::Grpc, b"\0\0\0\0\x09ab"), Refused::Form { .. }));
    assert!(matches!(refused(&Kind::Grpc, b"\0\0\0\0\x02\x07\x07"), Refused::Form { .. }));
}

#[test]
fn events_without_a_beginning_pass_at_once() {
    for text in ["Hello there. ", "yes,\\n", "", "(done) "] {
        for more in ["", ", \"index\": 1, \"id\":\"msg_1\""] {
            let event = format!("event: x\ndata: {{\"type\":\"t\",\"delta\":\"{text}\"{more}}}\n\n");
            let mut body = Body::hiding(plan(Replacement::Redact), scope(), Kind::Sse);
            let mut out = Vec::new();
            for _ in 0..3 {
                body.push(event.as_bytes(), &mut out).expect("events");
                assert_eq!(body.held(), 0, "{event}");
            }
        }
    }
}

#[test]
fn bodies_go_from_thread_to_thread() {
    fn goes<T: Send>() {}
    fn shared<T: Send + Sync>() {}
    goes::<Body>();
    shared::<Plan>();
    shared::<Scope>();
}
