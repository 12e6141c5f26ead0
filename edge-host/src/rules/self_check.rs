//! What every component must answer before it serves anybody: carts built here, from nothing to the largest
//! that there can be. Each question is put twice, and both times the answer, and what it took, must be one.

use cart_core::{
    Cart, Command, Context, Coupon, CouponKind, Currency, Item, Line, MergePolicy, Money, PrincipalKind,
    Quote, TaxClass, limits, line_id,
};

use super::loaded::{Calls, Outcome};
use super::{LoadError, RulesError};

/// 2026-01-01, and no clock: the check asks the same questions on every machine.
const NOW_MS: i64 = 1_767_225_600_000;
const DAY_MS: i64 = 24 * 3600 * 1000;

struct Case {
    name: &'static str,
    cart: Cart,
    command: Command,
    context: Context,
}

/// Puts every question; a rejection is an answer.
pub(super) fn run(calls: &Calls) -> Result<(), LoadError> {
    for Case { name, cart, command, context } in cases() {
        drop(twice(name, || calls.apply(&cart, &command, &context))?);
        let quoted = twice(name, || calls.quote(&cart, &context))?;
        let charged = twice(name, || calls.checkout(&cart, &context))?;
        if let Ok(charged) = charged
            && charged != quoted
        {
            let total = |quote: &Quote| {
                let total = Money::new(quote.totals.total, cart.currency);
                format!("{} {}", total.amount(), total.currency)
            };
            let (quoted, mut charged) = (total(&quoted), total(&charged));
            if quoted == charged {
                charged.push_str(" by other lines, discounts or warnings");
            }
            return Err(LoadError::QuoteDiffers { case: name, quoted, charged });
        }
    }
    Ok(())
}

fn twice<T: PartialEq>(
    case: &'static str,
    ask: impl Fn() -> Result<Outcome<T>, RulesError>,
) -> Result<T, LoadError> {
    let failed = |source| LoadError::SelfCheck { case, source };
    let (first, second) = (ask().map_err(failed)?, ask().map_err(failed)?);
    let same = first.value == second.value && first.fuel == second.fuel && first.log == second.log;
    if same { Ok(first.value) } else { Err(LoadError::NotRepeatable { case }) }
}

fn cases() -> Vec<Case> {
    let five = cart(Currency::Sgd, 0..5);
    let known = |cart: &Cart| context(cart.currency, 0..8);
    let with_coupons = Cart { coupons: vec!["SELFTEN".to_string(), "SELFOLD".to_string()], ..five.clone() };
    let guest = cart(Currency::Sgd, 3..8);
    let largest = largest_cart();
    vec![
        Case {
            name: "an empty cart",
            cart: Cart::empty(Currency::Vnd),
            command: Command::Add { item_id: item_id(0), quantity: 2, variant: String::new() },
            context: context(Currency::Vnd, 0..8),
        },
        Case {
            name: "a cart of 5 lines",
            command: Command::SetQuantity { line_id: five.lines[1].line_id.clone(), quantity: 7 },
            context: known(&five),
            cart: five.clone(),
        },
        Case {
            name: "a cart with coupons",
            command: Command::ApplyCoupon { code: "SELFTWO".to_string() },
            context: known(&five),
            cart: with_coupons,
        },
        Case {
            name: "a cart whose prices are refreshed",
            command: Command::RefreshPrice { line_id: None },
            context: known(&five),
            cart: five.clone(),
        },
        Case {
            name: "a merge of two carts",
            command: Command::Merge { from: guest, policy: MergePolicy::Sum },
            context: known(&five),
            cart: five.clone(),
        },
        Case {
            name: "a cart whose items are gone",
            command: Command::Remove { line_id: five.lines[0].line_id.clone() },
            context: context(Currency::Sgd, 0..0),
            cart: five,
        },
        Case {
            name: "the largest merge, of 500 lines into 500",
            command: Command::Merge { from: largest.clone(), policy: MergePolicy::Max },
            context: largest_context(),
            cart: largest,
        },
    ]
}

fn item_id(at: usize) -> String {
    format!("self-check-{at}")
}

fn cart(currency: Currency, items: std::ops::Range<usize>) -> Cart {
    let lines = items.map(|at| line(item_id(at), if at % 2 == 0 { "" } else { r#"{"size":"M"}"# }, at));
    Cart { currency, lines: lines.collect(), coupons: Vec::new() }
}

fn line(item_id: String, variant: &str, at: usize) -> Line {
    let added_at_ms = NOW_MS - DAY_MS + at as i64;
    Line {
        line_id: line_id(&item_id, variant),
        item_id,
        quantity: 1 + at as u32 % 4,
        variant: variant.to_string(),
        added_price: price(at),
        added_at_ms,
        priced_at_ms: added_at_ms,
        updated_at_ms: added_at_ms,
    }
}

fn price(at: usize) -> i64 {
    1990 + 3500 * (at as i64 % 11)
}

fn context(currency: Currency, items: std::ops::Range<usize>) -> Context {
    let items = items.map(|at| item(at, item_id(at), Vec::new())).collect();
    let coupon = |code: &str, kind, ends_at_ms| Coupon {
        ends_at_ms,
        redemptions_left: Some(100),
        ..Coupon::new(code, kind)
    };
    let coupons = vec![
        coupon("SELFTEN", CouponKind::Percent(1000), Some(NOW_MS + DAY_MS)),
        coupon("SELFTWO", CouponKind::Amount(200 * 10_i64.pow(currency.digits())), None),
        coupon("SELFOLD", CouponKind::OtherCurrency, Some(NOW_MS - DAY_MS)),
    ];
    Context::new(NOW_MS, "sin".to_string(), PrincipalKind::User, items, coupons)
}

/// Every seventh item is not in stock, every fifth has got dearer; tags of the standard promotions go round.
fn item(at: usize, item_id: String, mut tags: Vec<String>) -> Item {
    const TAGS: [&str; 5] = ["set-main", "set-side", "set-drink", "b2g1", "spend-save"];
    tags.push(TAGS[at % TAGS.len()].to_string());
    Item {
        title: format!("Self-check {at}"),
        item_id,
        price: Some(price(at) + if at % 5 == 4 { 100 } else { 0 }),
        stock: if at % 7 == 6 { 0 } else { 1000 },
        quantity_max: (at % 3 == 2).then_some(10),
        tax_class: if at % 4 == 3 { TaxClass::Zero } else { TaxClass::Standard },
        tags,
    }
}

/// Everything at its limit. Rules that answer this one have enough memory and fuel for every cart.
fn largest_cart() -> Cart {
    const EACH: usize = limits::VARIANTS_BYTES_MAX / limits::LINES_MAX;
    let variant = |at: usize| format!(r#"{{"n":"{at:0width$}"}}"#, width = EACH - 8);
    let lines = (0..limits::LINES_MAX).map(|at| line(longest_item_id(at), &variant(at), at));
    let coupons = (0..limits::COUPONS_MAX).map(|at| format!("SELF{at:0width$}", width = 60));
    Cart { currency: Currency::Myr, lines: lines.collect(), coupons: coupons.collect() }
}

fn longest_item_id(at: usize) -> String {
    format!("{at:0width$}", width = limits::ITEM_ID_CHARS_MAX)
}

fn largest_context() -> Context {
    let tags = || (1..limits::TAGS_MAX).map(|tag| format!("self-check-tag-{tag}")).collect();
    let items = (0..limits::LINES_MAX).map(|at| item(at, longest_item_id(at), tags())).collect();
    let coupons = largest_cart().coupons.into_iter().map(|code| Coupon {
        starts_at_ms: Some(NOW_MS - DAY_MS),
        ends_at_ms: Some(NOW_MS + DAY_MS),
        ..Coupon::new(code, CouponKind::Percent(100))
    });
    Context::new(NOW_MS, "jkt".to_string(), PrincipalKind::Guest, items, coupons.collect())
}
