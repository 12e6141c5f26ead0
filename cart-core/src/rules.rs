use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::cart::Cart;
use crate::command::{self, Applied, Command};
use crate::context::Context;
use crate::money::Currency;
use crate::price::PricePolicy;
use crate::pricing;
use crate::promotion::{Promotion, PromotionKind};
use crate::quote::Quote;
use crate::rejection::Rejection;

/// The rules of a shop. The default methods are the standard rules; override what differs.
///
/// An implementation is a pure function of its arguments. It is run in a fresh instance for every call, so
/// nothing that it remembers survives.
///
/// The default methods call each other on `self`: `checkout` charges `self.quote`, and `quote` takes
/// `self.promotions` and `self.price_policy`. An override that wants the standard behaviour and something more
/// calls the free functions [`quote`](crate::quote) and [`checkout`](crate::checkout()) with what `self` says.
/// `StandardRules.quote(…)` would leave out the overrides of `self`, and what the shopper is shown would not be
/// what checkout charges; the host refuses such rules.
pub trait CartRules {
    /// Who these rules are.
    fn describe(&self) -> Manifest;

    /// At which price lines are charged. The standard rules charge the price that was stored.
    fn price_policy(&self, cart: &Cart, context: &Context) -> PricePolicy {
        let _ = (cart, context);
        PricePolicy::STORED
    }

    /// The promotions that hold for this cart.
    fn promotions(&self, cart: &Cart, context: &Context) -> Vec<Promotion> {
        let _ = (cart, context);
        standard_promotions()
    }

    /// The cart after a command, or why not.
    fn apply(&self, cart: Cart, command: &Command, context: &Context) -> Result<Applied, Rejection> {
        command::apply(cart, command, context)
    }

    /// What the cart costs.
    fn quote(&self, cart: &Cart, context: &Context) -> Quote {
        pricing::quote(cart, context, self.price_policy(cart, context), &self.promotions(cart, context))
    }

    /// The price to be charged, or every reason why the cart cannot be ordered now.
    fn checkout(&self, cart: &Cart, context: &Context) -> Result<Quote, Vec<Rejection>> {
        crate::checkout::checkout(cart, context, self.quote(cart, context))
    }
}

/// Who some rules are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Lower case with dashes, such as `mega-sale`.
    pub name: String,
    /// The author's own version, such as `1.4.0`.
    pub version: String,
    /// One sentence.
    pub description: String,
}

/// The standard rules.
///
/// Their promotions are switched on by the merchant's tags: an item without one of these tags is sold at its
/// price. `b2g1`: buy two, get one free. `set-main`, `set-side` and `set-drink` together: a meal at a fixed
/// price. `spend-save`: 10 % off, once the tagged items come to a round sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct StandardRules;

impl CartRules for StandardRules {
    fn describe(&self) -> Manifest {
        Manifest {
            name: "standard".to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            description: "The standard cart rules: promotions by the merchant's tags, no sale.".to_string(),
        }
    }
}

fn standard_promotions() -> Vec<Promotion> {
    let tag = ToString::to_string;
    vec![
        Promotion {
            code: "meal-set".to_string(),
            title: "Meal set at a fixed price".to_string(),
            kind: PromotionKind::Bundle {
                tags: vec![tag("set-main"), tag("set-side"), tag("set-drink")],
                price: vec![
                    (Currency::Sgd, 990),
                    (Currency::Myr, 1990),
                    (Currency::Idr, 6_500_000),
                    (Currency::Thb, 19_900),
                    (Currency::Vnd, 129_000),
                    (Currency::Php, 29_900),
                ],
            },
        },
        Promotion {
            code: "b2g1".to_string(),
            title: "Buy two, get one free".to_string(),
            kind: PromotionKind::BuyXGetY { tag: tag("b2g1"), buy: 2, free: 1 },
        },
        Promotion {
            code: "spend-save".to_string(),
            title: "Spend and save 10 %".to_string(),
            kind: PromotionKind::PercentOverThreshold {
                tag: Some(tag("spend-save")),
                threshold: vec![
                    (Currency::Sgd, 10_000),
                    (Currency::Myr, 30_000),
                    (Currency::Idr, 100_000_000),
                    (Currency::Thb, 250_000),
                    (Currency::Vnd, 2_000_000),
                    (Currency::Php, 400_000),
                ],
                basis_points: 1000,
            },
        },
    ]
}
