//! Regions of two versions talk to each other. What the version before has said is recorded in
//! `tests/fixtures/peer-v0`.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use edge_host::clock::Clock;
use edge_host::epoch::KnownEpoch;
use edge_host::error::CartError;
use edge_host::home::HomeRegion;
use edge_host::home::remote::RemoteHome;
use edge_host::model::{
    CartCommand, CartState, Change, FeedPosition, Operation, OrderState, OwnerKind, Principal, WriteRequest,
};
use edge_host::peers::{PeerFiles, PeerTls};
use harness::{Caller, Fleet, FleetOptions, eventually, peer_ca, repository, scratch};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use region_router::discovery::{Discovery, Dns};
use region_router::topology::Targets;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Fields whose values are new in every run: what they mean shows in their type.
const OF_THE_RUN: [&str; 16] = [
    "body",
    "location",
    "order_id",
    "id",
    "placed_at",
    "db_us",
    "rules_us",
    "view_digest",
    "rules",
    "revision",
    "beat",
    "current_version",
    "detail",
    "document",
    "seq",
    "since_ms",
];

/// Fields that the version before has done without.
const DISPENSABLE: [&str; 1] = ["view_digest"];

#[derive(Clone, Deserialize)]
struct Exchange {
    name: String,
    path: String,
    request: Value,
    status: u16,
    answer: Value,
}

fn recorded() -> Vec<Exchange> {
    let directory = repository().join("tests/fixtures/peer-v0");
    let files = fs::read_dir(directory).expect("the recordings are there");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        serde_json::from_slice(&fs::read(path).expect("a file can be read")).expect("a recording")
    };
    let recorded: Vec<Exchange> = paths.iter().map(read).collect();
    assert!(recorded.len() > 20, "{}", recorded.len());
    recorded
}

/// Everything that was said then is said now, and means the same; more may be said.
#[track_caller]
fn covers(found: &Value, then: &Value, at: &str) {
    match (found, then) {
        // An optional field: a reader that takes null takes a value as well.
        (_, Value::Null) => {}
        // A public document, which has a contract of its own.
        _ if at.ends_with("/document") => assert!(found.is_object(), "{at}: {found}"),
        (Value::Object(found), Value::Object(then)) => {
            for (name, then) in then.iter().filter(|(name, _)| !DISPENSABLE.contains(&name.as_str())) {
                let found = found.get(name).unwrap_or_else(|| panic!("{at}/{name} is not said any more"));
                covers(found, then, &format!("{at}/{name}"));
            }
        }
        (Value::Array(found), Value::Array(then)) => {
            assert_eq!(found.len(), then.len(), "{at}: {found:?}");
            found
                .iter()
                .zip(then)
                .enumerate()
                .for_each(|(n, (found, then))| covers(found, then, &format!("{at}/{n}")));
        }
        _ => {
            let name = at.rsplit('/').find(|part| part.parse::<usize>().is_err()).unwrap_or_default();
            let of_the_run = OF_THE_RUN.contains(&name) || name.ends_with("_at_ms") || name == "at_ms";
            let same_type = std::mem::discriminant(found) == std::mem::discriminant(then);
            assert!(same_type && (of_the_run || found == then), "{at}: {found} in place of {then}");
        }
    }
}

/// Counts differ from run to run; each kind of change must be the same.
#[track_caller]
fn covers_feed(found: &Value, then: &Value, at: &str) {
    let events = |page: &Value| page["events"].as_array().expect("events").clone();
    let kind = |event: &Value| event["change"].as_object().expect("a change").keys().next().cloned();
    for then in events(then) {
        let told = events(found).into_iter().find(|event| kind(event) == kind(&then));
        let told = told.unwrap_or_else(|| panic!("{at}: nothing like {then}"));
        let (told, then) = (&told["change"], &then["change"]);
        for (name, record) in then.as_object().expect("a change") {
            for field in record.as_object().expect("a record").keys() {
                assert!(told[name].get(field).is_some(), "{at}: {name} has no {field} any more: {told}");
            }
        }
    }
    for field in then.as_object().expect("a page").keys() {
        assert!(found.get(field).is_some(), "{at}/{field} is not said any more");
    }
}

/// The goods and coupons that were there when the words were recorded.
async fn stock(fleet: &Fleet) {
    let kaya = json!({ "title": "Kaya coconut jam 400 g", "prices": { "SGD": "3.80", "VND": "80000" }, "stock": 100,
        "quantity_max": 9, "tax_class": "zero", "tags": ["jam", "mega"] });
    fleet.admin().put_item("KAYA-400G", kaya).await;
    let tea = json!({ "title": "Tea", "prices": { "SGD": "4.50" }, "stock": 3 });
    fleet.admin().put_item("TEA-20", tea).await;
    let ten = json!({ "kind": "percent", "value": "10", "starts_at": "2026-01-01T00:00:00Z",
        "ends_at": "2099-01-01T00:00:00Z", "redemptions_max": 50 });
    fleet.admin().put_coupon("TEN", ten).await;
    let five = json!({ "kind": "amount", "value": "5.00", "currency": "SGD" });
    fleet.admin().put_coupon("FIVE", five).await;
}

#[tokio::test]
async fn an_edge_of_the_version_before_is_answered_in_its_words() {
    let fleet = Fleet::start(FleetOptions { regions: vec!["sin", "jkt"], ..FleetOptions::default() }).await;
    stock(&fleet).await;
    let jkt = fleet.peer("sin", Some(&peer_ca().region("jkt")));
    assert_eq!(jkt.get("/internal/hello").await.status, 204);
    let mut order_id = Value::Null;
    for Exchange { name, path, request, status, answer } in recorded() {
        // The order's name is that of this run.
        let request = match name.as_str() {
            "orders_before" => json!([request[0], order_id, request[2]]),
            "order" => json!([request[0], order_id]),
            _ => request,
        };
        let found = ask(&jkt, &path, &request).await;
        assert_eq!(found.status, status, "{name}: {found}");
        if path.ends_with("/feed") {
            covers_feed(&found.json(), &answer, &name);
        } else {
            covers(&found.json(), &answer, &name);
        }
        if name == "orders" {
            order_id = found.json()[0]["order_id"].clone();
        }
    }
}

async fn ask(jkt: &Caller, path: &str, body: &Value) -> harness::Answer {
    match body {
        Value::Null => jkt.get(path).await,
        body => jkt.ask("POST", path).json(body.clone()).await,
    }
}

/// A home that knows only what was recorded; `later` makes it one of the version after this, whose hello has fields that
/// this version does not know.
async fn home(later: bool) -> (RemoteHome, tempfile::TempDir) {
    let directory = scratch("version");
    let [certificate, key, ca] = peer_ca().write("sin", directory.path()).map(|(_, path)| path.into());
    let (sin, jkt) = ("sin".parse().expect("a region"), "jkt".parse().expect("a region"));
    let tls = PeerTls::load(sin, PeerFiles { certificate, key, ca }).expect("certificates that fit");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("any port can be listened on");
    let address = listener.local_addr().expect("an address");
    let recorded = Arc::new(recorded());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let (acceptor, recorded) = (TlsAcceptor::from(tls.server()), Arc::clone(&recorded));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request| say(Arc::clone(&recorded), later, request));
                // It ends when the test does.
                let _ = http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (remote(jkt, sin, address, directory.path()), directory)
}

fn remote(
    jkt: region_router::topology::RegionId,
    sin: region_router::topology::RegionId,
    address: SocketAddr,
    directory: &std::path::Path,
) -> RemoteHome {
    let [certificate, key, ca] = peer_ca().write("jkt", directory).map(|(_, path)| path.into());
    let tls = PeerTls::load(jkt, PeerFiles { certificate, key, ca }).expect("certificates that fit");
    let at: Targets = address.to_string().parse().expect("targets");
    let (found, clock) = (Discovery::start(&at, &Dns::system()), Clock::of_database(0));
    RemoteHome::start(sin, found, jkt, Arc::new(tls), KnownEpoch::default(), clock)
}

async fn say(
    recorded: Arc<Vec<Exchange>>,
    later: bool,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.expect("a whole body").to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answer = |status: u16, body: &Value| {
        let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
        *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
        Ok(answer)
    };
    if later && path == "/peer/v1/hello" {
        let hello = json!({ "version": 7, "ready": true, "writes": true, "reasons": [], "moon": "full" });
        return answer(200, &hello);
    }
    let known = if later { "/peer/v1/" } else { "/internal/" };
    let Some(topic) = path.strip_prefix(known) else {
        return answer(404, &json!({ "code": "route_unknown" }));
    };
    let of_topic =
        || recorded.iter().filter(|exchange| exchange.path.strip_prefix("/internal/") == Some(topic));
    let exactly = |exchange: &&Exchange| named(&exchange.request) == asked || exchange.request == asked;
    let with_more_words =
        |exchange: &&Exchange| says(&asked, &named(&exchange.request)) || says(&asked, &exchange.request);
    match of_topic().find(exactly).or_else(|| of_topic().find(with_more_words)) {
        Some(exchange) if later => answer(exchange.status, &with_more(&exchange.answer)),
        Some(exchange) => answer(exchange.status, &exchange.answer),
        None => answer(500, &json!({ "asked": asked })),
    }
}

/// Whether all that was asked is asked.
fn says(asked: &Value, then: &Value) -> bool {
    match (asked, then) {
        (_, Value::Null) => true,
        (Value::Object(asked), Value::Object(then)) => {
            then.iter().all(|(name, then)| asked.get(name).is_some_and(|asked| says(asked, then)))
        }
        (Value::Array(asked), Value::Array(then)) => {
            asked.len() == then.len() && asked.iter().zip(then).all(|(asked, then)| says(asked, then))
        }
        (asked, then) => asked == then,
    }
}

/// A question of version 0 in the words of version 1.
fn named(request: &Value) -> Value {
    match request.as_array().map(Vec::as_slice) {
        Some([owner, before, limit]) => json!({ "owner": owner, "before": before, "limit": limit }),
        Some([owner, order_id]) if order_id.is_string() && owner.is_object() => {
            json!({ "owner": owner, "order_id": order_id })
        }
        Some([after, wait_ms]) if wait_ms.is_number() => json!({ "after": after, "wait_ms": wait_ms }),
        _ => request.clone(),
    }
}

/// The same, with fields in every record that only a later version knows, and a change of a kind that only it knows.
fn with_more(answer: &Value) -> Value {
    match answer {
        // A map of prices, and a word of an enumeration, have names of their own.
        Value::Object(fields) if fields.contains_key("SGD") || fields.len() == 1 => answer.clone(),
        Value::Object(fields) => {
            let mut more: serde_json::Map<_, _> =
                fields.iter().map(|(name, value)| (name.clone(), with_more(value))).collect();
            if let Some(Value::Array(events)) = more.get_mut("events") {
                events.push(json!({ "seq": 999, "at_ms": 1, "change": { "moon": { "phase": "full" } } }));
            }
            more.insert("of_a_later_version".to_owned(), json!({ "moon": ["full"] }));
            Value::Object(more)
        }
        Value::Array(elements) => elements.iter().map(with_more).collect(),
        other => other.clone(),
    }
}

fn siti() -> Principal {
    let currency = serde_json::from_value(json!("SGD")).expect("a currency");
    Principal { kind: OwnerKind::User, id: "siti".to_owned(), currency: Some(currency) }
}

fn request(key: &str, commands: Vec<CartCommand>) -> WriteRequest {
    WriteRequest {
        principal: siti(),
        operation: Operation::Commands(commands),
        idempotency_key: key.to_owned(),
        key_made: false,
        if_match: None,
        route: None,
    }
}

async fn understands(home: &RemoteHome) {
    let patience = Duration::ZERO;
    eventually("it is connected", async || home.edges_serving() == Some(1)).await;
    assert_eq!(home.refusal(), None);
    let add = CartCommand::Add {
        item_id: "KAYA-400G".to_owned(),
        quantity: 2,
        variant: r#"{"size":"M"}"#.to_owned(),
    };
    let reply = home.write(request("k1", vec![add])).await.expect("it is done");
    let record = reply.record.expect("a cart");
    assert_eq!(
        (reply.answer.status, reply.answer.version.to_string().as_str(), reply.replayed),
        (200, "1.1", false)
    );
    assert_eq!((record.state, record.cart.lines[0].quantity), (CartState::Active, 2));
    assert_eq!(record.cart.lines[0].variant, r#"{"size":"M"}"#);

    let reused = home.write(request("k1", vec![CartCommand::Clear])).await;
    assert!(matches!(reused, Err(CartError::KeyReused)), "{reused:?}");
    let unknown = CartCommand::Add { item_id: "NOPE".to_owned(), quantity: 1, variant: String::new() };
    let rejected = home.write(request("k4", vec![unknown])).await;
    assert!(
        matches!(&rejected, Err(CartError::Rejected(why)) if why[0].code == "item_unknown"),
        "{rejected:?}"
    );

    let cart = home.cart(&siti()).await.expect("a cart");
    assert_eq!(cart.cart.lines.len(), 1);
    let orders = home.orders(&siti(), None, 3).await.expect("orders");
    assert_eq!((orders.len(), orders[0].state), (1, OrderState::PendingPayment));
    let order = home.order(&siti(), &orders[0].order_id).await.expect("an order");
    assert_eq!(order, orders[0]);
    let none = home.order(&siti(), "o_nope").await;
    assert!(matches!(none, Err(CartError::OrderUnknown(_))), "{none:?}");
    let items = home.items(&["KAYA-400G".to_owned(), "NOPE".to_owned()]).await.expect("items");
    assert_eq!((items.len(), items[0].quantity_max, items[0].tax_zero), (1, Some(9), true));
    let catalogue = home.catalogue().await.expect("a catalogue");
    assert_eq!((catalogue.items.len(), catalogue.coupons.len()), (2, 2));
    let page = home.feed(Some(&FeedPosition::at(0)), patience).await.expect("a page");
    let carts = page.events.iter().filter(|event| matches!(event.change, Change::Cart { .. })).count();
    let items = page.events.iter().filter(|event| matches!(event.change, Change::Item(_))).count();
    assert!(carts > 0 && items > 0, "{page:?}");
}

#[tokio::test]
async fn an_edge_asks_a_home_of_the_version_before_in_its_words() {
    let (home, _directory) = home(false).await;
    understands(&home).await;
}

#[tokio::test]
async fn an_edge_ignores_what_only_a_home_of_the_version_after_knows() {
    let (home, _directory) = home(true).await;
    understands(&home).await;
    let page = home.feed(Some(&FeedPosition::at(0)), Duration::ZERO).await.expect("a page");
    assert!(matches!(page.events.last().map(|event| &event.change), Some(Change::Later(_))), "{page:?}");
}

/// Answers under keys, and changes in the outbox, outlive the version that has written them.
#[tokio::test]
async fn what_the_version_before_has_stored_can_be_read() {
    let mut read = 0;
    for exchange in recorded() {
        if let answer @ Value::Object(_) = &exchange.answer["answer"] {
            let stored: edge_host::model::KeptAnswer =
                serde_json::from_str(&answer.to_string()).expect("an answer");
            covers(&serde_json::to_value(&stored).expect("JSON"), answer, &exchange.name);
            read += 1;
        }
        for event in exchange.answer["events"].as_array().into_iter().flatten() {
            let change: Change = serde_json::from_str(&event["change"].to_string()).expect("a change");
            assert!(!matches!(change, Change::Later(_)), "{event}");
            covers(&serde_json::to_value(&change).expect("JSON"), &event["change"], &exchange.name);
            read += 1;
        }
    }
    assert!(read > 10, "{read}");
}
