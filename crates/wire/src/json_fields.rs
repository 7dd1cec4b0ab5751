//! What the fields of JSON lines mean, and where they go.
//!
//! What is known of a field is remembered with the order of fields ([`Order`]).
//!
//! Invariant: of several fields that may hold the time (the message, the level) the best by rank
//! wins and the others stay fields.

use std::ops::Range;

use hashbrown::HashMap;
use lodge_record::builder::{BatchBuilder, Place};
use lodge_record::stream::StreamLabels;
use lodge_record::{limits, time};

use crate::conventions::{self, Kept, Naming};
use crate::json_object::{Guess, JsonValue};
use crate::json_order::Order;
use crate::jsonline::{Options, set_field};

/// The field of the level.
const LEVEL: &str = "level";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Time(usize),
    Msg(usize),
    Level(usize),
    Stream(usize),
    /// A trace's or a span's identifier; of one that is sent in decimal its hex digits.
    Id(Option<usize>),
    Ignore,
    Plain,
}

/// How a protocol says which fields hold the level, and what fields are kept as.
pub(crate) struct Dialect {
    pub(crate) naming: Naming,
    /// Names that may hold the level, the best first.
    pub(crate) levels: &'static [&'static str],
    /// The level that a value stands for.
    pub(crate) level_of: fn(&str) -> Option<&'static str>,
    /// Where the level's original value is kept.
    pub(crate) original_level: &'static str,
    /// A field, or an object of fields, of which is told whether the object in hand has it.
    pub(crate) asked: &'static str,
}

/// Fields as they are sent, no level among them.
const PLAIN: Dialect = Dialect {
    naming: conventions::as_sent,
    levels: &[],
    level_of: crate::level::of_word,
    original_level: "severity_text",
    asked: "",
};

/// A field that a line had.
struct Seen {
    /// What it is kept as.
    kept: Box<str>,
    role: Role,
    is_asked: bool,
    /// Where its values go, once that is known.
    place: Option<Place>,
}

/// The meaning of fields, and what the line in hand said in those that mean something.
pub(crate) struct Fields {
    roles: HashMap<String, Role>,
    ignore_prefixes: Vec<String>,
    extra_fields: Vec<(String, String)>,
    stream_fields: Vec<String>,
    dialect: Dialect,
    order: Order<Seen>,
    generation: u32,
    times: Vec<Slot>,
    msgs: Vec<Slot>,
    levels: Vec<Slot>,
    labels: Vec<Slot>,
    /// Whether the line in hand has the field that the dialect asks for.
    has_asked: bool,
}

/// What a line's special field said. A text that stands in the line as it is, is not copied.
#[derive(Default)]
struct Slot {
    name: String,
    set: bool,
    number: bool,
    at: Option<Range<usize>>,
    copy: String,
    /// The value's code in the column of the field.
    code: Option<u32>,
}

impl Slot {
    fn put(&mut self, value: &JsonValue<'_>, line: &str) {
        self.set = true;
        self.number = matches!(value, JsonValue::Number(_));
        self.code = None;
        let text = value.as_text();
        // The value may also lie in a copy without escapes.
        let from = (text.as_ptr() as usize).wrapping_sub(line.as_ptr() as usize);
        self.at = from.checked_add(text.len()).filter(|to| *to <= line.len()).map(|to| from..to);
        if self.at.is_none() {
            self.copy.clear();
            self.copy.push_str(text);
        }
    }

    fn set_copy(&mut self, text: &str) {
        (self.set, self.code, self.at) = (true, None, None);
        self.copy.clear();
        self.copy.push_str(text);
    }

    fn text<'s>(&'s self, line: &'s str) -> &'s str {
        match &self.at {
            _ if !self.set => "",
            Some(at) => line.get(at.clone()).unwrap_or_default(),
            None => &self.copy,
        }
    }

    /// Makes the value a field like any other.
    fn keep(&self, builder: &mut BatchBuilder, text: &str) {
        self.keep_as(&self.name, builder, text);
    }

    fn keep_as(&self, name: &str, builder: &mut BatchBuilder, text: &str) {
        if self.number {
            builder.field_number_text(name, text);
        } else {
            builder.field_str(name, text);
        }
    }
}

fn slots(names: &[String], naming: Naming) -> Vec<Slot> {
    let slot = |name: &String| {
        let name = match naming(name) {
            Kept::As(kept) => kept.into_owned(),
            Kept::Id(..) | Kept::Not => name.clone(),
        };
        Slot { name, ..Slot::default() }
    };
    names.iter().map(slot).collect()
}

impl Fields {
    pub(crate) fn new(options: &Options) -> Self {
        Self::in_dialect(options, PLAIN)
    }

    /// As [`Self::new`], for a protocol with names of its own.
    pub(crate) fn in_dialect(options: &Options, dialect: Dialect) -> Self {
        let mut roles = HashMap::new();
        let (prefixes, ignored): (Vec<_>, Vec<_>) =
            options.ignore_fields.iter().cloned().partition(|name| name.ends_with('*'));
        // Stream first: a field may be a label and the message; later roles win.
        let mut stream_fields = options.stream_fields.clone();
        stream_fields.sort();
        stream_fields.dedup();
        stream_fields.truncate(limits::STREAM_LABELS_MAX);
        roles.extend(stream_fields.iter().enumerate().map(|(i, n)| (n.clone(), Role::Stream(i))));
        let ranked = |names: &[String], role: fn(usize) -> Role| -> Vec<(String, Role)> {
            names.iter().enumerate().rev().map(|(i, n)| (n.clone(), role(i))).collect()
        };
        roles.extend(ranked(&options.msg_fields, Role::Msg));
        let levels: Vec<String> = dialect.levels.iter().map(|name| name.to_string()).collect();
        roles.extend(ranked(&levels, Role::Level));
        roles.extend(ranked(&options.time_fields, Role::Time));
        roles.extend(ignored.into_iter().map(|name| (name, Role::Ignore)));
        Self {
            roles,
            ignore_prefixes: prefixes.iter().map(|p| p.trim_end_matches('*').to_owned()).collect(),
            extra_fields: options.extra_fields.clone(),
            order: Order::default(),
            generation: 0,
            times: slots(&options.time_fields, dialect.naming),
            msgs: slots(&options.msg_fields, dialect.naming),
            levels: slots(&levels, dialect.naming),
            labels: slots(&stream_fields, conventions::as_sent),
            stream_fields,
            has_asked: false,
            dialect,
        }
    }

    /// Begins a line.
    pub(crate) fn begin(&mut self) {
        let special = self.times.iter_mut().chain(&mut self.msgs).chain(&mut self.levels);
        special.chain(&mut self.labels).for_each(|slot| slot.set = false);
        self.has_asked = false;
        self.order.begin();
    }

    /// Begins a batch; the builder's places hold within a generation.
    pub(crate) fn new_batch(&mut self, generation: u32) {
        if self.generation != generation {
            self.order.clear();
            self.generation = generation;
        }
        self.order.begin();
    }

    /// What is likely to come next, the likeliest first.
    #[inline]
    pub(crate) fn guesses(&self) -> [Option<&Guess>; 2] {
        self.order.guesses()
    }

    /// Takes a value whose name was guessed.
    #[inline]
    pub(crate) fn guessed(
        &mut self,
        guess: usize,
        value: JsonValue<'_>,
        builder: &mut BatchBuilder,
        line: &str,
    ) {
        let at = self.order.guessed(guess);
        self.take(at, value, builder, line);
    }

    /// Takes a value by its name.
    pub(crate) fn leaf(
        &mut self,
        name: &str,
        value: JsonValue<'_>,
        builder: &mut BatchBuilder,
        line: &str,
    ) {
        match self.order.find(name) {
            Some(at) => self.take(at, value, builder, line),
            None => self.new_field(name, value, builder, line),
        }
    }

    #[cold]
    fn new_field(
        &mut self,
        name: &str,
        value: JsonValue<'_>,
        builder: &mut BatchBuilder,
        line: &str,
    ) {
        let (mut role, kept) = self.role(name);
        let prefixes = &self.ignore_prefixes;
        if role != Role::Ignore && prefixes.iter().any(|p| name.starts_with(p.as_str())) {
            // The time and the message are taken from where they are even so.
            if matches!(role, Role::Plain | Role::Stream(_) | Role::Id(_)) {
                role = Role::Ignore;
            }
        }
        let asked = self.dialect.asked;
        let is_asked = !asked.is_empty()
            && name
                .strip_prefix(asked)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let seen = Seen { kept: kept.as_str().into(), role, is_asked, place: None };
        if let Some(at) = self.order.add(name, seen) {
            return self.take(at, value, builder, line);
        }
        self.has_asked |= is_asked;
        self.special(role, &value, line, None);
        if matches!(role, Role::Plain | Role::Id(_) | Role::Stream(_)) {
            set_field(builder, &kept, &value);
        }
    }

    /// What a name means and what it is kept as. A label may be asked for by either name.
    fn role(&self, name: &str) -> (Role, String) {
        let known = |name: &str| self.roles.get(name).copied();
        match (self.dialect.naming)(name) {
            Kept::As(kept) => {
                let label = || known(&kept).filter(|role| matches!(role, Role::Stream(_)));
                let role = known(name).or_else(label).unwrap_or(Role::Plain);
                (role, kept.into_owned())
            }
            Kept::Id(kept, digits) => (known(name).unwrap_or(Role::Id(digits)), kept.to_owned()),
            Kept::Not => (known(name).unwrap_or(Role::Ignore), name.to_owned()),
        }
    }

    /// Takes a value of a field that was seen before.
    #[inline]
    fn take(&mut self, at: usize, value: JsonValue<'_>, builder: &mut BatchBuilder, line: &str) {
        let Some((_, seen)) = self.order.get_mut(at) else { return };
        let role = seen.role;
        self.has_asked |= seen.is_asked;
        let is_kept = match role {
            Role::Plain | Role::Stream(_) => true,
            Role::Id(digits) => {
                let id = conventions::hex_id(value.as_text(), digits);
                builder.field_str(&seen.kept, &id);
                return;
            }
            Role::Ignore => false,
            // A second value of the same name: an ordinary field, which keeps both.
            Role::Time(i) => self.times.get(i).is_some_and(|slot| slot.set),
            Role::Msg(i) => self.msgs.get(i).is_some_and(|slot| slot.set),
            Role::Level(i) => self.levels.get(i).is_some_and(|slot| slot.set),
        };
        let mut code = None;
        if is_kept {
            match seen.place {
                Some(place) => builder.set_at(place, value.as_field()),
                None => seen.place = builder.set(&seen.kept, value.as_field()),
            }
            if matches!(role, Role::Stream(_)) {
                code = seen.place.and_then(|place| builder.code_at(place));
            }
        }
        if role != Role::Plain {
            self.special(role, &value, line, code);
        }
    }

    /// Keeps the first value of a field that means something.
    fn special(&mut self, role: Role, value: &JsonValue<'_>, line: &str, code: Option<u32>) {
        let slot = match role {
            Role::Time(i) => self.times.get_mut(i),
            Role::Msg(i) => self.msgs.get_mut(i),
            Role::Level(i) => self.levels.get_mut(i),
            Role::Stream(i) => self.labels.get_mut(i),
            Role::Ignore | Role::Plain | Role::Id(_) => None,
        };
        if let Some(slot) = slot.filter(|slot| !slot.set) {
            slot.put(value, line);
            slot.code = code;
        }
    }

    /// The time from the best field that has a readable one. The other fields stay fields.
    pub(crate) fn take_time(&self, builder: &mut BatchBuilder, line: &str) -> Option<i64> {
        let mut found = None;
        for slot in self.times.iter().filter(|slot| slot.set) {
            let text = slot.text(line);
            match found.is_none().then(|| time::parse(text)).flatten() {
                Some(time_ns) => found = Some(time_ns),
                None => slot.keep(builder, text),
            }
        }
        found
    }

    /// The level from the best field that states one, with its original value beside it. The other
    /// fields stay fields.
    pub(crate) fn take_level(&mut self, builder: &mut BatchBuilder, line: &str) {
        let stated = self.levels.iter().enumerate().filter(|(_, slot)| slot.set);
        let found = stated
            .clone()
            .find_map(|(rank, slot)| Some((rank, (self.dialect.level_of)(slot.text(line))?)));
        let original = self.dialect.original_level;
        if let Some((best, level)) = found
            && let Some(slot) = self.levels.get(best)
            && (slot.name != LEVEL || slot.text(line) != level)
        {
            slot.keep_as(original, builder, slot.text(line));
        }
        for (rank, slot) in stated {
            match found {
                Some((best, _)) if rank == best => {}
                Some(_) if slot.name == LEVEL => {
                    slot.keep_as(original, builder, slot.text(line));
                }
                _ => slot.keep(builder, slot.text(line)),
            }
        }
        let Some((_, level)) = found else { return };
        builder.field_str(LEVEL, level);
        if let Some(label) = self.labels.iter_mut().find(|label| label.name == LEVEL) {
            label.set_copy(level);
        }
    }

    pub(crate) fn take_message(&mut self, builder: &mut BatchBuilder, line: &str) {
        let mut found = false;
        for slot in self.msgs.iter().filter(|slot| slot.set) {
            let text = slot.text(line);
            if !found {
                builder.message(text);
                found = true;
            } else {
                slot.keep(builder, text);
            }
            if let Some(label) = self.labels.iter_mut().find(|label| label.name == slot.name) {
                label.set_copy(text);
            }
        }
    }

    pub(crate) fn add_extra(&mut self, builder: &mut BatchBuilder) {
        for (name, value) in &self.extra_fields {
            builder.field_str(name, value);
            if let Some(label) = self.labels.iter_mut().find(|label| label.name == *name) {
                label.set_copy(value);
            }
        }
    }

    /// Whether the line has the field that the dialect asks for.
    pub(crate) fn has_asked(&self) -> bool {
        self.has_asked
    }

    /// What the line says in the field of a label; empty where it says nothing.
    pub(crate) fn label<'s>(&'s self, name: &str, line: &'s str) -> &'s str {
        let label = self.labels.iter().find(|label| label.name == name);
        label.map_or("", |label| label.text(line))
    }

    /// What the line says in the best of the fields that may hold the message, if it has that one.
    pub(crate) fn first_message<'s>(&'s self, line: &'s str) -> Option<&'s str> {
        self.msgs.first().filter(|slot| slot.set).map(|slot| slot.text(line))
    }

    /// Writes what tells the stream of the line from others of the batch: of each label the code of
    /// its value, or the value where its column has no codes.
    pub(crate) fn write_stream_key(&self, line: &str, key: &mut Vec<u8>) {
        for label in &self.labels {
            match label.code.filter(|_| label.set) {
                Some(code) => key.extend_from_slice(&(u64::from(code) | CODED).to_le_bytes()),
                None => {
                    let text = label.text(line);
                    key.extend_from_slice(&(text.len() as u64).to_le_bytes());
                    key.extend_from_slice(text.as_bytes());
                }
            }
        }
    }

    pub(crate) fn stream_labels(&self, line: &str) -> StreamLabels {
        let mut set = StreamLabels::new();
        for (name, label) in self.stream_fields.iter().zip(&self.labels) {
            set.set(name, label.text(line));
        }
        set
    }
}

/// Marks a code in a stream's key; no text is so long.
const CODED: u64 = 1 << 63;
