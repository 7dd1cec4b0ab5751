//! Records out of lines that stand in their file in another shape than they are read in: the
//! entries of container logs, of which two outputs are mixed and lines are split, and lines that
//! were decoded from UTF-16.
//!
//! Sans-I/O. Each output has a lane of its own, in which parts are put together to lines and lines
//! are joined to records. Invariants:
//! - a record is given out only up to an offset that no other record spans, so that reading can
//!   begin again at that offset without losing or doubling a line of the other lane;
//! - a record keeps at most the line limit; the length of what it was is counted on.

use std::borrow::Cow;

use lodge_record::limits::LINE_BYTES_MAX;

use crate::frame::Passed;
use crate::trace::{JOINED_BYTES_MAX, JOINED_LINES_MAX, Joiner, Role, Rule};

/// A record of one lane ends when another lane is later than it by more than this.
const SETTLE_NS: i64 = 1_000_000_000;
/// The same of a line of which only a part has come.
const SETTLE_PART_NS: i64 = 5_000_000_000;

/// Standard output, standard error, and what names neither.
pub const LANES: usize = 3;

/// A line, or a part of one, at its place in the file.
#[derive(Debug)]
pub struct Piece<'c> {
    /// Which lane it belongs to, below [`LANES`].
    pub lane: usize,
    /// Its text.
    pub text: Cow<'c, [u8]>,
    /// The bytes it was decoded from, where they cannot be told from the text.
    pub raw: Option<&'c [u8]>,
    /// The line goes on in the lane's next piece.
    pub partial: bool,
    /// When it was written, if its entry says so.
    pub time_ns: Option<i64>,
    /// Where it begins in the file.
    pub start: u64,
    /// Where the next one begins.
    pub end: u64,
}

/// A record put together.
#[derive(Debug, Default)]
pub struct Record {
    /// The lane it came from.
    pub lane: usize,
    /// Its text, at most the line limit.
    pub text: Vec<u8>,
    /// The bytes that it was decoded from, where they cannot be told from the text.
    pub raw: Vec<u8>,
    /// Length of the whole text.
    pub original_bytes: u64,
    /// How many lines were joined.
    pub lines: u32,
    /// When its first line was written, if that is known.
    pub time_ns: Option<i64>,
    start: u64,
    end: u64,
    last_ns: i64,
    first_line_bytes: usize,
}

impl Record {
    fn begin(piece: &Piece<'_>) -> Self {
        Record {
            lane: piece.lane,
            time_ns: piece.time_ns,
            start: piece.start,
            lines: 1,
            ..Record::default()
        }
    }

    fn add_piece(&mut self, piece: &Piece<'_>) {
        self.add_text(&piece.text, piece.text.len() as u64);
        let room = LINE_BYTES_MAX.saturating_sub(self.raw.len());
        let raw = piece.raw.unwrap_or_default();
        self.raw.extend_from_slice(raw.get(..raw.len().min(room)).unwrap_or_default());
        self.end = piece.end;
        self.last_ns = piece.time_ns.unwrap_or(0);
    }

    fn add_text(&mut self, text: &[u8], original_bytes: u64) {
        let room = LINE_BYTES_MAX.saturating_sub(self.text.len());
        self.text.extend_from_slice(text.get(..text.len().min(room)).unwrap_or_default());
        self.original_bytes += original_bytes;
    }

    fn add_line(&mut self, line: Record) {
        self.add_text(b"\n", 1);
        self.add_text(&line.text, line.original_bytes);
        let room = LINE_BYTES_MAX.saturating_sub(self.raw.len());
        self.raw.extend_from_slice(line.raw.get(..line.raw.len().min(room)).unwrap_or_default());
        self.end = line.end;
        self.last_ns = line.last_ns;
        self.lines += 1;
    }

    fn first_line(&self) -> &[u8] {
        self.text.get(..self.first_line_bytes).unwrap_or_default()
    }

    fn bytes(&self) -> usize {
        self.text.len() + self.raw.len()
    }

    fn without_line_end(mut self) -> Self {
        // Of a text that was cut the end is not known.
        if self.original_bytes == self.text.len() as u64 && self.text.last() == Some(&b'\r') {
            self.text.pop();
            self.original_bytes -= 1;
        }
        self
    }
}

#[derive(Debug)]
struct Lane {
    joiner: Joiner,
    /// A line of which the last part has not come.
    part: Option<Record>,
    /// A record that further lines may continue.
    record: Option<Record>,
}

/// Puts the records of a stretch of one file together.
#[derive(Debug)]
pub struct Assembler {
    lanes: [Lane; LANES],
    done: Vec<Record>,
    bytes: usize,
    passed: Passed,
}

impl Assembler {
    /// An assembler at a place in the file where no record is open.
    pub fn new(rule: &Rule) -> Self {
        let lane = || Lane { joiner: Joiner::new(rule.clone()), part: None, record: None };
        let lanes = std::array::from_fn(|_| lane());
        Assembler { lanes, done: Vec::new(), bytes: 0, passed: Passed::default() }
    }

    /// What was passed over or cut so far.
    pub fn passed(&self) -> Passed {
        self.passed
    }

    /// Bytes of the records that are complete and not taken.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the next piece of the file.
    pub fn take(&mut self, piece: Piece<'_>) {
        if let Some(now_ns) = piece.time_ns {
            (0..LANES).filter(|other| *other != piece.lane).for_each(|o| self.settle(o, now_ns));
        }
        let Some(lane) = self.lanes.get_mut(piece.lane) else { return };
        let line = lane.part.get_or_insert_with(|| Record::begin(&piece));
        line.add_piece(&piece);
        if !piece.partial
            && let Some(line) = lane.part.take()
        {
            self.take_line(line.without_line_end());
        }
    }

    /// Ends what a lane holds, if it had gone on by now.
    fn settle(&mut self, lane: usize, now_ns: i64) {
        let older = |record: &Option<Record>, than_ns: i64| {
            record.as_ref().is_some_and(|r| r.last_ns < now_ns.saturating_sub(than_ns))
        };
        let Some(held) = self.lanes.get(lane) else { return };
        let (part, record) = (older(&held.part, SETTLE_PART_NS), older(&held.record, SETTLE_NS));
        if part {
            self.close_part(lane);
        }
        if record {
            self.close_record(lane);
        }
    }

    fn take_line(&mut self, mut line: Record) {
        let at = line.lane;
        let Some(lane) = self.lanes.get_mut(at) else { return };
        let first_line = match &lane.record {
            Some(record) => record.first_line(),
            None => {
                lane.joiner.close();
                &[]
            }
        };
        match lane.joiner.place(&line.text, first_line) {
            Role::Continues => {
                if let Some(record) = &mut lane.record {
                    let bytes = record.original_bytes + line.original_bytes;
                    if record.lines < JOINED_LINES_MAX && bytes < JOINED_BYTES_MAX as u64 {
                        record.add_line(line);
                        return;
                    }
                    self.passed.capped += 1;
                }
            }
            Role::Begins => {}
            Role::Blank => {
                self.passed.blank_lines += 1;
                return self.close_record(at);
            }
        }
        let may_continue = lane.joiner.may_continue();
        let before = lane.record.take();
        line.first_line_bytes = line.text.len();
        lane.record = Some(line);
        self.finish(before);
        if !may_continue {
            self.close_record(at);
        }
    }

    fn finish(&mut self, record: Option<Record>) {
        if let Some(record) = record {
            self.bytes += record.bytes();
            self.done.push(record);
        }
    }

    fn close_record(&mut self, lane: usize) {
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        lane.joiner.close();
        let record = lane.record.take();
        self.finish(record);
    }

    fn close_part(&mut self, lane: usize) {
        let part = self.lanes.get_mut(lane).and_then(|lane| lane.part.take());
        if let Some(line) = part {
            self.take_line(line.without_line_end());
        }
    }

    /// Ends all records that are held back for further lines, but no line in parts.
    pub fn close_records(&mut self) {
        (0..LANES).for_each(|lane| self.close_record(lane));
    }

    /// Ends all that is open, lines in parts too.
    pub fn close_all(&mut self) {
        (0..LANES).for_each(|lane| self.close_part(lane));
        self.close_records();
    }

    /// Whether a record is held back for further lines; `Some(true)` if one is a stack trace.
    pub fn holds(&self) -> Option<bool> {
        let open = self.lanes.iter().filter(|lane| lane.record.is_some());
        open.map(|lane| lane.joiner.in_trace()).max()
    }

    /// Whether a line waits for its last part.
    pub fn holds_part(&self) -> bool {
        self.lanes.iter().any(|lane| lane.part.is_some())
    }

    /// The last offset, not behind `end`, that no record spans, complete or open.
    pub fn safe_end(&self, end: u64) -> u64 {
        let open = self.lanes.iter().flat_map(|lane| lane.part.iter().chain(&lane.record));
        let mut safe = open.map(|record| record.start).fold(end, u64::min);
        let spanning = |safe: u64| {
            let spans = self.done.iter().filter(|r| r.start < safe && r.end > safe);
            spans.map(|record| record.start).min()
        };
        while let Some(start) = spanning(safe) {
            safe = start;
        }
        safe
    }

    /// The complete records before `safe_end`, in the order in which they begin.
    pub fn drain(&mut self, safe_end: u64) -> Vec<Record> {
        self.bytes = 0;
        let mut records = std::mem::take(&mut self.done);
        records.retain(|record| record.end <= safe_end);
        records.sort_by_key(|record| record.start);
        records
    }
}

/// Walks over complete records, knowing where reading may stop between two of them.
pub fn boundaries(records: &[Record], end: u64) -> impl Iterator<Item = (&Record, Option<u64>)> {
    let mut reached = 0;
    records.iter().enumerate().map(move |(at, record)| {
        reached = reached.max(record.end);
        let next = records.get(at + 1).map_or(end, |next| next.start);
        (record, (reached <= next).then_some(next))
    })
}
