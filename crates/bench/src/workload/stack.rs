//! Java stack traces: the multi-line part of messages.
//!
//! As in a real fleet, there are few distinct traces (a bug is a place in the code), some of them
//! far more common than others, and only the numbers in their first lines differ.

use crate::rng::Rng;

/// Distinct traces.
const STACKS: u64 = 60;
const EXCEPTIONS: [&str; 10] = [
    "java.lang.NullPointerException: Cannot invoke \\\"Order.getLines()\\\" because \\\"order\\\" \
     is null",
    "java.net.SocketTimeoutException: Read timed out",
    "java.lang.IllegalStateException: Connection pool shut down",
    "java.util.concurrent.TimeoutException: Did not observe any item within 5000ms",
    "org.hibernate.StaleObjectStateException: Row was updated by another transaction",
    "java.sql.SQLTransientConnectionException: HikariPool-1 - Connection is not available",
    "com.fasterxml.jackson.databind.JsonMappingException: Unexpected end-of-input",
    "java.lang.OutOfMemoryError: GC overhead limit exceeded",
    "java.io.IOException: Broken pipe",
    "java.lang.ArrayIndexOutOfBoundsException: Index 12 out of bounds for length 12",
];
const PACKAGES: [&str; 9] = [
    "com.acme.orders.service",
    "com.acme.orders.web",
    "com.acme.billing.ledger",
    "org.springframework.web.servlet",
    "org.springframework.transaction.interceptor",
    "org.apache.catalina.core",
    "org.hibernate.engine.jdbc.internal",
    "io.netty.channel.nio",
    "java.base/java.util.concurrent",
];
const CLASSES: [&str; 10] = [
    "OrderService",
    "InvoiceController",
    "DispatcherServlet",
    "TransactionInterceptor",
    "StandardWrapperValve",
    "ThreadPoolExecutor",
    "NioEventLoop",
    "ResultSetReturnImpl",
    "RetryTemplate",
    "LedgerRepository",
];
const METHODS: [&str; 10] = [
    "invoke",
    "proceed",
    "doFilter",
    "execute",
    "handleRequest",
    "lambda$run$0",
    "extract",
    "findById",
    "runWorker",
    "commit",
];

/// All traces, JSON-escaped.
#[derive(Debug)]
pub(super) struct Stacks(Vec<Vec<u8>>);

impl Stacks {
    pub(super) fn new() -> Self {
        Self((0..STACKS).map(|index| stack(&mut Rng::new(0x57ac_0000 + index))).collect())
    }

    /// Appends one of them, without a line feed before or after it.
    pub(super) fn write(&self, rng: &mut Rng, out: &mut Vec<u8>) {
        let bound = rng.below(self.0.len() as u64) + 1;
        out.extend_from_slice(&self.0[rng.below(bound) as usize]);
    }
}

fn stack(rng: &mut Rng) -> Vec<u8> {
    let mut text = rng.pick(&EXCEPTIONS).to_owned();
    frames(rng, &mut text, 6, 24);
    if rng.one_in(2) {
        text.push_str("\\nCaused by: ");
        text.push_str(rng.pick(&EXCEPTIONS));
        frames(rng, &mut text, 2, 8);
        text.push_str(&format!("\\n\\t... {} more", rng.between(4, 60)));
    }
    text.into_bytes()
}

fn frames(rng: &mut Rng, text: &mut String, low: u64, high: u64) {
    for _ in 0..rng.between(low, high) {
        let (package, class) = (rng.pick(&PACKAGES), rng.pick(&CLASSES));
        let (method, line) = (rng.pick(&METHODS), rng.between(20, 1400));
        text.push_str(&format!("\\n\\tat {package}.{class}.{method}({class}.java:{line})"));
    }
}
