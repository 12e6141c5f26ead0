//! What every request has to be, whatever it asks for. What HTTP lays on a server and the library leaves to it is
//! here, and so are mistakes in the query, which would otherwise pass without a word.

use std::collections::HashMap;

use axum::extract::{MatchedPath, Request};
use axum::http::header::AUTHORIZATION;
use region_router::front_door::host_is_valid;
use serde_json::Value;

use super::problem::ApiError;

/// The query parameters that each operation has, by method and path.
#[derive(Default)]
pub(super) struct Parameters(HashMap<String, Vec<String>>);

impl Parameters {
    /// Of the operations that a document describes.
    pub(super) fn of(document: &Value) -> Self {
        let mut known = HashMap::new();
        for (path, operations) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in operations.as_object().into_iter().flatten() {
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                let of_query = parameters
                    .map(|parameter| resolved(document, parameter))
                    .filter(|parameter| parameter["in"] == "query");
                let names =
                    of_query.filter_map(|parameter| parameter["name"].as_str().map(ToOwned::to_owned));
                known.insert(key(&method.to_ascii_uppercase(), path), names.collect());
            }
        }
        Self(known)
    }

    /// Refuses a parameter that the operation does not have.
    fn check(&self, request: &Request) -> Result<(), ApiError> {
        let Some(query) = request.uri().query().filter(|query| !query.is_empty()) else { return Ok(()) };
        let Some(matched) = request.extensions().get::<MatchedPath>() else { return Ok(()) };
        let method = if request.method() == "HEAD" { "GET" } else { request.method().as_str() };
        let Some(known) = self.0.get(&key(method, matched.as_str())) else { return Ok(()) };
        let names = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
        let unknown =
            names.filter(|name| !name.is_empty()).find(|name| !known.iter().any(|known| known == name));
        let Some(unknown) = unknown else { return Ok(()) };
        let unknown: String = unknown.chars().take(NAME_CHARS_MAX).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let detail = format!("there is no query parameter {unknown:?} here; known: {known}");
        Err(ApiError::refused("parameter_unknown", detail))
    }
}

/// What a reference within the document is about.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let target = value["$ref"].as_str().and_then(|reference| document.pointer(reference.strip_prefix('#')?));
    target.unwrap_or(value)
}

/// Characters of a parameter's name that a message repeats.
const NAME_CHARS_MAX: usize = 64;

fn key(method: &str, path: &str) -> String {
    format!("{method} {path}")
}

/// Refuses a request that is ambiguous, or not what its sender believes it to be.
pub(super) fn check(request: &Request, parameters: &Parameters) -> Result<(), ApiError> {
    if !host_is_valid(request.headers(), request.version()) {
        let detail =
            "a request has one Host header with the name or address that it is for (RFC 9112, section 3.2)";
        return Err(ApiError::refused("host_malformed", detail));
    }
    if request.headers().get_all(AUTHORIZATION).iter().nth(1).is_some() {
        let detail = "a request has at most one Authorization header";
        return Err(ApiError::refused("authorization_repeated", detail));
    }
    parameters.check(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_says_which_parameters_there_are() {
        let document = serde_json::json!({
            "paths": { "/things": { "get": { "parameters": [
                { "$ref": "#/components/parameters/Limit" }, { "name": "x-y", "in": "header" },
            ] } } },
            "components": { "parameters": { "Limit": { "name": "limit", "in": "query" } } },
        });
        let parameters = Parameters::of(&document);
        assert_eq!(parameters.0, HashMap::from([("GET /things".to_owned(), vec!["limit".to_owned()])]));
    }
}
