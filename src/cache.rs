//! Memory that will be needed soon, on its way into the cache.

/// Starts to bring the first line of what lies there into the cache, and waits for nothing: unlike a read, it holds up no
/// later one and no lock. It changes nothing, and processors may leave it undone.
#[inline]
pub(crate) fn fetch<T>(from: &T) {
    #[cfg(target_arch = "x86_64")]
    safe_arch::prefetch_t0(from);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}
