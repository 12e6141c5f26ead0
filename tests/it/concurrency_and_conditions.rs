//! Versions, conditions and idempotency keys: what lets clients retry and race without losing anything.

mod conditions;
mod idempotency;
mod races;
mod seen;
mod tags;
mod undone;
