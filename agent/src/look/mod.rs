//! What a recording means to whoever looks at it: bodies without their content codings, server-sent events, messages of
//! WebSockets, conversations with language models. Pure: recorded exchanges in, words out; nothing is printed here.
//!
//! All of it was written by callers and servers: whoever prints it makes it visible first (`record::visible`).

pub mod body;
pub mod grep;
pub mod item;
pub mod llm;
pub mod messages;
pub mod pace;
pub mod plain;
pub mod pretty;
pub mod sse;
pub mod websocket;
