use std::time::Instant;

use harness::{Answer, shared, unique};
use serde_json::json;

use crate::support::assert_json;

fn cookie_of(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie");
    cookie.split(';').next().expect("a cookie").to_owned()
}

#[tokio::test]
async fn the_version_of_another_cart_is_ignored() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let edge = fleet.at("jkt");
    let (guest, user) = (edge.guest("SGD").await, edge.user(&unique("user")).await);
    for _ in 0..5 {
        guest.add(&mug, 1).await.ok();
    }
    let theirs = guest.get("/v1/cart").await.header("cart-version").to_owned();
    let mine = user.add(&mug, 1).await.version();
    user.get("/v1/cart").await.ok();
    let cookie = format!("other=1; cart-version={theirs}");
    for path in ["/v1/cart", "/v1/cart/count"] {
        for read in [user.get(path).header("cart-version", &theirs), user.get(path).header("cookie", &cookie)]
        {
            let read = read.await;
            read.ok();
            assert_eq!((read.version(), read.header("cart-source")), (mine.clone(), "cache"), "{read}");
        }
    }
    assert_eq!(theirs.split('.').count(), 3, "or this would show nothing: {theirs}");
}

#[tokio::test]
async fn versions_that_home_does_not_have_cost_a_question_a_second() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let written = guest.add(&mug, 1).await;
    let tag = written.header("cart-version").rsplit_once('.').expect("a tag").1.to_owned();
    guest.get("/v1/cart").await.ok();
    let began = Instant::now();
    let mut asked = 0;
    for n in 0..60 {
        let invented = match n % 3 {
            0 => format!("1.{}.{tag}", 1000 + n),
            1 => format!("1.{}", 5000 - n),
            _ => format!("7.{n}.{tag}"),
        };
        let path = ["/v1/cart", "/v1/cart/count"][n % 2];
        let read = guest.get(path).header("cart-version", invented).await;
        read.ok();
        assert_eq!(read.version(), written.version(), "{read}");
        asked += u64::from(read.header("cart-source") != "cache");
    }
    assert!((1..=1 + began.elapsed().as_secs()).contains(&asked), "home was asked {asked} times");
    // What the client writes now, it reads now, here and elsewhere.
    for region in fleet.ids() {
        let there = guest.at(fleet.url(region));
        let seen = there.add(&mug, 1).await.header("cart-version").to_owned();
        let invented = there.get("/v1/cart").header("cart-version", "1.99").await;
        assert_eq!(invented.header("cart-version"), seen);
    }
}

#[tokio::test]
async fn a_cookie_never_goes_back_for_its_cart() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("sin").guest("SGD").await;
    let old = guest.add(&mug, 1).await;
    let new = guest.add(&mug, 1).await;
    // Another region, which is behind, is asked with the newer cookie and an older header.
    let there = guest.at(fleet.url("jkt"));
    there.get("/v1/cart").await.ok();
    let newer = guest.add(&mug, 1).await;
    for path in ["/v1/cart", "/v1/cart/count"] {
        let read = there
            .get(path)
            .header("cart-version", old.header("cart-version"))
            .header("cookie", cookie_of(&newer))
            .await;
        assert_eq!(read.version(), newer.version(), "{read}");
        assert_eq!(read.find_header("set-cookie"), None, "the browser has it: {read}");
    }
    let read = guest.get("/v1/cart").header("cookie", cookie_of(&new)).await;
    assert_eq!(cookie_of(&read), cookie_of(&newer));
    // That of somebody else is replaced.
    let other = fleet.at("sin").guest("SGD").await;
    let read = other.get("/v1/cart").header("cookie", cookie_of(&newer)).await;
    assert_json(&read.ok()["lines"], json!([]));
    assert_ne!(cookie_of(&read), cookie_of(&newer));
}

#[tokio::test]
async fn a_cookie_is_secure_where_the_client_came_by_https() {
    let guest = shared().at("bkk").guest("SGD").await;
    let is_secure = |answer: &Answer| answer.header("set-cookie").ends_with("; Secure");
    for (name, value, secure) in [
        ("x-forwarded-proto", "https", true),
        ("forwarded", "for=192.0.2.1;proto=https", true),
        ("x-forwarded-proto", "http", false),
    ] {
        let read = guest.get("/v1/cart").header(name, value).await;
        assert_eq!(is_secure(&read), secure, "{name}: {value}: {read}");
    }
}
