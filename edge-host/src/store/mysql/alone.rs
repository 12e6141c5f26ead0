//! Writes in a transaction of their own: checkouts, merges, heavy ones, those of carts that are locked elsewhere, and
//! those that have failed together with others.

use std::collections::BTreeMap;

use tokio::sync::OwnedMutexGuard;

use super::MySqlStore;
use super::session::Attempts;
use super::write::Progress;
use crate::shares::Place;
use crate::store::{CartWrite, Decide, StoreError, WriteOutcome};

/// What others wait for behind a locked row.
const CART: &str = "the cart";
const STOCK: &str = "an item or a coupon";

impl MySqlStore {
    /// Whether a write shares a transaction with others. What locks more than a cart, takes long to decide, or would
    /// have to wait for a lock would keep them waiting.
    pub(super) fn goes_together(&self, write: &CartWrite) -> bool {
        let cart_id = &write.unused.cart_id;
        write.guest.is_none()
            && !write.takes_stock
            && !write.is_heavy(self.sizes.get(cart_id))
            && !self.carts.is_queued_for(cart_id)
    }

    /// Attempts a write alone until it is done or its time is over. Writes of one cart are attempted one after the
    /// other, as they came; so are checkouts that have met the same locked item. While they wait, none of them has a
    /// connection.
    pub(super) async fn write_alone(
        &self,
        write: &CartWrite,
        decide: &mut Decide<'_>,
        mut attempts: Attempts,
        mut progress: Progress,
    ) -> Result<WriteOutcome, StoreError> {
        let place = self.carts.enter(&write.unused.cart_id).ok_or(StoreError::Busy(CART))?;
        let _turn = attempts.wait_for(CART, place.turn()).await?;
        let mut turns = BTreeMap::new();
        progress.heavy = write.is_heavy(self.sizes.get(&write.unused.cart_id));
        loop {
            let attempt = self.attempt(write, decide, &mut progress);
            if let Some(ended) = attempts.make(attempt).await {
                return ended;
            }
            let held = std::mem::take(&mut progress.held);
            if held.iter().any(|queue| !turns.contains_key(queue)) {
                self.queue_for(held, &mut turns, &attempts).await?;
                progress.turns = turns.keys().cloned().collect();
            } else if progress.locked {
                attempts.look_again(if held.is_empty() { CART } else { STOCK }).await?;
            }
        }
    }

    /// Waits for the turns of these queues. All take them in the order of names, so that two wait for each other and
    /// do not block; what is there already is given back for that.
    async fn queue_for<'a>(
        &'a self,
        held: Vec<String>,
        turns: &mut BTreeMap<String, (OwnedMutexGuard<()>, Place<'a>)>,
        attempts: &Attempts,
    ) -> Result<(), StoreError> {
        let mut queues: Vec<String> = std::mem::take(turns).into_keys().chain(held).collect();
        queues.sort();
        queues.dedup();
        for queue in queues {
            let place = self.stock.enter(&queue).ok_or(StoreError::Busy(STOCK))?;
            let turn = attempts.wait_for(STOCK, place.turn()).await?;
            turns.insert(queue, (turn, place));
        }
        Ok(())
    }
}
