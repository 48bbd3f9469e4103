//! The HTTP and tunnel engines between a client and a server of the test's own, without kernel and TLS.

mod answers;
mod attacks;
mod desync;
mod differential;
mod ends;
mod hostile;
mod http1;
mod http2;
mod rig;
mod servers;
mod speed;
