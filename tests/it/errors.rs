//! Every way to be wrong, and the answer to each.

mod inputs;
mod nasty;
mod rate;
mod routes;
mod strict;
mod tokens;
