//! Every code that a problem document may have, with its status and what a client does about it. The API's
//! description, its documentation and the README are made from this table.

use axum::http::StatusCode;
use serde::Serialize;

/// What a client does about a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Retry {
    /// Send the same request again.
    Same,
    /// Send the same request again, after `Retry-After`.
    After,
    /// Read the cart, then decide again.
    Reread,
    /// The same request fails again.
    Never,
}

/// A code.
pub(super) struct Code {
    /// Stable, lower snake case.
    pub(super) code: &'static str,
    pub(super) status: StatusCode,
    pub(super) retry: Retry,
    /// When it is answered, in one phrase.
    pub(super) meaning: &'static str,
}

use Retry::{After, Never, Reread, Same};
use StatusCode as S;

/// What the rules refuse by a code of their own.
const RULES_OWN: (StatusCode, Retry) = (S::UNPROCESSABLE_ENTITY, Never);

/// All codes, by status. Rules may refuse by codes of their own, which are 422.
pub(super) const CODES: &[Code] = &[
    // What HTTP asks of a request.
    row(
        "request_malformed",
        S::BAD_REQUEST,
        Never,
        "the request is not HTTP/1.1: request line, header or body framing",
    ),
    row("host_malformed", S::BAD_REQUEST, Never, "no Host header, several, or one that is no name"),
    row("authorization_repeated", S::BAD_REQUEST, Never, "several Authorization headers"),
    row("target_malformed", S::BAD_REQUEST, Never, "the request target is not a path"),
    row("region_unknown", S::BAD_REQUEST, Never, "region or Troli-Region names no region"),
    row("path_malformed", S::BAD_REQUEST, Never, "the path is not UTF-8"),
    row("query_malformed", S::BAD_REQUEST, Never, "the query has a wrong or repeated value"),
    row("parameter_unknown", S::BAD_REQUEST, Never, "the query has an unknown parameter"),
    row("limit_out_of_range", S::BAD_REQUEST, Never, "limit is not between 1 and 100"),
    row("cursor_malformed", S::BAD_REQUEST, Never, "the cursor is not a next_cursor of this list"),
    row(
        "cart_version_malformed",
        S::BAD_REQUEST,
        Never,
        "Cart-Version is not epoch.version or epoch.version.tag",
    ),
    row("too_many_entity_tags", S::BAD_REQUEST, Never, "If-Match or If-None-Match has more than 64 tags"),
    row("idempotency_key_missing", S::BAD_REQUEST, Never, "the request needs an Idempotency-Key"),
    row(
        "idempotency_key_malformed",
        S::BAD_REQUEST,
        Never,
        "Idempotency-Key is not 1 to 255 visible ASCII characters",
    ),
    row("round_trips_malformed", S::BAD_REQUEST, Never, "Troli-Round-Trips is not like jkt=12,sin=30"),
    // What is wrong in a body.
    row("body_incomplete", S::BAD_REQUEST, Same, "the body ended before it was complete"),
    row("body_malformed", S::BAD_REQUEST, Same, "the body did not arrive whole"),
    row("malformed_json", S::BAD_REQUEST, Never, "the body is not JSON"),
    row("json_too_deep", S::BAD_REQUEST, Never, "too many lists and objects are inside each other"),
    row(
        "invalid_input",
        S::BAD_REQUEST,
        Never,
        "a field is missing, unknown, repeated or of a wrong type; see errors",
    ),
    row("item_id_malformed", S::BAD_REQUEST, Never, "an item id is not 1 to 64 visible ASCII characters"),
    row("line_id_malformed", S::BAD_REQUEST, Never, "a line id is not 1 to 64 visible ASCII characters"),
    row(
        "coupon_code_malformed",
        S::BAD_REQUEST,
        Never,
        "a coupon code is not 1 to 64 visible ASCII characters",
    ),
    row(
        "user_id_malformed",
        S::BAD_REQUEST,
        Never,
        "a user id is not 1 to 128 bytes without control characters",
    ),
    row(
        "quantity_out_of_range",
        S::BAD_REQUEST,
        Never,
        "a quantity is not between 1 and 999 (0 where it removes a line)",
    ),
    row("variant_too_large", S::BAD_REQUEST, Never, "a variant has more than 1 KiB"),
    row("variant_too_deep", S::BAD_REQUEST, Never, "a variant is more than 16 levels deep"),
    row("commands_out_of_range", S::BAD_REQUEST, Never, "a batch has no command, or more than 50"),
    row(
        "amount_malformed",
        S::BAD_REQUEST,
        Never,
        "an amount is not a decimal text with the currency's digits",
    ),
    row("guest_token_invalid", S::BAD_REQUEST, Never, "guest_token is not a valid token of a guest"),
    row("catalogue_full", S::BAD_REQUEST, Never, "the catalogue has as many items or coupons as it may have"),
    // Who is calling.
    row("token_missing", S::UNAUTHORIZED, Never, "the request needs Authorization: Bearer"),
    row("token_invalid", S::UNAUTHORIZED, Never, "the token is expired, or not signed by us; get a new one"),
    row(
        "forbidden",
        S::FORBIDDEN,
        Never,
        "the token is of the wrong kind, such as a guest's where a user's is needed",
    ),
    // What is not there.
    row("route_unknown", S::NOT_FOUND, Never, "nothing is at this path"),
    row("item_unknown", S::NOT_FOUND, Never, "the catalogue has no such item"),
    row("line_unknown", S::NOT_FOUND, Reread, "the cart has no such line, perhaps no longer"),
    row("order_unknown", S::NOT_FOUND, Never, "the caller has no such order"),
    row("method_not_allowed", S::METHOD_NOT_ALLOWED, Never, "the path does not take this method; see Allow"),
    row("request_timeout", S::REQUEST_TIMEOUT, Same, "the request did not arrive in time"),
    // What does not fit.
    row(
        "cart_changed",
        S::CONFLICT,
        Reread,
        "the cart costs something else than expected_total; see current_total",
    ),
    row("out_of_stock", S::CONFLICT, Reread, "too few units are left; see params.stock"),
    row("request_in_progress", S::CONFLICT, After, "the first request with this key is still under way"),
    row(
        "orders_pending",
        S::CONFLICT,
        Never,
        "too many orders wait for their payment: pay or cancel one first",
    ),
    row("order_settled", S::CONFLICT, Never, "the order is paid or cancelled already"),
    row("stock_negative", S::CONFLICT, Never, "the stock would fall below 0"),
    row("stock_too_large", S::CONFLICT, Never, "the stock would be above the most there may be"),
    row(
        "cart_merged",
        S::GONE,
        Never,
        "the guest's cart went to a user: use the user's token, or a new guest's",
    ),
    row("version_mismatch", S::PRECONDITION_FAILED, Reread, "If-Match does not hold; see current_version"),
    row("body_too_large", S::PAYLOAD_TOO_LARGE, Never, "the body has more than 64 KiB"),
    row("target_too_long", S::URI_TOO_LONG, Never, "the request line is too long"),
    row("media_type_unsupported", S::UNSUPPORTED_MEDIA_TYPE, Never, "Content-Type is not application/json"),
    row("content_encoding_unsupported", S::UNSUPPORTED_MEDIA_TYPE, Never, "the body is compressed"),
    row(
        "not_home_region",
        S::MISDIRECTED_REQUEST,
        Never,
        "the catalogue and orders are changed in the home region",
    ),
    // What the rules refuse.
    row("item_not_sold", S::UNPROCESSABLE_ENTITY, Never, "the item has no price in the cart's currency"),
    row("item_gone", S::UNPROCESSABLE_ENTITY, Reread, "the item of a line is no longer for sale"),
    row(
        "quantity_above_item_max",
        S::UNPROCESSABLE_ENTITY,
        Never,
        "more units than the merchant allows; see params.quantity_max",
    ),
    row("too_many_lines", S::UNPROCESSABLE_ENTITY, Never, "a cart has at most 500 lines"),
    row(
        "variants_too_large",
        S::UNPROCESSABLE_ENTITY,
        Never,
        "the variants of a cart have more than 64 KiB together",
    ),
    row("cart_empty", S::UNPROCESSABLE_ENTITY, Reread, "there is nothing to check out"),
    row("coupon_unknown", S::UNPROCESSABLE_ENTITY, Never, "there is no such coupon"),
    row("coupon_not_started", S::UNPROCESSABLE_ENTITY, Never, "the coupon is not valid yet"),
    row("coupon_expired", S::UNPROCESSABLE_ENTITY, Never, "the coupon has expired"),
    row("coupon_exhausted", S::UNPROCESSABLE_ENTITY, Never, "the coupon has been used up"),
    row("coupon_currency", S::UNPROCESSABLE_ENTITY, Never, "the coupon is for another currency"),
    row("too_many_coupons", S::UNPROCESSABLE_ENTITY, Never, "a cart has at most 20 coupons"),
    row(
        "currency_mismatch",
        S::UNPROCESSABLE_ENTITY,
        Never,
        "the two carts have lines in different currencies",
    ),
    row(
        "idempotency_key_reused",
        S::UNPROCESSABLE_ENTITY,
        Never,
        "the key was used for another request; see done",
    ),
    row("precondition_required", S::PRECONDITION_REQUIRED, Reread, "checkout needs If-Match"),
    row("rate_limited", S::TOO_MANY_REQUESTS, After, "too many requests of one caller"),
    row(
        "headers_too_large",
        S::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Never,
        "too many headers, or too large ones",
    ),
    // What we cannot do now.
    row("internal", S::INTERNAL_SERVER_ERROR, Same, "a mistake of ours; the request_id finds it"),
    row("overloaded", S::SERVICE_UNAVAILABLE, After, "this server, or what the request is about, is busy"),
    row(
        "home_unavailable",
        S::SERVICE_UNAVAILABLE,
        After,
        "the home region cannot be reached: no writes for now",
    ),
    row(
        "region_unavailable",
        S::SERVICE_UNAVAILABLE,
        After,
        "no region answers; send a write again under its key",
    ),
    row("rules_not_loaded", S::SERVICE_UNAVAILABLE, After, "this server has no cart rules yet"),
    row("rules_out_of_fuel", S::SERVICE_UNAVAILABLE, After, "the cart rules failed; nothing was changed"),
    row("rules_timed_out", S::SERVICE_UNAVAILABLE, After, "the cart rules failed; nothing was changed"),
    row("rules_out_of_memory", S::SERVICE_UNAVAILABLE, After, "the cart rules failed; nothing was changed"),
    row("rules_trapped", S::SERVICE_UNAVAILABLE, After, "the cart rules failed; nothing was changed"),
    row("rules_invalid_output", S::SERVICE_UNAVAILABLE, After, "the cart rules failed; nothing was changed"),
    row(
        "loop_detected",
        S::LOOP_DETECTED,
        Never,
        "regions forward to each other: a mistake in their configuration",
    ),
];

const fn row(code: &'static str, status: StatusCode, retry: Retry, meaning: &'static str) -> Code {
    Code { code, status, retry, meaning }
}

/// The row of a code.
pub(super) fn find(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|row| row.code == code)
}

/// Status and advice of a code. One that is not in the table is of the rules.
pub(super) fn of(code: &str) -> (StatusCode, Retry) {
    find(code).map_or(RULES_OWN, |row| (row.status, row.retry))
}

impl Retry {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Same => "same",
            After => "after",
            Reread => "reread",
            Never => "never",
        }
    }
}

/// The table, for people.
pub(super) fn markdown() -> String {
    let rows = CODES.iter().map(|row| {
        let Code { code, status, retry, meaning } = row;
        format!("| {} | `{code}` | `{}` | {meaning} |\n", status.as_u16(), retry.as_str())
    });
    std::iter::once("| status | `code` | `retry` | when |\n|---|---|---|---|\n".to_owned())
        .chain(rows)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_code_stands_once_and_after_means_retry_after() {
        let names: BTreeSet<_> = CODES.iter().map(|row| row.code).collect();
        assert_eq!(names.len(), CODES.len());
        for row in CODES {
            let waits = [S::TOO_MANY_REQUESTS, S::SERVICE_UNAVAILABLE].contains(&row.status);
            assert_eq!(row.retry == After, waits || row.code == "request_in_progress", "{}", row.code);
        }
    }

    #[test]
    fn the_readme_has_the_table() {
        let readme = include_str!("../../../README.md");
        let given = readme.split("<!-- codes -->\n").nth(1).expect("the README marks where the table is");
        assert_eq!(given, markdown(), "put this table between the two marks `<!-- codes -->` in README.md");
    }
}
