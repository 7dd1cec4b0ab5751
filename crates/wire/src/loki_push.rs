//! What Loki's clients push: streams with labels, and their entries; protobuf or JSON.
//!
//! ```text
//! PushRequest { streams = 1 { labels = 1, entries = 2 { timestamp = 1 { seconds = 1, nanos = 2 },
//!               line = 2, structuredMetadata = 3 { name = 1, value = 2 } } } }
//! ```
//!
//! The snappy block around a protobuf body is taken off before, by [`crate::snappy`].
//!
//! | sent | kept |
//! |---|---|
//! | labels | stream labels, and fields, both as sent: dashboards ask for these very names |
//! | timestamp | the record's time; received where missing; unreadable ones as field `timestamp` |
//! | line | `_msg` |
//! | structured metadata | fields; `traceID`, `spanID` as `trace_id`, `span_id` |
//! | `level`, `severity`, … of the metadata, else of the labels | `level`; its original under its own name, of `level` itself as `severity_text` |
//!
//! Invariants: every entry is one record or one that is listed as rejected; a stream whose labels
//! cannot be read keeps its entries, with the reason and the labels' text; a body that is damaged
//! as a whole gives nothing.

mod json;
mod labels;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use lodge_record::builder::{BatchBuilder, Held, KnownText, Place, StreamCode, Value};
use lodge_record::stream::{StreamLabels, write_canonical};
use lodge_record::{field, limits};

use crate::batches::{Batches, ExpandsError, ITEM_ERRORS_MAX};
use crate::conventions::{Kept, conventional, hex_id};
use crate::level;
use crate::protobuf::{ProtobufError, Reader, short_pair};
use crate::text_value;

/// Longest text of a stream's labels.
pub const LABELS_BYTES_MAX: usize = 64 << 10;

/// Names of labels and metadata that state a level, the best first.
const LEVELS: [&str; 7] =
    ["level", "severity", "severity_text", "detected_level", "lvl", "loglevel", "levelname"];

/// After so many entries it is reckoned how many a body has.
const EXPECT_ROWS: usize = 256;
/// Most names of metadata of which is kept what is done with them.
const NAMES_MAX: usize = 64;

/// What came out of a body.
#[derive(Debug)]
pub struct Decoded {
    /// The records, in order.
    pub records: Vec<RecordBatch>,
    /// Entries seen, rejected ones too.
    pub entries: u64,
    /// Entries that are not stored, counted.
    pub rejected_total: u64,
    /// The first of them, and the first streams whose labels could not be read.
    pub troubles: Vec<Trouble>,
}

/// Something that is wrong with a part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Number of the stream, from 0.
    pub stream: u64,
    /// Number of the entry in the body, from 0.
    pub entry: u64,
    /// What is wrong.
    pub reason: String,
}

/// Why a body was refused. Nothing of it may be stored; sent again it would be refused again.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// It is no protobuf message of a push.
    #[error("the body is no push request: {0}")]
    Protobuf(#[from] ProtobufError),
    /// It is no JSON of a push.
    #[error("the body is no push request in JSON: {reason}")]
    Json {
        /// What is wrong.
        reason: String,
    },
    /// Its records would take too much.
    #[error(transparent)]
    Expands(#[from] ExpandsError),
    /// Its records could not be made into columns: a bug.
    #[error(transparent)]
    Columns(#[from] ArrowError),
}

/// Decodes a protobuf body without its snappy block. `received_ns` is the time of entries that have
/// none.
pub fn decode_protobuf(body: &[u8], received_ns: i64) -> Result<Decoded, PushError> {
    let mut decoder = Decoder::new(body.len(), received_ns);
    let mut request = Reader::new(body);
    while let Some(field) = request.next_field()? {
        if field.number == 1
            && let Some(stream) = field.message()
        {
            decoder.stream(stream)?;
        }
    }
    decoder.finish()
}

/// Decodes a JSON body. `received_ns` is the time of entries that have none.
pub fn decode_json(body: &[u8], received_ns: i64) -> Result<Decoded, PushError> {
    let mut decoder = Decoder::new(body.len(), received_ns);
    json::decode(&mut decoder, body)?;
    decoder.finish()
}

struct Decoder {
    builder: BatchBuilder,
    batches: Batches,
    received_ns: i64,
    body_bytes: usize,
    stream: Stream,
    /// Rank among [`LEVELS`], level and text of the best level of the entry's metadata.
    level: Option<(usize, &'static str)>,
    /// What the entry's metadata calls `level`, if it does.
    level_text: String,
    has_level_text: bool,
    last_word: Word,
    levels: Levels,
    /// Names of metadata: most entries have the same, and in the same order.
    names: Vec<Named>,
    /// Which of them comes next, likely.
    next_name: usize,
    streams: u64,
    entries: u64,
    rejected_total: u64,
    troubles: Vec<Trouble>,
}

/// The stream in hand.
#[derive(Default)]
struct Stream {
    labels: Vec<(String, String)>,
    canonical: String,
    /// Whether the canonical text says all of the labels, so that they are the stream's.
    is_plain: bool,
    /// What is set in every entry, once the batch knows it.
    known: Option<Known>,
    level: Option<&'static str>,
    /// Why the labels could not be read, and their text.
    trouble: Option<(String, String)>,
}

/// A name of metadata, and what is done with its values.
struct Named {
    sent: String,
    /// Its rank among [`LEVELS`].
    rank: Option<usize>,
    kept: NamedAs,
}

/// What values of metadata are kept as.
enum NamedAs {
    /// Under this name, as they are.
    Field(String),
    /// As identifiers: see [`Kept::Id`].
    Id(&'static str, Option<usize>),
    Nothing,
}

impl Named {
    fn new(sent: &str) -> Self {
        let rank = LEVELS.iter().position(|known| *known == sent);
        let kept = match conventional(field_name(sent)) {
            Kept::As(kept) => NamedAs::Field(kept.into_owned()),
            Kept::Id(kept, digits) => NamedAs::Id(kept, digits),
            Kept::Not => NamedAs::Nothing,
        };
        Named { sent: sent.to_owned(), rank, kept }
    }
}

struct Known {
    code: StreamCode,
    places: Vec<Option<Place>>,
    /// What is held of the labels that the text says all of.
    held: Option<Held>,
}

/// The word that stated a level last: it often is the same again.
#[derive(Default)]
struct Word {
    text: String,
    level: Option<&'static str>,
}

impl Word {
    /// As [`level::of_word`].
    fn level(&mut self, text: &str) -> Option<&'static str> {
        if self.text != text || text.is_empty() {
            self.text.clear();
            self.text.push_str(text);
            self.level = level::of_word(text);
        }
        self.level
    }
}

/// The levels that were set, and what the batch calls them.
#[derive(Default)]
struct Levels(Vec<(&'static str, Option<KnownText>)>);

impl Levels {
    /// Sets the level of the record in hand. There are no more of them than level has names.
    fn set(&mut self, builder: &mut BatchBuilder, level: &'static str) {
        let place = self.0.iter().position(|(known, _)| *known == level).unwrap_or_else(|| {
            self.0.push((level, None));
            self.0.len() - 1
        });
        if let Some((_, known)) = self.0.get_mut(place) {
            builder.set_known("level", level, known);
        }
    }
}

impl Decoder {
    fn new(body_bytes: usize, received_ns: i64) -> Self {
        Decoder {
            builder: BatchBuilder::new(),
            batches: Batches::new(body_bytes),
            received_ns,
            body_bytes,
            stream: Stream::default(),
            level: None,
            level_text: String::new(),
            has_level_text: false,
            last_word: Word::default(),
            levels: Levels::default(),
            names: Vec::new(),
            next_name: 0,
            streams: 0,
            entries: 0,
            rejected_total: 0,
            troubles: Vec::new(),
        }
    }

    fn stream(&mut self, message: Reader<'_>) -> Result<(), PushError> {
        // The labels may come after the entries.
        let (mut text, mut fields) = (&[][..], message.clone());
        while let Some(field) = fields.next_field()? {
            if field.number == 1 {
                text = field.bytes().unwrap_or_default();
            }
        }
        let text = text_value::lossy(text);
        match labels::parse(&text) {
            Ok(pairs) => self.begin_stream(pairs, None),
            Err(reason) => self.begin_stream(Vec::new(), Some((reason, text.into_owned()))),
        }
        let mut fields = message;
        while let Some(field) = fields.next_field()? {
            if field.number == 2
                && let Some(entry) = field.message()
            {
                self.entry(entry)?;
                self.expect_more(fields.offset());
            }
        }
        Ok(())
    }

    fn entry(&mut self, mut message: Reader<'_>) -> Result<(), PushError> {
        self.begin_entry()?;
        let (mut line, mut time) = (&[][..], None);
        while let Some(field) = message.next_field()? {
            match field.number {
                1 => time = field.message().map(timestamp).transpose()?,
                2 => line = field.bytes().unwrap_or_default(),
                3 => {
                    if let Some((name, value)) = field.bytes().and_then(short_pair) {
                        self.metadata(name, value);
                        continue;
                    }
                    let Some(metadata) = field.message() else { continue };
                    let (name, value) = pair(metadata)?;
                    self.metadata(name, value);
                }
                _ => {}
            }
        }
        text_value::set_message(&mut self.builder, line, line.len());
        let time_ns = time.and_then(|(seconds, nanos)| {
            let ns = seconds.checked_mul(1_000_000_000).and_then(|ns| ns.checked_add(nanos));
            if ns.is_none() {
                // Beyond what a time can be: the record keeps what was sent.
                self.builder.field_str("timestamp", &format!("{seconds}.{nanos:09}"));
            }
            ns
        });
        self.end_entry(time_ns);
        Ok(())
    }

    fn begin_stream(&mut self, labels: Vec<(String, String)>, trouble: Option<(String, String)>) {
        // Each name once, none empty or beyond the limit, and no character that the text has not.
        let plain = plain_stream(&labels);
        let is_plain = plain.is_some();
        let canonical = plain.unwrap_or_else(|| {
            let mut set = StreamLabels::new();
            for (name, value) in labels.iter().take(limits::STREAM_LABELS_MAX) {
                set.set(name, value);
            }
            set.canonical()
        });
        let level = LEVELS.iter().find_map(|known| {
            let (_, value) = labels.iter().find(|(name, _)| name == known)?;
            level::of_word(value)
        });
        if let Some((reason, _)) = &trouble {
            self.trouble(reason.clone());
        }
        self.streams += 1;
        self.stream = Stream { labels, canonical, is_plain, known: None, level, trouble };
    }

    fn trouble(&mut self, reason: String) {
        if self.troubles.len() < ITEM_ERRORS_MAX {
            self.troubles.push(Trouble { stream: self.streams, entry: self.entries, reason });
        }
    }

    /// Passes over an entry that is none.
    fn reject(&mut self, reason: &str) {
        let stream = self.streams.saturating_sub(1);
        if self.troubles.len() < ITEM_ERRORS_MAX {
            let reason = reason.to_owned();
            self.troubles.push(Trouble { stream, entry: self.entries, reason });
        }
        self.entries += 1;
        self.rejected_total += 1;
    }

    fn begin_entry(&mut self) -> Result<(), PushError> {
        let bytes = self.builder.bytes();
        if Batches::is_full(self.builder.rows(), bytes) {
            self.batches.push(bytes, self.builder.finish().map(Some))?;
            self.stream.known = None;
        }
        self.batches.check(self.builder.bytes())?;
        self.entries += 1;
        (self.level, self.has_level_text, self.next_name) = (None, false, 0);
        let Decoder { builder, stream, .. } = self;
        if let Some(Known { held: Some(held), .. }) = &stream.known
            && builder.again(*held)
        {
            return Ok(());
        }
        let fields = || stream.labels.iter().filter(|(name, _)| name != "level");
        let known = stream.known.get_or_insert_with(|| match stream.is_plain {
            true => {
                let labels = fields().map(|(name, value)| (field_name(name), &**value));
                let code = builder.stream_labelled(&stream.canonical, labels);
                Known { code, places: Vec::new(), held: None }
            }
            false => {
                let places = vec![None; stream.labels.len()];
                Known { code: builder.stream(&stream.canonical), places, held: None }
            }
        });
        if stream.is_plain {
            builder.set_labels(known.code);
            if stream.trouble.is_none() {
                known.held = builder.hold();
                return Ok(());
            }
        }
        // Without places there is nothing more to set.
        for ((name, value), place) in stream.labels.iter().zip(&mut known.places) {
            match place {
                _ if name == "level" => {}
                Some(place) => builder.set_at(*place, Value::Text(value)),
                None => *place = builder.set(field_name(name), Value::Text(value)),
            }
        }
        if let Some((reason, text)) = &stream.trouble {
            builder.field_str(field::ERROR, &format!("labels: {reason}"));
            builder.field_str("loki.labels", text);
        }
        Ok(())
    }

    /// After the first entries it is known about how much room all of them take.
    fn expect_more(&mut self, read_bytes: usize) {
        if self.builder.rows() == EXPECT_ROWS && self.entries == EXPECT_ROWS as u64 {
            let rows = EXPECT_ROWS.saturating_mul(self.body_bytes) / read_bytes.max(1);
            self.builder.expect(rows + rows / 32);
        }
    }

    fn metadata(&mut self, name: &[u8], value: &[u8]) {
        let place = self.place_of(name);
        self.next_name = place + 1;
        self.named_metadata(place, &text_value::lossy(value));
    }

    /// Where a name of metadata is listed.
    fn place_of(&mut self, name: &[u8]) -> usize {
        let is_it = |named: &Named| named.sent.as_bytes() == name;
        if self.names.get(self.next_name).is_some_and(is_it) {
            return self.next_name;
        }
        let known = self.names.iter().position(is_it);
        known.unwrap_or_else(|| {
            if self.names.len() == NAMES_MAX {
                self.names.pop();
            }
            self.names.push(Named::new(&text_value::lossy(name)));
            self.names.len() - 1
        })
    }

    /// A value of the metadata whose name is at this place.
    fn named_metadata(&mut self, place: usize, value: &str) {
        let Some(named) = self.names.get(place) else { return };
        let (value, original_bytes) = text_value::head(value);
        if let Some(rank) = named.rank
            && self.level.is_none_or(|(best, _)| rank < best)
            && let Some(level) = self.last_word.level(value)
        {
            self.level = Some((rank, level));
        }
        if named.sent == "level" && !self.has_level_text {
            self.has_level_text = true;
            self.level_text.clear();
            return self.level_text.push_str(value);
        }
        match &named.kept {
            NamedAs::Field(kept) => set_text(&mut self.builder, kept, value),
            NamedAs::Id(kept, digits) => {
                set_text(&mut self.builder, kept, &hex_id(value, *digits));
            }
            NamedAs::Nothing => {}
        }
        if let Some(original_bytes) = original_bytes {
            text_value::mark_cut(&mut self.builder, original_bytes);
        }
    }

    fn end_entry(&mut self, time_ns: Option<i64>) {
        let label = self.stream.labels.iter().find(|(name, _)| name == "level");
        let text = self.has_level_text.then_some(self.level_text.as_str());
        let text = text.or(label.map(|(_, value)| value.as_str()));
        let level = self.level.map(|(_, level)| level).or(self.stream.level);
        if let Some(level) = level {
            self.levels.set(&mut self.builder, level);
        }
        match text {
            Some(text) if level.is_none() => self.builder.field_str("level", text),
            Some(text) if level != Some(text) => self.builder.field_str("severity_text", text),
            _ => {}
        }
        // Without a stream there is no entry.
        let Some(known) = &self.stream.known else { return };
        self.builder.finish_row(time_ns.unwrap_or(self.received_ns), known.code);
    }

    fn finish(mut self) -> Result<Decoded, PushError> {
        let bytes = self.builder.bytes();
        self.batches.check(bytes)?;
        if self.builder.rows() > 0 {
            self.batches.push(bytes, self.builder.finish().map(Some))?;
        }
        Ok(Decoded {
            records: self.batches.into_records(),
            entries: self.entries,
            rejected_total: self.rejected_total,
            troubles: self.troubles,
        })
    }
}

/// The canonical text of a stream, if that says all of these labels.
fn plain_stream(labels: &[(String, String)]) -> Option<String> {
    let mut sorted: Vec<(&str, &str)> = Vec::with_capacity(labels.len());
    sorted.extend(labels.iter().map(|(name, value)| (&**name, &**value)));
    sorted.sort_unstable();
    let is_plain = labels.len() <= limits::STREAM_LABELS_MAX
        && sorted.windows(2).all(|pair| !matches!(pair, [(a, _), (b, _)] if a == b))
        && sorted
            .iter()
            .all(|(name, value)| !value.is_empty() && !name.contains(['=', ',', '{', '}', '"']));
    let mut canonical = String::new();
    write_canonical(&mut canonical, sorted.into_iter());
    is_plain.then_some(canonical)
}

/// A name that does not stand for the message.
fn field_name(name: &str) -> &str {
    if name.is_empty() || name == field::MSG { "lodge.field._msg" } else { name }
}

/// Seconds and nanoseconds.
fn timestamp(mut message: Reader<'_>) -> Result<(i64, i64), ProtobufError> {
    let (mut seconds, mut nanos) = (0, 0);
    while let Some(field) = message.next_field()? {
        match (field.number, field.varint()) {
            (1, Some(value)) => seconds = value.cast_signed(),
            (2, Some(value)) => nanos = value.cast_signed(),
            _ => {}
        }
    }
    Ok((seconds, nanos))
}

/// Sets a field, which likely is the one that came next the last time.
fn set_text(builder: &mut BatchBuilder, name: &str, value: &str) {
    if !builder.set_next(name.as_bytes(), Value::Text(value)) {
        builder.field_str(name, value);
    }
}

/// Name and value.
fn pair(mut message: Reader<'_>) -> Result<(&[u8], &[u8]), ProtobufError> {
    let (mut name, mut text) = (&[][..], &[][..]);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => name = field.bytes().unwrap_or_default(),
            2 => text = field.bytes().unwrap_or_default(),
            _ => {}
        }
    }
    Ok((name, text))
}

#[cfg(test)]
mod tests;
