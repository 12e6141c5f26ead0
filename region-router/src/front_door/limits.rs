use std::time::Duration;

use crate::admission::{CONNECTIONS_PER_ADDRESS_MAX, Pace, REQUESTS_PER_ADDRESS_MAX};

/// Requests at once. At 50 000 a second and 10 ms each there are 500; four times that is a queue, and a
/// queue helps nobody.
const REQUESTS_IN_FLIGHT_MAX: usize = 2048;

/// Connections at once, most of them idle. Each holds one file descriptor and some kilobytes.
const CONNECTIONS_MAX: usize = 8192;

/// The size of a request body, the API's own limit.
const REQUEST_BODY_BYTES_MAX: usize = 64 * 1024;

/// The size of a request line with its headers. Tokens are the largest part and have a few kilobytes.
const REQUEST_HEAD_BYTES_MAX: usize = 32 * 1024;

/// For a request head to arrive, and so the longest that a connection is kept idle.
const REQUEST_HEAD_DEADLINE: Duration = Duration::from_secs(30);

/// For a request body to arrive: 64 KiB at the pace of the slowest mobile networks.
const REQUEST_BODY_DEADLINE: Duration = Duration::from_secs(10);

/// For a region to take a connection: ten times the longest round trip between regions.
const CONNECT_DEADLINE: Duration = Duration::from_millis(500);

/// For a region to begin its answer to a read. More than the edge's own deadline for what it asks of home, so that its
/// more telling answer comes first. A silent edge is found out by probes long before, and its reads are asked again
/// elsewhere at once.
const READ_ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// For a region to begin its answer to anything else. More than the edge's own deadline for a forwarded
/// write, so that its more telling answer comes first.
const WRITE_ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Between two parts of an answer. Edges answer from memory; one that stops half-way is gone.
const ANSWER_STALL_DEADLINE: Duration = Duration::from_secs(10);

/// Idle connections to one edge: as many as carry the expected load, so that none is made in a calm hour.
const IDLE_CONNECTIONS_PER_EDGE_MAX: usize = 256;

/// How long a connection to an edge is kept idle. Shorter than an edge keeps it, so that it is not closed
/// just as a request is sent.
const IDLE_CONNECTION_TTL: Duration = Duration::from_secs(20);

/// Retries that may be saved: about what one edge has in flight when it dies, which all comes back at once.
const RETRIES_SAVED_MAX: u32 = 512;

/// From the stop signal until no connection is taken any more. A load balancer that asks `/readyz` once in half a
/// second has seen by then that callers have to be sent elsewhere, and each answer meanwhile ends its connection.
const DRAIN_LEAD: Duration = Duration::from_secs(1);

/// For requests in flight to finish after that. The process has to be gone within 4 s.
const DRAIN_DEADLINE: Duration = Duration::from_millis(2500);

/// How much and how long. [`Limits::default`] is what runs; tests make some smaller.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests at once; more get 503 `overloaded`.
    pub requests_in_flight_max: usize,
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// Requests at once of one address that is no trusted proxy; more get 429 `rate_limited`.
    pub requests_per_address_max: usize,
    /// Connections at once of one address that is no trusted proxy; more are closed.
    pub connections_per_address_max: usize,
    /// How fast a caller reads its answers at least.
    pub answer_pace: Pace,
    /// Size of a request body; a larger one gets 413 `body_too_large`.
    pub request_body_bytes_max: usize,
    /// Size of a request line with its headers, at least 8 KiB; a larger one gets 431.
    pub request_head_bytes_max: usize,
    /// For a request head to arrive.
    pub request_head_deadline: Duration,
    /// For a request body to arrive.
    pub request_body_deadline: Duration,
    /// For an edge to take a connection.
    pub connect_deadline: Duration,
    /// For an edge to begin its answer to a GET or HEAD.
    pub read_answer_deadline: Duration,
    /// For an edge to begin its answer to any other request.
    pub write_answer_deadline: Duration,
    /// Between two parts of an answer's body.
    pub answer_stall_deadline: Duration,
    /// Idle connections to one edge.
    pub idle_connections_per_edge_max: usize,
    /// How long a connection to an edge is kept idle.
    pub idle_connection_ttl: Duration,
    /// Retries that may be saved by requests that needed none.
    pub retries_saved_max: u32,
    /// From the stop signal until no connection is taken any more.
    pub drain_lead: Duration,
    /// For requests in flight to finish after that.
    pub drain_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_in_flight_max: REQUESTS_IN_FLIGHT_MAX,
            connections_max: CONNECTIONS_MAX,
            requests_per_address_max: REQUESTS_PER_ADDRESS_MAX,
            connections_per_address_max: CONNECTIONS_PER_ADDRESS_MAX,
            answer_pace: Pace::default(),
            request_body_bytes_max: REQUEST_BODY_BYTES_MAX,
            request_head_bytes_max: REQUEST_HEAD_BYTES_MAX,
            request_head_deadline: REQUEST_HEAD_DEADLINE,
            request_body_deadline: REQUEST_BODY_DEADLINE,
            connect_deadline: CONNECT_DEADLINE,
            read_answer_deadline: READ_ANSWER_DEADLINE,
            write_answer_deadline: WRITE_ANSWER_DEADLINE,
            answer_stall_deadline: ANSWER_STALL_DEADLINE,
            idle_connections_per_edge_max: IDLE_CONNECTIONS_PER_EDGE_MAX,
            idle_connection_ttl: IDLE_CONNECTION_TTL,
            retries_saved_max: RETRIES_SAVED_MAX,
            drain_lead: DRAIN_LEAD,
            drain_deadline: DRAIN_DEADLINE,
        }
    }
}
