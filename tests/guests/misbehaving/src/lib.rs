//! Rules that break every promise on demand: the standard rules, except where a line of the cart, or the item
//! of the command, begins with one of the words in [`Evil`].
//!
//! They pass the self-check, so a region runs them; then a test asks for the evil it wants.

use std::hint::black_box;

use cart_core::{
    Applied, Cart, CartRules, Command, Context, Line, Manifest, PricePolicy, Quote, QuoteLine, Rejection,
    StandardRules,
};
use cart_core::{line_id, quote};

/// What goes wrong.
#[derive(Clone, Copy)]
enum Evil {
    /// `EVIL-LOOP`: never ends.
    Loop,
    /// `EVIL-TRAP`: logs a line and panics.
    Trap,
    /// `EVIL-MEMORY`: wants memory without end.
    Memory,
    /// `EVIL-NONSENSE`: a quote whose total is negative; a cart with none of an item.
    Nonsense,
    /// `EVIL-FOREIGN`: a line that nobody asked for.
    Foreign,
    /// `EVIL-PRICE`: a price that is not the catalogue's, in sums that add up.
    Price,
    /// `EVIL-CHARGE`: a price that is not by the policy of the quote, in sums that add up.
    Charge,
}

impl Evil {
    const WORDS: [(&str, Self); 7] = [
        ("EVIL-LOOP", Self::Loop),
        ("EVIL-TRAP", Self::Trap),
        ("EVIL-MEMORY", Self::Memory),
        ("EVIL-NONSENSE", Self::Nonsense),
        ("EVIL-FOREIGN", Self::Foreign),
        ("EVIL-PRICE", Self::Price),
        ("EVIL-CHARGE", Self::Charge),
    ];

    fn asked_for(cart: &Cart, command: Option<&Command>) -> Option<Self> {
        let of = |item_id: &str| {
            Self::WORDS.iter().find(|(word, _)| item_id.starts_with(word)).map(|(_, evil)| *evil)
        };
        let of_cart = |cart: &Cart| cart.lines.iter().find_map(|line| of(&line.item_id));
        let by_command = match command {
            Some(Command::Add { item_id, .. }) => of(item_id),
            Some(Command::Merge { from, .. }) => of_cart(from),
            _ => None,
        };
        by_command.or_else(|| of_cart(cart))
    }

    /// The evils that never come back.
    fn strike(self) {
        match self {
            Self::Loop => loop {
                black_box(());
            },
            Self::Trap => {
                cart_guest::log("about to panic, as asked");
                panic!("EVIL-TRAP");
            }
            Self::Memory => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(black_box(vec![1_u8; 64 * 1024]));
                }
            }
            Self::Nonsense | Self::Foreign | Self::Price | Self::Charge => {}
        }
    }
}

/// The standard rules, on most days.
#[derive(Default)]
struct Misbehaving;

impl CartRules for Misbehaving {
    fn describe(&self) -> Manifest {
        Manifest {
            name: "misbehaving".to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            description: "For tests: the standard rules, except where an item begins with EVIL-.".to_string(),
        }
    }

    /// Not an evil: items that begin with `HELD` keep their price for a moment only.
    fn price_policy(&self, cart: &Cart, _: &Context) -> PricePolicy {
        if cart.lines.iter().any(|line| line.item_id.starts_with("HELD")) {
            PricePolicy::STORED.held_for_ms(HOLD_MS)
        } else {
            PricePolicy::STORED
        }
    }

    fn apply(&self, cart: Cart, command: &Command, context: &Context) -> Result<Applied, Rejection> {
        let evil = Evil::asked_for(&cart, Some(command));
        if let Some(evil) = evil {
            evil.strike();
        }
        let mut applied = StandardRules.apply(cart, command, context)?;
        let lines = &mut applied.cart.lines;
        match evil {
            Some(Evil::Nonsense) => lines.iter_mut().for_each(|line| line.quantity = 0),
            Some(Evil::Foreign) => lines.push(foreign_line(context)),
            Some(Evil::Price) => lines.iter_mut().for_each(|line| line.added_price /= 2),
            _ => {}
        }
        Ok(applied)
    }

    fn quote(&self, cart: &Cart, context: &Context) -> Quote {
        let evil = Evil::asked_for(cart, None);
        if let Some(evil) = evil {
            evil.strike();
        }
        match evil {
            Some(Evil::Nonsense) => {
                let mut nonsense = StandardRules.quote(cart, context);
                nonsense.totals.total = -1;
                nonsense
            }
            Some(Evil::Foreign) => {
                let mut foreign = StandardRules.quote(cart, context);
                foreign.lines.push(foreign_quote_line(context));
                foreign
            }
            Some(Evil::Price) => self.half(cart, context),
            Some(Evil::Charge) => {
                let mut half = self.half(cart, context);
                half.price_policy = PricePolicy::STORED;
                for (quoted, line) in half.lines.iter_mut().zip(&cart.lines) {
                    quoted.current_price = context.price(&line.item_id);
                }
                half
            }
            _ => quote(cart, context, self.price_policy(cart, context), &self.promotions(cart, context)),
        }
    }
}

impl Misbehaving {
    fn half(&self, cart: &Cart, context: &Context) -> Quote {
        let promotions = self.promotions(cart, context);
        quote(cart, &half_price(context), PricePolicy::CURRENT, &promotions)
    }
}

/// Long enough for a test to see the price held.
const HOLD_MS: i64 = 2_000;

const FOREIGN_ITEM: &str = "NOBODY-ASKED-FOR-ME";

fn foreign_line(context: &Context) -> Line {
    Line {
        line_id: line_id(FOREIGN_ITEM, ""),
        item_id: FOREIGN_ITEM.to_string(),
        quantity: 1,
        variant: String::new(),
        added_price: 100,
        added_at_ms: context.now_ms,
        priced_at_ms: context.now_ms,
        updated_at_ms: context.now_ms,
    }
}

fn foreign_quote_line(context: &Context) -> QuoteLine {
    QuoteLine {
        line_id: foreign_line(context).line_id,
        unit_price: Some(0),
        current_price: Some(0),
        line_total: 0,
        discount: 0,
        tax: 0,
        available: true,
    }
}

fn half_price(context: &Context) -> Context {
    let mut items = context.items().to_vec();
    for item in &mut items {
        item.price = item.price.map(|price| price / 2);
    }
    Context::new(context.now_ms, context.region.clone(), context.principal, items, context.coupons().to_vec())
}

cart_guest::export_rules!(Misbehaving);
