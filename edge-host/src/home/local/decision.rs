//! Decides a write inside the primary's transaction: what the cart becomes, and what the client is shown.

use std::collections::BTreeMap;
use std::time::Duration;

use cart_core::{Cart, Command, Context, Currency, Rejection};
use serde_json::{Value, json};
use uuid::Uuid;

use super::WRITE_RULES_TIME_MAX;
use crate::catalogue::{CartFacts, Catalogue};
use crate::document::{self, rules_view, to_json};
use crate::error::{CartError, Reason};
use crate::home::orders;
use crate::model::{
    CartCommand, CartRecord, CartState, KeptAnswer, Operation, OrderRecord, OrderState, Principal,
    WriteAnswer,
};
use crate::raw_json::RawJson;
use crate::rules::{Outcome, Rules, RulesError};
use crate::store::{CartDocument, CartWrite, Commit, Effect, Loaded, NewOrder};
use crate::telemetry::metric;
use crate::view::{self, Priced};

/// An order as it is shown, here and at its own address.
pub(super) fn order_body(record: OrderRecord) -> Result<String, CartError> {
    let document = view::order(record).map_err(|error| CartError::Internal(error.to_string()))?;
    Ok(document.as_str().to_owned())
}

/// What a client is shown, and the same as the cache may keep it, where it is a cart.
pub(super) struct Shown {
    pub(super) answer: WriteAnswer,
    pub(super) document: Option<CartDocument>,
}

/// One decision, inside the primary's transaction: pure but for the clock that was read before.
pub(super) struct Decision<'a> {
    pub(super) rules: &'a Rules,
    pub(super) catalogue: &'a Catalogue,
    pub(super) region: &'a str,
    pub(super) principal: &'a Principal,
    pub(super) write: &'a CartWrite,
    pub(super) route: Option<&'a str>,
    pub(super) rules_time: &'a mut Duration,
    /// Instructions that the calls to come may use.
    pub(super) fuel_left: u64,
}

impl Decision<'_> {
    pub(super) fn decide(
        &mut self,
        operation: &Operation,
        loaded: Loaded,
    ) -> Result<(Commit, Shown), CartError> {
        if loaded.cart.state == CartState::Merged {
            return Err(CartError::CartMerged);
        }
        let facts = CartFacts { items: loaded.items, coupons: loaded.coupons, ..CartFacts::default() };
        match operation {
            Operation::Commands(commands) => {
                let commands: Vec<Command> = commands.iter().map(CartCommand::to_core).collect();
                self.change(loaded.cart, &commands, &facts, Effect::Changed)
            }
            Operation::Merge { policy, .. } => {
                let guest = loaded
                    .guest
                    .ok_or_else(|| CartError::Internal("a merge was loaded without its guest".to_owned()))?;
                if guest.state == CartState::Merged {
                    return Err(CartError::CartMerged);
                }
                let merge = Command::Merge { from: guest.cart, policy: (*policy).into() };
                self.change(loaded.cart, &[merge], &facts, Effect::Merged)
            }
            Operation::Checkout { expected_total, currency } => {
                orders::may_order(self.principal.kind, loaded.unpaid_orders)?;
                self.checkout(&loaded.cart, (*expected_total, currency.0), &facts)
            }
        }
    }

    fn change(
        &mut self,
        mut record: CartRecord,
        commands: &[Command],
        facts: &CartFacts,
        effect: Effect,
    ) -> Result<(Commit, Shown), CartError> {
        let before = record.cart.clone();
        let context = self.context(&before, facts);
        let (currency, mut warnings) = (record.cart.currency, Vec::new());
        for (at, command) in commands.iter().enumerate() {
            let outcome = self.rules.apply(&record.cart, command, &context);
            let reason = |no: &Rejection| Reason { command: Some(at), ..Reason::new(no, currency) };
            let applied = self.took(outcome)?.map_err(|no| CartError::Rejected(vec![reason(&no)]))?;
            record.cart = applied.cart;
            warnings.extend(applied.warnings);
        }
        // As they are read again.
        record.cart.lines.sort_by(|a, b| (a.added_at_ms, &a.line_id).cmp(&(b.added_at_ms, &b.line_id)));
        // A merge always ends the guest's cart, also when it brings the user nothing.
        let effect = match effect {
            Effect::Changed if record.cart == before => Effect::Unchanged,
            effect => effect,
        };
        if !matches!(effect, Effect::Unchanged) {
            record.version = record.version.next();
            record.updated_at_ms = Some(self.write.now_ms);
            record.expires_at_ms = Some(self.write.now_ms + crate::model::CART_TTL_MS);
        }
        let context = self.context(&record.cart, facts);
        let outcome = self.rules.quote(&record.cart, &context);
        let quote = self.took(outcome)?;
        let body = document::body(&record, &quote, &[], facts, self.rules)?;
        let prints = self.catalogue.prints(&record.cart, facts);
        let document = prints.map(|prints| {
            let body = body.clone().into();
            document::document(&record, body, facts, prints, self.rules, &quote, self.write.now_ms)
        });
        // What is said of the commands alone is in their answer, and not in the cart as it is shown from now on.
        let body = match warnings.as_slice() {
            [] => body,
            warnings => document::body(&record, &quote, warnings, facts, self.rules)?,
        };
        let answer = WriteAnswer { status: 200, body, version: record.version, location: None };
        let kept = self.kept(&answer, &json!({ "id": record.cart_id, "version": record.version }));
        Ok((Commit { cart: record.cart, effect, answer: kept }, Shown { answer, document }))
    }

    fn checkout(
        &mut self,
        record: &CartRecord,
        (expected_total, expected_currency): (i64, Currency),
        facts: &CartFacts,
    ) -> Result<(Commit, Shown), CartError> {
        let context = self.context(&record.cart, facts);
        let outcome = self.rules.checkout(&record.cart, &context);
        let quote = self.took(outcome)?.map_err(|reasons| {
            let reason = |no| Reason::new(no, record.cart.currency);
            CartError::Rejected(reasons.iter().map(reason).collect())
        })?;
        let items = in_stock(&record.cart, facts)?;
        let (total, currency) = (quote.totals.total, record.cart.currency);
        if (total, currency) != (expected_total, expected_currency) {
            let currency = crate::model::CurrencyCode(currency);
            return Err(CartError::CartChanged { current_total: total, currency });
        }
        // Version 7 grows with time, so orders sort by their names.
        let order_id = format!("o_{}", Uuid::now_v7().simple());
        let title = |item_id: &str| facts.title(item_id);
        let priced =
            Priced { record, quote: &quote, warnings: &[], title: &title, rules: rules_view(self.rules) };
        let body = to_json(&priced.order(&order_id, self.write.now_ms))?;
        let document = RawJson::new(body).map_err(|error| CartError::Internal(error.to_string()))?;
        let state = OrderState::PendingPayment;
        let placed = OrderRecord { order_id: order_id.clone(), state, document: document.clone() };
        let answer = WriteAnswer {
            status: 201,
            body: order_body(placed)?,
            version: record.version.next(),
            location: Some(format!("/v1/orders/{order_id}")),
        };
        let kept = self.kept(&answer, &json!({ "id": order_id }));
        let gave = |code: &&String| quote.discounts.iter().any(|discount| discount.code == **code);
        let order = NewOrder {
            order_id,
            document,
            items,
            coupons: record.cart.coupons.iter().filter(gave).cloned().collect(),
        };
        let commit = Commit { cart: Cart::empty(currency), effect: Effect::Ordered(order), answer: kept };
        Ok((commit, Shown { answer, document: None }))
    }

    /// What is kept of an answer. The body is the least that the release before can answer a retry with.
    fn kept(&self, answer: &WriteAnswer, body: &Value) -> KeptAnswer {
        KeptAnswer {
            status: answer.status,
            body: body.to_string(),
            version: answer.version,
            location: answer.location.clone(),
            route: self.route.map(ToOwned::to_owned),
            request: self.write.request.clone(),
            at_ms: Some(self.write.now_ms),
        }
    }

    fn context(&self, cart: &Cart, facts: &CartFacts) -> Context {
        facts.context(cart, self.principal, self.region, self.write.now_ms)
    }

    fn took<T>(&mut self, outcome: Result<Outcome<T>, RulesError>) -> Result<T, CartError> {
        metric::rules_call(self.region, &outcome);
        let outcome = outcome?;
        *self.rules_time += outcome.duration;
        self.fuel_left = self.fuel_left.checked_sub(outcome.fuel).ok_or(RulesError::OutOfFuel)?;
        if *self.rules_time > WRITE_RULES_TIME_MAX {
            return Err(RulesError::TimedOut.into());
        }
        Ok(outcome.value)
    }
}

/// What to take from stock. Rules may say what they like of the stock: what is not there is not sold.
fn in_stock(cart: &Cart, facts: &CartFacts) -> Result<Vec<(String, u32)>, CartError> {
    let mut wanted = BTreeMap::<String, u32>::new();
    for line in &cart.lines {
        *wanted.entry(line.item_id.clone()).or_default() += line.quantity;
    }
    let left = |item_id: &String| facts.item(item_id).map_or(0, |item| item.stock);
    let short = wanted.iter().filter(|(item_id, quantity)| left(item_id) < **quantity).map(|(item_id, _)| {
        let rejection =
            Rejection::OutOfStock { line_id: None, item_id: item_id.clone(), stock: left(item_id) };
        Reason::new(&rejection, cart.currency)
    });
    let short: Vec<Reason> = short.collect();
    if short.is_empty() { Ok(wanted.into_iter().collect()) } else { Err(CartError::Rejected(short)) }
}
