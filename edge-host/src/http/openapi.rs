//! The description of the API (OpenAPI 3.1), which is what is routed: an operation that it does not have cannot be
//! asked for.
//!
//! `openapi.json` is written by hand and says what an operation takes and gives. The problems of each operation are
//! added here from the table of codes: those that every operation may answer, those that come with its parameters and
//! its body, and its own, which `openapi.json` lists as `x-codes`.

use axum::Router;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use serde_json::{Map, Value, json};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::codes::{self, CODES};
use super::{Shared, carts, shop};

const SOURCE: &str = include_str!("openapi/openapi.json");
const PROSE: &str = include_str!("openapi/description.md");

const URL: &str = "/openapi.json";

/// The operation that a production deployment does not have.
const DEV_ONLY: &str = "/v1/dev/tokens";

/// What any request may be answered.
const ALWAYS: &[&str] = &[
    "request_malformed",
    "host_malformed",
    "authorization_repeated",
    "parameter_unknown",
    "target_malformed",
    "region_unknown",
    "route_unknown",
    "method_not_allowed",
    "request_timeout",
    "target_too_long",
    "headers_too_large",
    "rate_limited",
    "overloaded",
    "region_unavailable",
    "internal",
];
/// What a request with a body may be answered.
const WITH_BODY: &[&str] = &[
    "body_incomplete",
    "body_malformed",
    "malformed_json",
    "invalid_input",
    "json_too_deep",
    "body_too_large",
    "media_type_unsupported",
    "content_encoding_unsupported",
];
/// What a request with a token may be answered.
const WITH_TOKEN: &[&str] = &[
    "token_missing",
    "token_invalid",
    "cart_merged",
    "home_unavailable",
    "rules_not_loaded",
    "rules_out_of_fuel",
    "rules_timed_out",
    "rules_out_of_memory",
    "rules_trapped",
    "rules_invalid_output",
];

/// What a request with a parameter of the components may be answered.
fn with_parameter(name: &str) -> &'static [&'static str] {
    match name {
        "IdempotencyKeyRequired" => &[
            "idempotency_key_missing",
            "idempotency_key_malformed",
            "idempotency_key_reused",
            "request_in_progress",
        ],
        "IdempotencyKey" => &["idempotency_key_malformed", "idempotency_key_reused", "request_in_progress"],
        "IfMatch" | "IfMatchRequired" => &["version_mismatch", "too_many_entity_tags"],
        "IfNoneMatch" => &["too_many_entity_tags"],
        "CartVersion" => &["cart_version_malformed"],
        "LineId" | "CouponCode" | "OrderId" | "ItemId" => &["path_malformed"],
        "Limit" => &["limit_out_of_range", "query_malformed"],
        "Cursor" => &["cursor_malformed"],
        _ => &[],
    }
}

/// The handler of an operation.
fn handler(operation_id: &str) -> Option<MethodRouter<Shared>> {
    Some(match operation_id {
        "createGuest" => post(shop::new_guest),
        "renewGuest" => post(shop::renew_guest),
        "createDevToken" => post(shop::new_dev_token),
        "getCart" => get(carts::get_cart),
        "getCartCount" => get(carts::count),
        "addItem" => post(carts::add_item),
        "clearCart" => delete(carts::clear),
        "getLine" => get(carts::get_line),
        "setQuantity" => patch(carts::set_quantity),
        "removeLine" => delete(carts::remove_line),
        "applyCoupon" => put(carts::apply_coupon),
        "removeCoupon" => delete(carts::remove_coupon),
        "runCommands" => post(carts::commands),
        "mergeCart" => post(carts::merge),
        "checkout" => post(carts::checkout),
        "listOrders" => get(shop::orders),
        "getOrder" => get(shop::order),
        "listItems" => get(shop::items),
        "getItem" => get(shop::item),
        "listRegions" => get(shop::regions),
        _ => return None,
    })
}

/// The description, complete. A fleet for development has one operation more.
pub(super) fn document(dev: bool) -> Value {
    let mut document: Value = serde_json::from_str(SOURCE).expect("openapi.json is JSON: a test reads it");
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document["info"]["description"] = PROSE.replace("{codes}", &codes::markdown()).into();
    let paths = document["paths"].as_object_mut().expect("a description has paths");
    if !dev {
        paths.remove(DEV_ONLY);
    }
    for operation in paths.values_mut().flat_map(operations) {
        complete(operation.1);
    }
    document
}

/// The routes of a description.
pub(super) fn routes(document: &mut Value) -> Router<Shared> {
    let mut router = Router::new();
    let paths = document["paths"].as_object_mut().expect("a description has paths");
    for (path, item) in paths {
        for (_, operation) in operations(item) {
            let id = operation["operationId"].as_str().unwrap_or_default();
            router =
                router.route(path, handler(id).expect("every operation has a handler: a test tries each"));
        }
    }
    router
}

/// The page that shows a description, and the description itself.
pub(super) fn page(document: Value) -> SwaggerUi {
    let config = Config::from(URL).persist_authorization(true).default_models_expand_depth(0);
    SwaggerUi::new("/docs").external_url_unchecked(URL, document).config(config)
}

fn operations(item: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    item.as_object_mut().into_iter().flatten()
}

/// Adds the problems of an operation, one response for each status.
fn complete(operation: &mut Value) {
    let own = operation.as_object_mut().and_then(|operation| operation.remove("x-codes"));
    let own: Vec<String> = own.and_then(|own| serde_json::from_value(own).ok()).unwrap_or_default();
    let mut known: Vec<&str> = own.iter().map(String::as_str).collect();
    known.extend(ALWAYS);
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let reference = parameter["$ref"].as_str().unwrap_or_default();
        known.extend(with_parameter(reference.rsplit('/').next().unwrap_or_default()));
    }
    if operation.get("requestBody").is_some() {
        known.extend(WITH_BODY);
    }
    // Where the operation does not say otherwise, a token is needed.
    if operation.get("security").is_none() {
        known.extend(WITH_TOKEN);
    }
    let mut statuses: Vec<u16> =
        CODES.iter().filter(|row| known.contains(&row.code)).map(|row| row.status.as_u16()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    for status in statuses {
        let of_status = CODES.iter().filter(|row| row.status.as_u16() == status && known.contains(&row.code));
        let response = problem(status, &of_status.map(|row| row.code).collect::<Vec<_>>());
        operation["responses"][status.to_string()] = response;
    }
    operation["responses"]["default"] = json!({
        "description": "Another problem.",
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    });
}

/// A response with a problem. Its codes are an open list: a client has to expect others.
fn problem(status: u16, codes: &[&str]) -> Value {
    let mut headers: Map<String, Value> = Map::new();
    let mut header = |name: &str, component: &str| {
        headers.insert(name.to_owned(), json!({ "$ref": format!("#/components/headers/{component}") }));
    };
    header("X-Request-Id", "RequestId");
    header("Cache-Control", "CacheControl");
    match status {
        401 => header("WWW-Authenticate", "WwwAuthenticate"),
        405 => header("Allow", "Allow"),
        429 => {
            header("Retry-After", "RetryAfter");
            header("RateLimit-Policy", "RateLimitPolicy");
            header("RateLimit", "RateLimit");
        }
        503 => header("Retry-After", "RetryAfter"),
        _ => {}
    }
    let code = json!({ "anyOf": [{ "type": "string", "enum": codes }, { "type": "string" }] });
    let schema = json!({
        "allOf": [
            { "$ref": "#/components/schemas/Problem" },
            { "type": "object", "properties": { "code": code } },
        ],
    });
    json!({
        "description": format!("`{}`", codes.join("`, `")),
        "headers": headers,
        "content": { "application/problem+json": { "schema": schema } },
    })
}

#[cfg(test)]
mod tests {
    use cart_core::limits;

    use super::*;
    use crate::http::input::COMMANDS_MAX;

    #[test]
    fn every_operation_has_a_handler_and_codes_of_the_table() {
        let mut source: Value = serde_json::from_str(SOURCE).expect("openapi.json is JSON");
        for (path, item) in source["paths"].as_object_mut().expect("paths") {
            for (method, operation) in operations(item) {
                let id = operation["operationId"].as_str().unwrap_or_default();
                assert!(handler(id).is_some(), "{method} {path}: no handler {id}");
                for code in operation["x-codes"].as_array().expect("its own codes") {
                    let code = code.as_str().unwrap_or_default();
                    assert!(codes::find(code).is_some(), "{method} {path}: {code} is in no table");
                }
            }
        }
        let all = [ALWAYS, WITH_BODY, WITH_TOKEN].concat();
        assert!(all.iter().all(|code| codes::find(code).is_some()));
        assert!(routes(&mut document(true)).has_routes());
    }

    #[test]
    fn a_production_deployment_makes_no_tokens_for_the_asking() {
        assert!(document(true)["paths"].get(DEV_ONLY).is_some());
        assert!(document(false)["paths"].get(DEV_ONLY).is_none());
    }

    #[test]
    fn problems_are_listed_by_status_and_code() {
        let document = document(true);
        let responses = &document["paths"]["/v1/cart/checkout"]["post"]["responses"];
        let codes = &responses["409"]["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]
            ["code"];
        let expected = json!(["cart_changed", "out_of_stock", "request_in_progress", "orders_pending"]);
        assert_eq!(codes["anyOf"][0]["enum"], expected);
        assert!(
            document["info"]["description"]
                .as_str()
                .is_some_and(|text| text.contains("| 409 | `cart_changed`"))
        );
    }

    #[test]
    fn limits_are_those_of_the_code() {
        let document = document(true);
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["AddItem"]["properties"]["quantity"]["maximum"], limits::QUANTITY_MAX);
        assert_eq!(schemas["Cart"]["properties"]["lines"]["maxItems"], limits::LINES_MAX);
        assert_eq!(schemas["Cart"]["properties"]["coupons"]["maxItems"], limits::COUPONS_MAX);
        assert_eq!(schemas["Commands"]["properties"]["commands"]["maxItems"], COMMANDS_MAX);
    }
}
