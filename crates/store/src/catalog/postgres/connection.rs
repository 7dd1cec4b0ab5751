//! Connections to PostgreSQL: how they are set up, how long anything may take, and which failures
//! are tried again.
//!
//! Invariants:
//! - every wait has an end, on the server (`statement_timeout`, `lock_timeout`, …) and here, where a
//!   connection whose other side is gone would not be noticed otherwise;
//! - a connection that broke, or on which an answer is outstanding, never goes back to the pool;
//! - no text that leaves this module has the password in it.

use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection as _, PgConnection, Postgres};

use crate::StoreError;

/// Connections of one process.
const CONNECTIONS_MAX: u32 = 16;
/// How long a connection may take to be made, or to become free.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long everything between two answers may take here: longer than the server allows a statement.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);
/// What may be repeated is repeated for so long.
const RETRY_FOR: Duration = Duration::from_secs(5);
/// Pauses between repetitions begin with this …
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// … and grow to this.
const PAUSE_MAX: Duration = Duration::from_millis(400);
/// So often a transaction is tried that others got in the way of.
const CONFLICTS_MAX: u32 = 16;

/// What every connection is told first. The server ends what its client no longer waits for, and
/// what a client that is gone has locked. A commit is durable whatever the server's default is.
const SESSION: &str = "SET statement_timeout = '10s'; \
     SET lock_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '10s'; \
     SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; \
     SET tcp_user_timeout = 20000; \
     SET default_transaction_isolation = 'read committed'; \
     SELECT set_config('synchronous_commit', 'on', false) \
     WHERE current_setting('synchronous_commit') = 'off'";

/// The way to the database.
#[derive(Debug)]
pub(super) struct Database {
    pool: PgPool,
    /// Where it is, without the password.
    pub(super) at: Arc<str>,
    /// When a connection last broke: older ones are likely broken, too.
    broke: Arc<Mutex<Option<Instant>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place(options: &PgConnectOptions) -> Arc<str> {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let database = options.get_database().unwrap_or(options.get_username());
    format!("postgres://{}@{host}/{database}", options.get_username()).into()
}

fn no_answer(within: Duration) -> sqlx::Error {
    let text = format!("no answer within {} s", within.as_secs());
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
}

impl Database {
    /// Connects; tries for a while if the server is not there yet.
    pub(super) async fn open(url: &str) -> Result<Self, StoreError> {
        // The parser's errors do not repeat what they could not read.
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| StoreError::CatalogAddress(error.to_string()))?
            .application_name("lodge")
            .disable_statement_logging();
        let at = place(&options);
        let broke: Arc<Mutex<Option<Instant>>> = Arc::default();
        // The pool would say no more than that it took too long.
        let mut retry = Retry::begin("connect");
        loop {
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await;
            let source = match connected {
                Ok(Ok(connection)) => {
                    connection.close().await.ok();
                    break;
                }
                Ok(Err(error)) => error,
                Err(_) => no_answer(CONNECT_TIMEOUT),
            };
            let at = Arc::clone(&at);
            retry.again(StoreError::Postgres { at, action: "connect", source }).await?;
        }
        let suspect = Arc::clone(&broke);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(CONNECT_TIMEOUT)
            .idle_timeout(Duration::from_secs(600))
            .max_lifetime(None)
            .test_before_acquire(false)
            .after_connect(|connection, _| {
                Box::pin(async move { sqlx::raw_sql(SESSION).execute(connection).await.map(drop) })
            })
            .before_acquire(move |_, meta| {
                let made = Instant::now().checked_sub(meta.age);
                let sound = match (*locked(&suspect), made) {
                    (Some(broke), Some(made)) => made > broke,
                    (Some(_), None) => false,
                    (None, _) => true,
                };
                Box::pin(async move { Ok(sound) })
            })
            .connect_lazy_with(options);
        Ok(Self { pool, at, broke })
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// What failed, where.
    pub(super) fn failed(&self, action: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
        let at = Arc::clone(&self.at);
        move |source| StoreError::Postgres { at, action, source }
    }

    pub(super) async fn acquire(&self, action: &'static str) -> Result<Connection<'_>, StoreError> {
        let inner = self.pool.acquire().await.map_err(self.failed(action))?;
        Ok(Connection { inner, database: self, answered: true, in_transaction: false })
    }

    pub(super) async fn begin(&self) -> Result<Tx<'_>, StoreError> {
        let action = "begin a transaction";
        let mut connection = self.acquire(action).await?;
        connection.in_transaction = true;
        let done = limit(sqlx::raw_sql("BEGIN").execute(connection.ask())).await;
        connection.told(action, done)?;
        Ok(Tx(connection))
    }

    fn note_broken(&self) {
        *locked(&self.broke) = Some(Instant::now());
    }
}

/// Waits for an answer, but not for ever.
pub(super) async fn limit<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let done = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
    done.unwrap_or_else(|_| Err(no_answer(ANSWER_TIMEOUT)))
}

/// A connection in use. It goes back to the pool only if the last thing that was asked on it was
/// answered, and no transaction is open.
#[derive(Debug)]
pub(super) struct Connection<'d> {
    inner: PoolConnection<Postgres>,
    database: &'d Database,
    answered: bool,
    in_transaction: bool,
}

impl Connection<'_> {
    /// For the next question, whose answer is to be given to [`Connection::told`].
    pub(super) fn ask(&mut self) -> &mut PgConnection {
        self.answered = false;
        &mut self.inner
    }

    pub(super) fn told<T>(
        &mut self,
        action: &'static str,
        answer: Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        match answer {
            Ok(answer) => {
                self.answered = true;
                Ok(answer)
            }
            Err(source) => {
                self.answered = !is_broken(&source);
                if !self.answered {
                    self.database.note_broken();
                }
                Err(self.database.failed(action)(source))
            }
        }
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        if !self.answered || self.in_transaction {
            self.inner.close_on_drop();
        }
    }
}

/// A transaction. Dropped without an end, its connection is closed, which rolls it back.
#[derive(Debug)]
pub(super) struct Tx<'d>(Connection<'d>);

impl<'d> Tx<'d> {
    /// Of an error [`is_ambiguous`] tells whether it may have been committed all the same.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        let done = limit(sqlx::raw_sql("COMMIT").execute(self.0.ask())).await;
        self.0.told("commit a transaction", done)?;
        self.0.in_transaction = false;
        Ok(())
    }

    /// Nothing of it is done, whether this is answered or not.
    pub(super) async fn rollback(mut self) {
        if self.0.answered {
            let done = limit(sqlx::raw_sql("ROLLBACK").execute(self.0.ask())).await;
            self.0.in_transaction = self.0.told("roll a transaction back", done).is_err();
        }
    }
}

impl<'d> Deref for Tx<'d> {
    type Target = Connection<'d>;

    fn deref(&self) -> &Connection<'d> {
        &self.0
    }
}

impl<'d> DerefMut for Tx<'d> {
    fn deref_mut(&mut self) -> &mut Connection<'d> {
        &mut self.0
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|e| e.code()).map(|code| code.into_owned())
}

/// Whether the connection is of no use any more, or the server of none for now.
fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(_) => code(error).is_some_and(|code| {
            // Connection exceptions; shutdown, crash, start; too many connections; a server that
            // has become another's copy.
            code.starts_with("08")
                || ["57P01", "57P02", "57P03", "57P05", "53300", "25006", "25P03"]
                    .contains(&code.as_str())
        }),
        _ => false,
    }
}

/// Whether other transactions were in the way: serialisation, dead-lock, a lock not free in time, a
/// column list that was removed meanwhile.
fn is_conflict(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| ["40001", "40P01", "55P03", "23503"].contains(&code.as_str()))
}

/// Whether a COMMIT that failed like this may have been done.
pub(super) fn is_ambiguous(error: &StoreError) -> bool {
    match error {
        StoreError::Postgres { source, .. } => is_broken(source) || code(source).is_none(),
        _ => true,
    }
}

/// How to mend a failure, for people.
pub(crate) fn hint(error: &sqlx::Error) -> &'static str {
    match code(error).as_deref() {
        Some("28P01" | "28000") => "; check the user and the password of the catalog's address",
        Some("3D000") => "; make the database with `createdb`, or correct the catalog's address",
        Some("3F000" | "42501") => {
            "; the user needs a schema in its search_path in which it may create tables"
        }
        Some("53100") => "; free some space on PostgreSQL's disk and it goes on by itself",
        Some("53300") => "; raise max_connections of PostgreSQL: each process uses up to 16",
        Some("25006") => "; this server is a standby: name the primary in the catalog's address",
        _ if is_broken(error) => "; is PostgreSQL running there, and can it be reached from here?",
        _ => "",
    }
}

/// A failure that is tried again until it is over, for a while.
#[derive(Debug)]
pub(super) struct Retry {
    action: &'static str,
    until: Instant,
    pause: Duration,
    conflicts: u32,
}

impl Retry {
    pub(super) fn begin(action: &'static str) -> Self {
        let until = Instant::now() + RETRY_FOR;
        Self { action, until, pause: PAUSE_MIN, conflicts: 0 }
    }

    /// For questions that are worth twice the time.
    pub(super) fn patiently(action: &'static str) -> Self {
        Self { until: Instant::now() + 2 * RETRY_FOR, ..Self::begin(action) }
    }

    /// Waits a little before the next time; gives the error back if there should be none.
    pub(super) async fn again(&mut self, error: StoreError) -> Result<(), StoreError> {
        let StoreError::Postgres { source, .. } = &error else { return Err(error) };
        let conflict = is_conflict(source);
        self.conflicts += u32::from(conflict);
        let over = self.conflicts > CONFLICTS_MAX || Instant::now() >= self.until;
        if over || !(conflict || is_broken(source)) {
            return Err(error);
        }
        tracing::debug!(%error, action = self.action, "tried again");
        tokio::time::sleep(self.pause.mul_f64(jitter())).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

/// Between a half and one and a half, so that many that failed together do not come together again.
fn jitter() -> f64 {
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    0.5 + (random >> 40) as f64 / (1u64 << 24) as f64
}

/// Asks until there is an answer, or it has taken too long.
macro_rules! retrying {
    ($action:expr, $attempt:expr) => {{
        let mut retry = $crate::catalog::postgres::connection::Retry::begin($action);
        loop {
            match $attempt.await {
                Ok(answer) => break Ok(answer),
                Err(error) => {
                    if let Err(error) = retry.again(error).await {
                        break Err(error);
                    }
                }
            }
        }
    }};
}

pub(super) use retrying;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_place_has_no_password() {
        let of = |url: &str| place(&PgConnectOptions::from_str(url).unwrap()).to_string();
        let at = of("postgres://me:secret@db.example:6000/logs?options[search_path]=x");
        assert_eq!(at, "postgres://me@db.example:6000/logs");
        assert_eq!(of("postgres://me:secret@%2Frun%2Fpg/logs"), "postgres://me@/run/pg/logs");
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_read_is_not_repeated() {
        for url in ["postgres://me:secret@host:notaport/x", "secret", "postgres://me:secret@[::1/x"]
        {
            let error = Database::open(url).await.unwrap_err();
            assert!(matches!(error, StoreError::CatalogAddress(_)), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn jitter_stays_within_its_bounds() {
        assert!((0..1_000).all(|_| (0.5..1.5).contains(&jitter())));
    }
}
