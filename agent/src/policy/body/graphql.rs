//! GraphQL requests (GraphQL over HTTP, October 2021 language): what operation runs, and on which top-level fields.
//!
//! No validation: a document that a server would refuse may read well here. What two servers could run differently, or
//! what is named and not said (persisted queries, batches), is not read.

use std::collections::HashMap;

use http::HeaderMap;
use serde_json::{Value, json};

use super::{View, form, media_type, parts};

/// Tokens of one document.
const TOKENS: usize = 100_000;
/// Inline fragments inside one another, and spread fragments.
const DEPTH: usize = 64;

/// `operation` (absent when it has no name), `type` (`query`, `mutation`, `subscription`) and `names`, the top-level
/// fields without their aliases; `None` where nothing asks for an operation.
///
/// `json` reads the body as JSON: it is called where the body may be that.
///
/// # Errors
/// Why it is not read.
pub fn graphql<'j>(
    query: Option<&str>,
    headers: &HeaderMap,
    body: &[u8],
    json: impl FnOnce() -> Result<Option<&'j Value>, String>,
) -> View {
    let mut asked = parameters(query)?;
    let in_query = asked.document.is_some() || asked.operation.is_some();
    if !body.is_empty() {
        let inside = match media_type(headers)? {
            Some((kind, _)) if kind == "application/graphql" => {
                let document = std::str::from_utf8(body).map_err(|_| "its document is no UTF-8")?;
                Asked { document: Some(document.to_owned()), operation: None }
            }
            Some((kind, _)) if kind == "application/x-www-form-urlencoded" => {
                let fields = form(headers, body)?.unwrap_or_default();
                Asked { document: one(&fields["query"])?, operation: one(&fields["operationName"])? }
            }
            Some((kind, _)) if kind == "multipart/form-data" => {
                let parts = parts(headers, body)?.unwrap_or_default();
                let mut operations = parts.iter().filter(|part| part.name == "operations");
                match (operations.next(), operations.next()) {
                    (None, _) => Asked::default(),
                    (Some(part), None) => of(&super::json(part.content)?)?,
                    _ => return Err("it has operations twice".to_owned()),
                }
            }
            _ => json()?.map(of).transpose()?.unwrap_or_default(),
        };
        if inside.document.is_some() && in_query {
            return Err("it asks for an operation in its query and in its body".to_owned());
        }
        if inside.document.is_some() {
            asked = inside;
        }
    }
    let Some(document) = &asked.document else { return Ok(None) };
    let name = asked.operation.as_deref().filter(|name| !name.is_empty());
    read(document, name).map(Some).map_err(|why| format!("its GraphQL: {why}"))
}

#[derive(Default)]
struct Asked {
    document: Option<String>,
    operation: Option<String>,
}

/// What the query of a URL asks.
fn parameters(query: Option<&str>) -> Result<Asked, String> {
    let (mut asked, mut persisted) = (Asked::default(), false);
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let slot = match &*name {
            "query" => &mut asked.document,
            "operationName" => &mut asked.operation,
            "extensions" if value.contains("persistedQuery") => {
                persisted = true;
                continue;
            }
            _ => continue,
        };
        if slot.replace(value.into_owned()).is_some() {
            return Err("its query has a parameter twice".to_owned());
        }
    }
    if persisted && asked.document.is_none() {
        return Err("it asks for a persisted GraphQL query".to_owned());
    }
    Ok(asked)
}

/// What a JSON body asks.
fn of(json: &Value) -> Result<Asked, String> {
    let text = |name: &str| match &json[name] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ => Err(format!("its member {name} is no text")),
    };
    match json {
        Value::Array(list) if list.iter().any(|one| one.get("query").is_some()) => {
            Err("it is a batch of GraphQL requests".to_owned())
        }
        Value::Object(_) => {
            let document = text("query")?;
            if document.is_none() && !json["extensions"]["persistedQuery"].is_null() {
                return Err("it asks for a persisted GraphQL query".to_owned());
            }
            Ok(Asked { document, operation: text("operationName")? })
        }
        _ => Ok(Asked::default()),
    }
}

fn one(values: &Value) -> Result<Option<String>, String> {
    match values.as_array().map(Vec::as_slice) {
        None => Ok(None),
        Some([Value::String(value)]) => Ok(Some(value.clone())),
        Some(_) => Err("its form has a field twice".to_owned()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'d> {
    Name(&'d str),
    /// `{`, `}`, `(`, `:`, …
    Mark(u8),
    Spread,
    /// A number, a text.
    Literal,
}

/// Splits a document.
fn tokens(document: &str) -> Result<Vec<Token<'_>>, &'static str> {
    let (bytes, mut at, mut tokens) = (document.as_bytes(), 0, Vec::new());
    while at < bytes.len() {
        let rest = &bytes[at..];
        let run = |holds: fn(&u8) -> bool| rest.iter().take_while(|b| holds(b)).count();
        let (token, length) = match rest[0] {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => (None, 1),
            b'#' => (None, run(|b| !matches!(b, b'\r' | b'\n'))),
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                let length = run(|b| b.is_ascii_alphanumeric() || *b == b'_');
                (Some(Token::Name(&document[at..at + length])), length)
            }
            b'-' | b'0'..=b'9' => {
                (Some(Token::Literal), run(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+')))
            }
            b'"' => (Some(Token::Literal), text(rest)?),
            b'.' if rest.starts_with(b"...") => (Some(Token::Spread), 3),
            mark @ (b'!' | b'$' | b'&' | b'(' | b')' | b':' | b'=' | b'@' | b'[' | b']' | b'{' | b'|'
            | b'}') => (Some(Token::Mark(mark)), 1),
            _ if at == 0 && document.starts_with('\u{feff}') => (None, 3),
            _ => return Err("a character that the language has not"),
        };
        tokens.extend(token);
        if tokens.len() > TOKENS {
            return Err("more tokens than are read");
        }
        at += length;
    }
    Ok(tokens)
}

/// The length of a text or a block of text.
fn text(rest: &[u8]) -> Result<usize, &'static str> {
    let block = rest.starts_with(b"\"\"\"");
    let mut at = if block { 3 } else { 1 };
    while at < rest.len() {
        match rest[at] {
            b'\\' if block && rest[at..].starts_with(b"\\\"\"\"") => at += 4,
            b'\\' if !block => at += 2,
            b'"' if block && rest[at..].starts_with(b"\"\"\"") => return Ok(at + 3),
            b'"' if !block => return Ok(at + 1),
            b'\r' | b'\n' if !block => break,
            _ => at += 1,
        }
    }
    Err("a text without an end")
}

/// One operation or fragment: where its selection stands among the tokens.
struct Definition<'d> {
    kind: &'d str,
    name: Option<&'d str>,
    /// Behind its `{`.
    selection: usize,
}

fn read(document: &str, name: Option<&str>) -> Result<Value, &'static str> {
    let tokens = tokens(document)?;
    let mut operations = Vec::new();
    let mut fragments = HashMap::new();
    let mut at = 0;
    while at < tokens.len() {
        let (definition, end) = definition(&tokens, at)?;
        at = end;
        match (definition.kind, definition.name) {
            ("fragment", Some(name)) => {
                if fragments.insert(name, definition.selection).is_some() {
                    return Err("a fragment twice");
                }
            }
            ("fragment", None) => return Err("a fragment without a name"),
            _ => operations.push(definition),
        }
    }
    let mut meant = operations.iter().filter(|operation| name.is_none() || operation.name == name);
    let (Some(operation), None) = (meant.next(), meant.next()) else {
        return Err("not one operation that is meant");
    };
    let mut fields = Fields { tokens: &tokens, fragments: &fragments, names: Vec::new(), spread: Vec::new() };
    fields.of(operation.selection, 0)?;
    let mut view = json!({"type": operation.kind, "names": fields.names});
    if let Some(name) = operation.name {
        view["operation"] = Value::from(name);
    }
    Ok(view)
}

/// Reads a definition, and where the next begins.
fn definition<'d>(tokens: &[Token<'d>], at: usize) -> Result<(Definition<'d>, usize), &'static str> {
    let (kind, mut next) = match tokens[at] {
        Token::Mark(b'{') => ("query", at),
        Token::Name(kind @ ("query" | "mutation" | "subscription" | "fragment")) => (kind, at + 1),
        _ => return Err("something that is neither operation nor fragment"),
    };
    let mut name = None;
    if let Some(Token::Name(word)) = tokens.get(next)
        && next > at
    {
        name = Some(*word);
        next += 1;
    }
    // Variables, directives, `on Type`: up to the selection.
    loop {
        match tokens.get(next) {
            Some(Token::Mark(b'{')) => break,
            Some(Token::Mark(b'(' | b'[')) => next = behind(tokens, next)?,
            Some(Token::Mark(b'@' | b':')) | Some(Token::Name(_)) => next += 1,
            _ => return Err("an operation without a selection"),
        }
    }
    Ok((Definition { kind, name, selection: next + 1 }, behind(tokens, next)?))
}

/// Behind the mark that closes the one at `at`.
fn behind(tokens: &[Token<'_>], at: usize) -> Result<usize, &'static str> {
    let mut open = Vec::new();
    for (at, token) in tokens.iter().enumerate().skip(at) {
        match token {
            Token::Mark(b'{') => open.push(b'}'),
            Token::Mark(b'(') => open.push(b')'),
            Token::Mark(b'[') => open.push(b']'),
            Token::Mark(mark @ (b'}' | b')' | b']')) if open.pop() != Some(*mark) => {
                return Err("brackets that do not match");
            }
            _ => {}
        }
        if open.is_empty() {
            return Ok(at + 1);
        }
    }
    Err("a bracket that is not closed")
}

/// Gathers the fields of a selection, and of the fragments that stand in it.
struct Fields<'t, 'd> {
    tokens: &'t [Token<'d>],
    fragments: &'t HashMap<&'d str, usize>,
    names: Vec<&'d str>,
    spread: Vec<&'d str>,
}

impl<'d> Fields<'_, 'd> {
    fn of(&mut self, mut at: usize, depth: usize) -> Result<(), &'static str> {
        if depth > DEPTH {
            return Err("fragments too deep");
        }
        loop {
            match self.tokens.get(at) {
                Some(Token::Mark(b'}')) => return Ok(()),
                Some(Token::Name(word)) => {
                    let mut name = *word;
                    at += 1;
                    if self.tokens.get(at) == Some(&Token::Mark(b':')) {
                        let Some(Token::Name(word)) = self.tokens.get(at + 1) else {
                            return Err("an alias of nothing");
                        };
                        name = word;
                        at += 2;
                    }
                    self.names.push(name);
                    at = self.directives(at)?;
                    if self.tokens.get(at) == Some(&Token::Mark(b'{')) {
                        at = behind(self.tokens, at)?;
                    }
                }
                Some(Token::Spread) => at = self.fragment(at + 1, depth)?,
                _ => return Err("a selection that cannot be read"),
            }
        }
    }

    fn fragment(&mut self, at: usize, depth: usize) -> Result<usize, &'static str> {
        let named = match self.tokens.get(at) {
            Some(Token::Name("on")) => None,
            Some(Token::Name(name)) => Some(*name),
            _ => None,
        };
        if let Some(name) = named {
            let selection = *self.fragments.get(name).ok_or("a fragment that is not there")?;
            if !self.spread.contains(&name) {
                if self.spread.len() == DEPTH {
                    return Err("too many fragments");
                }
                self.spread.push(name);
                self.of(selection, depth + 1)?;
            }
            return self.directives(at + 1);
        }
        let condition = matches!(self.tokens.get(at), Some(Token::Name(_)));
        let at = self.directives(if condition { at + 2 } else { at })?;
        if self.tokens.get(at) != Some(&Token::Mark(b'{')) {
            return Err("a fragment without a selection");
        }
        self.of(at + 1, depth + 1)?;
        behind(self.tokens, at)
    }

    /// Behind arguments and directives.
    fn directives(&self, mut at: usize) -> Result<usize, &'static str> {
        loop {
            match self.tokens.get(at) {
                Some(Token::Mark(b'(')) => at = behind(self.tokens, at)?,
                Some(Token::Mark(b'@')) => at += 2,
                _ => return Ok(at),
            }
        }
    }
}

#[cfg(test)]
mod tests;
