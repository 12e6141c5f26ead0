use std::io::Write as _;
use std::time::Instant;

use harness::{Admin, Chance, Fetched, Fleet, any_seed, number_setting, size_setting};

use super::{Browser, Caller, Fetch, Page, Value, eventually, json, page_of, shared, unique};
use crate::reference::{Cart, Join, Policy, SGD, Shelf};

/// What the bar asks for; the environment may ask for more.
const TRIPS: usize = 1_000;
const TRIPS_VARIABLE: &str = "TROLI_BROWSER_TRIPS";
const SEED_VARIABLE: &str = "TROLI_BROWSER_SEED";
const REGION: &str = "jkt";
const ITEMS: usize = 3;
/// Requests that a page makes between two price changes, at least and at most.
const REQUESTS: (usize, usize) = (4, 10);

/// Who is signed in, what they should see, and what they were shown.
struct Trips<'a> {
    fleet: &'a Fleet,
    /// Shares its connections with all others.
    nobody: Caller,
    admin: Admin,
    chance: Chance,
    shelf: Shelf,
    items: Vec<String>,
    /// The requests of the page, and what each should show.
    requests: Vec<(Fetch, Expected)>,
    counts: Counts,
}

/// Somebody who uses the browser.
struct Person {
    caller: Caller,
    cart_id: String,
    cart: Cart,
    orders: usize,
}

/// What a request should show.
enum Expected {
    Cart(String, Cart),
    Count(Value),
    Line(u32),
    Orders(usize),
    Prices(Value),
    /// The same as the request before, out of the browser's cache.
    Again,
}

#[derive(Default)]
struct Counts {
    requests: usize,
    polls: usize,
    revalidated: usize,
    price_changes: usize,
    merges: usize,
    orders: usize,
    anothers: Vec<String>,
    outdated: Vec<String>,
    sent_again: Vec<String>,
}

#[tokio::test]
async fn random_trips_in_one_browser_show_nothing_of_another_person_or_of_an_older_price() {
    let trips = size_setting(TRIPS_VARIABLE).unwrap_or(TRIPS);
    let seed = number_setting(SEED_VARIABLE).unwrap_or_else(any_seed);
    let started = Instant::now();
    let browser = Browser::start().await;
    let page = page_of(&browser, shared(), REGION).await;
    let mut shop = Trips::new(shared(), Chance::seeded(seed)).await;
    let mut people = shop.people().await;
    for _ in 0..trips {
        // Some sign in again with the carts they had, others are new, and have the versions that others had.
        if shop.chance.once_in(3) {
            people = shop.people().await;
        }
        shop.trip(&page, &mut people).await;
    }
    let Counts {
        requests,
        polls,
        revalidated,
        price_changes,
        merges,
        orders,
        anothers,
        outdated,
        sent_again,
    } = &shop.counts;
    let report = format!(
        "{trips} trips in {:.0?}: {requests} requests, {price_changes} price changes, {merges} merges, {orders} \
         orders; {} bodies of another person, {} of an older state; {polls} polls of unchanged carts, {} not \
         answered 304 ({revalidated} answers of 304 in all); again by {SEED_VARIABLE}={seed} {TRIPS_VARIABLE}={trips}",
        started.elapsed(),
        anothers.len(),
        outdated.len(),
        sent_again.len(),
    );
    writeln!(std::io::stderr(), "browser: {report}").expect("stderr can be written to");
    let wrong: Vec<&str> =
        [anothers, outdated, sent_again].into_iter().flatten().map(String::as_str).collect();
    assert!(wrong.is_empty(), "{report}\n{}", wrong.join("\n"));
    assert!(*merges > 0 && *price_changes > 0 && *polls > 0, "{report}");
}

impl<'a> Trips<'a> {
    async fn new(fleet: &'a Fleet, chance: Chance) -> Self {
        let items: Vec<String> = (0..ITEMS).map(|_| unique("item")).collect();
        let shelf = Shelf::new(SGD, items.iter().map(|item| (item.clone(), 1000)).collect());
        let mut trips = Self {
            fleet,
            nobody: fleet.at(REGION),
            admin: fleet.admin(),
            chance,
            shelf,
            items,
            requests: Vec::new(),
            counts: Counts::default(),
        };
        for item in trips.items.clone() {
            trips.publish(&item).await;
        }
        trips
    }

    /// Two users and a guest.
    async fn people(&self) -> [Person; 3] {
        let (first, second) =
            (self.nobody.user(&unique("user")).await, self.nobody.user(&unique("user")).await);
        [Person::new(first).await, Person::new(second).await, self.guest().await]
    }

    async fn guest(&self) -> Person {
        Person::new(self.nobody.guest("SGD").await).await
    }

    async fn trip(&mut self, page: &Page<'_>, people: &mut [Person; 3]) {
        let requests = REQUESTS.0 + self.chance.below(REQUESTS.1 - REQUESTS.0);
        for _ in 0..requests {
            let who = self.chance.below(people.len());
            self.request(&mut people[who]);
        }
        if self.chance.once_in(3) {
            self.merge(people).await;
        }
        self.show(page).await;
        if self.chance.once_in(8) {
            let who = self.chance.below(people.len());
            self.order(&mut people[who]).await;
        }
        self.change_price().await;
    }

    /// One request of a person, at random.
    fn request(&mut self, person: &mut Person) {
        let items = person.cart.items();
        let item = self.chance.pick(&self.items);
        let held = if items.is_empty() { None } else { Some(self.chance.pick(&items)) };
        match (self.chance.below(12), held) {
            (0 | 1, _) => {
                let quantity = person.cart.quantity(&item) + 1;
                person.cart.set(&mut self.shelf, &item, quantity);
                let body = json!({ "item_id": item, "quantity": 1 });
                self.write(person, "POST", "/v1/cart/items", &body);
            }
            (2, Some(item)) => {
                let quantity = u32::try_from(self.chance.below(5)).expect("it is small");
                person.cart.set(&mut self.shelf, &item, quantity);
                self.write(person, "PATCH", &line_path(&item), &json!({ "quantity": quantity }));
            }
            (3, Some(item)) => {
                let expected = Expected::Line(person.cart.quantity(&item));
                self.read(person, line_path(&item), expected);
            }
            (4, _) => {
                let quantity: u32 = items.iter().map(|item| person.cart.quantity(item)).sum();
                let expected = json!({ "lines": items.len(), "quantity": quantity });
                self.read(person, "/v1/cart/count", Expected::Count(expected));
            }
            (5, _) => self.read(person, "/v1/orders", Expected::Orders(person.orders)),
            (6, _) => {
                let prices = json!([self.shelf.currency.money(self.shelf.now()[&item])]);
                self.read(person, format!("/v1/items/{item}"), Expected::Prices(prices));
            }
            (7 | 8, _) => {
                self.read_cart(person);
                self.read(person, "/v1/cart", Expected::Again);
            }
            _ => self.read_cart(person),
        }
    }

    fn read_cart(&mut self, person: &Person) {
        let expected = Expected::Cart(person.cart_id.clone(), person.cart.clone());
        self.read(person, "/v1/cart", expected);
    }

    fn read(&mut self, person: &Person, path: impl Into<String>, expected: Expected) {
        self.requests.push((Fetch::get(path).with_token(person.caller.token()), expected));
    }

    fn write(&mut self, person: &Person, method: &str, path: &str, body: &Value) {
        let write = Fetch::write(method, path, body).with_token(person.caller.token());
        self.requests.push((write, Expected::Cart(person.cart_id.clone(), person.cart.clone())));
    }

    /// The guest signs in as one of the users, who looks at the cart; then there is another guest.
    async fn merge(&mut self, people: &mut [Person; 3]) {
        let next = self.guest().await;
        let guest = std::mem::replace(&mut people[2], next);
        let user = &mut people[self.chance.below(2)];
        // A guest who never had a cart has none to be merged, so nothing is shown of it either.
        user.cart.merge(&guest.cart, Join::Max);
        user.orders += guest.orders;
        self.write(user, "POST", "/v1/cart/merge", &json!({ "guest_token": guest.caller.token() }));
        self.read_cart(user);
        self.read_cart(&people[2]);
        self.counts.merges += 1;
    }

    /// Lets the page make the requests, and compares what it shows.
    async fn show(&mut self, page: &Page<'_>) {
        let (requests, expected): (Vec<_>, Vec<_>) = self.requests.drain(..).unzip();
        let fetched = page.fetch_all(&requests).await;
        assert_eq!(fetched.len(), expected.len());
        let mut before: Option<&Fetched> = None;
        for (shown, expected) in fetched.iter().zip(&expected) {
            self.counts.requests += 1;
            self.counts.revalidated += usize::from(shown.was_revalidated());
            self.compare(shown, expected, before);
            before = Some(shown);
        }
    }

    fn compare(&mut self, shown: &Fetched, expected: &Expected, before: Option<&Fetched>) {
        let counts = &mut self.counts;
        let body = match shown.status {
            200 => shown.json(),
            _ => Value::Null,
        };
        let right = match expected {
            Expected::Cart(cart_id, _) if body["id"] != **cart_id => {
                counts.anothers.push(format!("not of {cart_id}: {shown:#?}"));
                return;
            }
            Expected::Cart(_, cart) => cart.check(&self.shelf, Policy::Stored, &body),
            Expected::Count(count) => same(&body, count),
            Expected::Line(quantity) => same(&body["quantity"], &json!(quantity)),
            Expected::Orders(count) => same(&json!(body["orders"].as_array().map(Vec::len)), &json!(count)),
            Expected::Prices(prices) => same(&body["prices"], prices),
            Expected::Again => {
                counts.polls += 1;
                let same_body = before.is_some_and(|before| before.body == shown.body);
                if !(same_body && shown.was_revalidated()) {
                    counts.sent_again.push(format!("{shown:#?}"));
                }
                return;
            }
        };
        if let Err(difference) = right {
            counts.outdated.push(format!("{difference}: {shown:#?}"));
        }
    }

    async fn order(&mut self, person: &mut Person) {
        if person.cart.items().is_empty() {
            return;
        }
        let order = person.caller.checkout().await.is(201);
        let order_id = order["id"].as_str().expect("an order has an id");
        self.admin.settle(order_id, "paid").await.ok();
        person.cart.clear();
        person.orders += 1;
        self.counts.orders += 1;
    }

    /// A price goes up or down, or back to what it was at first.
    async fn change_price(&mut self) {
        let item = self.chance.pick(&self.items);
        let price = [1000, 800, 1250][self.chance.below(3)];
        self.shelf.change(&item, price);
        self.publish(&item).await;
        self.counts.price_changes += 1;
    }

    /// Sets the price, and waits until every region shows it.
    async fn publish(&mut self, item: &str) {
        let price = self.shelf.now()[item];
        self.admin.sell(item, &self.shelf.currency.text(price)).await;
        let shown = json!([self.shelf.currency.money(price)]);
        for region in self.fleet.ids() {
            let here = self.nobody.at(self.fleet.url(region));
            eventually(&format!("{region} shows the price"), async || {
                let answer = here.get(format!("/v1/items/{item}")).await;
                answer.status == 200 && answer.json()["prices"] == shown
            })
            .await;
        }
        self.shelf.settled();
    }
}

impl Person {
    async fn new(caller: Caller) -> Self {
        let cart_id = caller.cart().await["id"].as_str().expect("a cart has an id").to_owned();
        Self { caller, cart_id, cart: Cart::default(), orders: 0 }
    }
}

fn line_path(item_id: &str) -> String {
    format!("/v1/cart/items/{}", cart_core::line_id(item_id, ""))
}

fn same(shown: &Value, expected: &Value) -> Result<(), String> {
    if shown == expected { Ok(()) } else { Err(format!("{shown} should be {expected}")) }
}
