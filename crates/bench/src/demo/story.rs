//! What happens in the demo shop: scenes of requests and jobs, and the incidents.
//!
//! Every [`CYCLE`] the shop has one incident of [`INCIDENT`] length, [`CALM`] after the cycle
//! began. In turn:
//! - *payment timeouts*: the card acquirer stops answering; payments logs stack traces and opens
//!   its circuit breaker, the shop answers 502 and 504, the worker's retries pile up, the
//!   reconciliation job fails;
//! - *database pool*: the shop runs out of connections after a deploy; requests are slow or
//!   answered with 503.
//!
//! Invariant: no clock and no file is touched here: a scene is a value that depends on the seed,
//! the scenes before and the time that it is asked for.

use std::cmp::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use super::voices::{self, Access, LogLevel, Scope};
use crate::rng::Rng;

/// The time from one incident's begin to the next one's.
pub const CYCLE: Duration = Duration::from_secs(240);
/// How long all is well at the start of each cycle.
pub const CALM: Duration = Duration::from_secs(75);
/// How long an incident lasts.
pub const INCIDENT: Duration = Duration::from_secs(40);

/// The services of the demo; each has one log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// nginx-like access log.
    Gateway,
    /// JSON.
    ShopApi,
    /// Java-like plain text.
    Payments,
    /// logfmt.
    Worker,
    /// Python-like plain text.
    Scheduler,
}

impl Service {
    /// All services.
    pub const ALL: [Self; 5] =
        [Self::Gateway, Self::ShopApi, Self::Payments, Self::Worker, Self::Scheduler];

    /// The name, which is also the log file's without `.log`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::ShopApi => "shop-api",
            Self::Payments => "payments",
            Self::Worker => "worker",
            Self::Scheduler => "scheduler",
        }
    }
}

/// One record of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it is written, which is also the time in its text.
    pub due: Timestamp,
    /// Who writes it.
    pub service: Service,
    /// Its text without the last line feed; stack traces have line feeds inside.
    pub text: String,
}

impl Line {
    /// How many lines it makes in the file.
    pub fn lines(&self) -> u64 {
        1 + memchr::memchr_iter(b'\n', self.text.as_bytes()).count() as u64
    }
}

/// Earlier lines are greater, so that a `BinaryHeap` hands out the earliest.
impl Ord for Line {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |line: &Self| (line.due, line.service as u8);
        key(other).cmp(&key(self)).then_with(|| other.text.cmp(&self.text))
    }
}

impl PartialOrd for Line {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What is wrong with the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// All is well.
    Calm,
    /// The card acquirer does not answer.
    PaymentTimeouts,
    /// The shop has run out of database connections.
    DatabasePool,
}

/// The story so far.
pub struct Story {
    rng: Rng,
    begun: Option<Timestamp>,
    mood: Mood,
    job_runs: u64,
    queue_depth: u64,
    deploys: u64,
}

impl Story {
    /// A story that begins with its first scene.
    pub fn new(seed: u64) -> Self {
        let rng = Rng::new(seed);
        Self { rng, begun: None, mood: Mood::Calm, job_runs: 1000, queue_depth: 3, deploys: 0 }
    }

    /// The mood at a time after the story's begin.
    pub fn mood_after(elapsed: Duration) -> Mood {
        let within = elapsed.as_secs_f64() % CYCLE.as_secs_f64();
        let number = elapsed.as_secs() / CYCLE.as_secs();
        let incident = CALM.as_secs_f64()..(CALM + INCIDENT).as_secs_f64();
        match (incident.contains(&within), number % 2) {
            (false, _) => Mood::Calm,
            (true, 0) => Mood::PaymentTimeouts,
            (true, _) => Mood::DatabasePool,
        }
    }

    /// What happens next: the records of one request or job, from `now` on, in no order.
    pub fn scene(&mut self, now: Timestamp) -> Vec<Line> {
        let begun = *self.begun.get_or_insert(now);
        let elapsed = Duration::try_from(now.duration_since(begun)).unwrap_or_default();
        let mood = Self::mood_after(elapsed);
        if mood != self.mood {
            let before = std::mem::replace(&mut self.mood, mood);
            return self.turn(before, mood, now);
        }
        let mut scope = self.scope(now);
        match self.rng.below(100) {
            0..=56 => self.browse(&mut scope),
            57..=74 => self.change_cart(&mut scope),
            75..=89 => self.check_out(&mut scope),
            90..=93 => self.stranger(&mut scope),
            94..=96 => self.worker_sweep(&mut scope),
            _ => self.scheduled_job(&mut scope),
        }
        scope.lines
    }

    fn scope(&mut self, now: Timestamp) -> Scope {
        // Requests do not all begin at the tick.
        let start = now + Duration::from_micros(self.rng.below(50_000));
        Scope::new(start, &mut self.rng)
    }

    /// The records that mark the begin or the end of an incident.
    fn turn(&mut self, before: Mood, mood: Mood, now: Timestamp) -> Vec<Line> {
        let mut scope = self.scope(now);
        match (before, mood) {
            (_, Mood::PaymentTimeouts) => {
                voices::payments(
                    &mut scope,
                    LogLevel::Warn,
                    "c.e.pay.HealthCheck",
                    "acquirer \
                    acq-2.example answered the probe after 4870 ms, limit is 1000 ms",
                );
            }
            (_, Mood::DatabasePool) => {
                self.deploys += 1;
                let version = format!("2.{}.0", 40 + self.deploys);
                voices::shop_api(
                    &mut scope,
                    LogLevel::Info,
                    "deploy finished",
                    &[("version", &version), ("pool_size_max", "8")],
                );
            }
            (Mood::PaymentTimeouts, Mood::Calm) => {
                voices::payments(
                    &mut scope,
                    LogLevel::Info,
                    "c.e.pay.CircuitBreaker",
                    "circuit acquirer closed after 5 good probes, traffic is back to normal",
                );
            }
            (Mood::DatabasePool, Mood::Calm) => {
                voices::shop_api(
                    &mut scope,
                    LogLevel::Info,
                    "connection pool resized",
                    &[("pool_size_max", "64"), ("reason", "rollback")],
                );
            }
            (Mood::Calm, Mood::Calm) => {}
        }
        scope.lines
    }

    /// Someone looks at products.
    fn browse(&mut self, scope: &mut Scope) {
        let product = self.rng.between(1000, 9999);
        let (path, what) = match self.rng.below(3) {
            0 => (format!("/api/products/{product}"), "product shown"),
            1 => (format!("/api/search?q={}", voices::search_term(&mut self.rng)), "search done"),
            _ => (format!("/api/categories/{}/products", product % 40), "category listed"),
        };
        if self.out_of_connections(scope, "GET", &path) {
            return;
        }
        let took_ms = self.latency_ms(4, 60);
        scope.after_ms(took_ms);
        let count = self.rng.below(60).to_string();
        voices::shop_api_done(scope, what, 200, took_ms, &[("results", &count)]);
        self.access(scope, "GET", &path, 200, took_ms);
    }

    /// Someone puts a thing into the cart.
    fn change_cart(&mut self, scope: &mut Scope) {
        let sku = format!("SKU-{:04}", self.rng.below(10_000));
        if self.out_of_connections(scope, "POST", "/api/cart/items") {
            return;
        }
        let took_ms = self.latency_ms(6, 40);
        scope.after_ms(took_ms);
        if self.rng.one_in(25) {
            voices::shop_api_done(scope, "item out of stock", 409, took_ms, &[("sku", &sku)]);
            self.access(scope, "POST", "/api/cart/items", 409, took_ms);
            return;
        }
        voices::shop_api_done(scope, "item added to cart", 201, took_ms, &[("sku", &sku)]);
        self.access(scope, "POST", "/api/cart/items", 201, took_ms);
    }

    /// Someone buys: through the shop, payments and the worker, all under one trace id.
    fn check_out(&mut self, scope: &mut Scope) {
        if self.out_of_connections(scope, "POST", "/api/checkout") {
            return;
        }
        let order = voices::order_id(&mut self.rng);
        let cents = self.rng.between(499, 48_000);
        let amount = format!("{}.{:02}", cents / 100, cents % 100);
        voices::shop_api(
            scope,
            LogLevel::Info,
            "checkout started",
            &[("order_id", &order), ("amount", &amount), ("currency", "EUR")],
        );
        scope.after_ms(self.latency_ms(2, 10));
        let text = format!("authorising {amount} EUR for {order} at acq-2.example");
        voices::payments(scope, LogLevel::Info, "c.e.pay.PaymentService", &text);
        if self.mood == Mood::PaymentTimeouts && !self.rng.one_in(6) {
            self.payment_fails(scope, &order, &amount);
            return;
        }
        let took_ms = self.latency_ms(80, 400);
        scope.after_ms(took_ms);
        let text = format!(
            "authorised {amount} EUR for {order} in {took_ms} ms, reference \
            {:012x}",
            self.rng.next_u64() >> 16
        );
        voices::payments(scope, LogLevel::Info, "c.e.pay.PaymentService", &text);
        scope.after_ms(self.latency_ms(2, 12));
        voices::shop_api_done(
            scope,
            "order placed",
            201,
            took_ms + 15,
            &[("order_id", &order), ("amount", &amount)],
        );
        self.access(scope, "POST", "/api/checkout", 201, took_ms + 15);
        self.confirm_by_mail(scope, &order);
    }

    /// The acquirer does not answer: a stack trace, a 502 or 504, a retry job.
    fn payment_fails(&mut self, scope: &mut Scope, order: &str, amount: &str) {
        let breaker_open = self.rng.one_in(3);
        let took_ms = if breaker_open { 4 } else { 3000 + self.rng.below(40) };
        scope.after_ms(took_ms);
        if breaker_open {
            let text = format!("circuit acquirer is open, payment for {order} refused at once");
            voices::payments(scope, LogLevel::Warn, "c.e.pay.CircuitBreaker", &text);
        } else {
            voices::payment_timeout(scope, &mut self.rng, order, amount, took_ms);
        }
        scope.after_ms(2);
        let status = if breaker_open { 502 } else { 504 };
        let took = took_ms.to_string();
        voices::shop_api(
            scope,
            LogLevel::Error,
            "checkout failed: payment service did not answer",
            &[
                ("order_id", order),
                ("upstream", "payments"),
                ("duration_ms", &took),
                ("error", "deadline exceeded"),
            ],
        );
        self.access(scope, "POST", "/api/checkout", status, took_ms + 4);
        self.queue_depth += 1;
        let depth = self.queue_depth.to_string();
        scope.after_ms(20);
        voices::worker(
            scope,
            LogLevel::Warn,
            "payment retry scheduled",
            &[("job", "payment.retry"), ("order_id", order), ("attempt", "1"), ("depth", &depth)],
        );
    }

    fn confirm_by_mail(&mut self, scope: &mut Scope, order: &str) {
        let id = format!("{:08x}", self.rng.next_u64() >> 32);
        scope.after_ms(self.latency_ms(30, 400));
        voices::worker(
            scope,
            LogLevel::Info,
            "job started",
            &[("job", "mail.order_confirmation"), ("id", &id), ("order_id", order)],
        );
        let took_ms = self.latency_ms(40, 300);
        scope.after_ms(took_ms);
        let took = took_ms.to_string();
        if self.rng.one_in(40) {
            voices::worker(
                scope,
                LogLevel::Error,
                "job failed, will be retried",
                &[
                    ("job", "mail.order_confirmation"),
                    ("id", &id),
                    ("duration_ms", &took),
                    ("error", "smtp: 451 4.7.1 greylisted, try again later"),
                ],
            );
            return;
        }
        voices::worker(
            scope,
            LogLevel::Info,
            "job done",
            &[("job", "mail.order_confirmation"), ("id", &id), ("duration_ms", &took)],
        );
    }

    /// A scanner or an old link: the gateway answers by itself.
    fn stranger(&mut self, scope: &mut Scope) {
        let path = self.rng.pick(&[
            "/wp-login.php",
            "/.env",
            "/api/v0/status",
            "/favicon.ico",
            "/robots.txt",
            "/admin/config.php",
        ]);
        let status = if path == "/robots.txt" || path == "/favicon.ico" { 200 } else { 404 };
        self.access(scope, "GET", path, status, 0);
    }

    /// The worker looks at its queues.
    fn worker_sweep(&mut self, scope: &mut Scope) {
        if self.mood == Mood::Calm {
            self.queue_depth = self.queue_depth.saturating_sub(4).max(self.rng.below(5));
        }
        let depth = self.queue_depth.to_string();
        let (level, text) = if self.queue_depth > 20 {
            (LogLevel::Warn, "queue is growing")
        } else {
            (LogLevel::Debug, "queue inspected")
        };
        voices::worker(
            scope,
            level,
            text,
            &[("queue", "payment.retry"), ("depth", &depth), ("workers", "8")],
        );
    }

    /// A cron job; during payment timeouts the reconciliation fails with a traceback.
    fn scheduled_job(&mut self, scope: &mut Scope) {
        self.job_runs += 1;
        let run = self.job_runs;
        let job = self.rng.pick(&[
            "reconcile",
            "reconcile",
            "expire_carts",
            "rebuild_index",
            "export_report",
        ]);
        voices::scheduler(scope, LogLevel::Info, job, &format!("run {run} started"));
        scope.after_ms(self.latency_ms(100, 2000));
        let fails = self.mood == Mood::PaymentTimeouts && job == "reconcile";
        if fails || self.rng.one_in(30) {
            voices::traceback(scope, &mut self.rng, job, run);
            return;
        }
        let rows = self.rng.below(5000);
        voices::scheduler(scope, LogLevel::Info, job, &format!("run {run} done, {rows} rows"));
    }

    /// While the pool is exhausted most requests wait and fail; returns whether this one did.
    fn out_of_connections(&mut self, scope: &mut Scope, method: &str, path: &str) -> bool {
        if self.mood != Mood::DatabasePool || self.rng.one_in(3) {
            return false;
        }
        let took_ms = 2000 + self.rng.below(30);
        scope.after_ms(took_ms);
        let (took, waiting) = (took_ms.to_string(), self.rng.between(20, 400).to_string());
        voices::shop_api(
            scope,
            LogLevel::Error,
            "no database connection within 2s: pool exhausted",
            &[
                ("pool_in_use", "8"),
                ("pool_size_max", "8"),
                ("waiting", &waiting),
                ("duration_ms", &took),
                ("path", path),
            ],
        );
        self.access(scope, method, path, 503, took_ms + 1);
        true
    }

    fn access(&mut self, scope: &mut Scope, method: &str, path: &str, status: u16, took_ms: u64) {
        let bytes = if status < 400 { self.rng.between(300, 30_000) } else { 157 };
        let access = Access { method, path, status, bytes, took_ms };
        voices::gateway(scope, &mut self.rng, &access);
    }

    /// Most near `typical`, some towards `slow`; everything is slower while connections are short.
    fn latency_ms(&mut self, typical: u64, slow: u64) -> u64 {
        let r = self.rng.below(1000) * self.rng.below(1000) / 1000;
        let base = typical + (slow - typical) * r / 1000;
        if self.mood == Mood::DatabasePool { base * 5 } else { base }
    }
}
