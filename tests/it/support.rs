//! Checks that many tests share.

use serde_json::{Value, json};

/// So many Singapore dollars, as the public documents have them.
pub(crate) fn sgd(amount: &str) -> Value {
    money(amount, "SGD")
}

/// So much of a currency, as the public documents have it.
pub(crate) fn money(amount: &str, currency: &str) -> Value {
    json!({ "amount": amount, "currency": currency })
}

/// The lines of a cart or an order.
#[track_caller]
pub(crate) fn lines_of(cart: &Value) -> &[Value] {
    cart["lines"].as_array().unwrap_or_else(|| panic!("no lines: {cart:#}"))
}

/// The one line of an item.
#[track_caller]
pub(crate) fn line_of<'a>(cart: &'a Value, item_id: &str) -> &'a Value {
    let mut of_item = lines_of(cart).iter().filter(|line| line["item_id"] == item_id);
    match (of_item.next(), of_item.next()) {
        (Some(line), None) => line,
        _ => panic!("not exactly one line of {item_id}: {cart:#}"),
    }
}

/// The codes of a cart's warnings.
#[track_caller]
pub(crate) fn warnings_of(cart: &Value) -> Vec<&str> {
    let warnings = cart["warnings"].as_array().unwrap_or_else(|| panic!("no warnings: {cart:#}"));
    warnings.iter().map(|warning| warning["code"].as_str().unwrap_or_default()).collect()
}

/// Compares two pieces of JSON and shows both.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "the expectation is mostly made on the spot")]
pub(crate) fn assert_json(found: &Value, expected: Value) {
    assert!(*found == expected, "expected {expected:#}\nfound {found:#}");
}
