//! A turn of a file whose lines are not read as they stand in it: container logs and UTF-16.

use std::io;
use std::time::Duration;

use lodge_record::builder::BatchBuilder;
use lodge_record::limits::LINE_BYTES_MAX;

use super::{GROWTH_MAX, LONG_SCAN_STEP_BYTES, TailedFile, Turn, TurnContext};
use crate::assemble::{Assembler, Record, boundaries};
use crate::framing::{Framing, output_of};
use crate::parse::{Context, Envelope, Text};

/// How far the end of a record is looked for beyond what a turn reads: a container's line may come
/// in any number of parts. What is longer is cut there.
const RUN_BYTES_MAX: u64 = 64 << 20;
/// Most bytes of other records that are held meanwhile.
const HELD_BYTES_MAX: usize = 8 << 20;

impl TailedFile {
    /// The shape of the file's lines; `None` while its head is too short to tell.
    pub(super) fn framing(&mut self, context: &TurnContext<'_>) -> io::Result<Option<Framing>> {
        if self.framing.is_none() {
            let quiet_for = context.now.saturating_duration_since(self.grown_at);
            let framing = Framing::of(&self.read_head()?, context.format);
            let settled = quiet_for >= context.timing.partial_idle;
            self.framing = framing.or(settled.then_some(Framing::Lines));
        }
        Ok(self.framing)
    }

    /// Puts the records together that stand in the chunk behind the first `before` bytes of
    /// `buffer`.
    pub(super) fn assemble(
        &mut self,
        framing: Framing,
        buffer: &[u8],
        before: usize,
        at_end: bool,
        context: &TurnContext<'_>,
    ) -> io::Result<Turn> {
        let chunk = buffer.get(before..).unwrap_or_default();
        let start = self.read.offset;
        let quiet_for = context.now.saturating_duration_since(self.grown_at);
        let finished = at_end && self.moved && quiet_for >= context.timing.partial_idle;
        self.hold_until = None;
        let mut assembler = Assembler::new(context.multiline);
        let mut at = take_lines(&mut assembler, framing, chunk, start, finished);
        if at == start && !at_end {
            return self.long_line(framing, chunk.len(), context);
        }
        let mut settles = at_end;
        if !at_end && assembler.safe_end(at) == start {
            (at, settles) = self.run_on(&mut assembler, framing, at)?;
        }
        if settles {
            self.settle(&mut assembler, quiet_for, context);
        }
        let safe_end = assembler.safe_end(at);
        let passed = assembler.passed();
        context.counters.dropped_lines_blank.add(passed.blank_lines);
        context.counters.multiline_capped.add(passed.capped);
        if safe_end == start {
            self.blocked_size = Some(self.size);
            return Ok(Turn::Nothing);
        }
        let records = assembler.drain(safe_end);
        let memory_max = chunk.len().max(64 << 10) * GROWTH_MAX;
        let (builder, end) = self.rows_of(&records, safe_end, memory_max, context);
        let position = self.position_at(end)?;
        self.advance(position, builder, end < safe_end || !at_end, context)
    }

    /// Ends what has waited long enough for more at the end of the file.
    fn settle(
        &mut self,
        assembler: &mut Assembler,
        quiet_for: Duration,
        context: &TurnContext<'_>,
    ) {
        let timing = context.timing;
        if let Some(is_trace) = assembler.holds() {
            let settle = if is_trace { timing.settle_trace } else { timing.settle };
            if quiet_for >= settle {
                assembler.close_records();
            } else {
                self.hold_until = Some(self.grown_at + settle);
            }
        }
        if assembler.holds_part() {
            if quiet_for >= timing.partial_idle {
                assembler.close_all();
            } else if self.hold_until.is_none() {
                self.hold_until = Some(self.grown_at + timing.partial_idle);
            }
        }
    }

    /// Reads on until nothing spans the end of what was read, or it is cut there. Gives that end,
    /// and whether it is the file's.
    fn run_on(
        &self,
        assembler: &mut Assembler,
        framing: Framing,
        from: u64,
    ) -> io::Result<(u64, bool)> {
        let start = self.read.offset;
        let mut at = from;
        let mut step = LONG_SCAN_STEP_BYTES;
        let mut bytes = Vec::new();
        while assembler.safe_end(at) == start {
            if at - start > RUN_BYTES_MAX || assembler.bytes() > HELD_BYTES_MAX {
                assembler.close_all();
                break;
            }
            bytes.resize(step, 0);
            let length = self.read_at(&mut bytes, at)?;
            let read = bytes.get(..length).unwrap_or_default();
            let next = take_lines(assembler, framing, read, at, false);
            if next == at {
                if length < step || step > 2 * LINE_BYTES_MAX {
                    // The rest comes later, or it is a line without end, which has its own turn.
                    if length == step {
                        assembler.close_all();
                    }
                    return Ok((at, length < step));
                }
                step *= 2;
            }
            at = next;
        }
        Ok((at, false))
    }

    /// Rows of the records, up to where a batch is full and reading may begin again.
    fn rows_of(
        &mut self,
        records: &[Record],
        end: u64,
        memory_max: usize,
        context: &TurnContext<'_>,
    ) -> (BatchBuilder, u64) {
        let mut builder = BatchBuilder::new();
        let parse = Context { time: context.time.clone(), counters: context.counters };
        let mut lines = 0;
        let mut reached = end;
        for (record, boundary) in boundaries(records, end) {
            let text = Text::head(&record.text, record.original_bytes);
            let envelope = Envelope {
                time_ns: record.time_ns,
                output: output_of(record.lane),
                raw: (!record.raw.is_empty()).then_some(&*record.raw),
            };
            self.parser.append_enveloped(&mut builder, text, envelope, &parse);
            lines += u64::from(record.lines);
            if builder.bytes() > memory_max
                && let Some(boundary) = boundary
            {
                reached = boundary;
                break;
            }
        }
        context.counters.read_lines.add(lines);
        (builder, reached)
    }
}

/// Gives the whole lines of `bytes`, which stand at `start`, to the assembler; with `finished` the
/// last one is whole without its line end. Where the next line begins.
fn take_lines(
    assembler: &mut Assembler,
    framing: Framing,
    bytes: &[u8],
    start: u64,
    finished: bool,
) -> u64 {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let length = match framing.line_end(rest) {
            Some(length) => length,
            None if finished => rest.len(),
            None => break,
        };
        let line = rest.get(..length).unwrap_or_default();
        assembler.take(framing.piece(line, start + at as u64));
        at += length;
    }
    start + at as u64
}
