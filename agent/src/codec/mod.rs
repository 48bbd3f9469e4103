//! Codecs: bytes in, a finding or a message out. No I/O, no clock; the same bytes give the same answer, however they
//! are cut into reads. Every length has a bound here, so that callers need none of their own.

pub mod coding;
pub mod dns;
pub mod http1;
pub mod json;
pub mod keys;
pub mod percent;
pub mod scrub;
pub mod sniff;
pub mod usage;
pub mod websocket;
