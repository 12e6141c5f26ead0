//! One request, from the caller to a region and back.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use http::header::{AUTHORIZATION, CONNECTION, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use ipnet::IpNet;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::{Problem, document_response, redirect_response};
use super::body::{self, AnswerBody};
use super::caller::Caller;
use super::delivery::{Delivered, Delivery};
use super::edges::{Edges, Place};
use super::headers::{self, TROLI_REGION};
use super::host::host_is_valid;
use super::observed;
use super::query::take_region;
use super::upstream::Outgoing;
use super::{Config, Limits, STATUS_PATH};
use crate::admission::{Share, Shares};
use crate::cors::{self, Origin};
use crate::decision::{Candidate, ClientHint, ROUND_TRIPS_HEADER, RoundTripsMalformed, parse_round_trips};
use crate::proximity::{Countries, Country};
use crate::regions::Regions;
use crate::traces;

pub(super) struct FrontDoor {
    regions: Arc<Regions>,
    countries: Arc<Countries>,
    trusted_proxies: Vec<IpNet>,
    limits: Limits,
    in_flight: Arc<Semaphore>,
    /// Requests in flight of each address.
    shares: Arc<Shares>,
    delivery: Delivery,
    edges: Arc<Edges>,
    redirect: bool,
    cors_origins: Vec<Origin>,
    draining: AtomicBool,
}

/// A request's place in the counts of those in flight: of all, of its address, and at its edge.
pub(super) struct Held {
    _in_flight: OwnedSemaphorePermit,
    _share: Option<Share>,
    _place: Place,
}

/// What is settled about a request before it is sent anywhere.
struct Plan {
    caller: Caller,
    country: Option<Country>,
    candidates: Vec<Candidate>,
    target: PathAndQuery,
}

impl FrontDoor {
    pub(super) fn new(config: Config) -> Self {
        let Config { regions, countries, mut trusted_proxies, cors_origins, dns, redirect, limits } = config;
        // Peers are compared in their canonical form, so the networks have to be in theirs.
        trusted_proxies.iter_mut().for_each(|network| *network = network.trunc());
        let edges = Arc::new(Edges::new(regions.topology(), &dns));
        Self {
            delivery: Delivery::new(edges.clone(), &limits),
            edges,
            in_flight: Arc::new(Semaphore::new(limits.requests_in_flight_max)),
            shares: Shares::new(limits.requests_per_address_max),
            regions,
            countries,
            trusted_proxies,
            redirect,
            cors_origins,
            limits,
            draining: AtomicBool::new(false),
        }
    }

    /// From now on callers should be sent elsewhere: every answer ends its connection.
    pub(super) fn begin_to_drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(super) fn regions(&self) -> &Regions {
        &self.regions
    }

    /// Requests that are being served.
    pub(super) fn in_flight(&self) -> usize {
        self.limits.requests_in_flight_max - self.in_flight.available_permits()
    }

    /// Where requests are sent.
    pub(super) fn edges(&self) -> &Arc<Edges> {
        &self.edges
    }

    /// Answers a request, whatever it is.
    pub(super) async fn handle(&self, peer: SocketAddr, request: Request<Incoming>) -> Response<AnswerBody> {
        let started_at = Instant::now();
        let request_id = headers::request_id(request.headers());
        let method = request.method().clone();
        let cors = cors::Caller::of(&self.cors_origins, &method, request.headers());
        let place = traces::Place::of_request(request.headers(), false);
        let answer = self.answer(peer.ip(), request, &request_id);
        let result = traces::at(place.clone(), answer).await;
        let mut response = result.unwrap_or_else(|problem| {
            tracing::debug!(problem = ?problem, request.id = ?request_id, "request refused");
            problem.into_response(&request_id)
        });
        self.allow_origin(cors.as_ref(), &mut response);
        if self.is_draining() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        observed::ended(&method, response.status(), &request_id, started_at.elapsed(), place.as_ref());
        response
    }

    async fn answer(
        &self,
        peer: IpAddr,
        request: Request<Incoming>,
        request_id: &HeaderValue,
    ) -> Result<Response<AnswerBody>, Problem> {
        if !host_is_valid(request.headers(), request.version()) {
            return Err(Problem::HostMalformed);
        }
        if request.headers().get_all(AUTHORIZATION).iter().nth(1).is_some() {
            return Err(Problem::AuthorizationRepeated);
        }
        let plan = self.plan(peer, &request)?;
        if plan.target.path() == STATUS_PATH {
            return self.status_page(&plan, request.method(), request_id);
        }
        // A browser takes no redirection for an answer to a preflight request.
        let asked = Some(request.headers()).filter(|_| request.method() != Method::OPTIONS);
        if let Some(answer) = asked.and_then(|asked| self.redirect(&plan, asked, request_id)) {
            return Ok(answer);
        }
        let share = self.shares.take_unless_trusted(plan.caller.address, &self.trusted_proxies);
        let share = share.map_err(|_| Problem::TooManyAtOnce)?;
        let (parts, body) = request.into_parts();
        // Before a place among all requests is taken, which a body that never comes would hold.
        let body = body::read_whole(body, &self.limits).await?;
        let in_flight = self.in_flight.clone().try_acquire_owned().map_err(|_| Problem::Overloaded)?;
        let mut headers = parts.headers;
        headers::to_edge(&mut headers, &plan.caller, request_id);
        let outgoing = Outgoing { method: parts.method, target: plan.target, headers, body };

        let mut candidates = plan.candidates;
        if !outgoing.reads() {
            // Where no write can be done now, none is sent, as long as another region can do it.
            candidates.sort_by_key(|candidate| !self.regions.takes_writes(candidate.region));
        }
        let Delivered { answer, place, region, reason } =
            self.delivery.deliver(&candidates, &outgoing).await?;
        tracing::debug!(
            request.id = ?request_id,
            region.id = %region,
            region.reason = %reason,
            client.country = plan.country.as_ref().map(Country::as_str),
            "region answered"
        );
        let held = Held { _in_flight: in_flight, _share: share, _place: place };
        Ok(self.pass_back(answer, request_id, headers::choice(region, reason), held))
    }

    /// Lets a page of another origin read an answer of the front door's own. One of a region says for itself who may.
    fn allow_origin(&self, cors: Option<&cors::Caller>, response: &mut Response<AnswerBody>) {
        if self.cors_origins.is_empty() || matches!(response.body(), AnswerBody::Streamed(_)) {
            return;
        }
        let headers = response.headers_mut();
        if let Some(caller) = cors {
            caller.allow(headers);
        }
        cors::vary(headers);
    }

    /// Peers that speak for many callers.
    pub(super) fn trusted_proxies(&self) -> &[IpNet] {
        &self.trusted_proxies
    }

    fn plan(&self, peer: IpAddr, request: &Request<Incoming>) -> Result<Plan, Problem> {
        let target = request.uri().path_and_query().filter(|target| target.as_str().starts_with('/'));
        let Some(target) = target.filter(|_| request.method() != Method::CONNECT) else {
            return Err(Problem::TargetMalformed);
        };
        let caller = Caller::identify(peer, request.headers(), &self.trusted_proxies);
        let country = self.countries.country_of(caller.address);

        let (in_query, rest) = take_region(target.as_str());
        let in_header = request.headers().get(TROLI_REGION);
        // A value that is not text names no region, and is answered as such.
        let region = in_query.or_else(|| in_header.map(|value| value.to_str().unwrap_or_default().trim()));
        let round_trips = match request.headers().get(ROUND_TRIPS_HEADER) {
            Some(value) => value.to_str().ok().map(parse_round_trips).unwrap_or(Err(RoundTripsMalformed)),
            None => Ok(Vec::new()),
        };
        let round_trips = round_trips.map_err(Problem::RoundTripsMalformed)?;
        let candidates = self
            .regions
            .decide(&ClientHint { region, round_trips: &round_trips, country })
            .map_err(|named| Problem::region_unknown(named, self.regions.topology()))?;

        let target = match rest {
            Some(rest) => PathAndQuery::try_from(rest).map_err(|_| Problem::TargetMalformed)?,
            None => target.clone(),
        };
        Ok(Plan { caller, country, candidates, target })
    }

    /// Sends the caller to its region, where that is up and has a URL, and is not what the caller has asked
    /// already: a region's URL that leads here would lead here for ever.
    fn redirect(
        &self,
        plan: &Plan,
        asked: &http::HeaderMap,
        request_id: &HeaderValue,
    ) -> Option<Response<AnswerBody>> {
        let candidate = plan.candidates.first().filter(|candidate| self.redirect && candidate.up)?;
        let url = self.regions.topology().region(candidate.region)?.url.as_deref()?;
        let host = asked.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let (_, authority) = url.split_once("://")?;
        if !self.edges.serves(candidate.region) || host.eq_ignore_ascii_case(authority) {
            return None;
        }
        redirect_response(&format!("{url}{}", plan.target), candidate, request_id)
    }

    fn pass_back(
        &self,
        answer: Response<Incoming>,
        request_id: &HeaderValue,
        choice: HeaderValue,
        held: Held,
    ) -> Response<AnswerBody> {
        let (parts, body) = answer.into_parts();
        let body = AnswerBody::streamed(body, self.limits.answer_stall_deadline, held);
        let mut response = Response::new(body);
        *response.status_mut() = parts.status;
        *response.headers_mut() = parts.headers;
        headers::to_caller(response.headers_mut(), request_id, choice);
        response
    }

    fn status_page(
        &self,
        plan: &Plan,
        method: &Method,
        request_id: &HeaderValue,
    ) -> Result<Response<AnswerBody>, Problem> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(Problem::MethodNotAllowed);
        }
        let topology = self.regions.topology();
        let regions = topology.regions().iter().map(|region| {
            let (state, age) = self.regions.state(region.id);
            json!({
                "id": region.id.as_str(),
                "name": region.name,
                "country": region.country.as_str(),
                "health": state.as_str(),
                "takes_writes": self.regions.takes_writes(region.id),
                "edges_serving": self.edges.serving(region.id),
                "health_for_ms": u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            })
        });
        let candidates = plan.candidates.iter().map(
            |candidate| json!({ "region": candidate.region.as_str(), "reason": candidate.reason.as_str() }),
        );
        let document = json!({
            "home": topology.home().id.as_str(),
            "regions": regions.collect::<Vec<_>>(),
            "caller": {
                "address": plan.caller.address.to_string(),
                "country": plan.country.as_ref().map(Country::as_str),
                "candidates": candidates.collect::<Vec<_>>(),
            },
        });
        Ok(document_response(&document, "application/json", request_id))
    }
}
