//! Mistakes that other services take without a word.

use std::net::SocketAddr;

use harness::{Caller, Fleet, FleetOptions, fresh_key, shared, unique};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{assert_json, lines_of};

fn json_body(guest: &Caller, path: &str, body: &str) -> harness::Ask {
    guest.ask("POST", path).key(&fresh_key()).header("content-type", "application/json").body(body)
}

#[tokio::test]
async fn a_list_is_no_object() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    for (path, body, pointer) in [
        ("/v1/cart/items", format!(r#"["{mug}",2,null]"#), "#"),
        ("/v1/cart/commands", r#"[[{"op":"clear"}]]"#.to_owned(), "#"),
        ("/v1/cart/commands", format!(r#"{{"commands":[["add","{mug}",1,null]]}}"#), "#/commands/0"),
        ("/v1/cart/commands", r#"{"commands":[{"op":["clear"]}]}"#.to_owned(), "#/commands/0/op"),
    ] {
        let problem = json_body(&guest, path, &body).await.problem(400, "invalid_input");
        assert_json(&problem["errors"][0]["pointer"], json!(pointer));
    }
    let total = r#"{"expected_total":["1.00","SGD"]}"#;
    let problem = json_body(&guest, "/v1/cart/checkout", total)
        .header("if-match", "*")
        .await
        .problem(400, "invalid_input");
    assert_json(&problem["errors"][0]["pointer"], json!("#/expected_total"));
    let coupon = fleet
        .admin()
        .caller()
        .put(format!("/admin/coupons/{}", unique("L")))
        .json(json!(["percent", "10"]))
        .await;
    coupon.problem(400, "invalid_input");
    assert_json(&guest.cart().await["lines"], json!([]));
}

#[tokio::test]
async fn a_name_is_given_once_at_any_depth() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    let guest = fleet.at("bkk").guest("SGD").await;
    for (body, pointer) in [
        (format!(r#"{{"item_id":"{mug}","quantity":1,"quantity":2}}"#), "#/quantity"),
        (format!(r#"{{"item_id":"{mug}","quantity":1,"variant":{{"a":1,"a":2}}}}"#), "#/variant/a"),
        (
            format!(r#"{{"item_id":"{mug}","quantity":1,"variant":{{"a":[{{"b":1,"\u0062":1}}]}}}}"#),
            "#/variant/a/0/b",
        ),
    ] {
        let problem = json_body(&guest, "/v1/cart/items", &body).await.problem(400, "invalid_input");
        assert_json(&problem["errors"][0]["pointer"], json!(pointer));
    }
    let prices = r#"{"title":"T","stock":1,"prices":{"SGD":"1.00","SGD":"2.00"}}"#;
    let admin = fleet.admin();
    let put = admin
        .caller()
        .put(format!("/admin/items/{}", unique("twice")))
        .header("content-type", "application/json");
    let problem = put.body(prices).await.problem(400, "invalid_input");
    assert_json(&problem["errors"][0]["pointer"], json!("#/prices/SGD"));
}

#[tokio::test]
async fn a_number_in_a_variant_is_its_digits() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let serials = ["123456789012345678901234", "123456789012345678901235", "1", "1.0"];
    for serial in serials {
        let body = format!(r#"{{"item_id":"{mug}","quantity":1,"variant":{{"serial":{serial}}}}}"#);
        json_body(&guest, "/v1/cart/items", &body).await.ok();
    }
    let cart = guest.at(fleet.url("sin")).get("/v1/cart").await;
    assert_eq!(lines_of(&cart.ok()).len(), serials.len());
    let text = String::from_utf8(cart.body).expect("JSON is UTF-8");
    for serial in serials {
        assert!(text.contains(&format!(r#""variant":{{"serial":{serial}}}"#)), "{text}");
    }
    let body = format!(r#"{{"item_id":"{mug}","quantity":1,"variant":{{"serial":1e400}}}}"#);
    json_body(&guest, "/v1/cart/items", &body).await.problem(400, "invalid_input");
}

#[tokio::test]
async fn a_variant_is_refused_where_it_is_too_deep() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let add = |lists: usize| {
        let variant = format!(r#"{{"v":{}{}}}"#, "[".repeat(lists), "]".repeat(lists));
        json_body(
            &guest,
            "/v1/cart/items",
            &format!(r#"{{"item_id":"{mug}","quantity":1,"variant":{variant}}}"#),
        )
    };
    add(15).await.ok();
    let problem = add(16).await.problem(400, "variant_too_deep");
    assert_json(&problem["errors"][0]["pointer"], json!("#/variant"));
    for lists in [60, 124, 1000, 10_000] {
        add(lists).await.problem(400, "json_too_deep");
    }
}

#[tokio::test]
async fn a_query_has_known_parameters_and_cursors_of_ours() {
    let (fleet, pin) = (shared(), unique("pin"));
    fleet.admin().sell(&pin, "1.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    guest.add(&pin, 1).await.ok();
    guest.checkout().await.is(201);
    for path in [
        "/v1/cart?regoin=jkt",
        "/v1/orders?state=paid",
        "/v1/items?page=2",
        "/v1/cart/count?x",
        "/v1/regions?x=1",
    ] {
        let problem = guest.get(path).await.problem(400, "parameter_unknown");
        assert!(problem.get("errors").is_none(), "{problem:#}");
    }
    for path in ["/v1/orders?cursor=zzz", "/v1/items?cursor=zzz", "/v1/orders?cursor=%00"] {
        guest.get(path).await.problem(400, "cursor_malformed");
    }
    let first = guest.get("/v1/orders?limit=1&cursor=").await.ok();
    assert_json(&first, guest.get("/v1/orders?limit=1").await.ok());
    assert_eq!(first["orders"].as_array().map(Vec::len), Some(1));
    let items = fleet.at("jkt").get("/v1/items?limit=1").await.ok();
    if let Some(cursor) = items["next_cursor"].as_str() {
        guest.get(format!("/v1/orders?cursor={cursor}")).await.problem(400, "cursor_malformed");
    }
    guest.get("/v1/items?limit=1&limit=2").await.problem(400, "query_malformed");
}

#[tokio::test]
async fn a_body_that_is_encoded_is_refused() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    let guest = fleet.at("sin").guest("SGD").await;
    for wrong in ["gzip", "br", "identity, gzip"] {
        guest
            .add(&mug, 1)
            .header("content-encoding", wrong)
            .await
            .problem(415, "content_encoding_unsupported");
    }
    guest.add(&mug, 1).header("content-encoding", "identity").await.ok();
}

#[tokio::test]
async fn a_coupon_is_read_as_money_is() {
    let admin = shared().admin();
    let put = |value: &str| {
        admin
            .caller()
            .put(format!("/admin/coupons/{}", unique("C")))
            .json(json!({ "kind": "percent", "value": value }))
    };
    for wrong in ["1_0", "1e1", "+19.90", "", " 10", "10%", "0", "100.01", "12.345", "-5"] {
        let problem = put(wrong).await.problem(400, "invalid_input");
        assert_json(&problem["errors"][0]["pointer"], json!("#/value"));
    }
    put("12.5").await.ok();
    let of = |more: serde_json::Value| {
        let mut coupon = json!({ "kind": "percent", "value": "10" });
        coupon.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        admin.caller().put(format!("/admin/coupons/{}", unique("C"))).json(coupon)
    };
    of(json!({ "redemptions_max": 0 })).await.problem(400, "invalid_input");
    let kept = of(json!({ "ends_at": "9999-12-31T23:59:59Z" })).await.ok();
    assert_json(&kept["ends_at"], json!("9999-12-31T23:59:59Z"));
    let problem = of(json!({ "ends_at": "soon" })).await.problem(400, "invalid_input");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("RFC 3339")), "{problem:#}");
    let amount = json!({ "kind": "amount", "value": "1.234", "currency": "SGD" });
    let problem = admin
        .caller()
        .put(format!("/admin/coupons/{}", unique("C")))
        .json(amount)
        .await
        .problem(400, "invalid_input");
    assert!(!problem["detail"].as_str().unwrap_or_default().contains("percent"), "{problem:#}");
}

#[tokio::test]
async fn a_refused_command_of_a_batch_is_named_by_its_place() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let nope = json!({ "op": "add", "item_id": unique("nope"), "quantity": 1 });
    let add = json!({ "op": "add", "item_id": mug, "quantity": 1 });
    let batch = guest.post("/v1/cart/commands", json!({ "commands": [add, nope, add] })).await;
    let problem = batch.problem(404, "item_unknown");
    assert_json(&problem["errors"][0]["pointer"], json!("#/commands/1"));
    let alone = guest.add(&unique("nope"), 1).await.problem(404, "item_unknown");
    assert_json(&alone["errors"][0]["pointer"], json!("#/item_id"));
    assert_json(&guest.cart().await["lines"], json!([]));
}

#[tokio::test]
async fn messages_are_in_the_words_of_a_shop() {
    let guest = shared().at("jkt").guest("SGD").await;
    let user = shared().at("jkt").user(&unique("user")).await;
    for (caller, path, body) in [
        (&guest, "/v1/cart/items", r#"[1]"#),
        (&guest, "/v1/cart/items", r#"{"item_id":"a","quantity":5000000000}"#),
        (&guest, "/v1/cart/items", r#"{"item_id":"a","quantity":50000000000000000000}"#),
        (&guest, "/v1/cart/items", r#"{"item_id":"a","quantity":1,"variant":7}"#),
        (&guest, "/v1/cart/commands", r#"{"commands":[{"op":"min"}]}"#),
        (&guest, "/v1/cart/checkout", r#"{"expected_total":"1.00"}"#),
        (&user, "/v1/cart/merge", r#"{"guest_token":"x","policy":"min"}"#),
    ] {
        let problem = json_body(caller, path, body).header("if-match", "*").await.any_problem();
        let detail = problem["detail"].as_str().unwrap_or_default();
        for foreign in
            ["struct", "variant `", "MoneyView", "AddItem", "a map", "i64", "integer `", "at line 1 column"]
        {
            assert!(!detail.contains(foreign), "{detail}");
        }
    }
    // There is no body that a pointer could point into.
    for answer in [guest.delete("/v1/cart/items/%20"), guest.put("/v1/cart/coupons/%20")] {
        assert!(answer.await.any_problem().get("errors").is_none());
    }
}

async fn ask(address: SocketAddr, head: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.expect("somebody listens");
    stream.write_all(head.as_bytes()).await.expect("it takes a request");
    let mut answer = Vec::new();
    // A server that has not read all may reset the connection after its answer.
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer);
    let status = text
        .strip_prefix("HTTP/1.1 ")
        .or(text.strip_prefix("HTTP/1.0 "))
        .and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no answer to {head:?}: {text}"));
    assert!(status < 400 || text.contains("application/problem+json"), "{text}");
    status
}

#[tokio::test]
async fn a_request_says_once_which_host_it_is_for_and_who_asks() {
    let options = FleetOptions { front_door: true, regions: vec!["sin", "jkt"], ..FleetOptions::default() };
    let fleet = Fleet::start(options).await;
    let doors = [fleet.url("jkt"), fleet.front_door_url()];
    let guest = fleet.at("jkt").guest("SGD").await;
    let token = format!("Authorization: Bearer {}\r\n", guest.token());
    for door in doors {
        let address: SocketAddr = door.trim_start_matches("http://").parse().expect("an address");
        for (headers, status) in [
            ("Host: cart.example\r\n", 200),
            ("Host: [::1]:8080\r\n", 200),
            ("", 400),
            ("Host: a\r\nHost: a\r\n", 400),
            ("Host: a b\r\n", 400),
            ("Host: a/b\r\n", 400),
            ("Host: u@a\r\n", 400),
            ("Host: a:b\r\n", 400),
            ("Host:\r\n", 400),
        ] {
            let head = format!("GET /v1/regions HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
            assert_eq!(ask(address, &head).await, status, "{door}: {headers:?}");
        }
        let twice = format!("GET /v1/cart HTTP/1.1\r\nHost: a\r\n{token}{token}Connection: close\r\n\r\n");
        assert_eq!(ask(address, &twice).await, 400, "{door}");
        let once = format!(
            "GET /v1/cart HTTP/1.1\r\nHost: a\r\n{token}Troli-Deadline-Ms: 0\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(ask(address, &once).await, 200, "{door}");
    }
}

#[tokio::test]
async fn what_is_refused_below_the_router_is_a_problem_too() {
    let options = FleetOptions { front_door: true, regions: vec!["sin", "jkt"], ..FleetOptions::default() };
    let fleet = Fleet::start(options).await;
    let lines: String = (0..101).map(|n| format!("X-{n}: a\r\n")).collect();
    let large = format!("Cookie: a={}\r\n", "x".repeat(200_000));
    for door in [fleet.url("jkt"), fleet.front_door_url()] {
        let address: SocketAddr = door.trim_start_matches("http://").parse().expect("an address");
        for (head, status) in [
            (format!("GET /v1/regions HTTP/1.1\r\nHost: a\r\n{lines}\r\n"), 431),
            (format!("GET /v1/regions HTTP/1.1\r\nHost: a\r\n{large}\r\n"), 431),
            ("NONSENSE\r\n\r\n".to_owned(), 400),
            ("GET /v1/regions HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n".to_owned(), 400),
        ] {
            assert_eq!(ask(address, &head).await, status, "{door}: {}", &head[..40.min(head.len())]);
        }
    }
    fleet.at("jkt").get("/docs/nope").await.problem(404, "route_unknown");
}
