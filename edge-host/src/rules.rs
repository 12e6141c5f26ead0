//! The cart rules, run as a WebAssembly component.
//!
//! - [`RulesEngine`]: what every revision shares: the compiler, the pool of instances, the limits. One in a
//!   process.
//! - [`Rules`]: one checked revision. Every call gets a fresh instance, so nothing that rules remember
//!   survives a call, and no shopper's data meets another's.
//! - [`RulesHandle`]: which revision this region runs, which one it ran before, and what it refused.
//! - [`encode`]: from the core module that a compiler writes to the component that the engine loads.
//!
//! Rules are somebody else's code. They see their arguments and nothing else: no socket, no clock, no random
//! number. What they may use is limited in instructions, time, memory and output, and what they return is
//! checked before anybody believes it ([`RulesError`] says what went wrong). Nothing of this needs `unsafe`.

mod bindings;
mod check;
mod encode;
mod engine;
mod error;
mod handle;
mod loaded;
mod revision;
mod self_check;

#[cfg(test)]
mod tests;

pub use encode::{EncodeError, encode};
pub use engine::{RulesEngine, RulesLimits, RulesOptions};
pub use error::{EngineError, LoadError, RulesError};
pub use handle::{Refusal, RulesHandle, RulesStatus, RunningRules};
pub use loaded::{Outcome, Rules};
pub use revision::{Revision, RevisionError};

/// Bytes of a component. The standard rules have about half; what is larger has brought in something that no
/// cart rule needs, and every region downloads, compiles and keeps it.
pub const COMPONENT_BYTES_MAX: usize = 256 * 1024;
