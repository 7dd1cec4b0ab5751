//! The pipes that make fields of fields, one record at a time: their data, and how they are read.

mod math;
mod template;

use std::collections::BTreeSet;

use lodge_record::field;
use lodge_segment::predicate::{Predicate, parse_duration_ns};

use super::cursor::Cursor;
use super::filter::{parse_filter, whole_number};
use super::names::{by_names, list, name, parenthesised, pattern};
use super::pipe::FieldPattern;
use crate::error::QueryError;

pub use math::{Expression, MathFunction, Operator};
pub use template::{Extraction, Placeholder, Rendering, Template};

/// Largest compiled form of a regular expression of a pipe, bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// Most fields that one pipe makes by name.
const TARGETS_MAX: usize = 1_000;

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
pub struct Regex(pub(crate) regex::Regex);

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
    pub(crate) fn keeps_times(&self) -> bool {
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
    pub(crate) fn named(&self, name: &str) -> Option<String> {
        let is_wanted =
            self.fields.is_empty() || self.fields.iter().any(|pattern| pattern.matches(name));
        is_wanted.then(|| format!("{}{name}", self.prefix))
    }
}

/// Parses the pipe `keyword`, the cursor behind it; `None` if it is none of these pipes.
pub(super) fn parse(
    cursor: &mut Cursor<'_>,
    keyword: &str,
) -> Result<Option<TransformPipe>, QueryError> {
    let mut pipe = TransformPipe {
        condition: None,
        work: Transform::DropEmptyFields,
        keep: Keep::default(),
    };
    pipe.work = match keyword {
        "coalesce" => {
            let fields = parenthesised(cursor, "`coalesce`", pattern)?;
            if fields.is_empty() {
                return Err(cursor.error("`coalesce(…)` needs at least one field"));
            }
            let mut default = String::new();
            let mut to = None;
            loop {
                if word(cursor, "default") {
                    default = cursor.expect_word("a value after `default`")?.text;
                } else if to.is_none()
                    && let Some(name) = target(cursor, &["default"])?
                {
                    to = Some(name);
                } else {
                    break;
                }
            }
            Transform::Coalesce { fields, default, to: to.unwrap_or_else(message) }
        }
        "collapse_nums" => {
            pipe.condition = condition(cursor)?;
            let field = after(cursor, "at")?.unwrap_or_else(message);
            Transform::CollapseNums { field, prettify: word(cursor, "prettify") }
        }
        "decolorize" => Transform::Decolorize { field: optional_name(cursor)? },
        "drop_empty_fields" => Transform::DropEmptyFields,
        "extract" => {
            pipe.condition = condition(cursor)?;
            let pattern = template::parse_extraction(cursor)?;
            let from = after(cursor, "from")?.unwrap_or_else(message);
            pipe.keep = keep(cursor);
            Transform::Extract { from, pattern }
        }
        "extract_regexp" => {
            pipe.condition = condition(cursor)?;
            let start = cursor.at();
            let pattern = regex(cursor)?;
            if pattern.0.capture_names().flatten().next().is_none() {
                return Err(cursor.error_at(
                    start,
                    "expected a regular expression with a named group, as in \"(?P<name>[0-9]+)\"",
                ));
            }
            let from = after(cursor, "from")?.unwrap_or_else(message);
            pipe.keep = keep(cursor);
            Transform::ExtractRegexp { from, pattern }
        }
        "format" => {
            pipe.condition = condition(cursor)?;
            let template = template::parse_template(cursor)?;
            let to = target(cursor, &[])?.unwrap_or_else(message);
            pipe.keep = keep(cursor);
            Transform::Format { template, to }
        }
        "hash" => {
            let (from, to) = call(cursor, keyword)?;
            Transform::Hash { from, to }
        }
        "json_array_concat" => {
            let delimiter = match is_name_next(cursor) && cursor.peek_bare() != "from" {
                true => cursor.expect_word("what comes between the items")?.text,
                false => String::new(),
            };
            let from = after(cursor, "from")?.unwrap_or_else(message);
            let to = target(cursor, &[])?.unwrap_or_else(|| from.clone());
            Transform::JsonArrayConcat { delimiter, from, to }
        }
        "json_array_len" => {
            let (from, to) = call(cursor, keyword)?;
            Transform::JsonArrayLen { from, to }
        }
        "len" => {
            let (from, to) = call(cursor, keyword)?;
            Transform::Len { from, to }
        }
        "math" | "eval" => Transform::Math(math::parse(cursor)?),
        "pack_json" | "pack_logfmt" => {
            let fields = if word(cursor, "fields") { patterns(cursor)? } else { Vec::new() };
            let to = target(cursor, &[])?.unwrap_or_else(message);
            match keyword {
                "pack_json" => Transform::PackJson { fields, to },
                _ => Transform::PackLogfmt { fields, to },
            }
        }
        "replace" | "replace_regexp" => replacement(cursor, keyword, &mut pipe.condition)?,
        "sample" => {
            let start = cursor.at();
            let every = whole_number(cursor, "a number of records, of which one is kept")?;
            if every == 0 {
                return Err(cursor.error_at(start, "expected a number of at least 1"));
            }
            Transform::Sample(every)
        }
        "set_stream_fields" => {
            pipe.condition = condition(cursor)?;
            cursor.skip_space();
            Transform::SetStreamFields(match cursor.rest().starts_with('(') {
                true => parenthesised(cursor, "`set_stream_fields`", pattern)?,
                false => list(cursor, pattern)?,
            })
        }
        "split" => {
            let separator = cursor.expect_word("a separator in quotes, as in \",\"")?.text;
            let from = after(cursor, "from")?.unwrap_or_else(message);
            let to = target(cursor, &[])?.unwrap_or_else(|| from.clone());
            Transform::Split { separator, from, to }
        }
        "time_add" => {
            let offset_ns = duration(cursor)?;
            let field = after(cursor, "at")?.unwrap_or_else(|| field::TIME.to_owned());
            Transform::TimeAdd { field, offset_ns }
        }
        "unpack_json" | "unpack_logfmt" | "unpack_syslog" => {
            pipe.condition = condition(cursor)?;
            let from = after(cursor, "from")?.unwrap_or_else(message);
            let mut unpack = Unpack { from, fields: Vec::new(), prefix: String::new() };
            let mut offset_ns = 0;
            loop {
                cursor.skip_space();
                if word(cursor, "fields") && keyword != "unpack_syslog" {
                    unpack.fields = patterns(cursor)?;
                } else if word(cursor, "result_prefix") {
                    unpack.prefix = cursor.expect_word("a prefix for the names")?.text;
                } else if keyword == "unpack_syslog" && word(cursor, "offset") {
                    offset_ns = duration(cursor)?;
                } else {
                    break;
                }
            }
            pipe.keep = keep(cursor);
            match keyword {
                "unpack_json" => Transform::UnpackJson(unpack),
                "unpack_logfmt" => Transform::UnpackLogfmt(unpack),
                _ => Transform::UnpackSyslog { unpack, offset_ns, now_ns: cursor.now_ns },
            }
        }
        "unpack_words" => {
            let from = match after(cursor, "from")? {
                Some(from) => from,
                None if is_name_next(cursor) => name(cursor)?,
                None => message(),
            };
            let to = target(cursor, &[])?.unwrap_or_else(|| from.clone());
            Transform::UnpackWords { from, to, is_unique: word(cursor, "drop_duplicates") }
        }
        "unroll" => {
            pipe.condition = condition(cursor)?;
            cursor.skip_space();
            Transform::Unroll(by_names(cursor, keyword)?)
        }
        _ => return Ok(None),
    };
    if let Targets::Named(names) = pipe.targets()
        && names.len() > TARGETS_MAX
    {
        let problem = format!("`| {keyword}` makes more than {TARGETS_MAX} fields; split it");
        return Err(cursor.error(problem));
    }
    Ok(Some(pipe))
}

fn duration(cursor: &mut Cursor<'_>) -> Result<i64, QueryError> {
    cursor.skip_space();
    let start = cursor.at();
    let text = cursor.expect_word("a duration, as in 5h30m")?.text;
    parse_duration_ns(&text)
        .ok_or_else(|| cursor.error_at(start, "expected a duration, as in 5h30m or -2h"))
}

fn message() -> String {
    field::MSG.to_owned()
}

/// `if (filter)`.
pub(super) fn condition(cursor: &mut Cursor<'_>) -> Result<Option<Predicate>, QueryError> {
    if !word(cursor, "if") {
        return Ok(None);
    }
    cursor.expect("(", "`if`")?;
    cursor.skip_space();
    let filter = match cursor.rest().starts_with(')') {
        true => Predicate::All,
        false => cursor.nested(parse_filter)?,
    };
    cursor.expect(")", "the filter of `if`")?;
    Ok(Some(filter))
}

/// Moves over `keyword` after spaces, if it is next.
pub(super) fn word(cursor: &mut Cursor<'_>, keyword: &str) -> bool {
    let start = cursor.at();
    cursor.skip_space();
    let found = cursor.eat_keyword(keyword);
    if !found {
        cursor.go_to(start);
    }
    found
}

/// The name after `keyword`, if that is next.
pub(super) fn after(cursor: &mut Cursor<'_>, keyword: &str) -> Result<Option<String>, QueryError> {
    if word(cursor, keyword) { name(cursor).map(Some) } else { Ok(None) }
}

/// Whether a name comes before the end of the pipe.
fn is_name_next(cursor: &mut Cursor<'_>) -> bool {
    cursor.skip_space();
    !matches!(cursor.peek(), None | Some('|' | ')'))
        && !matches!(
            cursor.peek_bare(),
            "as" | "keep_original_fields" | "skip_empty_results" | "drop_duplicates"
        )
}

fn optional_name(cursor: &mut Cursor<'_>) -> Result<String, QueryError> {
    if is_name_next(cursor) { name(cursor) } else { Ok(message()) }
}

/// `as name`, or the name alone unless it is one of the pipe's own words.
fn target(cursor: &mut Cursor<'_>, words: &[&str]) -> Result<Option<String>, QueryError> {
    if let Some(name) = after(cursor, "as")? {
        return Ok(Some(name));
    }
    match is_name_next(cursor) && !words.contains(&cursor.peek_bare()) {
        true => name(cursor).map(Some),
        false => Ok(None),
    }
}

/// `keep_original_fields`, `skip_empty_results`.
fn keep(cursor: &mut Cursor<'_>) -> Keep {
    let mut keep = Keep::default();
    loop {
        if word(cursor, "keep_original_fields") {
            keep.original = true;
        } else if word(cursor, "skip_empty_results") {
            keep.unless_found = true;
        } else {
            return keep;
        }
    }
}

/// `(field) as name`; without a name it is the text of the call.
fn call(cursor: &mut Cursor<'_>, function: &str) -> Result<(String, String), QueryError> {
    cursor.expect("(", &format!("`{function}`"))?;
    let from = name(cursor)?;
    cursor.expect(")", "the field's name")?;
    let to = target(cursor, &[])?.unwrap_or_else(|| format!("{function}({from})"));
    Ok((from, to))
}

fn patterns(cursor: &mut Cursor<'_>) -> Result<Vec<FieldPattern>, QueryError> {
    parenthesised(cursor, "`fields`", pattern)
}

/// `if (filter) ("old", "new") at field limit 3`.
fn replacement(
    cursor: &mut Cursor<'_>,
    keyword: &str,
    filter: &mut Option<Predicate>,
) -> Result<Transform, QueryError> {
    *filter = condition(cursor)?;
    cursor.expect("(", &format!("`{keyword}`"))?;
    cursor.skip_space();
    let start = cursor.at();
    let old = cursor.expect_word("the text to be replaced")?.text;
    cursor.expect(",", "the text to be replaced")?;
    let new = cursor.expect_word("the text to put there")?.text;
    cursor.expect(")", "the text to put there")?;
    let (mut field, mut limit) = (message(), None);
    loop {
        if let Some(name) = after(cursor, "at")? {
            field = name;
        } else if word(cursor, "limit") {
            limit = Some(whole_number(cursor, "a number of replacements")?).filter(|n| *n > 0);
        } else {
            break;
        }
    }
    if keyword == "replace" {
        return Ok(Transform::Replace { old, new, field, limit });
    }
    let old = compiled(cursor, start, &old)?;
    Ok(Transform::ReplaceRegexp { old, new, field, limit })
}

fn regex(cursor: &mut Cursor<'_>) -> Result<Regex, QueryError> {
    cursor.skip_space();
    let start = cursor.at();
    let text = cursor.expect_word("a regular expression in quotes")?.text;
    compiled(cursor, start, &text)
}

fn compiled(cursor: &Cursor<'_>, start: usize, text: &str) -> Result<Regex, QueryError> {
    let built = regex::RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
    built.map(Regex).map_err(|error| {
        let error = error.to_string();
        let fault = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        cursor.error_at(start, format!("this regular expression cannot be used: {fault}"))
    })
}
