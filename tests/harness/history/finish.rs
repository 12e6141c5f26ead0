//! The end of a run: all is well again, what is open is asked once more, and everything is looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use super::check::says_merged;
use super::record::{Act, CartNo, Event, History, Outcome, Version};
use super::session::{Tried, Tries};
use super::shop::Shop;
use crate::Chance;

/// Events of the end are of this session.
pub(super) const END: usize = usize::MAX - 1;
/// When all is well, every region shows the newest within this time.
const CONVERGED_WITHIN: Duration = Duration::from_secs(10);
/// What was open is answered within this time.
const RESOLVED_WITHIN: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Carts that are looked at side by side.
const AT_ONCE: usize = 16;

/// Asks once more, under the same keys, what has no answer or one that an earlier try may belie; returns how
/// many that were.
pub(super) async fn resolve(shop: &Shop<'_>) -> usize {
    let open = |event: &Event| match (&event.act, &event.outcome) {
        (Act::Write(_) | Act::Settle(..), Outcome::Unanswered) => true,
        (Act::Write(_), Outcome::Refused { .. }) => event.ambiguous > 0,
        _ => false,
    };
    let mut resolved = 0;
    // A try that was held somewhere may have come through while the others were asked again.
    for _ in 0..2 {
        let all: Vec<(usize, Event)> = shop.events(|events| {
            let open = events.iter().enumerate().filter(|(_, event)| open(event));
            open.map(|(at, event)| (at, event.clone())).collect()
        });
        resolved = resolved.max(all.len());
        stream::iter(all).for_each_concurrent(AT_ONCE, |(at, event)| resolve_one(shop, at, event)).await;
    }
    resolved
}

async fn resolve_one(shop: &Shop<'_>, at: usize, event: Event) {
    let mut chance = Chance::seeded(shop.options.seed ^ at as u64);
    let deadline = Instant::now() + RESOLVED_WITHIN;
    let home = [shop.fleet.home()];
    let settles = matches!(event.act, Act::Settle(..));
    let regions = if settles { &home[..] } else { &shop.doors };
    let tries = Tries { shop, regions, first: chance.pick(regions), seen: event.seen };
    loop {
        let caller_at = |region| match settles {
            true => shop.fleet.admin().caller().clone(),
            false => shop.owner_at(event.cart, region),
        };
        let Tried { outcome, ambiguous, region } = tries.ask(&event.act, &mut chance, caller_at).await;
        if matches!(outcome, Outcome::Unanswered) && Instant::now() < deadline {
            continue;
        }
        let ended = shop.now();
        return shop.events(|events| {
            let event = &mut events[at];
            event.ambiguous += ambiguous;
            (event.outcome, event.region, event.ended) = (outcome, region, ended);
        });
    }
}

/// Looks at every cart in every region, at all orders, and at the stock.
pub(super) async fn look(shop: &Shop<'_>) -> History {
    let carts: Vec<CartNo> = (0..shop.carts().len()).collect();
    let newest = newest_told(shop, carts.len());
    let deadline = Instant::now() + CONVERGED_WITHIN;
    let looked = stream::iter(carts).map(async |cart| {
        let mut last = look_at_cart(shop, cart, newest[cart], deadline).await;
        last.push(all_orders(shop, cart).await);
        last
    });
    let looked: Vec<Vec<Event>> = looked.buffer_unordered(AT_ONCE).collect().await;
    let mut history = History {
        goods: shop.goods.clone(),
        carts: shop.carts(),
        events: shop.events(std::mem::take),
        stock_left: BTreeMap::new(),
    };
    history.events.extend(looked.into_iter().flatten());
    let expected = history.stock_expected();
    loop {
        history.stock_left = stock(shop).await;
        if history.stock_left == expected || Instant::now() > deadline {
            return history;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The newest version of each cart that anybody was told of.
fn newest_told(shop: &Shop<'_>, carts: usize) -> Vec<Option<Version>> {
    let mut newest = vec![None; carts];
    shop.events(|events| {
        for event in events {
            newest[event.cart] = newest[event.cart].max(event.version());
        }
    });
    newest
}

/// Looks until all regions say the same, and nothing older than what anybody was told; or until the deadline.
async fn look_at_cart(
    shop: &Shop<'_>,
    cart: CartNo,
    newest: Option<Version>,
    deadline: Instant,
) -> Vec<Event> {
    loop {
        let mut seen = Vec::new();
        for region in shop.fleet.ids() {
            seen.push(ask(shop, cart, region, Act::LastRead).await);
        }
        let merged = seen.iter().all(|event| says_merged(&event.outcome));
        let first = seen.first().and_then(Event::version);
        let same = first >= newest && first.is_some() && seen.iter().all(|event| event.version() == first);
        if merged || same || Instant::now() > deadline {
            return seen;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// All orders of an owner, page by page, as one answer.
async fn all_orders(shop: &Shop<'_>, cart: CartNo) -> Event {
    let mut chance = Chance::seeded(shop.options.seed ^ cart as u64);
    let region = chance.pick(&shop.options.regions);
    let owner = shop.owner_at(cart, region);
    let began = shop.now();
    let mut all = Vec::new();
    let mut path = format!("/v1/orders?limit={}", super::check::ORDERS_LISTED_MAX);
    let outcome = loop {
        let answer = owner.get(&path).await;
        let page = match super::wire::hear(shop, &Act::LastOrders, &answer) {
            super::wire::Heard::Said(Outcome::Orders(page)) => page,
            super::wire::Heard::Said(refused @ Outcome::Refused { .. }) => break refused,
            _ => break Outcome::Garbled(answer.to_string()),
        };
        all.extend(page);
        match answer.json()["next_cursor"].as_str() {
            Some(cursor) => {
                path = format!("/v1/orders?limit={}&cursor={cursor}", super::check::ORDERS_LISTED_MAX);
            }
            None => break Outcome::Orders(all),
        }
    };
    last(shop, cart, region, began, Act::LastOrders, outcome)
}

async fn ask(shop: &Shop<'_>, cart: CartNo, region: &'static str, act: Act) -> Event {
    let mut chance = Chance::seeded(shop.options.seed);
    let began = shop.now();
    let tries = Tries { shop, regions: &[region], first: region, seen: None };
    let tried = tries.ask(&act, &mut chance, |region| shop.owner_at(cart, region)).await;
    last(shop, cart, region, began, act, tried.outcome)
}

fn last(
    shop: &Shop<'_>,
    cart: CartNo,
    region: &'static str,
    began: u64,
    act: Act,
    outcome: Outcome,
) -> Event {
    let ended = shop.now();
    Event { session: END, follows: false, cart, region, began, ended, seen: None, act, ambiguous: 0, outcome }
}

/// What is left of each item, as the home region has it.
async fn stock(shop: &Shop<'_>) -> BTreeMap<String, i64> {
    let home = shop.at(shop.fleet.home());
    let mut left = BTreeMap::new();
    for item in &shop.goods.items {
        let answer = home.get(format_args!("/v1/items/{}", item.item_id)).await;
        left.extend(answer.json()["stock"].as_i64().map(|stock| (item.item_id.clone(), stock)));
    }
    left
}
