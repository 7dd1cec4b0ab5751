//! A real store in a temporary folder, records to put into it, and rows as text to look at.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use lodge_query::{
    Budget, Engine, EngineLimits, FieldsRequest, LogsqlRequest, QueryError, SqlRequest, View,
};
use lodge_record::builder::BatchBuilder;
use lodge_record::stream::StreamLabels;
use lodge_record::{Batch, TenantId, field, overflow, schema};
use lodge_store::{Store, StoreOptions};

use crate::servers::{Server, cluster_of};

/// A second, in nanoseconds.
pub const S: i64 = 1_000_000_000;
/// 2026-01-02T00:00:00Z.
pub const DAY: i64 = 1_767_312_000 * S;

/// A field's value as it comes in.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Str(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

impl Value {
    /// The one text form.
    pub fn text(&self) -> String {
        match self {
            Self::Str(text) => text.clone(),
            Self::Int(number) => number.to_string(),
            Self::Float(number) => schema::float_text(*number),
            Self::Bool(flag) => flag.to_string(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

/// A record to be stored. Stream labels are fields as well.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub time: i64,
    pub msg: Option<String>,
    pub labels: Vec<(String, String)>,
    pub fields: Vec<(String, Value)>,
}

/// A record with a message.
pub fn record(time: i64, msg: &str) -> Record {
    Record { time, msg: Some(msg.to_owned()), labels: Vec::new(), fields: Vec::new() }
}

impl Record {
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    /// The canonical text of its stream.
    pub fn stream(&self) -> String {
        let mut labels = StreamLabels::new();
        for (name, value) in &self.labels {
            labels.set(name, value);
        }
        labels.canonical()
    }
}

/// `records` as one batch.
pub fn batch(records: &[Record]) -> RecordBatch {
    let mut builder = BatchBuilder::new();
    for record in records {
        if let Some(msg) = &record.msg {
            builder.message(msg);
        }
        for (name, value) in &record.labels {
            builder.field_str(name, value);
        }
        for (name, value) in &record.fields {
            match value {
                Value::Str(text) => builder.field_str(name, text),
                Value::Int(number) => builder.field_i64(name, *number),
                Value::Float(number) => builder.field_f64(name, *number),
                Value::Bool(flag) => builder.field_bool(name, *flag),
            }
        }
        let stream = builder.stream(&record.stream());
        builder.finish_row(record.time, stream);
    }
    builder.finish().unwrap()
}

/// A store with an engine over it.
pub struct Lab {
    pub store: Arc<Store>,
    pub engine: Arc<Engine>,
    /// The servers that answer with it.
    pub others: Vec<Server>,
    _folder: tempfile::TempDir,
}

impl Lab {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions { disk_reserve_bytes: Some(0), ..StoreOptions::default() };
        let store = Store::open(folder.path(), options).await.unwrap();
        let limits = EngineLimits { threads: 2, ..EngineLimits::default() };
        let engine = Engine::new(store.clone(), limits);
        let mut lab = Self { store, engine, others: Vec::new(), _folder: folder };
        // `LODGE_TEST_SERVERS=3` runs every test of this program against three servers.
        let servers = std::env::var("LODGE_TEST_SERVERS").ok().and_then(|n| n.parse().ok());
        if let Some(servers) = servers.filter(|servers: &usize| *servers > 1) {
            lab.spread_over(servers).await;
        }
        lab
    }

    /// That of the server that is asked, and those of the others.
    pub fn engines(&self) -> impl Iterator<Item = &Arc<Engine>> {
        std::iter::once(&self.engine).chain(self.others.iter().map(|server| &server.engine))
    }

    /// Lets others work on every query, however small, so that there are so many servers.
    pub async fn spread_over(&mut self, servers: usize) {
        self.others.clear();
        for _ in 1..servers {
            self.others.push(Server::start(&self.store).await);
        }
        self.engine.join(cluster_of(&self.others));
    }

    /// Makes `records` durable as one L0.
    pub async fn commit(&self, records: &[Record]) {
        self.commit_batch(batch(records)).await;
    }

    pub async fn commit_batch(&self, records: RecordBatch) {
        let batch = Batch::new(TenantId::default(), None, None, records).unwrap();
        self.store.commit(vec![batch]).await.unwrap();
    }

    /// Builds all L0s into segments.
    pub async fn build(&self) {
        self.store.wait_built().await;
    }

    /// Stores the first half as a built segment and the rest as L0s of a few records each; all but the
    /// first of these after every field was asked for words, so that they have filters.
    pub async fn fill(&self, records: &[Record]) {
        let (first, rest) = records.split_at(records.len() / 2);
        if !first.is_empty() {
            self.commit(first).await;
            self.build().await;
        }
        let mut chunks = rest.chunks(7);
        if let Some(chunk) = chunks.next() {
            self.commit(chunk).await;
            self.ask_words(&["_msg", "level", "app", "host", "n", "mixed", "rare", "trace"]).await;
        }
        for chunk in chunks {
            self.commit(chunk).await;
        }
    }

    /// Asks for a word that no record has in these fields.
    pub async fn ask_words(&self, fields: &[&str]) {
        let words: Vec<String> = fields.iter().map(|name| format!("{name}:xyloneedle7q")).collect();
        assert!(self.logsql(&words.join(" or ")).await.is_empty());
    }

    pub fn request(&self, query: &str) -> LogsqlRequest {
        LogsqlRequest {
            view: View::default(),
            query: query.to_owned(),
            start_ns: None,
            end_ns: None,
            limit: None,
            offset: None,
            now_ns: DAY + 3600 * S,
            budget: Budget::default(),
        }
    }

    pub fn fields_request(&self, query: &str) -> FieldsRequest {
        let LogsqlRequest { view, query, start_ns, end_ns, now_ns, budget, .. } =
            self.request(query);
        FieldsRequest { view, query, start_ns, end_ns, limit: None, now_ns, budget }
    }

    pub async fn ask(&self, request: LogsqlRequest) -> Result<Vec<String>, QueryError> {
        Ok(rows(&self.engine.logsql(request).await?.collect().await?))
    }

    /// The rows of a LogsQL query, as text, in their order.
    pub async fn logsql(&self, query: &str) -> Vec<String> {
        self.ask(self.request(query)).await.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// As `logsql`, the rows sorted by their text.
    pub async fn sorted(&self, query: &str) -> Vec<String> {
        let mut rows = self.logsql(query).await;
        rows.sort();
        rows
    }

    pub async fn try_sql(&self, query: &str) -> Result<Vec<String>, QueryError> {
        self.sql_within(query, Budget { time_max: Duration::from_secs(60), ..Budget::default() })
            .await
    }

    pub async fn sql_within(&self, query: &str, budget: Budget) -> Result<Vec<String>, QueryError> {
        let request = SqlRequest {
            view: View::default(),
            query: query.to_owned(),
            start_ns: None,
            end_ns: None,
            budget,
        };
        Ok(rows(&self.engine.sql(request).await?.collect().await?))
    }

    /// The answer of a SQL query as it comes.
    pub async fn sql_batches(&self, query: &str) -> Vec<RecordBatch> {
        let request = SqlRequest {
            view: View::default(),
            query: query.to_owned(),
            start_ns: None,
            end_ns: None,
            budget: Budget::default(),
        };
        let rows = self.engine.sql(request).await;
        rows.unwrap_or_else(|error| panic!("{query}: {error}")).collect().await.unwrap()
    }

    pub async fn sql(&self, query: &str) -> Vec<String> {
        self.try_sql(query).await.unwrap_or_else(|error| panic!("{query}: {error}"))
    }
}

/// Each row as `name=value` pairs in the order of the columns; empty values are left out.
pub fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let mut pairs = Vec::new();
            for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
                let Some(value) = schema::value_text(column, row).filter(|v| !v.is_empty()) else {
                    continue;
                };
                if field.name() == field::OVERFLOW {
                    overflow::for_each(&value, |name, value| pairs.push(format!("{name}={value}")));
                } else {
                    pairs.push(format!("{}={value}", field.name()));
                }
            }
            rows.push(pairs.join(" "));
        }
    }
    rows
}
