//! The rendered cart: what a region shows again and again, as long as nothing it was made from has changed.

use bytes::Bytes;
use cart_core::{Quote, Warning};
use serde::Serialize;

use crate::catalogue::CartFacts;
use crate::clock::share_of;
use crate::error::CartError;
use crate::model::{CartRecord, Millis};
use crate::rules::Rules;
use crate::store::{CartDocument, FactPrints};
use crate::view::{self, Priced, RulesView};

/// Rules may look at the time, and nothing tells when they change their mind by it. So a rendered cart is shown
/// again, while nothing else that it was made from has changed, until the next full quarter of an hour: whatever
/// begins or ends for a whole shop does so by the clock. An order is always priced anew.
const TURN_MS: Millis = 15 * 60 * 1000;
/// Carts come after their turn by up to so much, each by its own time, so that rules are not run for all of them at
/// once.
const SPREAD_MS: Millis = 60 * 1000;

/// The public document of a cart as JSON. The warnings are of the command that was just done; a read has none.
pub fn body(
    record: &CartRecord,
    quote: &Quote,
    warnings: &[Warning],
    facts: &CartFacts,
    rules: &Rules,
) -> Result<String, CartError> {
    let title = |item_id: &str| facts.title(item_id);
    to_json(&Priced { record, quote, warnings, title: &title, rules: rules_view(rules) }.cart())
}

/// That document with what it was made from: facts with these fingerprints, by these rules, now. It is good until a
/// coupon begins or ends, a stored price is held no longer, or the rules say that they look at the time.
pub fn document(
    record: &CartRecord,
    body: Bytes,
    facts: &CartFacts,
    prints: FactPrints,
    rules: &Rules,
    quote: &Quote,
    now_ms: Millis,
) -> CartDocument {
    let applied = facts.coupons.iter().filter(|coupon| record.cart.coupons.contains(&coupon.code));
    let coupons = applied.flat_map(|coupon| [coupon.starts_at_ms, coupon.ends_at_ms]).flatten();
    let holds = record.cart.lines.iter().filter_map(|line| quote.price_policy.hold_ends_at_ms(line));
    let bounds = coupons.chain(holds).chain(quote.good_until_ms);
    let next_bound = bounds.filter(|at_ms| *at_ms > now_ms).min().unwrap_or(Millis::MAX);
    CartDocument {
        version: record.version,
        rules: *rules.revision(),
        facts: prints,
        good_until_ms: next_bound.min(next_turn(&record.cart_id, now_ms)),
        tag: view::fingerprint(&record.cart_id, &body),
        body,
    }
}

/// When the rules may see a cart otherwise that has not changed.
fn next_turn(cart_id: &str, now_ms: Millis) -> Millis {
    let own_ms = share_of(cart_id, SPREAD_MS);
    (now_ms - own_ms).div_euclid(TURN_MS) * TURN_MS + TURN_MS + own_ms
}

/// The rules as the public documents name them.
pub fn rules_view(rules: &Rules) -> RulesView {
    RulesView { name: rules.manifest().name.clone(), revision: rules.revision().to_string() }
}

/// A document as JSON.
pub fn to_json(document: &impl Serialize) -> Result<String, CartError> {
    serde_json::to_string(document).map_err(|error| CartError::Internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_cart_is_priced_anew_soon_after_each_quarter_of_an_hour() {
        let midnight_ms = 1_800_000_000_000 - 1_800_000_000_000 % TURN_MS;
        let turns_ms: BTreeSet<_> = (0..100)
            .map(|number| {
                let cart_id = format!("c_{number}");
                let turn_ms = next_turn(&cart_id, midnight_ms - 1);
                assert!((midnight_ms..midnight_ms + SPREAD_MS).contains(&turn_ms), "{turn_ms}");
                assert_eq!(next_turn(&cart_id, turn_ms - 1), turn_ms);
                assert_eq!(next_turn(&cart_id, turn_ms), turn_ms + TURN_MS);
                turn_ms
            })
            .collect();
        assert!(turns_ms.len() > 90, "each has its own: {turns_ms:?}");
    }
}
