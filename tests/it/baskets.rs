//! Three hundred real supermarket baskets, shopped through every region, against arithmetic done apart.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use harness::{Caller, Chance, Fleet, repository, shared};
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::{Value, json};

use crate::support::lines_of;

/// Baskets shopped at the same time.
const SHOPPERS: usize = 8;

struct Product {
    title: String,
    price: Decimal,
}

/// A row of a file without quotes or escapes.
fn rows(name: &str) -> Vec<Vec<String>> {
    let path = repository().join("tests/fixtures/baskets").join(name);
    let text = std::fs::read_to_string(&path).expect("the fixture can be read");
    let row = |line: &str| line.split(',').map(str::to_owned).collect();
    text.lines().skip(1).map(row).collect()
}

fn products() -> BTreeMap<String, Product> {
    let product = |row: Vec<String>| {
        let price = row[2].parse().expect("a price is a decimal");
        (row[0].clone(), Product { title: row[1].clone(), price })
    };
    rows("products.csv").into_iter().map(product).collect()
}

fn baskets() -> Vec<Vec<(String, u32)>> {
    let mut baskets: BTreeMap<String, Vec<(String, u32)>> = BTreeMap::new();
    for row in rows("baskets.csv") {
        let quantity = row[2].parse().expect("a quantity is a number");
        baskets.entry(row[0].clone()).or_default().push((row[1].clone(), quantity));
    }
    baskets.into_values().collect()
}

/// Singapore: 9 % GST inside the price, half-even to the cent, line by line.
fn gst_inside(price: Decimal) -> Decimal {
    let exact = price * Decimal::from(9) / Decimal::from(109);
    exact.round_dp_with_strategy(2, RoundingStrategy::MidpointNearestEven)
}

fn sgd(amount: Decimal) -> Value {
    json!({ "amount": format!("{amount:.2}"), "currency": "SGD" })
}

/// Puts a whole basket into a cart: single lines, batches, lines in two parts, and lines put right afterwards;
/// each request to another region, echoing the version it has seen.
async fn shop(fleet: &Fleet, client: &Caller, basket: &[(String, u32)], chance: &mut Chance) {
    let regions = fleet.ids();
    let mut left = basket;
    let add = |item: &str, quantity: u32| json!({ "op": "add", "item_id": item, "quantity": quantity });
    while let Some(((item, quantity), rest)) = left.split_first() {
        let here = client.at(fleet.url(chance.pick(&regions)));
        match chance.below(6) {
            0 if *quantity > 1 => {
                here.add(item, 1).await.ok();
                client.at(fleet.url(chance.pick(&regions))).add(item, quantity - 1).await.ok();
                left = rest;
            }
            1 => {
                let cart = here.add(item, quantity + 3).await.ok();
                let line =
                    crate::support::line_of(&cart, item)["line_id"].as_str().expect("a line").to_owned();
                let there = client.at(fleet.url(chance.pick(&regions)));
                there.patch(format!("/v1/cart/items/{line}"), json!({ "quantity": quantity })).await.ok();
                left = rest;
            }
            2 => {
                here.add(item, *quantity).await.ok();
                left = rest;
            }
            _ => {
                let (batch, others) = left.split_at(left.len().min(2 + chance.below(14)));
                let commands: Vec<Value> =
                    batch.iter().map(|(item, quantity)| add(item, *quantity)).collect();
                here.post("/v1/cart/commands", json!({ "commands": commands })).await.ok();
                left = others;
            }
        }
    }
}

#[track_caller]
fn check(cart: &Value, basket: &[(String, u32)], products: &BTreeMap<String, Product>) {
    let lines: BTreeMap<&str, &Value> =
        lines_of(cart).iter().map(|line| (line["item_id"].as_str().expect("an item"), line)).collect();
    assert_eq!((lines.len(), lines_of(cart).len()), (basket.len(), basket.len()));
    let (mut subtotal, mut tax, mut units) = (Decimal::ZERO, Decimal::ZERO, 0);
    for (item, quantity) in basket {
        let (line, product) = (lines[item.as_str()], &products[item]);
        let line_total = product.price * Decimal::from(*quantity);
        assert_eq!(line["quantity"], *quantity, "{line:#}");
        assert_eq!(line["title"], product.title, "{line:#}");
        assert_eq!(line["unit_price"], sgd(product.price), "{line:#}");
        assert_eq!(line["current_price"], sgd(product.price), "{line:#}");
        assert_eq!(line["line_total"], sgd(line_total), "{line:#}");
        subtotal += line_total;
        tax += gst_inside(line_total);
        units += quantity;
    }
    let totals = json!({
        "subtotal": sgd(subtotal), "discount": sgd(Decimal::ZERO), "tax": sgd(tax), "tax_included": true,
        "total": sgd(subtotal),
    });
    assert_eq!(cart["totals"], totals);
    assert_eq!(cart["count"], json!({ "lines": basket.len(), "quantity": units }));
    assert_eq!(cart["warnings"], json!([]));
}

#[tokio::test]
async fn real_baskets_cost_what_they_cost_in_every_region() {
    let (fleet, products, baskets) = (shared(), products(), baskets());
    assert_eq!((baskets.len(), products.len()), (300, 3198), "the fixture is whole");
    let admin = fleet.admin();
    stream::iter(&products)
        .for_each_concurrent(32, async |(item, product)| {
            let price = format!("{:.2}", product.price);
            let seed = json!({ "title": product.title, "prices": { "SGD": price }, "stock": 1000 });
            admin.put_item(item, seed).await;
        })
        .await;

    let nobody = fleet.at("sin");
    stream::iter(baskets.iter().enumerate())
        .for_each_concurrent(SHOPPERS, async |(n, basket)| {
            let mut chance = Chance::seeded(u64::try_from(n).expect("a small number"));
            let client = nobody.guest("SGD").await.following();
            shop(fleet, &client, basket, &mut chance).await;
            for region in fleet.ids() {
                let here = client.at(fleet.url(region));
                check(&here.cart().await, basket, &products);
                let units: u32 = basket.iter().map(|(_, quantity)| quantity).sum();
                let count = here.get("/v1/cart/count").await.ok();
                assert_eq!(count, json!({ "lines": basket.len(), "quantity": units }));
            }
        })
        .await;
}
