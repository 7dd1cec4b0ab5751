//! What an aggregate keeps of one group, and how parts of it travel between the parts of a query.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use hashbrown::HashSet;
use lodge_record::overflow;
use serde::{Deserialize, Serialize};

use super::histogram;

/// Rows beyond a limit that are kept before the worst ones are dropped.
const SLACK_ROWS: usize = 64;
/// What an entry of a set takes beside its text.
const ENTRY_BYTES: usize = 24;

/// How rows are ordered by a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// The least first.
    Least,
    /// The greatest first.
    Greatest,
}

/// A text, with keys by which it is chosen or ordered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) text: String,
}

impl Item {
    pub(super) fn text(text: String) -> Self {
        Self { keys: Vec::new(), text }
    }

    fn bytes(&self) -> usize {
        let keys = self.keys.iter().map(|key| key.len() + size_of::<Vec<u8>>());
        size_of::<Self>() + self.text.len() + keys.sum::<usize>()
    }

    /// `length (4) | key`, for every key, and the text.
    fn part(&self) -> Vec<u8> {
        let mut part = Vec::with_capacity(self.bytes());
        for key in &self.keys {
            part.extend((key.len() as u32).to_le_bytes());
            part.extend(key);
        }
        part.extend(self.text.as_bytes());
        part
    }

    fn of_part(mut part: &[u8], keys: usize) -> Option<Self> {
        let mut found = Vec::with_capacity(keys);
        for _ in 0..keys {
            let (length, rest) = part.split_first_chunk::<4>()?;
            let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            found.push(key.to_vec());
            part = rest;
        }
        Some(Self { keys: found, text: std::str::from_utf8(part).ok()?.to_owned() })
    }
}

fn compare(one: &[Vec<u8>], other: &[Vec<u8>], orders: &[Order]) -> Ordering {
    let mut pairs = one.iter().zip(other).zip(orders).map(|((one, other), order)| match order {
        Order::Least => one.cmp(other),
        Order::Greatest => other.cmp(one),
    });
    pairs.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// Puts items in order and drops those beyond the limit.
pub(super) fn arrange(items: &mut Vec<Item>, orders: &[Order], limit: Option<usize>) {
    if !orders.is_empty() {
        items.sort_by(|one, other| compare(&one.keys, &other.keys, orders));
    }
    items.truncate(limit.unwrap_or(usize::MAX));
}

/// Texts as a JSON array: as they are if they are JSON, else as strings.
pub(super) fn json_array<'t>(texts: impl IntoIterator<Item = &'t str>, raw: bool) -> String {
    let mut json = String::from("[");
    for (index, text) in texts.into_iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        if raw {
            json.push_str(text);
        } else {
            overflow::push_json_string(&mut json, text);
        }
    }
    json.push(']');
    json
}

/// How many numbers there were, their mean, and the sum of the squares of what they differ from it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, number: f64) {
        self.merge(Self { count: 1.0, mean: number, squares: 0.0 });
    }

    /// As Chan, Golub and LeVeque have it, so that nothing is lost where the numbers are large and
    /// close to each other.
    fn merge(&mut self, other: Self) {
        if other.count == 0.0 {
            return;
        }
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        self.squares += other.squares + apart * apart * self.count * other.count / count;
        self.mean += apart * other.count / count;
        self.count = count;
    }

    /// The standard deviation of all the numbers there were.
    pub(super) fn deviation(&self) -> Option<f64> {
        (self.count > 0.0).then(|| (self.squares / self.count).max(0.0).sqrt())
    }
}

/// What is kept of a group.
#[derive(Debug)]
pub(super) enum Kept {
    Items(Vec<Item>),
    Set(HashSet<Box<str>>),
    One(Option<Item>),
    Buckets(BTreeMap<i16, u64>),
    Moments(Moments),
}

impl Kept {
    /// How many things are kept.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Items(items) => items.len(),
            Self::Set(set) => set.len(),
            Self::One(item) => usize::from(item.is_some()),
            Self::Buckets(buckets) => buckets.len(),
            Self::Moments(_) => 1,
        }
    }

    /// Bytes beyond those of this value itself.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Items(items) => items.iter().map(Item::bytes).sum(),
            Self::Set(set) => set.iter().map(|text| text.len() + ENTRY_BYTES).sum(),
            Self::One(item) => item.as_ref().map_or(0, Item::bytes),
            Self::Buckets(buckets) => buckets.len() * size_of::<(i16, u64)>() * 2,
            Self::Moments(_) => 0,
        }
    }

    /// Adds one of many; gives how many bytes more are kept.
    pub(super) fn push(&mut self, item: Item, orders: &[Order], limit: Option<usize>) -> isize {
        let Self::Items(items) = self else { return 0 };
        let full = limit.is_some_and(|limit| items.len() >= limit);
        if full && orders.is_empty() {
            return 0;
        }
        let mut grown = item.bytes() as isize;
        items.push(item);
        let Some(limit) = limit else { return grown };
        if items.len() >= limit.saturating_mul(2).saturating_add(SLACK_ROWS) {
            let before: usize = items.iter().map(Item::bytes).sum();
            arrange(items, orders, Some(limit));
            let after: usize = items.iter().map(Item::bytes).sum();
            grown -= before.saturating_sub(after) as isize;
        }
        grown
    }

    /// Adds to a set; gives how many bytes more are kept.
    pub(super) fn insert(&mut self, text: &str, limit: Option<usize>) -> isize {
        let Self::Set(set) = self else { return 0 };
        let full = limit.is_some_and(|limit| set.len() >= limit);
        if full || set.contains(text) {
            return 0;
        }
        set.insert(text.into());
        (text.len() + ENTRY_BYTES) as isize
    }

    /// Whether an item with these keys would be chosen over the one that is kept.
    pub(super) fn is_better(&self, keys: &[Vec<u8>], orders: &[Order]) -> bool {
        match self {
            Self::One(Some(known)) => compare(keys, &known.keys, orders).is_lt(),
            _ => true,
        }
    }

    /// Keeps this one thing; gives how many bytes more are kept.
    pub(super) fn replace(&mut self, item: Item) -> isize {
        let Self::One(kept) = self else { return 0 };
        let before = kept.as_ref().map_or(0, Item::bytes);
        let after = item.bytes();
        *kept = Some(item);
        after as isize - before as isize
    }

    pub(super) fn add_number(&mut self, number: f64) {
        match self {
            Self::Buckets(buckets) => {
                if let Some(bucket) = histogram::bucket(number) {
                    *buckets.entry(bucket).or_default() += 1;
                }
            }
            Self::Moments(moments) => moments.add(number),
            _ => {}
        }
    }

    /// Calls `each` with everything that is kept, part by part.
    pub(super) fn each_part(&self, mut each: impl FnMut(&[u8])) {
        match self {
            Self::Items(items) => items.iter().for_each(|item| each(&item.part())),
            Self::Set(set) => set.iter().for_each(|text| each(text.as_bytes())),
            Self::One(item) => item.iter().for_each(|item| each(&item.part())),
            Self::Buckets(buckets) => buckets.iter().for_each(|(bucket, hits)| {
                let mut part = bucket.to_le_bytes().to_vec();
                part.extend(hits.to_le_bytes());
                each(&part);
            }),
            Self::Moments(Moments { count, mean, squares }) => {
                let part: Vec<u8> = [count, mean, squares]
                    .into_iter()
                    .flat_map(|part| part.to_le_bytes())
                    .collect();
                each(&part);
            }
        }
    }

    /// Adds a part of another one; gives how many bytes more are kept, `None` if it is no part.
    pub(super) fn merge_part(
        &mut self,
        part: &[u8],
        orders: &[Order],
        limit: Option<usize>,
    ) -> Option<isize> {
        match self {
            Self::Items(_) => {
                let item = Item::of_part(part, orders.len())?;
                Some(self.push(item, orders, limit))
            }
            Self::Set(_) => Some(self.insert(std::str::from_utf8(part).ok()?, limit)),
            Self::One(_) => {
                let item = Item::of_part(part, orders.len())?;
                let better = self.is_better(&item.keys, orders);
                Some(if better { self.replace(item) } else { 0 })
            }
            Self::Buckets(buckets) => {
                let (bucket, hits) = part.split_first_chunk::<2>()?;
                let hits = u64::from_le_bytes(hits.try_into().ok()?);
                let known = buckets.entry(i16::from_le_bytes(*bucket)).or_default();
                *known = known.saturating_add(hits);
                Some(0)
            }
            Self::Moments(moments) => {
                let (count, rest) = part.split_first_chunk::<8>()?;
                let (mean, squares) = rest.split_first_chunk::<8>()?;
                moments.merge(Moments {
                    count: f64::from_le_bytes(*count),
                    mean: f64::from_le_bytes(*mean),
                    squares: f64::from_le_bytes(squares.try_into().ok()?),
                });
                Some(0)
            }
        }
    }
}
