//! Sensitive values in text: what they look like (`detect`), how they are found in a stream (`scan`), what is written in their
//! place (`replace`, `tokens`), and how bodies are read and written back (`body`). Content codings, rules and names of people
//! and places, which need a model, are the callers'.

pub mod body;
pub mod detect;
mod kind;
mod plan;
pub mod replace;
pub mod restore;
pub mod scan;
mod scope;
mod text;
pub mod tokens;

pub use body::{Body, Counts, Spelling, text};
pub use kind::{Kind, Refused};
pub use plan::{Binary, Mask, Plan, PlanError};
pub use replace::{Key, Replacement};
pub use scan::{Custom, Found, Set, Stream};
pub use scope::Scope;
