use std::fmt::Display;
use std::future::{Future, IntoFuture};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::Answer;

/// A caller gives up after this: longer than any deadline of the service.
pub(crate) const CALLER_PATIENCE: Duration = Duration::from_secs(30);

/// Somebody who calls the public API: nobody in particular, a guest, or a user.
///
/// Clones share connections; make one anew in each test, because connections belong to the runtime they were
/// made in.
#[derive(Clone, Debug)]
pub struct Caller {
    http: Client,
    base: String,
    token: Option<String>,
    /// Where it is, for `X-Forwarded-For`.
    address: Option<String>,
    /// The newest version of the cart that was seen, for those who follow it.
    seen: Option<Arc<Mutex<Option<String>>>>,
}

impl Caller {
    /// Nobody, calling this address, such as `http://127.0.0.1:8101`.
    pub fn new(base: impl Into<String>) -> Self {
        edge_host::peers::use_ring();
        let http = Client::builder()
            .no_proxy()
            .timeout(CALLER_PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("an HTTP client can be set up");
        Self::over(http, base)
    }

    /// A caller without a token, from another address of this machine, such as 127.0.0.2.
    pub fn coming_from(address: IpAddr, base: impl Into<String>) -> Self {
        edge_host::peers::use_ring();
        let http = Client::builder()
            .no_proxy()
            .local_address(address)
            .timeout(CALLER_PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("an HTTP client can be set up");
        Self::over(http, base)
    }

    /// Nobody, calling this address by a client that knows how.
    pub(crate) fn over(http: Client, base: impl Into<String>) -> Self {
        Self { http, base: base.into(), token: None, address: None, seen: None }
    }

    /// A new guest with a cart in this currency.
    pub async fn guest(&self, currency: &str) -> Self {
        let asked = self.post("/v1/guests", json!({ "currency": currency }));
        let token = asked.await.is(201)["token"].as_str().map(ToOwned::to_owned);
        assert!(token.is_some(), "a guest gets a token");
        Self { token, ..self.clone() }
    }

    /// A user, by the development tokens.
    pub async fn user(&self, user_id: &str) -> Self {
        let asked = self.post("/v1/dev/tokens", json!({ "user_id": user_id }));
        let token = asked.await.is(201)["token"].as_str().map(ToOwned::to_owned);
        assert!(token.is_some(), "a user gets a token");
        Self { token, ..self.clone() }
    }

    /// The same caller with this token.
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// The token that this caller shows.
    pub fn token(&self) -> &str {
        self.token.as_deref().expect("only guests and users have a token")
    }

    /// The address that this caller calls.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The same caller at another address.
    pub fn at(&self, base: impl Into<String>) -> Self {
        Self { base: base.into(), ..self.clone() }
    }

    /// The same caller, who remembers the newest `Cart-Version` and echoes it, as the contract asks clients
    /// to. Clones made from now on remember together.
    pub fn following(&self) -> Self {
        Self { seen: Some(Arc::default()), ..self.clone() }
    }

    /// The same caller at another place, as a trusted proxy tells it.
    pub fn from_address(&self, address: &str) -> Self {
        Self { address: Some(address.to_owned()), ..self.clone() }
    }

    /// The newest version that was seen.
    pub fn seen(&self) -> Option<String> {
        let seen = self.seen.as_ref()?;
        seen.lock().expect("nobody panics with the lock held").clone()
    }

    /// A request of any method, without a body.
    pub fn ask(&self, method: &str, path: impl Display) -> Ask {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.token {
            let value = HeaderValue::try_from(format!("Bearer {token}")).expect("a token is visible ASCII");
            headers.insert("authorization", value);
        }
        if let Some(address) = &self.address {
            headers.insert("x-forwarded-for", HeaderValue::try_from(address).expect("an address is ASCII"));
        }
        if let Some(seen) = self.seen() {
            headers.insert("cart-version", HeaderValue::try_from(seen).expect("a version is ASCII"));
        }
        Ask { caller: self.clone(), method, path: path.to_string(), headers, body: Vec::new() }
    }

    /// A read.
    pub fn get(&self, path: impl Display) -> Ask {
        self.ask("GET", path)
    }

    /// A write under a new idempotency key.
    pub fn post(&self, path: impl Display, body: impl Into<Value>) -> Ask {
        self.ask("POST", path).header("idempotency-key", fresh_key()).json(body)
    }

    /// A write without an idempotency key.
    pub fn patch(&self, path: impl Display, body: impl Into<Value>) -> Ask {
        self.ask("PATCH", path).json(body)
    }

    /// A write without an idempotency key or a body.
    pub fn put(&self, path: impl Display) -> Ask {
        self.ask("PUT", path)
    }

    /// A write without an idempotency key.
    pub fn delete(&self, path: impl Display) -> Ask {
        self.ask("DELETE", path)
    }

    /// Puts so many of an item in the cart.
    pub fn add(&self, item_id: &str, quantity: u32) -> Ask {
        self.post("/v1/cart/items", json!({ "item_id": item_id, "quantity": quantity }))
    }

    /// The cart as it is now.
    pub async fn cart(&self) -> Value {
        self.get("/v1/cart").await.ok()
    }

    /// Orders the cart as it is now, at its own total.
    pub async fn checkout(&self) -> Answer {
        let cart = self.get("/v1/cart").await;
        let total = cart.ok()["totals"]["total"].clone();
        let version = cart.version();
        self.post("/v1/cart/checkout", json!({ "expected_total": total })).if_match(&version).await
    }
}

/// A request that is not sent yet; awaiting it sends it.
#[derive(Clone, Debug)]
#[must_use = "a request is sent by awaiting it"]
pub struct Ask {
    caller: Caller,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Ask {
    /// The same request at another address.
    pub fn at(self, base: impl Into<String>) -> Self {
        Self { caller: self.caller.at(base), ..self }
    }

    /// With this header, in place of one of that name.
    pub fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        let value = HeaderValue::from_bytes(value.as_ref()).expect("a header value");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    /// Without this header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// Under this idempotency key.
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    /// Only if the cart is at this version.
    pub fn if_match(self, version: &str) -> Self {
        self.header("if-match", format!("\"{version}\""))
    }

    /// With this JSON.
    pub fn json(self, body: impl Into<Value>) -> Self {
        self.header("content-type", "application/json").body(body.into().to_string())
    }

    /// With these bytes.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = bytes.into();
        self
    }

    /// Sends it; an error when no whole answer came back.
    pub async fn send(self) -> Result<Answer, reqwest::Error> {
        let asked = format!("{} {}{}", self.method, self.caller.base, self.path);
        let url = format!("{}{}", self.caller.base, self.path);
        let mut request = self.caller.http.request(self.method, url).headers(self.headers);
        if !self.body.is_empty() {
            request = request.body(self.body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let answer = Answer { asked, status, headers, body: response.bytes().await?.to_vec() };
        if let (Some(seen), Some(version)) = (&self.caller.seen, answer.find_header("cart-version")) {
            let mut seen = seen.lock().expect("nobody panics with the lock held");
            if seen.as_deref().is_none_or(|seen| order(seen) < order(version)) {
                *seen = Some(version.to_owned());
            }
        }
        Ok(answer)
    }
}

impl IntoFuture for Ask {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let asked = format!("{} {}{}", self.method, self.caller.base, self.path);
        Box::pin(async move { self.send().await.unwrap_or_else(|error| panic!("{asked}: {error:?}")) })
    }
}

/// An idempotency key that nobody has used.
pub fn fresh_key() -> String {
    unique("key")
}

/// A name that no other test uses.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// `epoch.version.tag` as numbers, which compare as versions do.
fn order(version: &str) -> (u64, u64) {
    let mut parts = version.split('.');
    let mut number = || parts.next()?.parse().ok();
    number().zip(number()).expect("a version is epoch.version.tag")
}
