//! The home region at home: the primary is here, and the rules decide inside its transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cart_core::Currency;
use futures_util::future::BoxFuture;

use self::decision::{Decision, Shown, order_body};
use crate::catalogue::Catalogue;
use crate::clock::Clock;
use crate::document::{self};
use crate::error::CartError;
use crate::feed::FeedReader;
use crate::home::{HomeRegion, orders, taken::Taken};
use crate::model::{
    CartCommand, CartRecord, CartState, CatalogueSnapshot, FeedPage, FeedPosition, IDEMPOTENCY_TTL_MS,
    ItemRecord, KeptAnswer, MADE_KEY_TTL_MS, Operation, OrderRecord, OwnerKind, Principal, WriteAnswer,
    WriteReply, WriteRequest, WriteTiming,
};
use crate::rules::{Rules, RulesHandle};
use crate::shares::Queues;
use crate::store::{CartDocument, CartWrite, PrimaryStore, WriteOutcome};
use crate::telemetry::metric;
use crate::workers::off_the_workers;

mod decision;

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
    pub taken: Arc<Taken>,
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

impl HomeRegion for LocalHome {
    fn write(&self, request: WriteRequest) -> BoxFuture<'_, Result<WriteReply, CartError>> {
        Box::pin(async move {
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
        })
    }

    fn cart<'a>(&'a self, principal: &'a Principal) -> BoxFuture<'a, Result<CartRecord, CartError>> {
        Box::pin(async move {
            match self.store.cart(&principal.cart_id()).await? {
                Some(record) => Ok(record),
                None => {
                    let epoch = self.store.epoch().await?;
                    Ok(CartRecord::unused(principal, self.currency_default, epoch))
                }
            }
        })
    }

    fn orders<'a>(
        &'a self,
        owner: &'a Principal,
        before: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<OrderRecord>, CartError>> {
        Box::pin(async move {
            let page = orders::page(self.store.as_ref(), owner, before, limit).await?;
            if page.is_empty() {
                self.unless_merged(owner).await?;
            }
            Ok(page)
        })
    }

    fn order<'a>(
        &'a self,
        owner: &'a Principal,
        order_id: &'a str,
    ) -> BoxFuture<'a, Result<OrderRecord, CartError>> {
        Box::pin(async move {
            if let Some(order) = self.store.order(owner, order_id).await? {
                return Ok(order);
            }
            self.unless_merged(owner).await?;
            Err(CartError::OrderUnknown(order_id.to_owned()))
        })
    }

    fn items<'a>(&'a self, item_ids: &'a [String]) -> BoxFuture<'a, Result<Vec<ItemRecord>, CartError>> {
        Box::pin(async move { Ok(self.store.items(item_ids).await?) })
    }

    fn catalogue(&self) -> BoxFuture<'_, Result<CatalogueSnapshot, CartError>> {
        Box::pin(async move { Ok(self.store.catalogue().await?) })
    }

    fn feed<'a>(
        &'a self,
        after: Option<&'a FeedPosition>,
        wait: Duration,
    ) -> BoxFuture<'a, Result<FeedPage, CartError>> {
        Box::pin(async move { Ok(self.feed.next_page(after, wait).await?) })
    }

    fn rules<'a>(&'a self, revision: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, CartError>> {
        Box::pin(async move { Ok(self.store.rules(revision).await?) })
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

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
