//! Pages of other origins: a preflight request is answered for every route with the methods that the route has.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use region_router::cors::{Caller, Origin, vary};
use serde_json::Value;

/// Which pages may call, and the methods of every route.
pub(super) struct Cors {
    origins: Vec<Origin>,
    methods: HashMap<String, HeaderValue>,
}

/// What the answer to a request has to say of origins.
pub(super) struct Asked {
    caller: Option<Caller>,
    /// Of the route, where the request is a preflight request of a page that may call.
    methods: Option<HeaderValue>,
}

impl Cors {
    /// For the routes of a document; nothing where no page may call.
    pub(super) fn new(origins: &[Origin], document: &Value) -> Option<Self> {
        if origins.is_empty() {
            return None;
        }
        let route = |(path, item): (&String, &Value)| Some((path.clone(), methods(item)?));
        let methods = document["paths"].as_object().into_iter().flatten().filter_map(route).collect();
        Some(Self { origins: origins.to_vec(), methods })
    }

    /// Looks at a request of a route.
    pub(super) fn ask(&self, request: &Request, route: &str) -> Asked {
        let caller = Caller::of(&self.origins, request.method(), request.headers());
        let preflight = caller.as_ref().is_some_and(Caller::is_preflight);
        Asked { caller, methods: self.methods.get(route).filter(|_| preflight).cloned() }
    }
}

impl Asked {
    /// Makes an answer one for a page of another origin.
    pub(super) fn answer(self, mut response: Response) -> Response {
        if let Some(caller) = self.caller {
            // No route takes `OPTIONS`: a preflight request was refused.
            if let Some(methods) = self.methods {
                response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                caller.allow_methods(methods, response.headers_mut());
            }
            caller.allow(response.headers_mut());
        }
        vary(response.headers_mut());
        response
    }
}

fn methods(item: &Value) -> Option<HeaderValue> {
    let all =
        [("GET, HEAD", "get"), ("POST", "post"), ("PUT", "put"), ("PATCH", "patch"), ("DELETE", "delete")];
    let methods: Vec<&str> =
        all.iter().filter(|(_, key)| item.get(key).is_some()).map(|(name, _)| *name).collect();
    HeaderValue::try_from(methods.join(", ")).ok().filter(|methods| !methods.is_empty())
}
