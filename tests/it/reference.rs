//! What a cart costs, computed a second time from the contract alone, and random trips that compare.

/// The prices of the contract, without any code of the service.
mod model;

/// Random trips over three policies, price changes and regions.
mod trips;

pub(crate) use model::{Cart, Join, Policy, SGD, Shelf};
