//! The shoppers and their carts: who they are, what they have, who of them is busy, and what each has seen.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::join_all;
use jsonwebtoken::{EncodingKey, Header};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use serde_json::{Value, json};

use crate::load::{Caller, Failure, Kind};
use crate::options::Options;
use crate::stack::HS256_SECRET;
use crate::wire::{Answer, Connection, Version};

/// What is in the carts: items of `deploy/catalogue.csv` that may be bought by the dozen.
const ITEMS: [&str; 12] = [
    "RICE-JASMINE-5KG",
    "KANGKONG-250G",
    "LIME-6",
    "EGGS-30",
    "TOFU-FIRM-400G",
    "NOODLES-INSTANT-5",
    "FISH-SAUCE-700ML",
    "COCONUT-MILK-1L",
    "KAYA-400G",
    "TEA-JASMINE-100",
    "MILK-CONDENSED-500G",
    "DRINK-COCONUT-WATER",
];
/// Of a cart.
pub(crate) const LINES: usize = 5;
/// Of a line, to begin with: no change sets it, so that the first one changes something.
const QUANTITY_FIRST: u32 = 10;
/// Changes set a line to 1, then 2, up to this, then to 1 again: never to what it is.
const QUANTITIES: u32 = 9;
/// For a full run and then some.
const TOKEN_TTL: Duration = Duration::from_secs(12 * 3600);
/// Carts are filled and looked at by so many at once: enough for the group commit of MySQL.
const CLERKS: usize = 96;
/// The same shoppers in the same order in every run.
const SEED: u64 = 20_261_101;

/// All carts.
pub(crate) struct Carts {
    /// `authorization: Bearer …`, of every cart.
    credentials: Vec<String>,
    /// The newest version that the shopper has seen.
    seen: Vec<Cell<Option<Version>>>,
    /// Changes made in this run.
    changes: Vec<Cell<u32>>,
    /// The lines of a cart by item: name and JSON.
    lines: BTreeMap<&'static str, (String, String)>,
    popularity: Zipf<f64>,
    chance: RefCell<SmallRng>,
}

impl Carts {
    /// Shoppers with tokens, who have not been to the shop yet.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let until = SystemTime::now().duration_since(UNIX_EPOCH)? + TOKEN_TTL;
        let key = EncodingKey::from_secret(HS256_SECRET.as_bytes());
        let credential = |number| {
            let claims = json!({ "sub": format!("bench-{number}"), "exp": until.as_secs() });
            let token = jsonwebtoken::encode(&Header::default(), &claims, &key)?;
            Ok(format!("authorization: Bearer {token}\r\n"))
        };
        let count = options.carts;
        Ok(Self {
            credentials: (0..count).map(credential).collect::<Result<_>>()?,
            seen: vec![Cell::new(None); count],
            changes: vec![Cell::new(0); count],
            lines: BTreeMap::new(),
            #[expect(clippy::cast_precision_loss, reason = "there are not 2^53 carts")]
            popularity: Zipf::new(count as f64, options.skew)?,
            chance: RefCell::new(SmallRng::seed_from_u64(SEED)),
        })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.credentials.len()
    }

    /// Fills those carts that are not full yet, reads all of them as if they were in use, and returns how many had to
    /// be filled.
    pub(crate) async fn prepare(&mut self, edge: SocketAddr) -> Result<usize> {
        let all: Vec<usize> = (0..self.count()).collect();
        // They are filled in order, so when the first is empty, all are.
        let begun = self.look_at(edge, &all[..1]).await?.is_empty();
        let empty = if begun { self.look_at(edge, &all).await? } else { all.clone() };
        self.each(edge, &empty, async |cart, connection| {
            let answer = connection.exchange(&self.filling(cart)?).await?;
            ensure!(answer.status == 200, "a cart is not filled: {}", String::from_utf8_lossy(answer.body));
            Ok(())
        })
        .await?;
        let still_empty = self.look_at(edge, &empty).await?;
        ensure!(still_empty.is_empty(), "{} carts do not have {LINES} lines", still_empty.len());
        // Whoever looks for the first time has a cart rendered, and for the second time the edge keeps it.
        self.look_at(edge, &all).await?;
        self.lines = self.learn_lines(edge).await?;
        Ok(empty.len())
    }

    /// Whose turn it is.
    pub(crate) fn pick(&self) -> usize {
        let rank = self.popularity.sample(&mut *self.chance.borrow_mut());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to the count")]
        let rank = rank as usize;
        rank.clamp(1, self.count()) - 1
    }

    /// True with this probability.
    fn happens(&self, probability: f64) -> bool {
        self.chance.borrow_mut().random_bool(probability)
    }

    /// The lines of a cart as JSON, by their names.
    pub(crate) fn line_documents(&self, cart: usize) -> impl Iterator<Item = &(String, String)> {
        items_of(cart).filter_map(|item| self.lines.get(item))
    }

    /// Reads these carts, and returns those that do not have all their lines.
    async fn look_at(&self, edge: SocketAddr, carts: &[usize]) -> Result<Vec<usize>> {
        let empty = RefCell::new(Vec::new());
        let full = format!("\"count\":{{\"lines\":{LINES},");
        self.each(edge, carts, async |cart, connection| {
            let mut request = Vec::new();
            self.write_read(cart, &mut request)?;
            let answer = connection.exchange(&request).await?;
            ensure!(answer.status == 200, "a cart is not shown: {}", String::from_utf8_lossy(answer.body));
            if !std::str::from_utf8(answer.body)?.contains(&full) {
                empty.borrow_mut().push(cart);
            }
            Ok(())
        })
        .await?;
        Ok(empty.into_inner())
    }

    /// Does something for each of these carts, many at once.
    async fn each(
        &self,
        edge: SocketAddr,
        carts: &[usize],
        work: impl AsyncFn(usize, &mut Connection) -> Result<()>,
    ) -> Result<()> {
        let next = Cell::new(0);
        let clerks = (0..CLERKS).map(async |_| {
            let mut connection = Connection::new(edge);
            while let Some(cart) = carts.get(next.replace(next.get() + 1)) {
                work(*cart, &mut connection).await?;
            }
            Ok(())
        });
        join_all(clerks).await.into_iter().collect()
    }

    /// A line is named after its item, so a few carts show all names.
    async fn learn_lines(&self, edge: SocketAddr) -> Result<BTreeMap<&'static str, (String, String)>> {
        let mut connection = Connection::new(edge);
        let mut known = BTreeMap::new();
        for cart in 0..self.count().min(ITEMS.len()) {
            let mut request = Vec::new();
            self.write_read(cart, &mut request)?;
            let document: Value = serde_json::from_slice(connection.exchange(&request).await?.body)?;
            let lines = document["lines"].as_array().context("a cart has lines")?;
            for (item, line) in items_of(cart)
                .filter_map(|item| Some((item, lines.iter().find(|line| line["item_id"] == item)?)))
            {
                let name = line["line_id"].as_str().context("a line has a name")?;
                known.insert(item, (name.to_owned(), line.to_string()));
            }
        }
        if known.is_empty() { bail!("no cart has a line") } else { Ok(known) }
    }

    /// The request that fills a cart: all of it or nothing.
    fn filling(&self, cart: usize) -> Result<Vec<u8>> {
        let add = |item| json!({ "op": "add", "item_id": item, "quantity": QUANTITY_FIRST });
        let commands: Vec<Value> = items_of(cart).map(add).collect();
        let body = json!({ "commands": commands }).to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let mut request = Vec::new();
        write!(
            request,
            "POST /v1/cart/commands HTTP/1.1\r\nhost: bench\r\n{}idempotency-key: fill-{now}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.credentials[cart],
            body.len()
        )?;
        Ok(request)
    }

    fn write_read(&self, cart: usize, request: &mut Vec<u8>) -> std::io::Result<()> {
        write!(request, "GET /v1/cart HTTP/1.1\r\nhost: bench\r\n{}", self.credentials[cart])?;
        self.write_seen(cart, request)?;
        request.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn write_change(&self, cart: usize, request: &mut Vec<u8>) -> std::io::Result<()> {
        let change = self.changes[cart].get();
        self.changes[cart].set(change.wrapping_add(1));
        let at = change as usize % LINES;
        let quantity = 1 + (change as usize / LINES) % QUANTITIES as usize;
        let (line, _) = self.line_documents(cart).nth(at).ok_or(std::io::ErrorKind::NotFound)?;
        let body_bytes = "{\"quantity\":1}".len();
        write!(
            request,
            "PATCH /v1/cart/items/{line} HTTP/1.1\r\nhost: bench\r\n{}content-type: application/json\r\n\
             content-length: {body_bytes}\r\n",
            self.credentials[cart]
        )?;
        self.write_seen(cart, request)?;
        write!(request, "\r\n{{\"quantity\":{quantity}}}")
    }

    /// Every client echoes the newest version it has seen.
    fn write_seen(&self, cart: usize, request: &mut Vec<u8>) -> std::io::Result<()> {
        match self.seen[cart].get() {
            Some(Version(epoch, version)) => write!(request, "cart-version: {epoch}.{version}\r\n"),
            None => Ok(()),
        }
    }

    /// Whether an answer counts, to somebody who had seen this before asking.
    fn check(&self, cart: usize, seen: Option<Version>, answer: &Answer<'_>) -> Result<(), Failure> {
        if answer.status != 200 {
            return Err(Failure::Status(answer.status));
        }
        if answer.version < seen {
            return Err(Failure::WentBack);
        }
        self.seen[cart].set(self.seen[cart].get().max(answer.version));
        Ok(())
    }
}

/// Neighbours in the list, all the way round.
fn items_of(cart: usize) -> impl Iterator<Item = &'static str> {
    (0..LINES).map(move |line| ITEMS[(cart + line) % ITEMS.len()])
}

/// One shopper after the other at one connection to the service.
pub(crate) struct Shoppers<'a> {
    carts: &'a Carts,
    connection: Connection,
    writes: f64,
    request: Vec<u8>,
}

impl<'a> Shoppers<'a> {
    /// This share of them changes something; the others look at their cart.
    pub(crate) fn new(carts: &'a Carts, edge: SocketAddr, writes: f64) -> Self {
        Self { carts, connection: Connection::new(edge), writes, request: Vec::new() }
    }
}

impl Caller for Shoppers<'_> {
    async fn call(&mut self) -> Result<Kind, Failure> {
        let cart = self.carts.pick();
        let kind = if self.carts.happens(self.writes) { Kind::Write } else { Kind::Read };
        self.request.clear();
        match kind {
            Kind::Read => self.carts.write_read(cart, &mut self.request)?,
            Kind::Write => self.carts.write_change(cart, &mut self.request)?,
        }
        let seen = self.carts.seen[cart].get();
        let answer = self.connection.exchange(&self.request).await?;
        self.carts.check(cart, seen, &answer)?;
        Ok(kind)
    }
}

/// The same for the bare handler, which knows no shoppers.
pub(crate) struct BareReaders<'a> {
    carts: &'a Carts,
    connection: Connection,
    request: Vec<u8>,
}

impl<'a> BareReaders<'a> {
    /// Read carts as popular as the service's.
    pub(crate) fn new(carts: &'a Carts, bare: SocketAddr) -> Self {
        Self { carts, connection: Connection::new(bare), request: Vec::new() }
    }
}

impl Caller for BareReaders<'_> {
    async fn call(&mut self) -> Result<Kind, Failure> {
        let cart = self.carts.pick();
        self.request.clear();
        write!(self.request, "GET /carts/{cart} HTTP/1.1\r\nhost: bench\r\n\r\n")?;
        let answer = self.connection.exchange(&self.request).await?;
        if answer.status == 200 { Ok(Kind::Read) } else { Err(Failure::Status(answer.status)) }
    }
}
