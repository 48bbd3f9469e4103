//! The names that conditions know, their kinds, and where their values come from.

use super::value::Val;
use crate::policy::facts::Facts;
use crate::policy::known::Fault;
use crate::types::{Action, HostName};

/// What a value is, as far as it is known before any request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything: what the job sends.
    Any,
    Null,
    Bool,
    Number,
    Text,
    Time,
    Span,
    List(Box<Kind>),
    /// Names to values.
    Map(Box<Kind>),
}

impl Kind {
    /// In words for people.
    pub fn words(&self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Time => "a time",
            Self::Span => "a duration",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// Whether values of both can be the same.
    pub fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any | Self::Null, _) | (_, Self::Any | Self::Null) => true,
            (Self::List(a), Self::List(b)) | (Self::Map(a), Self::Map(b)) => a.meets(b),
            (a, b) => a == b,
        }
    }
}

/// A name that has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Tag,
    Unit,
    User,
    Uid,
    Pid,
    Exe,
    Cgroup,
    Container,
    Image,
    Subject,
    Issuer,
    Groups,
    Claims,
    Address,
    Port,
    Host,
    Protocol,
    Method,
    Path,
    Query,
    Headers,
    Json,
    Form,
    Graphql(&'static str),
    Multipart(&'static str),
    Grpc(&'static str),
    Provider,
    Model,
    Prompt,
    Tools,
    Stream,
    MaxTokens,
    MessageFrom,
    MessageText,
    MessageJson,
    MessageBinary,
    MessageSize,
    Now,
}

#[derive(Clone, Copy)]
enum Of {
    Any,
    Bool,
    Number,
    Text,
    Time,
    Texts,
    /// Names to anything.
    Map,
    /// Names to lists of texts.
    Lists,
}

const NAMES: &[(&str, Name, Of)] = &[
    ("caller.tag", Name::Tag, Of::Text),
    ("caller.unit", Name::Unit, Of::Text),
    ("caller.user", Name::User, Of::Text),
    ("caller.uid", Name::Uid, Of::Number),
    ("caller.pid", Name::Pid, Of::Number),
    ("caller.exe", Name::Exe, Of::Text),
    ("caller.cgroup", Name::Cgroup, Of::Text),
    ("caller.container", Name::Container, Of::Text),
    ("caller.image", Name::Image, Of::Text),
    ("identity.subject", Name::Subject, Of::Text),
    ("identity.issuer", Name::Issuer, Of::Text),
    ("identity.groups", Name::Groups, Of::Texts),
    ("identity.claims", Name::Claims, Of::Map),
    ("destination.address", Name::Address, Of::Text),
    ("destination.port", Name::Port, Of::Number),
    ("host", Name::Host, Of::Text),
    ("request.protocol", Name::Protocol, Of::Text),
    ("request.method", Name::Method, Of::Text),
    ("request.path", Name::Path, Of::Text),
    ("request.query", Name::Query, Of::Lists),
    ("request.headers", Name::Headers, Of::Lists),
    ("request.json", Name::Json, Of::Any),
    ("request.form", Name::Form, Of::Lists),
    ("request.graphql.operation", Name::Graphql("operation"), Of::Text),
    ("request.graphql.type", Name::Graphql("type"), Of::Text),
    ("request.graphql.names", Name::Graphql("names"), Of::Texts),
    ("request.multipart.names", Name::Multipart("names"), Of::Texts),
    ("request.multipart.files", Name::Multipart("files"), Of::Texts),
    ("request.grpc.service", Name::Grpc("service"), Of::Text),
    ("request.grpc.method", Name::Grpc("method"), Of::Text),
    ("request.llm.provider", Name::Provider, Of::Text),
    ("request.llm.model", Name::Model, Of::Text),
    ("request.llm.prompt", Name::Prompt, Of::Text),
    ("request.llm.tools", Name::Tools, Of::Texts),
    ("request.llm.stream", Name::Stream, Of::Bool),
    ("request.llm.max_tokens", Name::MaxTokens, Of::Number),
    ("message.from", Name::MessageFrom, Of::Text),
    ("message.text", Name::MessageText, Of::Text),
    ("message.json", Name::MessageJson, Of::Any),
    ("message.binary", Name::MessageBinary, Of::Bool),
    ("message.size", Name::MessageSize, Of::Number),
    ("now", Name::Now, Of::Time),
];

/// The name that is written so, and its kind.
pub fn find(path: &str) -> Option<(Name, Kind)> {
    let (_, name, of) = NAMES.iter().find(|(name, ..)| *name == path)?;
    let texts = || Kind::List(Box::new(Kind::Text));
    let kind = match of {
        Of::Any => Kind::Any,
        Of::Bool => Kind::Bool,
        Of::Number => Kind::Number,
        Of::Text => Kind::Text,
        Of::Time => Kind::Time,
        Of::Texts => texts(),
        Of::Map => Kind::Map(Box::new(Kind::Any)),
        Of::Lists => Kind::Map(Box::new(texts())),
    };
    Some((*name, kind))
}

/// The names that stand below one (`caller.tag` below `caller`).
pub fn below(path: &str) -> impl Iterator<Item = &'static str> {
    let below = format!("{path}.");
    NAMES.iter().map(|(name, ..)| *name).filter(move |name| name.starts_with(&below))
}

/// All names.
pub fn all() -> Vec<&'static str> {
    NAMES.iter().map(|(name, ..)| *name).collect()
}

impl Name {
    /// Whether its value stands in the body.
    pub fn asks_body(self) -> bool {
        use Name::{Form, Graphql, Json, MaxTokens, Model, Multipart, Prompt, Provider, Stream, Tools};
        matches!(
            self,
            Json | Form | Graphql(_) | Multipart(_) | Provider | Model | Prompt | Tools | Stream | MaxTokens
        )
    }

    /// Whether its value stands in the messages of a WebSocket; of requests to models, in those to a realtime one.
    pub fn asks_message(self) -> bool {
        use Name::{MaxTokens, MessageBinary, MessageFrom, MessageJson, MessageSize, MessageText};
        use Name::{Model, Prompt, Provider, Stream, Tools};
        matches!(
            self,
            MessageFrom
                | MessageText
                | MessageJson
                | MessageBinary
                | MessageSize
                | Provider
                | Model
                | Prompt
                | Tools
                | Stream
                | MaxTokens
        )
    }

    /// Its value; of a body, at most `max` bytes are looked at.
    pub fn value<'f>(self, facts: &'f Facts<'_>, max: u64) -> Result<Val<'f>, Fault> {
        let caller = facts.asked.caller;
        let text = |text: Option<&'f String>| text.map(|text| Val::Text(text)).ok_or(Fault::Missing);
        let action = &facts.asked.action;
        Ok(match self {
            Self::Tag => Val::Text(caller.tag.as_str()),
            Self::Unit => text(caller.unit.as_ref())?,
            Self::User => text(caller.user.as_ref())?,
            Self::Uid => Val::Int(caller.uid.into()),
            Self::Pid => Val::Int(caller.pid.into()),
            Self::Exe => text(caller.exe.as_ref().map(|exe| &exe.path))?,
            Self::Cgroup => Val::Text(&caller.cgroup),
            Self::Container => text(caller.container.as_ref())?,
            Self::Image => text(caller.image.as_ref())?,
            Self::Subject => Val::Text(&facts.identity()?.subject),
            Self::Issuer => Val::Text(facts.issuer()?),
            Self::Groups => Val::Texts(&facts.identity()?.groups),
            Self::Claims => facts.claims()?.into(),
            Self::Address => Val::Made(action.destination().ip().to_string().into()),
            Self::Port => Val::Int(action.destination().port().into()),
            Self::Host => host(action)?,
            Self::Protocol => match action {
                Action::Tunnel { .. } => Val::Text("tunnel"),
                _ => Val::Text(facts.http()?.protocol),
            },
            Self::Method => Val::Text(facts.http()?.method),
            Self::Path => Val::Text(facts.path()?),
            // What is withheld of them is asked for by name: the whole is not known then.
            Self::Query if facts.hides_queries() => return Err(Fault::NotYet),
            Self::Headers if facts.hides_headers() => return Err(Fault::NotYet),
            Self::Query => facts.query()?.into(),
            Self::Headers => facts.headers()?.into(),
            Self::Json => facts.json(max)?.into(),
            Self::Form => facts.form(max)?.into(),
            Self::Graphql(member) => Val::from(facts.graphql(max)?).member(member)?,
            Self::Multipart(member) => Val::from(facts.multipart(max)?).member(member)?,
            Self::Grpc(member) => Val::from(facts.grpc()?).member(member)?,
            Self::Provider => Val::Text(facts.llm(max)?.provider),
            Self::Model => text(facts.llm(max)?.model.as_ref())?,
            Self::Prompt => Val::Text(&facts.llm(max)?.prompt),
            Self::Tools => Val::Texts(&facts.llm(max)?.tools),
            Self::Stream => Val::Bool(facts.llm(max)?.stream),
            Self::MaxTokens => {
                let tokens = facts.llm(max)?.max_tokens.ok_or(Fault::Missing)?;
                Val::Int(i64::try_from(tokens).unwrap_or(i64::MAX))
            }
            Self::MessageFrom => Val::Text(facts.speaker()?.as_str()),
            Self::MessageText => Val::Text(facts.message_text(max)?),
            Self::MessageJson => facts.message_json(max)?.into(),
            Self::MessageBinary => Val::Bool(facts.message(max)?.0),
            Self::MessageSize => Val::Int(i64::try_from(facts.message(max)?.1.len()).unwrap_or(i64::MAX)),
            Self::Now => Val::Time(facts.asked.now),
        })
    }
}

impl Name {
    /// Whether some of its members' values are withheld.
    pub fn is_partly_known(self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Query => facts.hides_queries(),
            Self::Headers => facts.hides_headers(),
            Self::Claims => facts.hides_claims(),
            _ => false,
        }
    }

    /// Its value, to ask it for this member only.
    pub fn holder<'f>(self, facts: &'f Facts<'_>, member: &str) -> Result<Val<'f>, Fault> {
        let (hidden, all) = match self {
            Self::Claims => return Ok(facts.claims_with(member)?.into()),
            Self::Query => (facts.hides_query(member), facts.query()?),
            _ => (facts.hides_header(member), facts.headers()?),
        };
        if hidden { Err(Fault::NotYet) } else { Ok(all.into()) }
    }
}

fn host<'f>(action: &'f Action<'_>) -> Result<Val<'f>, Fault> {
    let host = action.host().ok_or(Fault::NotYet)?;
    host.map(HostName::as_str).map(Val::Text).ok_or(Fault::Missing)
}
