//! The words of the system: addresses, ids, callers, actions, summaries. No I/O, no policy.

pub mod action;
pub mod addr;
pub mod caller;
pub mod caller_key;
pub mod credential;
pub mod enforcement;
pub mod id;
pub mod identity;
pub mod issuer;
pub mod near;
pub mod note;
mod packed;
pub mod recipient;
pub mod summary;
pub mod way;

pub use action::Action;
pub use addr::{ClientAddr, Destination, HostName, ListenerAddr};
pub use caller::{Caller, Exe};
pub use caller_key::CallerKey;
pub use credential::{CredentialName, Secret};
pub use enforcement::{Enforcement, Layer, LayerState, Weakness};
pub use id::{ExchangeNumber, NetnsCookie, SessionId, TagName};
pub use identity::Identity;
pub use issuer::{Issuer, Token};
pub use near::nearest;
pub use packed::Packed;
pub use recipient::Recipient;
pub use summary::{HostSource, LookedUp, Summary, Verdict};
pub use way::{Outcome, SelfTest, Way};
