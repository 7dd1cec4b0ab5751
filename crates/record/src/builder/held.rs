//! What many records have alike, set once for all of them; and room for those that come.
//!
//! Invariants: while fields are held their columns have no value behind the record from which they
//! are held; whoever sets one of them by itself, or ends the batch, has them written first. So what
//! comes out is what it would be if each record had set them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::column::{Column, Repeated, Value};
use super::{BatchBuilder, Place};
use crate::limits;

/// A record in more columns than this is not looked through for what it has.
const COLUMNS_MAX: usize = 64;
/// What a cell costs at most beside its text.
const CELL_BYTES: usize = 8;

/// Numbers of what is held, of all builders.
static HELD: AtomicU64 = AtomicU64::new(1);

/// What [`BatchBuilder::hold`] keeps, of one builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held(u64);

/// What a batch calls a text of a field: see [`BatchBuilder::set_known`].
#[derive(Clone, Copy, Debug)]
pub struct KnownText {
    /// Which codes of texts this is one of: they are others after a record was taken off or a batch
    /// has ended.
    codes: u64,
    place: Place,
    code: u32,
}

/// The fields that are held, and the records that have them but not yet in their columns.
#[derive(Debug, Default)]
pub(super) struct HeldFields {
    /// 0 for none.
    number: u64,
    columns: Vec<(u32, Repeated)>,
    from: u32,
    to: u32,
    /// Bytes that they take in each record.
    bytes: usize,
    /// The one that was set last.
    last: usize,
}

impl HeldFields {
    /// Whether the record in hand, of this number, has them.
    #[inline]
    pub(super) fn are_in(&self, row: u32) -> bool {
        self.to > row
    }
}

impl BatchBuilder {
    /// Keeps all that the record in hand has so far, for [`Self::again`]. None if that is no more
    /// than it costs, as where a value is a text that does not repeat.
    pub fn hold(&mut self) -> Option<Held> {
        self.release();
        if self.columns.len() > COLUMNS_MAX || !self.overflow_now.is_empty() {
            return None;
        }
        let row = self.times.len() as u32;
        self.held.columns.clear();
        for (place, column) in (0..).zip(&self.columns) {
            if column.is_set(row) {
                self.held.columns.push((place, column.repeated(row)?));
            }
        }
        for &(place, value) in &self.held.columns {
            if let Some(column) = self.columns.get_mut(place as usize) {
                column.held = Some(value);
            }
        }
        self.held.number = HELD.fetch_add(1, Ordering::Relaxed);
        (self.held.from, self.held.to) = (row + 1, row + 1);
        self.held.bytes = self.bytes.saturating_sub(self.bytes_before);
        self.held.last = self.last;
        Some(Held(self.held.number))
    }

    /// Sets in the record in hand, which has nothing yet, all that was held, if the record before
    /// had it, too. If not, tells so, and all is to be set one by one and held again.
    #[inline]
    pub fn again(&mut self, held: Held) -> bool {
        let row = self.times.len() as u32;
        if self.held.number != held.0 || self.held.to != row {
            return false;
        }
        self.held.to = row + 1;
        self.bytes += self.held.bytes;
        self.last = self.held.last;
        true
    }

    /// Writes what is held into its columns; it is held no more.
    pub(super) fn release(&mut self) {
        if self.held.number == 0 {
            return;
        }
        self.held.number = 0;
        let rows = self.held.from..self.held.to;
        for (place, value) in self.held.columns.drain(..) {
            if let Some(column) = self.columns.get_mut(place as usize) {
                column.held = None;
                column.repeat_over(rows.clone(), value);
            }
        }
        self.held.to = 0;
    }

    /// As [`Self::release`], but the record in hand has none of it.
    pub(super) fn release_before(&mut self, row: u32) {
        self.held.to = self.held.to.min(row);
        self.release();
    }

    /// Sets a field to a text that often comes again: `known` keeps what the batch calls it, so that
    /// it is not looked for each time. It has to be of this name and this text alone.
    #[inline]
    pub fn set_known(&mut self, name: &str, text: &str, known: &mut Option<KnownText>) {
        if let Some(KnownText { codes, place, code }) = *known
            && codes == self.codes
            && self.set_code(place, code, text.len())
        {
            return;
        }
        let place = self.set(name, Value::Text(text));
        let code = place.and_then(|place| Some((place, self.code_at(place)?)));
        *known = code.map(|(place, code)| KnownText { codes: self.codes, place, code });
    }

    /// Sets the field of a place to the text of `text_bytes` bytes that has this code; tells whether it
    /// could: not if the record has that field already, or if its texts have no codes any more.
    #[inline]
    fn set_code(&mut self, place: Place, code: u32, text_bytes: usize) -> bool {
        let row = self.times.len() as u32;
        let is_known = place.generation == self.generation;
        let column = self.columns.get_mut(place.column as usize).filter(|_| is_known);
        let Some(column) = column.filter(|column| column.held.is_none()) else { return false };
        if !column.repeat(row, code as i32) {
            return false;
        }
        column.probe_where_due();
        self.bytes += Column::text_bytes(text_bytes);
        self.last = place.column as usize;
        true
    }

    /// Makes room for `rows` records in all that are like those so far, as far as a batch may hold
    /// them: growing bit by bit means copying, and touching new memory each time.
    pub fn expect(&mut self, rows: usize) {
        let now = self.times.len().max(1);
        let cells = self.columns.len().max(1) * CELL_BYTES;
        let rows_max = (limits::BATCH_BYTES_MAX / 2 / (self.bytes / now).max(cells)).max(now);
        let more = rows.min(rows_max).saturating_sub(self.times.len());
        self.times.reserve(more);
        self.stream_codes.reserve(more);
        for column in &mut self.columns {
            column.expect(more, now);
        }
    }
}
