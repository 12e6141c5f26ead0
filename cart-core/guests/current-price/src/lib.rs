//! An example of a price policy: every line costs what the catalogue says now, whatever it was added at.
//!
//! All else is as in the standard rules.

use cart_core::{Cart, CartRules, Context, Manifest, PricePolicy};

/// The standard rules at the catalogue's price.
#[derive(Default)]
struct CurrentPrice;

impl CartRules for CurrentPrice {
    fn describe(&self) -> Manifest {
        Manifest {
            name: "current-price".to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            description: "The standard rules at the catalogue's price of now.".to_string(),
        }
    }

    fn price_policy(&self, _: &Cart, _: &Context) -> PricePolicy {
        PricePolicy::CURRENT
    }
}

cart_guest::export_rules!(CurrentPrice);
