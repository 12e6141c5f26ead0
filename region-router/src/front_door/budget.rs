//! How many requests may be sent a second time.

use std::sync::atomic::{AtomicI64, Ordering};

/// One retry, in the parts that the balance is counted in.
const RETRY: i64 = 100;

/// What each request adds: in the long run one in five may be sent again. When everything fails, the regions
/// then see a fifth more than without retries, not twice as much.
const DEPOSIT: i64 = 20;

/// Requests earn retries for those that fail. It begins full.
pub(super) struct RetryBudget {
    balance: AtomicI64,
    balance_max: i64,
}

impl RetryBudget {
    pub(super) fn full(retries_saved_max: u32) -> Self {
        let balance_max = i64::from(retries_saved_max) * RETRY;
        Self { balance: AtomicI64::new(balance_max), balance_max }
    }

    /// For every request, whatever becomes of it.
    pub(super) fn deposit(&self) {
        let max = self.balance_max;
        self.change(|balance| (balance < max).then(|| (balance + DEPOSIT).min(max)));
    }

    /// Before a request is sent again; it is not when this is false.
    pub(super) fn withdraw(&self) -> bool {
        self.change(|balance| (balance >= RETRY).then_some(balance - RETRY))
    }

    fn change(&self, how: impl FnMut(i64) -> Option<i64>) -> bool {
        self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, how).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(budget: &RetryBudget) -> i64 {
        std::iter::from_fn(|| budget.withdraw().then_some(())).count() as i64
    }

    #[test]
    fn a_full_budget_is_spent_and_then_a_fifth_of_the_requests_may_be_repeated() {
        let budget = RetryBudget::full(512);
        budget.deposit();
        assert_eq!(spent(&budget), 512);
        (0..100).for_each(|_| budget.deposit());
        assert_eq!(spent(&budget), 20);
    }
}
