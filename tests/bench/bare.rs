//! What the service is measured against: the least that anybody could do for the same purpose, with the same
//! libraries on the same servers.
//!
//! - A read: an axum handler, no token, no limits, no metrics; one HGETALL of a hash with five lines, its fields put
//!   together as JSON.
//! - A durable write: a transaction of two statements, straight from the load generator without HTTP between.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use redis::aio::MultiplexedConnection;
use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use sqlx::{ConnectOptions, Executor};
use tokio::net::TcpListener;

use crate::carts::Carts;
use crate::load::{Caller, Failure, Kind};

/// Carts in one message to Redis or MySQL, while they are filled.
const BATCH: usize = 500;
/// As many as the service has.
const POOL: u32 = 24;
/// What the service writes into its outbox for a change is about as long.
const PAYLOAD: &str = r#"{"kind":"cart","cart_id":"c_0123456789abcdef01234567","version":"1.12345"}"#;

/// Serves until it is stopped.
pub(crate) async fn serve(listen: SocketAddr) -> Result<()> {
    let url = std::env::var("BENCH_REDIS_URL").context("BENCH_REDIS_URL is for the bare handler")?;
    let redis = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let router = Router::new()
        .route("/ready", get(async || "ready"))
        .route("/carts/{cart}", get(cart))
        .with_state(redis);
    let listener = TcpListener::bind(listen).await?.tap_io(|stream| {
        // Small answers must not wait for more to send.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

async fn cart(State(mut redis): State<MultiplexedConnection>, Path(cart): Path<String>) -> Response {
    let fields: Vec<(String, String)> =
        match redis::cmd("HGETALL").arg(format!("cart:{cart}")).query_async(&mut redis).await {
            Ok(fields) => fields,
            Err(error) => return (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
        };
    let mut body = "{\"lines\":[".to_owned();
    let mut version = "";
    for (name, value) in &fields {
        if name == "_v" {
            version = value;
            continue;
        }
        if !body.ends_with('[') {
            body.push(',');
        }
        body.push_str(value);
    }
    body.push_str("],\"version\":\"");
    body.push_str(version);
    body.push_str("\"}");
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// Gives the bare handler carts with the very lines of the service's. To flush its database would take from the edge
/// what it keeps near, as if it were of the other one.
pub(crate) async fn fill_redis(url: &str, carts: &Carts) -> Result<()> {
    let mut redis = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let all: Vec<usize> = (0..carts.count()).collect();
    for batch in all.chunks(BATCH) {
        let mut pipeline = redis::pipe();
        for cart in batch {
            let mut fields = vec![("_v", "1.2")];
            fields.extend(carts.line_documents(*cart).map(|(name, line)| (name.as_str(), line.as_str())));
            let key = format!("cart:{cart}");
            pipeline.del(&key).ignore().hset_multiple(&key, &fields).ignore();
        }
        pipeline.exec_async(&mut redis).await?;
    }
    Ok(())
}

/// The pool of the bare transactions, set up as the service's, with a row for every cart.
pub(crate) async fn fill_mysql(url: &str, carts: &Carts) -> Result<MySqlPool> {
    let options: MySqlConnectOptions = url.parse()?;
    let pool = MySqlPoolOptions::new()
        .max_connections(POOL)
        .test_before_acquire(false)
        .acquire_timeout(Duration::from_secs(10))
        .after_connect(|connection, _| {
            Box::pin(async move {
                connection.execute("SET SESSION transaction_isolation = 'READ-COMMITTED'").await?;
                Ok(())
            })
        })
        .connect_with(options.disable_statement_logging())
        .await?;
    for statement in [
        "DROP TABLE IF EXISTS bench_carts",
        "DROP TABLE IF EXISTS bench_outbox",
        "CREATE TABLE bench_carts (
             cart_id VARCHAR(40) NOT NULL PRIMARY KEY, version BIGINT UNSIGNED NOT NULL, updated_at BIGINT NOT NULL
         ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin",
        "CREATE TABLE bench_outbox (
             seq BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, at BIGINT NOT NULL, payload TEXT NOT NULL
         ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin",
    ] {
        pool.execute(statement).await?;
    }
    let all: Vec<usize> = (0..carts.count()).collect();
    for batch in all.chunks(BATCH) {
        let rows: Vec<String> = batch.iter().map(|cart| format!("('{}', 1, 0)", name_of(*cart))).collect();
        let statement =
            format!("INSERT INTO bench_carts (cart_id, version, updated_at) VALUES {}", rows.join(","));
        pool.execute(sqlx::AssertSqlSafe(statement)).await?;
    }
    Ok(pool)
}

fn name_of(cart: usize) -> String {
    format!("c_{cart:024}")
}

/// Bare transactions, one after the other.
pub(crate) struct BareWriters<'a> {
    carts: &'a Carts,
    pool: MySqlPool,
}

impl<'a> BareWriters<'a> {
    /// Change carts as popular as the service's.
    pub(crate) fn new(carts: &'a Carts, pool: MySqlPool) -> Self {
        Self { carts, pool }
    }
}

impl Caller for BareWriters<'_> {
    async fn call(&mut self) -> Result<Kind, Failure> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "UPDATE bench_carts SET version = version + 1, updated_at = updated_at + 1 WHERE cart_id = ?",
        )
        .bind(name_of(self.carts.pick()))
        .execute(&mut *transaction)
        .await?;
        sqlx::query("INSERT INTO bench_outbox (at, payload) VALUES (?, ?)")
            .bind(1_i64)
            .bind(PAYLOAD)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Kind::Write)
    }
}
