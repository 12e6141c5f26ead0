//! The threads that all requests share.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs work that takes milliseconds of a processor. When it is heavy, another thread takes over the tasks of this
/// worker meanwhile, so that no other request waits for it.
pub(crate) fn off_the_workers<T>(is_heavy: bool, work: impl FnOnce() -> T) -> T {
    let has_others = || Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if is_heavy && has_others() { tokio::task::block_in_place(work) } else { work() }
}
