//! The home region at home: the primary is here, and the rules decide inside its transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cart_core::{Cart, Command, Context, Currency, Rejection};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::catalogue::{CartFacts, Catalogue};
use crate::clock::Clock;
use crate::document::{self, rules_view, to_json};
use crate::error::{CartError, Reason};
use crate::feed::FeedReader;
use crate::home::{HomeRegion, taken::Taken};
use crate::model::{
    CartCommand, CartRecord, CartState, CatalogueSnapshot, FeedPage, FeedPosition, IDEMPOTENCY_TTL_MS,
    ItemRecord, KeptAnswer, MADE_KEY_TTL_MS, Operation, OrderRecord, OrderState, OwnerKind, Principal,
    WriteAnswer, WriteReply, WriteRequest, WriteTiming,
};
use crate::raw_json::RawJson;
use crate::rules::{Outcome, Rules, RulesError, RulesHandle};
use crate::shares::Queues;
use crate::store::{CartDocument, CartWrite, Commit, Effect, Loaded, NewOrder, PrimaryStore, WriteOutcome};
use crate::telemetry::metric;
use crate::view::{self, Priced};
use crate::workers::off_the_workers;

/// The home region over a primary.
pub struct LocalHome {
    /// The truth.
    pub store: Arc<dyn PrimaryStore>,
    /// Its feed.
    pub feed: FeedReader,
    /// The rules that decide.
    pub rules: Arc<RulesHandle>,
    /// The facts of items and coupons, as this edge knows them.
    pub catalogue: Arc<Catalogue>,
    /// The time of the primary.
    pub clock: Clock,
    /// This region's id.
    pub region: String,
    /// For carts whose owner asks for no currency.
    pub currency_default: Currency,
    /// Writes under way, by their carts.
    pub writes: Queues,
    /// What has become of the last writes.
    pub taken: Taken,
}

/// Writes of one cart under way at one edge of home; more are turned away at once. They are done one after the other,
/// most of them many in one transaction.
pub const WRITES_OF_ONE_CART_MAX: usize = 128;
/// Instructions of all calls of the rules for one write: as many as two calls may use at most. The largest batch takes
/// the standard rules 160 million.
const WRITE_FUEL_MAX: u64 = 400_000_000;
/// Wall clock of all calls of the rules for one write, for what fuel does not see. Wide, because it also runs while the
/// machine is busy with something else.
const WRITE_RULES_TIME_MAX: Duration = Duration::from_secs(5);

#[async_trait]
impl HomeRegion for LocalHome {
    async fn write(&self, request: WriteRequest) -> Result<WriteReply, CartError> {
        let _place = self.writes.enter(&request.principal.cart_id()).ok_or(CartError::Busy)?;
        let rules = self.active_rules()?;
        if !self.clock.is_known() {
            // No time of this host goes into data, not even for a moment.
            return Err(CartError::HomeUnavailable);
        }
        let started = Instant::now();
        let write = self.prepare(&request);
        let mut refusal = None;
        let mut decided = None;
        let mut rules_time = Duration::ZERO;
        let outcome = self
            .store
            .write(&write, &mut |loaded| {
                let mut decision = Decision {
                    rules: &rules,
                    catalogue: &self.catalogue,
                    region: &self.region,
                    principal: &request.principal,
                    write: &write,
                    route: request.route.as_deref(),
                    rules_time: &mut rules_time,
                    fuel_left: WRITE_FUEL_MAX,
                };
                // What an attempt that was undone has decided is of a cart that there is not.
                decided = None;
                let is_heavy = write.is_heavy(loaded.lines());
                let decision = off_the_workers(is_heavy, || decision.decide(&request.operation, loaded));
                let (commit, shown) = decision.map_err(|error| refusal = Some(error)).ok()?;
                decided = Some(shown);
                Some(commit)
            })
            .await;
        self.taken.note(&outcome);
        let timing = WriteTiming {
            db_us: micros(started.elapsed().saturating_sub(rules_time)),
            rules_us: micros(rules_time),
        };
        match outcome? {
            WriteOutcome::Done { record, guest_version } => {
                let undecided = || CartError::Internal("done without a decision".to_owned());
                let Shown { answer, document } = decided.ok_or_else(undecided)?;
                let record = Some(record);
                Ok(WriteReply { answer, record, document, guest_version, replayed: false, timing })
            }
            WriteOutcome::Replayed { answer, record } => {
                metric::idempotent_replay(&self.region);
                let is_heavy = write.is_heavy(record.cart.lines.len());
                let shown = self.show_again(&rules, &request, answer, &record, is_heavy).await?;
                let Shown { answer, document } = shown;
                let (record, guest_version) = (Some(record), None);
                Ok(WriteReply { answer, record, document, guest_version, replayed: true, timing })
            }
            WriteOutcome::Refused => {
                Err(refusal.unwrap_or_else(|| CartError::Internal("refused without a reason".to_owned())))
            }
            WriteOutcome::VersionMismatch(current) => Err(CartError::VersionMismatch(current)),
            // An edge that does not say by which route it was asked does not understand more.
            WriteOutcome::KeyReused(_) if request.route.is_none() => Err(CartError::KeyReused),
            WriteOutcome::KeyReused(answer) => Err(CartError::KeyUsed(answer.done())),
            WriteOutcome::InProgress => Err(CartError::InProgress),
        }
    }

    async fn cart(&self, principal: &Principal) -> Result<CartRecord, CartError> {
        match self.store.cart(&principal.cart_id()).await? {
            Some(record) => Ok(record),
            None => {
                let epoch = self.store.epoch().await?;
                Ok(CartRecord::unused(principal, self.currency_default, epoch))
            }
        }
    }

    async fn orders(
        &self,
        owner: &Principal,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<OrderRecord>, CartError> {
        let orders = self.store.orders(owner, before, limit).await?;
        if orders.is_empty() {
            self.unless_merged(owner).await?;
        }
        Ok(orders)
    }

    async fn order(&self, owner: &Principal, order_id: &str) -> Result<OrderRecord, CartError> {
        if let Some(order) = self.store.order(owner, order_id).await? {
            return Ok(order);
        }
        self.unless_merged(owner).await?;
        Err(CartError::OrderUnknown(order_id.to_owned()))
    }

    async fn items(&self, item_ids: &[String]) -> Result<Vec<ItemRecord>, CartError> {
        Ok(self.store.items(item_ids).await?)
    }

    async fn catalogue(&self) -> Result<CatalogueSnapshot, CartError> {
        Ok(self.store.catalogue().await?)
    }

    async fn feed(&self, after: Option<&FeedPosition>, wait: Duration) -> Result<FeedPage, CartError> {
        Ok(self.feed.next_page(after, wait).await?)
    }

    async fn rules(&self, revision: &str) -> Result<Option<Vec<u8>>, CartError> {
        Ok(self.store.rules(revision).await?)
    }

    fn refusal(&self) -> Option<String> {
        self.taken.refusal()
    }

    fn forwards(&self) -> bool {
        false
    }
}

impl LocalHome {
    /// A guest whose cart went to a user has no orders any more: they went along.
    async fn unless_merged(&self, owner: &Principal) -> Result<(), CartError> {
        if owner.kind != OwnerKind::Guest {
            return Ok(());
        }
        let cart = self.store.cart(&owner.cart_id()).await?;
        if cart.is_some_and(|cart| cart.state == CartState::Merged) {
            Err(CartError::CartMerged)
        } else {
            Ok(())
        }
    }

    fn active_rules(&self) -> Result<Arc<Rules>, CartError> {
        let none = || CartError::RulesFailed { code: "rules_not_loaded".to_owned() };
        self.rules.current().ok_or_else(none)
    }

    fn prepare(&self, request: &WriteRequest) -> CartWrite {
        // The store puts the epoch in, under its lock.
        let unused = |principal: &Principal| CartRecord::unused(principal, self.currency_default, 0);
        let now_ms = self.clock.now_ms();
        let key_ttl_ms = if request.key_made { MADE_KEY_TTL_MS } else { IDEMPOTENCY_TTL_MS };
        let mut write = CartWrite {
            principal: request.principal.clone(),
            unused: unused(&request.principal),
            guest: None,
            idempotency_key: request.idempotency_key.clone(),
            answer_kept_until_ms: now_ms + key_ttl_ms,
            fingerprint: request.fingerprint(),
            request: request.digest(),
            if_match: request.if_match.clone(),
            item_ids: Vec::new(),
            coupon_codes: Vec::new(),
            // A moment old at most. It shows a cart and takes nothing, and no region shows that cart by newer facts.
            known: Some(Arc::clone(&self.catalogue)),
            takes_stock: matches!(request.operation, Operation::Checkout { .. }),
            rules_calls: match &request.operation {
                Operation::Commands(commands) => commands.len() + 1,
                Operation::Merge { .. } => 2,
                Operation::Checkout { .. } => 1,
            },
            now_ms,
        };
        match &request.operation {
            Operation::Commands(commands) => {
                for command in commands {
                    match command {
                        CartCommand::Add { item_id, .. } => write.item_ids.push(item_id.clone()),
                        CartCommand::ApplyCoupon { code } => write.coupon_codes.push(code.clone()),
                        _ => {}
                    }
                }
            }
            Operation::Merge { guest, .. } => write.guest = Some((guest.clone(), unused(guest))),
            Operation::Checkout { .. } => {}
        }
        write
    }

    /// The answer to a request that was done before: its first status, with the cart or the order as it is now.
    async fn show_again(
        &self,
        rules: &Rules,
        request: &WriteRequest,
        kept: KeptAnswer,
        record: &CartRecord,
        is_heavy: bool,
    ) -> Result<Shown, CartError> {
        let (body, document) = match kept.order_id() {
            Some(order_id) => (self.order_again(order_id).await?, None),
            None if record.state == CartState::Merged => return Err(CartError::CartMerged),
            None => self.cart_again(rules, &request.principal, record, is_heavy).await?,
        };
        let KeptAnswer { status, location, .. } = kept;
        let mut version = record.version;
        if record.state == CartState::Merged {
            // The merge has made a version of its own, at which the guest's cart is not shown: the last one is before it.
            version.version = version.version.saturating_sub(1);
        }
        Ok(Shown { answer: WriteAnswer { status, body, version, location }, document })
    }

    /// The order that was placed under a key, also when it is a user's by now because the guest has signed in.
    async fn order_again(&self, order_id: &str) -> Result<String, CartError> {
        let order = self.store.placed_order(order_id).await?;
        let missing = || CartError::Internal(format!("order {order_id} was placed and is not there"));
        order_body(order.ok_or_else(missing)?)
    }

    async fn cart_again(
        &self,
        rules: &Rules,
        owner: &Principal,
        record: &CartRecord,
        is_heavy: bool,
    ) -> Result<(String, Option<CartDocument>), CartError> {
        let mut facts = self.catalogue.facts(&record.cart);
        if !facts.items_missing.is_empty() {
            let items = self.store.items(&facts.items_missing).await?;
            facts.items.extend(items.into_iter().map(Arc::new));
        }
        let now_ms = self.clock.now_ms();
        let context = facts.context(&record.cart, owner, &self.region, now_ms);
        let outcome = off_the_workers(is_heavy, || rules.quote(&record.cart, &context));
        metric::rules_call(&self.region, &outcome);
        let quote = outcome?.value;
        let body = document::body(record, &quote, &[], &facts, rules)?;
        // What is not known here today may be known tomorrow, without a change that would tell.
        let document = facts.items_missing.is_empty().then(|| {
            let (body, prints) = (body.clone().into(), facts.prints.clone());
            document::document(record, body, &facts, prints, rules, &quote, now_ms)
        });
        Ok((body, document))
    }
}

/// An order as it is shown, here and at its own address.
fn order_body(record: OrderRecord) -> Result<String, CartError> {
    let document = view::order(record).map_err(|error| CartError::Internal(error.to_string()))?;
    Ok(document.as_str().to_owned())
}

/// What a client is shown, and the same as the cache may keep it, where it is a cart.
struct Shown {
    answer: WriteAnswer,
    document: Option<CartDocument>,
}

/// One decision, inside the primary's transaction: pure but for the clock that was read before.
struct Decision<'a> {
    rules: &'a Rules,
    catalogue: &'a Catalogue,
    region: &'a str,
    principal: &'a Principal,
    write: &'a CartWrite,
    route: Option<&'a str>,
    rules_time: &'a mut Duration,
    /// Instructions that the calls to come may use.
    fuel_left: u64,
}

impl Decision<'_> {
    fn decide(&mut self, operation: &Operation, loaded: Loaded) -> Result<(Commit, Shown), CartError> {
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

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
