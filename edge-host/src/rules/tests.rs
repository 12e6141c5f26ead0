//! What needs no built guest. How built ones behave is tested in the tests crate.

use std::sync::{Arc, LazyLock};

use cart_core::{
    Cart, Command, Context, Currency, Discount, Item, Line, Manifest, MergePolicy, Missing, Nearest,
    NotApplied, Param, PricePolicy, PrincipalKind, Quote, Rejection, TaxClass, Totals, Warning, line_id,
    quote,
};

use super::bindings::World;
use super::*;

const NOW_MS: i64 = 1_767_225_600_000;

fn engine() -> &'static RulesEngine {
    static ENGINE: LazyLock<Arc<RulesEngine>> =
        LazyLock::new(|| RulesEngine::new(&RulesOptions::default()).expect("an engine"));
    &ENGINE
}

/// A component of these sections, each an id and a content.
fn component(sections: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    for (id, content) in sections {
        bytes.push(*id);
        bytes.push(u8::try_from(content.len()).expect("a short section"));
        bytes.extend_from_slice(content);
    }
    bytes
}

/// A component that imports a function without parameters.
fn importing(name: &str) -> Vec<u8> {
    let function_type = [1, 0x40, 0, 1, 0];
    let mut import = vec![1, 0, u8::try_from(name.len()).expect("a short name")];
    import.extend_from_slice(name.as_bytes());
    import.extend_from_slice(&[1, 0]);
    component(&[(7, &function_type), (10, &import)])
}

#[track_caller]
fn refused(bytes: &[u8], code: &str, word: &str) {
    let error = engine().load(bytes).expect_err("refused");
    assert_eq!(error.code(), code, "{error}");
    assert!(error.explain().contains(word), "{word:?} is not in {:?}", error.explain());
}

#[test]
fn what_is_not_a_component_is_told_so() {
    refused(b"", "not_a_component", "empty");
    refused(b"\0asm\x01\0\0\0", "not_a_component", "core module");
    refused(b"#!/bin/sh", "not_a_component", ".wasm");
    refused(&vec![0; COMPONENT_BYTES_MAX + 1], "component_too_large", "262145");
}

#[test]
fn a_broken_component_does_not_compile() {
    refused(&importing("log")[..20], "component_not_compiled", "unexpected end");
    refused(&component(&[(99, b"?")]), "component_not_compiled", "section");
}

#[test]
fn a_component_may_import_log_and_nothing_else() {
    refused(&importing("socket"), "forbidden_import", "socket");
    refused(&importing("log"), "wrong_world", "troli:cart/rules@1.1.0");
    refused(&component(&[]), "wrong_world", "troli:cart/rules@1.1.0");
}

#[test]
fn a_component_may_not_begin_with_more_memory_than_a_call_may_have() {
    let with_pages = |pages: u8| {
        let module = [b"\0asm\x01\0\0\0".as_slice(), &[5, 3, 1, 0, pages]].concat();
        component(&[(1, &module), (2, &[1, 0, 0, 0])])
    };
    refused(&with_pages(65), "component_not_compiled", "memory");
    let hoarder = [b"\0asm\x01\0\0\0".as_slice(), &[5, 5, 2, 0, 1, 0, 1]].concat();
    refused(&component(&[(1, &hoarder), (2, &[1, 0, 0, 0])]), "component_not_compiled", "memor");
    refused(&with_pages(64), "wrong_world", "troli:cart/rules@1.1.0");
}

#[test]
fn only_a_core_module_of_rules_is_encoded() {
    for bytes in [b"".as_slice(), b"#!/bin/sh", &component(&[])] {
        let error = encode(bytes).expect_err("refused");
        assert!(matches!(error, EncodeError::Module { .. }), "{error}");
    }
    // It has no world in it, so it would export nothing; the engine says so.
    let nothing = encode(b"\0asm\x01\0\0\0").expect("a component of no world");
    refused(&nothing, "wrong_world", "troli:cart/rules@1.1.0");
}

#[test]
fn a_cache_that_is_no_directory_is_an_error_at_the_start() {
    let options = RulesOptions { cache_dir: Some("/dev/null/rules".into()), ..RulesOptions::default() };
    let error = RulesEngine::new(&options).err().expect("no engine");
    assert!(matches!(error, EngineError::Cache { .. }), "{error}");
}

#[test]
fn a_revision_is_the_digest_of_the_bytes() {
    let revision = Revision::of(b"abc");
    assert_eq!(revision.to_string(), "ba7816bf8f01");
    let full = revision.full();
    assert_eq!(full, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(full.parse(), Ok(revision));
    for wrong in ["", "ba7816bf8f01", &full.to_uppercase(), &format!("{full}0"), &full.replace('b', "ü")] {
        assert_eq!(wrong.parse::<Revision>(), Err(RevisionError), "{wrong}");
    }
}

#[test]
fn the_budget_grows_with_the_cart_up_to_a_limit() {
    let limits = RulesLimits::default();
    assert_eq!(limits.fuel(0), limits.fuel_base);
    assert_eq!(limits.fuel(5), limits.fuel_base + 5 * limits.fuel_per_line);
    assert_eq!(limits.fuel(usize::MAX), limits.fuel_max);
}

fn line(item_id: &str, added_price: i64) -> Line {
    Line {
        line_id: line_id(item_id, ""),
        item_id: item_id.to_string(),
        quantity: 2,
        variant: String::new(),
        added_price,
        added_at_ms: NOW_MS - 1000,
        priced_at_ms: NOW_MS - 1000,
        updated_at_ms: NOW_MS - 1000,
    }
}

fn cart(lines: &[Line]) -> Cart {
    Cart { lines: lines.to_vec(), coupons: vec!["TEN".to_string()], ..Cart::empty(Currency::Sgd) }
}

fn context() -> Context {
    let item = |item_id: &str, price| Item {
        item_id: item_id.to_string(),
        title: item_id.to_string(),
        price: Some(price),
        stock: 10,
        quantity_max: None,
        tax_class: TaxClass::Standard,
        tags: Vec::new(),
    };
    let items = vec![item("TEA", 500), item("CUP", 900)];
    Context::new(NOW_MS, "sin".to_string(), PrincipalKind::Guest, items, Vec::new())
}

fn add(item_id: &str) -> Command {
    Command::Add { item_id: item_id.to_string(), quantity: 1, variant: String::new() }
}

#[track_caller]
fn check_apply(command: &Command, after: &Cart, expect: Result<(), &str>) {
    let found = check::cart(&cart(&[line("TEA", 450)]), command, &context(), after);
    match expect {
        Ok(()) => assert_eq!(found, Ok(())),
        Err(word) => assert!(found.clone().is_err_and(|text| text.contains(word)), "{word:?}: {found:?}"),
    }
}

#[test]
fn a_cart_holds_only_what_was_asked_for() {
    let tea = line("TEA", 450);
    let now = |line: Line| Line { added_at_ms: NOW_MS, priced_at_ms: NOW_MS, updated_at_ms: NOW_MS, ..line };
    let cup = now(line("CUP", 900));
    check_apply(&Command::Clear, &cart(&[]), Ok(()));
    check_apply(&Command::Clear, &cart(std::slice::from_ref(&tea)), Ok(()));
    check_apply(&add("CUP"), &cart(&[tea.clone(), cup.clone()]), Ok(()));
    check_apply(&add("TEA"), &cart(&[tea.clone(), cup.clone()]), Err("\"CUP\" was not asked for"));
    check_apply(
        &add("CUP"),
        &cart(&[Line { added_price: 1, ..cup.clone() }]),
        Err("should be 9.00, the catalogue's"),
    );
    check_apply(&add("CUP"), &cart(&[Line { added_at_ms: NOW_MS + 5000, ..cup }]), Err("times"));
    // The catalogue's price may be stored, and then it is stored now.
    let stored = |added_price, priced_at_ms| cart(&[Line { added_price, priced_at_ms, ..tea.clone() }]);
    check_apply(&add("TEA"), &stored(500, NOW_MS), Ok(()));
    check_apply(
        &add("TEA"),
        &stored(500, NOW_MS - 1000),
        Err("price of \"TEA\" changed to 5.00: it was 4.50"),
    );
    check_apply(&add("TEA"), &stored(450, NOW_MS), Err("price of \"TEA\" changed"));
    check_apply(&add("TEA"), &stored(400, NOW_MS), Err("the catalogue's is 5.00"));
    check_apply(
        &add("TEA"),
        &cart(&[Line { added_at_ms: 0, ..tea.clone() }]),
        Err("times of \"TEA\" changed"),
    );
    check_apply(&add("TEA"), &cart(&[Line { line_id: "l_0".to_string(), ..tea.clone() }]), Err("id"));
    check_apply(&add("TEA"), &cart(&[Line { quantity: 0, ..tea.clone() }]), Err("quantity"));
    let swapped = Cart { currency: Currency::Vnd, ..cart(&[tea]) };
    check_apply(&Command::Clear, &swapped, Err("currency"));
}

#[test]
fn a_cart_holds_only_coupons_that_were_typed_in() {
    let with = |coupon: &str| Cart { coupons: vec!["TEN".to_string(), coupon.to_string()], ..cart(&[]) };
    let typed = Command::ApplyCoupon { code: "NEW".to_string() };
    check_apply(&typed, &with("NEW"), Ok(()));
    check_apply(&typed, &with("OTHER"), Err("coupon \"OTHER\" was not asked for"));
}

#[test]
fn a_merge_takes_lines_prices_and_currency_from_the_other_cart() {
    let guest = Cart { coupons: vec!["NEW".to_string()], ..cart(&[line("TEA", 400), line("CUP", 800)]) };
    let merge = Command::Merge { from: guest.clone(), policy: MergePolicy::Max };
    check_apply(&merge, &guest, Ok(()));
    check_apply(&merge, &cart(&[line("TEA", 450), line("CUP", 800)]), Ok(()));
    check_apply(&merge, &cart(&[line("TEA", 425)]), Err("changed"));
    check_apply(&merge, &cart(&[line("CUP", 900)]), Err("changed"));

    let dong = Cart { currency: Currency::Vnd, ..guest };
    let merge = Command::Merge { from: dong.clone(), policy: MergePolicy::Max };
    assert_eq!(check::cart(&Cart::empty(Currency::Sgd), &merge, &context(), &dong), Ok(()));
    check_apply(&merge, &dong, Err("currency"));
}

#[track_caller]
fn check_quote(spoil: impl FnOnce(&mut Quote), expect: Result<(), &str>) -> Quote {
    let cart = cart(&[line("TEA", 450)]);
    let mut quote = quote(&cart, &context(), PricePolicy::STORED, &[]);
    spoil(&mut quote);
    let found = check::quote(World::V1_1, &cart, &context(), &mut quote);
    match expect {
        Ok(()) => assert_eq!(found, Ok(())),
        Err(word) => assert!(found.clone().is_err_and(|text| text.contains(word)), "{word:?}: {found:?}"),
    }
    quote
}

fn give(quote: &mut Quote, code: &str) {
    let discount =
        Discount { code: code.to_string(), title: "ü".repeat(600), amount: 10, params: Vec::new() };
    quote.discounts.push(discount);
    quote.lines[0].discount += 10;
    quote.totals.discount += 10;
    quote.totals.total -= 10;
}

#[test]
fn a_quote_adds_up_at_the_prices_of_the_catalogue() {
    check_quote(|_| {}, Ok(()));
    check_quote(|quote| quote.totals.total = -1, Err("the total is -0.01, and should be 9.00"));
    check_quote(|quote| quote.totals.subtotal += 100, Err("the subtotal is 10.00, and should be 9.00"));
    check_quote(|quote| quote.lines.clear(), Err("lines"));
    let tax = |quote: &mut Quote| {
        quote.lines[0].tax = 5000;
        quote.totals.tax = 5000;
    };
    check_quote(tax, Err("tax"));
}

#[test]
fn a_line_costs_what_the_policy_of_the_quote_says() {
    let charge = |policy: PricePolicy, price: i64| {
        move |quote: &mut Quote| {
            quote.price_policy = policy;
            quote.lines[0].unit_price = Some(price);
            quote.lines[0].line_total = 2 * price;
            quote.lines[0].tax = 0;
            quote.totals = Totals { subtotal: 2 * price, total: 2 * price, tax: 0, ..quote.totals };
        }
    };
    let over = PricePolicy::STORED.held_for_ms(1000);
    for (policy, right, wrong) in [
        (PricePolicy::STORED, 450, 500),
        (PricePolicy::CURRENT, 500, 450),
        (PricePolicy::LOWER, 450, 500),
        (PricePolicy::STORED.held_for_ms(1001), 450, 500),
        (over, 500, 450),
    ] {
        check_quote(charge(policy, right), Ok(()));
        check_quote(charge(policy, wrong), Err("the unit price of \"TEA\" is "));
    }
    let word = "is 5.00, and should be 4.50, by the price policy stored";
    check_quote(charge(PricePolicy::STORED, 500), Err(word));
    check_quote(charge(PricePolicy::STORED.held_for_ms(-1), 500), Err("-1 ms"));
    let half = |quote: &mut Quote| quote.lines[0].current_price = Some(250);
    check_quote(half, Err("the current price of \"TEA\" is 2.50, and should be 5.00, the catalogue's"));
    check_quote(|quote| quote.good_until_ms = Some(NOW_MS + 1), Ok(()));
    check_quote(|quote| quote.good_until_ms = Some(NOW_MS), Err("over already"));
}

#[test]
fn what_was_not_applied_has_a_reason_and_parameters_have_names() {
    let not_applied = |reason: &str, params: Vec<Param>| {
        let (code, title) = ("payday".to_string(), "x".repeat(600));
        let (reason, detail) = (reason.to_string(), "x".repeat(600));
        move |quote: &mut Quote| {
            quote.not_applied.push(NotApplied { code, title, reason, detail, params });
        }
    };
    let quoted = check_quote(not_applied("not_today", vec![Param::money("missing", 5)]), Ok(()));
    let last = quoted.not_applied.last().expect("the one that was added");
    assert_eq!((last.title.len(), last.detail.len()), (512, 512));
    check_quote(not_applied("Not today", vec![]), Err("no reason"));
    check_quote(not_applied("a", vec![Param::number("Left", 1)]), Err("no name of a parameter"));
    check_quote(not_applied("a", vec![Param::number("left", 1); 2]), Err("stands twice"));
    let many = (0..9).map(|n| Param::number(&format!("n{n}"), n)).collect();
    check_quote(not_applied("a", many), Err("at most 8"));
    let text = not_applied("a", vec![Param::text("name", &"ü".repeat(600))]);
    let quoted = check_quote(text, Ok(()));
    let last = quoted.not_applied.last().expect("the one that was added");
    assert_eq!(last.params, [Param::text("name", &"ü".repeat(256))]);

    let nearest = |missing| {
        let (code, title) = ("payday".to_string(), String::new());
        move |quote: &mut Quote| quote.nearest = Some(Nearest { code, title, missing })
    };
    check_quote(nearest(Missing::Quantity(1)), Ok(()));
    check_quote(nearest(Missing::Quantity(0)), Err("nothing is missing"));
    check_quote(nearest(Missing::Amount(-1)), Err("nothing is missing"));
}

#[test]
fn codes_are_labels_and_texts_are_cut() {
    let quoted = check_quote(|quote| give(quote, "11.11"), Ok(()));
    assert_eq!(quoted.discounts[0].title, "ü".repeat(256));
    check_quote(|quote| give(quote, "TEN"), Ok(()));
    check_quote(|quote| give(quote, "OTHER"), Err("no discount code"));
    check_quote(|quote| (0..65).for_each(|_| give(quote, "a")), Err("at most 64"));

    let warn = |code: &str, line_id: Option<&str>| {
        let (code, line_id) = (code.to_string(), line_id.map(ToString::to_string));
        let (detail, params) = ("x".repeat(600), Vec::new());
        move |quote: &mut Quote| quote.warnings.push(Warning { code, line_id, detail, params })
    };
    let quoted = check_quote(warn("too_hot", None), Ok(()));
    assert_eq!(quoted.warnings.last().map(|warning| warning.detail.len()), Some(512));
    check_quote(warn("Too hot", None), Err("no warning code"));
    check_quote(warn("", None), Err("no warning code"));
    check_quote(warn("_a", None), Err("no warning code"));
    check_quote(warn("too_hot", Some("l_0")), Err("not there"));
}

#[test]
fn a_rejection_has_a_code_and_is_about_a_line_that_was_mentioned() {
    let cart = cart(&[line("TEA", 450)]);
    let rejection = |code: &str, line_id: Option<String>| Rejection::Custom {
        code: code.to_string(),
        detail: "x".repeat(600),
        line_id,
        params: Vec::new(),
    };
    let mut fine = rejection("too_hot", Some(line_id("CUP", "")));
    assert_eq!(check::rejection(&cart, &add("CUP"), &mut fine), Ok(()));
    assert_eq!(fine.to_string().len(), 512);
    assert!(check::rejection(&cart, &add("TEA"), &mut fine).is_err());
    assert!(check::rejection(&cart, &add("CUP"), &mut rejection("too-hot", None)).is_err());
    assert!(check::rejection(&cart, &add("CUP"), &mut rejection(&"a".repeat(65), None)).is_err());

    assert_eq!(check::rejections(&cart, &mut [rejection("too_hot", Some(line_id("TEA", "")))]), Ok(()));
    assert!(check::rejections(&cart, &mut []).is_err());
    assert!(check::rejections(&cart, &mut vec![rejection("a", None); 1001]).is_err());
}

#[test]
fn a_manifest_is_short_and_plain() {
    let manifest = |name: &str, version: &str| Manifest {
        name: name.to_string(),
        version: version.to_string(),
        description: String::new(),
    };
    assert_eq!(check::manifest(&manifest("mega-sale", "1.4.0-rc.1")), Ok(()));
    assert!(check::manifest(&manifest("Mega sale", "1.4.0")).is_err());
    assert!(check::manifest(&manifest("", "1.4.0")).is_err());
    assert!(check::manifest(&manifest("mega-sale", "")).is_err());
    assert!(check::manifest(&manifest("mega-sale", "1\n2")).is_err());
}

#[test]
fn a_handle_without_rules_has_nothing_to_go_back_to() {
    let handle = RulesHandle::empty();
    assert!(handle.current().is_none() && handle.previous().is_none());
    let error = LoadError::SelfCheck { case: "an empty cart", source: RulesError::OutOfFuel };
    handle.record_refusal(Refusal::new(NOW_MS, b"abc", &error));
    let refusal = handle.status().last_refused.expect("a refusal");
    assert_eq!((refusal.code, refusal.revision), ("self_check_failed", Some(Revision::of(b"abc"))));
    assert!(
        refusal.reason.contains("an empty cart") && refusal.reason.contains("budget"),
        "{}",
        refusal.reason
    );
}
