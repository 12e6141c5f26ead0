//! Checkout: the one place where everything must be exact.

mod orders;
mod placing;
mod stock;
