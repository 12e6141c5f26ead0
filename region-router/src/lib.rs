//! Decides which region serves a caller, and is the front door that acts on it.
//!
//! The decision is pure: [`topology`], [`proximity`], [`health`] and [`decision`] open no socket and read
//! no clock; time comes in as an argument. Whoever routes (the HTTP front door, DNS, an edge that answers
//! `GET /v1/regions`) calls the same [`decision::decide`].
//!
//! The others do input and output: [`admission`] keeps one caller from closing a listener to all others, [`cors`] says which pages may call, [`discovery`] finds addresses in DNS, [`regions`] probes the regions' health,
//! [`front_door`] is a streaming reverse proxy in front of them, [`geodns`] names the nearest one, and [`link`] is
//! a TCP relay that adds the round trip between two regions and breaks it on request. [`traces`] sends out what a
//! request did, and [`causes`] writes an error and its causes in one line; the edges use both.
#![forbid(unsafe_code)]

pub mod topology;

pub mod proximity;

pub mod health;

pub mod decision;

pub mod discovery;

pub mod regions;

pub mod link;

pub mod admission;

pub mod cors;

pub mod front_door;

pub mod refusal;

pub mod geodns;

pub mod causes;

pub mod traces;
