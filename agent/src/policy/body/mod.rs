//! What a request's body says, read in the shapes that rules ask for. Each shape is read more strictly than any server
//! reads it: a body that two parsers could read differently is not read at all, and says why.

mod form;
mod graphql;
mod grpc;
mod json;
mod multipart;

pub(super) use form::form;
pub(super) use graphql::graphql;
pub(super) use grpc::grpc;
pub use grpc::is_grpc;
pub(super) use json::json;
pub(super) use multipart::{Part, multipart, parts};

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::Value;

/// A shape's reading: `None` where the request has nothing of that shape; else why it cannot be read.
pub(super) type View = Result<Option<Value>, String>;

/// The media type in lower case, without its parameters, and the parameters as sent.
///
/// # Errors
/// There are several, or one that is no text: servers differ in which they take.
pub(super) fn media_type(headers: &HeaderMap) -> Result<Option<(String, &str)>, String> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("it has several Content-Types".to_owned());
    }
    let text = value.to_str().map_err(|_| "its Content-Type is no text".to_owned())?;
    let (kind, parameters) = text.split_once(';').unwrap_or((text, ""));
    Ok(Some((kind.trim().to_ascii_lowercase(), parameters)))
}

/// Names and values as a map of lists, in the order of the values.
pub(super) fn lists(pairs: impl Iterator<Item = (String, String)>) -> Value {
    let mut map = serde_json::Map::new();
    for (name, value) in pairs {
        let list = map.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(Value::String(value));
        }
    }
    Value::Object(map)
}
