//! What a start needed and nobody needs after it goes back to the kernel: the allocator keeps freed pages until it is used
//! again, and an idle process does not use it.

/// Gives back every page that nothing is in. Takes some milliseconds: not for a hot path.
#[expect(unsafe_code, reason = "the allocator's own call, which its Rust wrapper lacks")]
pub fn give_back() {
    // SAFETY: any thread may call it at any time; it frees only what is free already. Where another allocator is in use
    // (unit tests) it finds nothing.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
