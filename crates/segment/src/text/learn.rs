//! Templates out of texts.
//!
//! Texts are alike if they have the same bytes between their tokens. Among those that are, one row of
//! words after the other joins the cluster with which it shares most of its words (after Drain, He et
//! al., ICWS '17); where the words of a cluster differ its template has a slot. A cluster of few rows
//! of words that all are frequent stays as it is, a template for each: they are most likely different
//! events, and the number of templates is not at stake.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::hash::BuildHasher;

use super::tokens::{Shape, Span, split};
use super::{MARK_ANY, MARK_TOKEN, MARK_UUID};

/// Texts with more slots are not split.
pub(super) const SLOTS_MAX: usize = 64;
/// Texts with more tokens are not split.
const TOKENS_MAX: usize = 512;
/// Rows from which on a template pays.
const TEMPLATE_ROWS_MIN: usize = 8;
/// Clusters of texts that are alike; what would need more of them gets no template.
const CLUSTERS_MAX: usize = 128;
/// Up to so many frequent rows of words stay apart.
const APART_MAX: usize = 3;

/// Stands for a token with a digit, and for a UUID, in a row of words.
const NUMBER: u32 = 0;
/// Stands for any token.
const ANY: u32 = 1;

type Map<K, V> = HashMap<K, V, RandomState>;

/// Texts with the same bytes between their tokens.
#[derive(Default)]
struct Group {
    /// The bytes of one of them, and its tokens.
    text: Vec<u8>,
    spans: Vec<Span>,
    /// The distinct rows of words with their number of rows, in order of appearance.
    rows: Vec<(Vec<u32>, usize)>,
    places: Map<Vec<u32>, usize>,
}

/// What a row of words joins.
struct Cluster {
    words: Vec<u32>,
    members: Vec<usize>,
}

/// Learns from texts, then tells the keys of their templates.
#[derive(Default)]
pub(super) struct Learner {
    hasher: RandomState,
    groups: Vec<Group>,
    /// By the hash of what is between tokens.
    by_hash: Map<u64, Vec<usize>>,
    words: Vec<Vec<u8>>,
    word_of: Map<Vec<u8>, u32>,
    spans: Vec<Span>,
    row: Vec<u32>,
    between: Vec<u8>,
}

impl Learner {
    pub(super) fn add(&mut self, text: &[u8]) {
        split(text, &mut self.spans);
        if self.spans.len() > TOKENS_MAX {
            return;
        }
        self.row.clear();
        for span in &self.spans {
            let token = text.get(span.start..span.end).unwrap_or_default();
            let no = if span.shape != Shape::Word {
                NUMBER
            } else if let Some(no) = self.word_of.get(token) {
                *no
            } else {
                let no = ANY + 1 + self.words.len() as u32;
                self.words.push(token.to_vec());
                self.word_of.insert(token.to_vec(), no);
                no
            };
            self.row.push(no);
        }
        between(text, &self.spans, &mut self.between);
        let hash = self.hasher.hash_one(self.between.as_slice());
        let (groups, wanted) = (&self.groups, &self.between);
        let known = self.by_hash.entry(hash).or_default();
        let mut other = Vec::new();
        let same = known.iter().copied().find(|no| {
            groups.get(*no).is_some_and(|group| {
                between(&group.text, &group.spans, &mut other);
                other == *wanted
            })
        });
        let no = same.unwrap_or_else(|| {
            let (text, spans) = (text.to_vec(), self.spans.clone());
            known.push(self.groups.len());
            self.groups.push(Group { text, spans, ..Group::default() });
            self.groups.len() - 1
        });
        let Some(group) = self.groups.get_mut(no) else { return };
        let next = group.rows.len();
        let at = match group.places.get(self.row.as_slice()) {
            Some(at) => *at,
            None => {
                group.places.insert(self.row.clone(), next);
                group.rows.push((self.row.clone(), 0));
                next
            }
        };
        if let Some((_, count)) = group.rows.get_mut(at) {
            *count += 1;
        }
    }

    /// Hands out the key of each template.
    pub(super) fn templates(&self, mut each: impl FnMut(&[u8])) {
        let mut key = Vec::new();
        for group in &self.groups {
            for cluster in clusters(&group.rows) {
                let count = |no: &usize| group.rows.get(*no).map_or(0, |(_, count)| *count);
                let rows: usize = cluster.members.iter().map(count).sum();
                if rows < TEMPLATE_ROWS_MIN {
                    continue;
                }
                let frequent = |no: &usize| count(no) >= TEMPLATE_ROWS_MIN;
                let apart = cluster.members.len() <= APART_MAX
                    && cluster.members.iter().all(frequent)
                    && !self.mixes_numbers(group, &cluster);
                if apart {
                    for no in &cluster.members {
                        let words = group.rows.get(*no).map_or(&[][..], |(words, _)| words);
                        if self.key(group, words, &mut key) {
                            each(&key);
                        }
                    }
                } else if self.key(group, &cluster.words, &mut key) {
                    each(&key);
                }
            }
        }
    }

    /// Whether some row has a number where another has a word.
    fn mixes_numbers(&self, group: &Group, cluster: &Cluster) -> bool {
        let any = || cluster.words.iter().enumerate().filter(|(_, word)| **word == ANY);
        cluster.members.iter().filter_map(|no| group.rows.get(*no)).any(|(words, _)| {
            any().any(|(at, _)| words.get(at).is_some_and(|word| *word == NUMBER))
        })
    }

    /// Writes a template's key. Gives whether it has few enough slots.
    fn key(&self, group: &Group, words: &[u32], key: &mut Vec<u8>) -> bool {
        key.clear();
        let (mut at, mut slots) = (0, 0);
        for (span, word) in group.spans.iter().zip(words) {
            key.extend_from_slice(group.text.get(at..span.start).unwrap_or_default());
            at = span.end;
            slots += usize::from(*word <= ANY);
            match *word {
                NUMBER if span.shape == Shape::Uuid => key.push(MARK_UUID),
                NUMBER => key.push(MARK_TOKEN),
                ANY => key.push(MARK_ANY),
                word => {
                    let word = self.words.get((word - ANY - 1) as usize);
                    key.extend_from_slice(word.map_or(&[], Vec::as_slice));
                }
            }
        }
        key.extend_from_slice(group.text.get(at..).unwrap_or_default());
        slots <= SLOTS_MAX
    }
}

/// Writes what is between tokens, with a mark for each of them. It holds no digit beside the marks.
fn between(text: &[u8], spans: &[Span], out: &mut Vec<u8>) {
    out.clear();
    let mut at = 0;
    for span in spans {
        out.extend_from_slice(text.get(at..span.start).unwrap_or_default());
        out.push(if span.shape == Shape::Uuid { MARK_UUID } else { MARK_TOKEN });
        at = span.end;
    }
    out.extend_from_slice(text.get(at..).unwrap_or_default());
}

/// Puts together the rows that share at least half of their words.
fn clusters(rows: &[(Vec<u32>, usize)]) -> Vec<Cluster> {
    let mut clusters: Vec<Cluster> = Vec::new();
    for (no, (row, _)) in rows.iter().enumerate() {
        let shared = |cluster: &Cluster| {
            let (mut equal, mut words) = (0, 0);
            for (a, b) in cluster.words.iter().zip(row) {
                equal += usize::from(a == b && *a != NUMBER);
                words += usize::from(*a != NUMBER || *b != NUMBER);
            }
            (equal * 2 >= words && equal > 0).then_some(equal)
        };
        let best = clusters.iter().enumerate().filter_map(|(at, c)| Some((shared(c)?, at)));
        let best = best.max_by_key(|(equal, _)| *equal);
        let room = clusters.len() < CLUSTERS_MAX;
        match best.and_then(|(_, at)| clusters.get_mut(at)) {
            Some(cluster) => {
                cluster.members.push(no);
                for (a, b) in cluster.words.iter_mut().zip(row) {
                    if *a != *b {
                        *a = ANY;
                    }
                }
            }
            None if room => {
                clusters.push(Cluster { words: row.clone(), members: vec![no] });
            }
            None => {}
        }
    }
    clusters
}
