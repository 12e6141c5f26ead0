//! The rendered cart: what a region shows again and again, as long as nothing it was made from has changed.

use cart_core::Quote;
use serde::Serialize;

use crate::catalogue::CartFacts;
use crate::error::CartError;
use crate::model::{CartRecord, Millis};
use crate::rules::Rules;
use crate::store::{CartDocument, FactPrints};
use crate::view::{Priced, RulesView};

/// A rendered cart is shown again for so long while nothing it was made from has changed but the time, which
/// rules may look at: a sale that begins at midnight is seen by then, and in a minute nobody waits for the rules
/// twice. An order is always priced anew.
const DOCUMENT_TTL_MS: Millis = 60 * 1000;

/// The public document of a cart as JSON.
pub fn body(
    record: &CartRecord,
    quote: &Quote,
    facts: &CartFacts,
    rules: &Rules,
) -> Result<String, CartError> {
    let title = |item_id: &str| facts.title(item_id);
    to_json(&Priced { record, quote, title: &title, rules: rules_view(rules) }.cart())
}

/// That document with what it was made from: facts with these fingerprints, by these rules, now.
pub fn document(
    record: &CartRecord,
    body: String,
    facts: &CartFacts,
    prints: FactPrints,
    rules: &Rules,
    now_ms: Millis,
) -> CartDocument {
    let applied = facts.coupons.iter().filter(|coupon| record.cart.coupons.contains(&coupon.code));
    let bounds = applied.flat_map(|coupon| [coupon.starts_at_ms, coupon.ends_at_ms]).flatten();
    let next_bound = bounds.filter(|at_ms| *at_ms > now_ms).min().unwrap_or(Millis::MAX);
    CartDocument {
        version: record.version,
        rules: rules.revision().full(),
        facts: prints,
        good_until_ms: next_bound.min(now_ms + DOCUMENT_TTL_MS),
        view_digest: record.view_digest.clone(),
        body,
    }
}

/// The rules as the public documents name them.
pub fn rules_view(rules: &Rules) -> RulesView {
    RulesView { name: rules.manifest().name.clone(), revision: rules.revision().to_string() }
}

/// A document as JSON.
pub fn to_json(document: &impl Serialize) -> Result<String, CartError> {
    serde_json::to_string(document).map_err(|error| CartError::Internal(error.to_string()))
}
