//! Pages of other origins: what a browser is told of every route, at a region and through the front door.

use harness::{Answer, Caller, Fleet, FleetOptions};

const SHOP: &str = "https://shop.example";
const DEVELOPER: &str = "http://localhost:5173";
/// Every path of the public API with its methods.
const ROUTES: [(&str, &[&str]); 14] = [
    ("/v1/guests", &["POST"]),
    ("/v1/cart", &["GET"]),
    ("/v1/cart/count", &["GET"]),
    ("/v1/cart/items", &["POST", "DELETE"]),
    ("/v1/cart/items/l_x", &["GET", "PATCH", "DELETE"]),
    ("/v1/cart/coupons/X", &["PUT", "DELETE"]),
    ("/v1/cart/commands", &["POST"]),
    ("/v1/cart/merge", &["POST"]),
    ("/v1/cart/checkout", &["POST"]),
    ("/v1/orders", &["GET"]),
    ("/v1/orders/o_x", &["GET"]),
    ("/v1/items", &["GET"]),
    ("/v1/items/x", &["GET"]),
    ("/v1/regions", &["GET"]),
];

async fn fleet() -> Fleet {
    let origins = format!("{SHOP},http://localhost:*");
    let options = FleetOptions {
        regions: vec!["sin"],
        front_door: true,
        settings: vec![("TROLI_CORS_ORIGINS", origins)],
        ..FleetOptions::default()
    };
    Fleet::start(options).await
}

fn doors(fleet: &Fleet) -> [Caller; 2] {
    [fleet.at("sin"), fleet.front_door()]
}

async fn preflight(door: &Caller, path: &str, origin: &str, method: &str) -> Answer {
    door.ask("OPTIONS", path)
        .header("origin", origin)
        .header("access-control-request-method", method)
        .header("access-control-request-headers", "authorization,idempotency-key,if-match")
        .await
}

fn words<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    answer.header(name).split(',').map(str::trim).collect()
}

#[track_caller]
fn says_nothing_of_origins(answer: &Answer) {
    let names: Vec<_> =
        answer.headers.keys().filter(|name| name.as_str().starts_with("access-control")).collect();
    assert!(names.is_empty(), "{answer}");
}

#[tokio::test]
async fn every_route_answers_a_preflight_request_with_its_methods() {
    let fleet = fleet().await;
    for door in doors(&fleet) {
        for (path, methods) in ROUTES {
            for origin in [SHOP, DEVELOPER] {
                let answer = preflight(&door, path, origin, methods[0]).await;
                assert_eq!((answer.status, answer.body.len()), (204, 0), "{answer}");
                assert_eq!(answer.header("access-control-allow-origin"), origin);
                assert_eq!(answer.header("access-control-allow-credentials"), "true");
                assert_eq!(answer.header("access-control-max-age"), "7200");
                assert_eq!(answer.header("vary"), "Origin");
                let allowed = words(&answer, "access-control-allow-methods");
                for method in methods {
                    assert!(allowed.contains(method), "{method} {path}: {answer}");
                }
                for name in ["authorization", "content-type", "idempotency-key", "if-match", "cart-version"] {
                    assert!(words(&answer, "access-control-allow-headers").contains(&name), "{answer}");
                }
            }
            let stranger = preflight(&door, path, "https://evil.example", methods[0]).await;
            says_nothing_of_origins(&stranger);
        }
    }
}

#[tokio::test]
async fn a_page_may_read_answers_and_problems_with_their_headers() {
    let fleet = fleet().await;
    for door in doors(&fleet) {
        let guest = door.guest("SGD").await;
        for (path, status) in [("/v1/cart", 200), ("/v1/orders/o_x", 404), ("/v1/nowhere", 404)] {
            let answer = guest.get(path).header("origin", SHOP).await;
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("access-control-allow-origin"), SHOP);
            for name in ["cart-version", "etag", "cart-region", "server-timing", "retry-after", "ratelimit"] {
                assert!(words(&answer, "access-control-expose-headers").contains(&name), "{answer}");
            }
            for origin in ["https://evil.example", "null", "http://localhost.evil.example", "*"] {
                let stranger = guest.get(path).header("origin", origin).await;
                assert_eq!(stranger.status, status);
                says_nothing_of_origins(&stranger);
            }
            let none = guest.get(path).await;
            says_nothing_of_origins(&none);
            let varies = none
                .headers
                .get_all("vary")
                .iter()
                .any(|line| line.to_str().is_ok_and(|v| v.contains("Origin")));
            assert!(varies, "a cache keeps one for each origin: {none}");
        }
    }
    let unknown = fleet.front_door().get("/v1/items?region=mars").header("origin", SHOP).await;
    unknown.problem(400, "region_unknown");
    assert_eq!(unknown.header("access-control-allow-origin"), SHOP);
}

#[tokio::test]
async fn nobody_may_call_from_another_origin_unless_it_is_configured() {
    let door = harness::shared().at("sin");
    let answer = door.get("/v1/items?limit=1").header("origin", SHOP).await;
    says_nothing_of_origins(&answer);
    let preflight = preflight(&door, "/v1/cart", SHOP, "GET").await;
    preflight.problem(405, "method_not_allowed");
    says_nothing_of_origins(&preflight);
}
