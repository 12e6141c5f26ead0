//! What one shopper, one cart or one item can do must not be felt by others.
//!
//! Each test lets somebody misbehave, within every limit, and meanwhile other shoppers do what they always do. They
//! are all served. The noisy ones are served, or told in so many words that there is too much of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use harness::{Answer, Ask, Caller, Fleet, FleetOptions, Stack, eventually, unique};
use serde_json::json;
use sqlx::{Connection, MySqlConnection};

/// Those who are not to notice anything. `TROLI_ABUSE_SHOPPERS` makes it more.
fn shoppers() -> usize {
    number("TROLI_ABUSE_SHOPPERS", 200)
}

/// A number of the environment, for a long run.
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

/// Of the shoppers, so many do something at the same time.
const SHOPPERS_AT_ONCE: usize = 8;
/// The most lines that a cart may have.
const LINES_MAX: usize = 500;

async fn fleet(stack: Stack, regions: &[&'static str]) -> Fleet {
    Fleet::start(FleetOptions { stack, regions: regions.to_vec(), ..FleetOptions::default() }).await
}

/// The same with the rate limit that an edge has by default.
async fn limited_fleet(stack: Stack, regions: &[&'static str]) -> Fleet {
    let settings = vec![("TROLI_RATE_LIMIT_PER_S", "100".to_owned())];
    Fleet::start(FleetOptions { stack, regions: regions.to_vec(), settings, ..FleetOptions::default() }).await
}

/// Shoppers, each with a cart, in these regions in turn.
async fn others(fleet: &Fleet, regions: &[&'static str], item: &str) -> Vec<Caller> {
    let come = (0..shoppers()).map(async |n| {
        let shopper = fleet.at(regions[n % regions.len()]).guest("SGD").await;
        patiently(&shopper.add(item, 1)).await;
        shopper
    });
    stream::iter(come).buffer_unordered(SHOPPERS_AT_ONCE).collect().await
}

/// Asks until it is served: what happens before the noise is not what this is about.
pub(crate) async fn patiently(ask: &Ask) -> Answer {
    loop {
        let answer = ask.clone().await;
        // What was refused because it took too long may still be under way, under the same key.
        let under_way = answer.status == 409 && answer.json()["code"] == "request_in_progress";
        let wait = if under_way { Some(Duration::from_secs(1)) } else { told_to_wait(&answer) };
        let Some(wait) = wait else { return answer };
        tokio::time::sleep(wait).await;
    }
}

/// Every one of them writes, reads, and looks at their orders, and is served. On a machine that is busy with something
/// else, a few may have to ask twice.
async fn are_all_served(others: &[Caller], item: &str) {
    let refused = AtomicUsize::new(0);
    let served = async |ask: Ask| {
        if let Some(wait) = told_to_wait(&ask.clone().await) {
            refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(wait).await;
            patiently(&ask).await;
        }
    };
    let go = others.iter().map(async |shopper| {
        served(shopper.add(item, 1)).await;
        served(shopper.get("/v1/cart")).await;
        served(shopper.get("/v1/orders")).await;
    });
    stream::iter(go).buffer_unordered(SHOPPERS_AT_ONCE).collect::<Vec<()>>().await;
    let (refused, asked) = (refused.into_inner(), 3 * others.len());
    let most = number("TROLI_ABUSE_REFUSED_MAX", asked / 10);
    assert!(refused <= most, "{refused} of {asked} requests of others were refused");
}

/// When a noisy one is to come back, where it was not served: then it was told that it is too much.
#[track_caller]
fn told_to_wait(answer: &Answer) -> Option<Duration> {
    match answer.status {
        200 | 201 => return None,
        429 => drop(answer.problem(429, "rate_limited")),
        _ => drop(answer.problem(503, "overloaded")),
    }
    let wait: u64 = answer.header("retry-after").parse().expect("whole seconds");
    assert!((1..=60).contains(&wait), "{answer}");
    Some(Duration::from_secs(wait))
}

/// Asks again and again until it is enough, and comes back when it is told to.
async fn noise(enough: &AtomicBool, ask: impl Fn() -> Ask) {
    while !enough.load(Ordering::Relaxed) {
        if let Some(wait) = told_to_wait(&ask().await) {
            tokio::time::sleep(wait).await;
        }
    }
}

/// Makes noise while the others are served.
async fn meanwhile(noise: impl Future, enough: &AtomicBool, others: impl Future) {
    let others = async {
        others.await;
        enough.store(true, Ordering::Relaxed);
    };
    tokio::join!(noise, others);
}

/// Fills a cart with one item in so many variants.
async fn fill(shopper: &Caller, item: &str, lines: usize) {
    let numbers: Vec<usize> = (0..lines).collect();
    for fifty in numbers.chunks(50) {
        let commands: Vec<_> = fifty
            .iter()
            .map(|n| json!({ "op": "add", "item_id": item, "quantity": 1, "variant": { "n": n } }))
            .collect();
        patiently(&shopper.post("/v1/cart/commands", json!({ "commands": commands }))).await;
    }
}

/// Somebody who holds rows of the primary, until they are let go.
struct Holder(MySqlConnection);

impl Holder {
    async fn hold(fleet: &Fleet, rows: &[(&str, &str, &str)]) -> Self {
        let mut connection = MySqlConnection::connect(&fleet.mysql().url()).await.expect("a connection");
        sqlx::raw_sql("START TRANSACTION").execute(&mut connection).await.expect("a transaction");
        for (table, column, name) in rows {
            let statement = format!("SELECT 1 FROM {table} WHERE {column} = '{name}' FOR UPDATE");
            let locked = sqlx::query(sqlx::AssertSqlSafe(statement)).fetch_all(&mut connection).await;
            assert_eq!(locked.expect("a lock").len(), 1, "{table} {name}");
        }
        Self(connection)
    }

    async fn let_go(mut self) {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.0).await.expect("it is undone");
    }
}

async fn cart_id(shopper: &Caller) -> String {
    shopper.cart().await["id"].as_str().expect("a cart has an id").to_owned()
}

/// N1: another session holds one cart, and its owners write to it all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_cart_is_waited_for_by_its_owner_alone() {
    let fleet = fleet(Stack::Servers, &["sin", "jkt"]).await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "1.00").await;
    let noisy = fleet.at("jkt").guest("SGD").await;
    patiently(&noisy.add(&mug, 1)).await;
    let others = others(&fleet, &["jkt", "sin"], &mug).await;

    let holder = Holder::hold(&fleet, &[("carts", "cart_id", &cart_id(&noisy).await)]).await;
    let enough = AtomicBool::new(false);
    let writers = join_all((0..8).map(|_| noise(&enough, || noisy.add(&mug, 1))));
    meanwhile(writers, &enough, are_all_served(&others, &mug)).await;
    holder.let_go().await;
    eventually("the owner is served again", async || noisy.add(&mug, 1).await.status == 200).await;
}

async fn a_large_cart_is_waited_for_by_its_owner_alone(stack: Stack) {
    let fleet = fleet(stack, &["sin", "bkk"]).await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "1.00").await;
    let noisy = fleet.at("bkk").guest("SGD").await;
    fill(&noisy, &mug, LINES_MAX).await;
    let others = others(&fleet, &["bkk"], &mug).await;

    let adds = (0..number("TROLI_ABUSE_ADDS", 200)).map(|n| {
        let body = json!({ "item_id": mug, "quantity": 1, "variant": { "n": n % LINES_MAX } });
        noisy.post("/v1/cart/items", body).into_future()
    });
    let (answers, ()) = tokio::join!(join_all(adds), are_all_served(&others, &mug));
    let served = answers.iter().filter(|answer| told_to_wait(answer).is_none()).count();
    assert!(served > 0, "nobody keeps the owner from writing");
    // What was said to be done is done, and nothing twice; of what was refused, some may have been done too late to say.
    let count = noisy.at(fleet.url("sin")).get("/v1/cart/count").await.ok();
    let quantity = usize::try_from(count["quantity"].as_u64().expect("a quantity")).expect("a few");
    assert!((LINES_MAX + served..=LINES_MAX + answers.len()).contains(&quantity), "{served} of {quantity}");
}

/// N2: 200 adds at once to a cart of 500 lines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_cart_is_waited_for_by_its_owner_alone_embedded() {
    a_large_cart_is_waited_for_by_its_owner_alone(Stack::Embedded).await;
}

/// N2 on servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_cart_is_waited_for_by_its_owner_alone_servers() {
    a_large_cart_is_waited_for_by_its_owner_alone(Stack::Servers).await;
}

async fn a_hot_item_is_waited_for_by_its_buyers_alone(stack: Stack) {
    let fleet = fleet(stack, &["sin", "jkt", "bkk"]).await;
    let (hot, mug) = (unique("hot"), unique("mug"));
    fleet.admin().sell(&hot, "1.00").await;
    fleet.admin().sell(&mug, "1.00").await;
    let regions = ["sin", "jkt", "bkk"];
    let come = (0..number("TROLI_ABUSE_BUYERS", 200)).map(async |n| {
        let buyer = fleet.at(regions[n % regions.len()]).guest("SGD").await;
        let cart = patiently(&buyer.add(&hot, 1)).await;
        let (total, version) = (cart.ok()["totals"]["total"].clone(), cart.version());
        buyer.post("/v1/cart/checkout", json!({ "expected_total": total })).if_match(&version)
    });
    let checkouts: Vec<Ask> = stream::iter(come).buffer_unordered(SHOPPERS_AT_ONCE).collect().await;
    let others = others(&fleet, &regions, &mug).await;
    let before = fleet.admin().stock(&fleet.at("sin"), &hot).await;

    let all_at_once = join_all(checkouts.into_iter().map(IntoFuture::into_future));
    let (answers, ()) = tokio::join!(all_at_once, are_all_served(&others, &mug));
    let sold = answers.iter().filter(|answer| told_to_wait(answer).is_none()).count();
    assert!(sold > 0, "the item is sold");
    let (sold, asked) = (i64::try_from(sold).expect("a few"), i64::try_from(answers.len()).expect("a few"));
    eventually("what was sold is gone, and nothing that nobody asked for", async || {
        let left = fleet.admin().stock(&fleet.at("sin"), &hot).await;
        (before - asked..=before - sold).contains(&left)
    })
    .await;
}

/// N3: hundreds of buyers of one item check out at once over three regions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_item_is_waited_for_by_its_buyers_alone_embedded() {
    a_hot_item_is_waited_for_by_its_buyers_alone(Stack::Embedded).await;
}

/// N3 on servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_item_is_waited_for_by_its_buyers_alone_servers() {
    a_hot_item_is_waited_for_by_its_buyers_alone(Stack::Servers).await;
}

async fn many_clients_on_large_carts_are_no_outage(stack: Stack) {
    let fleet = limited_fleet(stack, &["sin", "jkt"]).await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "1.00").await;
    let carts = number("TROLI_ABUSE_CARTS", 6);
    let mut clients = Vec::new();
    for n in 0..carts {
        let owner = fleet.at(["sin", "jkt"][n % 2]).guest("SGD").await;
        fill(&owner, &mug, LINES_MAX).await;
        clients.extend((0..number("TROLI_ABUSE_CLIENTS", 20)).map(|_| owner.clone()));
    }
    let others = others(&fleet, &["jkt", "sin"], &mug).await;

    let enough = AtomicBool::new(false);
    let all = join_all(clients.iter().enumerate().map(|(n, client)| {
        let body = json!({ "item_id": mug, "quantity": 1, "variant": { "n": n % LINES_MAX } });
        let ask = move || {
            if n % 4 == 0 { client.post("/v1/cart/items", body.clone()) } else { client.get("/v1/cart") }
        };
        noise(&enough, ask)
    }));
    meanwhile(all, &enough, are_all_served(&others, &mug)).await;
}

/// N4: many clients read and write a few carts of 500 lines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_on_large_carts_are_no_outage_embedded() {
    many_clients_on_large_carts_are_no_outage(Stack::Embedded).await;
}

/// N4 on servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_on_large_carts_are_no_outage_servers() {
    many_clients_on_large_carts_are_no_outage(Stack::Servers).await;
}

/// B82: another session holds four carts and an item. Owners and buyers wait; nobody else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locked_rows_are_waited_for_by_those_who_need_them_alone() {
    let fleet = fleet(Stack::Servers, &["sin", "jkt"]).await;
    let (held, mug) = (unique("held"), unique("mug"));
    fleet.admin().sell(&held, "1.00").await;
    fleet.admin().sell(&mug, "1.00").await;
    let mut owners = Vec::new();
    let mut rows = vec![("items", "item_id", held.clone())];
    for n in 0..4 {
        let owner = fleet.at(["sin", "jkt"][n % 2]).guest("SGD").await;
        patiently(&owner.add(&mug, 1)).await;
        rows.push(("carts", "cart_id", cart_id(&owner).await));
        owners.push(owner);
    }
    let buyers = join_all((0..8).map(async |n| {
        let buyer = fleet.at(["sin", "jkt"][n % 2]).guest("SGD").await;
        let cart = patiently(&buyer.add(&held, 1)).await;
        let (total, version) = (cart.ok()["totals"]["total"].clone(), cart.version());
        (buyer, total, version)
    }))
    .await;
    let others = others(&fleet, &["jkt", "sin"], &mug).await;

    let rows: Vec<_> = rows.iter().map(|(table, column, name)| (*table, *column, name.as_str())).collect();
    let holder = Holder::hold(&fleet, &rows).await;
    let enough = AtomicBool::new(false);
    let writers = join_all(owners.iter().cycle().take(16).map(|owner| noise(&enough, || owner.add(&mug, 1))));
    let buying = join_all(buyers.iter().map(|(buyer, total, version)| {
        let body = json!({ "expected_total": total });
        noise(&enough, move || buyer.post("/v1/cart/checkout", body.clone()).if_match(version))
    }));
    let served = async {
        are_all_served(&others, &mug).await;
        for other in others.iter().take(20) {
            eventually("others buy", async || other.checkout().await.status == 201).await;
        }
    };
    meanwhile(async { tokio::join!(writers, buying) }, &enough, served).await;
    holder.let_go().await;
    eventually("an owner is served again", async || owners[0].add(&mug, 1).await.status == 200).await;
    eventually("a buyer is served again", async || {
        let (buyer, total, version) = &buyers[0];
        let body = json!({ "expected_total": total });
        buyer.post("/v1/cart/checkout", body).if_match(version).await.status == 201
    })
    .await;
}

/// B78: Redis hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_hangs_is_asked_by_nobody_until_it_is_back() {
    let fleet = fleet(Stack::Servers, &["sin", "jkt"]).await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "1.00").await;
    let others = others(&fleet, &["jkt", "sin"], &mug).await;
    fleet.redis("jkt").pause();
    fleet.redis("sin").pause();
    are_all_served(&others, &mug).await;
    fleet.redis("jkt").resume();
    fleet.redis("sin").resume();
    eventually("the caches serve again", async || {
        join_all(
            others
                .iter()
                .take(2)
                .map(async |other| other.get("/v1/cart").await.find_header("cart-source") == Some("cache")),
        )
        .await
        .into_iter()
        .all(|cached| cached)
    })
    .await;
}
