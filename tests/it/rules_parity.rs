//! The standard rules are the same natively and as a component: every answer, and, asked again, every
//! instruction.

use std::sync::Arc;

use cart_core::{
    Cart, CartRules, Command, Context, Coupon, CouponKind, Currency, Item, Line, MergePolicy, PrincipalKind,
    Rejection, StandardRules, TaxClass, line_id,
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
    let coupon = |n: usize, chance: &mut Chance| Coupon {
        code: format!("CODE{n}"),
        kind: match chance.below(5) {
            0 => CouponKind::OtherCurrency,
            1 | 2 => CouponKind::Amount(i64::try_from(chance.below(20_000)).expect("small")),
            _ => CouponKind::Percent(u32::try_from(chance.below(10_001)).expect("small")),
        },
        starts_at_ms: chance
            .once_in(4)
            .then(|| NOW_MS - 500 + i64::try_from(chance.below(1000)).expect("small")),
        ends_at_ms: chance
            .once_in(4)
            .then(|| NOW_MS - 500 + i64::try_from(chance.below(1000)).expect("small")),
        redemptions_left: chance.once_in(3).then(|| u32::try_from(chance.below(3)).expect("small")),
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
            unit_price: i64::try_from(chance.below(100_000)).expect("small"),
            added_at_ms,
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
    match chance.below(8) {
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
fn seen(rejection: &Rejection) -> (String, String, Option<String>) {
    (rejection.code().to_owned(), rejection.to_string(), rejection.line_id().map(str::to_owned))
}

fn compare(rules: &Rules, cart: &Cart, command: &Command, context: &Context, what: &str) -> Option<Cart> {
    let quoted = rules.quote(cart, context).unwrap_or_else(|error| panic!("{what}: quote: {error}"));
    assert_eq!(quoted.value, StandardRules.quote(cart, context), "{what}: quote of {cart:#?}");

    let checked = rules.checkout(cart, context).unwrap_or_else(|error| panic!("{what}: checkout: {error}"));
    let natively = StandardRules.checkout(cart, context);
    let of = |reasons: &Vec<Rejection>| reasons.iter().map(seen).collect::<Vec<_>>();
    assert_eq!(
        checked.value.as_ref().map_err(of),
        natively.as_ref().map_err(of),
        "{what}: checkout of {cart:#?}"
    );

    let applied =
        rules.apply(cart, command, context).unwrap_or_else(|error| panic!("{what}: apply: {error}"));
    let natively = StandardRules.apply(cart.clone(), command, context);
    assert_eq!(
        applied.value.as_ref().map_err(seen),
        natively.as_ref().map_err(seen),
        "{what}: {command:?} to {cart:#?}"
    );

    let again = rules.quote(cart, context).unwrap_or_else(|error| panic!("{what}: quote: {error}"));
    assert_eq!((again.fuel, &again.value), (quoted.fuel, &quoted.value), "{what}: a second quote");
    let again = rules.apply(cart, command, context).unwrap_or_else(|error| panic!("{what}: apply: {error}"));
    assert_eq!(again.fuel, applied.fuel, "{what}: a second {command:?}");
    natively.ok()
}

#[test]
fn the_component_answers_as_the_native_rules_do() {
    let rules = load(&components().standard);
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..600 {
        let mut chance = Chance::seeded(seed);
        let currency = chance.pick(&Currency::ALL);
        let items = 1 + chance.below(12);
        let lines_max = if chance.once_in(20) { 120 } else { 8 };
        let mut cart = cart(&mut chance, currency, items, lines_max);
        let context = context(&mut chance, items);
        for step in 0..6 {
            let command = command(&mut chance, &cart, items);
            let what = format!("seed {seed}, step {step}");
            match compare(&rules, &cart, &command, &context, &what) {
                Some(after) => {
                    taken += 1;
                    cart = after;
                }
                None => refused += 1,
            }
        }
    }
    assert!(
        taken > 1000 && refused > 500,
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
