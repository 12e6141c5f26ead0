use std::fmt::Display;

use serde_json::{Value, json};

use crate::{Answer, Ask, Caller};

/// Somebody who calls the internal listener with the admin token.
#[derive(Clone, Debug)]
pub struct Admin(Caller);

/// An item for the admin API, in one currency, with plenty of stock.
pub fn goods(currency: &str, price: &str) -> Value {
    json!({ "title": "Goods", "prices": { currency: price }, "stock": 100_000 })
}

impl Admin {
    pub(crate) fn new(base: String, token: &str) -> Self {
        Self(Caller::new(base).with_token(token))
    }

    /// The caller beneath, for requests of any kind.
    pub fn caller(&self) -> &Caller {
        &self.0
    }

    /// A read.
    pub fn get(&self, path: impl Display) -> Ask {
        self.0.get(path)
    }

    /// Creates or replaces an item.
    pub async fn put_item(&self, item_id: &str, item: Value) {
        let answer = self.0.put(format_args!("/admin/items/{item_id}")).json(item).await;
        assert!(matches!(answer.status, 200 | 201 | 204), "{answer}");
    }

    /// Creates or replaces an item that is sold for so many Singapore dollars, with plenty of stock.
    pub async fn sell(&self, item_id: &str, price: &str) {
        self.put_item(item_id, goods("SGD", price)).await;
    }

    /// Creates or replaces a coupon.
    pub async fn put_coupon(&self, code: &str, coupon: Value) {
        let answer = self.0.put(format_args!("/admin/coupons/{code}")).json(coupon).await;
        assert!(matches!(answer.status, 200 | 201 | 204), "{answer}");
    }

    /// The payment service's word: `paid` or `cancelled`.
    pub async fn settle(&self, order_id: &str, word: &str) -> Answer {
        self.0.ask("POST", format_args!("/admin/orders/{order_id}/{word}")).await
    }

    /// The stock of an item, as this region sees it.
    pub async fn stock(&self, public: &Caller, item_id: &str) -> i64 {
        let item = public.get(format_args!("/v1/items/{item_id}")).await.ok();
        item["stock"].as_i64().expect("an item has a stock")
    }
}
