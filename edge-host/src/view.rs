//! The public documents: what a client sees of carts, orders and items.
//!
//! Made by the region that reads, and by the home region for the answers it keeps.

use bytes::Bytes;
use cart_core::{Cart, Currency, Money, Quote, QuoteLine, Warning};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::model::{CartRecord, CartVersion, CurrencyCode, ItemRecord, Millis, OrderRecord, OrderState};
use crate::raw_json::{Members, RawJson};

mod offers;

pub use offers::{DiscountView, MissingView, NearestView, NotAppliedView, ParamsView, WarningView};
use offers::{discounts, nearest, not_applied, warnings};

/// An amount as a decimal text with the currency's own digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoneyView {
    /// Decimal, with exactly the currency's digits.
    pub amount: String,
    /// ISO 4217.
    pub currency: CurrencyCode,
}

impl MoneyView {
    /// So many minor units of a currency.
    pub fn new(minor: i64, currency: Currency) -> Self {
        Self { amount: Money::new(minor, currency).amount(), currency: CurrencyCode(currency) }
    }
}

/// A cart with today's prices.
#[derive(Clone, Debug, Serialize)]
pub struct CartView {
    id: String,
    /// `epoch.version`, as in the `Cart-Version` header.
    version: CartVersion,
    currency: CurrencyCode,
    lines: Vec<LineView>,
    /// At which price lines are charged.
    price_policy: &'static str,
    coupons: Vec<String>,
    discounts: Vec<DiscountView>,
    /// Coupons of the cart, and promotions that concern one of its items, that gave nothing.
    not_applied: Vec<NotAppliedView>,
    /// Of the promotions whose condition is not met, the one that the cart is nearest to.
    nearest: Option<NearestView>,
    totals: TotalsView,
    warnings: Vec<WarningView>,
    count: CountView,
    rules: RulesView,
    /// RFC 3339; null for a cart that was never used.
    updated_at: Option<String>,
    /// RFC 3339; null for a cart that was never used.
    expires_at: Option<String>,
}

/// A line with what it costs, and the two prices that this is made from.
#[derive(Clone, Debug, Serialize)]
pub struct LineView {
    line_id: String,
    item_id: String,
    title: String,
    quantity: u32,
    /// As it was given; null for none.
    variant: Option<RawJson>,
    /// What one costs, by the price policy; null when it is no longer sold.
    unit_price: Option<MoneyView>,
    /// The price of one that was stored: when the line was added, its quantity last raised, or its price refreshed.
    added_price: MoneyView,
    /// The catalogue's price of one now; null when it is no longer sold.
    current_price: Option<MoneyView>,
    /// How far the catalogue's price has moved since it was stored; null when it has not.
    price_change: Option<PriceChangeView>,
    /// Quantity × unit price.
    line_total: MoneyView,
    /// The line's share of all discounts.
    discount: MoneyView,
    tax: MoneyView,
    /// Whether the whole quantity could be bought now.
    available: bool,
    added_at: String,
    updated_at: String,
}

/// How far a price has moved.
#[derive(Clone, Debug, Serialize)]
pub struct PriceChangeView {
    amount: MoneyView,
    direction: &'static str,
}

/// What there is to pay.
#[derive(Clone, Debug, Serialize)]
pub struct TotalsView {
    subtotal: MoneyView,
    discount: MoneyView,
    tax: MoneyView,
    /// Whether the prices contain the tax; where they do not, it is added to the total.
    tax_included: bool,
    total: MoneyView,
}

/// Lines and units of a cart.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CountView {
    /// Lines.
    pub lines: usize,
    /// Units in all lines together.
    pub quantity: u64,
}

/// The rules that reckoned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesView {
    /// Their name.
    pub name: String,
    /// The first 12 hex digits of the component's SHA-256.
    pub revision: String,
}

/// What was ordered.
#[derive(Clone, Debug, Serialize)]
pub struct OrderView {
    id: String,
    state: OrderState,
    lines: Vec<OrderLineView>,
    /// By which policy the prices of the lines were charged.
    price_policy: &'static str,
    discounts: Vec<DiscountView>,
    totals: TotalsView,
    rules: RulesView,
    placed_at: String,
}

/// A line as it was ordered.
#[derive(Clone, Debug, Serialize)]
pub struct OrderLineView {
    line_id: String,
    item_id: String,
    title: String,
    quantity: u32,
    variant: Option<RawJson>,
    /// The price of one that was charged.
    unit_price: MoneyView,
    line_total: MoneyView,
    /// The line's share of all discounts.
    discount: MoneyView,
    tax: MoneyView,
}

/// An item of the catalogue.
#[derive(Clone, Debug, Serialize)]
pub struct ItemView {
    item_id: String,
    title: String,
    /// One price in each currency that it is sold in.
    prices: Vec<MoneyView>,
    /// Units left.
    stock: u32,
    available: bool,
    quantity_max: Option<u32>,
    tax_class: &'static str,
    tags: Vec<String>,
    updated_at: String,
}

/// A priced cart, and the titles that go with it.
pub struct Priced<'a> {
    /// The cart.
    pub record: &'a CartRecord,
    /// Its prices.
    pub quote: &'a Quote,
    /// What the shopper should know of the command that was just done.
    pub warnings: &'a [Warning],
    /// Finds an item's title.
    pub title: &'a dyn Fn(&str) -> Option<String>,
    /// The rules that reckoned.
    pub rules: RulesView,
}

impl Priced<'_> {
    /// The public cart.
    pub fn cart(&self) -> CartView {
        let record = self.record;
        CartView {
            id: record.cart_id.clone(),
            version: record.version,
            currency: CurrencyCode(record.cart.currency),
            lines: (0..record.cart.lines.len()).filter_map(|at| self.line(at)).collect(),
            price_policy: self.quote.price_policy.basis.as_str(),
            coupons: record.cart.coupons.clone(),
            discounts: discounts(self.quote, record.cart.currency),
            not_applied: not_applied(self.quote, record.cart.currency),
            nearest: nearest(self.quote, record.cart.currency),
            totals: totals(self.quote, record.cart.currency),
            warnings: warnings(self.warnings.iter().chain(&self.quote.warnings), record.cart.currency),
            count: CountView::of(&record.cart),
            rules: self.rules.clone(),
            updated_at: record.updated_at_ms.map(rfc3339),
            expires_at: record.expires_at_ms.map(rfc3339),
        }
    }

    /// One line of the public cart, by its place.
    pub fn line(&self, at: usize) -> Option<LineView> {
        let currency = self.record.cart.currency;
        let money = |minor| MoneyView::new(minor, currency);
        let (line, quoted) = (self.record.cart.lines.get(at)?, self.quote.lines.get(at)?);
        let QuoteLine { unit_price, current_price, .. } = *quoted;
        let moved = current_price.map_or(0, |now| now - line.added_price);
        Some(LineView {
            line_id: line.line_id.clone(),
            item_id: line.item_id.clone(),
            title: (self.title)(&line.item_id).unwrap_or_else(|| line.item_id.clone()),
            quantity: line.quantity,
            variant: variant(&line.variant),
            unit_price: unit_price.map(money),
            added_price: money(line.added_price),
            current_price: current_price.map(money),
            price_change: (moved != 0).then(|| PriceChangeView {
                amount: money(moved.abs()),
                direction: if moved > 0 { "up" } else { "down" },
            }),
            line_total: money(quoted.line_total),
            discount: money(quoted.discount),
            tax: money(quoted.tax),
            available: quoted.available,
            added_at: rfc3339(line.added_at_ms),
            updated_at: rfc3339(line.updated_at_ms),
        })
    }

    /// The public order of this cart.
    pub fn order(&self, order_id: &str, placed_at_ms: Millis) -> OrderView {
        let currency = self.record.cart.currency;
        let money = |minor| MoneyView::new(minor, currency);
        let lines =
            self.record.cart.lines.iter().zip(&self.quote.lines).map(|(line, quoted)| OrderLineView {
                line_id: line.line_id.clone(),
                item_id: line.item_id.clone(),
                title: (self.title)(&line.item_id).unwrap_or_else(|| line.item_id.clone()),
                quantity: line.quantity,
                variant: variant(&line.variant),
                unit_price: money(quoted.unit_price.unwrap_or(0)),
                line_total: money(quoted.line_total),
                discount: money(quoted.discount),
                tax: money(quoted.tax),
            });
        OrderView {
            id: order_id.to_owned(),
            state: OrderState::PendingPayment,
            lines: lines.collect(),
            price_policy: self.quote.price_policy.basis.as_str(),
            discounts: discounts(self.quote, currency),
            totals: totals(self.quote, currency),
            rules: self.rules.clone(),
            placed_at: rfc3339(placed_at_ms),
        }
    }
}

impl CountView {
    /// The count of a cart.
    pub fn of(cart: &Cart) -> Self {
        Self { lines: cart.lines.len(), quantity: cart.quantity() }
    }
}

/// One line of a public cart, as it stands in it.
pub fn line(cart: &[u8], line_id: &str) -> serde_json::Result<Option<String>> {
    #[derive(Deserialize)]
    struct Lines<'a> {
        #[serde(borrow)]
        lines: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Line<'a> {
        line_id: &'a str,
    }
    for line in serde_json::from_slice::<Lines<'_>>(cart)?.lines {
        if serde_json::from_str::<Line<'_>>(line.get())?.line_id == line_id {
            return Ok(Some(line.get().to_owned()));
        }
    }
    Ok(None)
}

/// Tells one public document from another, and from the same document of somebody else: a part of their SHA-256.
/// `whose` is the id of a cart, or empty for what is everybody's.
pub fn fingerprint(whose: &str, document: &[u8]) -> String {
    const BYTES: usize = 12;
    let digest = Sha256::new().chain_update(whose).chain_update([0]).chain_update(document).finalize();
    BASE64URL_NOPAD.encode(&digest[..BYTES])
}

/// The public order as it stands now.
pub fn order(record: OrderRecord) -> serde_json::Result<RawJson> {
    record.document.with_member("state", &record.state)
}

/// The public item.
pub fn item(record: &ItemRecord) -> ItemView {
    ItemView {
        item_id: record.item_id.clone(),
        title: record.title.clone(),
        prices: record.prices.iter().map(|(of, minor)| MoneyView::new(*minor, of.0)).collect(),
        stock: record.stock,
        available: record.stock > 0,
        quantity_max: record.quantity_max,
        tax_class: if record.tax_zero { "zero" } else { "standard" },
        tags: record.tags.clone(),
        updated_at: rfc3339(record.changed_at_ms),
    }
}

/// A time as RFC 3339 in UTC.
pub fn rfc3339(at_ms: Millis) -> String {
    // In civil time, which reaches to the end of year 9999; the range of timestamps ends a day before.
    let epoch = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);
    let at = epoch.saturating_add(jiff::SignedDuration::from_millis(at_ms));
    format!("{at}Z")
}

fn variant(canonical: &str) -> Option<RawJson> {
    if canonical.is_empty() { None } else { RawJson::new(canonical.to_owned()).ok() }
}

fn totals(quote: &Quote, currency: Currency) -> TotalsView {
    let money = |minor| MoneyView::new(minor, currency);
    TotalsView {
        subtotal: money(quote.totals.subtotal),
        discount: money(quote.totals.discount),
        tax: money(quote.totals.tax),
        tax_included: quote.totals.tax_included,
        total: money(quote.totals.total),
    }
}

/// A cart's document with the warning that home was not asked. What merchants and shoppers have put into it stays to
/// the byte.
pub fn with_home_unreachable(document: &Bytes) -> Bytes {
    const WARNING: &str = r#"{"code":"home_unreachable","detail":"The home region cannot be reached: the cart is shown as this region last knew it, and cannot be changed for now.","params":{}}"#;
    let warned = || {
        let mut members = Members::read(std::str::from_utf8(document).ok()?).ok()?;
        let others: Vec<&RawValue> = serde_json::from_str(members.get("warnings")?.get()).ok()?;
        let all = others.iter().fold(WARNING.to_owned(), |all, warning| format!("{all},{}", warning.get()));
        let all = RawValue::from_string(format!("[{all}]")).ok()?;
        members.set("warnings", &all);
        members.write().ok()
    };
    warned().map_or_else(|| document.clone(), Bytes::from)
}
