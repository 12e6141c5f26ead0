use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::cart::Cart;
use crate::context::{Context, CouponKind, CouponLapse};
use crate::money::{Money, allocate, percent_of};
use crate::offer::NotApplied;
use crate::param::Param;
use crate::promotion::Worksheet;
use crate::quote::{Discount, Warning};

/// What became of the coupons of a cart.
#[derive(Default)]
pub(crate) struct CouponsTaken {
    pub(crate) discounts: Vec<Discount>,
    pub(crate) not_applied: Vec<NotApplied>,
    pub(crate) warnings: Vec<Warning>,
}

/// Takes the coupons of a cart off the sheet: percentages before amounts, each in the order it was typed in.
pub(crate) fn take_off(sheet: &mut Worksheet<'_>, cart: &Cart, context: &Context) -> CouponsTaken {
    let mut taken = CouponsTaken::default();
    let mut amounts = Vec::new();
    for code in &cart.coupons {
        let kind = match context.coupon(code) {
            None => Err("unknown"),
            Some(coupon) => match coupon.lapse(context.now_ms) {
                Some(lapse) => Err(lapse.as_str()),
                None => Ok(coupon.kind),
            },
        };
        match kind {
            Ok(CouponKind::Percent(basis_points)) => {
                let left = sheet.left.iter().sum();
                let amount = percent_of(left, basis_points.min(10_000));
                let title = format!("coupon {code}: {} off", percent_text(basis_points));
                taken.give(sheet, code, title, amount, Param::percent("percent", basis_points));
            }
            Ok(CouponKind::Amount(minor)) => amounts.push((code, minor)),
            Ok(CouponKind::OtherCurrency) => taken.lapsed(code, CouponLapse::OtherCurrency.as_str()),
            Err(reason) => taken.lapsed(code, reason),
        }
    }
    for (code, minor) in amounts {
        let left: i64 = sheet.left.iter().sum();
        let money = Money::new(minor, cart.currency);
        let title = format!("coupon {code}: {} {} off", money.amount(), money.currency);
        taken.give(sheet, code, title, minor.min(left), Param::money("amount", minor));
    }
    taken
}

impl CouponsTaken {
    fn give(&mut self, sheet: &mut Worksheet<'_>, code: &str, title: String, amount: i64, param: Param) {
        let parts = allocate(amount, &sheet.left);
        let amount = sheet.take_off(&parts);
        let code = code.to_string();
        if amount > 0 {
            self.discounts.push(Discount { code, title, amount, params: vec![param] });
        } else {
            let detail = "there is nothing left to pay that it could be taken off".to_string();
            let reason = "nothing_left".to_string();
            self.not_applied.push(NotApplied { code, title, reason, detail, params: vec![param] });
        }
    }

    /// A coupon that cannot be used is a warning as well: the shopper typed it in, and it was taken.
    fn lapsed(&mut self, code: &str, reason: &str) {
        let (code_of_warning, why) = match reason {
            "not_started" => ("coupon_not_started", "is not valid yet"),
            "expired" => ("coupon_expired", "has expired"),
            "exhausted" => ("coupon_exhausted", "has been used up"),
            "other_currency" => ("coupon_currency", "is for another currency"),
            _ => ("coupon_gone", "is no longer offered"),
        };
        let detail = format!("coupon {code} {why}");
        self.warnings.push(Warning {
            code: code_of_warning.to_string(),
            line_id: None,
            detail: detail.clone(),
            params: vec![Param::text("code", code)],
        });
        self.not_applied.push(NotApplied {
            code: code.to_string(),
            title: format!("coupon {code}"),
            reason: reason.to_string(),
            detail,
            params: vec![Param::text("code", code)],
        });
    }
}

pub(crate) fn percent_text(basis_points: u32) -> String {
    match (basis_points / 100, basis_points % 100) {
        (whole, 0) => format!("{whole} %"),
        (whole, part) if part % 10 == 0 => format!("{whole}.{} %", part / 10),
        (whole, part) => format!("{whole}.{part:02} %"),
    }
}
