//! Numbers for the different values of a key, and for their combinations.

use std::hash::BuildHasher;

use arrow::array::{Array, ArrayRef, StringArray, StringBuilder, TimestampNanosecondArray};
use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};
use lodge_segment::identifier;
use lodge_store::Groups;

use crate::error::{QueryError, QueryErrorKind};

/// No number.
pub(super) const NONE: u32 = u32::MAX;
/// Combinations are looked up in a table of so many places, if they fit.
const TABLE_PLACES_MAX: usize = 1 << 16;

/// The start of a bucket whose edges are multiples of `step_ns` in a zone `offset_ns` ahead of UTC.
pub(crate) fn bucket_floor(time_ns: i64, step_ns: i64, offset_ns: i64) -> i64 {
    let local = time_ns.saturating_add(offset_ns);
    let start = local.saturating_sub(local.rem_euclid(step_ns.max(1)));
    start.saturating_sub(offset_ns)
}

/// The next number, unless there are too many.
fn next(count: usize) -> Result<u32, QueryError> {
    u32::try_from(count).ok().filter(|number| *number < NONE).ok_or_else(|| {
        QueryError::new(
            QueryErrorKind::BudgetMemory,
            format!("there are more than {count} groups; group by fewer values or filter more"),
        )
    })
}

/// The different values of one key, numbered as they come.
#[derive(Debug)]
pub(super) enum Numbers {
    Texts(Texts),
    Times(Times),
}

/// Different texts, one after the other.
#[derive(Debug, Default)]
pub(super) struct Texts {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    bytes: String,
    /// Where each text ends.
    ends: Vec<usize>,
    /// The number of the absent value.
    null: Option<u32>,
}

/// Different times.
#[derive(Debug, Default)]
pub(super) struct Times {
    known: HashMap<i64, u32>,
    order: Vec<i64>,
}

impl Texts {
    fn get(&self, number: u32) -> &str {
        let place = number as usize;
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before));
        let end = self.ends.get(place).copied().unwrap_or_default();
        self.bytes.get(start.copied().unwrap_or_default()..end).unwrap_or_default()
    }

    fn find(&self, hash: u64, text: &str) -> Option<u32> {
        self.table.find(hash, |number| self.get(*number) == text).copied()
    }

    /// The number of the empty text, if it was there.
    fn empty(&self) -> Option<u32> {
        self.find(self.hasher.hash_one(""), "")
    }

    pub(super) fn number(&mut self, text: Option<&str>) -> Result<u32, QueryError> {
        let Some(text) = text else {
            let number = match self.null {
                Some(number) => number,
                None => self.push("")?,
            };
            self.null = Some(number);
            return Ok(number);
        };
        let hash = self.hasher.hash_one(text);
        if let Some(number) = self.find(hash, text) {
            return Ok(number);
        }
        let number = self.push(text)?;
        let Self { table, hasher, bytes, ends, .. } = self;
        table.insert_unique(hash, number, |number| {
            let place = *number as usize;
            let start = place.checked_sub(1).and_then(|before| ends.get(before));
            let end = ends.get(place).copied().unwrap_or_default();
            let text = bytes.get(start.copied().unwrap_or_default()..end).unwrap_or_default();
            hasher.hash_one(text)
        });
        Ok(number)
    }

    fn push(&mut self, text: &str) -> Result<u32, QueryError> {
        let number = next(self.ends.len())?;
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len());
        Ok(number)
    }

    /// The number of each row's text.
    pub(super) fn codes(&mut self, groups: &Groups) -> Result<Vec<u32>, QueryError> {
        let absent = groups.values.iter().len();
        if groups.are_few() {
            let mut known: HashMap<u32, u32> = HashMap::new();
            let number = |code: &u32| match known.get(code) {
                Some(number) => Ok(*number),
                None => {
                    let place = Some(*code as usize).filter(|place| *place < absent);
                    let number = self.number(place.map(|place| groups.values.value(place)))?;
                    known.insert(*code, number);
                    Ok(number)
                }
            };
            return groups.codes.iter().map(number).collect();
        }
        let mut used = vec![false; absent + 1];
        for code in &groups.codes {
            if let Some(used) = used.get_mut((*code as usize).min(absent)) {
                *used = true;
            }
        }
        let mut numbers = vec![NONE; absent + 1];
        for (place, number) in numbers.iter_mut().enumerate() {
            if used.get(place) == Some(&true) {
                *number = self.number((place < absent).then(|| groups.values.value(place)))?;
            }
        }
        let number = |code: &u32| numbers.get((*code as usize).min(absent)).copied();
        Ok(groups.codes.iter().map(|code| number(code).unwrap_or(NONE)).collect())
    }

    fn bytes(&self) -> usize {
        self.bytes.capacity()
            + self.ends.capacity() * size_of::<usize>()
            + self.table.capacity() * size_of::<u32>()
    }

    fn array(&self, numbers: &[u32]) -> StringArray {
        let mut out = StringBuilder::with_capacity(numbers.len(), numbers.len() * 8);
        for number in numbers {
            out.append_option((Some(*number) != self.null).then(|| self.get(*number)));
        }
        out.finish()
    }
}

impl Times {
    pub(super) fn number(&mut self, time: i64) -> Result<u32, QueryError> {
        if let Some(number) = self.known.get(&time) {
            return Ok(*number);
        }
        let number = next(self.order.len())?;
        self.order.push(time);
        self.known.insert(time, number);
        Ok(number)
    }

    /// The number of each time's bucket. Times of neighbours are mostly near each other.
    pub(super) fn codes(
        &mut self,
        times: &[i64],
        step_ns: i64,
        offset_ns: i64,
    ) -> Result<Vec<u32>, QueryError> {
        let (mut start, mut end, mut number) = (0, 0, NONE);
        let mut codes = Vec::with_capacity(times.len());
        for time in times {
            if !(start..end).contains(time) {
                start = bucket_floor(*time, step_ns, offset_ns);
                end = start.saturating_add(step_ns);
                number = self.number(start)?;
            }
            codes.push(number);
        }
        Ok(codes)
    }
}

impl Numbers {
    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.ends.len(),
            Self::Times(times) => times.order.len(),
        }
    }

    /// Whether a number is that of the absent value.
    pub(super) fn is_null(&self, number: u32) -> bool {
        matches!(self, Self::Texts(texts) if texts.null == Some(number))
    }

    /// The number of the empty text, if it was there.
    pub(super) fn empty(&self) -> Option<u32> {
        match self {
            Self::Texts(texts) => texts.empty(),
            Self::Times(_) => None,
        }
    }

    /// Takes over the values of `other`; gives the new number of each.
    pub(super) fn merge(&mut self, other: &Self) -> Result<Vec<u32>, QueryError> {
        match (self, other) {
            (Self::Texts(texts), Self::Texts(more)) => (0..more.ends.len() as u32)
                .map(|number| texts.number((Some(number) != more.null).then(|| more.get(number))))
                .collect(),
            (Self::Times(times), Self::Times(more)) => {
                more.order.iter().map(|time| times.number(*time)).collect()
            }
            _ => Err(QueryError::internal("two parts of a query have different keys")),
        }
    }

    /// The values with these numbers.
    pub(super) fn array(&self, numbers: &[u32]) -> ArrayRef {
        match self {
            Self::Texts(texts) => std::sync::Arc::new(texts.array(numbers)),
            Self::Times(times) => {
                let time = |number: &u32| times.order.get(*number as usize).copied();
                let times: TimestampNanosecondArray = numbers.iter().map(time).collect();
                std::sync::Arc::new(times)
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.bytes(),
            Self::Times(times) => times.order.capacity() * 4 * size_of::<i64>(),
        }
    }
}

/// Different texts where nothing but their number is wanted.
#[derive(Debug, Default)]
pub(super) struct Different {
    /// Those that are identifiers, as such: see [`identifier`].
    identifiers: HashSet<u128>,
    /// The others.
    texts: Texts,
}

impl Different {
    /// Adds identifiers.
    pub(super) fn add_identifiers(&mut self, more: &[u128]) {
        self.identifiers.extend(more);
    }

    /// Adds the texts that occur.
    pub(super) fn add(&mut self, groups: &Groups) -> Result<(), QueryError> {
        let present = groups.codes.iter().filter(|code| **code != Groups::ABSENT);
        for place in present.map(|code| *code as usize).filter(|at| *at < groups.values.len()) {
            self.add_text(groups.values.value(place))?;
        }
        Ok(())
    }

    pub(super) fn add_text(&mut self, text: &str) -> Result<(), QueryError> {
        match identifier(text) {
            Some(found) => drop(self.identifiers.insert(found)),
            None => drop(self.texts.number(Some(text))?),
        }
        Ok(())
    }

    /// Those that are no identifiers.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        (0..self.texts.ends.len() as u32).map(|number| self.texts.get(number))
    }

    /// The identifiers.
    pub(super) fn identifiers(&self) -> impl Iterator<Item = u128> {
        self.identifiers.iter().copied()
    }

    /// Takes over those of `other`.
    pub(super) fn merge(&mut self, other: &mut Self) -> Result<(), QueryError> {
        if self.identifiers.len() < other.identifiers.len() {
            std::mem::swap(&mut self.identifiers, &mut other.identifiers);
        }
        self.identifiers.extend(other.identifiers.drain());
        (0..other.texts.ends.len() as u32)
            .try_for_each(|number| self.texts.number(Some(other.texts.get(number))).map(drop))
    }

    /// How many there are; `empty`: whether the empty text counts.
    pub(super) fn count(&self, empty: bool) -> usize {
        let left_out = !empty && self.texts.empty().is_some();
        self.identifiers.len() + self.texts.ends.len() - usize::from(left_out)
    }

    pub(super) fn bytes(&self) -> usize {
        // An entry and its byte of the table.
        self.identifiers.capacity() * (size_of::<u128>() + 1) + self.texts.bytes()
    }
}

/// Combinations of what is left of a key with the key, numbered as they come.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    known: HashMap<(u32, u32), u32>,
    order: Vec<(u32, u32)>,
}

impl Pairs {
    pub(super) fn number(&mut self, pair: (u32, u32)) -> Result<u32, QueryError> {
        if let Some(number) = self.known.get(&pair) {
            return Ok(*number);
        }
        let number = next(self.order.len())?;
        self.order.push(pair);
        self.known.insert(pair, number);
        Ok(number)
    }

    /// Puts the number of each pair into `left`; `lefts` and `rights` exceed all of their numbers.
    pub(super) fn combine(
        &mut self,
        left: &mut [u32],
        lefts: usize,
        right: &[u32],
        rights: &Numbers,
    ) -> Result<(), QueryError> {
        let rights = rights.len();
        let places = lefts.saturating_mul(rights);
        // A small table pays if there are rows enough to use it.
        if places <= TABLE_PLACES_MAX && places <= left.len().saturating_mul(4) {
            let mut table = vec![NONE; places];
            for (left, right) in left.iter_mut().zip(right) {
                let place = *left as usize * rights + *right as usize;
                let known = table.get(place).copied().unwrap_or(NONE);
                if known != NONE {
                    *left = known;
                    continue;
                }
                *left = self.number((*left, *right))?;
                if let Some(slot) = table.get_mut(place) {
                    *slot = *left;
                }
            }
            return Ok(());
        }
        let mut last = ((NONE, NONE), NONE);
        for (left, right) in left.iter_mut().zip(right) {
            let pair = (*left, *right);
            if last.0 != pair {
                last = (pair, self.number(pair)?);
            }
            *left = last.1;
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.order.iter().copied()
    }

    /// Takes over the pairs of `other`, whose sides have new numbers; gives the new number of each.
    pub(super) fn merge(
        &mut self,
        other: &Self,
        left: &[u32],
        right: &[u32],
    ) -> Result<Vec<u32>, QueryError> {
        let new = |numbers: &[u32], old: u32| numbers.get(old as usize).copied().unwrap_or(NONE);
        let pairs = other.order.iter().map(|(l, r)| (new(left, *l), new(right, *r)));
        pairs.map(|pair| self.number(pair)).collect()
    }

    /// Both sides of the pairs with these numbers.
    pub(super) fn sides(&self, numbers: &[u32]) -> (Vec<u32>, Vec<u32>) {
        let pair = |number: &u32| self.order.get(*number as usize).copied();
        numbers.iter().map(|number| pair(number).unwrap_or((NONE, NONE))).unzip()
    }

    pub(super) fn bytes(&self) -> usize {
        self.order.capacity() * 8 + self.known.capacity() * 16
    }
}
