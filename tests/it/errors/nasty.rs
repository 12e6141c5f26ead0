use std::net::SocketAddr;
use std::time::Duration;

use harness::{Caller, Chance, Fleet, fresh_key, shared, unique};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Pieces that have broken parsers, escapes, numbers and databases before.
const NASTY: [&str; 28] = [
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "-0",
    "1e999",
    "-1e999",
    "18446744073709551616",
    "9223372036854775808",
    "0.1",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\u{202e}\u{feff}\u{0}\"",
    "\"' OR 1=1 --\"",
    "\"; DROP TABLE carts\"",
    "\"%00\"",
    "\"../../etc/passwd\"",
    "\"${jndi:ldap://x}\"",
    "\"{{7*7}}\"",
    "\"l_\"",
    "\"c_\"",
    "\"\u{1F6D2}\"",
    "[[[[[[[[]]]]]]]]",
    "{\"\":{\"\":{\"\":{}}}}",
    "\"\\\"\"",
    "1.7976931348623157e308",
    "[1,\"a\",null,{}]",
];

#[track_caller]
fn not_our_fault(answer: &harness::Answer, sent: &str) {
    assert!(answer.status < 500, "{sent}: {answer}");
    if answer.status >= 400 {
        answer.any_problem();
    }
}

#[tokio::test]
async fn no_body_however_wrong_is_our_fault() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let user = fleet.at("sin").user(&unique("user")).await;
    let mut chance = Chance::seeded(1);
    let field = |name: &str, value: &str| format!("\"{name}\":{value}");
    for round in 0..400 {
        let mut of = |known: &str| {
            if chance.once_in(3) { known.to_owned() } else { chance.pick(&NASTY).to_owned() }
        };
        let body = match round % 6 {
            0 => [
                field("item_id", &of(&format!("\"{mug}\""))),
                field("quantity", &of("1")),
                field("variant", &of("{}")),
            ]
            .join(","),
            1 => field(
                "commands",
                &format!("[{{{},{}}}]", field("op", &of("\"clear\"")), field("code", &of("\"A\""))),
            ),
            2 => field("commands", &of("[]")),
            3 => [field("guest_token", &of("\"\"")), field("policy", &of("\"max\""))].join(","),
            4 => field("expected_total", &of("{\"amount\":\"1.00\",\"currency\":\"SGD\"}")),
            _ => field("quantity", &of("1")),
        };
        let body = format!("{{{body}}}");
        let ask = match round % 6 {
            0 => guest.ask("POST", "/v1/cart/items"),
            1 | 2 => guest.ask("POST", "/v1/cart/commands"),
            3 => user.ask("POST", "/v1/cart/merge"),
            4 => guest.ask("POST", "/v1/cart/checkout").header("if-match", "*"),
            _ => guest.ask("PATCH", "/v1/cart/items/l_x"),
        };
        let ask = ask.key(&fresh_key()).header("content-type", "application/json").body(body.clone());
        not_our_fault(&ask.await, &body);
    }
    guest.get("/v1/cart").await.ok();
}

#[tokio::test]
async fn no_depth_or_length_of_json_is_our_fault() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    let guest = fleet.at("bkk").guest("SGD").await;
    for depth in [10, 100, 127, 128, 129, 1000, 30_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let middle = if open == "[" { "" } else { "1" };
            let deep = format!("{}{middle}{}", open.repeat(depth), close.repeat(depth));
            let variant = format!("{{\"item_id\":\"{mug}\",\"quantity\":1,\"variant\":{{\"v\":{deep}}}}}");
            for body in [deep, variant] {
                let ask = guest.post("/v1/cart/items", json!(null)).body(body.clone());
                not_our_fault(&ask.await, &body[..body.len().min(60)]);
            }
        }
    }
    // What was taken can be read again.
    let cart = guest.get("/v1/cart").await;
    cart.ok();
}

#[tokio::test]
async fn no_path_however_encoded_is_our_fault() {
    let fleet = shared();
    let guest = fleet.at("jkt").guest("SGD").await;
    for nasty in [
        "%00",
        "%ff",
        "%c0%af",
        "%2e%2e%2f",
        "%",
        "%zz",
        "%0d%0aX:%20y",
        "a%20b",
        "%F0%9F%9B%92",
        "..;/",
        "*",
        "~",
        "%25",
        "%2F",
        "l_%00",
        &"a".repeat(4000),
        &"%41".repeat(2000),
        "a%00b%00",
        "'%22;--",
        "%E2%80%AE",
    ] {
        for path in [
            format!("/v1/cart/items/{nasty}"),
            format!("/v1/orders/{nasty}"),
            format!("/v1/items/{nasty}"),
            format!("/v1/orders?cursor={nasty}&limit={nasty}"),
            format!("/v1/items?cursor={nasty}"),
            format!("/v1/{nasty}"),
        ] {
            let answer = raw(&guest, fleet, "jkt", "GET", &path, &[]).await;
            assert!(answer.is_none_or(|status| status < 500), "{path}: {answer:?}");
        }
        let path = format!("/v1/cart/coupons/{nasty}");
        for method in ["PUT", "DELETE"] {
            let answer = raw(&guest, fleet, "jkt", method, &path, &[]).await;
            assert!(answer.is_none_or(|status| status < 500), "{method} {path}: {answer:?}");
        }
    }
    guest.get("/v1/cart").await.ok();
}

#[tokio::test]
async fn no_header_however_wrong_is_our_fault() {
    let fleet = shared();
    let guest = fleet.at("bkk").guest("SGD").await;
    for name in [
        "If-Match",
        "If-None-Match",
        "Cart-Version",
        "Cookie",
        "Idempotency-Key",
        "traceparent",
        "Forwarded",
        "X-Forwarded-For",
        "X-Request-Id",
        "Content-Type",
        "Content-Length",
        "Accept",
        "Accept-Encoding",
        "Expect",
        "Transfer-Encoding",
        "Range",
        "Host",
        "Troli-Region",
        "baggage",
        "tracestate",
    ] {
        for value in [
            b"".as_slice(),
            b"\"",
            b"\"\"",
            b",,,,",
            b"\xff\xfe",
            b"*, *",
            b"W/\"",
            b"99999999999999999999.1",
            b"1.-1",
            b"a=b; c",
            b"00-zz-zz-zz",
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
            b"by=;;by=\"",
            b"-1",
            b"999999999999999999999",
            b"identity, chunked",
            b"\x01",
            &[b'a'; 6000],
        ] {
            let answer = raw(&guest, fleet, "bkk", "GET", "/v1/cart", &[(name, value)]).await;
            assert!(answer.is_none_or(|status| status < 500), "{name}: {value:?}: {answer:?}");
        }
    }
    guest.get("/v1/cart").await.ok();
}

#[tokio::test]
async fn what_is_not_http_does_no_harm() {
    let fleet = shared();
    for region in fleet.ids() {
        let address = address(fleet, region);
        for bytes in [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
            b"GET / HTTP/9.9\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /v1/cart HTTP/1.1\r\n\r\n",
            b"\0\0\0\0",
            b"POST /v1/guests HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        ] {
            let status = exchange(address, bytes).await;
            assert!(status.is_none_or(|status| status < 500), "{bytes:?}: {status:?}");
        }
        fleet.at(region).get("/v1/regions").await.ok();
    }
}

fn address(fleet: &Fleet, region: &str) -> SocketAddr {
    fleet.url(region).trim_start_matches("http://").parse().expect("an address")
}

/// A request written by hand, because a client library would refuse to send it. `None` when the connection was
/// closed without an answer.
async fn raw(
    caller: &Caller,
    fleet: &Fleet,
    region: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &[u8])],
) -> Option<u16> {
    let mut request = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
    let token = format!("Bearer {}", caller.token());
    let usual: [(&str, &[u8]); 3] =
        [("Host", b"cart.example"), ("Connection", b"close"), ("Authorization", token.as_bytes())];
    for (name, value) in usual.iter().chain(headers) {
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    exchange(address(fleet, region), &request).await
}

async fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(address).await.expect("the region listens");
    // The other side may hang up while we are still talking.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection hangs after {:?}", String::from_utf8_lossy(bytes));
    let head = String::from_utf8_lossy(&answer);
    head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok())
}
