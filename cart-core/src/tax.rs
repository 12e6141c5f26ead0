use crate::money::{Currency, ratio_of};

/// How an item is taxed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaxClass {
    /// The country's standard rate.
    #[default]
    Standard,
    /// Zero-rated or exempt.
    Zero,
}

/// What a country adds to, or has already put into, a shelf price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaxRule {
    /// Hundredths of a per cent.
    pub rate_basis_points: u32,
    /// Whether shelf prices contain it.
    pub included: bool,
}

/// Singapore: GST 9 % since 2024-01-01; displayed prices must include it.
/// Source: Goods and Services Tax Act 1993 s. 16 as amended 2022; IRAS, "Displaying prices".
pub(crate) const SINGAPORE: TaxRule = TaxRule { rate_basis_points: 900, included: true };
/// Malaysia: sales tax 10 % on low-value goods sold online, since 2024-01-01, added at checkout.
/// Source: Sales Tax (Amendment) Act 2022; Royal Malaysian Customs, "Guide on Sales Tax on Low Value Goods".
pub(crate) const MALAYSIA: TaxRule = TaxRule { rate_basis_points: 1000, included: false };
/// Indonesia: PPN 11 % in effect (12 % on 11/12 of the price) for goods that are not luxuries, since 2025-01-01.
/// Source: PMK 131/2024, article 3.
pub(crate) const INDONESIA: TaxRule = TaxRule { rate_basis_points: 1100, included: true };
/// Thailand: VAT at the reduced 7 % that royal decrees have renewed year by year since 1999.
/// Source: Revenue Code s. 80 and the decree in force; look again each 1 October.
pub(crate) const THAILAND: TaxRule = TaxRule { rate_basis_points: 700, included: true };
/// Vietnam: VAT 10 % reduced to 8 % for most goods from 2025-07-01 to 2026-12-31.
/// Source: National Assembly resolution 204/2025/QH15; look again on 2027-01-01.
pub(crate) const VIETNAM: TaxRule = TaxRule { rate_basis_points: 800, included: true };
/// The Philippines: VAT 12 % since 2006-02-01; price tags include it.
/// Source: National Internal Revenue Code s. 106(A) as amended by RA 9337; Consumer Act, article 81.
pub(crate) const PHILIPPINES: TaxRule = TaxRule { rate_basis_points: 1200, included: true };

/// The rule of the country whose currency the cart is in.
///
/// The currency decides, not the region that happens to answer: the total of a cart must not change because
/// its owner crossed a border or a region failed.
pub const fn tax_rule(currency: Currency) -> TaxRule {
    match currency {
        Currency::Sgd => SINGAPORE,
        Currency::Myr => MALAYSIA,
        Currency::Idr => INDONESIA,
        Currency::Thb => THAILAND,
        Currency::Vnd => VIETNAM,
        Currency::Php => PHILIPPINES,
    }
}

impl TaxRule {
    /// The tax on, or in, a net amount of minor units; rounded half-even.
    pub fn tax(&self, net: i64, class: TaxClass) -> i64 {
        let rate = i64::from(self.rate_basis_points);
        match (class, self.included) {
            (TaxClass::Zero, _) => 0,
            (TaxClass::Standard, true) => ratio_of(net, rate, 10_000 + rate),
            (TaxClass::Standard, false) => ratio_of(net, rate, 10_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tax_is_found_inside_an_inclusive_price_and_put_on_an_exclusive_one() {
        assert_eq!(SINGAPORE.tax(10_900, TaxClass::Standard), 900);
        assert_eq!(MALAYSIA.tax(10_000, TaxClass::Standard), 1_000);
        assert_eq!(VIETNAM.tax(108_000, TaxClass::Standard), 8_000);
        assert_eq!(SINGAPORE.tax(10_900, TaxClass::Zero), 0);
    }
}
