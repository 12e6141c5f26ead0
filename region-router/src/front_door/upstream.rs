//! The connections to the regions' edges.

use std::time::Duration;

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::edges::Place;
use super::headers::IDEMPOTENCY_KEY;
use super::limits::Limits;
use crate::traces::{self, Kind, Span, method_word};

/// The kernel asks a silent peer whether it is still there, so that a dead one leaves the pool.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// A request that can be sent to any edge, as often as is needed.
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Outgoing {
    /// Whether it only reads (RFC 9110 §9.2.1, of the methods the API has).
    pub(super) fn reads(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Whether sending it again is harmless when it may have been carried out already.
    pub(super) fn repeatable(&self) -> bool {
        self.reads() || self.headers.contains_key(IDEMPOTENCY_KEY)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// The edge did not take the connection; nothing was sent.
    #[error("the edge did not take a connection")]
    NotConnected,
    /// The connection ended before the answer began.
    #[error("the connection ended before the answer began")]
    Broken(#[source] legacy::Error),
    /// The answer did not begin in time.
    #[error("the answer did not begin in time")]
    Late,
}

impl NoAnswer {
    /// What kind of failure it is, for a trace.
    fn word(&self) -> &'static str {
        match self {
            Self::NotConnected => "not_connected",
            Self::Broken(_) => "broken",
            Self::Late => "timeout",
        }
    }
}

/// A pool of connections to all edges.
pub(super) struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
    read_answer_deadline: Duration,
    write_answer_deadline: Duration,
}

impl Upstream {
    pub(super) fn new(limits: &Limits) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limits.connect_deadline));
        connector.set_keepalive(Some(TCP_KEEPALIVE));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(limits.idle_connections_per_edge_max)
            .pool_idle_timeout(limits.idle_connection_ttl)
            .build(connector);
        Self {
            client,
            read_answer_deadline: limits.read_answer_deadline,
            write_answer_deadline: limits.write_answer_deadline,
        }
    }

    /// Sends a request to an edge and waits for the answer to begin.
    pub(super) fn send(
        &self,
        place: &Place,
        outgoing: &Outgoing,
    ) -> impl Future<Output = Result<Response<Incoming>, NoAnswer>> {
        let describe = || {
            let method = method_word(&outgoing.method);
            Span::new(Kind::Client, method)
                .with("http.request.method", method)
                .with("server.address", place.address().ip().to_string())
                .with("server.port", place.address().port())
        };
        traces::in_span(describe, self.request(place, outgoing), |answered, span| match answered {
            Ok(answer) => {
                span.note("http.response.status_code", answer.status().as_u16());
                if answer.status().is_server_error() {
                    span.fail(answer.status().as_str().to_owned());
                }
            }
            Err(failure) => span.fail(failure.word()),
        })
    }

    async fn request(&self, place: &Place, outgoing: &Outgoing) -> Result<Response<Incoming>, NoAnswer> {
        let mut request = Request::new(Full::new(outgoing.body.clone()));
        *request.method_mut() = outgoing.method.clone();
        *request.headers_mut() = outgoing.headers.clone();
        if let Some(place) = traces::current() {
            place.write_to(request.headers_mut());
        }
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(place.authority());
        uri.path_and_query = Some(outgoing.target.clone());
        *request.uri_mut() = Uri::from_parts(uri).expect("it has all three parts");

        let deadline = if outgoing.reads() { self.read_answer_deadline } else { self.write_answer_deadline };
        match tokio::time::timeout(deadline, self.client.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.is_connect() => Err(NoAnswer::NotConnected),
            Ok(Err(error)) => Err(NoAnswer::Broken(error)),
            Err(_) => Err(NoAnswer::Late),
        }
    }
}
