//! What a test means for each template of a column.

use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use super::automaton::{Automaton, Table};
use super::check::Tree;
use super::column::TextColumn;
use super::forms::TOKEN_BYTES_MAX;
use super::needle::Needle;
use super::path::{Outcome, Path};
use super::rows::{Block, Local};
use super::slot::{Kind, Slot};
use super::{MARK_ANY, MARK_TOKEN};
use crate::SegmentError;
use crate::bits::Mask;
use crate::predicate::{FieldTest, Pattern, TextRange, ValueKind, Verdict};
use crate::sections::{Sections, for_all};

/// Ordinals of a template that are decided at once.
pub(super) const PAGE_ROWS: usize = 8192;
/// Bytes that the ways of an expression through all templates may take; beyond, texts are looked at.
const PATHS_BYTES_MAX: usize = 4 << 20;

/// What is known of a template's rows.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    /// No row passes.
    None,
    /// Every row passes.
    All,
    /// The texts must be looked at.
    Decode,
    /// The rows pass whose slots do.
    Slots(Tree),
    /// Of the rows whose slots do, the texts must be looked at.
    Both(Tree),
    /// The rows pass along which an automaton gets to a match.
    Walk(Path, Arc<Table>),
}

impl Plan {
    fn of(tree: Tree) -> Self {
        match tree {
            Tree::None => Self::None,
            Tree::All => Self::All,
            tree => Self::Slots(tree),
        }
    }

    fn of_known(known: Option<bool>) -> Self {
        match known {
            None => Self::Decode,
            Some(true) => Self::All,
            Some(false) => Self::None,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => Self::None,
            (Self::All, plan) | (plan, Self::All) => plan,
            (Self::Walk(..), plan) | (plan, Self::Walk(..)) => Self::Decode.and(plan),
            (Self::Decode, Self::Decode) => Self::Decode,
            (Self::Slots(a), Self::Slots(b)) => Self::of(Tree::and([a, b])),
            (Self::Decode, Self::Slots(tree) | Self::Both(tree))
            | (Self::Slots(tree) | Self::Both(tree), Self::Decode) => Self::Both(tree),
            (Self::Slots(a) | Self::Both(a), Self::Slots(b) | Self::Both(b)) => {
                Self::Both(Tree::and([a, b]))
            }
        }
    }

    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::None, plan) | (plan, Self::None) => plan,
            (Self::Decode | Self::Walk(..), _) | (_, Self::Decode | Self::Walk(..)) => Self::Decode,
            (Self::Slots(a), Self::Slots(b)) => Self::of(Tree::or([a, b])),
            (Self::Slots(a) | Self::Both(a), Self::Slots(b) | Self::Both(b)) => {
                Self::Both(Tree::or([a, b]))
            }
        }
    }
}

/// What is known of the rows of a template, of which some pass.
#[derive(Debug)]
pub(super) struct Planned {
    /// Its number; 0 is for the raw texts.
    pub(super) no: u32,
    pub(super) plan: Plan,
    /// If slots decide: the rows that pass them, page by page.
    pub(super) pages: Vec<OnceLock<Mask>>,
}

/// A test made ready for a column; what it decides about slots is kept and used again.
#[derive(Debug)]
pub(crate) struct TextTest {
    pub(super) test: FieldTest,
    /// The templates of which rows may pass, ascending.
    pub(super) planned: Vec<Planned>,
    /// By template number the place in there, plus 1; 0 for none.
    places: Vec<u32>,
    /// The raw texts that pass, once they were searched.
    pub(super) raw: OnceLock<Mask>,
    verdict: Verdict,
}

/// Plans of templates, ascending; no row of another one passes.
type Plans = Vec<(u32, Plan)>;

impl TextTest {
    /// Whether no value passes, or all do, as far as it is known.
    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// What is known of a template; nothing if no row of it passes.
    fn planned(&self, no: u32) -> Option<&Planned> {
        let place = *self.places.get(no as usize)? as usize;
        self.planned.get(place.checked_sub(1)?)
    }

    /// The templates of a block of which rows may pass.
    pub(super) fn locals<'b>(&'b self, block: &'b Block) -> Vec<(&'b Local, &'b Planned)> {
        /// Fewer templates are looked for in a block than are gone through.
        const FEW: usize = 16;
        let locals = &block.locals;
        if self.planned.len() * FEW > locals.len() {
            let planned = |local: &'b Local| Some((local, self.planned(local.template)?));
            return locals.iter().filter_map(planned).collect();
        }
        let find = |planned: &'b Planned| {
            let at = locals.binary_search_by_key(&planned.no, |local| local.template).ok()?;
            Some((locals.get(at)?, planned))
        };
        self.planned.iter().filter_map(find).collect()
    }

    /// How dear it is to ask, in no unit: least if templates decide, most if texts are rebuilt.
    pub(crate) fn cost(&self) -> u32 {
        let plans = self.planned.iter().map(|planned| match planned.plan {
            Plan::None | Plan::All => 0,
            Plan::Slots(_) => 10,
            Plan::Walk(..) => 20,
            Plan::Both(_) => 30,
            Plan::Decode => 100,
        });
        plans.max().unwrap_or(0)
    }
}

/// What passes two tests.
fn both(a: Plans, b: Plans) -> Plans {
    let mut b = b.into_iter().peekable();
    let mut kept = Vec::new();
    for (no, plan) in a {
        while b.next_if(|(other, _)| *other < no).is_some() {}
        if let Some((_, other)) = b.next_if(|(other, _)| *other == no) {
            kept.push((no, plan.and(other)));
        }
    }
    kept
}

/// What passes one of two tests.
fn either(a: Plans, b: Plans) -> Plans {
    let mut b = b.into_iter().peekable();
    let mut kept = Vec::with_capacity(a.len().max(b.len()));
    for (no, plan) in a {
        while let Some(other) = b.next_if(|(other, _)| *other < no) {
            kept.push(other);
        }
        kept.push(match b.next_if(|(other, _)| *other == no) {
            Some((_, other)) => (no, plan.or(other)),
            None => (no, plan),
        });
    }
    kept.extend(b);
    kept
}

impl TextColumn {
    /// Decides a test for each template that can have passing rows, from the words, the templates and
    /// their dictionaries alone.
    pub(crate) fn prepare(
        &self,
        test: &FieldTest,
        sections: &Sections,
    ) -> Result<TextTest, SegmentError> {
        let mut plans = self.plans(test, sections)?;
        let raw = OnceLock::new();
        let of_raw = if self.raw.len() == 0 || self.is_not_raw(test, sections)? {
            Plan::None
        } else {
            match self.raw.held() {
                None => Plan::Decode,
                Some(held) => {
                    let passing = raw.get_or_init(|| held.passing(test));
                    if passing.is_empty() {
                        Plan::None
                    } else if passing.is_full() {
                        Plan::All
                    } else {
                        Plan::Decode
                    }
                }
            }
        };
        plans.insert(0, (0, of_raw));
        plans.retain(|(_, plan)| !matches!(plan, Plan::None));
        let planned = |(no, plan): (u32, Plan)| {
            let pages = match &plan {
                Plan::Slots(_) | Plan::Both(_) | Plan::Walk(..) => {
                    self.rows_of(no).div_ceil(PAGE_ROWS)
                }
                _ => 0,
            };
            Planned { no, plan, pages: (0..pages).map(|_| OnceLock::new()).collect() }
        };
        let planned: Vec<Planned> = plans.into_iter().map(planned).collect();
        let mut places = vec![0; self.templates() + 1];
        for (place, planned) in (1..).zip(&planned) {
            if let Some(to) = places.get_mut(planned.no as usize) {
                *to = place;
            }
        }
        let all = planned.iter().filter(|planned| matches!(planned.plan, Plan::All));
        let verdict = if planned.iter().all(|planned| self.rows_of(planned.no) == 0) {
            Verdict::None
        } else if all.map(|planned| self.rows_of(planned.no)).sum::<usize>() == self.len() {
            Verdict::All
        } else {
            Verdict::Some
        };
        Ok(TextTest { test: test.clone(), planned, places, raw, verdict })
    }

    /// Whether the words say that no raw text passes.
    fn is_not_raw(&self, test: &FieldTest, sections: &Sections) -> Result<bool, SegmentError> {
        if !Needle::has_tokens(test) {
            return Ok(false);
        }
        Needle::refute(test, self.is_ascii(), |needle| {
            let holding = self.holding(needle, sections)?;
            Ok(holding.is_some_and(|holding| holding.first() != Some(&0)))
        })
    }

    /// Plans of the templates of which rows may pass.
    fn plans(&self, test: &FieldTest, sections: &Sections) -> Result<Plans, SegmentError> {
        let of = |needle: Needle<'_>| self.plans_of(&needle, sections);
        let mut plans = match test {
            FieldTest::Contains(phrase) => of(Needle::phrase(phrase, false))?,
            FieldTest::Substring(text) => of(Needle::substring(text))?,
            FieldTest::ExactPrefix(text) => of(Needle::start(text))?,
            FieldTest::ContainsAnyCase(phrase) => {
                let plans = of(Needle::phrase(phrase, true))?;
                if phrase.text().is_empty() || self.is_ascii() {
                    plans
                } else {
                    // Letters beyond ASCII change their bytes with their case.
                    let beyond = self.all().filter(|no| !self.key(*no).is_ascii());
                    let beyond: Plans = beyond.map(|no| (no, Plan::Decode)).collect();
                    let within = plans.into_iter().filter(|(no, _)| self.key(*no).is_ascii());
                    either(within.collect(), beyond)
                }
            }
            FieldTest::ContainsAll(phrases) => self.all_of(phrases, sections)?,
            FieldTest::ContainsAny(phrases) => {
                let plans = for_all(phrases, |phrase| of(Needle::phrase(phrase, false)))?;
                plans.into_iter().reduce(either).unwrap_or_default()
            }
            FieldTest::Sequence(phrases) => {
                let order =
                    |plan: Plan| if phrases.len() > 1 { plan.and(Plan::Decode) } else { plan };
                let plans = self.all_of(phrases, sections)?.into_iter();
                plans.map(|(no, plan)| (no, order(plan))).collect()
            }
            FieldTest::Exact(text) => self.exactly(text, sections)?,
            FieldTest::In(texts) => {
                let plans = for_all(texts, |text| self.exactly(text, sections))?;
                plans.into_iter().reduce(either).unwrap_or_default()
            }
            FieldTest::Regex(pattern) => self.along(pattern)?,
            FieldTest::Empty
            | FieldTest::Any
            | FieldTest::Number(_)
            | FieldTest::Text(_)
            | FieldTest::Ipv4 { .. }
            | FieldTest::Ipv6 { .. }
            | FieldTest::Kind(_)
            | FieldTest::JsonArray(_)
            | FieldTest::Length { .. } => {
                self.all().map(|no| (no, self.by_form(no, test))).collect()
            }
        };
        for (no, plan) in &mut plans {
            if matches!(plan, Plan::Decode | Plan::Both(_))
                && let Some(text) = self.only_text(*no)?
            {
                *plan = Plan::of_known(Some(test.matches(&text)));
            }
        }
        Ok(plans)
    }

    /// The numbers of the templates.
    fn all(&self) -> impl Iterator<Item = u32> + use<> {
        1..=self.templates() as u32
    }

    fn plans_of(&self, needle: &Needle<'_>, sections: &Sections) -> Result<Plans, SegmentError> {
        let trees = needle.trees(self, sections)?.into_iter();
        Ok(trees.map(|(no, tree)| (no, Plan::of(tree))).collect())
    }

    fn all_of(
        &self,
        phrases: &[crate::predicate::Phrase],
        sections: &Sections,
    ) -> Result<Plans, SegmentError> {
        let plans =
            for_all(phrases, |phrase| self.plans_of(&Needle::phrase(phrase, false), sections))?;
        let plans = plans.into_iter().reduce(both);
        Ok(plans.unwrap_or_else(|| self.all().map(|no| (no, Plan::All)).collect()))
    }

    /// The ways of an expression through the templates.
    fn along(&self, pattern: &Pattern) -> Result<Plans, SegmentError> {
        let Some(mut automaton) = Automaton::new(pattern.source()) else {
            return Ok(self.all().map(|no| (no, Plan::Decode)).collect());
        };
        let mut bytes = 0;
        let mut ways = Vec::with_capacity(self.templates());
        for no in self.all() {
            let (template, literals) = (self.template(no)?, self.literals(no));
            let way = Path::of(&mut automaton, &literals, &template.slots, template.rows);
            if let Some(Outcome::Open(path)) = &way {
                bytes += path.memory_bytes();
            }
            ways.push(
                way.filter(|way| bytes <= PATHS_BYTES_MAX || matches!(way, Outcome::Known(_))),
            );
        }
        // All ways share what the automaton has become in the end.
        let table = Arc::new(automaton.into_table());
        let plan = |way: Option<Outcome>| match way {
            None => Plan::Decode,
            Some(Outcome::Known(known)) => Plan::of_known(Some(known)),
            Some(Outcome::Open(path)) => Plan::Walk(path, table.clone()),
        };
        Ok(self.all().zip(ways).map(|(no, way)| (no, plan(way))).collect())
    }

    /// The values that are `text`.
    fn exactly(&self, text: &str, sections: &Sections) -> Result<Plans, SegmentError> {
        if text.is_empty() {
            let is_empty = |no: &u32| matches!(self.by_form(*no, &FieldTest::Empty), Plan::All);
            return Ok(self.all().filter(is_empty).map(|no| (no, Plan::All)).collect());
        }
        let needle = Needle::whole(text);
        let possible = self.holding(&needle, sections)?;
        let mut plans = Plans::new();
        for no in possible.unwrap_or_else(|| self.all().collect()) {
            if no > 0 && needle.fits(self.key(no)) {
                match needle.tree_of_whole(self.template(no)?, self.key(no)) {
                    Tree::None => {}
                    tree => plans.push((no, Plan::of(tree))),
                }
            }
        }
        Ok(plans)
    }

    /// The text of a template's rows, if all have the same.
    fn only_text(&self, no: u32) -> Result<Option<String>, SegmentError> {
        let mut text = Vec::new();
        let (template, literals) = (self.template(no)?, self.literals(no));
        for (at, literal) in literals.iter().enumerate() {
            text.extend_from_slice(literal);
            match template.slots.get(at) {
                None => {}
                Some(Slot { kind: Kind::Const(value), .. }) => text.extend_from_slice(value),
                Some(_) => return Ok(None),
            }
        }
        Ok(String::from_utf8(text).ok())
    }

    /// What the literals say about tests that are about the value as a whole.
    fn by_form(&self, no: u32, test: &FieldTest) -> Plan {
        let literals = self.literals(no);
        let first = literals.first().copied().unwrap_or_default();
        let slots = literals.len() - 1;
        Plan::of_known(match test {
            FieldTest::Empty => Some(first.is_empty() && slots == 0),
            FieldTest::Any => Some(!first.is_empty() || slots > 0),
            FieldTest::Number(_) => {
                let fits = |byte: &u8| {
                    !byte.is_ascii() || byte.is_ascii_alphabetic() || b"+-._".contains(byte)
                };
                let possible = first.first().is_none_or(|byte| b"+-.".contains(byte))
                    && literals.iter().all(|literal| literal.iter().all(fits));
                if possible { None } else { Some(false) }
            }
            FieldTest::Ipv4 { .. } | FieldTest::Kind(ValueKind::Ipv4)
                if !four_tokens(self.key(no)) =>
            {
                Some(false)
            }
            FieldTest::Ipv6 { .. } => {
                let fits = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
                let possible = literals.iter().all(|literal| literal.iter().all(fits))
                    && literals.iter().any(|literal| literal.contains(&b':'));
                if possible { None } else { Some(false) }
            }
            // Slots are letters and digits, so only the beginning of the text can open an array.
            FieldTest::JsonArray(_) => {
                let opens = first.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
                if opens { None } else { Some(false) }
            }
            FieldTest::Kind(kind) => of_kind(*kind, &literals),
            FieldTest::Text(range) => beside(range, first, slots == 0),
            FieldTest::Length { min, max } => {
                let chars = |literal: &&[u8]| literal.iter().filter(|b| **b & 0xc0 != 0x80).count();
                let fixed: usize = literals.iter().map(chars).sum();
                let (least, most) = (fixed + slots, fixed + slots * TOKEN_BYTES_MAX);
                if least as u64 > *max || (most as u64) < *min { Some(false) } else { None }
            }
            _ => None,
        })
    }
}

/// Whether a text with these literals can be of a kind.
fn of_kind(kind: ValueKind, literals: &[&[u8]]) -> Option<bool> {
    // What no number, address or time has.
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.:".contains(byte);
    let special = literals.iter().all(|literal| literal.iter().all(fits));
    match (special, kind) {
        (true, _) => None,
        (false, ValueKind::String) => Some(true),
        (false, _) => Some(false),
    }
}

/// Whether a key is that of four tokens with dots between them.
fn four_tokens(key: &[u8]) -> bool {
    key.len() == 7
        && key.iter().enumerate().all(|(at, byte)| match at % 2 {
            0 => matches!(*byte, MARK_TOKEN | MARK_ANY),
            _ => *byte == b'.',
        })
}

/// Whether texts that begin with `head` are in a range, as far as that tells.
fn beside(range: &TextRange, head: &[u8], whole: bool) -> Option<bool> {
    if whole {
        return std::str::from_utf8(head).ok().map(|text| range.contains(text));
    }
    let compare = |bound: &Bound<String>| match bound {
        Bound::Unbounded => None,
        Bound::Included(bound) | Bound::Excluded(bound) => {
            let bound = bound.as_bytes();
            let len = bound.len().min(head.len());
            let order =
                head.get(..len).unwrap_or_default().cmp(bound.get(..len).unwrap_or_default());
            Some(order)
        }
    };
    use std::cmp::Ordering::{Greater, Less};
    let above = match compare(&range.min) {
        None | Some(Greater) => Some(true),
        Some(Less) => Some(false),
        _ => None,
    };
    let below = match compare(&range.max) {
        None | Some(Less) => Some(true),
        Some(Greater) => Some(false),
        _ => None,
    };
    match (above, below) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}
