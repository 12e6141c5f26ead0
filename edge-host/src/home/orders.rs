//! Orders at home: a page of them, and how many may be unpaid.

use crate::error::{CartError, Reason};
use crate::home::ORDERS_BYTES_MAX;
use crate::model::{OrderRecord, OwnerKind, Principal};
use crate::store::PrimaryStore;
use crate::view::ParamsView;

/// Orders that are read from the primary at once: the largest have some hundred kilobytes each.
const READ_AT_ONCE: u32 = 8;
/// Unpaid orders of a guest. Each holds stock, and a new guest costs nothing.
const UNPAID_OF_GUEST_MAX: u32 = 3;
/// Unpaid orders of a user.
const UNPAID_OF_USER_MAX: u32 = 10;

/// At most `limit` orders, newest first. The page ends with the order that passes [`ORDERS_BYTES_MAX`].
pub(super) async fn page(
    store: &dyn PrimaryStore,
    owner: &Principal,
    before: Option<&str>,
    limit: u32,
) -> Result<Vec<OrderRecord>, CartError> {
    let (mut page, mut bytes) = (Vec::<OrderRecord>::new(), 0);
    while bytes < ORDERS_BYTES_MAX {
        let at_once = limit.saturating_sub(count(&page)).min(READ_AT_ONCE);
        let after = page.last().map(|order| order.order_id.clone());
        let more = store.orders(owner, after.as_deref().or(before), at_once).await?;
        let is_the_end = count(&more) < READ_AT_ONCE;
        for order in more {
            if bytes >= ORDERS_BYTES_MAX {
                break;
            }
            bytes += order.document.as_str().len();
            page.push(order);
        }
        if is_the_end {
            break;
        }
    }
    Ok(page)
}

/// Refuses an order of an owner who has as many unpaid orders as there may be: each holds stock.
pub(super) fn may_order(kind: OwnerKind, unpaid: u32) -> Result<(), CartError> {
    let max = match kind {
        OwnerKind::Guest => UNPAID_OF_GUEST_MAX,
        OwnerKind::User => UNPAID_OF_USER_MAX,
    };
    if unpaid < max {
        return Ok(());
    }
    Err(CartError::Rejected(vec![Reason {
        code: "orders_pending".to_owned(),
        detail: format!("{unpaid} orders are not paid yet, of at most {max}"),
        line_id: None,
        command: None,
        params: ParamsView::default(),
    }]))
}

fn count(orders: &[OrderRecord]) -> u32 {
    u32::try_from(orders.len()).unwrap_or(u32::MAX)
}
