//! What a test means for each template of a column.

use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use super::automaton::{Automaton, Table};
use super::check::Tree;
use super::column::{Template, TextColumn};
use super::forms::TOKEN_BYTES_MAX;
use super::needle::Needle;
use super::path::{Outcome, Path};
use super::rows::{Block, Local};
use super::slot::{Kind, Slot};
use super::{MARK_ANY, MARK_TOKEN};
use crate::bits::Mask;
use crate::predicate::{FieldTest, Pattern, TextRange, Verdict};

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

/// A test made ready for a column; what it decides about slots is kept and used again.
#[derive(Debug)]
pub(crate) struct TextTest {
    pub(super) test: FieldTest,
    /// Per template number; 0 is for the raw texts.
    pub(super) plans: Vec<Plan>,
    /// Per template of which slots decide: the rows that pass them, page by page.
    pub(super) pages: Vec<Vec<OnceLock<Mask>>>,
    /// The raw texts that pass, once they were searched.
    pub(super) raw: OnceLock<Mask>,
    verdict: Verdict,
    /// The templates of which rows may pass.
    pub(super) open: Vec<u32>,
}

impl TextTest {
    /// Whether no value passes, or all do, as far as it is known.
    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The templates of a block of which rows may pass.
    pub(super) fn locals<'b>(&self, block: &'b Block) -> Vec<&'b Local> {
        /// Fewer templates are looked for in a block than are gone through.
        const FEW: usize = 16;
        let locals = &block.locals;
        if self.open.len() * FEW > locals.len() {
            return locals.iter().collect();
        }
        let find = |no: &u32| {
            let at = locals.binary_search_by_key(no, |local| local.template).ok()?;
            locals.get(at)
        };
        self.open.iter().filter_map(find).collect()
    }

    /// How dear it is to ask, in no unit: least if templates decide, most if texts are rebuilt.
    pub(crate) fn cost(&self) -> u32 {
        let plans = self.plans.iter().map(|plan| match plan {
            Plan::None | Plan::All => 0,
            Plan::Slots(_) => 10,
            Plan::Walk(..) => 20,
            Plan::Both(_) => 30,
            Plan::Decode => 100,
        });
        plans.max().unwrap_or(0)
    }
}

impl TextColumn {
    /// Decides a test for each template, from the templates and their dictionaries alone.
    pub(crate) fn prepare(&self, test: &FieldTest) -> TextTest {
        let mut plans = self.plans(test);
        let raw = OnceLock::new();
        let of_raw = match self.raw.held() {
            _ if self.raw.len() == 0 => Plan::None,
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
        };
        plans.insert(0, of_raw);
        let mut rows: Vec<usize> = self.templates.iter().map(|template| template.rows).collect();
        rows.insert(0, self.raw.len());
        let pages = |(plan, rows): (&Plan, &usize)| match plan {
            Plan::Slots(_) | Plan::Both(_) | Plan::Walk(..) => {
                (0..rows.div_ceil(PAGE_ROWS)).map(|_| OnceLock::new()).collect()
            }
            _ => Vec::new(),
        };
        let pages = plans.iter().zip(&rows).map(pages).collect();
        let with_rows = || plans.iter().zip(&rows).filter(|(_, rows)| **rows > 0);
        let verdict = if with_rows().all(|(plan, _)| matches!(plan, Plan::None)) {
            Verdict::None
        } else if with_rows().all(|(plan, _)| matches!(plan, Plan::All)) {
            Verdict::All
        } else {
            Verdict::Some
        };
        let open = (0..).zip(plans.iter().zip(&rows));
        let open = open.filter(|(_, (plan, rows))| **rows > 0 && !matches!(plan, Plan::None));
        let open = open.map(|(no, _)| no).collect();
        TextTest { test: test.clone(), plans, pages, raw, verdict, open }
    }

    /// A plan for each template.
    fn plans(&self, test: &FieldTest) -> Vec<Plan> {
        let of = |trees: Vec<Tree>| trees.into_iter().map(Plan::of).collect::<Vec<_>>();
        let mut plans = match test {
            FieldTest::Contains(phrase) => of(Needle::phrase(phrase, false).trees(self)),
            FieldTest::Substring(text) => of(Needle::substring(text).trees(self)),
            FieldTest::ExactPrefix(text) => of(Needle::start(text).trees(self)),
            FieldTest::ContainsAnyCase(phrase) => {
                let mut plans = of(Needle::phrase(phrase, true).trees(self));
                // Letters beyond ASCII change their bytes with their case.
                for (template, plan) in self.templates.iter().zip(&mut plans) {
                    if !self.key(template).is_ascii() && !phrase.text().is_empty() {
                        *plan = Plan::Decode;
                    }
                }
                plans
            }
            FieldTest::ContainsAll(phrases) => self.all_of(phrases),
            FieldTest::ContainsAny(phrases) => {
                let none = self.templates.iter().map(|_| Plan::None).collect();
                phrases.iter().fold(none, |plans: Vec<Plan>, phrase| {
                    let more = of(Needle::phrase(phrase, false).trees(self));
                    plans.into_iter().zip(more).map(|(a, b)| a.or(b)).collect()
                })
            }
            FieldTest::Sequence(phrases) => {
                let order =
                    |plan: Plan| if phrases.len() > 1 { plan.and(Plan::Decode) } else { plan };
                self.all_of(phrases).into_iter().map(order).collect()
            }
            FieldTest::Exact(text) => self.exactly([text.as_str()]),
            FieldTest::In(texts) => self.exactly(texts.iter().map(String::as_str)),
            FieldTest::Regex(pattern) => self.along(pattern),
            FieldTest::Empty
            | FieldTest::Any
            | FieldTest::Number(_)
            | FieldTest::Text(_)
            | FieldTest::Ipv4 { .. }
            | FieldTest::Length { .. } => {
                self.templates.iter().map(|template| self.by_form(template, test)).collect()
            }
        };
        for (template, plan) in self.templates.iter().zip(&mut plans) {
            if matches!(plan, Plan::Decode | Plan::Both(_))
                && let Some(text) = self.only_text(template)
            {
                *plan = Plan::of_known(Some(test.matches(&text)));
            }
        }
        plans
    }

    fn all_of(&self, phrases: &[crate::predicate::Phrase]) -> Vec<Plan> {
        let all = self.templates.iter().map(|_| Plan::All).collect();
        phrases.iter().fold(all, |plans: Vec<Plan>, phrase| {
            let more = Needle::phrase(phrase, false).trees(self);
            plans.into_iter().zip(more).map(|(plan, tree)| plan.and(Plan::of(tree))).collect()
        })
    }

    /// The ways of an expression through the templates.
    fn along(&self, pattern: &Pattern) -> Vec<Plan> {
        let Some(mut automaton) = Automaton::new(pattern.source()) else {
            return self.templates.iter().map(|_| Plan::Decode).collect();
        };
        let mut bytes = 0;
        let mut way = |template: &Template| {
            let literals = self.literals(template);
            let way = Path::of(&mut automaton, &literals, &template.slots, template.rows);
            if let Some(Outcome::Open(path)) = &way {
                bytes += path.memory_bytes();
            }
            way.filter(|way| bytes <= PATHS_BYTES_MAX || matches!(way, Outcome::Known(_)))
        };
        let ways: Vec<_> = self.templates.iter().map(&mut way).collect();
        // All ways share what the automaton has become in the end.
        let table = Arc::new(automaton.into_table());
        let plan = |way: Option<Outcome>| match way {
            None => Plan::Decode,
            Some(Outcome::Known(known)) => Plan::of_known(Some(known)),
            Some(Outcome::Open(path)) => Plan::Walk(path, table.clone()),
        };
        ways.into_iter().map(plan).collect()
    }

    /// The values that are one of `texts`.
    fn exactly<'t>(&self, texts: impl IntoIterator<Item = &'t str>) -> Vec<Plan> {
        let mut plans: Vec<Plan> = self.templates.iter().map(|_| Plan::None).collect();
        for text in texts {
            let needle = Needle::whole(text);
            for (template, plan) in self.templates.iter().zip(&mut plans) {
                let tree = if text.is_empty() {
                    match self.by_form(template, &FieldTest::Empty) {
                        Plan::All => Tree::All,
                        _ => Tree::None,
                    }
                } else {
                    needle.tree_of_whole(template, self.key(template))
                };
                if !matches!(tree, Tree::None) {
                    *plan = std::mem::replace(plan, Plan::None).or(Plan::of(tree));
                }
            }
        }
        plans
    }

    /// The text of a template's rows, if all have the same.
    fn only_text(&self, template: &Template) -> Option<String> {
        let mut text = Vec::new();
        let literals = self.literals(template);
        for (at, literal) in literals.iter().enumerate() {
            text.extend_from_slice(literal);
            match template.slots.get(at) {
                None => {}
                Some(Slot { kind: Kind::Const(value), .. }) => text.extend_from_slice(value),
                Some(_) => return None,
            }
        }
        String::from_utf8(text).ok()
    }

    /// What the literals say about tests that are about the value as a whole.
    fn by_form(&self, template: &Template, test: &FieldTest) -> Plan {
        let literals = self.literals(template);
        let first = literals.first().copied().unwrap_or_default();
        let slots = template.slots.len();
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
            FieldTest::Ipv4 { .. } if !four_tokens(self.key(template)) => Some(false),
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
