//! The home region from elsewhere: one request over HTTP/2 and mutual TLS to one of its edges.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use region_router::discovery::Discovery;
use region_router::topology::RegionId;
use region_router::traces;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::{debug, warn};

use super::edges::{CONNECT_DEADLINE, HomeEdges, Outgoing, Road, SendError};
use super::wire::{self, Topic, v0};
use crate::clock::Clock;
use crate::deadline;
use crate::epoch::KnownEpoch;
use crate::error::CartError;
use crate::home::HomeRegion;
use crate::model::{
    CartRecord, CatalogueSnapshot, FeedPage, FeedPosition, ItemRecord, OrderRecord, Principal, WriteReply,
    WriteRequest,
};
use crate::peers::{PeerTls, name_of};
use crate::shares::{Place, Queues};
use crate::telemetry::chain;

mod attempt;

/// One forward, all attempts and answers included. The caller's own patience is a few seconds.
const PATIENCE: Duration = Duration::from_secs(3);
/// The whole catalogue is larger than a cart.
const CATALOGUE_PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of one answer. The largest are a page of the feed, and a cart with what was answered about it; a page of
/// orders ends at a megabyte.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of the whole catalogue: some hundred thousand items.
const CATALOGUE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Forwards of one edge under way. The longest round trip and the work at home take less than 50 ms, so these are more
/// than 10 000 a second: twice what a primary commits. More would only queue there, and be late.
pub const FORWARDS_IN_FLIGHT_MAX: usize = 2 * FORWARDS_OF_A_KIND_MAX;
/// Of them, reads and writes each; more are turned away at once. Neither can use up what the other needs.
const FORWARDS_OF_A_KIND_MAX: usize = 256;
/// Of them, reads.
pub const READS_IN_FLIGHT_MAX: usize = FORWARDS_OF_A_KIND_MAX;
/// Of those of a kind, for one cart or its owner; more are turned away at once. A caller who sends hundreds at once
/// leaves the most of it to others.
const FORWARDS_OF_ONE_CART_MAX: usize = 64;
/// Attempts after the first. All that is asked of home may be asked again: reads change nothing, and every write
/// has an idempotency key. Should that fail twice, it is no accident of one connection.
const RETRIES_MAX: usize = 2;
/// Before the second attempt; then twice as long, and up to as much again by chance, so that all that was under
/// way on one connection does not come back in one moment.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// The home region, over the network.
pub struct RemoteHome {
    edges: HomeEdges,
    requests: Arc<Requests>,
    reads: Forwards,
    writes: Forwards,
}

/// Forwards of a kind.
struct Forwards {
    in_flight: Semaphore,
    of_one_cart: Queues,
}

impl Default for Forwards {
    fn default() -> Self {
        Self {
            in_flight: Semaphore::new(FORWARDS_OF_A_KIND_MAX),
            of_one_cart: Queues::new(FORWARDS_OF_ONE_CART_MAX),
        }
    }
}

impl Forwards {
    /// Leave for one more, for this cart or its owner.
    fn enter(&self, cart_id: &str) -> Result<(Place<'_>, SemaphorePermit<'_>), CartError> {
        Ok((self.of_one_cart.enter(cart_id).ok_or(CartError::Busy)?, self.enter_for_all()?))
    }

    /// Leave for one more that is about no cart.
    fn enter_for_all(&self) -> Result<SemaphorePermit<'_>, CartError> {
        self.in_flight.try_acquire().map_err(|_| CartError::Overloaded)
    }
}

impl RemoteHome {
    /// Connects to the edges of the home region, wherever they are found, as an edge of `region`.
    pub fn start(
        home: RegionId,
        found: Arc<Discovery>,
        region: RegionId,
        tls: Arc<PeerTls>,
        known: KnownEpoch,
        clock: Clock,
    ) -> Self {
        let name = name_of(home);
        let requests = Arc::new(Requests::new(&name.to_str(), region, known));
        let greet = Arc::clone(&requests);
        let greeting = Box::new(move || greet.greeting(CONNECT_DEADLINE));
        let edges = HomeEdges::start(Road { tls, name, greeting, clock }, found);
        Self { edges, requests, reads: Forwards::default(), writes: Forwards::default() }
    }

    /// Asks for somebody who waits.
    async fn forward<T: DeserializeOwned>(&self, question: Question) -> Result<T, CartError> {
        read(&self.ask(&question).await?)
    }

    /// Asks until there is an answer, or no use in asking, or no time.
    async fn ask(&self, question: &Question) -> Result<Answer, CartError> {
        let caller = deadline::remaining();
        let patience = caller.map_or(question.patience, |caller| caller.min(question.patience));
        let until = Instant::now() + patience;
        let mut pauses = ExponentialBuilder::new()
            .with_min_delay(RETRY_PAUSE)
            .with_max_times(RETRIES_MAX)
            .with_jitter()
            .build();
        let mut tried = Vec::new();
        let mut failure = Failure::Unreachable;
        loop {
            let again = matches!(failure, Failure::Broken(_));
            let chosen =
                tokio::time::timeout_at(until.into(), self.edges.choose(&tried, again, question.writes()))
                    .await;
            let Ok(Some(mut turn)) = chosen else { return Err(failure.into_error()) };
            tried.push(turn.address());
            let edge = turn.address();
            let sent = async {
                let left = until.saturating_duration_since(Instant::now());
                let request = self.requests.make(question, turn.version(), left);
                tokio::time::timeout_at(until.into(), turn.send(request, question.answer_bytes_max)).await
            };
            let sent = traces::in_span(|| attempt::span(question, edge), sent, attempt::ended);
            failure = match sent.await {
                Ok(Ok(answer)) => match refusal(&answer) {
                    None => return Ok(answer),
                    Some(refusal) => {
                        turn.was_useless();
                        Failure::Refused(refusal)
                    }
                },
                // Its connection is made anew by the task that keeps it.
                Ok(Err(error)) => Failure::Broken(error),
                Err(_) => {
                    turn.was_useless();
                    // An edge that answers pings is there, and has too much to do.
                    let gone = turn.is_silent();
                    return Err(if gone { CartError::HomeUnavailable } else { CartError::Overloaded });
                }
            };
            debug!(home.edge = ?tried.last(), topic = ?question.topic, failure = ?failure, "forward failed");
            match pauses.next() {
                Some(pause) if Instant::now() + pause < until => tokio::time::sleep(pause).await,
                _ => return Err(failure.into_error()),
            }
        }
    }
}

impl HomeRegion for RemoteHome {
    fn write(&self, request: WriteRequest) -> BoxFuture<'_, Result<WriteReply, CartError>> {
        Box::pin(async move {
            let _leave = self.writes.enter(&request.principal.cart_id())?;
            self.forward(Question::post(Topic::Writes, &request)?).await
        })
    }

    fn cart<'a>(&'a self, principal: &'a Principal) -> BoxFuture<'a, Result<CartRecord, CartError>> {
        Box::pin(async move {
            let _leave = self.reads.enter(&principal.cart_id())?;
            self.forward(Question::post(Topic::Cart, principal)?).await
        })
    }

    fn orders<'a>(
        &'a self,
        owner: &'a Principal,
        before: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<OrderRecord>, CartError>> {
        Box::pin(async move {
            let _leave = self.reads.enter(&owner.cart_id())?;
            let asked =
                wire::OrdersQuestion { owner: owner.clone(), before: before.map(ToOwned::to_owned), limit };
            self.forward(Question::post(Topic::Orders, &asked)?.or_v0(&v0::Orders::from(asked))?).await
        })
    }

    fn order<'a>(
        &'a self,
        owner: &'a Principal,
        order_id: &'a str,
    ) -> BoxFuture<'a, Result<OrderRecord, CartError>> {
        Box::pin(async move {
            let _leave = self.reads.enter(&owner.cart_id())?;
            let asked = wire::OrderQuestion { owner: owner.clone(), order_id: order_id.to_owned() };
            self.forward(Question::post(Topic::Order, &asked)?.or_v0(&v0::Order::from(asked))?).await
        })
    }

    fn items<'a>(&'a self, item_ids: &'a [String]) -> BoxFuture<'a, Result<Vec<ItemRecord>, CartError>> {
        Box::pin(async move {
            let _leave = self.reads.enter_for_all()?;
            self.forward(Question::post(Topic::Items, &item_ids)?).await
        })
    }

    fn catalogue(&self) -> BoxFuture<'_, Result<CatalogueSnapshot, CartError>> {
        Box::pin(async move {
            let question = Question {
                answer_bytes_max: CATALOGUE_BYTES_MAX,
                ..Question::get(Topic::Catalogue).within(CATALOGUE_PATIENCE)
            };
            read(&self.ask(&question).await?)
        })
    }

    fn feed<'a>(
        &'a self,
        after: Option<&'a FeedPosition>,
        wait: Duration,
    ) -> BoxFuture<'a, Result<FeedPage, CartError>> {
        Box::pin(async move {
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let asked = wire::FeedQuestion { after: after.cloned(), wait_ms };
            let question =
                Question::post(Topic::Feed, &asked)?.or_v0(&v0::Feed::from(asked))?.within(wait + PATIENCE);
            read(&self.ask(&question).await?)
        })
    }

    fn rules<'a>(&'a self, revision: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, CartError>> {
        Box::pin(async move {
            let question = Question::get(Topic::Rules).about(revision).within(CATALOGUE_PATIENCE);
            match self.ask(&question).await? {
                (StatusCode::OK, bytes) => Ok(Some(bytes.to_vec())),
                (StatusCode::NOT_FOUND, _) => Ok(None),
                answer => Err(error_of(&answer)),
            }
        })
    }

    fn edges_serving(&self) -> Option<usize> {
        Some(self.edges.serving())
    }

    fn refusal(&self) -> Option<String> {
        self.edges.refusal()
    }

    fn forwards(&self) -> bool {
        true
    }
}

/// What home is asked.
struct Question {
    topic: Topic,
    /// What is asked about, where the path says it.
    about: Option<String>,
    method: Method,
    body: Bytes,
    /// The body in the version before, where it was another.
    body_v0: Option<Bytes>,
    patience: Duration,
    answer_bytes_max: usize,
}

impl Question {
    fn get(topic: Topic) -> Self {
        let (method, body) = (Method::GET, Bytes::new());
        let answer_bytes_max = ANSWER_BYTES_MAX;
        Self { topic, about: None, method, body, body_v0: None, patience: PATIENCE, answer_bytes_max }
    }

    fn post(topic: Topic, body: &impl Serialize) -> Result<Self, CartError> {
        Ok(Self { method: Method::POST, body: to_json(body)?, ..Self::get(topic) })
    }

    fn or_v0(self, body: &impl Serialize) -> Result<Self, CartError> {
        Ok(Self { body_v0: Some(to_json(body)?), ..self })
    }

    fn about(self, about: &str) -> Self {
        Self { about: Some(about.to_owned()), ..self }
    }

    fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    fn writes(&self) -> bool {
        self.topic == Topic::Writes
    }

    /// Path and body in a version.
    fn in_version(&self, version: u32) -> (String, Bytes) {
        let is_v0 = version == 0;
        let path = if is_v0 { self.topic.path_v0() } else { self.topic.path() };
        let path = self.about.as_ref().map_or_else(|| path.clone(), |about| format!("{path}/{about}"));
        let body = self.body_v0.as_ref().filter(|_| is_v0).unwrap_or(&self.body);
        (path, body.clone())
    }
}

fn to_json(body: &impl Serialize) -> Result<Bytes, CartError> {
    let json = serde_json::to_vec(body).map_err(|error| CartError::Internal(error.to_string()))?;
    Ok(json.into())
}

/// What an edge of home has said.
type Answer = (StatusCode, Bytes);

/// Makes the requests to edges of home.
struct Requests {
    base: String,
    headers: HeaderMap,
    known: KnownEpoch,
}

impl Requests {
    fn new(home: &str, region: RegionId, known: KnownEpoch) -> Self {
        let forwarded = HeaderValue::try_from(wire::forwarded_by(region.as_str()));
        let mut headers = HeaderMap::new();
        headers.insert(wire::FORWARDED, forwarded.expect("a region id is visible ASCII"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { base: format!("https://{home}"), headers, known }
    }

    fn greeting(&self, remaining: Duration) -> Outgoing {
        self.request(Method::GET, wire::HELLO, Bytes::new(), remaining)
    }

    fn make(&self, question: &Question, version: u32, remaining: Duration) -> Outgoing {
        let (path, body) = question.in_version(version);
        self.request(question.method.clone(), &path, body, remaining)
    }

    fn request(&self, method: Method, path: &str, body: Bytes, remaining: Duration) -> Outgoing {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        let uri = format!("{}{path}", self.base).parse();
        *request.uri_mut() = uri.expect("a region's name, and a path of ours");
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.insert(wire::DEADLINE_MS, wire::deadline_ms(remaining));
        headers.insert(wire::EPOCH, HeaderValue::from(self.known.current()));
        if let Some(place) = traces::current() {
            place.write_to(headers);
        }
        request
    }
}

/// Why an attempt was not answered as hoped.
#[derive(Debug)]
enum Failure {
    /// No edge is connected.
    Unreachable,
    /// It may or may not have arrived.
    Broken(SendError),
    /// The edge cannot do it now; another may.
    Refused(CartError),
}

impl Failure {
    fn into_error(self) -> CartError {
        match self {
            Self::Unreachable => CartError::HomeUnavailable,
            Self::Broken(error) => {
                warn!(error = %chain(&error), "forward broke");
                CartError::HomeUnavailable
            }
            Self::Refused(error) => error,
        }
    }
}

/// What an edge says that cannot do now what another may.
fn refusal(answer: &Answer) -> Option<CartError> {
    match answer.0 {
        StatusCode::OK | StatusCode::NOT_FOUND => None,
        _ => Some(error_of(answer))
            .filter(|error| matches!(error, CartError::HomeUnavailable | CartError::Overloaded)),
    }
}

fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, CartError> {
    match answer {
        (StatusCode::OK, bytes) => serde_json::from_slice(bytes).map_err(|error| misread(answer, &error)),
        answer => Err(error_of(answer)),
    }
}

/// The error that an answer other than a success stands for.
fn error_of(answer: &Answer) -> CartError {
    let (status, bytes) = answer;
    match *status {
        // The one status of the peer listener that carries a `CartError`.
        StatusCode::UNPROCESSABLE_ENTITY => told(bytes).unwrap_or_else(|error| misread(answer, &error)),
        StatusCode::LOOP_DETECTED => CartError::LoopDetected,
        StatusCode::SERVICE_UNAVAILABLE => {
            told(bytes).ok().filter(|told| *told == CartError::Busy).unwrap_or(CartError::Overloaded)
        }
        status => CartError::Internal(format!("home answered {status}")),
    }
}

/// What home says in words. Words that only a later version has mean that home cannot do it now.
fn told(bytes: &[u8]) -> Result<CartError, serde_json::Error> {
    serde_json::from_slice(bytes).or_else(|error| {
        let is_a_word = |value: &serde_json::Value| value.is_string() || value.is_object();
        let word = serde_json::from_slice(bytes).ok().filter(is_a_word);
        word.map(|_| CartError::Overloaded).ok_or(error)
    })
}

fn misread((status, _): &Answer, error: &serde_json::Error) -> CartError {
    CartError::Internal(format!("home answered {status} and {error}"))
}

#[cfg(test)]
mod tests;
