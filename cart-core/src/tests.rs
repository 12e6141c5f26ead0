//! The rules as a whole: properties that hold for every cart, and examples reckoned by hand.

mod commands;
mod examples;
mod generate;
mod offers;
mod prices;
mod totals;
