//! The regional server of Troli.
//!
//! One process serves one region: it hosts the cart rules, answers reads from the regional cache, forwards
//! writes to the home region, and, in the home region, decides them in the primary's transaction.
//!
//! A request goes `http → service → the ports`: [`store::CartCache`], [`home::HomeRegion`],
//! [`store::PrimaryStore`] and the [`rules`]. Only [`app`] makes adapters; only [`http`] knows of status codes;
//! a driver is named in its own adapter alone.

pub mod config;

pub mod app;

mod serve;

pub mod peers;

pub mod http;

pub mod service;

mod confirmed;

pub mod home;

pub mod store;

pub mod rules;

pub mod rules_source;

pub mod upstream;

pub mod replica;

pub mod epoch;

pub mod feed;

pub mod catalogue;

pub mod merchant;

pub mod model;

pub mod view;

pub mod document;
pub mod raw_json;

pub mod breaker;

pub mod shares;

pub mod deadline;

mod workers;

pub mod error;

pub mod auth;

pub mod telemetry;

pub mod clock;
