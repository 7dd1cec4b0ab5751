//! How each demo service writes a record down.
//!
//! Invariant: every record starts with its time (or carries it in a field) and ends without a line
//! feed; lines of a stack trace start with white space or the usual words, as real ones do.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;

use super::story::{Line, Service};
use crate::rng::Rng;

/// A request on its way: its identity, its present moment and the records that it has left behind.
pub(super) struct Scope {
    now: Timestamp,
    trace: String,
    user: u64,
    client: String,
    agent: &'static str,
    thread: u64,
    pub(super) lines: Vec<Line>,
}

const USER_AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36",
    "shop-app/7.4.1 (Android 16)",
];

impl Scope {
    pub(super) fn new(now: Timestamp, rng: &mut Rng) -> Self {
        Self {
            now,
            trace: format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64()),
            user: rng.between(10_000, 10_900),
            client: format!("203.0.113.{}", rng.between(1, 254)),
            agent: rng.pick(&USER_AGENTS),
            thread: rng.between(1, 12),
            lines: Vec::with_capacity(8),
        }
    }

    /// Lets time pass before the next record.
    pub(super) fn after_ms(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    fn push(&mut self, service: Service, text: String) {
        self.lines.push(Line { due: self.now, service, text });
    }

    /// `2026-11-22 23:50:01,123` in UTC, as Java's and Python's libraries write it.
    fn comma_time(&self) -> String {
        self.now.strftime("%Y-%m-%d %H:%M:%S,%3f").to_string()
    }
}

#[derive(Clone, Copy)]
pub(super) enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    fn lower(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// Padded to five, as logback does.
    fn java(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO ",
            Self::Warn => "WARN ",
            Self::Error => "ERROR",
        }
    }

    fn python(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARNING",
            Self::Error => "ERROR",
        }
    }
}

type Fields<'a> = &'a [(&'a str, &'a str)];

/// A JSON record of the shop.
pub(super) fn shop_api(scope: &mut Scope, level: LogLevel, message: &str, fields: Fields<'_>) {
    let mut text = format!(
        r#"{{"time":"{:.3}","level":"{}","msg":"{message}","trace_id":"{}","user_id":{}"#,
        scope.now,
        level.lower(),
        scope.trace,
        scope.user
    );
    for (name, value) in fields {
        // Our values have nothing to escape; numbers go without quotes.
        let quote = if value.parse::<f64>().is_ok() { "" } else { "\"" };
        let _ = write!(text, r#","{name}":{quote}{value}{quote}"#);
    }
    text.push('}');
    scope.push(Service::ShopApi, text);
}

/// The shop's record at the end of a request.
pub(super) fn shop_api_done(
    scope: &mut Scope,
    message: &str,
    status: u16,
    took_ms: u64,
    fields: Fields<'_>,
) {
    let (status_text, took) = (status.to_string(), took_ms.to_string());
    let mut all = vec![("status", status_text.as_str()), ("duration_ms", took.as_str())];
    all.extend_from_slice(fields);
    let level = if status < 400 { LogLevel::Info } else { LogLevel::Warn };
    shop_api(scope, level, message, &all);
}

/// What the gateway answered.
pub(super) struct Access<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) status: u16,
    pub(super) bytes: u64,
    pub(super) took_ms: u64,
}

/// A line of nginx's combined log with times and the trace id added.
pub(super) fn gateway(scope: &mut Scope, rng: &mut Rng, access: &Access<'_>) {
    scope.after_ms(1);
    let referrer = rng.pick(&["-", "https://shop.example/", "https://shop.example/cart"]);
    let text = format!(
        r#"{} - - [{}] "{} {} HTTP/1.1" {} {} "{referrer}" "{}" rt={}.{:03} trace={}"#,
        scope.client,
        scope.now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
        access.method,
        access.path,
        access.status,
        access.bytes,
        scope.agent,
        access.took_ms / 1000,
        access.took_ms % 1000,
        scope.trace,
    );
    scope.push(Service::Gateway, text);
}

/// A logback line of the payment service.
pub(super) fn payments(scope: &mut Scope, level: LogLevel, logger: &str, message: &str) {
    let text = format!(
        "{} {} [http-nio-8443-exec-{}] {logger} - trace={} {message}",
        scope.comma_time(),
        level.java(),
        scope.thread,
        scope.trace
    );
    scope.push(Service::Payments, text);
}

/// A payment that timed out, with the stack trace that Java prints.
pub(super) fn payment_timeout(
    scope: &mut Scope,
    rng: &mut Rng,
    order: &str,
    amount: &str,
    took_ms: u64,
) {
    let retry = rng.between(61, 64);
    let more = rng.between(18, 26);
    let message = format!(
        "authorisation of {amount} EUR for {order} failed\n\
         com.example.pay.ProviderTimeoutException: no answer after {took_ms} ms\n\
         \tat com.example.pay.AcquirerClient.authorise(AcquirerClient.java:118)\n\
         \tat com.example.pay.RetryPolicy.call(RetryPolicy.java:{retry})\n\
         \tat com.example.pay.PaymentService.authorise(PaymentService.java:87)\n\
         \tat com.example.pay.web.PaymentController.post(PaymentController.java:52)\n\
         \tat java.base/java.lang.reflect.Method.invoke(Method.java:580)\n\
         \tat org.springframework.web.servlet.FrameworkServlet.service(FrameworkServlet.java:885)\n\
         \tat java.base/java.lang.Thread.run(Thread.java:1583)\n\
         Caused by: java.net.SocketTimeoutException: Read timed out\n\
         \tat java.base/sun.nio.ch.NioSocketImpl.timedRead(NioSocketImpl.java:278)\n\
         \tat java.base/sun.nio.ch.NioSocketImpl.implRead(NioSocketImpl.java:304)\n\
         \tat com.example.pay.AcquirerClient.readAnswer(AcquirerClient.java:163)\n\
         \t... {more} more"
    );
    payments(scope, LogLevel::Error, "c.e.pay.AcquirerClient", &message);
}

/// A logfmt record of the worker.
pub(super) fn worker(scope: &mut Scope, level: LogLevel, message: &str, fields: Fields<'_>) {
    let mut text = format!(
        "time={:.3} level={} msg=\"{message}\" trace_id={}",
        scope.now,
        level.lower(),
        scope.trace
    );
    for (name, value) in fields {
        let quote = if value.contains([' ', '=', '"']) { "\"" } else { "" };
        let _ = write!(text, " {name}={quote}{value}{quote}");
    }
    scope.push(Service::Worker, text);
}

/// A line of Python's logging module.
pub(super) fn scheduler(scope: &mut Scope, level: LogLevel, job: &str, message: &str) {
    let text = format!("{} {} scheduler.{job}: {message}", scope.comma_time(), level.python());
    scope.push(Service::Scheduler, text);
}

/// A failed job with the traceback that `logging.exception` prints.
pub(super) fn traceback(scope: &mut Scope, rng: &mut Rng, job: &str, run: u64) {
    let cause = match job {
        "reconcile" => "TimeoutError: acquirer report for batch 20261122 not ready within 2.0 s",
        "expire_carts" => "redis.exceptions.ConnectionError: Connection closed by server.",
        "rebuild_index" => "KeyError: 'locale'",
        _ => "OSError: [Errno 28] No space left on device: '/var/reports/daily.csv.tmp'",
    };
    let line = rng.between(60, 140);
    let message = format!(
        "run {run} failed after 3 attempts\n\
         Traceback (most recent call last):\n  \
           File \"/app/scheduler/runner.py\", line 88, in run_once\n    \
             result = job.execute(context)\n             \
                      ^^^^^^^^^^^^^^^^^^^^\n  \
           File \"/app/scheduler/jobs/{job}.py\", line {line}, in execute\n    \
             rows = self._fetch(context.window)\n\
         {cause}"
    );
    scheduler(scope, LogLevel::Error, job, &message);
}

/// What people look for.
pub(super) fn search_term(rng: &mut Rng) -> &'static str {
    rng.pick(&["lamp", "oak+table", "desk", "chair+blue", "shelf", "rug", "mirror", "sofa"])
}

/// `ord_` and ten characters.
pub(super) fn order_id(rng: &mut Rng) -> String {
    format!("ord_{:010x}", rng.next_u64() >> 24)
}
