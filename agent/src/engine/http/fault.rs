//! What lies below a failure that hyper reports.

use std::error::Error;
use std::io;

pub(super) fn h2_reset(error: &hyper::Error) -> bool {
    source_of::<h2::Error>(error).is_some_and(h2::Error::is_reset)
}

pub(super) fn is_io(error: &hyper::Error) -> bool {
    source_of::<io::Error>(error).is_some()
}

fn source_of<E: Error + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut source = Error::source(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        source = error.source();
    }
    None
}
