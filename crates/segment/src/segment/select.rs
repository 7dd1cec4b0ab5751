//! Which rows a predicate selects, decided on encoded data.
//!
//! A predicate is prepared once for a segment: what follows from its streams, templates and
//! dictionaries is decided there, and most of it falls away. What is left is asked chunk by chunk.
//!
//! Invariant: [`Segment::select`] gives exactly the rows that [`crate::predicate::evaluate`] gives on
//! the rows read.

use std::ops::Range;

use arrow::array::Array;
use lodge_record::{field, schema, stream};

use super::reader::{Segment, Stored, Values, is_all};
use crate::SegmentError;
use crate::bits::Mask;
use crate::column::ColumnTest;
use crate::predicate::{self, FieldTest, Predicate, Verdict};
use crate::sections::gather;
use crate::text::TextTest;

/// A predicate as far as it is decided for one segment.
#[derive(Debug)]
pub struct Prepared {
    node: Node,
    rows: usize,
    /// The answer, where it is known without looking at rows.
    count: Option<u64>,
}

#[derive(Debug)]
enum Node {
    All,
    None,
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Time(i64, i64),
    /// A test of `_time` that is no range.
    Clock(Predicate),
    /// A test of two columns.
    Compare(Predicate),
    Streams(Vec<bool>),
    Column(ColumnNode),
    /// A field that may be in `_overflow`.
    Overflow(Predicate),
}

#[derive(Debug)]
struct ColumnNode {
    column: usize,
    test: ValueTest,
    /// Whether rows without a value pass.
    absent: bool,
    /// How dear it is beside others.
    cost: u32,
}

#[derive(Debug)]
enum ValueTest {
    /// Every value passes, or none.
    Known(bool),
    Plain(ColumnTest),
    Text(Box<TextTest>),
}

impl Prepared {
    /// Whether any or all rows match, as far as it is known.
    pub fn verdict(&self) -> Verdict {
        match (&self.node, self.count) {
            (Node::All, _) => Verdict::All,
            (Node::None, _) | (_, Some(0)) => Verdict::None,
            (_, Some(count)) if count == self.rows as u64 => Verdict::All,
            _ => Verdict::Some,
        }
    }

    /// How many rows match, where that is known without looking at any.
    pub fn count(&self) -> Option<u64> {
        self.count
    }
}

impl Segment {
    /// Decides what can be decided of `predicate` for the whole segment.
    pub fn prepare(&self, predicate: &Predicate) -> Result<Prepared, SegmentError> {
        let spelled_out;
        let predicate = if predicate.reads().is_open() {
            spelled_out = self.spelled_out(predicate);
            &spelled_out
        } else {
            predicate
        };
        self.require_for(predicate)?;
        let node = self.compile(predicate)?;
        let count = self.known_count(&node)?;
        Ok(Prepared { node, rows: self.rows(), count })
    }

    /// The rows of a chunk that match, of those in `within` if it is given; bit 0 is the chunk's first.
    pub fn select(
        &self,
        prepared: &Prepared,
        chunk: usize,
        within: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        let rows = self.chunk_rows(chunk)?;
        let mut mask = self.decide(&prepared.node, &rows, within)?;
        if let Some(within) = within {
            mask.and(within);
        }
        Ok(mask)
    }

    /// Asks for all sections that preparing `predicate` needs at once, so that they are read at once.
    fn require_for(&self, predicate: &Predicate) -> Result<(), SegmentError> {
        let mut missing = Vec::new();
        let mut places = Vec::new();
        for (name, tests) in predicate.tests() {
            places.extend(self.place(field::OVERFLOW).filter(|_| self.may_overflow(name)));
            let Some(place) = self.place(name) else { continue };
            let mut refuted = !tests.is_empty();
            for test in tests {
                match self.refutes(place, test) {
                    Ok(true) => {}
                    Ok(false) => {
                        refuted = false;
                        gather(self.require_postings(place, test), &mut missing)?;
                    }
                    Err(error) => gather(Err(error), &mut missing)?,
                }
            }
            if !refuted {
                places.push(place);
            }
        }
        gather(self.require(&places), &mut missing)?;
        if missing.is_empty() { Ok(()) } else { Err(SegmentError::Missing(missing)) }
    }

    /// The same predicate with tests of any field as tests of those that the segment has, so that
    /// each is decided on its column. With an `_overflow` they stay: it is read once for all fields.
    fn spelled_out(&self, predicate: &Predicate) -> Predicate {
        let each = |parts: &[Predicate]| -> Vec<Predicate> {
            parts.iter().map(|part| self.spelled_out(part)).collect()
        };
        match predicate {
            Predicate::And(parts) => Predicate::and(each(parts)),
            Predicate::Or(parts) => Predicate::or(each(parts)),
            Predicate::Not(inner) => self.spelled_out(inner).not(),
            Predicate::AnyField { prefix, test } if self.place(field::OVERFLOW).is_none() => {
                let stored = self.schema().fields().iter().map(|field| field.name().as_str());
                let names = stored.chain([field::STREAM_ID]);
                let names = names.filter(|name| name.starts_with(prefix.as_str()));
                Predicate::or(names.map(|name| {
                    let passes = Predicate::field(name, test.clone());
                    // Of a field that a record does not have nothing is said.
                    let there = test.matches("").then(|| Predicate::field(name, FieldTest::Any));
                    Predicate::and(there.into_iter().chain([passes]))
                }))
            }
            other => other.clone(),
        }
    }

    /// Whether a field's values may be in `_overflow`.
    fn may_overflow(&self, name: &str) -> bool {
        !schema::is_reserved(name) && self.place(field::OVERFLOW).is_some()
    }

    fn compile(&self, predicate: &Predicate) -> Result<Node, SegmentError> {
        Ok(match predicate {
            Predicate::All => Node::All,
            Predicate::None => Node::None,
            Predicate::And(parts) => self.all_of(parts)?,
            Predicate::Or(parts) => self.any_of(parts)?,
            Predicate::Not(inner) => match self.compile(inner)? {
                Node::All => Node::None,
                Node::None => Node::All,
                other => Node::Not(Box::new(other)),
            },
            Predicate::Time { min_ns, max_ns } => {
                let (first, last) = self.time_range();
                if *max_ns < first || last < *min_ns {
                    Node::None
                } else if *min_ns <= first && last <= *max_ns {
                    Node::All
                } else {
                    Node::Time(*min_ns, *max_ns)
                }
            }
            Predicate::DayRange { .. } | Predicate::WeekRange { .. } => {
                Node::Clock(predicate.clone())
            }
            Predicate::Stream(selector) => {
                let selector = selector.prepared();
                self.of_streams(|text| selector.matches(text))?
            }
            Predicate::Field { name, test } => self.field(name, test, predicate)?,
            Predicate::AnyField { .. } => Node::Overflow(predicate.clone()),
            Predicate::Compare { left, order, right } => {
                let there = |name| {
                    let stored = if name == field::STREAM_ID { field::STREAM } else { name };
                    (self.place(stored).is_some() || self.may_overflow(name)).then_some(name)
                };
                match order.of_absent(there(left.as_str()), there(right.as_str())) {
                    Some(simpler) => self.compile(&simpler)?,
                    None => Node::Compare(predicate.clone()),
                }
            }
        })
    }

    fn all_of(&self, parts: &[Predicate]) -> Result<Node, SegmentError> {
        let (mut nodes, mut missing) = (Vec::with_capacity(parts.len()), Vec::new());
        for part in parts {
            match self.compile(part) {
                Ok(Node::All) => {}
                Ok(Node::None) => return Ok(Node::None),
                Ok(other) => nodes.push(other),
                Err(error) => gather(Err(error), &mut missing)?,
            }
        }
        if !missing.is_empty() {
            return Err(SegmentError::Missing(missing));
        }
        nodes.sort_by_key(cost);
        Ok(match nodes.len() {
            0 => Node::All,
            1 => nodes.swap_remove(0),
            _ => Node::And(nodes),
        })
    }

    fn any_of(&self, parts: &[Predicate]) -> Result<Node, SegmentError> {
        let (mut nodes, mut missing) = (Vec::with_capacity(parts.len()), Vec::new());
        for part in parts {
            match self.compile(part) {
                Ok(Node::None) => {}
                Ok(Node::All) => return Ok(Node::All),
                Ok(other) => nodes.push(other),
                Err(error) => gather(Err(error), &mut missing)?,
            }
        }
        if !missing.is_empty() {
            return Err(SegmentError::Missing(missing));
        }
        nodes.sort_by_key(cost);
        Ok(match nodes.len() {
            0 => Node::None,
            1 => nodes.swap_remove(0),
            _ => Node::Or(nodes),
        })
    }

    fn of_streams(&self, matches: impl Fn(&str) -> bool) -> Result<Node, SegmentError> {
        let texts = &self.streams()?.texts;
        let wanted: Vec<bool> = (0..texts.len()).map(|at| matches(texts.value(at))).collect();
        Ok(match wanted.iter().filter(|wanted| **wanted).count() {
            0 => Node::None,
            all if all == wanted.len() => Node::All,
            _ => Node::Streams(wanted),
        })
    }

    fn field(&self, name: &str, test: &FieldTest, whole: &Predicate) -> Result<Node, SegmentError> {
        if name == field::STREAM {
            return self.of_streams(|text| test.matches(text));
        }
        if name == field::STREAM_ID {
            return self.of_streams(|text| test.matches(&stream::stream_id(text)));
        }
        if self.may_overflow(name) {
            return Ok(Node::Overflow(whole.clone()));
        }
        let absent = test.matches("");
        let Some(column) = self.place(name) else {
            return Ok(if absent { Node::All } else { Node::None });
        };
        if !absent && self.refutes(column, test)? {
            return Ok(Node::None);
        }
        let stored = self.stored(column)?;
        let (test, verdict) = match &stored.values {
            Values::Runs(runs) => {
                let passes = |stream| test.matches(runs.value(stream).unwrap_or_default());
                let wanted: Vec<bool> = (0..runs.codes.len()).map(passes).collect();
                return Ok(match wanted.iter().filter(|wanted| **wanted).count() {
                    0 => Node::None,
                    all if all == wanted.len() => Node::All,
                    _ => Node::Streams(wanted),
                });
            }
            Values::Plain(values) => {
                let test = values.prepare(test)?;
                let verdict = test.verdict();
                (ValueTest::Plain(test), verdict)
            }
            Values::Text(values) => {
                let test = values.prepare(test, self.sections())?;
                let verdict = test.verdict();
                (ValueTest::Text(Box::new(test)), verdict)
            }
        };
        let all_there = is_all(&stored.presence);
        let cost = cost_of(&test);
        let test = match verdict {
            Verdict::None => ValueTest::Known(false),
            Verdict::All => ValueTest::Known(true),
            Verdict::Some => test,
        };
        Ok(match test {
            ValueTest::Known(passes) if all_there || passes == absent => {
                if passes {
                    Node::All
                } else {
                    Node::None
                }
            }
            test => Node::Column(ColumnNode { column, test, absent, cost }),
        })
    }

    /// How many rows match, if template and dictionary counts say so.
    fn known_count(&self, node: &Node) -> Result<Option<u64>, SegmentError> {
        Ok(match node {
            Node::All => Some(self.rows() as u64),
            Node::None => Some(0),
            Node::Not(inner) => {
                self.known_count(inner)?.map(|count| (self.rows() as u64).saturating_sub(count))
            }
            Node::Streams(wanted) => {
                let runs = self.streams()?.within(0..self.rows());
                let rows = runs.filter(|(at, _)| wanted.get(*at).copied().unwrap_or(false));
                Some(rows.map(|(_, rows)| rows.len() as u64).sum())
            }
            Node::Column(ColumnNode { column, test, absent, .. }) => {
                let stored = self.stored(*column)?;
                let present = stored.len() as u64;
                let passing = match test {
                    ValueTest::Known(passes) => Some(if *passes { present } else { 0 }),
                    ValueTest::Text(test) => match &stored.values {
                        Values::Text(values) => values.count(test, self.sections())?,
                        Values::Plain(_) | Values::Runs(_) => None,
                    },
                    ValueTest::Plain(_) => None,
                };
                let absent = if *absent { self.rows() as u64 - present } else { 0 };
                passing.map(|passing| passing + absent)
            }
            _ => None,
        })
    }

    /// The rows of a range that pass; right for those in `within`.
    fn decide(
        &self,
        node: &Node,
        rows: &Range<usize>,
        within: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        let len = rows.len();
        Ok(match node {
            Node::All => Mask::all(len),
            Node::None => Mask::none(len),
            Node::Not(inner) => self.decide(inner, rows, within)?.inverted(),
            Node::And(nodes) => {
                let mut left = within.cloned();
                for node in nodes {
                    let more = self.decide(node, rows, left.as_ref())?;
                    match &mut left {
                        Some(left) => left.and(&more),
                        None => left = Some(more),
                    }
                    if left.as_ref().is_some_and(Mask::is_empty) {
                        break;
                    }
                }
                left.unwrap_or_else(|| Mask::all(len))
            }
            Node::Or(nodes) => {
                let (mut found, mut missing) = (Mask::none(len), Vec::new());
                let mut open = within.cloned();
                for node in nodes {
                    let mut more = match self.decide(node, rows, open.as_ref()) {
                        Ok(more) => more,
                        Err(error) => {
                            gather(Err(error), &mut missing)?;
                            continue;
                        }
                    };
                    let rest = open.get_or_insert_with(|| Mask::all(len));
                    more.and(rest);
                    rest.and_not(&more);
                    found.or(&more);
                    if rest.is_empty() {
                        return Ok(found);
                    }
                }
                if !missing.is_empty() {
                    return Err(SegmentError::Missing(missing));
                }
                found
            }
            Node::Time(min_ns, max_ns) => self.in_time(rows, *min_ns, *max_ns)?,
            Node::Clock(predicate) | Node::Compare(predicate) | Node::Overflow(predicate) => {
                self.by_reading(predicate, rows, within)?
            }
            Node::Streams(wanted) => self.streams()?.marked(wanted, rows.clone()),
            Node::Column(node) => self.of_column(node, rows, within)?,
        })
    }

    /// The rows of a range with `_time` in a range: each run is sorted by time.
    fn in_time(&self, rows: &Range<usize>, min_ns: i64, max_ns: i64) -> Result<Mask, SegmentError> {
        let mut missing = Vec::new();
        let times = self.times_column()?;
        gather(times.require(rows), &mut missing)?;
        gather(self.streams().map(drop), &mut missing)?;
        if !missing.is_empty() {
            return Err(SegmentError::Missing(missing));
        }
        let mut mask = Mask::none(rows.len());
        for (_, run) in self.streams()?.within(rows.clone()) {
            let from = times.partition_point(run.clone(), |time| time < min_ns)?;
            let to = times.partition_point(from..run.end, |time| time <= max_ns)?;
            mask.set_range(from - rows.start..to - rows.start);
        }
        Ok(mask)
    }

    /// Reads the columns of a predicate and evaluates it on them.
    fn by_reading(
        &self,
        predicate: &Predicate,
        rows: &Range<usize>,
        within: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        let reads = predicate.reads();
        let stored = self.schema().fields().iter().map(|field| field.name().as_str());
        let names: Vec<&str> = stored.filter(|name| reads.has(name)).collect();
        let batch = self.read_range(rows.clone(), within, &names)?;
        let passed = Mask::from_arrow(predicate::evaluate(predicate, &batch).values());
        Ok(match within {
            None => passed,
            Some(within) => {
                let mut mask = Mask::none(rows.len());
                within.iter().zip(0..).filter(|(_, at)| passed.get(*at)).for_each(|(row, _)| {
                    mask.set(row);
                });
                mask
            }
        })
    }

    fn of_column(
        &self,
        node: &ColumnNode,
        rows: &Range<usize>,
        within: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        let Stored { presence, values } = self.stored(node.column)?;
        let dense = presence.dense_range(rows.clone());
        let gathered = match within {
            Some(within) if !is_all(presence) => Some(presence.gather(rows.clone(), within)),
            _ => None,
        };
        let inner = gathered.as_ref().or(within);
        let passed = match (&node.test, values) {
            (ValueTest::Known(passes), _) => {
                if *passes {
                    Mask::all(dense.len())
                } else {
                    Mask::none(dense.len())
                }
            }
            (ValueTest::Plain(test), Values::Plain(values)) => values.select(test, dense, inner)?,
            (ValueTest::Text(test), Values::Text(values)) => {
                values.select(test, self.sections(), dense, inner)?
            }
            _ => return Err(SegmentError::Encode("a test of another column".into())),
        };
        if is_all(presence) {
            return Ok(passed);
        }
        let mut mask = presence.spread(rows.clone(), &passed);
        if node.absent {
            mask.or(&presence.mask(rows.clone()).inverted());
        }
        Ok(mask)
    }
}

/// How dear a node is, in no unit.
fn cost(node: &Node) -> u32 {
    match node {
        Node::All | Node::None => 0,
        Node::Streams(_) => 1,
        Node::Time(..) => 2,
        Node::Column(node) => node.cost,
        Node::Not(inner) => cost(inner),
        Node::And(nodes) | Node::Or(nodes) => {
            nodes.iter().fold(0, |sum, node| sum.saturating_add(cost(node)))
        }
        Node::Clock(_) => 20,
        Node::Compare(_) => 200,
        Node::Overflow(_) => 1_000,
    }
}

fn cost_of(test: &ValueTest) -> u32 {
    match test {
        ValueTest::Known(_) => 3,
        ValueTest::Plain(test) if test.by_text() => 30,
        ValueTest::Plain(_) => 10,
        ValueTest::Text(test) => 20 + test.cost(),
    }
}
