//! Random work of many clients in several regions while things go wrong, and afterwards the question whether
//! everything that they were told can be true at once.
//!
//! Sessions, several of them on one cart, read and write with keys of their own, and try again under the same
//! key until there is an answer. Everything they ask and hear is noted ([`record`](History)). Faults come when so
//! many operations are done, from a plan that the seed makes. When all is healed, what is open is asked once
//! more, everything is looked at once more, and [`check`] decides.

mod check;
mod finish;
mod model;
mod nemesis;
mod options;
mod payments;
mod record;
mod report;
mod session;
mod shop;
mod wire;

use std::sync::Mutex;

use futures_util::future::join_all;
use tokio::sync::mpsc;

pub use check::{Rule, Violation, check};
pub use nemesis::{Fault, Kind, Suffered};
pub use options::Options;
pub use record::{
    Act, CartNo, Command, Contents, Coupon, Event, Good, Goods, History, Item, LineNo, Nanos, Order, Outcome,
    Owner, Policy, Version, Wanted, Write,
};
pub use report::Report;

use session::{Session, guest_token};
use shop::Shop;

use crate::{Chance, Fleet, unique};

/// Runs it on this fleet, which has the regions of the options.
pub async fn run(fleet: &Fleet, options: Options) -> Report {
    let (placed, orders) = mpsc::unbounded_channel();
    let mut shop = Shop::open(fleet, &options, placed).await;
    let mut chance = Chance::seeded(options.seed);
    let mut users = Vec::new();
    // About two sessions on each cart.
    for _ in 0..options.clients.div_ceil(3) {
        let name = unique("user");
        let token = fleet.at(fleet.home()).user(&name).await.token().to_owned();
        users.push(shop.add_cart(name, false, &token));
    }
    for _ in 0..options.clients.div_ceil(4) {
        let token = guest_token(&shop, &mut chance).await;
        let guest = shop.add_cart(unique("guest"), true, &token);
        shop.seats.push(Mutex::new(guest));
    }
    let sessions = (0..options.clients).map(|no| match no % 3 {
        0 => {
            let seat = (no / 3) % shop.seats.len();
            let guest = *shop.seats[seat].lock().expect("no holder panics");
            Session::new(&shop, no, guest, Some(seat))
        }
        _ => Session::new(&shop, no, users[no % users.len()], None),
    });
    let sessions: Vec<Session<'_>> = sessions.collect();
    let plan = nemesis::plan(&shop);

    let work = async {
        let everybody = join_all(sessions.into_iter().map(Session::run));
        let (_, faults) = tokio::join!(everybody, nemesis::strike(&shop, &plan));
        shop.close_payments();
        faults
    };
    let (faults, ()) = tokio::join!(work, payments::run(&shop, orders));
    let resolved = finish::resolve(&shop).await;
    let history = finish::look(&shop).await;
    let violations = check(&history);
    drop(shop);
    Report { options, stack: fleet.stack(), history, faults, resolved, violations }
}
