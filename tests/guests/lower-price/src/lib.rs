//! For tests: the standard rules, with every line at the smaller of its stored price and the catalogue's.

use cart_core::{Cart, CartRules, Context, Manifest, PricePolicy};

/// The standard rules at the smaller price.
#[derive(Default)]
struct LowerPrice;

impl CartRules for LowerPrice {
    fn describe(&self) -> Manifest {
        Manifest {
            name: "lower-price".to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            description: "For tests: the standard rules at the smaller of both prices.".to_string(),
        }
    }

    fn price_policy(&self, _: &Cart, _: &Context) -> PricePolicy {
        PricePolicy::LOWER
    }
}

cart_guest::export_rules!(LowerPrice);
