//! What a line costs: every policy, over prices that come and go, against a reference that knows nothing of the
//! product.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::generate::{NOW_MS, item_id, line, policy, price_policy};
use crate::{
    Cart, Command, Context, Currency, Item, Line, MergePolicy, PriceBasis, PricePolicy, PrincipalKind,
    TaxClass, apply, line_id, quote,
};

const ITEMS: usize = 4;

/// What happens in a shop.
#[derive(Clone, Debug)]
enum Step {
    Add(usize, u32),
    Set(usize, u32),
    Remove(usize),
    Refresh(Option<usize>),
    /// A cart with these lines is merged: item, units, stored price, and for how long it has been stored.
    Merge(Vec<(usize, u32, i64, i64)>, MergePolicy),
    /// The merchant sets a price, or ends the sale.
    Price(usize, Option<i64>),
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let units = || 0_u32..6;
    let theirs = (0..ITEMS, 1_u32..6, 1_i64..1_000, 0_i64..2_000);
    prop_oneof![
        4 => (0..ITEMS, 1_u32..6).prop_map(|(item, units)| Step::Add(item, units)),
        3 => (0..ITEMS, units()).prop_map(|(item, units)| Step::Set(item, units)),
        1 => (0..ITEMS).prop_map(Step::Remove),
        2 => proptest::option::of(0..ITEMS).prop_map(Step::Refresh),
        2 => (vec(theirs, 0..ITEMS), policy()).prop_map(|(lines, policy)| Step::Merge(lines, policy)),
        4 => (0..ITEMS, proptest::option::weighted(0.85, 1_i64..1_000))
            .prop_map(|(item, price)| Step::Price(item, price)),
        4 => (1_i64..1_500).prop_map(Step::Wait),
    ]
}

fn policies() -> impl Strategy<Value = PricePolicy> {
    let basis = select([PriceBasis::Stored, PriceBasis::Current, PriceBasis::Lower].as_slice());
    let hold_ms = proptest::option::weighted(0.6, 0_i64..3_000);
    (basis, hold_ms).prop_map(|(basis, hold_ms)| PricePolicy { basis, hold_ms })
}

/// The reference: units, stored price, and when it was stored, by item.
#[derive(Default)]
struct Reference {
    lines: BTreeMap<usize, (u32, i64, i64)>,
    prices: BTreeMap<usize, i64>,
    now_ms: i64,
}

impl Reference {
    /// Whether the step was done.
    fn take(&mut self, step: &Step) -> bool {
        let now_ms = self.now_ms;
        match step {
            Step::Wait(ms) => self.now_ms += ms,
            Step::Price(item, Some(price)) => drop(self.prices.insert(*item, *price)),
            Step::Price(item, None) => drop(self.prices.remove(item)),
            Step::Add(item, more) => {
                let Some(price) = self.prices.get(item) else { return false };
                let units = self.lines.get(item).map_or(0, |line| line.0);
                self.lines.insert(*item, (units + more, *price, now_ms));
            }
            Step::Set(item, units) => {
                let Some(line) = self.lines.get_mut(item) else { return false };
                if *units > line.0 {
                    let Some(price) = self.prices.get(item) else { return false };
                    (line.1, line.2) = (*price, now_ms);
                }
                line.0 = *units;
                self.lines.retain(|_, line| line.0 > 0);
            }
            Step::Remove(item) => return self.lines.remove(item).is_some(),
            Step::Refresh(Some(item)) => {
                let (Some(line), Some(price)) = (self.lines.get_mut(item), self.prices.get(item)) else {
                    return false;
                };
                (line.1, line.2) = (*price, now_ms);
            }
            Step::Refresh(None) => {
                for (item, line) in &mut self.lines {
                    if let Some(price) = self.prices.get(item) {
                        (line.1, line.2) = (*price, now_ms);
                    }
                }
            }
            Step::Merge(theirs, policy) => {
                for (item, units, price, ago_ms) in unique(theirs) {
                    let theirs = (units, price, now_ms - ago_ms);
                    let Some(joined) = self.lines.get_mut(&item) else {
                        self.lines.insert(item, theirs);
                        continue;
                    };
                    joined.0 = match policy {
                        MergePolicy::Max => joined.0.max(units),
                        MergePolicy::Sum => joined.0 + units,
                        MergePolicy::Replace => units,
                    };
                    if joined.2 < theirs.2 || (joined.2 == theirs.2 && theirs.1 < joined.1) {
                        (joined.1, joined.2) = (theirs.1, theirs.2);
                    }
                }
            }
        }
        true
    }

    fn total(&self, policy: PricePolicy) -> i64 {
        let of = |(item, (units, stored, at_ms)): (&usize, &(u32, i64, i64))| {
            let Some(current) = self.prices.get(item) else { return 0 };
            let over = policy.hold_ms.is_some_and(|hold_ms| self.now_ms >= at_ms + hold_ms);
            let price = match policy.basis {
                PriceBasis::Current => *current,
                _ if over => *current,
                PriceBasis::Stored => *stored,
                PriceBasis::Lower => *stored.min(current),
            };
            i64::from(*units) * price
        };
        self.lines.iter().map(of).sum()
    }
}

/// Of several lines of one item the first.
fn unique(lines: &[(usize, u32, i64, i64)]) -> Vec<(usize, u32, i64, i64)> {
    let mut seen: Vec<(usize, u32, i64, i64)> = Vec::new();
    for line in lines {
        if seen.iter().all(|other| other.0 != line.0) {
            seen.push(*line);
        }
    }
    seen
}

fn context(reference: &Reference) -> Context {
    let item = |n: usize| Item {
        item_id: item_id(n),
        title: item_id(n),
        price: reference.prices.get(&n).copied(),
        stock: 1_000_000,
        quantity_max: None,
        tax_class: TaxClass::Zero,
        tags: Vec::new(),
    };
    let items = (0..ITEMS).map(item).collect();
    Context::new(reference.now_ms, "sin".to_string(), PrincipalKind::Guest, items, Vec::new())
}

/// The step as a command; `None` for what happens to the shop and not to the cart.
fn command(step: &Step, now_ms: i64) -> Option<Command> {
    let id = |item: &usize| line_id(&item_id(*item), "");
    Some(match step {
        Step::Add(item, quantity) => Command::Add {
            item_id: item_id(*item),
            quantity: *quantity,
            variant: alloc::string::String::new(),
        },
        Step::Set(item, quantity) => Command::SetQuantity { line_id: id(item), quantity: *quantity },
        Step::Remove(item) => Command::Remove { line_id: id(item) },
        Step::Refresh(item) => Command::RefreshPrice { line_id: item.as_ref().map(id) },
        Step::Merge(lines, policy) => {
            let theirs = |(item, units, price, ago_ms): (usize, u32, i64, i64)| {
                line(item, "", units, price, now_ms - ago_ms)
            };
            let lines: Vec<Line> = unique(lines).into_iter().map(theirs).collect();
            Command::Merge { from: Cart { lines, ..Cart::empty(Currency::Sgd) }, policy: *policy }
        }
        Step::Price(..) | Step::Wait(_) => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn totals_are_those_of_a_small_reference(steps in vec(step(), 1..40), policy in policies()) {
        let mut reference = Reference { now_ms: NOW_MS, ..Reference::default() };
        let mut cart = Cart::empty(Currency::Sgd);
        for (at, step) in steps.iter().enumerate() {
            let facts = context(&reference);
            let done = reference.take(step);
            if let Some(command) = command(step, facts.now_ms) {
                match apply(cart.clone(), &command, &facts) {
                    Ok(applied) => cart = applied.cart,
                    Err(no) => prop_assert!(!done, "step {at}, {step:?}: {no}"),
                }
            }
            let quoted = quote(&cart, &context(&reference), policy, &[]);
            prop_assert_eq!(quoted.verify(&cart), Ok(()));
            prop_assert_eq!(quoted.totals.total, reference.total(policy), "step {}, {:?}", at, step);
        }
    }

    #[test]
    fn a_quote_holds_until_it_says(
        cart in super::generate::cart(),
        context in super::generate::context(),
        policy in price_policy(),
        share in 0.0_f64..1.0,
    ) {
        let now = quote(&cart, &context, policy, &[]);
        let Some(until_ms) = now.good_until_ms else {
            let later = quote(&cart, &at(&context, NOW_MS + 1_000_000), policy, &[]);
            prop_assert_eq!(later, now, "it does not look at the time");
            return Ok(());
        };
        prop_assert!(until_ms > NOW_MS);
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any moment before will do")]
        let before_ms = NOW_MS + ((until_ms - NOW_MS) as f64 * share) as i64;
        prop_assert_eq!(quote(&cart, &at(&context, before_ms), policy, &[]), now, "before {}", until_ms);
    }
}

fn at(context: &Context, now_ms: i64) -> Context {
    let mut later = context.clone();
    later.now_ms = now_ms;
    later
}

#[test]
fn a_price_that_was_held_gives_way_with_a_warning() {
    let mut cart = Cart::empty(Currency::Sgd);
    cart.lines.push(Line { priced_at_ms: NOW_MS - 500, ..line(0, "", 2, 1000, NOW_MS - 900) });
    let reference = Reference { prices: BTreeMap::from([(0, 1250)]), now_ms: NOW_MS, ..Reference::default() };
    for (policy, unit_price, warning) in [
        (PricePolicy::STORED, 1000, "price_changed"),
        (PricePolicy::STORED.held_for_ms(501), 1000, "price_changed"),
        (PricePolicy::STORED.held_for_ms(500), 1250, "price_updated"),
        (PricePolicy::LOWER.held_for_ms(500), 1250, "price_updated"),
        (PricePolicy::LOWER, 1000, "price_changed"),
        (PricePolicy::CURRENT.held_for_ms(900), 1250, "price_changed"),
    ] {
        let quoted = quote(&cart, &context(&reference), policy, &[]);
        assert_eq!(quoted.lines[0].unit_price, Some(unit_price), "{policy:?}");
        assert_eq!(quoted.warnings[0].code, warning, "{policy:?}");
        let params = [crate::Param::money("was", 1000), crate::Param::money("now", 1250)];
        assert_eq!(quoted.warnings[0].params, params);
    }
}
