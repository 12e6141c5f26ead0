//! Rules that break every promise on demand.
cart_guest::export_rules!(cart_core::StandardRules);
