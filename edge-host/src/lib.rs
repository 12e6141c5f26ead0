//! The regional server.
