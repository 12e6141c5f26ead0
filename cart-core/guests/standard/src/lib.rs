//! The standard cart rules, as a component.

cart_guest::export_rules!(cart_core::StandardRules);
