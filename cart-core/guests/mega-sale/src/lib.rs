//! An example of a sale: 11 % off everything, and 20 % off what is tagged `mega`.
//!
//! It keeps the standard rules for everything else, and shows what a rule developer writes: one type, the
//! methods that differ, one line to export it.

use cart_core::{Cart, CartRules, Context, Manifest, Promotion, StandardRules};

/// The rules of the 11.11 sale.
#[derive(Default)]
struct MegaSale;

impl CartRules for MegaSale {
    fn describe(&self) -> Manifest {
        Manifest {
            name: "mega-sale".to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            description: "11.11: 20 % off tagged items, then 11 % off the whole cart.".to_string(),
        }
    }

    fn promotions(&self, cart: &Cart, context: &Context) -> Vec<Promotion> {
        let mut promotions = StandardRules.promotions(cart, context);
        promotions.push(Promotion::percent_off("mega-20", "Mega deal: 20 % off", Some("mega"), 2000));
        promotions.push(Promotion::percent_off("11.11", "11.11 mega sale: 11 % off everything", None, 1100));
        promotions
    }
}

cart_guest::export_rules!(MegaSale);
