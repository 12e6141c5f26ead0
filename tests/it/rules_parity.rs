//! The standard rules are the same natively and as a component: every answer, and, asked again, every
//! instruction.

use std::sync::Arc;

use cart_core::{
    Cart, CartRules, Command, Context, Coupon, CouponKind, Currency, Item, Line, Manifest, MergePolicy,
    Param, PricePolicy, PrincipalKind, Quote, Rejection, StandardRules, TaxClass, line_id,
};
use edge_host::rules::{Rules, RulesEngine, RulesOptions};
use harness::{Chance, components, rules_cache};

const NOW_MS: i64 = 1_800_000_000_000;
const TAGS: [&str; 7] = ["set-main", "set-side", "set-drink", "b2g1", "spend-save", "mega", "plain"];
const VARIANTS: [&str; 4] = ["", r#"{"size":"M"}"#, r#"{"size":"L"}"#, r#"{"text":"naïve ☕"}"#];

fn load(component: &[u8]) -> Rules {
    let options = RulesOptions { cache_dir: Some(rules_cache()), ..RulesOptions::default() };
    let engine: Arc<RulesEngine> = RulesEngine::new(&options).expect("an engine can be set up");
    engine.load(component).expect("the component is one of ours")
}

fn item_id(n: usize) -> String {
    format!("item-{n}")
}

fn context(chance: &mut Chance, items: usize) -> Context {
    let dear = 10_i64.pow(1 + u32::try_from(chance.below(7)).expect("small"));
    let item = |n: usize, chance: &mut Chance| Item {
        item_id: item_id(n),
        title: format!("Item {n} ☕"),
        price: (!chance.once_in(9))
            .then(|| i64::try_from(chance.number() % 1_000_000).expect("small") % dear),
        stock: u32::try_from([0, 1, 3, 50, 100_000][chance.below(5)]).expect("small"),
        quantity_max: chance.once_in(5).then(|| 1 + u32::try_from(chance.below(20)).expect("small")),
        tax_class: if chance.once_in(4) { TaxClass::Zero } else { TaxClass::Standard },
        tags: TAGS.iter().filter(|_| chance.once_in(3)).map(ToString::to_string).collect(),
    };
    // Some items of the cart are in no catalogue.
    let known: Vec<usize> = (0..items).filter(|_| !chance.once_in(10)).collect();
    let catalogue = known.into_iter().map(|n| item(n, chance)).collect();
    let kind = |chance: &mut Chance| match chance.below(5) {
        0 => CouponKind::OtherCurrency,
        1 | 2 => CouponKind::Amount(i64::try_from(chance.below(20_000)).expect("small")),
        _ => CouponKind::Percent(u32::try_from(chance.below(10_001)).expect("small")),
    };
    let coupon = |n: usize, chance: &mut Chance| Coupon {
        starts_at_ms: chance
            .once_in(4)
            .then(|| NOW_MS - 500 + i64::try_from(chance.below(1000)).expect("small")),
        ends_at_ms: chance
            .once_in(4)
            .then(|| NOW_MS - 500 + i64::try_from(chance.below(1000)).expect("small")),
        redemptions_left: chance.once_in(3).then(|| u32::try_from(chance.below(3)).expect("small")),
        ..Coupon::new(format!("CODE{n}"), kind(chance))
    };
    let coupons = (0..6).map(|n| coupon(n, chance)).collect();
    let principal = if chance.once_in(2) { PrincipalKind::Guest } else { PrincipalKind::User };
    Context::new(NOW_MS, chance.pick(&["sin", "jkt", "bkk"]).to_owned(), principal, catalogue, coupons)
}

/// A cart as it may have come to be, also under other prices than today's.
fn cart(chance: &mut Chance, currency: Currency, items: usize, lines_max: usize) -> Cart {
    let mut cart = Cart::empty(currency);
    for n in 0..chance.below(lines_max + 1) {
        let (item_id, variant) = (item_id(chance.below(items)), chance.pick(&VARIANTS).to_owned());
        let line_id = line_id(&item_id, &variant);
        if cart.line(&line_id).is_some() {
            continue;
        }
        let quantity_max = if chance.once_in(5) { 999 } else { 5 };
        let added_at_ms = NOW_MS - 1_000_000 + i64::try_from(n).expect("small");
        cart.lines.push(Line {
            line_id,
            item_id,
            quantity: 1 + u32::try_from(chance.below(quantity_max)).expect("small"),
            variant,
            added_price: i64::try_from(chance.below(100_000)).expect("small"),
            added_at_ms,
            priced_at_ms: added_at_ms + i64::try_from(chance.below(2_000)).expect("small"),
            updated_at_ms: added_at_ms,
        });
    }
    let codes = (0..7).filter(|_| chance.once_in(3)).map(|n| format!("CODE{n}"));
    cart.coupons = codes.collect();
    cart
}

fn command(chance: &mut Chance, cart: &Cart, items: usize) -> Command {
    let line_id = |chance: &mut Chance| match cart.lines.as_slice() {
        [] => "l_nothing".to_owned(),
        lines if !chance.once_in(8) => chance.pick(lines).line_id,
        _ => "l_nothing".to_owned(),
    };
    let quantity = u32::try_from([0, 1, 2, 7, 500, 999, 1000][chance.below(7)]).expect("small");
    match chance.below(9) {
        8 => {
            let one = !chance.once_in(3);
            Command::RefreshPrice { line_id: one.then(|| line_id(chance)) }
        }
        0 | 1 => Command::Add {
            item_id: item_id(chance.below(items + 1)),
            quantity,
            variant: chance.pick(&VARIANTS).to_owned(),
        },
        2 => Command::SetQuantity { line_id: line_id(chance), quantity },
        3 => Command::Remove { line_id: line_id(chance) },
        4 if chance.once_in(4) => Command::Clear,
        4 | 5 => Command::ApplyCoupon { code: format!("CODE{}", chance.below(8)) },
        6 => Command::RemoveCoupon { code: format!("CODE{}", chance.below(8)) },
        _ => {
            let currency = if chance.once_in(6) { Currency::Php } else { cart.currency };
            let policy = chance.pick(&[MergePolicy::Max, MergePolicy::Sum, MergePolicy::Replace]);
            let from = self::cart(chance, currency, items, 6);
            Command::Merge { from, policy }
        }
    }
}

/// A component has its own type for rejections, so they are compared by what a shopper sees.
fn seen(rejection: &Rejection) -> (String, String, Option<String>, Vec<Param>) {
    let line_id = rejection.line_id().map(str::to_owned);
    (rejection.code().to_owned(), rejection.to_string(), line_id, rejection.params())
}

/// The standard rules with another price policy, natively.
struct Policy(PricePolicy);

impl CartRules for Policy {
    fn describe(&self) -> Manifest {
        StandardRules.describe()
    }

    fn price_policy(&self, _: &Cart, _: &Context) -> PricePolicy {
        self.0
    }
}

fn compare(
    rules: &Rules,
    native: &impl CartRules,
    cart: &Cart,
    command: &Command,
    context: &Context,
    what: &str,
) -> Option<Cart> {
    let quoted = rules.quote(cart, context).unwrap_or_else(|error| panic!("{what}: quote: {error}"));
    assert_eq!(quoted.value, native.quote(cart, context), "{what}: quote of {cart:#?}");

    let checked = rules.checkout(cart, context).unwrap_or_else(|error| panic!("{what}: checkout: {error}"));
    let natively = native.checkout(cart, context);
    let of = |reasons: &Vec<Rejection>| reasons.iter().map(seen).collect::<Vec<_>>();
    assert_eq!(
        checked.value.as_ref().map_err(of),
        natively.as_ref().map_err(of),
        "{what}: checkout of {cart:#?}"
    );

    let applied =
        rules.apply(cart, command, context).unwrap_or_else(|error| panic!("{what}: apply: {error}"));
    let natively = native.apply(cart.clone(), command, context);
    assert_eq!(
        applied.value.as_ref().map_err(seen),
        natively.as_ref().map_err(seen),
        "{what}: {command:?} to {cart:#?}"
    );

    let again = rules.quote(cart, context).unwrap_or_else(|error| panic!("{what}: quote: {error}"));
    assert_eq!((again.fuel, &again.value), (quoted.fuel, &quoted.value), "{what}: a second quote");
    let again = rules.apply(cart, command, context).unwrap_or_else(|error| panic!("{what}: apply: {error}"));
    assert_eq!(again.fuel, applied.fuel, "{what}: a second {command:?}");
    natively.ok().map(|applied| applied.cart)
}

#[test]
fn the_component_answers_as_the_native_rules_do() {
    answers_alike(&load(&components().standard), &StandardRules, 600);
}

#[test]
fn a_component_with_another_price_policy_answers_as_the_native_rules_do() {
    answers_alike(&load(&components().current_price), &Policy(PricePolicy::CURRENT), 200);
}

fn answers_alike(rules: &Rules, native: &impl CartRules, seeds: u64) {
    let (mut taken, mut refused) = (0_u64, 0_u64);
    for seed in 0..seeds {
        let mut chance = Chance::seeded(seed);
        let currency = chance.pick(&Currency::ALL);
        let items = 1 + chance.below(12);
        let lines_max = if chance.once_in(20) { 120 } else { 8 };
        let mut cart = cart(&mut chance, currency, items, lines_max);
        let context = context(&mut chance, items);
        for step in 0..6 {
            let command = command(&mut chance, &cart, items);
            let what = format!("seed {seed}, step {step}");
            match compare(rules, native, &cart, &command, &context, &what) {
                Some(after) => {
                    taken += 1;
                    cart = after;
                }
                None => refused += 1,
            }
        }
    }
    assert!(
        taken > seeds && refused > seeds / 2,
        "the generator asks for what is taken and what is not: {taken}, {refused}"
    );
}

#[test]
fn two_engines_take_the_same_number_of_instructions() {
    let (one, other) = (load(&components().standard), load(&components().standard));
    for seed in 0..50 {
        let mut chance = Chance::seeded(1000 + seed);
        let cart = cart(&mut chance, Currency::Sgd, 10, 20);
        let context = context(&mut chance, 10);
        let (a, b) = (one.quote(&cart, &context), other.quote(&cart, &context));
        let (a, b) = (a.expect("a quote"), b.expect("a quote"));
        assert_eq!((a.fuel, a.value), (b.fuel, b.value), "seed {seed}");
    }
}

/// The cart as a component of world 1.0 is asked about it: one price of an item, the lowest that was stored.
fn one_price_an_item(cart: &Cart) -> Cart {
    let mut lowest = cart.clone();
    for line in &mut lowest.lines {
        let of_item = cart.lines.iter().filter(|other| other.item_id == line.item_id);
        line.added_price = of_item.map(|other| other.added_price).min().expect("its own at least");
    }
    lowest
}

/// What world 1.0 says of a cart, but for its warnings.
fn charged(quote: &Quote) -> impl PartialEq + std::fmt::Debug {
    let line = |line: &cart_core::QuoteLine| {
        (line.line_id.clone(), line.unit_price, line.current_price, line.line_total, line.discount, line.tax)
    };
    let discount = |given: &cart_core::Discount| (given.code.clone(), given.title.clone(), given.amount);
    let lines: Vec<_> = quote.lines.iter().map(line).collect();
    let discounts: Vec<_> = quote.discounts.iter().map(discount).collect();
    (quote.price_policy, lines, discounts, quote.totals)
}

/// The lines that a shopper is told of, by the codes that both worlds know.
fn warned(quote: &Quote) -> Vec<(String, Option<String>)> {
    let known = quote.warnings.iter().filter(|warning| warning.code != "quantity_above_item_max");
    let mut warned: Vec<_> = known.map(|warning| (warning.code.clone(), warning.line_id.clone())).collect();
    warned.sort();
    warned
}

#[test]
fn a_recorded_component_of_world_1_0_charges_the_stored_price() {
    let rules = load(&components().standard_1_0);
    let (mut taken, mut refused, mut mixed) = (0, 0, 0);
    for seed in 0..300 {
        let mut chance = Chance::seeded(seed);
        let currency = chance.pick(&Currency::ALL);
        let items = 1 + chance.below(12);
        let mut cart = cart(&mut chance, currency, items, 8);
        let context = context(&mut chance, items);
        for step in 0..6 {
            let what = format!("seed {seed}, step {step}, {cart:#?}");
            let reference = one_price_an_item(&cart);
            mixed += u64::from(reference != cart);
            let expected = StandardRules.quote(&reference, &context);
            let quoted = rules.quote(&cart, &context).unwrap_or_else(|error| panic!("{what}: {error}")).value;
            assert_eq!(charged(&quoted), charged(&expected), "{what}");
            assert_eq!(warned(&quoted), warned(&StandardRules.quote(&cart, &context)), "{what}");
            match rules.checkout(&cart, &context).unwrap_or_else(|error| panic!("{what}: {error}")).value {
                Ok(order) => assert_eq!(order, quoted, "{what}"),
                Err(reasons) => assert!(!reasons.is_empty(), "{what}"),
            }

            let command = command(&mut chance, &cart, items);
            // World 1.0 lets more be taken of what is no longer sold; there is no price to be stored.
            let is_sold = |line: &Line| context.price(&line.item_id).is_some();
            if matches!(&command, Command::SetQuantity { line_id, .. } if !cart.line(line_id).is_some_and(is_sold))
            {
                continue;
            }
            let applied = rules.apply(&cart, &command, &context);
            let applied = applied.unwrap_or_else(|error| panic!("{what}, {command:?}: {error}")).value;
            let natively = StandardRules.apply(cart.clone(), &command, &context);
            let of = |no: &Rejection| no.code().to_owned();
            assert_eq!(
                applied.as_ref().map(|applied| &applied.cart).map_err(of),
                natively.as_ref().map(|applied| &applied.cart).map_err(of),
                "{what}, {command:?}"
            );
            match applied {
                Ok(applied) => {
                    taken += 1;
                    cart = applied.cart;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(taken > 300 && refused > 150 && mixed > 100, "{taken}, {refused}, {mixed}");
}
