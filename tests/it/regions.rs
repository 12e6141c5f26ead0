//! Several regions, one cart: what each sees, and what happens when they lose sight of home.

mod consistency;
mod feed;
mod forwarding;
mod outage;
mod peers;
mod replicas;
