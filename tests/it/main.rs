//! The tests of the whole, in one binary, so that they link once and share a fleet.

/// Checks that many tests share.
mod support;

// What an owner does with a cart.

/// Lines, coupons, prices, limits and pages.
mod carts;

/// Versions, conditions, idempotency keys and races.
mod concurrency_and_conditions;

/// A guest's token is renewed.
mod guests;

/// A guest signs in.
mod merge;

/// Orders, stock and payment.
mod checkout;

/// Wrong routes, inputs and tokens.
mod errors;

/// The API's description, read by public tools.
mod api;

/// Whatever is accepted is read back byte for byte.
mod roundtrip;

/// Pages of other origins.
mod cors;

/// Callers who take all there is.
mod doors;

// Several regions.

/// Consistency, forwarding, the feed and outages.
mod regions;

/// Chromium, with its cache and its cookies.
mod browser;

/// What a cart costs, computed a second time.
mod reference;

/// Random work while things go wrong.
mod history;

/// One noisy cart, item or caller, and everybody else.
mod abuse;

/// Another server becomes the primary.
mod failover;

/// Hosts whose clock is wrong.
mod clock;

/// The nearest region that serves.
mod front_door;

/// Restarts under load.
mod restarts;

/// The nearest region by name.
mod geodns;

/// Addresses from DNS, our own as the server.
mod discovery;

/// Health, metrics, and who may do what.
mod internal_listener;

/// What a merchant and the payment service change.
mod admin;

// The rules.

/// Swapped while the shop is open; and what bad ones do.
mod rules;

/// Natively and as a component.
mod rules_parity;

/// Prices that move while something is in the cart.
mod price_policy;

/// Real supermarket baskets.
mod baskets;

// The parts behind the ports.

/// The real servers, as the tests start them.
mod servers;

/// What only a primary of several hosts has to do.
mod mysql;

/// One suite of behaviours for every store.
mod store_contract;

/// Read once for all who follow it.
mod feed;

/// The cache in a real Redis.
mod redis;

// The repository and what it builds.

/// `deploy/up`, as a developer runs it.
mod deploy_up;

/// The certificates by which regions know each other.
mod certificates;

/// The executables from outside.
mod executables;

/// What the architecture promises.
mod tidy;

/// What the documents point at.
mod documents;
