//! Fields with a purpose: which of a record's fields are its message, its time and its level.
//!
//! What is kept of a record is kept in memory that the next record uses again.

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

/// What a field is for by its name: that does not change from record to record.
#[derive(Clone, Copy, Debug)]
pub struct Meaning {
    /// Its purpose, and the rank of its name among those that have the same.
    purpose: Option<(Purpose, usize)>,
    /// It is named like a label of the stream.
    is_label: bool,
}

#[derive(Clone, Copy, Debug)]
enum Purpose {
    Message,
    Time,
    Level,
}

impl Meaning {
    /// What a field of this name is for, in a stream with these labels.
    pub fn of(name: &str, labels: &StreamLabels) -> Self {
        let rank = |names: &[&str]| names.iter().position(|known| *known == name);
        let purpose = rank(MESSAGE_NAMES)
            .map(|rank| (Purpose::Message, rank))
            .or_else(|| rank(TIME_NAMES).map(|rank| (Purpose::Time, rank)))
            .or_else(|| rank(LEVEL_NAMES).map(|rank| (Purpose::Level, rank)));
        Meaning { purpose, is_label: labels.get(name).is_some() }
    }
}

/// Values of a record that are looked at before they become fields, or instead.
#[derive(Debug, Default)]
pub struct Slots {
    message: Kept,
    time: Kept,
    level: Kept,
    like_labels: Kept,
}

/// Values that were kept, and room of records before.
#[derive(Debug, Default)]
struct Kept {
    values: Vec<Owned>,
    count: usize,
}

/// What a value was sent as.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Kind {
    /// A text.
    #[default]
    Text,
    /// A number.
    Number,
    /// Something else.
    Other,
}

/// A value kept for later.
#[derive(Debug, Default)]
pub struct Owned {
    /// The name of its field.
    pub name: String,
    /// Its text.
    pub text: String,
    /// What it was sent as.
    pub kind: Kind,
    rank: usize,
}

impl Owned {
    fn set(&mut self, name: &str, rank: usize, value: JsonValue<'_>) {
        self.name.clear();
        self.name.push_str(name);
        self.text.clear();
        self.text.push_str(value.as_text());
        self.rank = rank;
        self.kind = match value {
            JsonValue::Text(_) => Kind::Text,
            JsonValue::Number(_) => Kind::Number,
            _ => Kind::Other,
        };
    }

    /// The value as it was sent.
    pub fn value(&self) -> JsonValue<'_> {
        match self.kind {
            Kind::Number => JsonValue::Number(&self.text),
            Kind::Text | Kind::Other => JsonValue::Text(&self.text),
        }
    }
}

impl Kept {
    fn keep(&mut self, name: &str, rank: usize, value: JsonValue<'_>) {
        if self.count == self.values.len() {
            self.values.push(Owned::default());
        }
        if let Some(place) = self.values.get_mut(self.count) {
            place.set(name, rank, value);
            self.count += 1;
        }
    }

    fn all(&self) -> &[Owned] {
        self.values.get(..self.count).unwrap_or_default()
    }

    /// The best candidate; the others become fields.
    fn settle(&self, builder: &mut BatchBuilder) -> Option<&Owned> {
        let all = self.all();
        let best = all.iter().enumerate().min_by_key(|(_, value)| value.rank)?.0;
        for (at, other) in all.iter().enumerate() {
            if at != best {
                set_field(builder, &other.name, &other.value());
            }
        }
        all.get(best)
    }
}

impl Slots {
    /// Forgets the record before.
    pub fn clear(&mut self) {
        for kept in [&mut self.message, &mut self.time, &mut self.level, &mut self.like_labels] {
            kept.count = 0;
        }
    }

    /// Fields named like labels: they need not be repeated.
    pub fn like_labels(&self) -> &[Owned] {
        self.like_labels.all()
    }

    /// Keeps a field for later if it has a purpose; false if it is a field like any other.
    #[inline]
    pub fn take(&mut self, name: &str, meaning: Meaning, value: JsonValue<'_>) -> bool {
        if let Some((purpose, rank)) = meaning.purpose
            && matches!(value, JsonValue::Text(_) | JsonValue::Number(_))
        {
            let kept = match purpose {
                Purpose::Message => &mut self.message,
                Purpose::Time => &mut self.time,
                Purpose::Level => &mut self.level,
            };
            kept.keep(name, rank, value);
            return true;
        }
        if meaning.is_label {
            self.like_labels.keep(name, 0, value);
        }
        meaning.is_label
    }

    /// Sets message and level; gives the time. `whole` is the message of a record that has none.
    /// A time without zone only counts where `zoned_only` is false; else it stays a field.
    pub fn settle(
        &self,
        builder: &mut BatchBuilder,
        whole: Option<&str>,
        context: &TimeContext,
        zoned_only: bool,
    ) -> Option<i64> {
        match (self.message.settle(builder), whole) {
            // Docker's json-file keeps the line end within `log`.
            (Some(found), _) => builder.message(found.text.trim_end_matches(['\n', '\r'])),
            (None, Some(whole)) => builder.message(whole),
            (None, None) => {}
        }
        if let Some(level) = self.level.settle(builder) {
            set_field(builder, &level.name, &level.value());
            if let Some(canonical) = level::canonical(&level.text).filter(|_| level.name != "level")
            {
                builder.field_str("level", canonical);
            }
        }
        let stated = self.time.settle(builder)?;
        let time_ns = time_of(&stated.text, context, zoned_only);
        if time_ns.is_none() {
            set_field(builder, &stated.name, &stated.value());
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
