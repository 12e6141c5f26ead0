//! A session: somebody who asks one thing after the other, and tries again until there is an answer.

use std::time::Duration;

use super::record::{Act, CartNo, Command, Contents, Event, Outcome, Policy, Version, Wanted, Write};
use super::shop::Shop;
use super::wire::{Heard, hear, request};
use crate::{Caller, Chance, fresh_key, unique};

/// A client hangs up after this; longer than a forward may take.
const CLIENT_PATIENCE: Duration = Duration::from_secs(4);
/// Tries of one request. What is open after that is asked again when all is well.
const TRIES: u32 = 7;
/// Between two tries, times the number of the try.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(30);
/// Acknowledged writes of its own that a session remembers.
const REMEMBERED: usize = 20;

/// Somebody who asks one thing after the other.
pub(super) struct Session<'a> {
    shop: &'a Shop<'a>,
    no: usize,
    chance: Chance,
    seat: Option<usize>,
    cart: CartNo,
    follows: bool,
    /// Goes to any region; the others stay at theirs until it does not answer.
    roams: bool,
    region: &'static str,
    seen: Option<Version>,
    /// The cart as it was last shown: its version, what was in it, its total, and its tag.
    last: Option<(Version, Contents, i64, String)>,
    /// Acknowledged writes: their places in the history.
    wrote: Vec<(usize, Wanted)>,
}

impl<'a> Session<'a> {
    /// A session of a user, or of whoever is in a guest's seat.
    pub(super) fn new(shop: &'a Shop<'a>, no: usize, cart: CartNo, seat: Option<usize>) -> Self {
        let mut chance =
            Chance::seeded(shop.options.seed ^ (no as u64 + 1).wrapping_mul(0x5851_f42d_4c95_7f2d));
        let follows = !chance.once_in(3);
        let roams = chance.once_in(2);
        let region = chance.pick(&shop.doors);
        Self {
            shop,
            no,
            chance,
            seat,
            cart,
            follows,
            roams,
            region,
            seen: None,
            last: None,
            wrote: Vec::new(),
        }
    }

    /// Goes on as long as the shop is open.
    pub(super) async fn run(mut self) {
        while self.shop.is_open() {
            self.take_seat();
            self.step().await;
        }
    }

    /// Another session of the same guest may have found out first that the guest signed in.
    fn take_seat(&mut self) {
        let Some(seat) = self.seat else { return };
        let cart = *self.shop.seats[seat].lock().expect("no holder panics");
        if cart != self.cart {
            self.cart = cart;
            self.seen = None;
            self.last = None;
            self.wrote.clear();
        }
    }

    async fn step(&mut self) {
        match self.chance.below(100) {
            0..26 => self.ask(Act::Read).await,
            26..32 => {
                let known = self.last.as_ref().map(|(version, .., tag)| (*version, tag.clone()));
                self.ask(known.map_or(Act::Read, |(version, tag)| Act::ReadUnless(version, tag))).await
            }
            32..39 => self.ask(Act::Count).await,
            39..43 => {
                let line = self.some_line();
                self.ask(Act::ReadLine(line)).await
            }
            43..45 => {
                let item = self.chance.below(self.shop.goods.items.len());
                self.ask(Act::ReadItem(item)).await
            }
            45..47 => self.ask(Act::ReadOrders).await,
            47..78 => {
                let command = self.command();
                self.write(Write::One(command)).await
            }
            78..84 => {
                let commands = (0..=self.chance.below(4)).map(|_| self.command()).collect();
                self.write(Write::Batch(commands)).await
            }
            84..89 => self.repeat().await,
            89..91 => self.misuse().await,
            91..93 if self.seat.is_none() => self.merge().await,
            _ => self.checkout().await,
        }
    }

    fn command(&mut self) -> Command {
        let line = self.some_line();
        // Now and then so many that a limit is met.
        let quantity = if self.chance.once_in(12) { 400 } else { 3 };
        let quantity = u32::try_from(self.chance.below(quantity) + 1).expect("it is small");
        let code = self.shop.goods.coupons[self.chance.below(self.shop.goods.coupons.len())].code.clone();
        match self.chance.below(20) {
            0..9 => {
                let line = self.chance.below(self.shop.goods.lines.len());
                let few = self.shop.goods.item_of(line).scarce;
                Command::Add { line, quantity: if few { quantity.min(3) } else { quantity } }
            }
            9..13 => Command::Set { line, quantity },
            13..16 => Command::Remove { line },
            16 if self.chance.once_in(3) => Command::Clear,
            16..18 => Command::ApplyCoupon { code },
            _ => Command::RemoveCoupon { code },
        }
    }

    /// Mostly one that is in the cart, as far as is known.
    fn some_line(&mut self) -> usize {
        let known: Vec<usize> =
            self.last.iter().flat_map(|(_, contents, ..)| contents.lines.keys().copied()).collect();
        if known.is_empty() || self.chance.once_in(8) {
            self.chance.below(self.shop.goods.lines.len())
        } else {
            self.chance.pick(&known)
        }
    }

    async fn write(&mut self, write: Write) {
        let conditional = self.chance.once_in(8);
        let if_match = self.last.as_ref().filter(|_| conditional).map(|(version, ..)| *version);
        self.ask(Act::Write(Wanted { key: fresh_key(), write, if_match })).await;
    }

    /// Looks at the cart and orders it as it was shown.
    async fn checkout(&mut self) {
        self.last = None;
        self.ask(Act::Read).await;
        let Some((version, _, total, _)) = self.last.clone() else { return };
        let write = Write::Checkout { total };
        self.ask(Act::Write(Wanted { key: fresh_key(), write, if_match: Some(version) })).await;
    }

    /// A guest signs in.
    async fn merge(&mut self) {
        let seat = self.chance.below(self.shop.seats.len());
        let guest = *self.shop.seats[seat].lock().expect("no holder panics");
        let policy = self.chance.pick(&[Policy::Max, Policy::Sum, Policy::Replace]);
        self.ask(Act::Write(Wanted {
            key: fresh_key(),
            write: Write::Merge { guest, policy },
            if_match: None,
        }))
        .await;
    }

    async fn repeat(&mut self) {
        if self.wrote.is_empty() {
            return self.ask(Act::Read).await;
        }
        let (first, wanted) = self.chance.pick(&self.wrote);
        self.ask(Act::Repeat(first, wanted)).await;
    }

    async fn misuse(&mut self) {
        if self.wrote.is_empty() {
            return self.ask(Act::Read).await;
        }
        let (first, mut wanted) = self.chance.pick(&self.wrote);
        let line = self.some_line();
        let other = Write::One(Command::Add { line, quantity: 7 });
        wanted.write = if wanted.write == other { Write::One(Command::Clear) } else { other };
        self.ask(Act::Misuse(first, wanted)).await;
    }

    /// Asks until there is an answer or patience ends, and notes what came of it.
    async fn ask(&mut self, act: Act) {
        if self.roams || self.chance.once_in(10) {
            self.region = self.chance.pick(&self.shop.doors);
        }
        let regions = &self.shop.doors;
        let tries = Tries { shop: self.shop, regions, first: self.region, seen: self.seen };
        let began = self.shop.now();
        let tried = tries.ask(&act, &mut self.chance, |region| self.shop.owner_at(self.cart, region)).await;
        let event = Event {
            session: self.no,
            follows: self.follows,
            cart: self.cart,
            region: tried.region,
            began,
            ended: self.shop.now(),
            seen: self.seen,
            act,
            ambiguous: tried.ambiguous,
            outcome: tried.outcome,
        };
        self.learn(event).await;
        self.shop.done.send_modify(|done| *done += 1);
    }

    async fn learn(&mut self, event: Event) {
        if let (Some(version), true) = (event.version(), self.follows) {
            self.seen = self.seen.max(Some(version));
        }
        if let Outcome::Cart { version, shown, total, tag, .. } = &event.outcome
            && self.last.as_ref().is_none_or(|(known, ..)| known <= version)
        {
            self.last = Some((*version, shown.clone(), *total, tag.clone()));
        }
        if let (Act::Write(_), Outcome::Placed { order, .. }) = (&event.act, &event.outcome) {
            self.shop.pay_for(self.cart, &order.id);
        }
        let signed_in = super::check::says_merged(&event.outcome)
            && !matches!(event.write(), Some(Wanted { write: Write::Merge { .. }, .. }));
        let wrote = event.acknowledged().map(|(wanted, _)| wanted.clone());
        let at = self.shop.note(event);
        if let Some(wanted) = wrote {
            if self.wrote.len() == REMEMBERED {
                self.wrote.remove(0);
            }
            self.wrote.push((at, wanted));
        }
        if let (true, Some(seat)) = (signed_in, self.seat) {
            stand_up(self.shop, seat, self.cart, &mut self.chance).await;
        }
    }
}

/// The next guest sits down, unless one has already.
async fn stand_up(shop: &Shop<'_>, seat: usize, left: CartNo, chance: &mut Chance) {
    let token = guest_token(shop, chance).await;
    let mut seated = shop.seats[seat].lock().expect("no holder panics");
    if *seated == left {
        *seated = shop.add_cart(unique("guest"), true, &token);
    }
}

/// A new guest's token, from any region that answers.
pub(super) async fn guest_token(shop: &Shop<'_>, chance: &mut Chance) -> String {
    loop {
        let region = chance.pick(&shop.doors);
        let ask = shop.at(region).post("/v1/guests", serde_json::json!({ "currency": "SGD" }));
        if let Ok(answer) = ask.send().await
            && answer.status == 201
        {
            return answer.json()["token"].as_str().expect("a guest gets a token").to_owned();
        }
        tokio::time::sleep(TRY_AGAIN_AFTER).await;
    }
}

/// How one request is tried.
pub(super) struct Tries<'a> {
    pub(super) shop: &'a Shop<'a>,
    /// Where it may be sent.
    pub(super) regions: &'a [&'static str],
    /// Where it is sent first.
    pub(super) first: &'static str,
    pub(super) seen: Option<Version>,
}

/// How that ended.
pub(super) struct Tried {
    pub(super) outcome: Outcome,
    pub(super) ambiguous: u32,
    pub(super) region: &'static str,
}

impl Tries<'_> {
    /// Tries under one key until there is an answer that says something.
    pub(super) async fn ask(
        &self,
        act: &Act,
        chance: &mut Chance,
        caller_at: impl Fn(&'static str) -> Caller,
    ) -> Tried {
        let mut region = self.first;
        let mut ambiguous = 0;
        while ambiguous < TRIES {
            let ask = request(self.shop, act, &caller_at(region), self.seen);
            // A client that hangs up knows as little as one whose connection broke.
            if let Ok(Ok(answer)) = tokio::time::timeout(CLIENT_PATIENCE, ask.send()).await
                && let Heard::Said(outcome) = hear(self.shop, act, &answer)
            {
                return Tried { outcome, ambiguous, region };
            }
            ambiguous += 1;
            tokio::time::sleep(TRY_AGAIN_AFTER * ambiguous).await;
            if ambiguous > 1 {
                region = chance.pick(self.regions);
            }
        }
        Tried { outcome: Outcome::Unanswered, ambiguous, region }
    }
}
