//! What the version before has written.

use edge_host::clock::Clock;
use edge_host::epoch::KnownEpoch;
use edge_host::store::mysql::{self, MySqlStore, MySqlTarget};
use harness::MySqlServer;
use sqlx::{Connection, MySqlConnection, SqliteConnection};

use super::support::{Store, cart_of, guest, put_cart, sqlite};

/// The statement makes the lines what they were before: without a time of the price.
const FORGET: &str = "UPDATE cart_items SET priced_at = NULL";

async fn a_price_without_a_time_is_as_old_as_its_line(store: &Store, forget: impl AsyncFnOnce()) {
    let owner = guest("before");
    let mut cart = cart_of(&[2, 3]);
    put_cart(store, &owner, cart.clone()).await;
    forget().await;
    cart.lines.iter_mut().for_each(|line| line.priced_at_ms = line.added_at_ms);
    let read = store.cart(&owner.cart_id()).await.expect("an answer").expect("a cart");
    assert_eq!(read.cart, cart);
    // And it is written with one the next time.
    cart.lines[0].quantity = 1;
    cart.lines[0].priced_at_ms += 5;
    put_cart(store, &owner, cart.clone()).await;
    assert_eq!(store.cart(&owner.cart_id()).await.expect("an answer").expect("a cart").cart, cart);
}

#[tokio::test]
async fn a_price_without_a_time_is_as_old_as_its_line_in_sqlite() {
    let (store, directory) = sqlite().await;
    let url = format!("sqlite://{}", directory.path().join("primary.sqlite").display());
    a_price_without_a_time_is_as_old_as_its_line(&store, async || {
        let mut connection = SqliteConnection::connect(&url).await.expect("the file is there");
        sqlx::query(FORGET).execute(&mut connection).await.expect("the column may be null");
    })
    .await;
}

#[tokio::test]
async fn a_price_without_a_time_is_as_old_as_its_line_in_mysql() {
    let url = MySqlServer::shared().await.fresh_database().await;
    let target: MySqlTarget = url.parse().expect("a good URL");
    mysql::migrate(&target).await.expect("an empty database takes the schema");
    let store: Store = MySqlStore::open(&target, KnownEpoch::default(), Clock::of_database(0));
    a_price_without_a_time_is_as_old_as_its_line(&store, async || {
        let mut connection = MySqlConnection::connect(&url).await.expect("the server lets its user in");
        sqlx::query(FORGET).execute(&mut connection).await.expect("the column may be null");
    })
    .await;
}
