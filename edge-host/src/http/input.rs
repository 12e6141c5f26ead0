//! What clients send about carts, checked for form. Whether it makes sense is for the rules to say.

use cart_core::{Currency, Money, MoneyError, limits};
use serde::Deserialize;

use super::extract::mistake;
use super::json::{self, Canonical};
use super::problem::{ApiError, InputMistake};
use crate::auth::is_user_id;
use crate::model::{CartCommand, CurrencyCode, MergePolicyWord};
use crate::view::MoneyView;

/// Commands in one batch.
pub(super) const COMMANDS_MAX: usize = 50;
/// Characters in a line id; ours have 22.
const LINE_ID_CHARS_MAX: usize = 64;
/// Characters in a title, a user id or a tag.
const WORDS_CHARS_MAX: usize = 200;

/// Add an item.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddItem {
    item_id: String,
    quantity: i64,
    /// Tells lines of one item apart: at most 1 KiB of JSON, 16 deep. The order of names and spaces do not matter;
    /// numbers are compared and shown by their own digits, so 1 and 1.0 are two variants.
    variant: Option<Canonical>,
}

/// Set a line's quantity.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetQuantity {
    /// 0 removes the line.
    quantity: i64,
}

/// Several changes, all or nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Commands {
    commands: Vec<CommandFields>,
}

/// One change of a batch.
enum BatchCommand {
    /// Add an item.
    Add { item_id: String, quantity: i64, variant: Option<Canonical> },
    /// Set a line's quantity; 0 removes the line.
    SetQuantity { line_id: String, quantity: i64 },
    /// Remove a line.
    Remove { line_id: String },
    /// Remove every line.
    Clear {},
    /// Apply a coupon.
    ApplyCoupon { code: String },
    /// Remove a coupon.
    RemoveCoupon { code: String },
    /// Store the catalogue's price of now for a line, or, without one, for every line that is still sold.
    RefreshPrice { line_id: Option<String> },
}

/// The fields of all commands of a batch. A reader derived from [`BatchCommand`] would turn the digits of a variant
/// into machine numbers before it knows what they are, and take a list for an object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandFields {
    op: Op,
    #[serde(default, deserialize_with = "json::not_null")]
    item_id: Option<String>,
    #[serde(default, deserialize_with = "json::not_null")]
    quantity: Option<i64>,
    variant: Option<Canonical>,
    #[serde(default, deserialize_with = "json::not_null")]
    line_id: Option<String>,
    #[serde(default, deserialize_with = "json::not_null")]
    code: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Add,
    SetQuantity,
    Remove,
    Clear,
    ApplyCoupon,
    RemoveCoupon,
    RefreshPrice,
}

impl CommandFields {
    /// The command. Every field that it needs has to be there, and no other.
    fn command(mut self, at: &str, form: &mut Form) -> Option<BatchCommand> {
        let mut missing = |field: &str| {
            form.wrong::<()>("invalid_input", at, format!("{field} is missing"));
        };
        let command = match self.op {
            Op::Add => {
                let (item_id, quantity) = (self.item_id.take(), self.quantity.take());
                let (item_id, quantity) = (
                    or_missing(item_id, "item_id", &mut missing),
                    or_missing(quantity, "quantity", &mut missing),
                );
                let variant = self.variant.take();
                item_id.zip(quantity).map(|(item_id, quantity)| BatchCommand::Add {
                    item_id,
                    quantity,
                    variant,
                })
            }
            Op::SetQuantity => {
                let (line_id, quantity) = (self.line_id.take(), self.quantity.take());
                let (line_id, quantity) = (
                    or_missing(line_id, "line_id", &mut missing),
                    or_missing(quantity, "quantity", &mut missing),
                );
                line_id
                    .zip(quantity)
                    .map(|(line_id, quantity)| BatchCommand::SetQuantity { line_id, quantity })
            }
            Op::Remove => or_missing(self.line_id.take(), "line_id", &mut missing)
                .map(|line_id| BatchCommand::Remove { line_id }),
            Op::Clear => Some(BatchCommand::Clear {}),
            Op::ApplyCoupon => or_missing(self.code.take(), "code", &mut missing)
                .map(|code| BatchCommand::ApplyCoupon { code }),
            Op::RemoveCoupon => or_missing(self.code.take(), "code", &mut missing)
                .map(|code| BatchCommand::RemoveCoupon { code }),
            Op::RefreshPrice => Some(BatchCommand::RefreshPrice { line_id: self.line_id.take() }),
        };
        let left = [
            ("item_id", self.item_id.is_some()),
            ("quantity", self.quantity.is_some()),
            ("variant", self.variant.is_some()),
            ("line_id", self.line_id.is_some()),
            ("code", self.code.is_some()),
        ];
        for (field, _) in left.into_iter().filter(|(_, left)| *left) {
            form.wrong::<()>(
                "invalid_input",
                &format!("{at}/{field}"),
                format!("this command has no {field}"),
            );
        }
        command
    }
}

fn or_missing<T>(value: Option<T>, field: &str, missing: &mut impl FnMut(&str)) -> Option<T> {
    if value.is_none() {
        missing(field);
    }
    value
}

/// Merge a guest's cart into the user's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Merge {
    /// The guest's own token.
    pub(super) guest_token: String,
    /// The quantity of lines that both carts have; `max` by default.
    #[serde(default)]
    pub(super) policy: MergePolicyWord,
}

/// Order what is in the cart.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checkout {
    /// What the client has shown its shopper.
    expected_total: MoneyView,
}

/// A new guest.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewGuest {
    /// The currency of the guest's cart; the shop's own where it is left out.
    #[serde(default, deserialize_with = "json::not_null")]
    pub(super) currency: Option<CurrencyCode>,
}

/// Whose token is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDevToken {
    pub(super) user_id: String,
    /// Default currency for a cart not yet created.
    #[serde(default, deserialize_with = "json::not_null")]
    pub(super) currency: Option<CurrencyCode>,
}

impl AddItem {
    pub(super) fn command(self) -> Result<CartCommand, ApiError> {
        let mut form = Form::default();
        let command = form.add("#", self.item_id, self.quantity, self.variant);
        form.finish(command)
    }
}

impl SetQuantity {
    pub(super) fn command(self, line_id: String) -> Result<CartCommand, ApiError> {
        let line_id = self::line_id(line_id)?;
        let mut form = Form::default();
        let command = form.set_quantity("#", line_id, self.quantity);
        form.finish(command)
    }
}

impl Commands {
    pub(super) fn commands(self) -> Result<Vec<CartCommand>, ApiError> {
        if self.commands.is_empty() || self.commands.len() > COMMANDS_MAX {
            let detail = format!("a batch has 1 to {COMMANDS_MAX} commands");
            return Err(ApiError::input("commands_out_of_range", "#/commands", detail));
        }
        let mut form = Form::default();
        let each = |(at, fields): (usize, CommandFields)| {
            let at = format!("#/commands/{at}");
            let command = fields.command(&at, &mut form)?;
            form.batch(&at, command)
        };
        let commands: Option<Vec<CartCommand>> =
            self.commands.into_iter().enumerate().map(each).collect::<Vec<_>>().into_iter().collect();
        form.finish(commands)
    }
}

impl Checkout {
    /// The expected total in minor units.
    pub(super) fn total(&self) -> Result<(i64, CurrencyCode), ApiError> {
        let currency = self.expected_total.currency;
        let money = money(&self.expected_total.amount, currency.0);
        let money =
            money.map_err(|why| ApiError::input("amount_malformed", "#/expected_total/amount", why))?;
        Ok((money.minor, currency))
    }
}

/// A line id in a path.
pub(super) fn line_id(line_id: String) -> Result<String, ApiError> {
    let mut form = Form::default();
    let line_id = form.line_id("#", line_id);
    form.finish(line_id).map_err(without_place)
}

/// A coupon code in a path.
pub(super) fn coupon_code(code: String) -> Result<String, ApiError> {
    let mut form = Form::default();
    let code = form.coupon_code("#", code);
    form.finish(code).map_err(without_place)
}

/// A path has no place that a pointer into the body could name.
fn without_place(error: ApiError) -> ApiError {
    match error {
        ApiError::Input { code, detail, .. } => ApiError::refused(code, detail),
        other => other,
    }
}

/// A user id.
pub(super) fn user_id(user_id: &str) -> Result<(), ApiError> {
    if is_user_id(user_id) {
        return Ok(());
    }
    let detail = "a user id has 1 to 128 bytes and no control characters";
    Err(ApiError::input("user_id_malformed", "#/user_id", detail))
}

/// An amount of a currency, or why it is none.
pub(super) fn money(amount: &str, currency: Currency) -> Result<Money, String> {
    Money::parse(amount, currency).map_err(|error| match error {
        MoneyError::Malformed => "an amount is a decimal number such as \"19.90\"".to_owned(),
        MoneyError::TooPrecise => {
            format!("{currency} has {} digits after the point", currency.digits())
        }
        MoneyError::OutOfRange => "the amount is out of range".to_owned(),
    })
}

/// Visible ASCII, so that it can stand in a path, a header and a log.
pub(super) fn is_name(text: &str, chars_max: usize) -> bool {
    (1..=chars_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Words for people: no control characters.
pub(super) fn is_words(text: &str) -> bool {
    let chars = text.chars().count();
    (1..=WORDS_CHARS_MAX).contains(&chars) && !text.chars().any(char::is_control)
}

/// Collects every mistake of a body.
#[derive(Default)]
struct Form {
    mistakes: Vec<InputMistake>,
    code: Option<&'static str>,
}

impl Form {
    /// The value, unless there were mistakes; the first one gives the problem its code.
    fn finish<T>(self, value: Option<T>) -> Result<T, ApiError> {
        match (value, self.code) {
            (Some(value), None) => Ok(value),
            (_, code) => Err(ApiError::Input {
                code: code.unwrap_or("invalid_input"),
                detail: self.mistakes.first().map_or_else(String::new, |mistake| mistake.detail.clone()),
                errors: self.mistakes,
            }),
        }
    }

    fn wrong<T>(&mut self, code: &'static str, pointer: &str, detail: impl Into<String>) -> Option<T> {
        self.code.get_or_insert(code);
        self.mistakes.push(mistake(pointer, detail));
        None
    }

    fn batch(&mut self, at: &str, command: BatchCommand) -> Option<CartCommand> {
        match command {
            BatchCommand::Add { item_id, quantity, variant } => self.add(at, item_id, quantity, variant),
            BatchCommand::SetQuantity { line_id, quantity } => {
                let line_id = self.line_id(&format!("{at}/line_id"), line_id)?;
                self.set_quantity(at, line_id, quantity)
            }
            BatchCommand::Remove { line_id } => {
                let line_id = self.line_id(&format!("{at}/line_id"), line_id)?;
                Some(CartCommand::Remove { line_id })
            }
            BatchCommand::Clear {} => Some(CartCommand::Clear),
            BatchCommand::ApplyCoupon { code } => {
                let code = self.coupon_code(&format!("{at}/code"), code)?;
                Some(CartCommand::ApplyCoupon { code })
            }
            BatchCommand::RemoveCoupon { code } => {
                let code = self.coupon_code(&format!("{at}/code"), code)?;
                Some(CartCommand::RemoveCoupon { code })
            }
            BatchCommand::RefreshPrice { line_id: None } => Some(CartCommand::RefreshPrice { line_id: None }),
            BatchCommand::RefreshPrice { line_id: Some(line_id) } => {
                let line_id = Some(self.line_id(&format!("{at}/line_id"), line_id)?);
                Some(CartCommand::RefreshPrice { line_id })
            }
        }
    }

    fn add(
        &mut self,
        at: &str,
        item_id: String,
        quantity: i64,
        variant: Option<Canonical>,
    ) -> Option<CartCommand> {
        let item_id = if is_name(&item_id, limits::ITEM_ID_CHARS_MAX) {
            Some(item_id)
        } else {
            let max = limits::ITEM_ID_CHARS_MAX;
            let detail = format!("an item id has 1 to {max} visible ASCII characters");
            self.wrong("item_id_malformed", &format!("{at}/item_id"), detail)
        };
        let quantity = self.quantity(at, quantity, 1);
        // None and `{}` are the same.
        let variant = variant.map(|Canonical(text)| text).filter(|text| text != "{}").unwrap_or_default();
        let variant = if variant.len() > limits::VARIANT_BYTES_MAX {
            let detail = format!("a variant has at most {} bytes of JSON", limits::VARIANT_BYTES_MAX);
            self.wrong("variant_too_large", &format!("{at}/variant"), detail)
        } else {
            Some(variant)
        };
        Some(CartCommand::Add { item_id: item_id?, quantity: quantity?, variant: variant? })
    }

    fn set_quantity(&mut self, at: &str, line_id: String, quantity: i64) -> Option<CartCommand> {
        let quantity = self.quantity(at, quantity, 0)?;
        Some(CartCommand::SetQuantity { line_id, quantity })
    }

    fn quantity(&mut self, at: &str, quantity: i64, min: u32) -> Option<u32> {
        let max = limits::QUANTITY_MAX;
        match u32::try_from(quantity) {
            Ok(quantity) if (min..=max).contains(&quantity) => Some(quantity),
            _ => {
                let detail = format!("a quantity is between {min} and {max}");
                self.wrong("quantity_out_of_range", &format!("{at}/quantity"), detail)
            }
        }
    }

    fn line_id(&mut self, pointer: &str, line_id: String) -> Option<String> {
        if is_name(&line_id, LINE_ID_CHARS_MAX) {
            return Some(line_id);
        }
        let detail = format!("a line id has 1 to {LINE_ID_CHARS_MAX} visible ASCII characters");
        self.wrong("line_id_malformed", pointer, detail)
    }

    fn coupon_code(&mut self, pointer: &str, code: String) -> Option<String> {
        if is_name(&code, limits::COUPON_CODE_CHARS_MAX) {
            return Some(code);
        }
        let max = limits::COUPON_CODE_CHARS_MAX;
        let detail = format!("a coupon code has 1 to {max} visible ASCII characters");
        self.wrong("coupon_code_malformed", pointer, detail)
    }
}
