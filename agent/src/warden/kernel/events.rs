//! The programs' own events, from their ring (aya-log) to `tracing`, put into words.

use std::sync::{Mutex, PoisonError};

use agent_ebpf::Counter;
use aya_log::EbpfLogger;

/// Reads the ring.
pub struct Events(Mutex<EbpfLogger<ToTracing>>);

impl Events {
    /// Takes the ring out of a loaded object.
    pub fn of(object: &mut aya::Ebpf) -> Option<Self> {
        EbpfLogger::init_with_logger(object, ToTracing).ok().map(|logger| Self(Mutex::new(logger)))
    }

    /// Passes on everything that is there.
    pub fn flush(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush();
    }
}

struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let event = record.args().to_string();
        let (tag, why) = event.split_once(' ').unwrap_or(("?", &event));
        tracing::warn!(target: "sluice::kernel", tag, "{}", words(why));
    }

    fn flush(&self) {}
}

/// What the number of a [`Counter`] says to an operator.
fn words(number: &str) -> &'static str {
    const WORDS: [(Counter, &str); 6] = [
        (Counter::MapFull, "connection refused: no room to remember it"),
        (Counter::BoundDevice, "connection refused: its socket is bound to a network device"),
        (Counter::NoListener, "connection refused: there is no listener to lead it to"),
        (Counter::OwnListener, "connection refused: it dialled a listener of ours"),
        (Counter::Protocol, "connection refused: its stream socket speaks neither TCP nor MPTCP"),
        (Counter::SourceRoute, "setsockopt refused: a source route would lead past the listener"),
    ];
    let number = number.parse().unwrap_or(u32::MAX);
    WORDS
        .iter()
        .find(|(counter, _)| *counter as u32 == number)
        .map_or("connection refused", |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_words() {
        assert!(words(&(Counter::BoundDevice as u32).to_string()).contains("device"));
        assert_eq!(words("99"), "connection refused");
        assert_eq!(words(""), "connection refused");
    }
}
