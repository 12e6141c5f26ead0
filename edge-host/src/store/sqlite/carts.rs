//! Whole carts inside a transaction: loaded for a write, ended by a merge, emptied when they expire.

use std::collections::BTreeSet;
use std::sync::Arc;

use cart_core::Cart;
use sqlx::SqliteConnection;

use super::outbox::publish_cart;
use super::rows;
use super::stock::unpaid;
use crate::model::{CART_TTL_MS, CartRecord, CartState, Millis, Principal};
use crate::store::{CartWrite, Loaded, StoreError};

pub(super) async fn load(tx: &mut SqliteConnection, write: &CartWrite) -> Result<Loaded, StoreError> {
    let epoch: u32 = sqlx::query_scalar("SELECT epoch FROM cluster").fetch_one(&mut *tx).await?;
    let mut carts = Vec::new();
    for unused in std::iter::once(&write.unused).chain(write.guest.iter().map(|(_, unused)| unused)) {
        let mut record = rows::cart(tx, &unused.cart_id).await?.unwrap_or_else(|| unused.clone());
        record.version.epoch = epoch;
        carts.push(record);
    }
    let lines = carts.iter().flat_map(|record| &record.cart.lines).map(|line| &line.item_id);
    let item_ids: BTreeSet<&String> = lines.chain(&write.item_ids).collect();
    let applied = carts.iter().flat_map(|record| &record.cart.coupons);
    let codes: BTreeSet<&String> = applied.chain(&write.coupon_codes).collect();
    let items = rows::items(tx, Some(&item_ids)).await?;
    let coupons = rows::coupons(tx, Some(&codes)).await?;
    let mut carts = carts.into_iter();
    let cart = carts.next().expect("the cart is loaded first");
    let items = items.into_iter().map(Arc::new).collect();
    let coupons = coupons.into_iter().map(Arc::new).collect();
    let unpaid_orders = if write.takes_stock { unpaid(tx, &write.unused.cart_id).await? } else { 0 };
    Ok(Loaded { cart, guest: carts.next(), items, coupons, unpaid_orders })
}

pub(super) async fn end_guest_cart(
    tx: &mut SqliteConnection,
    owner: &Principal,
    guest: &CartRecord,
    now_ms: Millis,
) -> Result<u64, StoreError> {
    let ended = CartRecord {
        cart_id: guest.cart_id.clone(),
        state: CartState::Merged,
        version: guest.version.next(),
        cart: Cart::empty(guest.cart.currency),
        updated_at_ms: Some(now_ms),
        expires_at_ms: Some(now_ms + CART_TTL_MS),
    };
    rows::save_cart(tx, owner, guest, &ended).await?;
    publish_cart(tx, &ended, now_ms).await
}

pub(super) async fn empty_cart(
    tx: &mut SqliteConnection,
    record: CartRecord,
    now_ms: Millis,
) -> Result<u64, StoreError> {
    let mut emptied = record.clone();
    emptied.cart = Cart::empty(record.cart.currency);
    emptied.version = record.version.next();
    emptied.updated_at_ms = Some(now_ms);
    rows::save_expired_cart(tx, &emptied).await?;
    publish_cart(tx, &emptied, now_ms).await
}
