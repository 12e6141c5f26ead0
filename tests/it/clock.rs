//! A host whose clock is wrong: what goes into data is by the clock of the database.

use edge_host::app::App;
use harness::{Answer, Caller, Fleet, FleetOptions, Stack, eventually, fresh_key, unique};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sqlx::{Connection, MySqlConnection};

const MINUTE_MS: i64 = 60 * 1000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

async fn fleet(regions: &[&'static str]) -> Fleet {
    Fleet::start(FleetOptions { regions: regions.to_vec(), stack: Stack::Servers, ..FleetOptions::default() })
        .await
}

/// The reasons for which an edge is not ready, once its clock is one of them.
async fn says_its_clock_is_wrong(edge: &App, side: &str) {
    let internal = Caller::new(format!("http://{}", edge.internal_addr()));
    eventually("the edge says that its clock is wrong", async || {
        let ready = internal.get("/readyz").await;
        let body = String::from_utf8_lossy(&ready.body).into_owned();
        ready.status == 503 && body.contains("the clock of this host is") && body.contains(side)
    })
    .await;
}

async fn skew_s(edge: &App) -> f64 {
    let metrics = Caller::new(format!("http://{}", edge.internal_addr())).get("/metrics").await;
    // Edges of one process share their metrics, so another one may have set this a moment later.
    value(&metrics, "troli_clock_skew_seconds").unwrap_or(0.0)
}

fn value(metrics: &Answer, name: &str) -> Option<f64> {
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn at(edge: &App) -> String {
    format!("http://{}", edge.public_addr())
}

/// How far a time of an answer is from now, in milliseconds.
fn from_now_ms(time: &Value) -> i64 {
    let time: Timestamp = time.as_str().expect("a time").parse().expect("as RFC 3339 has it");
    time.as_millisecond() - Timestamp::now().as_millisecond()
}

async fn kept_answers(fleet: &Fleet) -> i64 {
    let url = fleet.mysql().admin_url_of("troli");
    let mut primary = MySqlConnection::connect(&url).await.expect("root may come in from this machine");
    let count = sqlx::query_scalar("SELECT COUNT(*) FROM idempotency_keys").fetch_one(&mut primary).await;
    count.expect("an answer")
}

#[tokio::test]
async fn an_edge_whose_clock_is_a_month_ahead_sweeps_nothing_and_says_so() {
    let fleet = fleet(&["sin"]).await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let (idle, key) = (fleet.at("sin").guest("SGD").await, fresh_key());
    let written = idle.add(&mug, 2).key(&key).await.ok();
    let answers = kept_answers(&fleet).await;

    let wrong = fleet.start_edge_by_clock("sin", 31 * DAY_MS).await;
    says_its_clock_is_wrong(&wrong, "ahead of").await;
    eventually("the skew is shown", async || (2_678_000.0..2_679_000.0).contains(&skew_s(&wrong).await))
        .await;
    // Writes that come there all the same are of the right time.
    let there = idle.at(at(&wrong));
    let mut cart = Value::Null;
    eventually("it takes a write", async || {
        let answer = there.add(&mug, 1).key(&fresh_key()).await;
        cart = serde_json::from_slice(&answer.body).unwrap_or_default();
        answer.status == 200
    })
    .await;
    let kept_ms = from_now_ms(&cart["expires_at"]) - 30 * DAY_MS;
    assert!(kept_ms.abs() < MINUTE_MS, "{cart:#}");
    assert!(from_now_ms(&cart["updated_at"]).abs() < MINUTE_MS, "{cart:#}");
    // Its sweeper began when it did, long ago.
    let cart = idle.cart().await;
    assert_eq!(cart["lines"][0]["quantity"], 3, "{cart:#}");
    assert!(kept_answers(&fleet).await >= answers);
    let replayed = idle.add(&mug, 2).key(&key).await;
    assert_eq!((replayed.status, replayed.header("idempotent-replayed")), (200, "true"));
    assert_eq!(written["lines"][0]["quantity"], 2);
    fleet.stop_edge(wrong).await;
}

#[tokio::test]
async fn an_edge_whose_clock_is_a_quarter_of_an_hour_off_decides_by_the_databases() {
    let fleet = fleet(&["sin"]).await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let window = SignedDuration::from_mins(5);
    let (began, ends) = (Timestamp::now() - window, Timestamp::now() + window);
    let coupon = unique("NOW");
    let terms = json!({ "kind": "percent", "value": "10", "starts_at": began.to_string(), "ends_at": ends.to_string() });
    fleet.admin().put_coupon(&coupon, terms).await;

    for (shift_ms, side) in [(15 * MINUTE_MS, "ahead of"), (-15 * MINUTE_MS, "behind")] {
        let wrong = fleet.start_edge_by_clock("sin", shift_ms).await;
        says_its_clock_is_wrong(&wrong, side).await;
        let guest = fleet.at("sin").guest("SGD").await.at(at(&wrong)).following();
        eventually("it takes a write", async || guest.add(&mug, 1).key(&fresh_key()).await.status == 200)
            .await;
        // Long over by its clock, or not yet begun.
        let cart = guest.put(format!("/v1/cart/coupons/{coupon}")).await.ok();
        assert_eq!(cart["discounts"][0]["code"], json!(coupon), "{cart:#}");
        let order = guest.checkout().await.is(201);
        assert!(from_now_ms(&order["placed_at"]).abs() < MINUTE_MS, "{order:#}");
        fleet.stop_edge(wrong).await;
    }
}

#[tokio::test]
async fn a_region_compares_its_clock_with_homes_answers() {
    let fleet = fleet(&["sin", "jkt"]).await;
    let wrong = fleet.start_edge_by_clock("jkt", -15 * MINUTE_MS).await;
    says_its_clock_is_wrong(&wrong, "behind").await;
    fleet.stop_edge(wrong).await;
    eventually("the right one shows no skew", async || {
        let right = fleet.internal("jkt").get("/metrics").await;
        value(&right, "troli_clock_skew_seconds").is_some_and(|skew| skew.abs() < 5.0)
    })
    .await;
}

#[tokio::test]
async fn a_sweep_goes_on_until_nothing_is_left_and_says_what_it_took() {
    let fleet = fleet(&["sin"]).await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("sin").guest("SGD").await;
    let cart = guest.add(&mug, 1).await.ok();
    // More than a few batches: one batch each half minute would take minutes for them.
    let url = fleet.mysql().admin_url_of("troli");
    let mut primary = MySqlConnection::connect(&url).await.expect("root may come in from this machine");
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT CAST(column_name AS CHAR) FROM information_schema.columns
         WHERE table_schema = 'troli' AND table_name = 'carts'",
    )
    .fetch_all(&mut primary)
    .await
    .expect("an answer");
    let values: Vec<String> = columns
        .iter()
        .map(|column| match column.as_str() {
            "cart_id" => "CONCAT('c_old_', n)".to_owned(),
            "owner_id" => "CONCAT('old-', n)".to_owned(),
            "expires_at" => "1".to_owned(),
            other => format!("`{other}`"),
        })
        .collect();
    let copy = format!(
        "INSERT INTO carts (`{}`) WITH RECURSIVE numbers (n) AS
             (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1200)
         SELECT {} FROM carts JOIN numbers WHERE cart_id = '{}'",
        columns.join("`, `"),
        values.join(", "),
        cart["id"].as_str().expect("an id")
    );
    let swept = Caller::new(at_internal(&fleet));
    let before = value(&swept.get("/metrics").await, SWEPT_CARTS).unwrap_or(0.0);
    // The sweeper of an edge that starts has a look at once. The one before has ended by then: what it had begun would
    // not be counted.
    fleet.stop_region("sin").await;
    let copied = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("SET cte_max_recursion_depth = 10000; {copy}")));
    copied.execute(&mut primary).await.expect("carts");
    fleet.start_region("sin").await;
    eventually("all of them are swept", async || {
        let left = "SELECT COUNT(*) FROM carts WHERE state = 'active' AND expires_at <= 1";
        let left: i64 = sqlx::query_scalar(left).fetch_one(&mut primary).await.expect("an answer");
        left == 0
    })
    .await;
    eventually("they are counted", async || {
        value(&swept.get("/metrics").await, SWEPT_CARTS).is_some_and(|swept| swept >= before + 1200.0)
    })
    .await;
    assert_eq!(guest.cart().await["lines"][0]["quantity"], 1);
}

const SWEPT_CARTS: &str = "troli_swept_rows_total{region=\"sin\",kind=\"cart\"}";

fn at_internal(fleet: &Fleet) -> String {
    format!("http://{}", fleet.internal_address("sin"))
}
