use harness::{Fleet, FleetOptions, Stack, eventually, unique};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};

use crate::support::assert_json;

/// The first attempts of a write make a version that the database undoes. Then the other device makes that version, with
/// more in it, and the next attempt finds nothing left to do.
#[tokio::test]
async fn a_write_that_is_undone_and_then_changes_nothing_shows_the_cart_as_it_is() {
    let options = FleetOptions { regions: vec!["sin"], stack: Stack::Servers, ..FleetOptions::default() };
    let fleet = Fleet::start(options).await;
    let (mug, pot) = (unique("mug"), unique("pot"));
    for item in [&mug, &pot] {
        fleet.admin().sell(item, "1.00").await;
    }
    let guest = fleet.at("sin").guest("SGD").await;
    let cart = guest.add(&mug, 1).await.ok();
    let line = cart["lines"][0]["line_id"].as_str().expect("a line has an id").to_owned();
    let beside = fleet.start_edge("sin").await;
    let other_device = guest.at(format!("http://{}", beside.public_addr()));

    let mut root =
        MySqlConnection::connect(&fleet.mysql().admin_url_of("troli")).await.expect("root may come in");
    // As in a deadlock, and slow enough that the other device's write comes in between.
    let undo = format!(
        "CREATE TRIGGER undo_first BEFORE INSERT ON idempotency_keys FOR EACH ROW
         IF NEW.idempotency_key = 'undone'
             AND NOT EXISTS (SELECT 1 FROM cart_items WHERE cart_id = NEW.cart_id AND item_id = '{pot}') THEN
             DO SLEEP(0.2);
             SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'undone by a test';
         END IF"
    );
    sqlx::raw_sql(AssertSqlSafe(undo)).execute(&mut root).await.expect("root may make a trigger");

    let two = guest.patch(format!("/v1/cart/items/{line}"), json!({ "quantity": 2 })).key("undone");
    let two_and_a_pot = async {
        eventually("the first write is under way", async || {
            let sleeping = "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User sleep'";
            let sleeping: i64 = sqlx::query_scalar(sleeping).fetch_one(&mut root).await.expect("a count");
            sleeping > 0
        })
        .await;
        let set = json!({ "op": "set_quantity", "line_id": line, "quantity": 2 });
        let add = json!({ "op": "add", "item_id": pot, "quantity": 1 });
        other_device.post("/v1/cart/commands", json!({ "commands": [set, add] })).await
    };
    let (undone, done) = tokio::join!(two.into_future(), two_and_a_pot);
    let truth = done.ok();
    assert_json(&truth["count"], json!({ "lines": 2, "quantity": 3 }));
    let shown = undone.ok();
    assert_eq!((undone.version(), &shown["lines"]), (done.version(), &truth["lines"]));
    for device in [&guest, &other_device] {
        let read = device.cart().await;
        assert_eq!((&read["version"], &read["lines"]), (&truth["version"], &truth["lines"]));
    }
    fleet.stop_edge(beside).await;
}
