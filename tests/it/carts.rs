//! Every endpoint of the cart, as its owner sees it.

mod coupons;
mod limits;
mod lines;
mod pages;
mod prices;
