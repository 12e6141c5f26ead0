//! Whatever the API accepts is read back byte for byte, wherever it stands: in the cart, in every region's cache, in an
//! order, in a list of orders, and in the answer to the payment service.

use std::collections::BTreeMap;

use harness::{Answer, Caller, Fleet, FleetOptions, Stack, eventually, fresh_key, shared, unique};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Lines of one cart.
const LINES: usize = 40;
/// Carts of one run; many more with `TROLI_ROUNDTRIP_CARTS`.
const CARTS: usize = 3;
/// Lists and objects inside each other in a variant, the outermost included.
const DEPTH_MAX: usize = 16;

/// A JSON value as a client may write it.
#[derive(Clone, Debug)]
enum Any {
    Plain(&'static str),
    /// By its own digits.
    Number(String),
    Text(String),
    List(Vec<Any>),
    Object(BTreeMap<String, Any>),
}

impl Any {
    /// As it is read back: names in order, no spaces, digits as they were.
    fn canonical(&self) -> String {
        self.write(false)
    }

    /// As a client may send it as well: names in another order, spaces, and every letter escaped.
    fn sent(&self) -> String {
        self.write(true)
    }

    fn write(&self, odd: bool) -> String {
        let space = if odd { " \n" } else { "" };
        let text = |text: &str| {
            let escaped = |unit: u16| format!("\\u{unit:04x}");
            if odd {
                format!("\"{}\"", text.encode_utf16().map(escaped).collect::<String>())
            } else {
                serde_json::to_string(text).expect("a text is JSON")
            }
        };
        match self {
            Self::Plain(word) => (*word).to_owned(),
            Self::Number(digits) => digits.clone(),
            Self::Text(value) => text(value),
            Self::List(elements) => {
                let elements: Vec<String> = elements.iter().map(|element| element.write(odd)).collect();
                format!("[{space}{}{space}]", elements.join(","))
            }
            Self::Object(members) => {
                let member =
                    |(name, value): (&String, &Self)| format!("{}{space}:{}", text(name), value.write(odd));
                let mut members: Vec<String> = members.iter().map(member).collect();
                if odd {
                    members.reverse();
                }
                format!("{{{space}{}}}", members.join(","))
            }
        }
    }
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<String>().prop_map(|name| name.chars().take(12).collect()),
        1 => prop::sample::select(vec![
            "$serde_json::private::RawValue", "$serde_json::private::Number", "$troli::canonical", "__proto__", "",
            "warnings", "lines", "state", "op", "\u{0}", "\u{2028}", "\"warnings\":[",
        ])
        .prop_map(str::to_owned),
    ]
}

fn numbers() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("JSON has no other", |number| number.is_finite())
            .prop_map(|n| format!("{n:e}")),
        "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?",
    ]
}

fn values() -> impl Strategy<Value = Any> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["null", "true", "false"]).prop_map(Any::Plain),
        numbers().prop_map(Any::Number),
        names().prop_map(Any::Text),
    ];
    leaf.prop_recursive(DEPTH_MAX as u32 - 1, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Any::List),
            prop::collection::btree_map(names(), inner, 0..3).prop_map(Any::Object),
        ]
    })
}

/// Variants that the API accepts, and the deepest one that it does.
fn variants(runner: &mut TestRunner) -> Vec<Any> {
    let variant = prop::collection::btree_map(names(), values(), 1..4).prop_map(Any::Object);
    let accepted = variant.prop_filter("at most 1 KiB", |variant| variant.canonical().len() <= 1024);
    let mut variants: Vec<Any> =
        (1..LINES).map(|_| accepted.new_tree(runner).expect("a variant").current()).collect();
    let deepest = (1..DEPTH_MAX).fold(Any::Number("1".to_owned()), |inner, _| Any::List(vec![inner]));
    variants.push(Any::Object(BTreeMap::from([("v".to_owned(), deepest)])));
    variants.sort_by_key(Any::canonical);
    variants.dedup_by_key(|variant| variant.canonical());
    variants
}

#[derive(Deserialize)]
struct Lines<'a> {
    #[serde(borrow)]
    lines: Vec<Line<'a>>,
}

#[derive(Deserialize)]
struct Line<'a> {
    line_id: &'a str,
    title: String,
    #[serde(borrow)]
    variant: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Orders<'a> {
    #[serde(borrow)]
    orders: Vec<&'a RawValue>,
}

/// Titles and variants of a cart or an order, in the order of the variants.
fn shown(document: &[u8]) -> Vec<(String, String)> {
    let Lines { lines } = serde_json::from_slice(document).expect("a document with lines");
    let of = |line: Line<'_>| (line.variant.map_or(String::new(), |raw| raw.get().to_owned()), line.title);
    let mut shown: Vec<_> = lines.into_iter().map(of).collect();
    shown.sort();
    shown
}

#[track_caller]
fn read(answer: &Answer, status: u16) -> &[u8] {
    assert_eq!(answer.status, status, "{answer}");
    &answer.body
}

async fn put(guest: &Caller, mug: &str, variants: &[Any]) {
    for part in variants.chunks(8) {
        let one = |(at, variant): (usize, &Any)| {
            let variant = if at % 2 == 0 { variant.sent() } else { variant.canonical() };
            format!(r#"{{"op":"add","item_id":"{mug}","quantity":1,"variant":{variant}}}"#)
        };
        let commands: Vec<String> = part.iter().enumerate().map(one).collect();
        let body = format!(r#"{{"commands":[{}]}}"#, commands.join(","));
        let ask = guest.ask("POST", "/v1/cart/commands").key(&fresh_key());
        read(&ask.header("content-type", "application/json").body(body).await, 200);
    }
}

/// Orders the cart at its own total. Nothing of it is read as a value: some readers give some names a meaning.
async fn checkout(guest: &Caller) -> Answer {
    #[derive(Deserialize)]
    struct Cart<'a> {
        #[serde(borrow)]
        totals: Totals<'a>,
    }
    #[derive(Deserialize)]
    struct Totals<'a> {
        #[serde(borrow)]
        total: &'a RawValue,
    }
    let answer = guest.get("/v1/cart").await;
    let cart: Cart<'_> = serde_json::from_slice(read(&answer, 200)).expect("a cart");
    let body = format!(r#"{{"expected_total":{}}}"#, cart.totals.total.get());
    let ask = guest.ask("POST", "/v1/cart/checkout").key(&fresh_key()).if_match(&answer.version());
    ask.header("content-type", "application/json").body(body).await
}

async fn everything_comes_back(fleet: &Fleet, seed: u8) {
    let chance = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), chance);
    let titles = "[^\\p{Cc}]{1,60}";
    let title = titles.new_tree(&mut runner).expect("a title").current();
    let variants = variants(&mut runner);
    let mug = unique("mug");
    let item = serde_json::json!({ "title": title, "prices": { "SGD": "1.00" }, "stock": 1000 });
    fleet.admin().put_item(&mug, item).await;
    for region in fleet.ids() {
        let there = fleet.at(region);
        eventually("the region hears of the item", async || {
            there.get(format!("/v1/items/{mug}")).await.status == 200
        })
        .await;
        assert_eq!(there.get(format!("/v1/items/{mug}")).await.ok()["title"], title);
    }
    let mut expected: Vec<_> = variants.iter().map(|variant| (variant.canonical(), title.clone())).collect();
    expected.sort();

    for region in fleet.ids() {
        let guest = fleet.at(region).guest("SGD").await.following();
        put(&guest, &mug, &variants).await;
        for reader in fleet.ids() {
            let there = guest.at(fleet.url(reader));
            // Twice: what was fetched, and what was kept.
            for _ in 0..2 {
                let cart = there.get("/v1/cart").await;
                assert_eq!(shown(read(&cart, 200)), expected, "put in {region}, read in {reader}");
            }
            let cart = there.get("/v1/cart").await;
            let Lines { lines } = serde_json::from_slice(&cart.body).expect("a cart");
            for line in lines.iter().take(5) {
                let alone = there.get(format!("/v1/cart/items/{}", line.line_id)).await;
                let alone: Line<'_> = serde_json::from_slice(read(&alone, 200)).expect("a line");
                assert_eq!(alone.variant.map(RawValue::get), line.variant.map(RawValue::get));
            }
        }
        let placed = checkout(&guest).await;
        assert_eq!(shown(read(&placed, 201)), expected, "ordered in {region}");
        let path = placed.header("location").to_owned();
        for reader in fleet.ids() {
            let there = guest.at(fleet.url(reader));
            assert_eq!(shown(read(&there.get(&path).await, 200)), expected, "read in {reader}");
            let list = there.get("/v1/orders").await;
            let Orders { orders } = serde_json::from_slice(read(&list, 200)).expect("a list");
            assert_eq!(shown(orders[0].get().as_bytes()), expected, "listed in {reader}");
        }
        let order_id = path.rsplit('/').next().expect("an id");
        let paid = fleet.admin().settle(order_id, "paid").await;
        assert_eq!(shown(read(&paid, 200)), expected, "paid");
    }
}

fn carts() -> u8 {
    std::env::var("TROLI_ROUNDTRIP_CARTS").ok().and_then(|carts| carts.parse().ok()).unwrap_or(CARTS as u8)
}

#[tokio::test]
async fn roundtrip_of_all_that_is_accepted() {
    for seed in 0..carts() {
        everything_comes_back(shared(), seed).await;
    }
}

#[tokio::test]
async fn roundtrip_of_all_that_is_accepted_on_servers() {
    let options = FleetOptions {
        regions: vec!["sin", "jkt"],
        stack: Stack::Servers,
        replicas: true,
        ..FleetOptions::default()
    };
    let fleet = Fleet::start(options).await;
    for seed in 0..carts() {
        everything_comes_back(&fleet, seed).await;
    }
}
