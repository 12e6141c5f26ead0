//! Traces and log lines of the real executables, and that no secret is in them.

use std::collections::BTreeMap;

use harness::{Collector, TracedSpan};

use super::*;

/// What an edge says in its log about requests of this trace.
fn lines(state: &Path, edge: &str, trace: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(state.join("log").join(format!("{edge}.log"))).expect("it has a log");
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["trace.id"] == trace).collect()
}

/// A trace as an indented tree: who, which side, what.
fn tree(spans: &[TracedSpan]) -> Vec<String> {
    let mut of_parent: BTreeMap<&str, Vec<&TracedSpan>> = BTreeMap::new();
    for span in spans {
        let parent =
            spans.iter().find(|other| other.id == span.parent).map_or("", |parent| parent.id.as_str());
        of_parent.entry(parent).or_default().push(span);
    }
    fn walk(
        of_parent: &BTreeMap<&str, Vec<&TracedSpan>>,
        parent: &str,
        depth: usize,
        written: &mut Vec<String>,
    ) {
        for span in of_parent.get(parent).into_iter().flatten() {
            let region = span.attribute("cloud.region");
            let place = if region.is_empty() { "front-door" } else { region };
            written.push(format!("{:indent$}{place} {} {}", "", span.kind, span.name, indent = depth * 2));
            walk(of_parent, &span.id, depth + 1, written);
        }
    }
    let mut written = Vec::new();
    walk(&of_parent, "", 0, &mut written);
    written
}

fn parent_of(trace: &str, sampled: bool) -> String {
    format!("00-{trace}-00f067aa0ba902b7-{:02x}", u8::from(sampled))
}

#[tokio::test]
async fn one_trace_goes_from_the_client_to_the_database_and_no_secret_leaves_with_it() {
    let _turn = ONE_FLEET.lock().await;
    executable("edge-host");
    let state = scratch("deploy-up");
    let collector = Collector::start().await;
    let url = collector.url();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
    ];
    let arguments = ["--stack", "servers", "--regions", "sin,jkt", "--fresh", "--quiet"];
    let running = start_with(state.path(), &arguments, &variables).await;
    let door = Caller::new(FRONT_DOOR);
    let item = something_for_sale(&door).await;
    let guest = door.guest("SGD").await.following();
    // Redis learns the scripts, and the cart is there.
    guest.add(&item, 1).header("troli-region", "jkt").await.ok();

    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let written =
        guest.add(&item, 1).header("troli-region", "jkt").header("traceparent", parent_of(trace, true)).await;
    written.ok();
    let expected = [
        "front-door server POST",
        "  front-door client POST",
        "    jkt server POST /v1/cart/items",
        "      jkt client EVALSHA",
        "      jkt client troli.Home/writes",
        "        sin server POST /peer/v1/writes",
        "          sin client UPDATE carts",
        "            sin internal rules apply",
        "            sin internal rules quote",
        "      jkt client EVALSHA",
    ];
    eventually("the whole trace has arrived", async || tree(&collector.trace(trace)) == expected).await;
    let spans = collector.trace(trace);
    assert_eq!(spans[0].parent, "00f067aa0ba902b7", "the client's own span is above all");
    let by_name = |name: &str| spans.iter().find(|span| span.name == name).expect("it is in the tree");
    let edge = by_name("POST /v1/cart/items");
    for (name, value) in [
        ("service.name", "troli-edge-host"),
        ("deployment.environment.name", "test"),
        ("http.request.method", "POST"),
        ("http.route", "/v1/cart/items"),
        ("http.response.status_code", "200"),
        ("troli.operation", "cart.add"),
        ("troli.cart.source", "home"),
    ] {
        assert_eq!(edge.attribute(name), value, "{name}");
    }
    let database = by_name("UPDATE carts");
    assert_eq!(database.attribute("db.system.name"), "mysql");
    assert_eq!(database.attribute("db.query.summary"), "UPDATE carts");
    assert_eq!(by_name("EVALSHA").attribute("db.system.name"), "redis");
    assert_eq!(by_name("troli.Home/writes").attribute("rpc.system.name"), "troli");
    assert_eq!(by_name("POST /peer/v1/writes").attribute("troli.asked_by"), "jkt");
    assert!(!by_name("rules quote").attribute("troli.rules.revision").is_empty());

    let said = lines(state.path(), "edge-jkt", trace);
    let line = said.iter().find(|line| line["event"] == "cart.add").expect("a write has a line");
    assert_eq!(line["span.id"], edge.id.as_str());
    assert_eq!(line["http.status"], 200);
    assert_eq!(line["cart.version"], written.header("cart-version"));
    assert_eq!(line["cart.source"], "home");
    for field in ["principal", "rules.revision", "timing", "request.id", "http.route", "duration_ms"] {
        assert!(!line[field].is_null(), "{field} is missing: {line}");
    }
    assert!(!lines(state.path(), "edge-sin", trace).is_empty(), "home's lines are of the same trace");

    what_fails_is_sent_although_it_is_not_sampled(&guest, &collector).await;
    no_secret_has_left(&door, &item, &collector, state.path()).await;
    running.stop().await;
}

/// Nothing of an ordinary request, and all of one that home cannot be asked for.
async fn what_fails_is_sent_although_it_is_not_sampled(guest: &Caller, collector: &Collector) {
    let quiet = "5bf92f3577b34da6a3ce929d0e0e4736";
    guest.get("/v1/cart?region=jkt").header("traceparent", parent_of(quiet, false)).await.ok();
    let loud = "6bf92f3577b34da6a3ce929d0e0e4736";
    // An edge that is asked by HTTP as if by another region refuses: 508.
    let edge = Caller::new("http://127.0.0.1:8103");
    let looped = edge
        .get("/v1/cart")
        .header("forwarded", "by=_troli-bkk")
        .header("traceparent", parent_of(loud, false));
    looped.await.is(508);
    eventually("the failure has arrived", async || !collector.trace(loud).is_empty()).await;
    let failed = collector.trace(loud);
    assert_eq!(failed[0].attribute("error.type"), "508");
    assert!(collector.trace(quiet).is_empty(), "a request that is not sampled and went well is not sent");
}

/// A trip whose every secret is marked, and a search in everything that has left the processes.
async fn no_secret_has_left(door: &Caller, item: &str, collector: &Collector, state: &Path) {
    let mark = unique("marked").to_ascii_uppercase();
    let (user_id, coupon) = (format!("user-{mark}"), format!("COUPON-{mark}"));
    let (key, variant, wrong) = (format!("key-{mark}"), format!("engraving-{mark}"), format!("wrong-{mark}"));
    let token = door.post("/v1/dev/tokens", json!({ "user_id": user_id })).await;
    let token = token.is(201)["token"].as_str().expect("a token").to_owned();
    let user = door.with_token(&token);
    let trace = "7bf92f3577b34da6a3ce929d0e0e4736";
    let traced = parent_of(trace, true);
    let line = json!({ "item_id": item, "quantity": 1, "variant": { "engraving": variant } });
    let added =
        user.post("/v1/cart/items", line).header("idempotency-key", &key).header("traceparent", &traced);
    added.await.ok();
    let used = user.put(format_args!("/v1/cart/coupons/{coupon}")).header("traceparent", &traced).await;
    assert!((400..500).contains(&used.status), "there is no such coupon: {used}");
    let stranger = door.with_token(&wrong).get("/v1/cart").header("traceparent", &traced).await;
    assert_eq!(stranger.status, 401);
    user.get(format_args!("/v1/items?q={mark}")).header("traceparent", &traced).await;
    user.get(format_args!("/{mark}")).header("traceparent", &traced).await;
    eventually("its spans have arrived", async || {
        tree(&collector.trace(trace)).iter().any(|line| line.contains("PUT /v1/cart/coupons/{code}"))
    })
    .await;
    let admin = std::fs::read_to_string(state.join("admin-token")).expect("there is one");
    let secrets = [user_id.as_str(), &coupon, &key, &variant, &wrong, &token, &mark, admin.trim()];
    for secret in secrets {
        assert!(!collector.has_received(secret), "{secret} is in a trace");
    }
    for entry in std::fs::read_dir(state.join("log")).expect("there are logs").flatten() {
        let log = std::fs::read_to_string(entry.path()).expect("a log can be read");
        for secret in secrets {
            assert!(!log.contains(secret), "{secret} is in {}", entry.path().display());
        }
    }
    for internal in [9101, 9103] {
        let metrics = Caller::new(format!("http://127.0.0.1:{internal}")).get("/metrics").await;
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        assert!(metrics.contains("troli_spans_exported_total"), "the figures of the exporter are there");
        for secret in secrets {
            assert!(!metrics.contains(secret), "{secret} is in the metrics of {internal}");
        }
    }
}
