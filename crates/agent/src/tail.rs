//! One tailed file: who it is, how far it was read and acknowledged, and the next turn of reading.
//!
//! No bytes are kept between turns: the file is the buffer. Invariants:
//! - `base ≤ acked ≤ read`, all at record boundaries; `read` moves only with a batch that was built;
//! - `unsaid` accounts for all between the last batch that was handed on and `read`;
//! - before a turn reads on, the bytes before `read` are compared with their check: content that
//!   was replaced begins a new generation and is never mistaken for the old one's continuation;
//! - a record is built only from complete lines, but for the last line of a finished file.

mod assembled;

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use arrow::record_batch::RecordBatch;
use lodge_record::builder::BatchBuilder;
use lodge_record::limits::LINE_BYTES_MAX;
use lodge_record::{Account, ProducerId, Tally};
use lodge_wire::agent_report::LiveSource;

use crate::config::Timing;
use crate::content::Content;
use crate::counters::Counters;
use crate::frame::Frames;
use crate::framing::{Framing, binary_kind};
use crate::identity::{self, CHECK_BYTES_MAX, FilePosition, HEAD_BYTES_MAX, Head, Inode};
use crate::parse::format::Format;
use crate::parse::{Context, Envelope, RecordParser, Text};
use crate::pipeline::Pipeline;
use crate::sequence::Sequence;
use crate::state::FileEntry;
use crate::trace::Rule;

/// Most bytes that one long line is searched for its end in one turn.
const LONG_SCAN_BYTES_MAX: u64 = 16 << 20;
/// Bytes that are searched at once.
const LONG_SCAN_STEP_BYTES: usize = 256 << 10;
/// A batch is cut when its values take this many times the bytes of a turn: short lines with many
/// labels grow when they become columns.
const GROWTH_MAX: usize = 2;

/// Records of a turn, ready to be sent.
#[derive(Debug)]
pub struct Built {
    /// The records.
    pub records: RecordBatch,
    /// Where the file stands once they are durable.
    pub position: FilePosition,
    /// Bytes that they take in memory.
    pub memory: usize,
}

/// A batch on its way.
#[derive(Debug)]
pub struct Sent {
    /// Its position.
    pub position: FilePosition,
    /// Bytes that it takes in memory.
    pub memory: usize,
    /// Its records.
    pub rows: u64,
    /// What was said of the stretch that it ends.
    pub account: Box<Account>,
}

/// What a turn came to.
#[derive(Debug)]
pub enum Turn {
    /// Records.
    Built(Built),
    /// Nothing complete yet, or only blank lines.
    Nothing,
    /// Records, all of which a rule dropped.
    Dropped,
    /// The content is not the one that was read before.
    Replaced,
}

/// What a turn needs beside the file.
pub struct TurnContext<'a> {
    /// The present.
    pub now: Instant,
    /// Present and zone for timestamps.
    pub time: crate::timestamp::TimeContext,
    /// Where limits are counted.
    pub counters: &'a Counters,
    /// Deadlines.
    pub timing: &'a Timing,
    /// By what lines are joined.
    pub multiline: &'a Rule,
    /// In what notation the source is said to be.
    pub format: Format,
    /// The agent, for producers' identities.
    pub agent: ProducerId,
    /// What records go through before they are shipped.
    pub pipeline: &'a Pipeline,
}

/// A compressed file: its positions are offsets in its text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gzip {
    /// Length of the file at the last look; it is read once that stays.
    pub bytes: u64,
    /// Length of the text, once its end was reached.
    pub text_bytes: Option<u64>,
    /// Only read on if it is the rest of a file that was being read.
    pub only_rest: bool,
}

/// One file.
#[derive(Debug)]
pub struct TailedFile {
    /// Which source it belongs to.
    pub source: usize,
    /// Path under which it was found first; the `file` label.
    pub label: PathBuf,
    /// Path under which it was seen last.
    pub path: PathBuf,
    /// What the file system calls it.
    pub inode: Inode,
    /// Open, or not while it is quiet and descriptors are scarce.
    pub handle: Option<Content>,
    /// What is known of it if it is compressed.
    pub gzip: Option<Gzip>,
    /// Fingerprint and sequence, once the head is complete.
    pub identity: Option<(Head, Sequence)>,
    /// Identity before the content was replaced.
    pub previous: Option<Sequence>,
    /// Where the last committed batch ended, or where reading began.
    pub base: FilePosition,
    /// Everything before is durable, or was dropped.
    pub acked: FilePosition,
    /// Everything before is built.
    pub read: FilePosition,
    /// What the next batch has to account for.
    pub unsaid: Account,
    /// What was counted up to `base`; none while only the server knows.
    pub tally: Option<Box<Tally>>,
    /// The batch on its way.
    pub in_flight: Option<Sent>,
    /// The batch that goes next.
    pub waiting: Option<Built>,
    /// The server was asked for this producer's state.
    pub recalling: bool,
    /// Where to begin if the server does not know the producer.
    pub begin_at: Option<u64>,
    /// Size at the last look.
    pub size: u64,
    /// Its time of modification at the last look.
    modified: Option<SystemTime>,
    /// It was written and is no longer than before: what was read may be replaced.
    is_suspect: bool,
    /// When it grew last.
    pub grown_at: Instant,
    /// When it was looked at last.
    pub polled_at: Instant,
    /// The path no longer leads here: renamed or deleted.
    pub moved: bool,
    /// No path leads here.
    pub deleted: bool,
    /// The content was replaced; a new generation begins when nothing is under way.
    pub replaced: bool,
    /// Bytes that were seen and not read when the content was replaced.
    pub cut_bytes: u64,
    /// What was cut off or deleted unread was told to the server.
    pub is_loss_told: bool,
    /// It is known not to be a copy of a file that was read already, or where it goes on from that.
    pub is_no_copy: bool,
    /// What is remembered of the file that it is the rest of, while the server is asked about that.
    pub rest_of: Option<Box<FileEntry>>,
    /// The checkpoint names it.
    pub noted: bool,
    /// The walk over globs that saw it last.
    pub seen: u64,
    pending_since: Option<Instant>,
    /// A turn at this size gave nothing.
    blocked_size: Option<u64>,
    hold_until: Option<Instant>,
    long_scanned: u64,
    /// Until then nothing is read, as more may be learned of the container that wrote it.
    pub learning_until: Option<Instant>,
    /// The shape of its lines, once that is known.
    framing: Option<Framing>,
    /// What makes rows of its records.
    pub parser: RecordParser,
}

impl TailedFile {
    /// A file that was just found.
    pub fn new(
        source: usize,
        path: PathBuf,
        metadata: &Metadata,
        now: Instant,
        parser: RecordParser,
    ) -> Self {
        let age = metadata.modified().ok().and_then(|m| SystemTime::now().duration_since(m).ok());
        let age = age.unwrap_or_default().min(Duration::from_secs(3600));
        TailedFile {
            source,
            label: path.clone(),
            path,
            inode: Inode::of(metadata),
            handle: None,
            gzip: None,
            identity: None,
            previous: None,
            base: FilePosition::start(0),
            acked: FilePosition::start(0),
            read: FilePosition::start(0),
            unsaid: Account::default(),
            tally: Some(Box::default()),
            in_flight: None,
            waiting: None,
            recalling: false,
            begin_at: None,
            size: metadata.len(),
            modified: metadata.modified().ok(),
            is_suspect: false,
            grown_at: now.checked_sub(age).unwrap_or(now),
            polled_at: now,
            moved: false,
            deleted: false,
            replaced: false,
            cut_bytes: 0,
            is_loss_told: false,
            is_no_copy: false,
            rest_of: None,
            noted: false,
            seen: 0,
            pending_since: None,
            blocked_size: None,
            hold_until: None,
            long_scanned: 0,
            learning_until: None,
            framing: None,
            parser,
        }
    }

    /// Unread bytes, as far as is known.
    pub fn unread(&self) -> u64 {
        self.size.saturating_sub(self.read.offset)
    }

    /// Nothing is under way.
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_none() && self.waiting.is_none() && !self.recalling
    }

    /// Everything that is there is read and acknowledged.
    pub fn is_at_rest(&self) -> bool {
        self.is_settled() && self.unread() == 0
    }

    /// What is still to be read and delivered.
    pub fn live(&self) -> LiveSource {
        let sent = self.in_flight.as_ref().map_or(0, |sent| sent.rows);
        let waiting = self.waiting.as_ref().map_or(0, |built| built.records.num_rows() as u64);
        LiveSource {
            producer: self.identity.map(|(_, s)| s.producer().to_string()).unwrap_or_default(),
            source: self.label.to_string_lossy().into_owned(),
            unread_bytes: self.unread(),
            in_flight_records: sent + waiting,
        }
    }

    /// Whether nothing is left to do unless it grows.
    pub fn is_quiet(&self) -> bool {
        let is_read = self.unread() == 0 && !self.is_suspect;
        self.is_settled() && !self.replaced && (is_read || self.is_blocked())
    }

    fn is_blocked(&self) -> bool {
        self.blocked_size == Some(self.size) && self.hold_until.is_none()
    }

    /// Takes in what the file system says now.
    pub fn observe(&mut self, metadata: &Metadata, now: Instant) {
        self.polled_at = now;
        if metadata.nlink() == 0 {
            self.deleted = true;
            self.moved = true;
        }
        let size = match &mut self.gzip {
            Some(gzip) => {
                if gzip.bytes != metadata.len() {
                    *gzip = Gzip { bytes: metadata.len(), text_bytes: None, ..*gzip };
                    self.grown_at = now;
                    self.blocked_size = None;
                    self.handle.iter().for_each(Content::restart);
                }
                // Until its end was seen there is more.
                gzip.text_bytes.unwrap_or(self.read.offset + 1)
            }
            None => metadata.len(),
        };
        if size < self.read.offset && !self.replaced {
            self.replaced = true;
            self.cut_bytes = self.unread();
        }
        let modified = metadata.modified().ok();
        let was_begun = self.read.offset > 0 && self.gzip.is_none();
        if was_begun && size == self.size && modified != self.modified {
            self.is_suspect = true;
            self.blocked_size = None;
        }
        self.modified = modified;
        if size > self.size && self.gzip.is_none() {
            self.grown_at = now;
        }
        if size > self.read.offset && self.pending_since.is_none() {
            self.pending_since = Some(now);
        }
        self.size = size;
    }

    /// Whether a turn is due.
    pub fn is_due(&self, now: Instant, timing: &Timing, batch_bytes: u64) -> bool {
        if self.waiting.is_some() || self.recalling || self.replaced {
            return false;
        }
        if self.unread() == 0 {
            return self.is_suspect && self.identity.is_some();
        }
        if self.learning_until.is_some_and(|until| now < until) {
            return false;
        }
        let quiet_for = now.saturating_duration_since(self.grown_at);
        if self.gzip.is_some() && quiet_for < timing.partial_idle {
            return false;
        }
        if self.blocked_size == Some(self.size) {
            let held = self.hold_until.is_some_and(|until| now >= until);
            let finished = self.moved && quiet_for >= timing.partial_idle;
            return held || finished;
        }
        let lingered = self
            .pending_since
            .is_none_or(|since| now.saturating_duration_since(since) >= timing.linger);
        lingered || self.unread() >= batch_bytes
    }

    /// Begins the next generation, at the start of the content that is there now.
    pub fn begin_generation(&mut self) {
        self.replaced = false;
        self.cut_bytes = 0;
        self.is_loss_told = false;
        self.framing = None;
        self.noted = false;
        self.previous = self.identity.take().map(|(_, sequence)| sequence).or(self.previous);
        let generation = self.read.generation.max(self.acked.generation).saturating_add(1);
        self.begin_at = None;
        // Where the same producer goes on, its next stretch begins where the last one ended.
        let base = self.base;
        self.stand_at(FilePosition::start(generation));
        self.base = base;
    }

    /// Where what is not committed begins, in the content that is there now.
    pub fn uncommitted(&self) -> FilePosition {
        let is_here = self.base.generation == self.read.generation;
        if is_here { self.base } else { FilePosition::start(self.read.generation) }
    }

    /// Counts generations anew, as another producer begins.
    fn number_from_zero(&mut self) {
        self.acked.generation = 0;
        self.read.generation = 0;
        self.base = self.acked;
        self.tally = Some(Box::default());
    }

    /// Goes on behind what is done with as the producer that the file itself has.
    pub fn go_alone(&mut self, agent: ProducerId) {
        let Some((head, _)) = self.identity else { return };
        let own = identity::file_producer(agent, self.inode, head);
        self.identity = Some((head, Sequence::unknown(own)));
        self.tally = Some(Box::default());
        self.noted = false;
        self.stand_at(FilePosition { generation: 0, ..self.acked });
    }

    /// Puts both positions at `position`, which is durable.
    pub fn stand_at(&mut self, position: FilePosition) {
        self.base = position;
        self.acked = position;
        self.rewind_to(position);
    }

    /// Gives the file no turn before `until`, unless it grows.
    pub fn hold_back(&mut self, until: Instant) {
        self.blocked_size = Some(self.size);
        self.hold_until = Some(until);
    }

    /// Reads on from `position`; what was read and not handed on will be read again.
    pub fn rewind_to(&mut self, position: FilePosition) {
        self.unsaid = Account::default();
        self.go_on_at(position);
    }

    /// Takes up what an earlier run had read and not yet told when it stopped at `position`.
    pub fn resume_at(&mut self, position: FilePosition, entry: &FileEntry) {
        self.stand_at(position);
        (self.base, self.unsaid) = (entry.base(position), entry.unsaid());
        self.tally = entry.tally.clone().map(Box::new);
    }

    fn go_on_at(&mut self, position: FilePosition) {
        self.read = position;
        self.blocked_size = None;
        self.hold_until = None;
        self.pending_since = None;
        self.long_scanned = 0;
    }

    /// Whether the content before `position` is the one that its check was made of; an error if
    /// that cannot be told, which says nothing of the content.
    pub fn has_content_before(&self, position: &FilePosition) -> io::Result<bool> {
        let Some(file) = &self.handle else { return Err(io::ErrorKind::NotFound.into()) };
        let mut buffer = [0u8; CHECK_BYTES_MAX];
        let Some(before) = buffer.get_mut(..position.check_bytes()) else { return Ok(false) };
        let start = position.offset - before.len() as u64;
        let length = file.read_at(before, start)?;
        Ok(length == before.len() && identity::check_of(before) == position.check)
    }

    /// The position at `offset`, with the check of the content before it.
    pub fn position_at(&self, offset: u64) -> io::Result<FilePosition> {
        let mut position = FilePosition { generation: self.read.generation, offset, check: 0 };
        let mut before = vec![0u8; position.check_bytes()];
        if let Some(file) = &self.handle {
            let start = offset - before.len() as u64;
            if file.read_at(&mut before, start)? < before.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        position.check = identity::check_of(&before);
        Ok(position)
    }

    /// Where the last, perhaps unfinished, line begins: the end of what is complete.
    pub fn last_line_start(&self) -> io::Result<u64> {
        let Some(file) = &self.handle else { return Ok(0) };
        let mut end = file.metadata()?.len();
        let mut step = vec![0u8; LONG_SCAN_STEP_BYTES];
        while end > 0 {
            let start = end.saturating_sub(step.len() as u64);
            let Some(window) = step.get_mut(..(end - start) as usize) else { break };
            let length = file.read_at(window, start)?;
            let read = window.get(..length).unwrap_or_default();
            // In UTF-16 both the high and the low byte may be this one: then the line is whole too.
            if let Some(newline) = memchr::memrchr(b'\n', read) {
                let behind = start + newline as u64 + 1;
                return Ok(if read_utf16(file)? { behind.next_multiple_of(2) } else { behind });
            }
            end = start;
        }
        Ok(0)
    }

    /// Reads the first bytes of the file: at most what a head covers.
    pub fn read_head(&self) -> io::Result<Vec<u8>> {
        let mut head = vec![0u8; HEAD_BYTES_MAX];
        let length = match &self.handle {
            Some(file) => file.read_at(&mut head, 0)?,
            None => 0,
        };
        head.truncate(length);
        Ok(head)
    }

    /// One turn: reads at most `bytes_max` bytes and builds a batch of the complete records.
    pub fn turn(
        &mut self,
        buffer: &mut Vec<u8>,
        bytes_max: usize,
        context: &TurnContext<'_>,
    ) -> io::Result<Turn> {
        let Some(file) = &self.handle else { return Ok(Turn::Nothing) };
        self.is_suspect = false;
        let before = self.read.check_bytes();
        buffer.resize(before + bytes_max, 0);
        let length = file.read_at(buffer, self.read.offset - before as u64)?;
        buffer.truncate(length);
        let Some(check) = buffer.get(..before) else { return Ok(Turn::Replaced) };
        if identity::check_of(check) != self.read.check {
            return Ok(Turn::Replaced);
        }
        let head = self.identity.map(|(head, _)| head);
        if before == 0 && head.is_some_and(|head| !head.matches(buffer)) {
            return Ok(Turn::Replaced);
        }
        let at_end = length < before + bytes_max;
        let end = self.read.offset + (length - before) as u64;
        if let Some(gzip) = &mut self.gzip {
            gzip.text_bytes = at_end.then_some(end);
            self.size = end + u64::from(!at_end);
        } else if end > self.size {
            self.size = end;
            self.grown_at = context.now;
        } else if at_end {
            self.size = end;
        }
        if length == before {
            self.pending_since = None;
            return Ok(Turn::Nothing);
        }
        match self.framing(context)? {
            Some(Framing::Lines) => self.frame(buffer, before, at_end, context),
            Some(framing) => self.assemble(framing, buffer, before, at_end, context),
            None => {
                self.hold_back(self.grown_at + context.timing.partial_idle);
                Ok(Turn::Nothing)
            }
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.handle {
            Some(file) => file.read_at(buffer, offset),
            None => Ok(0),
        }
    }

    /// Frames and parses the chunk behind the first `before` bytes of `buffer`.
    fn frame(
        &mut self,
        buffer: &[u8],
        before: usize,
        at_end: bool,
        context: &TurnContext<'_>,
    ) -> io::Result<Turn> {
        let chunk = buffer.get(before..).unwrap_or_default();
        let quiet_for = context.now.saturating_duration_since(self.grown_at);
        let finished = at_end && self.moved && quiet_for >= context.timing.partial_idle;
        let mut builder = BatchBuilder::new();
        let parse = Context { time: context.time.clone(), counters: context.counters };
        // To check all at once is several times cheaper than line by line; no line end is within a
        // character.
        let lines_end = memchr::memrchr(b'\n', chunk).map_or(0, |at| at + 1);
        let valid = std::str::from_utf8(chunk.get(..lines_end).unwrap_or_default()).ok();
        let mut frames = Frames::by_rule(chunk, context.multiline.clone(), finished);
        let memory_max = chunk.len().max(64 << 10) * GROWTH_MAX;
        let mut lines = 0;
        let mut cut = false;
        self.hold_until = None;
        loop {
            let frame = match frames.next() {
                Some(frame) => frame,
                None => match self.held(&mut frames, at_end, quiet_for, context) {
                    Some(frame) => frame,
                    None => break,
                },
            };
            let end = frame.start + frame.text.len();
            let valid = valid.and_then(|valid| valid.get(frame.start..end));
            let text = Text { valid, ..Text::whole(frame.text) };
            self.parser.append(&mut builder, text, &parse);
            lines += u64::from(frame.lines);
            if builder.bytes() > memory_max {
                cut = true;
                break;
            }
        }
        let consumed = frames.consumed();
        let passed = frames.passed();
        context.counters.read_lines.add(lines);
        context.counters.dropped_lines_blank.add(passed.blank_lines);
        context.counters.dropped_bytes_holes.add(passed.hole_bytes);
        context.counters.multiline_capped.add(passed.capped);
        if consumed == 0 && !at_end {
            return self.long_line(Framing::Lines, chunk.len(), context);
        }
        if consumed == 0 {
            self.blocked_size = Some(self.size);
            return Ok(Turn::Nothing);
        }
        let position = FilePosition {
            generation: self.read.generation,
            offset: self.read.offset + consumed as u64,
            check: identity::check_of(buffer.get(..before + consumed).unwrap_or_default()),
        };
        // Go on at once if there is more, else wait for growth (or for what is held back).
        let more = cut || !at_end;
        self.advance(position, builder, more, context)
    }

    /// The record that is held back for continuation lines, if it has waited long enough.
    fn held<'c>(
        &mut self,
        frames: &mut Frames<'c>,
        at_end: bool,
        quiet_for: Duration,
        context: &TurnContext<'_>,
    ) -> Option<crate::frame::Frame<'c>> {
        if !frames.holds() {
            return None;
        }
        if !at_end {
            // The next turn begins with it; unless it fills this one.
            return if frames.consumed() == 0 { frames.take_held() } else { None };
        }
        let timing = context.timing;
        let settle = if frames.holds_trace() { timing.settle_trace } else { timing.settle };
        if quiet_for >= settle {
            return frames.take_held();
        }
        self.hold_until = Some(self.grown_at + settle);
        None
    }

    /// Moves `read` to `position` and gives the builder's records out.
    fn advance(
        &mut self,
        position: FilePosition,
        mut builder: BatchBuilder,
        more: bool,
        context: &TurnContext<'_>,
    ) -> io::Result<Turn> {
        context.counters.read_bytes.add(position.offset - self.read.offset);
        let hold_until = self.hold_until;
        self.go_on_at(position);
        if let Some(content) = &self.handle {
            content.forget_before(position.offset - position.check_bytes() as u64);
        }
        self.hold_until = hold_until;
        if !more {
            // What is left is a partial line or held back.
            self.blocked_size = (self.unread() > 0).then_some(self.size);
        }
        self.unsaid.read_records += builder.rows() as u64;
        self.parser.rest();
        if builder.rows() == 0 {
            if self.is_settled() {
                self.acked = position;
            }
            return Ok(Turn::Nothing);
        }
        let records = builder.finish().map_err(io::Error::other)?;
        let processed = context.pipeline.apply(records);
        context.counters.dropped_records_rules.add(processed.dropped_records());
        processed.tell(&mut self.unsaid);
        let records = processed.records;
        if records.num_rows() == 0 {
            if self.is_settled() {
                self.acked = position;
            }
            return Ok(Turn::Dropped);
        }
        let memory = records.get_array_memory_size();
        Ok(Turn::Built(Built { records, position, memory }))
    }

    /// A line that is longer than a turn: looks for its end, and keeps its head once that is found.
    fn long_line(
        &mut self,
        framing: Framing,
        searched: usize,
        context: &TurnContext<'_>,
    ) -> io::Result<Turn> {
        let Some(file) = &self.handle else { return Ok(Turn::Nothing) };
        let start = self.read.offset;
        let mut at = self.long_scanned.max(start + searched as u64);
        if framing.is_utf16() {
            at -= at % 2;
        }
        let stop = at.saturating_add(LONG_SCAN_BYTES_MAX);
        let mut step = vec![0u8; LONG_SCAN_STEP_BYTES];
        let mut newline = None;
        let mut at_end = false;
        while newline.is_none() && !at_end && at < stop {
            let length = file.read_at(&mut step, at)?;
            at_end = length < step.len();
            let read = step.get(..length).unwrap_or_default();
            newline = framing.line_end(read).map(|length| at + length as u64);
            at += length as u64;
        }
        self.size = self.size.max(at);
        self.long_scanned = at;
        let quiet_for = context.now.saturating_duration_since(self.grown_at);
        let finished = at_end && self.moved && quiet_for >= context.timing.partial_idle;
        let (text_end, end) = match newline {
            Some(end) => (end - framing.line_end_bytes(), end),
            None if finished => (at, at),
            None => {
                if at_end {
                    self.blocked_size = Some(self.size);
                }
                return Ok(Turn::Nothing);
            }
        };
        let mut original_bytes = text_end - start;
        let mut head = vec![0u8; original_bytes.min(LINE_BYTES_MAX as u64) as usize];
        let length = file.read_at(&mut head, start)?;
        head.truncate(length);
        let mut tail = [0u8; CHECK_BYTES_MAX];
        let tail_length = file.read_at(&mut tail, end - CHECK_BYTES_MAX as u64)?;
        let check = identity::check_of(tail.get(..tail_length).unwrap_or_default());
        let mut builder = BatchBuilder::new();
        let parse = Context { time: context.time.clone(), counters: context.counters };
        let whole = head.len() as u64 == original_bytes;
        if whole && head.last() == Some(&b'\r') {
            head.pop();
            original_bytes -= 1;
        }
        if framing.is_utf16() {
            let piece = framing.piece(&head, start);
            let text = Text::head(&piece.text, original_bytes);
            self.parser.append_enveloped(&mut builder, text, Envelope::default(), &parse);
        } else {
            self.parser.append(&mut builder, Text::head(&head, original_bytes), &parse);
        }
        context.counters.read_lines.increment();
        let position = FilePosition { generation: self.read.generation, offset: end, check };
        self.advance(position, builder, true, context)
    }

    /// Whether it is compressed and not all there, or damaged.
    fn ends_early(&self) -> bool {
        self.handle.as_ref().is_some_and(|content| content.problem().is_some())
    }

    /// Whether it ends early and may still be written to its end.
    pub fn is_unfinished(&self, timing: &Timing) -> bool {
        /// How many times as long as for a last line its end is waited for.
        const PATIENCE: u32 = 6;
        self.ends_early() && self.grown_at.elapsed() < timing.partial_idle * PATIENCE
    }

    /// Finds out who this is, if the head is complete: true once it is known. The error is why it
    /// is no text file.
    pub fn identify(
        &mut self,
        context: &TurnContext<'_>,
    ) -> io::Result<Result<bool, &'static str>> {
        let bytes = self.read_head()?;
        if bytes.is_empty() && self.ends_early() {
            if self.is_unfinished(context.timing) {
                self.hold_back(context.now + context.timing.partial_idle);
                return Ok(Ok(false));
            }
            return Ok(Err("damaged gzip"));
        }
        if let Some(kind) = binary_kind(&bytes) {
            return Ok(Err(kind));
        }
        let quiet_for = context.now.saturating_duration_since(self.grown_at);
        let finished = self.moved && quiet_for >= context.timing.partial_idle;
        let head = match Head::of(&bytes) {
            Some(head) => head,
            None if finished && !bytes.is_empty() => Head::whole(&bytes),
            None => {
                self.blocked_size = Some(self.size);
                return Ok(Ok(false));
            }
        };
        let producer = identity::file_producer(context.agent, self.inode, head);
        let sequence = match self.previous {
            Some(previous) if previous.producer() == producer => previous,
            _ => {
                // Its positions are its own: how often another's content was replaced says nothing.
                self.number_from_zero();
                Sequence::unknown(producer)
            }
        };
        self.identity = Some((head, sequence));
        Ok(Ok(true))
    }
}

/// Whether a file begins with the byte order mark of UTF-16.
fn read_utf16(file: &Content) -> io::Result<bool> {
    let mut mark = [0u8; 2];
    let length = file.read_at(&mut mark, 0)?;
    Ok(length == 2 && Framing::of(&mark, Format::Text).is_some_and(Framing::is_utf16))
}
