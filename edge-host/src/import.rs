//! `edge-host items import`: a catalogue from a CSV file, through the admin API like everybody's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::header::IF_NONE_MATCH;
use reqwest::{Client, RequestBuilder, Response};
use serde::Serialize;
use uuid::Uuid;

pub(crate) const HELP: &str =
    "The first row names the columns: item_id, title, then any of stock, price_SGD, price_MYR, price_IDR,
price_THB, price_VND, price_PHP, quantity_max, tax_class (standard or zero), tags (words with spaces between).
A column price is the same as price_SGD. An empty price means that the item is not sold in that currency.
Without a stock, an item that is there keeps its stock, and a new one has 1000000 units.
Other columns are ignored.";

/// Items on their way at once: enough to keep a far home region busy, which answers each when its own catalogue has
/// followed.
const IN_FLIGHT: usize = 32;
/// For one item.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The answer to a condition that does not hold: the item is there.
const PRECONDITION_FAILED: u16 = 412;
/// The answer of an edge that cannot do it now: it has too much to do, or looks for the primary.
const SERVICE_UNAVAILABLE: u16 = 503;
/// How often an item is sent again after that, and the pause before, which is what an overloaded edge asks for. A promotion
/// takes less than all of it.
const RETRIES_MAX: usize = 8;
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Units of a new item whose file says nothing of stock.
const STOCK_DEFAULT: u32 = 1_000_000;

#[derive(clap::Args)]
pub(crate) struct Import {
    /// The CSV file
    file: PathBuf,
    /// Internal listener of a home edge
    #[arg(long, env = "TROLI_ADMIN_URL", default_value = "http://127.0.0.1:9101")]
    admin: String,
    /// File with the admin token
    #[arg(long, env = "TROLI_ADMIN_TOKEN_FILE", default_value = ".local/admin-token")]
    token_file: PathBuf,
}

#[derive(Clone, Serialize)]
struct Item {
    #[serde(skip)]
    item_id: String,
    title: String,
    prices: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stock: Option<u32>,
    quantity_max: Option<u32>,
    tax_class: String,
    tags: Vec<String>,
}

impl Import {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let items = self.read()?;
        let token = std::fs::read_to_string(&self.token_file)
            .with_context(|| format!("{} cannot be read", self.token_file.display()))?;
        let client = Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        let count = items.len();
        let puts = items.into_iter().map(|item| put(&client, &self.admin, token.trim(), item));
        stream::iter(puts).buffer_unordered(IN_FLIGHT).try_collect::<()>().await?;
        eprintln!("{count} items imported from {}", self.file.display());
        Ok(())
    }

    fn read(&self) -> anyhow::Result<Vec<Item>> {
        let mut reader = csv::Reader::from_path(&self.file)
            .with_context(|| format!("{} cannot be read", self.file.display()))?;
        let mut items = Vec::new();
        for (row, record) in reader.deserialize::<BTreeMap<String, String>>().enumerate() {
            let item = record.map_err(anyhow::Error::from).and_then(item);
            // The first row has the names, and people count from one.
            items.push(item.with_context(|| format!("{}, row {}", self.file.display(), row + 2))?);
        }
        Ok(items)
    }
}

fn item(mut record: BTreeMap<String, String>) -> anyhow::Result<Item> {
    let mut take = |name: &str| record.remove(name).map(|text| text.trim().to_owned()).unwrap_or_default();
    let (item_id, title) = (take("item_id"), take("title"));
    ensure!(!item_id.is_empty() && !title.is_empty(), "item_id and title are needed");
    let number = |name: &str, text: &str| -> anyhow::Result<Option<u32>> {
        if text.is_empty() {
            Ok(None)
        } else {
            text.parse().map(Some).with_context(|| format!("{name}: {text}"))
        }
    };
    let stock = number("stock", &take("stock"))?;
    let quantity_max = number("quantity_max", &take("quantity_max"))?;
    let tax_class = Some(take("tax_class")).filter(|class| !class.is_empty());
    let tags = take("tags").split_whitespace().map(ToOwned::to_owned).collect();
    let mut prices = BTreeMap::new();
    let plain = take("price");
    if !plain.is_empty() {
        prices.insert("SGD".to_owned(), plain);
    }
    for (name, amount) in record {
        if let Some(currency) = name.strip_prefix("price_").filter(|_| !amount.trim().is_empty()) {
            prices.insert(currency.to_owned(), amount.trim().to_owned());
        }
    }
    let tax_class = tax_class.unwrap_or_else(|| "standard".to_owned());
    Ok(Item { item_id, title, prices, stock, quantity_max, tax_class, tags })
}

/// Creates or replaces an item.
async fn put(client: &Client, admin: &str, token: &str, item: Item) -> anyhow::Result<()> {
    let mut url = reqwest::Url::parse(admin).context("--admin is not a URL")?;
    url.path_segments_mut()
        .map_err(|()| anyhow::anyhow!("--admin is not a base URL"))?
        .pop_if_empty()
        .extend(["admin", "items", &item.item_id]);
    let put = |item: &Item| client.put(url.clone()).bearer_auth(token).json(item);
    let response = match item.stock {
        Some(_) => send(put(&item)).await?,
        None => {
            let new = Item { stock: Some(STOCK_DEFAULT), ..item.clone() };
            let made = send(put(&new).header(IF_NONE_MATCH, "*")).await?;
            if made.status().as_u16() == PRECONDITION_FAILED { send(put(&item)).await? } else { made }
        }
    };
    let status = response.status();
    if !status.is_success() {
        bail!("item {}: {status} {}", item.item_id, response.text().await.unwrap_or_default());
    }
    Ok(())
}

/// Sends a request, and again while the edge answers that it cannot do it now. Under its key it is done once.
async fn send(request: RequestBuilder) -> anyhow::Result<Response> {
    let request = request.header(IDEMPOTENCY_KEY, Uuid::new_v4().to_string());
    for _ in 0..RETRIES_MAX {
        let again = request.try_clone().context("the body of a request can be sent twice")?;
        let response = again.send().await?;
        if response.status().as_u16() != SERVICE_UNAVAILABLE {
            return Ok(response);
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    Ok(request.send().await?)
}
