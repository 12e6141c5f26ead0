//! The catalogue and the orders, as the merchant and the payment service change them.

mod import;
mod items;
mod keys;
mod sales;
