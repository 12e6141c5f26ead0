//! What a cart is given, what it is not, and what its shopper is told.

use cart_core::{Currency, Missing, NotApplied, Param, ParamValue, Quote, Warning};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::MoneyView;

/// An amount taken off, and by what.
#[derive(Clone, Debug, Serialize)]
pub struct DiscountView {
    code: String,
    title: String,
    amount: MoneyView,
    /// What a translation of the title needs, such as `percent`.
    params: ParamsView,
}

/// A coupon or promotion that gave nothing, and why.
#[derive(Clone, Debug, Serialize)]
pub struct NotAppliedView {
    code: String,
    title: String,
    /// Stable, lower snake case.
    reason: String,
    detail: String,
    /// What a translation of the detail needs, such as `missing`.
    params: ParamsView,
}

/// A promotion that the cart is near to.
#[derive(Clone, Debug, Serialize)]
pub struct NearestView {
    code: String,
    title: String,
    missing: MissingView,
}

/// What a cart is short of.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingView {
    /// So much more to pay.
    Amount(MoneyView),
    /// So many more units.
    Quantity(u32),
}

/// Values in a text, by name, for its translation: text, numbers, amounts, and percentages as decimal texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ParamsView(serde_json::Map<String, Value>);

/// Something to look at before paying.
#[derive(Clone, Debug, Serialize)]
pub struct WarningView {
    code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line_id: Option<String>,
    detail: String,
    /// What a translation of the detail needs, such as `stock`, `was` and `now`.
    params: ParamsView,
}

pub(super) fn discounts(quote: &Quote, currency: Currency) -> Vec<DiscountView> {
    let discounts = quote.discounts.iter().map(|discount| DiscountView {
        code: discount.code.clone(),
        title: discount.title.clone(),
        amount: MoneyView::new(discount.amount, currency),
        params: ParamsView::new(&discount.params, currency),
    });
    discounts.collect()
}

pub(super) fn not_applied(quote: &Quote, currency: Currency) -> Vec<NotAppliedView> {
    let view = |not_applied: &NotApplied| NotAppliedView {
        code: not_applied.code.clone(),
        title: not_applied.title.clone(),
        reason: not_applied.reason.clone(),
        detail: not_applied.detail.clone(),
        params: ParamsView::new(&not_applied.params, currency),
    };
    quote.not_applied.iter().map(view).collect()
}

pub(super) fn nearest(quote: &Quote, currency: Currency) -> Option<NearestView> {
    let nearest = quote.nearest.as_ref()?;
    Some(NearestView {
        code: nearest.code.clone(),
        title: nearest.title.clone(),
        missing: match nearest.missing {
            Missing::Amount(minor) => MissingView::Amount(MoneyView::new(minor, currency)),
            Missing::Quantity(units) => MissingView::Quantity(units),
        },
    })
}

pub(super) fn warnings<'a>(
    warnings: impl Iterator<Item = &'a Warning>,
    currency: Currency,
) -> Vec<WarningView> {
    let view = |warning: &Warning| WarningView {
        code: warning.code.clone(),
        line_id: warning.line_id.clone(),
        detail: warning.detail.clone(),
        params: ParamsView::new(&warning.params, currency),
    };
    warnings.map(view).collect()
}

impl ParamsView {
    /// Parameters whose amounts are of this currency.
    pub fn new(params: &[Param], currency: Currency) -> Self {
        let view = |Param { name, value }: &Param| {
            let value = match value {
                ParamValue::Text(text) => Value::from(text.as_str()),
                ParamValue::Number(number) => Value::from(*number),
                ParamValue::Money(minor) => json!(MoneyView::new(*minor, currency)),
                ParamValue::Percent(basis_points) => Value::from(percent(*basis_points)),
            };
            (name.clone(), value)
        };
        Self(params.iter().map(view).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Hundredths of a per cent as the shortest decimal, as coupons are given: `10`, `12.5`, `0.25`.
fn percent(basis_points: u32) -> String {
    match (basis_points / 100, basis_points % 100) {
        (whole, 0) => whole.to_string(),
        (whole, part) if part % 10 == 0 => format!("{whole}.{}", part / 10),
        (whole, part) => format!("{whole}.{part:02}"),
    }
}
