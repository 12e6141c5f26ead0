use futures_util::future::join_all;
use harness::{Caller, Fleet, FleetOptions};

use super::{ABUSER, SHOPPER};

async fn fleet(settings: &[(&'static str, &str)]) -> Fleet {
    let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let options = FleetOptions { regions: vec!["sin"], settings, ..FleetOptions::default() };
    Fleet::start(options).await
}

/// How many of the answers are refused by a rate; the others have this status.
#[track_caller]
fn limited(answers: &[harness::Answer], otherwise: u16) -> usize {
    let (limited, rest): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 429);
    rest.iter().for_each(|answer| assert_eq!(answer.status, otherwise, "{answer}"));
    limited.iter().for_each(|answer| {
        answer.problem(429, "rate_limited");
        answer.header("retry-after");
    });
    limited.len()
}

async fn counted(fleet: &Fleet, by: &str) -> bool {
    let metrics = fleet.internal("sin").get("/metrics").await;
    let text = String::from_utf8(metrics.body).expect("metrics are text");
    let label = format!("by=\"{by}\"");
    text.lines().any(|line| line.starts_with("troli_rate_limited_total{") && line.contains(&label))
}

#[tokio::test]
async fn the_guests_of_one_address_share_its_rate_and_users_do_not() {
    let fleet = fleet(&[("TROLI_RATE_LIMIT_ADDRESS_PER_S", "20")]).await;
    let door = fleet.url("sin");
    let abuser = Caller::coming_from(ABUSER, &door);
    let guests = join_all((0..100).map(|_| abuser.guest("SGD"))).await;
    let answers = join_all(guests.iter().map(|guest| guest.get("/v1/cart").into_future())).await;
    assert!(limited(&answers, 200) > 0, "a hundred guests of one address are as hasty as one");
    assert!(counted(&fleet, "address").await);

    // The address has nothing left for guests, and another address has all of its own.
    let shopper = Caller::coming_from(SHOPPER, &door).guest("SGD").await;
    shopper.get("/v1/cart").await.ok();
    let user = abuser.user("somebody").await;
    let known = Caller::coming_from(SHOPPER, &door).with_token(user.token());
    known.get("/v1/cart").await.ok();
    let asks = (0..100).map(|_| user.get("/v1/cart").into_future());
    assert_eq!(limited(&join_all(asks).await, 200), 0, "a user's own rate is what counts");
}

#[tokio::test]
async fn refused_tokens_cost_the_address() {
    let fleet = fleet(&[("TROLI_RATE_LIMIT_ADDRESS_PER_S", "20")]).await;
    let door = fleet.url("sin");
    let abuser = Caller::coming_from(ABUSER, &door);
    for caller in [abuser.with_token("eyJhbGciOiJIUzI1NiJ9.e30.x"), abuser.clone()] {
        let asks = (0..100).map(|_| caller.get("/v1/cart").into_future());
        assert!(limited(&join_all(asks).await, 401) > 0, "a hundred refused tokens are too many");
    }
    Caller::coming_from(SHOPPER, &door).get("/v1/cart").await.problem(401, "token_missing");
}

#[tokio::test]
async fn shoppers_behind_one_address_may_browse() {
    let fleet = fleet(&[
        ("TROLI_RATE_LIMIT_GUESTS_PER_S", ""),
        ("TROLI_RATE_LIMIT_CATALOGUE_PER_S", ""),
        ("TROLI_RATE_LIMIT_ADDRESS_PER_S", ""),
    ])
    .await;
    let carrier = Caller::coming_from(ABUSER, fleet.url("sin"));
    let asks = (0..500).map(|_| carrier.get("/v1/items?limit=1").into_future());
    assert_eq!(limited(&join_all(asks).await, 200), 0, "five hundred shoppers look at once");
}

#[tokio::test]
async fn the_rate_of_a_principal_is_counted() {
    let fleet = fleet(&[("TROLI_RATE_LIMIT_PER_S", "5")]).await;
    let guest = fleet.at("sin").guest("SGD").await;
    let asks = (0..100).map(|_| guest.get("/v1/cart").into_future());
    assert!(limited(&join_all(asks).await, 200) > 0);
    assert!(counted(&fleet, "principal").await);
}
