//! Items of the catalogue, as the merchant gives them.

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, State};
use axum::http::header::{CACHE_CONTROL, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use cart_core::limits;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use super::{Admin, Key, answer, primary, refuse, written};
use crate::catalogue::ITEMS_MAX;
use crate::error::CartError;
use crate::http::Shared;
use crate::http::extract::{Body, Path, mistake};
use crate::http::input::{is_name, is_words, money};
use crate::http::problem::{ApiError, InputMistake};
use crate::http::tags;
use crate::merchant::{
    ItemChange, ItemConditions, ItemFields, ItemPatch, ItemTag, Refusal, StockChange, Tags,
};
use crate::model::{CurrencyCode, ItemRecord, STOCK_MAX};
use crate::view;

/// An item, all of it.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PutItem {
    title: String,
    prices: BTreeMap<CurrencyCode, String>,
    stock: Option<u32>,
    quantity_max: Option<u32>,
    #[serde(default)]
    tax_class: TaxClassWord,
    #[serde(default)]
    tags: Vec<String>,
}

/// Some of an item: a JSON merge patch (RFC 7396). Null removes, what is left out stays.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PatchItem {
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    title: Option<Option<String>>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    prices: Option<Option<BTreeMap<CurrencyCode, Option<String>>>>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    stock: Option<Option<u32>>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    quantity_max: Option<Option<u32>>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    tax_class: Option<Option<TaxClassWord>>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    tags: Option<Option<Vec<String>>>,
}

/// A change of stock: one of the two.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ChangeStock {
    delta: Option<i64>,
    set: Option<u32>,
}

#[derive(Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum TaxClassWord {
    #[default]
    Standard,
    Zero,
}

/// Tells null, which is given, from what is left out.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The conditions of a request about an item.
pub(in crate::http) struct Conditions(ItemConditions);

impl FromRequestParts<Shared> for Conditions {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        let if_match = tags::of_item(&parts.headers, &IF_MATCH)?;
        let if_none_match = tags::of_item(&parts.headers, &IF_NONE_MATCH)?;
        Ok(Self(ItemConditions { if_match, if_none_match }))
    }
}

/// An item as it is in the primary.
pub(in crate::http) async fn get_item(
    _: Admin,
    State(api): State<Shared>,
    Path(item_id): Path<String>,
    Conditions(conditions): Conditions,
) -> Result<Response, ApiError> {
    let store = primary(&api)?;
    let item = store.items(std::slice::from_ref(&item_id)).await.map_err(CartError::from)?.pop();
    let item = item.ok_or(CartError::ItemUnknown(item_id))?;
    let has_it = |tags: &Tags| tags.have(&ItemTag::of(&item));
    if conditions.if_none_match.as_ref().is_some_and(has_it) {
        return Ok(tagged(StatusCode::NOT_MODIFIED.into_response(), &item));
    }
    Ok(tagged(answer(&view::item(&item), false), &item))
}

/// Creates or replaces an item. Without `stock`, the stock stays as it is.
pub(in crate::http) async fn put_item(
    _: Admin,
    State(api): State<Shared>,
    Path(item_id): Path<String>,
    key: Key,
    Conditions(conditions): Conditions,
    Body(body): Body<PutItem>,
) -> Result<Response, ApiError> {
    let mut form = Form::default();
    form.item_id(&item_id);
    let fields = form.fields(&body);
    refuse(form.mistakes)?;
    let once = key.of(&Method::PUT, &format!("/admin/items/{item_id}"), &(&body, &conditions));
    let (item, replayed) = change(&api, &item_id, ItemChange::Replace(fields), &conditions, once).await?;
    Ok(tagged(answer(&view::item(&item), replayed), &item))
}

/// Changes some of an item.
pub(in crate::http) async fn patch_item(
    _: Admin,
    State(api): State<Shared>,
    Path(item_id): Path<String>,
    key: Key,
    Conditions(conditions): Conditions,
    Body(body): Body<PatchItem>,
) -> Result<Response, ApiError> {
    let mut form = Form::default();
    form.item_id(&item_id);
    let patch = form.patch(&body);
    refuse(form.mistakes)?;
    let once = key.of(&Method::PATCH, &format!("/admin/items/{item_id}"), &(&body, &conditions));
    let (item, replayed) = change(&api, &item_id, ItemChange::Patch(patch), &conditions, once).await?;
    Ok(tagged(answer(&view::item(&item), replayed), &item))
}

/// Changes the stock of an item. A delta is not idempotent, so a key is required.
pub(in crate::http) async fn change_stock(
    _: Admin,
    State(api): State<Shared>,
    Path(item_id): Path<String>,
    key: Key,
    Conditions(conditions): Conditions,
    Body(body): Body<ChangeStock>,
) -> Result<Response, ApiError> {
    let key = key.required()?;
    let mut form = Form::default();
    form.item_id(&item_id);
    let stock = form.stock_change(&body);
    refuse(form.mistakes)?;
    let path = format!("/admin/items/{item_id}/stock");
    let once = key.of(&Method::POST, &path, &(&body, &conditions));
    let (item, replayed) = change(&api, &item_id, ItemChange::Stock(stock), &conditions, once).await?;
    Ok(answer(&json!({ "stock": item.stock }), replayed))
}

async fn change(
    api: &Shared,
    item_id: &str,
    change: ItemChange,
    conditions: &ItemConditions,
    once: crate::store::OnceKey,
) -> Result<(ItemRecord, bool), ApiError> {
    let store = primary(api)?;
    let full = api.service.catalogue.len() >= ITEMS_MAX;
    let mut refusal = None;
    let mut decide = |before: Option<&ItemRecord>| {
        let decided = match before {
            None if full => Err(Refusal::CatalogueFull),
            before => change.apply(item_id, before, conditions, once.now_ms),
        };
        decided.map_err(|why| refusal = Some(why)).ok()
    };
    let outcome = store.write_item(item_id, &once, &mut decide).await.map_err(CartError::from)?;
    written(api, outcome, |_| refused(refusal, item_id)).await
}

fn refused(refusal: Option<Refusal>, item_id: &str) -> ApiError {
    let conflict = |code, detail: String| ApiError::refused(code, detail);
    match refusal {
        Some(Refusal::Unknown) => CartError::ItemUnknown(item_id.to_owned()).into(),
        Some(Refusal::NoPrice) => ApiError::input("invalid_input", "#/prices", NO_PRICE),
        Some(Refusal::StockNegative { stock }) => {
            conflict("stock_negative", format!("only {stock} of {item_id} are left"))
        }
        Some(Refusal::StockTooLarge) => {
            conflict("stock_too_large", format!("at most {STOCK_MAX} units are in stock"))
        }
        Some(Refusal::ConditionFailed { current }) => {
            ApiError::ItemVersionMismatch(current.map(|tag| tag.to_string()))
        }
        Some(Refusal::CatalogueFull) => {
            ApiError::refused("catalogue_full", format!("there are at most {ITEMS_MAX} items"))
        }
        None => CartError::Internal("refused without a reason".to_owned()).into(),
    }
}

/// With the item's tag. Whoever keeps the answer asks before showing it again.
fn tagged(mut response: Response, item: &ItemRecord) -> Response {
    let tag = HeaderValue::try_from(format!("\"{}\"", ItemTag::of(item)));
    let headers = response.headers_mut();
    headers.insert(ETAG, tag.expect("hex digits are visible ASCII"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

const NO_PRICE: &str = "at least one price is needed";

/// Collects every mistake of a body.
#[derive(Default)]
struct Form {
    mistakes: Vec<InputMistake>,
}

impl Form {
    fn check(&mut self, right: bool, pointer: &str, detail: &str) {
        if !right {
            self.mistakes.push(mistake(pointer, detail));
        }
    }

    fn item_id(&mut self, item_id: &str) {
        let right = is_name(item_id, limits::ITEM_ID_CHARS_MAX);
        self.check(right, "#", "an item id has 1 to 64 visible ASCII characters");
    }

    fn fields(&mut self, body: &PutItem) -> ItemFields {
        self.title(&body.title);
        self.check(!body.prices.is_empty(), "#/prices", NO_PRICE);
        self.tags(&body.tags);
        self.stock(body.stock, "#/stock");
        self.quantity_max(body.quantity_max);
        let priced =
            |(of, amount): (&CurrencyCode, &String)| self.price(*of, amount).map(|minor| (*of, minor));
        ItemFields {
            prices: body.prices.iter().filter_map(priced).collect(),
            title: body.title.clone(),
            stock: body.stock,
            quantity_max: body.quantity_max,
            tax_zero: matches!(body.tax_class, TaxClassWord::Zero),
            tags: body.tags.clone(),
        }
    }

    fn patch(&mut self, body: &PatchItem) -> ItemPatch {
        match &body.title {
            Some(Some(title)) => self.title(title),
            title => self.check(title.is_none(), "#/title", "a title cannot be removed"),
        }
        self.check(!matches!(body.prices, Some(None)), "#/prices", NO_PRICE);
        self.check(!matches!(body.stock, Some(None)), "#/stock", "stock cannot be removed");
        let tags = body.tags.clone().map(Option::unwrap_or_default);
        self.tags(tags.as_deref().unwrap_or_default());
        self.stock(body.stock.flatten(), "#/stock");
        self.quantity_max(body.quantity_max.flatten());
        let mut prices = BTreeMap::new();
        for (of, amount) in body.prices.iter().flatten().flatten() {
            match amount {
                Some(amount) => drop(self.price(*of, amount).map(|minor| prices.insert(*of, Some(minor)))),
                None => drop(prices.insert(*of, None)),
            }
        }
        ItemPatch {
            title: body.title.clone().flatten(),
            prices,
            stock: body.stock.flatten(),
            quantity_max: body.quantity_max,
            tax_zero: body.tax_class.map(|class| matches!(class.unwrap_or_default(), TaxClassWord::Zero)),
            tags,
        }
    }

    fn stock_change(&mut self, body: &ChangeStock) -> StockChange {
        self.stock(body.set, "#/set");
        match (body.delta, body.set) {
            (Some(delta), None) => StockChange::By(delta),
            (None, Some(stock)) => StockChange::To(stock),
            _ => {
                self.check(false, "#", "either delta or set is needed");
                StockChange::By(0)
            }
        }
    }

    fn title(&mut self, title: &str) {
        self.check(is_words(title), "#/title", "a title has 1 to 200 characters");
    }

    fn tags(&mut self, tags: &[String]) {
        self.check(tags.len() <= limits::TAGS_MAX, "#/tags", "an item has at most 16 tags");
        let named = tags.iter().all(|tag| is_name(tag, 64));
        self.check(named, "#/tags", "a tag has 1 to 64 visible ASCII characters");
    }

    fn stock(&mut self, stock: Option<u32>, pointer: &str) {
        let right = stock.is_none_or(|stock| stock <= STOCK_MAX);
        self.check(right, pointer, "at most 1 000 000 000 units are in stock");
    }

    fn quantity_max(&mut self, quantity_max: Option<u32>) {
        self.check(quantity_max != Some(0), "#/quantity_max", "a limit is at least 1");
    }

    fn price(&mut self, of: CurrencyCode, amount: &str) -> Option<i64> {
        let pointer = format!("#/prices/{}", of.0.code());
        match money(amount, of.0) {
            Ok(price) if (0..=limits::PRICE_MINOR_MAX).contains(&price.minor) => return Some(price.minor),
            Ok(_) => self.check(false, &pointer, "the price is out of range"),
            Err(why) => self.check(false, &pointer, &why),
        }
        None
    }
}
