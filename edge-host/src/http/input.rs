//! What clients send about carts, checked for form. Whether it makes sense is for the rules to say.

use cart_core::{Currency, Money, MoneyError, limits};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::extract::mistake;
use super::problem::{ApiError, InputMistake};
use crate::model::{CartCommand, CurrencyCode, MergePolicyWord};
use crate::view::MoneyView;

/// Commands in one batch.
pub(super) const COMMANDS_MAX: usize = 50;
/// Characters in a line id; ours have 22.
const LINE_ID_CHARS_MAX: usize = 64;
/// Characters in a title, a user id or a tag.
const WORDS_CHARS_MAX: usize = 200;

/// Put so many of an item in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddItem {
    #[schema(max_length = 64, example = "SKU-1")]
    item_id: String,
    #[schema(minimum = 1, maximum = 999)]
    quantity: i64,
    /// Tells lines of one item apart; at most 1 KiB of JSON.
    #[schema(value_type = Option<Object>, example = json!({"size": "M"}))]
    variant: Option<Map<String, Value>>,
}

/// Make a line so many.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetQuantity {
    /// 0 removes the line.
    #[schema(minimum = 0, maximum = 999)]
    quantity: i64,
}

/// Several changes, all or nothing.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Commands {
    #[schema(max_items = 50)]
    commands: Vec<BatchCommand>,
}

/// One change of a batch.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum BatchCommand {
    /// Put so many of an item in.
    Add {
        item_id: String,
        quantity: i64,
        #[schema(value_type = Option<Object>)]
        variant: Option<Map<String, Value>>,
    },
    /// Make a line so many; 0 removes it.
    SetQuantity { line_id: String, quantity: i64 },
    /// Take a line out.
    Remove { line_id: String },
    /// Take every line out.
    Clear {},
    /// Type a coupon in.
    ApplyCoupon { code: String },
    /// Take a coupon back.
    RemoveCoupon { code: String },
}

/// Take a guest's cart over.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Merge {
    /// The guest's own token.
    pub(super) guest_token: String,
    /// For lines that both carts have; `max` where it is left out.
    #[serde(default)]
    pub(super) policy: MergePolicyWord,
}

/// Order what is in the cart.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Checkout {
    /// What the client has shown its shopper.
    expected_total: MoneyView,
}

/// A new guest.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewGuest {
    /// The currency of the guest's cart; the shop's own where it is left out.
    #[schema(value_type = Option<String>, example = "SGD")]
    pub(super) currency: Option<CurrencyCode>,
}

/// Whose token is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDevToken {
    pub(super) user_id: String,
    /// The currency of the user's cart, as long as there is none.
    #[schema(value_type = Option<String>, example = "SGD")]
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
        let mut form = Form::default();
        let line_id = form.line_id("#", line_id);
        let command = line_id.and_then(|line_id| form.set_quantity("#", line_id, self.quantity));
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
        let each = |(at, command)| form.batch(&format!("#/commands/{at}"), command);
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
    form.finish(line_id)
}

/// A coupon code in a path.
pub(super) fn coupon_code(code: String) -> Result<String, ApiError> {
    let mut form = Form::default();
    let code = form.coupon_code("#", code);
    form.finish(code)
}

/// A user id.
pub(super) fn user_id(user_id: &str) -> Result<(), ApiError> {
    if is_name(user_id, 128) {
        return Ok(());
    }
    let detail = "a user id has 1 to 128 visible ASCII characters";
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
                status: axum::http::StatusCode::BAD_REQUEST,
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
        }
    }

    fn add(
        &mut self,
        at: &str,
        item_id: String,
        quantity: i64,
        variant: Option<Map<String, Value>>,
    ) -> Option<CartCommand> {
        let item_id = if is_name(&item_id, limits::ITEM_ID_CHARS_MAX) {
            Some(item_id)
        } else {
            let max = limits::ITEM_ID_CHARS_MAX;
            let detail = format!("an item id has 1 to {max} visible ASCII characters");
            self.wrong("item_id_malformed", &format!("{at}/item_id"), detail)
        };
        let quantity = self.quantity(at, quantity, 1);
        let variant = canonical(variant);
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

/// A variant as canonical JSON: keys sorted at every depth, no spaces. None and `{}` are the same.
fn canonical(variant: Option<Map<String, Value>>) -> String {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut fields: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
                fields.sort_by(|a, b| a.0.cmp(&b.0));
                Value::Object(fields.into_iter().collect())
            }
            Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
            other => other,
        }
    }
    match variant {
        Some(map) if !map.is_empty() => sorted(Value::Object(map)).to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_variant_is_the_same_whatever_the_order_of_its_keys() {
        let of = |value: Value| canonical(value.as_object().cloned());
        assert_eq!(of(json!({"b": {"y": 1, "x": [2]}, "a": "M"})), r#"{"a":"M","b":{"x":[2],"y":1}}"#);
        assert_eq!(of(json!({})), "");
    }
}
