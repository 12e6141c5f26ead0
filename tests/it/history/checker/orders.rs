use std::collections::{BTreeMap, BTreeSet};

use harness::history::{Act, Command, Order, Outcome, Rule, Write, check};

use super::{Made, ONCE, USER, VASE, VASES, refused, version, wanted};

impl Made {
    /// A cart of vases is ordered at version 2.
    fn order(vases: u32) -> Self {
        let mut made = Self::new();
        made.order_again("o_1", vases, 1);
        made
    }

    fn order_again(&mut self, id: &str, vases: u32, number: u64) -> usize {
        let add = Write::One(Command::Add { line: VASE, quantity: vases });
        self.write(USER, add, number, &[(VASE, vases)]);
        let total = i64::from(vases) * 100;
        let mut checkout = wanted(Write::Checkout { total });
        checkout.if_match = Some(version(number));
        self.add(USER, Act::Write(checkout), placed(number + 1, order(id, vases)))
    }

    fn listed(&mut self, orders: Vec<Order>) -> usize {
        self.add(USER, Act::LastOrders, Outcome::Orders(orders))
    }

    fn left(mut self, vases: i64) -> Self {
        self.history.stock_left.insert("vase".to_owned(), vases);
        self
    }
}

fn order(id: &str, vases: u32) -> Order {
    Order {
        id: id.to_owned(),
        state: "pending_payment".to_owned(),
        lines: BTreeMap::from([(VASE, vases)]),
        redeemed: BTreeSet::new(),
        total: i64::from(vases) * 100,
    }
}

fn placed(number: u64, order: Order) -> Outcome {
    Outcome::Placed { version: version(number), order, replayed: false }
}

#[test]
fn orders_that_add_up_are_let_pass() {
    let mut made = Made::order(2);
    made.listed(vec![order("o_1", 2)]);
    made.left(VASES - 2).is_fine();
}

#[test]
fn a_doubled_a_lost_and_a_strange_order_are_found() {
    // Two orders, one checkout.
    let mut made = Made::order(1);
    let listed = made.listed(vec![order("o_2", 1), order("o_1", 1)]);
    made.left(VASES - 2).breaks(Rule::OrdersAddUp, listed);
    // One order, two checkouts.
    let mut made = Made::order(1);
    let again = made.order_again("o_1", 1, 3);
    made.breaks(Rule::OrdersAddUp, again);
    // Listed twice.
    let mut made = Made::order(1);
    let listed = made.listed(vec![order("o_1", 1), order("o_1", 1)]);
    made.breaks(Rule::OrdersAddUp, listed);
    // Acknowledged and not there.
    let mut made = Made::order(1);
    let listed = made.listed(Vec::new());
    made.breaks(Rule::OrdersAddUp, listed);
    // Of another cart than was ordered.
    let mut made = Made::order(1);
    if let Outcome::Placed { order, .. } = &mut made.history.events[1].outcome {
        order.lines.insert(VASE, 2);
    }
    made.breaks(Rule::OrdersAddUp, 1);
    // At another price than was confirmed.
    let mut made = Made::order(1);
    if let Outcome::Placed { order, .. } = &mut made.history.events[1].outcome {
        order.total = 90;
    }
    made.breaks(Rule::OrdersAddUp, 1);
}

#[test]
fn an_order_that_breaks_its_word_is_found() {
    let settled = |made: &mut Made, paid: bool, state: &str| {
        made.add(USER, Act::Settle("o_1".to_owned(), paid), Outcome::Settled(state.to_owned()))
    };
    let in_state = |state: &str| vec![Order { state: state.to_owned(), ..order("o_1", 1) }];
    let mut made = Made::order(1);
    settled(&mut made, true, "paid");
    settled(&mut made, false, "paid");
    made.listed(in_state("paid"));
    made.left(VASES - 1).is_fine();
    // Paid, and cancelled afterwards.
    let mut made = Made::order(1);
    let word = settled(&mut made, true, "paid");
    made.listed(in_state("cancelled"));
    made.left(VASES).breaks(Rule::OrdersAddUp, word);
    // Nobody said so.
    let mut made = Made::order(1);
    made.listed(in_state("paid"));
    made.left(VASES - 1).breaks(Rule::OrdersAddUp, 1);
}

#[test]
fn a_payment_is_refused_when_it_is_too_late_and_not_before() {
    let paid_after = |minutes: u64| {
        let mut made = Made::order(1);
        made.now += minutes * 60 * 1_000_000_000;
        let word = made.add(USER, Act::Settle("o_1".to_owned(), true), refused(409, "order_settled"));
        made.listed(vec![Order { state: "cancelled".to_owned(), ..order("o_1", 1) }]);
        (made.left(VASES), word)
    };
    paid_after(16).0.is_fine();
    let (made, word) = paid_after(9);
    made.breaks(Rule::RefusalsHaveReasons, word);
}

#[test]
fn stock_that_does_not_add_up_is_found() {
    for left in [VASES, VASES - 2, -1] {
        let mut made = Made::order(1);
        made.listed(vec![order("o_1", 1)]);
        made.left(left).breaks(Rule::StockAddsUp, 1);
    }
    // A cancelled order keeps its units.
    let mut made = Made::order(1);
    made.add(USER, Act::Settle("o_1".to_owned(), false), Outcome::Settled("cancelled".to_owned()));
    made.listed(vec![Order { state: "cancelled".to_owned(), ..order("o_1", 1) }]);
    let found = check(&made.left(VASES - 1).history);
    assert!(found.iter().any(|violation| violation.rule == Rule::StockAddsUp), "{found:#?}");
    // More is sold than there is, though it comes back later.
    let mut made = Made::order(4);
    let over = made.order_again("o_2", 4, 3);
    made.add(USER, Act::Settle("o_1".to_owned(), false), Outcome::Settled("cancelled".to_owned()));
    made.listed(vec![order("o_2", 4), Order { state: "cancelled".to_owned(), ..order("o_1", 4) }]);
    made.left(VASES - 4).breaks(Rule::StockAddsUp, over);
    // More is shown than there ever was.
    let mut made = Made::new();
    let at = made.add(USER, Act::ReadItem(VASE), Outcome::Stock(VASES + 1));
    made.breaks(Rule::StockAddsUp, at);
}

#[test]
fn a_coupon_redeemed_too_often_is_found() {
    let mut made = Made::order(1);
    let second = made.order_again("o_2", 1, 3);
    for at in [1, second] {
        if let Outcome::Placed { order, .. } = &mut made.history.events[at].outcome {
            order.redeemed.insert(ONCE.to_owned());
        }
    }
    made.listed(vec![order("o_2", 1), order("o_1", 1)]);
    made.left(VASES - 2).breaks(Rule::StockAddsUp, second);
}
