use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;

use rust_decimal::Decimal;

/// The currencies of the six regions, with the digits that ISO 4217 gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Currency {
    /// Singapore dollar.
    Sgd,
    /// Malaysian ringgit.
    Myr,
    /// Indonesian rupiah. ISO 4217 gives it two digits, though prices are rarely quoted with them.
    Idr,
    /// Thai baht.
    Thb,
    /// Vietnamese dong: no minor unit.
    Vnd,
    /// Philippine peso.
    Php,
}

impl Currency {
    /// Every currency, in a fixed order.
    pub const ALL: [Self; 6] = [Self::Sgd, Self::Myr, Self::Idr, Self::Thb, Self::Vnd, Self::Php];

    /// The ISO 4217 code, upper case.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Sgd => "SGD",
            Self::Myr => "MYR",
            Self::Idr => "IDR",
            Self::Thb => "THB",
            Self::Vnd => "VND",
            Self::Php => "PHP",
        }
    }

    /// The currency of an ISO 4217 code in upper case, if it is one of ours.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|currency| currency.code() == code)
    }

    /// Decimal digits of the currency's minor unit (ISO 4217).
    pub const fn digits(self) -> u32 {
        match self {
            Self::Vnd => 0,
            Self::Sgd | Self::Myr | Self::Idr | Self::Thb | Self::Php => 2,
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount of one currency, in its minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Money {
    /// Minor units: 1990 is SGD 19.90, and VND 1990.
    pub minor: i64,
    /// The currency.
    pub currency: Currency,
}

/// Why a text is not an amount of a currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not a plain decimal number.
    #[error("not a decimal number")]
    Malformed,
    /// More digits after the point than the currency has.
    #[error("more decimal digits than the currency has")]
    TooPrecise,
    /// Beyond what an amount can hold.
    #[error("out of range")]
    OutOfRange,
}

impl Money {
    /// An amount of minor units.
    pub const fn new(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Reads a decimal text such as `19.90`. Fewer digits than the currency has are fine, more are not:
    /// an amount is never rounded on the way in.
    pub fn parse(amount: &str, currency: Currency) -> Result<Self, MoneyError> {
        Ok(Self { minor: parse_decimal(amount, currency.digits())?, currency })
    }

    /// The amount as a decimal text with exactly the currency's digits.
    pub fn amount(&self) -> String {
        Decimal::new(self.minor, self.currency.digits()).to_string()
    }
}

/// Reads a plain decimal text as a whole number of its last digits: with two digits, `19.9` is 1990. The one reader
/// of decimals that people write: digits, at most one point between them, and a minus sign before them; no exponent,
/// no plus sign, no separators.
pub fn parse_decimal(text: &str, digits: u32) -> Result<i64, MoneyError> {
    let plain = |b: u8| b.is_ascii_digit() || b == b'.' || b == b'-';
    if !text.bytes().all(plain) {
        return Err(MoneyError::Malformed);
    }
    let decimal = Decimal::from_str_exact(text).map_err(|_| MoneyError::Malformed)?;
    if decimal.normalize().scale() > digits {
        return Err(MoneyError::TooPrecise);
    }
    decimal
        .checked_mul(Decimal::from(10_i64.pow(digits)))
        .and_then(|scaled| i64::try_from(scaled).ok())
        .ok_or(MoneyError::OutOfRange)
}

/// `basis_points` hundredths of a per cent of `minor`, rounded half-even to a whole minor unit.
///
/// Half-even (IEEE 754 `roundTiesToEven`) so that many small roundings do not drift one way.
pub fn percent_of(minor: i64, basis_points: u32) -> i64 {
    ratio_of(minor, i64::from(basis_points), 10_000)
}

/// `minor × numerator / denominator`, rounded half-even; none of them negative, and the last above 0. The caller
/// keeps the result within an `i64`.
///
/// In integers: a quote does this for every line, and a decimal division costs a component thousands of
/// instructions.
pub(crate) fn ratio_of(minor: i64, numerator: i64, denominator: i64) -> i64 {
    let (quotient, remainder) = share(minor, numerator, i128::from(denominator));
    let twice = i128::from(remainder) * 2;
    let up = match twice.cmp(&i128::from(denominator)) {
        Ordering::Less => false,
        Ordering::Greater => true,
        Ordering::Equal => quotient % 2 == 1,
    };
    quotient + i64::from(up)
}

/// Splits `amount` over `weights` in proportion, to the last minor unit: the parts add up to `amount`.
///
/// Largest-remainder method (Hamilton): every part is its exact share rounded down, and the units left over
/// go to the largest remainders, the earlier first. With no weight at all, nothing is given out.
/// A part never exceeds its weight as long as `amount` does not exceed their sum.
pub fn allocate(amount: i64, weights: &[i64]) -> Vec<i64> {
    let sum: i128 = weights.iter().map(|w| i128::from(*w)).sum();
    if sum <= 0 || amount <= 0 {
        return vec![0; weights.len()];
    }
    let mut parts = Vec::with_capacity(weights.len());
    let mut remainders = Vec::with_capacity(weights.len());
    let mut left = amount;
    for (index, weight) in weights.iter().enumerate() {
        let (part, remainder) = share(amount, *weight, sum);
        left -= part;
        parts.push(part);
        remainders.push((remainder, index));
    }
    remainders.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, index) in remainders.into_iter().take(usize::try_from(left).unwrap_or(0)) {
        parts[index] += 1;
    }
    parts
}

/// `amount × weight / sum`, rounded down, and what remains.
fn share(amount: i64, weight: i64, sum: i128) -> (i64, i64) {
    // Nearly always everything fits 64 bits, where a component divides in one instruction instead of hundreds.
    if let (Some(exact), Ok(sum)) = (amount.checked_mul(weight), i64::try_from(sum)) {
        return (exact / sum, exact % sum);
    }
    let exact = i128::from(amount) * i128::from(weight);
    let narrow = |value: i128| i64::try_from(value).unwrap_or(i64::MAX);
    (narrow(exact / sum), narrow(exact % sum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, currency: Currency, expect: Result<i64, MoneyError>) {
        assert_eq!(Money::parse(text, currency).map(|m| m.minor), expect, "{text} {currency}");
    }

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        check("19.90", Currency::Sgd, Ok(1990));
        check("19.9", Currency::Sgd, Ok(1990));
        check("19.900", Currency::Sgd, Ok(1990));
        check("19.905", Currency::Sgd, Err(MoneyError::TooPrecise));
        check("45000", Currency::Vnd, Ok(45_000));
        check("45000.5", Currency::Vnd, Err(MoneyError::TooPrecise));
        check("1e3", Currency::Sgd, Err(MoneyError::Malformed));
        check("", Currency::Sgd, Err(MoneyError::Malformed));
        check("99999999999999999999", Currency::Sgd, Err(MoneyError::OutOfRange));
        assert_eq!(Money::new(5, Currency::Sgd).amount(), "0.05");
        assert_eq!(Money::new(45_000, Currency::Vnd).amount(), "45000");
    }

    #[test]
    fn halves_round_to_even() {
        assert_eq!(percent_of(50, 500), 2); // 2.5
        assert_eq!(percent_of(70, 500), 4); // 3.5
        assert_eq!(percent_of(51, 500), 3); // 2.55
    }

    proptest! {
        #[test]
        fn text_and_back(minor in -1_000_000_000_000_i64..1_000_000_000_000, which in 0..6_usize) {
            let money = Money::new(minor, Currency::ALL[which]);
            prop_assert_eq!(Money::parse(&money.amount(), money.currency), Ok(money));
        }

        #[test]
        fn parts_add_up_and_stay_below_their_weight(
            weights in proptest::collection::vec(0_i64..1_000_000, 1..40),
            share in 0_u32..=10_000,
        ) {
            let sum: i64 = weights.iter().sum();
            let amount = percent_of(sum, share);
            let parts = allocate(amount, &weights);
            prop_assert_eq!(parts.iter().sum::<i64>(), amount);
            for (part, weight) in parts.iter().zip(&weights) {
                prop_assert!(*part >= 0 && part <= weight);
            }
        }
    }
}
