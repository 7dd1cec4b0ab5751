//! The ledger: what was sent, and what the service is bound to by its acknowledgement.
//!
//! Two kinds of sources make two kinds of promises:
//! * a *file* source is bound by writing: a line in a file that an agent tails must be there in the
//!   end exactly once, however often agent and server die;
//! * a *request* source is bound by the answer: acknowledged lines must be there exactly once; a
//!   request without an answer may be there whole or not at all; a refused one must not be there;
//!   one that was sent again may be there, whole, once for each time that it was not answered, or
//!   once if it carries a key; of one that is taken in parts any part may be there without an answer.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::far_end::Found;
use crate::mint::LineId;

/// How many examples of each trouble a judgement keeps.
const EXAMPLES_MAX: usize = 5;

/// What is known about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No answer (yet): it may have been carried out.
    Unknown,
    /// Answered with success.
    Acknowledged,
    /// Refused by a 4xx answer, or never sent because there was no connection.
    Refused,
}

/// A handle to a request's entry.
#[derive(Debug, Clone, Copy)]
pub struct RequestId {
    source: u16,
    index: usize,
}

/// The books of one run; shared between threads.
#[derive(Debug, Default)]
pub struct Ledger {
    sources: Mutex<Vec<Source>>,
}

#[derive(Debug)]
struct Source {
    name: String,
    kind: Kind,
    terms: Terms,
}

/// What is agreed on with a source of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// Its requests carry keys: each is there once at most, however often it was repeated.
    pub is_keyed: bool,
    /// Its requests are taken in parts, so that one without an answer may be there in part.
    pub is_in_parts: bool,
}

/// What became of one source.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Requests that were acknowledged.
    pub acknowledged: u64,
    /// Requests that had no answer to at least one of their attempts.
    pub unanswered: u64,
    /// Those that were never answered and are there, if only in part.
    pub unanswered_there: u64,
    /// The comparison of its books with the far end.
    pub judgement: Judgement,
}

#[derive(Debug)]
enum Kind {
    File { written: u64 },
    Requests { next: u64, requests: Vec<Request> },
}

#[derive(Debug, Clone, Copy)]
struct Request {
    first: u64,
    count: u64,
    outcome: Outcome,
    /// How often it was sent without an answer before it was sent again.
    unanswered: u64,
}

/// What the comparison of the books with the far end says. All zero is good.
#[derive(Debug, Default, Clone)]
pub struct Judgement {
    /// Lines that were sent in any way.
    pub sent: u64,
    /// Lines that the service is bound to keep.
    pub acknowledged: u64,
    /// Acknowledged lines that are not there.
    pub lost: u64,
    /// Lines that are there and were never sent, or were refused.
    pub invented: u64,
    /// Lines whose content is not what was sent.
    pub corrupted: u64,
    /// Surplus copies.
    pub doubled: u64,
    /// Requests of which only a part is there, though all of it or nothing must be.
    pub torn: u64,
    /// Copies that are there by right, because a client without an identity sent them again.
    pub repeated: u64,
    /// The first few troubles, for a person.
    pub examples: Vec<String>,
}

impl Judgement {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.lost + self.invented + self.corrupted + self.doubled + self.torn == 0
    }

    /// Adds what another comparison found.
    pub fn add(&mut self, other: Judgement) {
        self.sent += other.sent;
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.invented += other.invented;
        self.corrupted += other.corrupted;
        self.doubled += other.doubled;
        self.torn += other.torn;
        self.repeated += other.repeated;
        let room = (2 * EXAMPLES_MAX).saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }

    /// All counts in a line, for a person.
    pub fn counts(&self) -> String {
        format!(
            "{} acknowledged, {} lost, {} invented, {} corrupted, {} doubled, {} torn",
            self.acknowledged, self.lost, self.invented, self.corrupted, self.doubled, self.torn,
        )
    }

    fn example(&mut self, so_far: u64, text: impl FnOnce() -> String) {
        if so_far <= EXAMPLES_MAX as u64 {
            self.examples.push(text());
        }
    }
}

impl Ledger {
    /// Opens the books of a file source and gives its index.
    pub fn open_file(&self, name: &str) -> u16 {
        self.open(name, Kind::File { written: 0 })
    }

    /// Opens the books of a request source and gives its index.
    pub fn open_requests(&self, name: &str) -> u16 {
        self.open(name, Kind::Requests { next: 0, requests: Vec::new() })
    }

    /// As [`Self::open_requests`], of requests that carry a key: each is there once at most, however
    /// often it was repeated.
    pub fn open_keyed(&self, name: &str) -> u16 {
        self.open_on_terms(name, Terms { is_keyed: true, ..Terms::default() })
    }

    /// As [`Self::open_requests`], on these terms.
    pub fn open_on_terms(&self, name: &str, terms: Terms) -> u16 {
        let index = self.open_requests(name);
        self.lock()[usize::from(index)].terms = terms;
        index
    }

    /// The name a source was opened with.
    pub fn name(&self, source: u16) -> String {
        self.lock()[usize::from(source)].name.clone()
    }

    /// The number of sources.
    pub fn sources(&self) -> usize {
        self.lock().len()
    }

    /// Notes that the next `count` lines of a file source are in the file, line ends included.
    pub fn written(&self, source: u16, count: u64) {
        match &mut self.lock()[usize::from(source)].kind {
            Kind::File { written } => *written += count,
            Kind::Requests { .. } => panic!("source {source} sends requests, it writes no file"),
        }
    }

    /// Notes, before it is sent, a request with the next `count` lines. Gives its handle and the
    /// number of its first line.
    pub fn sending(&self, source: u16, count: u64) -> (RequestId, u64) {
        match &mut self.lock()[usize::from(source)].kind {
            Kind::Requests { next, requests } => {
                let first = *next;
                *next += count;
                requests.push(Request { first, count, outcome: Outcome::Unknown, unanswered: 0 });
                (RequestId { source, index: requests.len() - 1 }, first)
            }
            Kind::File { .. } => panic!("source {source} writes a file, it sends no requests"),
        }
    }

    /// Notes what became of a request.
    pub fn settled(&self, id: RequestId, outcome: Outcome) {
        if let Kind::Requests { requests, .. } = &mut self.lock()[usize::from(id.source)].kind {
            requests[id.index].outcome = outcome;
        }
    }

    /// Notes that a request without an answer is about to be sent again.
    pub fn repeating(&self, id: RequestId) {
        if let Kind::Requests { requests, .. } = &mut self.lock()[usize::from(id.source)].kind {
            requests[id.index].unanswered += 1;
        }
    }

    /// The line that a source will write or send next.
    pub fn next_line(&self, source: u16) -> LineId {
        let number = match &self.lock()[usize::from(source)].kind {
            Kind::File { written } => *written,
            Kind::Requests { next, .. } => *next,
        };
        LineId { source, number }
    }

    /// The last acknowledged line of a request source.
    pub fn last_acknowledged(&self, source: u16) -> Option<LineId> {
        match &self.lock()[usize::from(source)].kind {
            Kind::File { .. } => None,
            Kind::Requests { requests, .. } => requests
                .iter()
                .rev()
                .find(|r| r.outcome == Outcome::Acknowledged)
                .map(|r| LineId { source, number: r.first + r.count - 1 }),
        }
    }

    /// Lines that the service is bound to keep so far.
    pub fn acknowledged(&self) -> u64 {
        self.lock()
            .iter()
            .map(|source| match &source.kind {
                Kind::File { written } => *written,
                Kind::Requests { requests, .. } => requests
                    .iter()
                    .filter(|r| r.outcome == Outcome::Acknowledged)
                    .map(|r| r.count)
                    .sum(),
            })
            .sum()
    }

    /// Compares the books with what was read back. Nothing may be in flight.
    pub fn judge(&self, found: &Found) -> Judgement {
        let mut verdict = Judgement {
            invented: found.foreign,
            corrupted: found.corrupted,
            examples: found.examples.clone(),
            ..Judgement::default()
        };
        let sources = self.lock();
        for (index, source) in sources.iter().enumerate() {
            judge_source(index as u16, source, found, &mut verdict);
        }
        let unknown = found.copies_outside(sources.len());
        verdict.invented += unknown;
        if unknown > 0 {
            verdict.examples.push(format!("{unknown} lines of sources that do not exist"));
        }
        verdict
    }

    /// As [`Self::judge`], of each source by itself. What belongs to none is in none of these.
    pub fn judge_each(&self, found: &Found) -> Vec<Account> {
        let sources = self.lock();
        let each = sources.iter().enumerate();
        each.map(|(index, source)| account(index as u16, source, found)).collect()
    }

    fn open(&self, name: &str, kind: Kind) -> u16 {
        let mut sources = self.lock();
        sources.push(Source { name: name.to_owned(), kind, terms: Terms::default() });
        u16::try_from(sources.len() - 1).expect("a run has a handful of sources")
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Source>> {
        // The books stay usable after a writer thread panicked: the verdict is still wanted.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn account(index: u16, source: &Source, found: &Found) -> Account {
    let corrupted = found.corrupted_of(index);
    let mut judgement = Judgement { corrupted, ..Judgement::default() };
    judge_source(index, source, found, &mut judgement);
    let requests = match &source.kind {
        Kind::File { .. } => &[][..],
        Kind::Requests { requests, .. } => requests,
    };
    let is_there = |request: &Request| {
        let mut numbers = request.first..request.first + request.count;
        numbers.any(|number| found.copies(LineId { source: index, number }) > 0)
    };
    let unknown = |request: &&Request| request.outcome == Outcome::Unknown;
    let count = |matching: usize| matching as u64;
    Account {
        name: source.name.clone(),
        acknowledged: count(requests.iter().filter(|r| r.outcome == Outcome::Acknowledged).count()),
        unanswered: count(
            requests.iter().filter(|r| r.outcome == Outcome::Unknown || r.unanswered > 0).count(),
        ),
        unanswered_there: count(requests.iter().filter(unknown).filter(|r| is_there(r)).count()),
        judgement,
    }
}

fn judge_source(index: u16, source: &Source, found: &Found, verdict: &mut Judgement) {
    let sent = match &source.kind {
        Kind::File { written } => {
            verdict.acknowledged += written;
            judge_file(index, source, *written, found, verdict);
            *written
        }
        Kind::Requests { next, requests } => {
            for request in requests {
                judge_request(index, source, request, found, verdict);
            }
            *next
        }
    };
    verdict.sent += sent;
    judge_copies(index, source, sent, found, verdict);
}

fn judge_file(index: u16, source: &Source, written: u64, found: &Found, verdict: &mut Judgement) {
    for number in 0..written {
        if found.copies(LineId { source: index, number }) == 0 {
            verdict.lost += 1;
            let lost = verdict.lost;
            verdict.example(lost, || format!("lost: line {number} of file {}", source.name));
        }
    }
}

fn judge_request(
    index: u16,
    source: &Source,
    request: &Request,
    found: &Found,
    verdict: &mut Judgement,
) {
    let Request { first, count, outcome, unanswered } = *request;
    let copies = |number| found.copies(LineId { source: index, number });
    let there = (first..first + count).filter(|&number| copies(number) > 0).count() as u64;
    let what = || format!("lines {first}..{} of {}: {there} are there", first + count, source.name);
    match outcome {
        Outcome::Acknowledged => {
            verdict.acknowledged += count;
            verdict.lost += count - there;
            if there < count {
                let lost = verdict.lost;
                verdict.example(lost, || format!("lost: acknowledged {}", what()));
            }
        }
        Outcome::Unknown if source.terms.is_in_parts => {}
        Outcome::Unknown if there > 0 && there < count => {
            verdict.torn += 1;
            let torn = verdict.torn;
            verdict.example(torn, || format!("torn: unanswered {}", what()));
        }
        Outcome::Refused if there > 0 && unanswered > 0 => {}
        Outcome::Refused if there > 0 => {
            verdict.invented += there;
            let invented = verdict.invented;
            verdict.example(invented, || format!("invented: refused {}", what()));
        }
        Outcome::Unknown | Outcome::Refused => {}
    }
    judge_repeats(source, request, copies, verdict);
}

/// A request may be there once for each time that it may have been carried out, each time whole; one
/// with a key once.
fn judge_repeats(
    source: &Source,
    request: &Request,
    copies: impl Fn(u64) -> u64,
    verdict: &mut Judgement,
) {
    let Request { first, count, outcome, unanswered } = *request;
    let last = u64::from(outcome != Outcome::Refused);
    let allowed = if source.terms.is_keyed { 1 } else { (unanswered + last).max(1) };
    let least = (first..first + count).map(&copies).min().unwrap_or(0);
    let most = (first..first + count).map(&copies).max().unwrap_or(0);
    if most <= 1 {
        return;
    }
    verdict.repeated += count * (least.min(allowed).saturating_sub(1));
    if most <= allowed && most > least {
        verdict.torn += 1;
        let torn = verdict.torn;
        let name = &source.name;
        verdict.example(torn, || {
            format!("torn: lines {first}.. of {name} are there {least} to {most} times")
        });
    }
    for number in first..first + count {
        if copies(number) > allowed {
            verdict.doubled += copies(number) - allowed;
            let (doubled, name, copies) = (verdict.doubled, &source.name, copies(number));
            verdict.example(doubled, || {
                format!("doubled: line {number} of {name} is there {copies} times")
            });
        }
    }
}

fn judge_copies(index: u16, source: &Source, sent: u64, found: &Found, verdict: &mut Judgement) {
    for (number, copies) in found.numbers(index) {
        if number >= sent {
            verdict.invented += copies;
            let invented = verdict.invented;
            verdict.example(invented, || {
                format!("invented: line {number} of {}, which sent only {sent}", source.name)
            });
        } else if copies > 1 && matches!(source.kind, Kind::File { .. }) {
            verdict.doubled += copies - 1;
            let doubled = verdict.doubled;
            verdict.example(doubled, || {
                format!("doubled: line {number} of {} is there {copies} times", source.name)
            });
        }
    }
}
