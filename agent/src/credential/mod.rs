//! Credentials on their way into a request: who may bear one ([`bind`]), what of the caller's own goes first ([`strip`]),
//! the secret itself, kept and renewed ([`keep`], [`fetch`]), and how it is put in ([`inject`]).
//!
//! Not here: where a credential may go at all (`policy::credential` judges), the warden's sources (`warden`), and how an
//! exchange is sent (`engine`).

pub mod bind;
pub mod fetch;
pub mod inject;
pub mod keep;
pub mod leak;
pub mod scrub;
pub mod sigv4;
pub mod strip;

pub use bind::{Bound, bind};
pub use fetch::{Ask, Errand, Failed, Fetch, Fetched, Fetching, Reply, Run};
pub use keep::{Keeper, Value};
