use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A value in a text for shoppers, by its name: what a translation of the text needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Lower snake case: `stock`, `was`, `now`, `percent`.
    pub name: String,
    /// The value.
    pub value: ParamValue,
}

/// A value that a translation formats by its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamValue {
    /// A name or a code, shown as it is.
    Text(String),
    /// A count.
    Number(i64),
    /// Minor units of the cart's currency.
    Money(i64),
    /// Hundredths of a per cent.
    Percent(u32),
}

impl Param {
    /// A name or a code.
    pub fn text(name: &str, text: &str) -> Self {
        Self { name: name.to_string(), value: ParamValue::Text(text.to_string()) }
    }

    /// A count.
    pub fn number(name: &str, number: impl Into<i64>) -> Self {
        Self { name: name.to_string(), value: ParamValue::Number(number.into()) }
    }

    /// Minor units of the cart's currency.
    pub fn money(name: &str, minor: i64) -> Self {
        Self { name: name.to_string(), value: ParamValue::Money(minor) }
    }

    /// Hundredths of a per cent.
    pub fn percent(name: &str, basis_points: u32) -> Self {
        Self { name: name.to_string(), value: ParamValue::Percent(basis_points) }
    }
}

/// No parameters; allocates nothing.
pub(crate) const NONE: Vec<Param> = Vec::new();
