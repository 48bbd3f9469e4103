//! What attackers have found, and shall not find again.

use super::tests::{plan, scope, through};
use super::*;
use crate::mask::Replacement;

/// What is hidden, the same in every cut.
fn hidden(kind: &Kind, text: &str) -> String {
    let body = || Body::hiding(plan(Replacement::Redact), scope(), kind.clone());
    let want = through(body(), text.as_bytes(), text.len().max(1)).expect("a body of its kind");
    for cut in 1..text.len().min(40) {
        let got = through(body(), text.as_bytes(), cut).expect("a body of its kind");
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&want), "cut {cut}: {text}");
    }
    String::from_utf8(want).expect("text stays text")
}

#[test]
fn what_has_no_longest_length_gets_no_token() {
    let (scope, plan) = (scope(), plan(Replacement::Token));
    let head = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.";
    let text = format!("{head}dozjgNryP4J3jVmNHl0w5N and {head}bbbbgNryP4J3jVmNHl0w5N");
    for cut in [1, 7, 99, 999] {
        let body = Body::hiding(plan.clone(), scope.clone(), Kind::Text);
        let got = through(body, text.as_bytes(), cut).expect("text");
        assert_eq!(String::from_utf8_lossy(&got), "[jwt] and [jwt]", "cut {cut}");
    }
    assert!(scope.is_empty());
    let _ = hidden(&Kind::Text, &text);
}

#[test]
fn addresses_with_letters_above_127() {
    for (text, want) in [
        ("an jané@corp.test, müller@corp.test.", "an [email], [email]."),
        ("«jané@corp.test» ü@corp.test", "«[email]» [email]"),
        ("to 李明@corp.test", "to [email]"),
    ] {
        assert_eq!(hidden(&Kind::Text, text), want);
        assert_eq!(hidden(&Kind::Json, &format!("\"{text}\"")), format!("\"{want}\""));
    }
}

#[test]
fn json_within_json() {
    for (text, want) in [
        (r#"{"a":"{\"x\":\"pay\\n4111 1111 1111 1111\"}"}"#, r#"{"a":"{\"x\":\"pay\\n[card]\"}"}"#),
        (r#"{"a":"{\"x\":\"\\t219-09-8765\"}"}"#, r#"{"a":"{\"x\":\"\\t[us-ssn]\"}"}"#),
        (r#"["{\"x\":\"jane\\u0040corp.test\\njo@corp.test\"}"]"#, r#"["{\"x\":\"[email]\\n[email]\"}"]"#),
        (r#"["[1,\"\\u003e4111111111111111\"]"]"#, r#"["[1,\"\\u003e[card]\"]"]"#),
        (r#"["[\"[\\\"a\\\\njo@corp.test\\\"]\"]"]"#, r#"["[\"[\\\"a\\\\n[email]\\\"]\"]"]"#),
        (r#"["log {\"x\":\"\\\"jo@corp.test\\\"\"}"]"#, r#"["log {\"x\":\"\\\"[email]\\\"\"}"]"#),
        (r#"["[\"[\\\"a\\\"]\",\"C:\\\\nEMP-12345\"]"]"#, r#"["[\"[\\\"a\\\"]\",\"C:\\\\nEMP-12345\"]"]"#),
        // No JSON: a backslash is one.
        (r#"["C:\\xEMP-12345 C:\\EMP-12345"]"#, r#"["C:\\xEMP-12345 C:\\[staff]"]"#),
        (r#"{"nick":"{\"x\":\"\\n\"}"}"#, r#"{"nick":"[nick]"}"#),
    ] {
        assert_eq!(hidden(&Kind::Json, text), want);
        serde_json::from_str::<serde_json::Value>(want).expect("JSON");
    }
    let event = |text: &str| format!("data: {{\"delta\":{{\"partial_json\":\"{text}\"}},\"index\":1}}\n\n");
    let events = event(r#"{\"a\":\"x\\nja"#) + &event(r#"ne\\u0040corp.test\"}"#);
    let want = event(r#"{\"a\":\"x\\n[email]"#) + &event(r#"\"}"#);
    assert_eq!(hidden(&Kind::Sse, &events), want);
}

/// Percent signs, escapes as programs write them, and colours of terminals.
#[test]
fn signs_in_text_of_any_kind() {
    for (text, want) in [
        ("see https://x.test/?q=jane%40corp.test&b=1", "see https://x.test/?q=[email]&b=1"),
        ("jane%2540corp.test 4111%2B", "[email] 4111%2B"),
        ("to%3A4111%201111%201111%201111, 100% of %s", "to%3A[card], 100% of %s"),
        (
            "\u{1b}[1m4111111111111111\u{1b}[0m and \u{1b}[31m219-09-8765\u{1b}[0m",
            "\u{1b}[1m[card]\u{1b}[0m and \u{1b}[31m[us-ssn]\u{1b}[0m",
        ),
        ("\u{1b}[01;31m\u{1b}[Kjane\u{1b}[m\u{1b}[K@corp.test", "\u{1b}[01;31m\u{1b}[K[email]"),
        ("100%", "100%"),
    ] {
        assert_eq!(hidden(&Kind::Text, text), want);
        assert_eq!(hidden(&Kind::Html, &format!("<a href=\"{text}\">")), format!("<a href=\"{want}\">"));
        assert_eq!(
            hidden(&Kind::Html, &format!("<script>{text}</script>")),
            format!("<script>{want}</script>")
        );
        assert_eq!(hidden(&Kind::Csv, &format!("\"{text}\"")), format!("\"{want}\""));
        assert_eq!(hidden(&Kind::Latin1(Box::new(Kind::Text)), text), want);
        let parts = |text: &str| format!("--b\r\ncontent-type: text/plain\r\n\r\n{text}\r\n--b--\r\n");
        assert_eq!(hidden(&Kind::Multipart { boundary: b"b".to_vec() }, &parts(text)), parts(want));
        let json = |text: &str| serde_json::to_string(&[text]).expect("JSON");
        assert_eq!(hidden(&Kind::Json, &json(text)), json(want));
        let event = |text: &str| {
            format!(
                "data: {{\"delta\":{{\"text\":{}}},\"index\":1}}\n\n",
                json(text).trim_matches(['[', ']'])
            )
        };
        if !text.ends_with(']') {
            assert_eq!(hidden(&Kind::Sse, &event(text)), event(want));
        }
    }
    for (text, want) in [
        (r"a\n4111 1111 1111 1111\n", r"a\n[card]\n"),
        (r"x\tjo@corp.test, jane\u0040corp.test", r"x\t[email], [email]"),
        (r"\u001b[31m219-09-8765", r"\u001b[31m[us-ssn]"),
        (r"C:\temp\users 5\", r"C:\temp\users 5\"),
    ] {
        assert_eq!(hidden(&Kind::Text, text), want);
        assert_eq!(hidden(&Kind::Sse, &format!("data: {text}\n\n")), format!("data: {want}\n\n"));
        let json = |text: &str| serde_json::to_string(&[text]).expect("JSON");
        assert_eq!(hidden(&Kind::Json, &json(text)), json(want));
        let script = |text: &str| format!("<script>x = '{text}'</script>");
        assert_eq!(hidden(&Kind::Html, &script(text)), script(want));
    }
    assert_eq!(hidden(&Kind::Json, r#"["\u001b[31m219-09-8765"]"#), r#"["\u001b[31m[us-ssn]"]"#);
    assert_eq!(hidden(&Kind::Form, "u=x%3Fe%3Djane%2540corp.test"), "u=x%3Fe%3D%5Bemail%5D");
    let mut counts = Counts::default();
    let link = b"<https://x.test/?q=jane%40corp.test>; rel=next";
    let got = text(&plan(Replacement::Redact), &scope(), Spelling::Header, Some("link"), link, &mut counts);
    assert_eq!(got.as_deref(), Some(&b"<https://x.test/?q=[email]>; rel=next"[..]));
}

/// What a token stands for cannot leave the string of the inner text.
#[test]
fn what_is_restored_stays_in_its_string() {
    let scope = scope();
    let value = "a\",\"admin\":true,\"x\":\"\\";
    let token = scope.tokens().token("secret", value.as_bytes()).expect("room").to_owned();
    let call = format!(r#"{{"arguments":"{{\"n\":1,\"email\":\"{token}\"}}"}}"#);
    let piece = format!("data: {{\"delta\":{{\"partial_json\":\"{token} \"}},\"index\":1}}\n\n");
    for cut in [1, 5, 999] {
        let body = Body::restoring(scope.clone(), Kind::Json);
        let got = through(body, call.as_bytes(), cut).expect("JSON");
        let got: serde_json::Value = serde_json::from_slice(&got).expect("JSON");
        let inner = got["arguments"].as_str().expect("a string");
        let inner: serde_json::Value = serde_json::from_str(inner).expect("JSON in it");
        assert_eq!(inner, serde_json::json!({ "n": 1, "email": value }));
        let body = Body::restoring(scope.clone(), Kind::Sse);
        let got = through(body, piece.as_bytes(), cut).expect("events");
        let got = String::from_utf8_lossy(&got);
        assert!(got.contains(r#"a\\\",\\\"admin\\\""#), "{got}");
    }
}

/// Pieces of arguments that do not show, each for itself, that they are JSON.
#[test]
fn arguments_in_pieces() {
    type Event<'a> = &'a dyn Fn(&str) -> String;
    let responses: Event<'_> = &|text| {
        format!(
            "event: response.function_call_arguments.delta\ndata: {{\"type\":\"response.function_call_arguments.delta\",\"sequence_number\":3,\"item_id\":\"fc_1\",\"output_index\":0,\"delta\":\"{text}\"}}\n\n"
        )
    };
    let chat: Event<'_> =
        &|text| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let prose = "data: {\"type\":\"response.output_text.delta\",\"item_id\":\"m_1\",\"output_index\":1,\"delta\":\"a\\\"b\"}\n\n";
    let scope = scope();
    let value = "a\",\"admin\":true,\"x\":\"\\";
    let token = scope.tokens().token("secret", value.as_bytes()).expect("room").to_owned();
    for event in [responses, chat] {
        let pieces = |pieces: &[&str]| pieces.iter().map(|piece| event(piece) + prose).collect::<String>();
        let (head, tail) = token.split_at(5);
        let call = pieces(&["{", "\\\"", "email\\\"", ": \\\"", head, tail, "\\\",\\\"n\\\":1}"]);
        for cut in [1, 5, 999] {
            let got =
                through(Body::restoring(scope.clone(), Kind::Sse), call.as_bytes(), cut).expect("events");
            let got = String::from_utf8(got).expect("text");
            let mut all = String::new();
            for data in
                got.split("\n\n").filter_map(|event| event.rsplit_once("data: ")).map(|(_, data)| data)
            {
                let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
                let piece = data["choices"][0]["delta"]["content"].as_str().or(data["delta"].as_str());
                all += piece.filter(|_| data["item_id"] != "m_1").unwrap_or_default();
            }
            let inner: serde_json::Value = serde_json::from_str(&all).expect("JSON in it");
            assert_eq!(inner, serde_json::json!({ "email": value, "n": 1 }), "cut {cut}: {got}");
        }
        for (text, want) in [
            (
                &["{\\\"", "a\\\":\\\"x\\\\n41", "11 1111 1111 1111"][..],
                &["{\\\"", "a\\\":\\\"x\\\\n[card]", ""][..],
            ),
            (
                &[r#"{\"a\":\"x\\"#, r"njane\\", r#"u0040corp.test\"}"#],
                &[r#"{\"a\":\"x\\"#, "n[email]", r#"\"}"#],
            ),
        ] {
            assert_eq!(hidden(&Kind::Sse, &pieces(text)), pieces(want));
        }
    }
}

#[test]
fn names_of_a_form_stay_between_addresses() {
    let text = "to=jo@corp.test&bo%26b@corp.test=2&R%26D@corp.test&password=hunter2!&x=1";
    let want = "to=%5Bemail%5D&%5Bemail%5D=2&%5Bemail%5D&password=%5Bsecret%5D&x=1";
    assert_eq!(hidden(&Kind::Form, text), want);
}

#[test]
fn names_in_any_letter_case_and_in_brackets() {
    for (kind, text, want) in [
        (
            Kind::Json,
            r#"{"Nick":"Jo","u":{"PASSWORD":1}}"#,
            r#"{"Nick":"[nick]","u":{"PASSWORD":"[password]"}}"#,
        ),
        (Kind::Csv, "NICK,a\nJo,b\n", "NICK,a\n[nick],b\n"),
        (
            Kind::Form,
            "Who=Jo&u%5Bwho%5D=Al&m[0].who=Bo&who[]=Cy&who2=Di",
            "Who=%5Bwho%5D&u%5Bwho%5D=%5Bwho%5D&m[0].who=%5Bwho%5D&who[]=%5Bwho%5D&who2=Di",
        ),
        (Kind::Html, "<p WHO='Jo'>", "<p WHO='[who]'>"),
        (Kind::Html, "<p o\nwho = Jo x who=Al>", "<p o\nwho = [who] x who=[who]>"),
    ] {
        assert_eq!(hidden(&kind, text), want);
    }
    let part = |name: &str, text: &str| {
        format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n--b--\r\n")
    };
    let kind = Kind::Multipart { boundary: b"b".to_vec() };
    assert_eq!(hidden(&kind, &part("user[WHO]", "Jo")), part("user[WHO]", "[who]"));
}

#[test]
fn odd_spaces_and_dashes_in_numbers() {
    for (text, want) in [
        ("pay 4111\u{a0}1111\u{2009}1111\u{202f}1111, é\u{a0}x", "pay [card], é\u{a0}x"),
        ("ssn 219–09—8765 or 219\u{2010}09\u{2011}8765 – a–b", "ssn [us-ssn] or [us-ssn] – a–b"),
        ("41\u{ad}11\u{200b}1111\u{2060}11111\u{feff}111 a\u{200b}b", "[card] a\u{200b}b"),
        ("ja\u{200b}ne@corp\u{ad}.test New\u{a0}York", "[email] [towns]"),
        ("４１１１ １１１１ １１１１ １１１１", "[card]"),
    ] {
        assert_eq!(hidden(&Kind::Text, text), want);
        assert_eq!(hidden(&Kind::Json, &format!("\"{text}\"")), format!("\"{want}\""));
        assert_eq!(hidden(&Kind::Csv, &format!("\"{text}\"")), format!("\"{want}\""));
        let parts = |text: &str| format!("--b\r\ncontent-type: text/plain\r\n\r\n{text}\r\n--b--\r\n");
        assert_eq!(hidden(&Kind::Multipart { boundary: b"b".to_vec() }, &parts(text)), parts(want));
        let event = |text: &str| format!("data: {{\"delta\":{{\"text\":\"{text}\"}},\"index\":1}}\n\n");
        assert_eq!(hidden(&Kind::Sse, &event(text)), event(want));
    }
    assert_eq!(hidden(&Kind::Json, r#""4111\u00a01111\u20091111\u00ad 1111""#), r#""[card]""#);
    assert_eq!(hidden(&Kind::Html, "<p>4111&nbsp;1111&#160;1111&thinsp;1111"), "<p>[card]");
    assert_eq!(hidden(&Kind::Form, "a=4111%C2%A01111%C2%A01111%C2%A01111"), "a=%5Bcard%5D");
    let key = "-----BEGIN PRIVATE KEY-----\n41\u{ad}11\u{200b}";
    assert_eq!(hidden(&Kind::Text, &format!("{key}MII\u{200b}")), "[private-key]\u{200b}");
    assert_eq!(hidden(&Kind::Text, &format!("{key}{{")), "[private-key]\u{200b}{");
}

#[test]
fn json_that_is_called_a_form() {
    for (text, want) in [
        (r#"{"nick":"John","e":"jane\u0040corp.test"}"#, r#"{"nick":"[nick]","e":"[email]"}"#),
        (r#"  ["jane\u0040corp.test"]"#, r#"  ["[email]"]"#),
        ("[x]=jane%40corp.test&who=Jo", "[x]=%5Bemail%5D&who=%5Bwho%5D"),
        (r#"{"a":1}&b=jane%40corp.test"#, r#"{"a":1}&b=%5Bemail%5D"#),
        (" who=Jo&b=jane%40corp.test", " who=Jo&b=%5Bemail%5D"),
        ("  ", "  "),
    ] {
        assert_eq!(hidden(&Kind::Form, text), want);
    }
    let marked = "\u{feff} {\"a\":\"jane\\u0040corp.test\"}";
    let part = |text: &str| format!("--b\r\n\r\n{text}\r\n--b--\r\n");
    let kind = Kind::Multipart { boundary: b"b".to_vec() };
    assert_eq!(hidden(&kind, &part(marked)), part("\u{feff} {\"a\":\"[email]\"}"));
}

/// Lengths stand before texts in MessagePack, CBOR and their like.
#[test]
fn what_is_no_text_keeps_its_lengths() {
    let text = b"\x82\xa1a\xaejane@corp.test\xa1b\xb34111 1111 1111 1111\xff";
    let want = b"\x82\xa1a\xae**************\xa1b\xb3*******************\xff";
    for with in [Replacement::Redact, Replacement::Token] {
        for cut in 1..text.len() {
            let mut body = Body::hiding(plan(with), scope(), Kind::Opaque);
            let mut out = Vec::new();
            text.chunks(cut).for_each(|piece| body.push(piece, &mut out).expect("anything"));
            body.end(&mut out).expect("anything");
            assert_eq!(out, want, "cut {cut}");
            assert_eq!(body.counts().total(), 2);
        }
    }
}
