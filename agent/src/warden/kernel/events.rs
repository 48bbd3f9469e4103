//! The programs' own events, from their ring (aya-log) to `tracing`.

use std::sync::{Mutex, PoisonError};

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
        tracing::warn!(target: "sluice::kernel", "{}", record.args());
    }

    fn flush(&self) {}
}
