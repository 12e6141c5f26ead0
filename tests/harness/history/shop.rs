//! What is for sale in a run, and the people who are there.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::options::Options;
use super::record::{CartNo, Coupon, Event, Good, Goods, Item, Nanos, Owner};
use crate::{Caller, Fleet, eventually, unique};

/// Enough that it never runs out.
const PLENTY: i64 = 1_000_000;

/// The door that leads to any region.
const FRONT_DOOR: &str = "door";

/// Everything that the people of a run share.
pub(super) struct Shop<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) options: &'a Options,
    pub(super) goods: Goods,
    pub(super) line_nos: BTreeMap<String, usize>,
    /// Somebody at each door.
    at: BTreeMap<&'static str, Caller>,
    /// Where one can come in: each region, and the front door where there is one.
    pub(super) doors: Vec<&'static str>,
    began: Instant,
    carts: Mutex<Vec<(Owner, String)>>,
    /// Which guest is in which seat: when one signs in, another sits down.
    pub(super) seats: Vec<Mutex<CartNo>>,
    events: Mutex<Vec<Event>>,
    /// How many operations are done.
    pub(super) done: watch::Sender<usize>,
    /// Orders on their way to the payment service, until it is closed.
    placed: Mutex<Option<mpsc::UnboundedSender<(CartNo, String)>>>,
}

impl<'a> Shop<'a> {
    /// Opens: items and coupons are known in every region.
    pub(super) async fn open(
        fleet: &'a Fleet,
        options: &'a Options,
        placed: mpsc::UnboundedSender<(CartNo, String)>,
    ) -> Self {
        let mut at: BTreeMap<_, _> = fleet.ids().into_iter().map(|id| (id, fleet.at(id))).collect();
        let mut doors = options.regions.clone();
        if fleet.has_front_door() {
            at.insert(FRONT_DOOR, fleet.front_door());
            doors.push(FRONT_DOOR);
        }
        let goods = goods(fleet, options).await;
        let line_nos = goods.lines.iter().enumerate().map(|(no, good)| (good.line_id.clone(), no)).collect();
        Self {
            fleet,
            options,
            goods,
            line_nos,
            at,
            doors,
            began: Instant::now(),
            carts: Mutex::default(),
            seats: Vec::new(),
            events: Mutex::default(),
            done: watch::Sender::new(0),
            placed: Mutex::new(Some(placed)),
        }
    }

    pub(super) fn now(&self) -> Nanos {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a run ends before the year 2554")
    }

    /// Somebody at a door.
    pub(super) fn at(&self, region: &str) -> &Caller {
        &self.at[region]
    }

    /// A new cart of this owner.
    pub(super) fn add_cart(&self, name: String, guest: bool, token: &str) -> CartNo {
        let mut carts = self.carts.lock().expect("no holder panics");
        carts.push((Owner { name, guest }, token.to_owned()));
        carts.len() - 1
    }

    /// The owner of a cart, at a door.
    pub(super) fn owner_at(&self, cart: CartNo, region: &str) -> Caller {
        let token = self.token(cart);
        self.at(region).with_token(token)
    }

    pub(super) fn token(&self, cart: CartNo) -> String {
        self.carts.lock().expect("no holder panics")[cart].1.clone()
    }

    pub(super) fn carts(&self) -> Vec<Owner> {
        self.carts.lock().expect("no holder panics").iter().map(|(owner, _)| owner.clone()).collect()
    }

    /// Notes what happened; returns its place in the history.
    pub(super) fn note(&self, event: Event) -> usize {
        let mut events = self.events.lock().expect("no holder panics");
        events.push(event);
        events.len() - 1
    }

    /// Works on what was noted.
    pub(super) fn events<T>(&self, work: impl FnOnce(&mut Vec<Event>) -> T) -> T {
        work(&mut self.events.lock().expect("no holder panics"))
    }

    /// Tells the payment service of an order.
    pub(super) fn pay_for(&self, cart: CartNo, order: &str) {
        if let Some(placed) = &*self.placed.lock().expect("no holder panics") {
            placed.send((cart, order.to_owned())).expect("the payment service waits until it is closed");
        }
    }

    /// The payment service ends with what it was told of.
    pub(super) fn close_payments(&self) {
        drop(self.placed.lock().expect("no holder panics").take());
    }

    pub(super) fn is_open(&self) -> bool {
        *self.done.borrow() < self.options.operations
    }
}

/// Puts everything up for sale and learns the names of the lines.
async fn goods(fleet: &Fleet, options: &Options) -> Goods {
    let admin = fleet.admin();
    // So few that about every third operation that could take one finds none.
    let few = i64::try_from(options.operations / 40).expect("it fits").max(20);
    let mut goods = Goods::default();
    for (name, price, stock, quantity_max, sizes) in [
        ("mug", 1_250, PLENTY, None, &["S", "M", "L"][..]),
        ("tea", 490, PLENTY, None, &[]),
        ("rice", 1_099, PLENTY, None, &[]),
        ("soap", 335, PLENTY, Some(6), &[]),
        ("vase", 8_900, few, None, &["S", "L"]),
        ("lamp", 4_420, few / 2, None, &[]),
    ] {
        let item_id = unique(name);
        let mut item = json!({
            "title": name,
            "prices": { "SGD": format!("{}.{:02}", price / 100, price % 100) },
            "stock": stock,
        });
        if let Some(most) = quantity_max {
            item["quantity_max"] = json!(most);
        }
        admin.put_item(&item_id, item).await;
        let sizes = if sizes.is_empty() { vec![None] } else { sizes.iter().copied().map(Some).collect() };
        let item = goods.items.len();
        goods.lines.extend(sizes.into_iter().map(|size| Good { line_id: String::new(), item, size }));
        goods.items.push(Item { item_id, price, stock, scarce: stock < PLENTY, quantity_max });
    }
    for (percent, redemptions_max) in [("10", None), ("5", None), ("20", Some(options.operations / 200 + 3))]
    {
        let code = unique("COUPON").to_uppercase();
        let mut coupon = json!({ "kind": "percent", "value": percent });
        if let Some(most) = redemptions_max {
            coupon["redemptions_max"] = json!(most);
        }
        admin.put_coupon(&code, coupon).await;
        goods.coupons.push(Coupon { code, redemptions_max });
    }
    learn_names(fleet, &mut goods).await;
    goods
}

/// A line is named after its item and variant, the same in every cart: somebody who buys one of each finds out.
async fn learn_names(fleet: &Fleet, goods: &mut Goods) {
    for region in fleet.ids() {
        let last = goods.items.last().map(|item| item.item_id.clone()).unwrap_or_default();
        let here = fleet.at(region);
        eventually("the goods are known everywhere", async || {
            here.get(format!("/v1/items/{last}")).await.status == 200
        })
        .await;
    }
    let guest = fleet.at(fleet.ids()[0]).guest("SGD").await;
    for good in &mut goods.lines {
        let mut body = json!({ "item_id": goods.items[good.item].item_id, "quantity": 1 });
        if let Some(size) = good.size {
            body["variant"] = json!({ "size": size });
        }
        let cart = guest.post("/v1/cart/items", body).await.ok();
        let line = cart["lines"].as_array().and_then(|lines| lines.last()).expect("the line that was added");
        good.line_id = line["line_id"].as_str().expect("a line has a name").to_owned();
    }
}
