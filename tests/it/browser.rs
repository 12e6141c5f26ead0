//! A real Chromium with plain `fetch`: its cache and its cookies, which other clients of the tests do not have.

use harness::{Browser, Caller, Fetch, Fleet, Page, eventually, shared, unique};
use serde_json::{Value, json};

use crate::support::{assert_json, line_of, lines_of, sgd, warnings_of};

/// Whose body it is, when several people share a browser.
mod identity;

/// Prices, coupons and stock that change and change back.
mod there_and_back;

/// Two users, guests, merges and price changes in one browser, at random.
mod trips;

/// Opens a page of a region's own origin.
async fn page_of<'a>(browser: &'a Browser, fleet: &Fleet, region: &str) -> Page<'a> {
    browser.open(&format!("{}/docs", fleet.url(region))).await
}

/// A plain `fetch` of somebody's resource, as JSON.
async fn shown(page: &Page<'_>, who: &Caller, path: &str) -> Value {
    page.fetch(Fetch::get(path).with_token(who.token())).await.ok()
}

/// Asserts that an unchanged resource is shown again from the browser's cache, after the server has said that it
/// still holds.
#[track_caller]
fn assert_revalidated<'a>(page: &'a Page<'_>, who: &Caller, path: &'a str) -> impl Future<Output = ()> + 'a {
    let ask = Fetch::get(path).with_token(who.token());
    let at = std::panic::Location::caller();
    async move {
        let [first, again]: [_; 2] =
            page.fetch_all(&[ask.clone(), ask]).await.try_into().expect("two answers");
        assert!(again.was_revalidated(), "{at}: {path} came as a whole again: {again:#?}");
        assert_eq!(first.body, again.body, "{at}");
    }
}

/// Puts an item in a cart, from the page.
async fn put_in(page: &Page<'_>, who: &Caller, item_id: &str, quantity: u32) -> Value {
    let body = json!({ "item_id": item_id, "quantity": quantity });
    page.fetch(Fetch::write("POST", "/v1/cart/items", &body).with_token(who.token())).await.ok()
}

/// Replaces an item, and waits until every region of the shared fleet shows it.
async fn change_item(item_id: &str, item: Value) {
    let fleet = shared();
    let put = fleet.admin().caller().put(format!("/admin/items/{item_id}"));
    let changed = put.json(item).await.ok();
    for region in fleet.ids() {
        let here = fleet.at(region);
        eventually(&format!("{region} shows the changed item"), async || {
            let item = here.get(format!("/v1/items/{item_id}")).await;
            item.status == 200 && ["prices", "stock"].iter().all(|field| item.json()[field] == changed[field])
        })
        .await;
    }
}
