//! What a bulk client is told: of each item what became of it, or that the request was refused.
//!
//! Invariants: `errors` comes before `items`, no space follows a colon, each item has one key; an
//! item costs a few bytes until it is written.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::action::Action;
use crate::json_object::JsonError;
use crate::json_rows::push_json_string;

/// Most items of one request.
pub const ITEMS_MAX: usize = 1 << 20;
/// Most bytes of the names of indexes and of identifiers that are kept for the reply.
const TEXTS_MAX: usize = 128 << 20;

/// Why a document was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It could not be read.
    Document(JsonError),
    /// It is an update or a delete.
    Unsupported,
}

/// How much of each item a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Everything.
    Full,
    /// Status and error alone, for clients that ask with
    /// `filter_path=errors,items.*.error,items.*.status`.
    Status,
}

/// What became of the items of a request, in order.
#[derive(Debug, Default)]
pub struct Outcomes {
    items: Vec<Item>,
    failures: Vec<Failure>,
    /// The texts of indexes, each once in a row, and of identifiers.
    texts: String,
    /// What identifiers are made of, for items that came without one.
    seed: i64,
}

#[derive(Debug)]
struct Item {
    action: Action,
    /// Index and identifier in `texts`; an empty identifier is made up.
    index: (u32, u32),
    id: (u32, u32),
    failure: Option<u32>,
}

impl Outcomes {
    pub(super) fn new(seed: i64) -> Self {
        Outcomes { seed, ..Outcomes::default() }
    }

    /// Items, whatever became of them.
    pub fn items(&self) -> usize {
        self.items.len()
    }

    /// Items that were not stored.
    pub fn failed(&self) -> usize {
        self.failures.len()
    }

    /// The failures with the numbers of their items, from 0.
    pub fn failures(&self) -> impl Iterator<Item = (usize, &Failure)> {
        let failed = self.items.iter().enumerate();
        failed.filter_map(|(at, item)| Some((at, self.failure(item.failure?)?)))
    }

    fn failure(&self, place: u32) -> Option<&Failure> {
        self.failures.get(usize::try_from(place).ok()?)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.items.len() * size_of::<Item>()
            + self.failures.len() * size_of::<Failure>()
            + self.texts.len()
    }

    /// Adds an item. Fails if there are too many, or too much text.
    pub(super) fn push(
        &mut self,
        action: Action,
        index: &str,
        id: &str,
        failure: Option<Failure>,
    ) -> Result<(), RequestError> {
        if self.items.len() >= ITEMS_MAX || self.texts.len() + index.len() + id.len() > TEXTS_MAX {
            return Err(RequestError::TooMany { items_max: ITEMS_MAX });
        }
        let last = self.items.last().map(|item| item.index);
        let index = match last.filter(|last| self.text(*last) == index) {
            Some(last) => last,
            None => self.keep(index),
        };
        let id = self.keep(id);
        let failure = failure.map(|failure| {
            self.failures.push(failure);
            self.failures.len() as u32 - 1
        });
        self.items.push(Item { action, index, id, failure });
        Ok(())
    }

    fn keep(&mut self, text: &str) -> (u32, u32) {
        let from = self.texts.len() as u32;
        self.texts.push_str(text);
        (from, self.texts.len() as u32)
    }

    fn text(&self, (from, to): (u32, u32)) -> &str {
        self.texts.get(from as usize..to as usize).unwrap_or_default()
    }

    /// Appends the reply's body, to be sent with status 200.
    pub fn write_reply(&self, took_ms: u64, detail: Detail, out: &mut Vec<u8>) {
        out.reserve(self.items.len().saturating_mul(80).min(1 << 20));
        out.push(b'{');
        if detail == Detail::Full {
            out.extend_from_slice(format!("\"took\":{took_ms},").as_bytes());
        }
        let errors: &[u8] = if self.failures.is_empty() { b"false" } else { b"true" };
        out.extend_from_slice(b"\"errors\":");
        out.extend_from_slice(errors);
        out.extend_from_slice(b",\"items\":[");
        for (number, item) in self.items.iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            self.write_item(number, item, detail, out);
        }
        out.extend_from_slice(b"]}");
    }

    fn write_item(&self, number: usize, item: &Item, detail: Detail, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"");
        out.extend_from_slice(item.action.name().as_bytes());
        out.extend_from_slice(b"\":{");
        let failure = item.failure.and_then(|place| self.failure(place));
        if detail == Detail::Full {
            out.extend_from_slice(b"\"_index\":");
            push_json_string(out, self.text(item.index));
            out.extend_from_slice(b",\"_id\":");
            match self.text(item.id) {
                "" if failure.is_some() => out.extend_from_slice(b"null"),
                "" => push_json_string(out, &self.made_up_id(number)),
                id => push_json_string(out, id),
            }
            if failure.is_none() {
                out.extend_from_slice(b",\"_version\":1,\"result\":\"created\"");
            }
            out.push(b',');
        }
        match failure {
            None => out.extend_from_slice(b"\"status\":201"),
            Some(failure) => {
                let (kind, reason) = match failure {
                    Failure::Document(error) => {
                        ("document_parsing_exception", format!("failed to parse: {error}"))
                    }
                    Failure::Unsupported => (
                        "illegal_argument_exception",
                        format!(
                            "logs are only added here, [{}] is not: send [create] or [index]",
                            item.action.name()
                        ),
                    ),
                };
                out.extend_from_slice(b"\"status\":400,\"error\":");
                write_cause(kind, &reason, out);
            }
        }
        out.extend_from_slice(b"}}");
    }

    /// 20 characters, like those that Elasticsearch gives to documents that come without.
    fn made_up_id(&self, number: usize) -> String {
        let mut bytes = [0u8; 15];
        let parts = self.seed.to_be_bytes().into_iter().chain((number as u64).to_be_bytes());
        // The highest byte of the number is always zero.
        let parts = parts.enumerate().filter(|(at, _)| *at != 8).map(|(_, byte)| byte);
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// Why a request as a whole was refused. Nothing of it may be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A line that should say what to do does not.
    #[error("Malformed action/metadata line [{line}], {trouble}")]
    Action {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        trouble: String,
    },
    /// Neither an action nor the request's path names an index.
    #[error("Validation Failed: 1: index is missing in line [{line}];")]
    NoIndex {
        /// The action's line, from 1.
        line: u64,
    },
    /// The name of an index is longer than Elasticsearch takes.
    #[error("Invalid index name in line [{line}], must be at most 255 bytes but has {bytes}")]
    IndexName {
        /// The action's line, from 1.
        line: u64,
        /// Its length.
        bytes: usize,
    },
    /// The last action has no document.
    #[error(
        "The bulk request ends after the action in line [{line}]: its document is missing, the \
         body was cut or lacks its last line end [\\n]"
    )]
    NoDocument {
        /// The action's line, from 1.
        line: u64,
    },
    /// There is not one action.
    #[error("request body is required")]
    Empty,
    /// More items than one request may have.
    #[error("more than {items_max} items, or 128 MiB of identifiers: send smaller bulk requests")]
    TooMany {
        /// The limit.
        items_max: usize,
    },
}

impl RequestError {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            RequestError::TooMany { .. } => 413,
            _ => 400,
        }
    }

    /// The exception's name as clients know it.
    pub fn kind(&self) -> &'static str {
        match self {
            RequestError::Action { .. } | RequestError::NoDocument { .. } => {
                "illegal_argument_exception"
            }
            RequestError::NoIndex { .. } => "action_request_validation_exception",
            RequestError::IndexName { .. } => "invalid_index_name_exception",
            RequestError::Empty => "parse_exception",
            RequestError::TooMany { .. } => "content_too_long_exception",
        }
    }

    /// Appends the reply's body.
    pub fn write_reply(&self, out: &mut Vec<u8>) {
        write_error(self.status(), self.kind(), &self.to_string(), out);
    }
}

/// Appends the body of an error of any request: `{"error":{"root_cause":[…],…},"status":400}`.
pub fn write_error(status: u16, kind: &str, reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"error\":{\"root_cause\":[");
    write_cause(kind, reason, out);
    out.extend_from_slice(b"],\"type\":");
    push_json_string(out, kind);
    out.extend_from_slice(b",\"reason\":");
    push_json_string(out, reason);
    out.extend_from_slice(format!("}},\"status\":{status}}}").as_bytes());
}

fn write_cause(kind: &str, reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":");
    push_json_string(out, kind);
    out.extend_from_slice(b",\"reason\":");
    push_json_string(out, reason);
    out.push(b'}');
}
