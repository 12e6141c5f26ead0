//! What every test of the whole needs: a fleet in this process, people who call it, and patience with a
//! deadline.
//!
//! - [`Fleet`]: regions on free ports, with a link of their own to the home region that can be slowed down and
//!   cut; and a front door, for those who ask for one. [`shared`] is the fleet of every test that harms nothing.
//! - [`MySqlServer`], [`MySqlReplica`], [`MySqlGroup`] and [`RedisServer`]: real ones, to kill and to pause; a
//!   fleet on [`Stack::Servers`] has its own.
//! - [`PeerCa`]: makes the certificates that regions prove themselves by.
//! - [`Caller`]: a client of the public API, as nobody, a guest or a user; [`Admin`]: one of the internal
//!   listener.
//! - [`Collector`]: receives traces, as a deployment's own would.
//! - [`Browser`]: a real Chromium, whose pages are [`fetch`](Page::fetch)ing.
//! - [`Answer`]: what came back, with checks that say what was expected and what came.
//! - [`eventually`]: waits for a condition, never for a time.
//! - [`history`]: many clients at random work while things go wrong, and whether what they saw can be.
//! - [`components`]: the rules, built from their sources.

mod answer;
mod browser;
mod caller;
mod chance;
mod collector;
mod components;
mod environment;
mod fleet;
pub mod history;
mod internal;
mod mysql;
mod paths;
mod peers;
mod ports;
mod process;
mod redis;
mod server;
mod stack;
mod wait;

pub use answer::Answer;
pub use browser::{Browser, Fetch, Fetched, Page};
pub use caller::{Ask, Caller, fresh_key, unique};
pub use chance::Chance;
pub use collector::{Collector, TracedSpan};
pub use components::{Components, components};
pub use environment::{any_seed, number_setting, size_setting, text_setting};
pub use fleet::{Door, Fleet, FleetOptions, HS256_SECRET, shared};
pub use internal::{Admin, goods};
pub use mysql::{MySqlGroup, MySqlReplica, MySqlServer};
pub use paths::{executable, repository, rules_cache, scratch, target};
pub use peers::{PeerCa, PeerIdentity, peer_ca};
pub use ports::free_port;
pub use process::{GroupedChild, marked_processes};
pub use redis::RedisServer;
pub use server::Server;
pub use stack::Stack;
pub use wait::{PATIENCE, eventually};
