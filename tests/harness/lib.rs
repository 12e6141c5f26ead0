//! Starts fleets for the tests.
