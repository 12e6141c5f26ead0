use harness::{Fleet, FleetOptions};

use crate::support::assert_json;

#[tokio::test]
async fn too_many_requests_are_told_to_wait_each_caller_alone() {
    let settings =
        vec![("TROLI_RATE_LIMIT_PER_S", "5".to_owned()), ("TROLI_RATE_LIMIT_GUESTS_PER_S", "10".to_owned())];
    let options = FleetOptions { regions: vec!["sin"], settings, ..FleetOptions::default() };
    let fleet = Fleet::start(options).await;
    let nobody = fleet.at("sin");
    let (hasty, calm) = (nobody.guest("SGD").await, nobody.guest("SGD").await);

    // All at once, so that no machine is so slow that the limit is not reached.
    let asks = (0..100).map(|_| hasty.get("/v1/cart").into_future());
    let answers = futures_util::future::join_all(asks).await;
    let limited: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(answers.len() - limited.len() >= 10, "a burst of two seconds' worth is welcome");
    assert!(!limited.is_empty(), "a hundred at once are too many");
    for answer in limited {
        answer.problem(429, "rate_limited");
        let wait: u32 = answer.header("retry-after").parse().expect("whole seconds");
        assert!((1..=60).contains(&wait), "{answer}");
        assert!(answer.header("ratelimit-policy").contains("q=5"), "{answer}");
        assert!(answer.header("ratelimit").contains("r=0"), "{answer}");
    }
    calm.get("/v1/cart").await.ok();

    for ask in [nobody.ask("POST", "/v1/guests"), calm.ask("POST", "/v1/guests/renew")] {
        let asks = (0..100).map(|_| ask.clone().into_future());
        let answers = futures_util::future::join_all(asks).await;
        let limited: Vec<_> = answers.iter().filter(|answer| answer.status != 201).collect();
        assert!(!limited.is_empty(), "a hundred at once from one address are too many");
        for answer in limited {
            assert_json(&answer.problem(429, "rate_limited")["status"], 429.into());
        }
    }
}
