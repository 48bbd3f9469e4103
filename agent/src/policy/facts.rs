//! All that one decision looks at, each read when a rule first asks for it and at most once.

use std::cell::{Cell, OnceCell};

use http::HeaderMap;
use serde_json::Value;

use super::body::{self, View};
use super::judge::Asked;
use super::known::Fault;
use super::llm::{self, Llm};
use super::past::Withheld;
use crate::types::action::{Body, Http, Message, Speaker};
use crate::types::identity::{claim_at, names_of};
use crate::types::{Action, Identity};

/// See the module.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub asked: &'a Asked<'a>,
    /// What is past and was recorded may lack some of it: that is as unknown as what has not come yet.
    withheld: &'a Withheld,
    /// The rule at hand does not ask who sends messages on a WebSocket: it is about the client's, and of the server's it knows
    /// what it knew of the handshake.
    pub deaf: Cell<bool>,
    /// The rule at hand refuses.
    pub refuses: Cell<bool>,
    /// Steps that conditions took so far.
    pub steps: Cell<u64>,
    /// Whether a header field's name has an underscore.
    odd_headers: OnceCell<bool>,
    query: OnceCell<Value>,
    headers: OnceCell<Value>,
    json: OnceCell<View>,
    form: OnceCell<View>,
    multipart: OnceCell<View>,
    graphql: OnceCell<View>,
    grpc: OnceCell<Option<Value>>,
    llm: OnceCell<Result<Option<Llm>, String>>,
    text: OnceCell<Result<String, String>>,
    message: OnceCell<View>,
    folded: OnceCell<String>,
    binary: OnceCell<String>,
}

impl<'a> Facts<'a> {
    #[cfg(test)]
    pub fn new(asked: &'a Asked<'a>) -> Self {
        Self::without(asked, &super::past::NOTHING)
    }

    /// All but what is withheld.
    pub fn without(asked: &'a Asked<'a>, withheld: &'a Withheld) -> Self {
        Self {
            asked,
            withheld,
            deaf: Cell::new(false),
            steps: Cell::new(0),
            odd_headers: OnceCell::new(),
            refuses: Cell::new(false),
            query: OnceCell::new(),
            headers: OnceCell::new(),
            json: OnceCell::new(),
            form: OnceCell::new(),
            multipart: OnceCell::new(),
            graphql: OnceCell::new(),
            grpc: OnceCell::new(),
            llm: OnceCell::new(),
            text: OnceCell::new(),
            message: OnceCell::new(),
            folded: OnceCell::new(),
            binary: OnceCell::new(),
        }
    }

    /// The identity that holds now: one that has ended is nobody's.
    pub fn identity(&self) -> Result<&'a Identity, Fault> {
        let identity = self.asked.identity.ok_or(Fault::NotYet)?;
        identity.filter(|is| self.asked.now.unix_timestamp() < is.expires).ok_or(Fault::Missing)
    }

    /// Its verified claims.
    pub fn claims(&self) -> Result<&'a Value, Fault> {
        let identity = self.identity()?;
        if self.withheld.claims.is_some() { Err(Fault::NotYet) } else { Ok(&identity.claims) }
    }

    /// The claim at a path with dots, if the token has it.
    pub fn claim(&self, path: &str) -> Result<Option<&'a Value>, Fault> {
        let claims = &self.identity()?.claims;
        if self.withheld.claims.is_some() && names_of(path).any(|name| self.hides_claim(name)) {
            return Err(Fault::NotYet);
        }
        Ok(claims.as_object().and_then(|claims| claim_at(claims, path)))
    }

    /// Its verified claims, to ask them for one by this name.
    pub fn claims_with(&self, name: &str) -> Result<&'a Value, Fault> {
        let identity = self.identity()?;
        if self.hides_claim(name) { Err(Fault::NotYet) } else { Ok(&identity.claims) }
    }

    fn hides_claim(&self, name: &str) -> bool {
        self.withheld.claims.as_ref().is_some_and(|known| !known.knows(name))
    }

    /// Whether any claims are withheld.
    pub fn hides_claims(&self) -> bool {
        self.withheld.claims.is_some()
    }

    /// Its issuer.
    pub fn issuer(&self) -> Result<&'a str, Fault> {
        let identity = self.identity()?;
        if self.withheld.issuer { Err(Fault::NotYet) } else { Ok(&identity.issuer) }
    }

    /// The executable's SHA-256.
    pub fn exe_sha256(&self) -> Result<&'a str, Fault> {
        let exe = self.asked.caller.exe.as_ref();
        exe.and_then(|exe| exe.sha256.as_deref()).ok_or_else(|| match self.withheld.exe_sha256 {
            true => Fault::NotYet,
            false => Fault::Cannot("the content of the caller's program is not known".to_owned()),
        })
    }

    /// The request's path.
    pub fn path(&self) -> Result<&'a str, Fault> {
        let path = self.http()?.path;
        if self.withheld.path { Err(Fault::NotYet) } else { Ok(path) }
    }

    /// Whether the values of this header field are withheld.
    pub fn hides_header(&self, name: &str) -> bool {
        self.withheld.headers_cut
            || self.withheld.headers.iter().any(|hidden| hidden.eq_ignore_ascii_case(name))
    }

    /// Whether the request is known to have no such header field, and none that servers take for it; `name`: in lower case,
    /// else it is not said.
    pub fn lacks_header(&self, name: &str) -> bool {
        let plain = name.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase());
        plain
            && self.http().is_ok_and(|http| !http.headers.contains_key(name))
            && !self.hides_header(name)
            && self.alike_headers(name).next().is_none()
    }

    /// Header fields that servers which hand fields on as variables (RFC 3875 §4.1.18) cannot tell from this one, where they
    /// are spelled otherwise: `x_team` for `x-team`.
    pub fn alike_headers(&self, name: &str) -> impl Iterator<Item = &'a http::HeaderName> {
        let headers = self.http().ok().map(|http| http.headers);
        let odd = |name: &str| name.contains('_');
        let any = *self
            .odd_headers
            .get_or_init(|| headers.is_some_and(|headers| headers.keys().any(|key| odd(key.as_str()))));
        let headers = headers.filter(|_| any || odd(name));
        headers.into_iter().flat_map(HeaderMap::keys).filter(move |key| {
            let fold = |b: u8| if b == b'_' { b'-' } else { b };
            let key = key.as_str();
            key != name && key.len() == name.len() && key.bytes().map(fold).eq(name.bytes().map(fold))
        })
    }

    /// A parameter of the query that some servers take for this one, where it is spelled otherwise: in another letter case,
    /// as `name[]`, with a space before it, with a dot in place of `_`.
    pub fn alike_parameter(&self, name: &str) -> Option<&str> {
        let parameters = self.query().ok()?.as_object()?;
        parameters.keys().map(String::as_str).find(|key| *key != name && alike_parameters(key, name))
    }

    /// Whether the values of this query parameter are withheld.
    pub fn hides_query(&self, name: &str) -> bool {
        self.withheld.query.iter().any(|hidden| hidden == name)
    }

    /// Whether any header field's values are withheld.
    pub fn hides_headers(&self) -> bool {
        self.withheld.headers_cut || !self.withheld.headers.is_empty()
    }

    /// Whether any query parameter's values are withheld.
    pub fn hides_queries(&self) -> bool {
        !self.withheld.query.is_empty()
    }

    /// The request's head.
    pub fn http(&self) -> Result<&Http<'a>, Fault> {
        match &self.asked.action {
            Action::Http(http) => Ok(http),
            Action::Connect { .. } | Action::Name { .. } => Err(Fault::NotYet),
            Action::Tunnel { .. } => Err(Fault::Missing),
        }
    }

    /// Query parameters, percent-decoded: a map of lists.
    pub fn query(&self) -> Result<&Value, Fault> {
        let query = self.http()?.query.unwrap_or_default().as_bytes();
        let owned = |(name, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)| {
            (name.into_owned(), value.into_owned())
        };
        Ok(self.query.get_or_init(|| body::lists(form_urlencoded::parse(query).map(owned))))
    }

    /// Header fields, names in lower case: a map of lists.
    pub fn headers(&self) -> Result<&Value, Fault> {
        let headers = self.http()?.headers;
        let owned = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        Ok(self.headers.get_or_init(|| body::lists(headers.iter().map(owned))))
    }

    pub fn grpc(&self) -> Result<&Value, Fault> {
        let http = self.http()?;
        self.grpc.get_or_init(|| body::grpc(http.protocol, http.path)).as_ref().ok_or(Fault::Missing)
    }

    /// The body, of which a rule reads at most `max` bytes.
    fn body(&self, max: u64) -> Result<&'a [u8], Fault> {
        match self.http()?.body {
            Body::Unread => Err(Fault::NotYet),
            Body::Unknowable(why) => Err(Fault::Cannot(format!("the body cannot be read: {why}"))),
            Body::Whole(body) if body.len() as u64 > max => {
                Err(Fault::Cannot(format!("the body is longer than {max} bytes")))
            }
            Body::Whole(body) => Ok(body),
            // What is judged then has none.
            Body::Handshake | Body::Message(_) => Err(Fault::Missing),
        }
    }

    /// The message on a WebSocket that is judged, and whether it is binary; of which a rule reads at most `max` bytes.
    /// Missing where it is none: a request, whose messages, where it opens a WebSocket, are not known yet.
    pub fn message(&self, max: u64) -> Result<(bool, &'a [u8]), Fault> {
        match self.http()?.body {
            Body::Handshake => Err(Fault::NotYet),
            Body::Message(Message { from: Speaker::Server, .. }) if self.deaf.get() => Err(Fault::NotYet),
            Body::Unread | Body::Whole(_) | Body::Unknowable(_) => Err(Fault::Missing),
            Body::Message(Message { data: Err(why), .. }) => {
                Err(Fault::Cannot(format!("the message cannot be read: {why}")))
            }
            Body::Message(Message { data: Ok(data), .. }) if data.len() as u64 > max => {
                Err(Fault::Cannot(format!("the message is longer than {max} bytes")))
            }
            Body::Message(Message { binary, data: Ok(data), .. }) => Ok((binary, data)),
        }
    }

    /// Who sent it.
    pub fn speaker(&self) -> Result<Speaker, Fault> {
        match self.http()?.body {
            Body::Handshake => Err(Fault::NotYet),
            Body::Unread | Body::Whole(_) | Body::Unknowable(_) => Err(Fault::Missing),
            Body::Message(Message { from, .. }) => Ok(from),
        }
    }

    /// Its text; a binary one has none, but for rules that refuse.
    pub fn message_text(&self, max: u64) -> Result<&str, Fault> {
        match self.message(max)? {
            // To a server that does not look at a frame's opcode it is text all the same.
            (true, data) if self.refuses.get() => {
                Ok(self.binary.get_or_init(|| String::from_utf8_lossy(data).into_owned()))
            }
            (true, _) => Err(Fault::Missing),
            (false, data) => {
                std::str::from_utf8(data).map_err(|_| Fault::Cannot("the message is no UTF-8".to_owned()))
            }
        }
    }

    /// What it says, text or binary, as JSON.
    pub fn message_json(&self, max: u64) -> Result<&Value, Fault> {
        let (_, data) = self.message(max)?;
        read(self.message_view(data))
    }

    fn message_view(&self, data: &[u8]) -> &View {
        self.message.get_or_init(|| if data.is_empty() { Ok(None) } else { body::json(data).map(Some) })
    }

    /// Whether messages on a WebSocket are what is judged, or will be.
    fn is_websocket(&self) -> Result<bool, Fault> {
        Ok(matches!(self.http()?.body, Body::Handshake | Body::Message(_)))
    }

    /// `None` where there is no body, or none that is JSON.
    fn json_view(&self, body: &[u8]) -> &View {
        self.json.get_or_init(|| if body.is_empty() { Ok(None) } else { body::json(body).map(Some) })
    }

    pub fn json(&self, max: u64) -> Result<&Value, Fault> {
        read(self.json_view(self.body(max)?))
    }

    pub fn form(&self, max: u64) -> Result<&Value, Fault> {
        self.view(&self.form, max, body::form)
    }

    pub fn multipart(&self, max: u64) -> Result<&Value, Fault> {
        self.view(&self.multipart, max, body::multipart)
    }

    fn view<'f>(
        &self,
        cell: &'f OnceCell<View>,
        max: u64,
        read_as: impl FnOnce(&HeaderMap, &[u8]) -> View,
    ) -> Result<&'f Value, Fault> {
        let (headers, body) = (self.http()?.headers, self.body(max)?);
        read(cell.get_or_init(|| if body.is_empty() { Ok(None) } else { read_as(headers, body) }))
    }

    pub fn graphql(&self, max: u64) -> Result<&Value, Fault> {
        let (http, body) = (self.http()?, self.body(max)?);
        read(self.graphql.get_or_init(|| {
            let json = || self.json_view(body).as_ref().map(Option::as_ref).map_err(Clone::clone);
            body::graphql(http.query, http.headers, body, json)
        }))
    }

    /// The request to a language model that it is; known to be none by the head where the path is none of theirs.
    pub fn llm(&self, max: u64) -> Result<&Llm, Fault> {
        let http = self.http()?;
        let route = llm::route(http).ok_or(Fault::Missing)?;
        if self.is_websocket()? {
            let (_, data) = self.message(max)?;
            // What a model answers is no request to one.
            if self.speaker()? == Speaker::Server {
                return Err(Fault::Missing);
            }
            let view = self.llm.get_or_init(|| {
                let json = self.message_view(data).as_ref().map_err(Clone::clone)?;
                route.json(http, json.as_ref())
            });
            return view.as_ref().map_err(|why| Fault::Cannot(why.clone()))?.as_ref().ok_or(Fault::Missing);
        }
        let body = self.body(max)?;
        let view = self.llm.get_or_init(|| Llm::by(&route, http, body, || self.json_view(body)));
        view.as_ref().map_err(|why| Fault::Cannot(why.clone()))?.as_ref().ok_or(Fault::Missing)
    }

    /// What a prompt filter looks at: the prompt where there is one, else every text in the body; every text in a message.
    pub fn prompt(&self, max: u64) -> Result<&str, Fault> {
        if self.is_websocket()? {
            let (_, data) = self.message(max)?;
            let text = self.text.get_or_init(|| match self.message_view(data) {
                Ok(Some(json)) => Ok(llm::texts(json)),
                Ok(None) | Err(_) => Ok(String::from_utf8_lossy(data).into_owned()),
            });
            return text.as_deref().map_err(|why| Fault::Cannot(why.clone()));
        }
        match self.llm(max) {
            Ok(llm) => return Ok(&llm.prompt),
            Err(Fault::Missing) => {}
            Err(fault) => return Err(fault),
        }
        let (http, body) = (self.http()?, self.body(max)?);
        let text = self.text.get_or_init(|| match self.json_view(body) {
            Ok(None) => Ok(String::new()),
            Ok(Some(json)) => Ok(llm::texts(json)),
            Err(why) => match body::media_type(http.headers)? {
                Some((kind, _)) if kind.ends_with("/json") || kind.ends_with("+json") => Err(why.clone()),
                Some((kind, _)) if kind == "application/x-www-form-urlencoded" => {
                    Ok(body::form(http.headers, body)?.map(|form| llm::texts(&form)).unwrap_or_default())
                }
                _ => llm::texts_of(body).ok_or_else(|| why.clone()),
            },
        });
        text.as_deref().map_err(|why| Fault::Cannot(why.clone()))
    }

    /// The same with letter case folded.
    pub fn folded_prompt(&self, max: u64) -> Result<&str, Fault> {
        let prompt = self.prompt(max)?;
        Ok(self.folded.get_or_init(|| prompt.to_lowercase()))
    }
}

/// Whether some servers take both for one parameter.
pub(super) fn alike_parameters(one: &str, other: &str) -> bool {
    // As PHP reads names; ASP.NET does not look at letter case.
    fn plain(name: &str) -> impl Iterator<Item = u8> {
        let name = name.split('[').next().unwrap_or_default().trim_start_matches(' ');
        name.bytes().map(|b| if matches!(b, b'.' | b' ') { b'_' } else { b.to_ascii_lowercase() })
    }
    plain(one).eq(plain(other))
}

fn read(view: &View) -> Result<&Value, Fault> {
    view.as_ref().map_err(|why| Fault::Cannot(why.clone()))?.as_ref().ok_or(Fault::Missing)
}
