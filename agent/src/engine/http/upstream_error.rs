//! What lies behind an error that hyper gives for the upstream's side.

/// The upstream reset the stream (RFC 9113 §6.4): its own answer to this request alone.
pub(super) fn is_reset(error: &hyper::Error) -> bool {
    source_of::<h2::Error>(error).is_some_and(h2::Error::is_reset)
}

/// The connection itself broke.
pub(super) fn is_io(error: &hyper::Error) -> bool {
    source_of::<std::io::Error>(error).is_some()
}

fn source_of<E: std::error::Error + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        source = error.source();
    }
    None
}
