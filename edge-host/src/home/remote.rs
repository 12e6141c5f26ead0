//! The home region from elsewhere: one HTTP request to a home edge's internal listener.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::error::CartError;
use crate::home::HomeRegion;
use crate::model::{
    CartRecord, CatalogueSnapshot, FeedPage, FeedPosition, ItemRecord, OrderRecord, Principal, WriteReply,
    WriteRequest,
};
use crate::telemetry;

/// A home edge that does not take a connection in this time is down: ten times the longest round trip.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// One forwarded request, answer included. The client's own patience is a few seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// The whole catalogue is larger than a cart.
const CATALOGUE_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections kept open for the next request: more than a region ever has in flight at its shedding limit
/// would need at one round trip each.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// A write is sent once more when its connection broke: its idempotency key makes that safe.
const WRITE_ATTEMPTS: usize = 2;

/// The home region, by HTTP.
pub struct RemoteHome {
    client: Client,
    base: String,
    headers: HeaderMap,
}

/// The home region's client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RemoteHomeError {
    /// The HTTP client could not be set up.
    #[error("the HTTP client could not be set up")]
    Client(#[source] reqwest::Error),
    /// The secret or the region's name cannot stand in a header.
    #[error("the region secret cannot stand in a header")]
    Secret,
}

impl RemoteHome {
    /// The home region at `base`, such as `http://127.0.0.1:9101`.
    pub fn new(base: &str, region: &str, secret: &str) -> Result<Self, RemoteHomeError> {
        let client = Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build()
            .map_err(RemoteHomeError::Client)?;
        let header = |text: String| HeaderValue::try_from(text).map_err(|_| RemoteHomeError::Secret);
        let mut bearer = header(format!("Bearer {secret}"))?;
        bearer.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, bearer);
        headers.insert(FORWARDED, header(forwarded_by(region))?);
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), headers })
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let request = self.client.post(format!("{}{path}", self.base)).json(body).timeout(REQUEST_TIMEOUT);
        self.send(request).await
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let request = request.headers(self.headers.clone()).headers(telemetry::outgoing_trace_headers());
        let response = request.send().await.map_err(Failure::from_transport)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(Failure::from_transport)?;
        let misread = |error: serde_json::Error| {
            Failure::Answered(CartError::Internal(format!("home answered {status} and {error}")))
        };
        match status {
            StatusCode::OK => serde_json::from_slice(&bytes).map_err(misread),
            // The one status of the internal listener that carries a `CartError`.
            StatusCode::UNPROCESSABLE_ENTITY => {
                Err(Failure::Answered(serde_json::from_slice(&bytes).map_err(misread)?))
            }
            StatusCode::LOOP_DETECTED => Err(Failure::Answered(CartError::LoopDetected)),
            StatusCode::SERVICE_UNAVAILABLE => Err(Failure::Answered(CartError::HomeUnavailable)),
            _ => Err(Failure::Answered(CartError::Internal(format!("home answered {status}")))),
        }
    }
}

/// RFC 7239: who forwards a request, under an obfuscated name.
pub const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// The value of the `Forwarded` header of a request from a region.
pub fn forwarded_by(region: &str) -> String {
    format!("by=_troli-{region}")
}

/// Whether a `Forwarded` header says that one of our regions has forwarded the request already.
pub fn was_forwarded(headers: &HeaderMap) -> bool {
    let values = headers.get_all(FORWARDED).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split([',', ';'])).any(|pair| {
        let pair = pair.trim().to_ascii_lowercase();
        pair.strip_prefix("by=").is_some_and(|by| by.trim_matches('"').starts_with("_troli-"))
    })
}

#[async_trait]
impl HomeRegion for RemoteHome {
    async fn write(&self, request: WriteRequest) -> Result<WriteReply, CartError> {
        let mut attempt = 1;
        loop {
            match self.post("/internal/writes", &request).await {
                Err(Failure::Broken(error)) if attempt < WRITE_ATTEMPTS => {
                    warn!(error = %chain(&error), "forward broke, sent once more under its idempotency key");
                    attempt += 1;
                }
                answer => return answer.map_err(Failure::into_error),
            }
        }
    }

    async fn cart(&self, principal: &Principal) -> Result<CartRecord, CartError> {
        self.post("/internal/cart", principal).await.map_err(Failure::into_error)
    }

    async fn orders(
        &self,
        owner: &Principal,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<OrderRecord>, CartError> {
        self.post("/internal/orders", &(owner, before, limit)).await.map_err(Failure::into_error)
    }

    async fn order(&self, owner: &Principal, order_id: &str) -> Result<OrderRecord, CartError> {
        self.post("/internal/order", &(owner, order_id)).await.map_err(Failure::into_error)
    }

    async fn items(&self, item_ids: &[String]) -> Result<Vec<ItemRecord>, CartError> {
        self.post("/internal/items", &item_ids).await.map_err(Failure::into_error)
    }

    async fn catalogue(&self) -> Result<CatalogueSnapshot, CartError> {
        let request = self.client.get(format!("{}/internal/catalogue", self.base));
        self.send(request.timeout(CATALOGUE_TIMEOUT)).await.map_err(Failure::into_error)
    }

    async fn feed(&self, after: Option<&FeedPosition>, wait: Duration) -> Result<FeedPage, CartError> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let request = self.client.post(format!("{}/internal/feed", self.base)).json(&(after, wait_ms));
        self.send(request.timeout(wait + REQUEST_TIMEOUT)).await.map_err(Failure::into_error)
    }

    async fn rules(&self, revision: &str) -> Result<Option<Vec<u8>>, CartError> {
        let request = self
            .client
            .get(format!("{}/internal/rules/{revision}", self.base))
            .headers(self.headers.clone())
            .timeout(CATALOGUE_TIMEOUT);
        let broken = |error| Failure::from_transport(error).into_error();
        let response = request.send().await.map_err(broken)?;
        match response.status() {
            StatusCode::OK => Ok(Some(response.bytes().await.map_err(broken)?.to_vec())),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(CartError::HomeUnavailable),
        }
    }

    fn forwards(&self) -> bool {
        true
    }
}

/// Why a request to the home region was not answered as hoped.
enum Failure {
    /// It may or may not have arrived.
    Broken(reqwest::Error),
    /// It took too long, or could not be sent at all: another try would not help in time.
    Unreachable(reqwest::Error),
    /// The home region said no.
    Answered(CartError),
}

impl Failure {
    fn from_transport(error: reqwest::Error) -> Self {
        if error.is_connect() || error.is_timeout() { Self::Unreachable(error) } else { Self::Broken(error) }
    }

    fn into_error(self) -> CartError {
        match self {
            Self::Answered(error) => error,
            Self::Broken(error) | Self::Unreachable(error) => {
                warn!(error = %chain(&error), "home region unreachable");
                CartError::HomeUnavailable
            }
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_name_makes_a_loop() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED, HeaderValue::from_str(value).expect("a header value"));
            was_forwarded(&headers)
        };
        assert!(with(&forwarded_by("jkt")));
        assert!(with("for=192.0.2.1;proto=http, For=\"_x\";BY=\"_troli-bkk\""));
        assert!(!with("for=192.0.2.1;by=203.0.113.43"));
        assert!(!with("for=_troli-jkt"));
        assert!(!was_forwarded(&HeaderMap::new()));
    }
}
