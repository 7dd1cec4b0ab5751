//! The pipes that make fields of fields, one record at a time, as data.

mod math;
mod parse;
mod template;

use std::collections::BTreeSet;

use lodge_record::field;
use lodge_segment::predicate::Predicate;

use super::pipe::FieldPattern;

pub(super) use parse::parse;

pub use math::{Expression, MathFunction, Operator};
pub use template::{Extraction, Placeholder, Rendering, Template};

/// A pipe that makes fields of fields.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformPipe {
    /// Only records that this selects are changed.
    pub condition: Option<Predicate>,
    /// What is done.
    pub work: Transform,
    /// When a result replaces what a field had before.
    pub keep: Keep,
}

/// When a result does not replace what a field had before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// If the field is not empty.
    pub original: bool,
    /// If the result is empty.
    pub unless_found: bool,
}

/// What a transforming pipe does.
#[derive(Debug, Clone, PartialEq)]
pub enum Transform {
    /// The first value that is not empty.
    Coalesce {
        /// Where to look, one after the other.
        fields: Vec<FieldPattern>,
        /// The value if all are empty.
        default: String,
        /// The field that is made.
        to: String,
    },
    /// Numbers in a text become `<N>`, and known forms of them their names.
    CollapseNums {
        /// The field, which is changed.
        field: String,
        /// Whether `<UUID>`, `<IP4>`, `<TIME>`, `<DATE>` and `<DATETIME>` are told apart.
        prettify: bool,
    },
    /// The colour codes of a terminal go.
    Decolorize {
        /// The field, which is changed.
        field: String,
    },
    /// Fields without a value go, and records without any field.
    DropEmptyFields,
    /// Parts of a text, by the text around them.
    Extract {
        /// Where to look.
        from: String,
        /// What to look for.
        pattern: Extraction,
    },
    /// Parts of a text, by the groups of a regular expression.
    ExtractRegexp {
        /// Where to look.
        from: String,
        /// What to look for.
        pattern: Regex,
    },
    /// A text made of fields.
    Format {
        /// The text.
        template: Template,
        /// The field that is made.
        to: String,
    },
    /// A number that stands for a text.
    Hash {
        /// The text's field.
        from: String,
        /// The field that is made.
        to: String,
    },
    /// The items of a JSON array as one text.
    JsonArrayConcat {
        /// What comes between two items.
        delimiter: String,
        /// The array's field.
        from: String,
        /// The field that is made.
        to: String,
    },
    /// How many items a JSON array has.
    JsonArrayLen {
        /// The array's field.
        from: String,
        /// The field that is made.
        to: String,
    },
    /// Bytes of a text.
    Len {
        /// The text's field.
        from: String,
        /// The field that is made.
        to: String,
    },
    /// Calculations, each of which sees the results before it.
    Math(Vec<(Expression, String)>),
    /// Fields of one prefix under names with another one; single fields among them.
    Move {
        /// From and to, both a prefix or both a name, one pair after the other.
        pairs: Vec<(FieldPattern, FieldPattern)>,
        /// Whether the fields stay under their former names, too.
        is_copy: bool,
    },
    /// Fields as a JSON object.
    PackJson {
        /// Which; all if empty.
        fields: Vec<FieldPattern>,
        /// The field that is made.
        to: String,
    },
    /// Fields as logfmt.
    PackLogfmt {
        /// Which; all if empty.
        fields: Vec<FieldPattern>,
        /// The field that is made.
        to: String,
    },
    /// Another text for a text.
    Replace {
        /// What goes.
        old: String,
        /// What comes.
        new: String,
        /// The field, which is changed.
        field: String,
        /// At most so often in a value.
        limit: Option<u64>,
    },
    /// Another text for what a regular expression finds.
    ReplaceRegexp {
        /// What goes.
        old: Regex,
        /// What comes; `$1`, `${name}` stand for groups.
        new: String,
        /// The field, which is changed.
        field: String,
        /// At most so often in a value.
        limit: Option<u64>,
    },
    /// One in so many records, at random.
    Sample(u64),
    /// Makes the stream of fields.
    SetStreamFields(Vec<FieldPattern>),
    /// The parts of a text between separators as a JSON array.
    Split {
        /// What stands between the parts.
        separator: String,
        /// The text's field.
        from: String,
        /// The field that is made.
        to: String,
    },
    /// A time at another time.
    TimeAdd {
        /// The time's field, which is changed.
        field: String,
        /// How much later, nanoseconds.
        offset_ns: i64,
    },
    /// The fields of a JSON object in a text.
    UnpackJson(Unpack),
    /// The fields of a logfmt text.
    UnpackLogfmt(Unpack),
    /// The fields of a syslog message.
    UnpackSyslog {
        /// Where from, and under which names.
        unpack: Unpack,
        /// What local times are ahead of UTC, nanoseconds.
        offset_ns: i64,
        /// The moment that times without a year are near to.
        now_ns: i64,
    },
    /// The words of a text as a JSON array.
    UnpackWords {
        /// The text's field.
        from: String,
        /// The field that is made.
        to: String,
        /// Each word once.
        is_unique: bool,
    },
    /// A record for each item of JSON arrays.
    Unroll(Vec<String>),
}

/// Where fields are unpacked from, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpack {
    /// The field that holds them.
    pub from: String,
    /// Which ones; all if empty.
    pub fields: Vec<FieldPattern>,
    /// What comes before each name.
    pub prefix: String,
}

/// A compiled regular expression.
#[derive(Debug, Clone)]
pub struct Regex(pub regex::Regex);

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// The fields that a pipe makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// These.
    Named(Vec<String>),
    /// Any, as they come.
    Any,
}

impl TransformPipe {
    /// The pipe's name in the language.
    pub fn name(&self) -> &'static str {
        match &self.work {
            Transform::Coalesce { .. } => "coalesce",
            Transform::CollapseNums { .. } => "collapse_nums",
            Transform::Decolorize { .. } => "decolorize",
            Transform::DropEmptyFields => "drop_empty_fields",
            Transform::Extract { .. } => "extract",
            Transform::ExtractRegexp { .. } => "extract_regexp",
            Transform::Format { .. } => "format",
            Transform::Hash { .. } => "hash",
            Transform::JsonArrayConcat { .. } => "json_array_concat",
            Transform::JsonArrayLen { .. } => "json_array_len",
            Transform::Len { .. } => "len",
            Transform::Math(_) => "math",
            Transform::Move { is_copy: true, .. } => "copy",
            Transform::Move { is_copy: false, .. } => "rename",
            Transform::PackJson { .. } => "pack_json",
            Transform::PackLogfmt { .. } => "pack_logfmt",
            Transform::Replace { .. } => "replace",
            Transform::ReplaceRegexp { .. } => "replace_regexp",
            Transform::Sample(_) => "sample",
            Transform::SetStreamFields(_) => "set_stream_fields",
            Transform::Split { .. } => "split",
            Transform::TimeAdd { .. } => "time_add",
            Transform::UnpackJson(_) => "unpack_json",
            Transform::UnpackLogfmt(_) => "unpack_logfmt",
            Transform::UnpackSyslog { .. } => "unpack_syslog",
            Transform::UnpackWords { .. } => "unpack_words",
            Transform::Unroll(_) => "unroll",
        }
    }

    /// Whether there are as many records afterwards as before.
    pub fn keeps_count(&self) -> bool {
        !matches!(
            self.work,
            Transform::DropEmptyFields | Transform::Sample(_) | Transform::Unroll(_)
        )
    }

    /// Whether `_time`, where it is written, stays a time.
    pub fn keeps_times(&self) -> bool {
        matches!(self.work, Transform::TimeAdd { .. }) || self.targets() == Targets::Any
    }

    /// Whether what a field was before never matters to what it is afterwards.
    pub fn overwrites(&self) -> bool {
        let is_whole = self.condition.is_none() && self.keep == Keep::default();
        is_whole && !matches!(self.work, Transform::TimeAdd { .. } | Transform::SetStreamFields(_))
    }

    /// The fields that are looked at, and whether all others are too.
    pub fn sources(&self) -> (BTreeSet<String>, bool) {
        let mut named = BTreeSet::new();
        let mut are_all = false;
        let mut add = |name: &str| {
            named.insert(name.to_owned());
        };
        match &self.work {
            Transform::CollapseNums { field, .. }
            | Transform::Decolorize { field }
            | Transform::Replace { field, .. }
            | Transform::ReplaceRegexp { field, .. } => add(field),
            Transform::Sample(_) => {}
            // Whether a record has any field at all.
            Transform::DropEmptyFields | Transform::Move { .. } => are_all = true,
            Transform::TimeAdd { field, .. } => add(field),
            Transform::Coalesce { fields, .. } | Transform::SetStreamFields(fields) => {
                for pattern in fields {
                    match pattern {
                        FieldPattern::Name(name) => add(name),
                        FieldPattern::Prefix(_) => are_all = true,
                    }
                }
            }
            Transform::Extract { from, .. }
            | Transform::ExtractRegexp { from, .. }
            | Transform::Hash { from, .. }
            | Transform::JsonArrayConcat { from, .. }
            | Transform::JsonArrayLen { from, .. }
            | Transform::Len { from, .. }
            | Transform::Split { from, .. }
            | Transform::UnpackWords { from, .. } => add(from),
            Transform::Format { template, .. } => template.fields().for_each(add),
            Transform::Math(results) => {
                results.iter().for_each(|(expression, _)| expression.each_field(&mut add));
            }
            Transform::PackJson { fields, .. } | Transform::PackLogfmt { fields, .. } => {
                are_all = fields.is_empty();
                for pattern in fields {
                    match pattern {
                        FieldPattern::Name(name) => add(name),
                        FieldPattern::Prefix(_) => are_all = true,
                    }
                }
            }
            Transform::UnpackJson(unpack)
            | Transform::UnpackLogfmt(unpack)
            | Transform::UnpackSyslog { unpack, .. } => add(&unpack.from),
            Transform::Unroll(fields) => fields.iter().for_each(|name| add(name)),
        }
        if let Some(condition) = &self.condition {
            named.extend(condition.fields());
        }
        (named, are_all)
    }

    /// The fields that are made.
    pub fn targets(&self) -> Targets {
        let one = |name: &str| Targets::Named(vec![name.to_owned()]);
        match &self.work {
            Transform::CollapseNums { field, .. }
            | Transform::Decolorize { field }
            | Transform::Replace { field, .. }
            | Transform::ReplaceRegexp { field, .. } => one(field),
            Transform::DropEmptyFields | Transform::Sample(_) => Targets::Named(Vec::new()),
            Transform::TimeAdd { field, .. } => one(field),
            Transform::Move { .. } => Targets::Any,
            Transform::SetStreamFields(_) => {
                Targets::Named(vec![field::STREAM.to_owned(), field::STREAM_ID.to_owned()])
            }
            Transform::Extract { pattern, .. } => Targets::Named(pattern.names()),
            Transform::ExtractRegexp { pattern, .. } => {
                let names = pattern.0.capture_names().flatten();
                Targets::Named(names.map(str::to_owned).collect())
            }
            Transform::Coalesce { to, .. }
            | Transform::Format { to, .. }
            | Transform::Hash { to, .. }
            | Transform::JsonArrayConcat { to, .. }
            | Transform::JsonArrayLen { to, .. }
            | Transform::Len { to, .. }
            | Transform::PackJson { to, .. }
            | Transform::PackLogfmt { to, .. }
            | Transform::Split { to, .. }
            | Transform::UnpackWords { to, .. } => one(to),
            Transform::Math(results) => {
                Targets::Named(results.iter().map(|(_, name)| name.clone()).collect())
            }
            Transform::UnpackJson(unpack)
            | Transform::UnpackLogfmt(unpack)
            | Transform::UnpackSyslog { unpack, .. } => unpack.targets(),
            Transform::Unroll(fields) => Targets::Named(fields.clone()),
        }
    }
}

impl Unpack {
    fn targets(&self) -> Targets {
        let names = self.fields.iter().map(|pattern| match pattern {
            FieldPattern::Name(name) => Some(format!("{}{name}", self.prefix)),
            FieldPattern::Prefix(_) => None,
        });
        match names.collect::<Option<Vec<_>>>() {
            Some(names) if !names.is_empty() => Targets::Named(names),
            _ => Targets::Any,
        }
    }

    /// The name under which a field is unpacked, if it is wanted.
    pub fn named(&self, name: &str) -> Option<String> {
        let is_wanted =
            self.fields.is_empty() || self.fields.iter().any(|pattern| pattern.matches(name));
        is_wanted.then(|| format!("{}{name}", self.prefix))
    }
}
