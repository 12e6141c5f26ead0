//! The payment service: says of most orders that they are paid or cancelled, and of some both at once.

use tokio::sync::mpsc::UnboundedReceiver;

use super::record::{Act, CartNo, Event};
use super::session::Tries;
use super::shop::Shop;
use crate::Chance;

/// Events of the payment service are of this session.
pub(super) const PAYMENTS: usize = usize::MAX;

/// Settles orders as they come; ends when no more can come.
pub(super) async fn run(shop: &Shop<'_>, mut placed: UnboundedReceiver<(CartNo, String)>) {
    let mut chance = Chance::seeded(shop.options.seed ^ 0x70a1);
    while let Some((cart, order)) = placed.recv().await {
        match chance.below(10) {
            0..4 => say(shop, &mut chance, cart, &order, true).await,
            4..7 => say(shop, &mut chance, cart, &order, false).await,
            7 => {
                let mut other = Chance::seeded(chance.number());
                let paid = say(shop, &mut chance, cart, &order, true);
                let cancelled = say(shop, &mut other, cart, &order, false);
                tokio::join!(paid, cancelled);
            }
            _ => {}
        }
    }
}

async fn say(shop: &Shop<'_>, chance: &mut Chance, cart: CartNo, order: &str, paid: bool) {
    let home = shop.fleet.home();
    let act = Act::Settle(order.to_owned(), paid);
    let tries = Tries { shop, regions: &[home], first: home, seen: None };
    let began = shop.now();
    let admin = shop.fleet.admin();
    let tried = tries.ask(&act, chance, |_| admin.caller().clone()).await;
    shop.note(Event {
        session: PAYMENTS,
        follows: false,
        cart,
        region: home,
        began,
        ended: shop.now(),
        seen: None,
        act,
        ambiguous: tried.ambiguous,
        outcome: tried.outcome,
    });
}
