//! The body of Elasticsearch's `_bulk`: lines in pairs, an action and its document.
//!
//! ```text
//! {"create":{"_index":"logs-app","_id":"1"}}      create, index: stored; update, delete: an error
//! {"@timestamp":"2026-03-01T12:00:00Z","message":"hello","log":{"level":"INFO"}}
//! ```
//!
//! | sent | kept |
//! |---|---|
//! | `_index` of the action, else of the path | field and stream label `_index` |
//! | `_id` of the action | field `_id` |
//! | `@timestamp`, else `_time`, `timestamp`, `time`, `ts` | the record's time; received where missing |
//! | `message`, else `_msg`, `msg`, `log` | `_msg` |
//! | `log.level`, else `level`, `severity`, … | `level`, its original in `severity_text` |
//! | `trace.id`, `span.id` and their spellings | `trace_id`, `span_id` |
//! | `kubernetes.pod.name`, `kubernetes.pod_name`, … | `k8s.pod.name`, … |
//! | `service.name`, `host.name`, `k8s.{namespace,pod,container}.name` | fields and stream labels |
//! | everything else | its dotted name |
//!
//! Invariants: every item has exactly one outcome, in order, and every stored one exactly one
//! record. A document longer than a line may be is kept as text; only what is no JSON object fails,
//! alone. A bad action line fails the request, since what follows it cannot be told apart.

mod action;
mod reply;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use lodge_record::builder::BatchBuilder;
use lodge_record::limits;

pub use self::action::Action;
pub use self::reply::{Detail, Failure, ITEMS_MAX, Outcomes, RequestError, write_error};
use crate::conventions;
use crate::documents::{Document, Documents};
use crate::json_fields::Dialect;
use crate::json_object::JsonError;
use crate::jsonline;
use crate::level;

/// Longest action line.
pub const ACTION_BYTES_MAX: usize = 16 << 10;
/// Longest name of an index, as in Elasticsearch.
pub const INDEX_BYTES_MAX: usize = 255;
/// Label and field of the index.
const INDEX: &str = "_index";

pub(crate) const DIALECT: Dialect = Dialect {
    naming: conventions::conventional,
    levels: &["log.level", "level", "severity", "severity_text", "loglevel", "levelname", "lvl"],
    level_of: level::of_word_or_tens,
    original_level: "severity_text",
    asked: "",
};

/// What the fields of documents mean unless the request says otherwise.
pub fn default_options() -> jsonline::Options {
    let names = |all: &[&str]| all.iter().map(|n| n.to_string()).collect();
    jsonline::Options {
        time_fields: names(&["@timestamp", "_time", "timestamp", "time", "ts"]),
        msg_fields: names(&["message", "_msg", "msg", "log"]),
        stream_fields: names(&[
            "service.name",
            "host.name",
            "k8s.namespace.name",
            "k8s.pod.name",
            "k8s.container.name",
        ]),
        ..jsonline::Options::default()
    }
}

/// Decodes a body part by part.
pub struct Decoder {
    documents: Documents,
    default_index: Option<String>,
    outcomes: Outcomes,
    /// The front of a line whose end has not come yet: at most one byte more than a line may have.
    carry: Vec<u8>,
    /// Bytes of that line that are not in `carry`.
    carry_dropped: usize,
    lines: u64,
    /// The action whose document comes next.
    open: Option<Open>,
    /// The last action line and what it said: most clients send the same again and again.
    last_action: (Vec<u8>, Option<action::Line>),
}

struct Open {
    line: u64,
    action: Action,
    index: String,
    id: String,
}

impl Open {
    /// Sets what the action says of its document.
    fn set_fields(&self, builder: &mut BatchBuilder) {
        builder.field_str(INDEX, &self.index);
        if !self.id.is_empty() {
            builder.field_str("_id", &self.id);
        }
    }
}

/// A line that is known as a whole or by its head.
#[derive(Clone, Copy)]
struct Text<'b> {
    bytes: &'b [u8],
    original_bytes: usize,
}

impl Decoder {
    /// A decoder of one request. `default_index` is that of the request's path; `received_ns` is
    /// the time of records that have none.
    pub fn new(options: &jsonline::Options, default_index: Option<&str>, received_ns: i64) -> Self {
        Decoder {
            documents: Documents::new(options, DIALECT, received_ns),
            default_index: default_index.filter(|index| !index.is_empty()).map(str::to_owned),
            outcomes: Outcomes::new(received_ns),
            carry: Vec::new(),
            carry_dropped: 0,
            lines: 0,
            open: None,
            last_action: (Vec::new(), None),
        }
    }

    /// Records since the last [`Self::finish`].
    pub fn rows(&self) -> usize {
        self.documents.rows()
    }

    /// Bytes of those records, roughly.
    pub fn bytes(&self) -> usize {
        self.documents.bytes()
    }

    /// Decodes every line that ends in `part`, which goes on where the part before it ended. The
    /// last line is closed by [`Self::end`].
    pub fn part(&mut self, part: &[u8]) -> Result<(), RequestError> {
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', part) {
            let bytes = part.get(from..end).unwrap_or_default();
            from = end + 1;
            if self.carry.is_empty() {
                self.line(Text { bytes, original_bytes: bytes.len() })?;
            } else {
                self.carry_on(bytes);
                self.carried_line()?;
            }
        }
        self.carry_on(part.get(from..).unwrap_or_default());
        Ok(())
    }

    fn carry_on(&mut self, bytes: &[u8]) {
        let room = (limits::LINE_BYTES_MAX + 1).saturating_sub(self.carry.len());
        let (kept, dropped) = bytes.split_at(room.min(bytes.len()));
        self.carry.extend_from_slice(kept);
        self.carry_dropped += dropped.len();
    }

    fn carried_line(&mut self) -> Result<(), RequestError> {
        let mut carry = std::mem::take(&mut self.carry);
        let original_bytes = carry.len() + std::mem::take(&mut self.carry_dropped);
        let done = self.line(Text { bytes: &carry, original_bytes });
        carry.clear();
        self.carry = carry;
        done
    }

    /// Ends the body: a last line without its end counts, an action without its document does not.
    pub fn end(&mut self) -> Result<(), RequestError> {
        if !self.carry.is_empty() {
            self.carried_line()?;
        }
        match self.open.take() {
            Some(open) => Err(RequestError::NoDocument { line: open.line }),
            None if self.outcomes.items() == 0 => Err(RequestError::Empty),
            None => Ok(()),
        }
    }

    fn line(&mut self, line: Text<'_>) -> Result<(), RequestError> {
        self.lines += 1;
        match self.open.take() {
            Some(open) => self.document(open, line),
            None if line.bytes.trim_ascii().is_empty() => Ok(()),
            None => self.action(line),
        }
    }

    fn action(&mut self, line: Text<'_>) -> Result<(), RequestError> {
        if line.original_bytes > ACTION_BYTES_MAX {
            let trouble = format!("expected at most {ACTION_BYTES_MAX} bytes: is it a document?");
            return Err(RequestError::Action { line: self.lines, trouble });
        }
        if self.last_action.0 != line.bytes || self.last_action.1.is_none() {
            let text = String::from_utf8_lossy(line.bytes);
            let read = action::read(&text)
                .map_err(|trouble| RequestError::Action { line: self.lines, trouble })?;
            self.last_action.0.clear();
            self.last_action.0.extend_from_slice(line.bytes);
            self.last_action.1 = Some(read);
        }
        let Some(read) = &self.last_action.1 else { return Ok(()) };
        let named = read.index.as_ref().filter(|index| !index.is_empty());
        let index = named
            .or(self.default_index.as_ref())
            .ok_or(RequestError::NoIndex { line: self.lines })?;
        if index.len() > INDEX_BYTES_MAX {
            return Err(RequestError::IndexName { line: self.lines, bytes: index.len() });
        }
        let index = index.clone();
        let id = read.id.clone().unwrap_or_default();
        let open = Open { line: self.lines, action: read.action, index, id };
        if read.action.has_document() {
            self.open = Some(open);
            return Ok(());
        }
        self.outcome(&open, Some(Failure::Unsupported))
    }

    fn outcome(&mut self, open: &Open, failure: Option<Failure>) -> Result<(), RequestError> {
        self.outcomes.push(open.action, &open.index, &open.id, failure)
    }

    fn document(&mut self, open: Open, line: Text<'_>) -> Result<(), RequestError> {
        if !open.action.stores() {
            return self.outcome(&open, Some(Failure::Unsupported));
        }
        let failure = self.store(&open, line).err().map(Failure::Document);
        self.outcome(&open, failure)
    }

    fn store(&mut self, open: &Open, line: Text<'_>) -> Result<(), JsonError> {
        let documents = &mut self.documents;
        if line.original_bytes > limits::LINE_BYTES_MAX {
            let reason = format!(
                "document of {} bytes is longer than {}: its head is kept",
                line.original_bytes,
                limits::LINE_BYTES_MAX
            );
            documents.keep_as_text(line.bytes, line.original_bytes, &reason);
            open.set_fields(&mut documents.builder);
            let time_ns = documents.received_ns();
            close(documents, open, "", time_ns, None);
            return Ok(());
        }
        // Before the document's own fields, which may have the same names.
        open.set_fields(&mut documents.builder);
        let document = Document::new(line.bytes.trim_ascii());
        documents.walk(&document.text)?;
        let time_ns = documents.settle(&document.text);
        close(documents, open, &document.text, time_ns, document.raw);
        Ok(())
    }

    /// The records since the last call; `None` if there are none. Outcomes go on.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        self.documents.finish()
    }

    /// What became of the items so far.
    pub fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// What became of the items.
    pub fn into_outcomes(self) -> Outcomes {
        self.outcomes
    }
}

/// Ends the record of an item.
fn close(documents: &mut Documents, open: &Open, text: &str, time_ns: i64, raw: Option<&[u8]>) {
    let index = open.index.as_str();
    let stream = documents.stream(text, index.as_bytes(), |labels| labels.set(INDEX, index));
    documents.close(time_ns, stream, raw);
}

#[cfg(test)]
mod tests;
