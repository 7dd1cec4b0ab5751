//! Catalogs on a PostgreSQL server of our own.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

pub use lodge_faults::postgres::Postgres;

/// The address of a schema of the server at a port.
pub fn url(port: u16, schema: &str) -> String {
    format!("postgres://lodge@127.0.0.1:{port}/postgres?options[search_path]={schema}")
}

/// A server for one test alone.
pub async fn start() -> Postgres {
    tokio::task::spawn_blocking(|| Postgres::start().unwrap()).await.unwrap()
}

/// The server that all tests of this process share.
pub async fn shared() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    let started = || SHARED.get_or_init(|| Postgres::start().unwrap());
    tokio::task::spawn_blocking(started).await.unwrap()
}

/// A new schema on that server, as an address.
pub async fn fresh() -> String {
    fresh_on(shared().await.port()).await
}

/// A new schema on the server at a port.
pub async fn fresh_on(port: u16) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let schema = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    sql(&url(port, "public"), &format!("CREATE SCHEMA {schema}")).await;
    url(port, &schema)
}

/// Does something by a connection of its own.
pub async fn sql(url: &str, text: &str) {
    use sqlx::Connection as _;
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}
