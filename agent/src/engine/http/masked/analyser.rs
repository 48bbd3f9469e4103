//! Names of people and places, and whatever else takes a model: a service on this host is given the text of a request's body, and
//! what it finds is hidden as what a word list finds. Only bodies that are there whole are given to it, after all else was hidden
//! in them; fields, queries and paths are not.
//!
//! It speaks as Presidio's analyser does: `POST /analyze` of `{"text", "language", "entities"}`, and a list of
//! `{"entity_type", "start", "end"}` for an answer, places counted in characters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Masking;
use super::request::replace;
use crate::engine::http::source::Source;
use crate::mask::{Binary, Body, Custom, Kind, Mask, Plan, Replacement, detect};
use crate::policy::analyser::{Analyser, OnFailure};
use crate::stream::{Once, ask};

/// So much text is given at once, in bytes, and so many times for one body.
const PIECE: usize = 4096;
const PIECES: usize = 64;
/// What a piece has of the one before it where a text is longer: a name that both share is found whole in one.
const AGAIN: usize = 128;
/// Bytes of an answer, and values in it.
const ANSWER: usize = 1 << 20;
const VALUES: usize = 2000;
/// Bytes of a value that is looked for: what is longer is no name.
const VALUE: std::ops::RangeInclusive<usize> = 3..=256;

/// By detector: what was found.
type Values = BTreeMap<String, BTreeSet<String>>;

#[derive(Serialize)]
struct Question<'a> {
    text: &'a str,
    language: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    entities: Option<&'a [String]>,
}

#[derive(Deserialize)]
struct Span {
    entity_type: String,
    start: usize,
    end: usize,
}

/// Why a request that no analyser can be given is refused; `None`: it may go on.
pub(in crate::engine::http) fn unasked(masking: &Masking, what: &str) -> Option<String> {
    let refuses = |analyser: &Analyser| analyser.on_failure == OnFailure::Refuse;
    let (analyser, _) = masking.masks.analysers.iter().find(|(analyser, _)| refuses(analyser))?;
    Some(format!("{what} cannot be given to the analyser at {}", analyser.address))
}

/// Hides what analysers find in a body that was read whole.
///
/// # Errors
/// Why one has not seen it, where its mask refuses then.
pub(in crate::engine::http) async fn analysed(
    masking: &Arc<Masking>,
    most: u64,
    request: &mut Request<Source>,
) -> Result<(), String> {
    for (analyser, with) in &masking.masks.analysers {
        let Err(why) = one(masking, analyser, *with, most, request).await else { continue };
        let why = format!("the analyser at {}: {why}", analyser.address);
        match analyser.on_failure {
            OnFailure::Refuse => return Err(why),
            OnFailure::Pass => tracing::warn!("a request goes on that an analyser has not seen: {why}"),
        }
    }
    Ok(())
}

async fn one(
    masking: &Arc<Masking>,
    analyser: &Analyser,
    with: Replacement,
    most: u64,
    request: &mut Request<Source>,
) -> Result<(), String> {
    let kind = request.headers().get(CONTENT_TYPE).map(|kind| kind.as_bytes().to_vec());
    let body = request.body_mut().whole(most).await.map_err(|_| "the body broke off")?;
    let body = body.map(Bytes::copy_from_slice).ok_or("the body is not there whole")?;
    let kind = Kind::of(kind.as_deref(), &body).map_err(|refused| refused.to_string())?;
    let pieces = pieces(&texts(&kind, &body)?)?;
    let asking = timeout(analyser.timeout, found(analyser, &pieces));
    let found = asking.await.map_err(|_| format!("no answer in {} ms", analyser.timeout.as_millis()))??;
    if found.is_empty() {
        return Ok(());
    }
    // Nothing of an error is told: a value may be in it.
    let plan = plan(found, with).ok_or("more values than can be looked for")?;
    let mut hiding = Body::hiding(Arc::new(plan), Arc::clone(&masking.scope), kind);
    let mut out = Vec::with_capacity(body.len());
    let hidden = hiding.push(&body, &mut out).and_then(|()| hiding.end(&mut out));
    hidden.map_err(|refused| refused.to_string())?;
    masking.count(hiding.counts());
    if out == body {
        return Ok(());
    }
    replace(request, &out);
    Ok(())
}

/// A mask of the values alone.
fn plan(found: Values, with: Replacement) -> Option<Plan> {
    let lists = found.into_iter().map(|(name, words)| Custom::Words {
        name,
        words: words.into_iter().collect(),
        any_case: false,
    });
    let mask = Mask {
        name: "analyser".to_owned(),
        detect: Vec::new(),
        custom: lists.collect(),
        json: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
        form: Vec::new(),
        multipart: Vec::new(),
        attributes: Vec::new(),
        with,
        binary: Binary::Pass,
    };
    Plan::compile(&[mask]).ok()
}

/// What a reader would read in a body: the values of JSON and forms, and texts as they stand.
fn texts(kind: &Kind, body: &[u8]) -> Result<Vec<String>, String> {
    let text = || str::from_utf8(body).map_err(|_| "the body is no UTF-8".to_owned());
    let mut all = Vec::new();
    match kind {
        Kind::Json => match serde_json::from_slice(body) {
            Ok(value) => strings(value, &mut all),
            Err(_) if body.trim_ascii().is_empty() => {}
            Err(_) => return Err("the body is no JSON".to_owned()),
        },
        Kind::Ndjson => {
            for line in text()?.lines().filter(|line| !line.trim().is_empty()) {
                let line = line.trim_start_matches('\u{1e}');
                strings(serde_json::from_str(line).map_err(|_| "the body is no JSON")?, &mut all);
            }
        }
        Kind::Form | Kind::Text => match serde_json::from_slice(body) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => strings(value, &mut all),
            _ if *kind == Kind::Form => {
                all.extend(form_urlencoded::parse(body).map(|(_, value)| value.into_owned()));
            }
            _ => all.push(text()?.to_owned()),
        },
        Kind::Sse | Kind::Xml | Kind::Html | Kind::Csv => all.push(text()?.to_owned()),
        Kind::Multipart { .. } | Kind::Opaque | Kind::Grpc | Kind::Protobuf | Kind::Latin1(_) => {
            return Err("a body of this kind cannot be given to it".to_owned());
        }
    }
    all.retain(|text| text.chars().filter(|letter| letter.is_alphabetic()).count() > 1);
    Ok(all)
}

fn strings(value: Value, all: &mut Vec<String>) {
    match value {
        Value::String(text) => all.push(text),
        Value::Array(list) => list.into_iter().for_each(|value| strings(value, all)),
        Value::Object(fields) => fields.into_iter().for_each(|(_, value)| strings(value, all)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Texts, a line or more each, in pieces of a bounded length.
fn pieces(texts: &[String]) -> Result<Vec<String>, String> {
    let mut pieces = vec![String::new()];
    for text in texts {
        let mut rest = text.as_str();
        loop {
            let last = pieces.last_mut().expect("there is one");
            let room = PIECE.saturating_sub(last.len() + 1);
            if rest.len() <= room {
                last.push_str(rest);
                last.push('\n');
                break;
            }
            if !last.is_empty() {
                pieces.push(String::new());
                continue;
            }
            let end = rest[..rest.floor_char_boundary(PIECE)].len();
            last.push_str(&rest[..end]);
            rest = &rest[rest.floor_char_boundary(end - AGAIN)..];
            pieces.push(String::new());
        }
        if pieces.len() > PIECES {
            return Err(format!("more text than {PIECES} pieces of {PIECE} bytes"));
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    Ok(pieces)
}

/// Asks of each piece what is in it.
async fn found(analyser: &Analyser, pieces: &[String]) -> Result<Values, String> {
    let mut all = Values::new();
    for piece in pieces {
        let entities = Some(&analyser.entities[..]).filter(|entities| !entities.is_empty());
        let question = Question { text: piece, language: &analyser.language, entities };
        let question = serde_json::to_vec(&question).map_err(|_| "a text that is no JSON")?;
        for span in asked(analyser, question).await? {
            note(piece, &span, &analyser.entities, &mut all);
        }
    }
    Ok(all)
}

async fn asked(analyser: &Analyser, question: Vec<u8>) -> Result<Vec<Span>, String> {
    let mut request = Request::new(Once::of(Bytes::from(question)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = analyser.path.parse().map_err(|_| "its path is none")?;
    let host = HeaderValue::from_str(&analyser.address.to_string()).map_err(|_| "its address is none")?;
    let headers = request.headers_mut();
    headers.insert(HOST, host);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    #[expect(clippy::disallowed_methods, reason = "a service on loopback, which no redirection takes")]
    let stream = TcpStream::connect(analyser.address).await.map_err(|error| error.to_string())?;
    let answer = ask(stream, request, ANSWER).await?;
    if answer.status() != StatusCode::OK {
        return Err(format!("it answered {}", answer.status().as_u16()));
    }
    let spans: Vec<Span> =
        serde_json::from_slice(answer.body()).map_err(|_| "its answer is no list of spans")?;
    if spans.len() > VALUES { Err(format!("more than {VALUES} values in one text")) } else { Ok(spans) }
}

/// What stands there, line by line.
fn note(piece: &str, span: &Span, asked: &[String], all: &mut Values) {
    if !(asked.is_empty() || asked.contains(&span.entity_type)) {
        return;
    }
    let value: String = piece.chars().skip(span.start).take(span.end.saturating_sub(span.start)).collect();
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-';
    let name = span.entity_type.to_ascii_lowercase().replace('_', "-");
    let name: String = name.bytes().filter(is_name).take(32).map(char::from).collect();
    let name = if name.is_empty() || detect::named(&name).is_some() { format!("found-{name}") } else { name };
    let words = value.lines().map(str::trim).filter(|word| VALUE.contains(&word.len()));
    all.entry(name).or_default().extend(words.map(str::to_owned));
    all.retain(|_, words| !words.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_what_a_reader_reads() {
        let of = |kind: Kind, body: &str| texts(&kind, body.as_bytes()).map(|all| all.join("|"));
        assert_eq!(
            of(Kind::Json, r#"{"a":"J\u0061ne","b":[1,"Al",{"c":null,"d":"4"}]}"#).as_deref(),
            Ok("Jane|Al")
        );
        assert_eq!(of(Kind::Ndjson, "{\"a\":\"Jane\"}\n\n[\"Al\"]\n").as_deref(), Ok("Jane|Al"));
        assert_eq!(of(Kind::Form, "a=Jane+Roe&b=%C3%89va").as_deref(), Ok("Jane Roe|Éva"));
        assert_eq!(of(Kind::Form, "{\"a\":\"Jane\"}").as_deref(), Ok("Jane"));
        assert_eq!(of(Kind::Text, "Jane and Al").as_deref(), Ok("Jane and Al"));
        assert!(of(Kind::Opaque, "Jane").is_err() && of(Kind::Json, "{").is_err());
    }

    #[test]
    fn pieces_are_bounded_and_share_their_edges() {
        let long = "é".repeat(PIECE);
        let all = pieces(&["Jane".into(), long.clone(), "Al".into()]).expect("few");
        assert!(all.len() == 4 && all.iter().all(|piece| piece.len() <= PIECE), "{}", all.len());
        assert_eq!((all[0].as_str(), all[3].ends_with("Al\n")), ("Jane\n", true));
        let shared: usize = all.iter().map(String::len).sum::<usize>() - long.len();
        assert!(shared >= 2 * AGAIN, "{shared}");
        assert!(pieces(&vec![long; 40]).is_err() && pieces(&[]) == Ok(Vec::new()));
    }

    #[test]
    fn places_are_counted_in_characters() {
        let mut all = Values::new();
        let span = |kind: &str, start, end| Span { entity_type: kind.into(), start, end };
        let piece = "Zoë, Jane\nRoe in Köln\n";
        for span in [
            span("PERSON", 5, 13),
            span("LOCATION", 17, 21),
            span("EMAIL", 0, 3),
            span("PERSON", 90, 99),
            span("ORG", 0, 3),
        ] {
            note(piece, &span, &["PERSON".into(), "LOCATION".into(), "EMAIL".into()], &mut all);
        }
        let words =
            |name: &str| all.get(name).map(|words| words.iter().cloned().collect::<Vec<_>>().join("|"));
        assert_eq!(
            (words("person").as_deref(), words("location").as_deref()),
            (Some("Jane|Roe"), Some("Köln"))
        );
        assert_eq!((words("found-email").as_deref(), all.len()), (Some("Zoë"), 3));
        assert!(plan(all, Replacement::Redact).is_some());
    }
}
