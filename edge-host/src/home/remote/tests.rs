use region_router::traces::Place;

use super::*;

#[tokio::test]
async fn a_request_says_who_forwards_it_how_long_there_is_and_of_which_trace_it_is() {
    let region = "jkt".parse().expect("a region");
    let known = KnownEpoch::default();
    known.learn(3);
    let requests = Requests::new("sin.troli.internal", region, known);
    let trace = HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let incoming = HeaderMap::from_iter([("traceparent".parse().expect("a name"), trace.clone())]);
    let made = async { requests.make(&Question::get(Topic::Catalogue), 1, Duration::from_millis(250)) };
    let request = traces::at(Place::of_request(&incoming, false), made).await;
    assert_eq!(request.uri(), "https://sin.troli.internal/peer/v1/catalogue");
    assert_eq!(request.headers()["traceparent"], trace);
    assert_eq!(wire::patience(request.headers()), Some(Duration::from_millis(250)));
    assert_eq!(wire::epoch(request.headers()), Some(3));
    assert!(wire::was_forwarded(request.headers()));
}

#[test]
fn only_what_another_edge_may_do_better_is_asked_again() {
    let told = |error: &CartError| {
        (StatusCode::UNPROCESSABLE_ENTITY, serde_json::to_vec(error).expect("JSON").into())
    };
    for (answer, again) in [
        (told(&CartError::HomeUnavailable), true),
        ((StatusCode::SERVICE_UNAVAILABLE, Bytes::new()), true),
        (told(&CartError::CartMerged), false),
        (told(&CartError::KeyReused), false),
        ((StatusCode::LOOP_DETECTED, Bytes::new()), false),
        ((StatusCode::OK, Bytes::new()), false),
        ((StatusCode::NOT_FOUND, Bytes::new()), false),
    ] {
        assert_eq!(refusal(&answer).is_some(), again, "{answer:?}");
    }
}

#[test]
fn each_word_of_home_arrives_and_one_of_a_later_version_means_that_it_cannot_now() {
    let refused = |status: StatusCode, body: &str| error_of(&(status, Bytes::from(body.to_owned())));
    let (busy, failed) = (StatusCode::SERVICE_UNAVAILABLE, StatusCode::UNPROCESSABLE_ENTITY);
    for (status, body, expected) in [
        (busy, "\"busy\"", CartError::Busy),
        (busy, "\"out_to_lunch\"", CartError::Overloaded),
        (busy, "{\"code\":\"overloaded\"}", CartError::Overloaded),
        (busy, "", CartError::Overloaded),
        (failed, "\"home_unavailable\"", CartError::HomeUnavailable),
        (failed, "\"out_to_lunch\"", CartError::Overloaded),
        (failed, "{\"out_of_paper\":{\"sheets\":0}}", CartError::Overloaded),
    ] {
        assert_eq!(refused(status, body), expected, "{status} {body}");
    }
    assert!(matches!(refused(failed, "<html>"), CartError::Internal(_)));
}

#[test]
fn one_cart_leaves_room_for_others_and_reads_leave_room_for_writes() {
    let (reads, writes) = (Forwards::default(), Forwards::default());
    let noisy: Vec<_> = (0..FORWARDS_OF_ONE_CART_MAX).map(|_| reads.enter("noisy").expect("room")).collect();
    assert!(matches!(reads.enter("noisy"), Err(CartError::Busy)));
    let left = FORWARDS_OF_A_KIND_MAX - noisy.len();
    let others: Vec<_> = (0..left).map(|n| reads.enter(&format!("c_{n}")).expect("room")).collect();
    assert!(matches!(reads.enter("one more"), Err(CartError::Overloaded)));
    assert!(writes.enter("noisy").is_ok());
    drop((noisy, others));
    assert!(reads.enter("noisy").is_ok());
}
