use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Instant;

use futures_util::future::join_all;
use harness::{
    Admin, Ask, Caller, Chance, Fleet, FleetOptions, HS256_SECRET, any_seed, components, eventually,
    fresh_key, number_setting, size_setting, unique,
};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::model::{Cart, Currency, Join, MYR, Policy, SGD, Shelf, VND};

/// Trips, unless the environment says otherwise: enough that each kind of step meets each other one, in half a
/// minute.
const TRIPS: usize = 900;
const TRIPS_VARIABLE: &str = "TROLI_REFERENCE_TRIPS";
const SEED_VARIABLE: &str = "TROLI_REFERENCE_SEED";
/// Shoppers at a time; each has items of its own, so that it knows every price that they have had.
const SHOPPERS: usize = 12;
const ITEMS: usize = 4;
/// 2099-01-01.
const FAR: i64 = 4_070_908_800;

/// Somebody with items, and the price of each.
struct Shopper<'a> {
    fleet: &'a Fleet,
    /// Shares its connections with all others.
    nobody: Caller,
    admin: Admin,
    chance: Chance,
    policy: Policy,
    shelf: Shelf,
    items: Vec<String>,
    coupons: BTreeMap<String, i64>,
    counts: Counts,
}

/// A cart and its owner, who echoes the newest version seen.
struct Person {
    caller: Caller,
    cart: Cart,
}

#[derive(Default)]
struct Counts {
    trips: usize,
    price_changes: usize,
    carts_compared: usize,
    orders_compared: usize,
    merges: usize,
    differences: Vec<String>,
}

#[tokio::test]
async fn carts_cost_what_the_reference_says() {
    let trips = size_setting(TRIPS_VARIABLE).unwrap_or(TRIPS);
    let seed = number_setting(SEED_VARIABLE).unwrap_or_else(any_seed);
    let again = format!("{SEED_VARIABLE}={seed} {TRIPS_VARIABLE}={trips}");
    let started = Instant::now();
    let fleet = Fleet::start(FleetOptions::default()).await;
    let rules = components();
    let policies = [
        (Policy::Stored, "standard", &rules.standard),
        (Policy::Current, "current-price", &rules.current_price),
        (Policy::Lower, "lower-price", &rules.lower_price),
    ];
    let shoppers = (0..SHOPPERS).map(|n| Shopper::new(&fleet, seed, n));
    let mut shoppers = join_all(shoppers).await;
    // Their carts live through all trips and all policies.
    let mut users: Vec<Person> = shoppers.iter().map(Shopper::new_user).collect();
    for (policy, name, component) in policies {
        fleet.save_rules(component);
        for region in fleet.ids() {
            fleet.runs_rules(region, name).await;
        }
        let trips = trips.div_ceil(policies.len() * SHOPPERS);
        let shopping = shoppers.iter_mut().zip(&mut users);
        join_all(shopping.map(|(shopper, user)| shopper.shop(user, policy, trips))).await;
    }
    let counts =
        shoppers.into_iter().map(|shopper| shopper.counts).reduce(Counts::and).expect("there are some");
    let report = format!("{counts} in {:.0?}; again by {again}", started.elapsed());
    writeln!(std::io::stderr(), "reference: {report}").expect("stderr can be written to");
    assert!(counts.differences.is_empty(), "{report}\n{}", counts.differences.join("\n"));
}

impl<'a> Shopper<'a> {
    async fn new(fleet: &'a Fleet, seed: u64, n: usize) -> Self {
        let mut chance = Chance::seeded(seed.wrapping_add(n as u64));
        let currency = [SGD, MYR, VND][n % 3];
        let items: Vec<String> = (0..ITEMS).map(|_| unique("item")).collect();
        let prices = items.iter().map(|item| (item.clone(), any_price(&mut chance, currency))).collect();
        let coupons = [5, 10, 33].map(|percent| (unique("COUPON"), percent));
        let admin = fleet.admin();
        for (code, percent) in &coupons {
            admin.put_coupon(code, json!({ "kind": "percent", "value": percent.to_string() })).await;
        }
        let shelf = Shelf::new(currency, prices);
        let shopper = Self {
            fleet,
            nobody: fleet.at("sin"),
            admin,
            chance,
            policy: Policy::Stored,
            shelf,
            items,
            coupons: coupons.into(),
            counts: Counts::default(),
        };
        for item in shopper.items.clone() {
            shopper.publish(&item).await;
            shopper.wait_for(&item).await;
        }
        shopper
    }

    /// A user whose carts are in the currency of the items.
    fn new_user(&self) -> Person {
        let claims = json!({ "sub": unique("user"), "exp": FAR, "currency": self.shelf.currency.code });
        let key = EncodingKey::from_secret(HS256_SECRET.as_bytes());
        let token = jsonwebtoken::encode(&Header::default(), &claims, &key).expect("the tests can sign");
        Person { caller: self.nobody.with_token(token).following(), cart: Cart::default() }
    }

    async fn shop(&mut self, user: &mut Person, policy: Policy, trips: usize) {
        self.policy = policy;
        for _ in 0..trips {
            let result = self.trip(user).await;
            self.counts.trips += 1;
            if let Err(difference) = result {
                self.counts.differences.push(difference);
                // The reference does not know that cart any more.
                *user = self.new_user();
            }
        }
    }

    /// A guest shops; then the cart is the user's, or is compared and ordered by itself.
    async fn trip(&mut self, user: &mut Person) -> Result<(), String> {
        let caller = self.nobody.guest(self.shelf.currency.code).await.following();
        let mut guest = Person { caller, cart: Cart::default() };
        for _ in 0..2 + self.chance.below(5) {
            self.step(&mut guest).await?;
        }
        if self.chance.once_in(2) {
            self.merge(&guest, user).await?;
            self.finish(user).await
        } else {
            self.finish(&mut guest).await
        }
    }

    async fn finish(&mut self, person: &mut Person) -> Result<(), String> {
        for _ in 0..self.chance.below(3) {
            self.step(person).await?;
        }
        self.settle().await;
        for region in self.fleet.ids() {
            let shown = done(person.caller.at(self.fleet.url(region)).get("/v1/cart")).await;
            self.compare(person, &shown, region)?;
        }
        if self.chance.once_in(2) && !person.cart.items().is_empty() {
            self.order(person).await?;
        }
        Ok(())
    }

    async fn step(&mut self, person: &mut Person) -> Result<(), String> {
        let region = self.any_region();
        let here = person.caller.at(self.fleet.url(region));
        let item = self.chance.pick(&self.items);
        let in_cart = self.chance.pick(&[person.cart.items(), vec![item.clone()]].concat());
        let (has, line) = (person.cart.quantity(&in_cart), cart_core::line_id(&in_cart, ""));
        let path = format!("/v1/cart/items/{line}");
        let some = u32::try_from(self.chance.below(4)).expect("it is small");
        let shown = match self.chance.below(10) {
            0 | 1 => {
                self.change_price(&item).await;
                done(here.get("/v1/cart")).await
            }
            2 if has > 0 => {
                person.cart.set(&mut self.shelf, &in_cart, has + some);
                done(here.patch(path, json!({ "quantity": has + some }))).await
            }
            3 if has > 1 => {
                person.cart.set(&mut self.shelf, &in_cart, has - 1);
                done(here.patch(path, json!({ "quantity": has - 1 }))).await
            }
            4 if has > 0 => {
                person.cart.set(&mut self.shelf, &in_cart, 0);
                done(here.delete(path)).await
            }
            5 if has > 0 => {
                person.cart.refresh(&mut self.shelf, &in_cart);
                let refresh = json!({ "op": "refresh_price", "line_id": line });
                done(here.post("/v1/cart/commands", json!({ "commands": [refresh] }))).await
            }
            6 => {
                for item in person.cart.items() {
                    person.cart.refresh(&mut self.shelf, &item);
                }
                let refresh = json!({ "op": "refresh_price" });
                done(here.post("/v1/cart/commands", json!({ "commands": [refresh] }))).await
            }
            7 => self.toggle_coupon(&here, &mut person.cart).await,
            _ => {
                let quantity = person.cart.quantity(&item) + some + 1;
                person.cart.set(&mut self.shelf, &item, quantity);
                done(here.add(&item, some + 1)).await
            }
        };
        self.compare(person, &shown, region)?;
        // Another region may know an older price, and no older cart.
        let region = self.any_region();
        let shown = done(person.caller.at(self.fleet.url(region)).get("/v1/cart")).await;
        self.compare(person, &shown, region)
    }

    async fn toggle_coupon(&mut self, here: &Caller, cart: &mut Cart) -> Value {
        let codes: Vec<&String> = self.coupons.keys().collect();
        let code = self.chance.pick(&codes).clone();
        let path = format!("/v1/cart/coupons/{code}");
        if cart.coupons.remove(&code).is_some() {
            return done(here.delete(path)).await;
        }
        cart.coupons.insert(code.clone(), self.coupons[&code]);
        done(here.put(path)).await
    }

    async fn merge(&mut self, guest: &Person, user: &mut Person) -> Result<(), String> {
        let (join, policy) =
            self.chance.pick(&[(Join::Max, "max"), (Join::Sum, "sum"), (Join::Replace, "replace")]);
        let region = self.any_region();
        let body = json!({ "guest_token": guest.caller.token(), "policy": policy });
        let here = user.caller.at(self.fleet.url(region));
        let shown = done(here.post("/v1/cart/merge", body)).await;
        user.cart.merge(&guest.cart, join);
        self.counts.merges += 1;
        self.compare(user, &shown, region)
    }

    /// The order is the cart that was shown.
    async fn order(&mut self, person: &mut Person) -> Result<(), String> {
        let here = person.caller.at(self.fleet.url(self.any_region()));
        let shown = done(here.get("/v1/cart")).await;
        let version = shown["version"].as_str().expect("a cart has a version");
        let checkout = json!({ "expected_total": shown["totals"]["total"] });
        let order = done(here.post("/v1/cart/checkout", checkout).if_match(version)).await;
        // An owner may have only a few unpaid orders.
        self.admin.settle(order["id"].as_str().expect("an order has an id"), "paid").await.ok();
        let paid = |document: &Value| {
            let fields = ["item_id", "quantity", "unit_price", "line_total", "discount", "tax"];
            let line = |line: &Value| fields.map(|field| line[field].clone());
            let lines: Vec<_> = document["lines"].as_array().into_iter().flatten().map(line).collect();
            (lines, document["totals"].clone(), document["price_policy"].clone())
        };
        person.cart.clear();
        self.counts.orders_compared += 1;
        if paid(&order) == paid(&shown) {
            return Ok(());
        }
        Err(format!("the order is not what was shown: {order:#}\nshown: {shown:#}"))
    }

    fn compare(&mut self, person: &mut Person, shown: &Value, region: &str) -> Result<(), String> {
        let Person { cart, .. } = person;
        self.counts.carts_compared += 1;
        cart.learn(&self.shelf, shown);
        cart.check(&self.shelf, self.policy, shown).map_err(|difference| {
            format!(
                "{difference}\nshown by {region}: {shown:#}\nexpected by {:?} of {:#?}: {cart:#?}",
                self.policy, self.shelf
            )
        })
    }

    async fn change_price(&mut self, item: &str) {
        let mut price = self.shelf.before(item);
        while self.shelf.shows(item, price) || self.chance.once_in(2) {
            price = any_price(&mut self.chance, self.shelf.currency);
        }
        self.shelf.change(item, price);
        self.counts.price_changes += 1;
        self.publish(item).await;
        if self.chance.once_in(2) {
            self.settle().await;
        }
    }

    async fn publish(&self, item: &str) {
        let Currency { code, .. } = self.shelf.currency;
        let price = self.shelf.currency.text(self.shelf.now()[item]);
        let item_now = json!({ "title": "Goods", "prices": { code: price }, "stock": 100_000_000 });
        self.admin.put_item(item, item_now).await;
    }

    /// Waits until every region shows the newest prices.
    async fn settle(&mut self) {
        for item in self.shelf.unsettled() {
            self.wait_for(&item).await;
        }
        self.shelf.settled();
    }

    async fn wait_for(&self, item: &str) {
        let prices = json!([self.shelf.currency.money(self.shelf.now()[item])]);
        for region in self.fleet.ids() {
            let here = self.nobody.at(self.fleet.url(region));
            eventually(&format!("{region} shows the price of {item}"), async || {
                let answer = here.get(format!("/v1/items/{item}")).await;
                answer.status == 200 && answer.json()["prices"] == prices
            })
            .await;
        }
    }

    fn any_region(&mut self) -> &'static str {
        self.chance.pick(&self.fleet.ids())
    }
}

impl Counts {
    fn and(mut self, other: Self) -> Self {
        self.trips += other.trips;
        self.price_changes += other.price_changes;
        self.carts_compared += other.carts_compared;
        self.orders_compared += other.orders_compared;
        self.merges += other.merges;
        self.differences.extend(other.differences);
        self
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} trips, {} price changes, {} merges; {} carts and {} orders compared, {} different",
            self.trips,
            self.price_changes,
            self.merges,
            self.carts_compared,
            self.orders_compared,
            self.differences.len(),
        )
    }
}

/// What a request comes to. A long run on a busy machine meets an outage now and then, and tries again under the same
/// key, as clients do.
async fn done(ask: Ask) -> Value {
    let ask = ask.key(&fresh_key());
    let mut answer = ask.clone().await;
    eventually("it is done", async || {
        if answer.status == 503 {
            answer = ask.clone().await;
        }
        answer.status != 503
    })
    .await;
    assert!(matches!(answer.status, 200 | 201), "{answer}");
    answer.json()
}

/// A price that makes odd cents and odd shares.
fn any_price(chance: &mut Chance, currency: Currency) -> i64 {
    let price = i64::try_from(1 + chance.below(3_000)).expect("it is small");
    if currency.code == "VND" { price * 100 } else { price }
}
