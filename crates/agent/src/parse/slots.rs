//! Fields with a purpose: which of a record's fields are its message, its time and its level.

use lodge_record::builder::BatchBuilder;
use lodge_record::stream::StreamLabels;
use lodge_record::time;
use lodge_wire::json_object::JsonValue;
use lodge_wire::jsonline::set_field;

use crate::level;
use crate::timestamp::{self, TimeContext};

/// Names of the message, the time and the level, best first.
const MESSAGE_NAMES: &[&str] = &["_msg", "msg", "message", "log"];
const TIME_NAMES: &[&str] =
    &["_time", "@timestamp", "timestamp", "time", "ts", "datetime", "eventTime", "t"];
const LEVEL_NAMES: &[&str] = &["level", "severity", "lvl", "log.level", "loglevel", "levelname"];

/// Values of a record that are looked at before they become fields, or instead.
#[derive(Debug, Default)]
pub struct Slots {
    message: Best,
    time: Best,
    level: Best,
    /// Fields named like labels: they need not be repeated.
    pub like_labels: Vec<(String, Owned)>,
}

/// The candidates for one purpose.
#[derive(Debug, Default)]
struct Best {
    /// Rank among the names, name and value.
    found: Vec<(usize, &'static str, Owned)>,
}

/// What a value was sent as.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A text.
    Text,
    /// A number.
    Number,
    /// Something else.
    Other,
}

/// A value kept for later.
#[derive(Debug)]
pub struct Owned {
    /// Its text.
    pub text: String,
    /// What it was sent as.
    pub kind: Kind,
}

impl Owned {
    fn new(value: JsonValue<'_>) -> Self {
        let kind = match value {
            JsonValue::Text(_) => Kind::Text,
            JsonValue::Number(_) => Kind::Number,
            _ => Kind::Other,
        };
        Owned { text: value.as_text().to_owned(), kind }
    }

    /// The value as it was sent.
    pub fn value(&self) -> JsonValue<'_> {
        match self.kind {
            Kind::Number => JsonValue::Number(&self.text),
            Kind::Text | Kind::Other => JsonValue::Text(&self.text),
        }
    }
}

impl Best {
    fn take(&mut self, names: &[&'static str], name: &str, value: JsonValue<'_>) -> bool {
        let Some(rank) = names.iter().position(|known| *known == name) else { return false };
        let Some(known) = names.get(rank) else { return false };
        self.found.push((rank, known, Owned::new(value)));
        true
    }

    /// The best candidate; the others become fields.
    fn settle(&mut self, builder: &mut BatchBuilder) -> Option<(&'static str, Owned)> {
        let best = self.found.iter().enumerate().min_by_key(|(_, (rank, ..))| *rank)?.0;
        let (_, name, value) = self.found.swap_remove(best);
        for (_, name, value) in self.found.drain(..) {
            set_field(builder, name, &value.value());
        }
        Some((name, value))
    }
}

impl Slots {
    /// Forgets the record before.
    pub fn clear(&mut self) {
        self.message.found.clear();
        self.time.found.clear();
        self.level.found.clear();
        self.like_labels.clear();
    }

    /// Keeps a field for later if it has a purpose; false if it is a field like any other.
    pub fn take(&mut self, name: &str, value: JsonValue<'_>, labels: &StreamLabels) -> bool {
        let simple = matches!(value, JsonValue::Text(_) | JsonValue::Number(_));
        if simple
            && (self.message.take(MESSAGE_NAMES, name, value)
                || self.time.take(TIME_NAMES, name, value)
                || self.level.take(LEVEL_NAMES, name, value))
        {
            return true;
        }
        if labels.get(name).is_some() {
            self.like_labels.push((name.to_owned(), Owned::new(value)));
            return true;
        }
        false
    }

    /// Sets message and level; gives the time. `whole` is the message of a record that has none.
    /// A time without zone only counts where `zoned_only` is false; else it stays a field.
    pub fn settle(
        &mut self,
        builder: &mut BatchBuilder,
        whole: Option<&str>,
        context: &TimeContext,
        zoned_only: bool,
    ) -> Option<i64> {
        match (self.message.settle(builder), whole) {
            // Docker's json-file keeps the line end within `log`.
            (Some((_, text)), _) => builder.message(text.text.trim_end_matches(['\n', '\r'])),
            (None, Some(whole)) => builder.message(whole),
            (None, None) => {}
        }
        if let Some((name, level)) = self.level.settle(builder) {
            set_field(builder, name, &level.value());
            if let Some(canonical) = level::canonical(&level.text).filter(|_| name != "level") {
                builder.field_str("level", canonical);
            }
        }
        let (name, stated) = self.time.settle(builder)?;
        let time_ns = time_of(&stated.text, context, zoned_only);
        if time_ns.is_none() {
            set_field(builder, name, &stated.value());
        }
        time_ns
    }
}

/// The time that a value states: a format of plain lines, RFC 3339, or a number since 1970.
fn time_of(value: &str, context: &TimeContext, zoned_only: bool) -> Option<i64> {
    match timestamp::parse(value, context) {
        Some(found) if zoned_only && !found.zoned => None,
        Some(found) => Some(found.time_ns),
        None => time::parse(value),
    }
}
