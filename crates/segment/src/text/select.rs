//! Which values pass a test.

use std::ops::Range;

use super::append::Texts;
use super::column::{Part, Template, TextColumn};
use super::prepare::{PAGE_ROWS, Plan, Planned, TextTest};
use super::raw::RawCursor;
use super::rows::{BLOCK_VALUES, Local};
use super::slot::Stored;
use crate::SegmentError;
use crate::bits::Mask;
use crate::sections::Sections;

/// Rows of templates, and raw texts, up to which all are looked at to count those that pass.
const SLOTS_COUNTED_MAX: usize = 1 << 18;
const RAW_COUNTED_MAX: usize = 1 << 14;
/// To look at a text costs about so many times what it costs to walk along a row among others.
const TEXT_COST: usize = 16;

impl Planned {
    /// Whether it is decided which rows of a local template pass.
    fn is_kept(&self, local: &Local) -> bool {
        let pages = self.pages.get(pages_of(local));
        pages.is_some_and(|pages| pages.iter().all(|page| page.get().is_some()))
    }
}

impl TextColumn {
    /// Which of `values` pass, bit 0 being the first of them; right for those in `within` (bit 0 is
    /// the first of `values`, too), and never set for others.
    ///
    /// # Errors
    /// [`SegmentError::Missing`] names all sections that are needed and not in memory: first those
    /// with the template numbers, then those with slots, then those of texts to be looked at.
    pub(crate) fn select(
        &self,
        test: &TextTest,
        sections: &Sections,
        values: Range<usize>,
        within: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        let len = values.end.min(self.len()).saturating_sub(values.start);
        match test.verdict() {
            crate::predicate::Verdict::None => return Ok(Mask::none(len)),
            crate::predicate::Verdict::All => {
                return Ok(within.cloned().unwrap_or_else(|| Mask::all(len)));
            }
            crate::predicate::Verdict::Some => {}
        }
        let parts = self.blocks(sections, values.clone())?;
        let wanted = |part: &Part<'_>, local: &Local| match within {
            None => !part.values_of(local).is_empty(),
            Some(within) => part.values_of(local).iter().any(|value| within.get(part.row(*value))),
        };
        let few = |part: &Part<'_>, local: &Local| {
            within.is_some_and(|within| {
                let values = part.values_of(local).iter();
                let wanted = values.filter(|value| within.get(part.row(**value))).count();
                wanted.saturating_mul(TEXT_COST) < local.count
            })
        };
        let mut needed = Vec::new();
        let mut raw = false;
        for part in &parts {
            for (local, planned) in test.locals(part.block) {
                match &planned.plan {
                    Plan::Slots(_) | Plan::Both(_) | Plan::Walk(..) if wanted(part, local) => {
                        needed.extend(self.slot_section(local.template));
                    }
                    Plan::Decode if local.template == 0 => raw |= wanted(part, local),
                    _ => {}
                }
            }
        }
        needed.sort_unstable();
        needed.dedup();
        sections.require(needed)?;
        if raw
            && test.raw.get().is_none()
            && let Some(held) = self.raw.hold(sections)?
        {
            test.raw.get_or_init(|| held.passing(&test.test));
        }
        let (mut sure, mut open) = (Mask::none(len), Mask::none(len));
        for part in &parts {
            for (local, planned) in test.locals(part.block) {
                if let Plan::All = planned.plan {
                    part.values_of(local).iter().for_each(|value| sure.set(part.row(*value)));
                    continue;
                }
                if !wanted(part, local) {
                    continue;
                }
                match &planned.plan {
                    Plan::Walk(..) if few(part, local) && !planned.is_kept(local) => {
                        part.values_of(local).iter().for_each(|value| open.set(part.row(*value)));
                    }
                    Plan::Slots(_) | Plan::Walk(..) => {
                        let set = |row| sure.set(row);
                        self.for_each_passing(test, planned, part, local, sections, set)?;
                    }
                    Plan::Both(_) => {
                        let set = |row| open.set(row);
                        self.for_each_passing(test, planned, part, local, sections, set)?;
                    }
                    _ => match test.raw.get().filter(|_| local.template == 0) {
                        Some(raw) => part.for_each_in(raw, 0, local, |row| sure.set(row)),
                        None => {
                            let values = part.values_of(local).iter();
                            values.for_each(|value| open.set(part.row(*value)));
                        }
                    },
                }
            }
        }
        if let Some(within) = within {
            sure.and(within);
            open.and(within);
        }
        if !open.is_empty() {
            self.look(test, sections, values.start, &mut open)?;
            sure.or(&open);
        }
        Ok(sure)
    }

    /// How many values of the column pass, if templates and the slots of a few rows tell.
    pub(crate) fn count(
        &self,
        test: &TextTest,
        sections: &Sections,
    ) -> Result<Option<u64>, SegmentError> {
        let undecided = |planned: &Planned| match planned.plan {
            Plan::Decode => planned.no > 0 || self.raw.len() > RAW_COUNTED_MAX,
            Plan::Both(_) => true,
            _ => false,
        };
        let with_slots = || {
            let of_slots =
                |planned: &&Planned| matches!(planned.plan, Plan::Slots(_) | Plan::Walk(..));
            test.planned.iter().filter(of_slots)
        };
        let rows: usize = with_slots().map(|planned| self.rows_of(planned.no)).sum();
        if rows > SLOTS_COUNTED_MAX || test.planned.iter().any(undecided) {
            return Ok(None);
        }
        let mut needed: Vec<_> =
            with_slots().filter_map(|planned| self.slot_section(planned.no)).collect();
        needed.sort_unstable();
        needed.dedup();
        sections.require(needed)?;
        let mut count = 0;
        for planned in &test.planned {
            count += match &planned.plan {
                Plan::All => self.rows_of(planned.no),
                Plan::Slots(_) | Plan::Walk(..) => {
                    let template = self.template(planned.no)?;
                    let mut passing = 0;
                    for at in 0..planned.pages.len() {
                        passing += match self.kept_page(test, planned, template, sections, at)? {
                            Some(page) => page.count(),
                            None => return Ok(None),
                        };
                    }
                    passing
                }
                Plan::Decode if planned.no == 0 => {
                    let Some(held) = self.raw.hold(sections)? else { return Ok(None) };
                    test.raw.get_or_init(|| held.passing(&test.test)).count()
                }
                _ => 0,
            };
        }
        Ok(Some(count as u64))
    }

    /// Gives the rows of a local template that pass, or of which slots allow it; decides that for the
    /// pages that hold their ordinals, if that was not done before.
    fn for_each_passing(
        &self,
        test: &TextTest,
        planned: &Planned,
        part: &Part<'_>,
        local: &Local,
        sections: &Sections,
        mut each: impl FnMut(usize),
    ) -> Result<(), SegmentError> {
        let template = self.template(local.template)?;
        for at in pages_of(local) {
            if let Some(page) = self.kept_page(test, planned, template, sections, at)? {
                part.for_each_in(page, at * PAGE_ROWS, local, &mut each);
            }
        }
        Ok(())
    }

    /// The rows of a page that pass, or of which slots allow it, decided once.
    fn kept_page<'t>(
        &self,
        test: &'t TextTest,
        planned: &'t Planned,
        template: &Template,
        sections: &Sections,
        at: usize,
    ) -> Result<Option<&'t Mask>, SegmentError> {
        let Some(lock) = planned.pages.get(at) else { return Ok(None) };
        if let Some(page) = lock.get() {
            return Ok(Some(page));
        }
        let first = at * PAGE_ROWS;
        let ordinals = first..template.rows.min(first + PAGE_ROWS);
        let stored = self.stored(template, sections)?;
        let page = match &planned.plan {
            Plan::Slots(tree) | Plan::Both(tree) => {
                tree.evaluate(&template.slots, stored, &ordinals)
            }
            Plan::Walk(path, table) => {
                let passed = path.follow(table, &template.slots, stored, &ordinals);
                let mut page = passed.matched;
                for at in passed.unknown.iter() {
                    if test.test.matches(&self.text(planned.no, template, stored, first + at)?) {
                        page.set(at);
                    }
                }
                page
            }
            _ => return Ok(None),
        };
        Ok(Some(lock.get_or_init(|| page)))
    }

    /// The text of a row.
    fn text(
        &self,
        no: u32,
        template: &Template,
        stored: &[Stored],
        ordinal: usize,
    ) -> Result<String, SegmentError> {
        let mut text = Vec::new();
        self.render(no, template, stored, ordinal, &mut text);
        String::from_utf8(text)
            .map_err(|error| SegmentError::damaged("text column", error.to_string()))
    }

    /// Keeps the values whose text passes; bit 0 of `open` is value `first`.
    fn look(
        &self,
        test: &TextTest,
        sections: &Sections,
        first: usize,
        open: &mut Mask,
    ) -> Result<(), SegmentError> {
        let len = open.len();
        let parts = self.blocks(sections, first..first + len)?;
        sections.require(self.sections_of(&self.needs(&parts, Some(open))))?;
        let (mut texts, mut raw) = (Texts::default(), RawCursor::default());
        for start in (0..len).step_by(BLOCK_VALUES) {
            let end = len.min(start + BLOCK_VALUES);
            let picked = Mask::collect(end - start, |at| open.get(start + at));
            if picked.is_empty() {
                continue;
            }
            texts.clear();
            let range = first + start..first + end;
            self.append_with(&mut raw, sections, range, Some(&picked), &mut texts)?;
            let bytes = std::str::from_utf8(&texts.bytes)
                .map_err(|error| SegmentError::damaged("text column", error.to_string()))?;
            for (at, ends) in picked.iter().zip(texts.offsets.windows(2)) {
                let [from, until] = ends else { continue };
                let text = bytes.get(*from as usize..*until as usize);
                let text = text.ok_or_else(|| {
                    SegmentError::damaged("text column", "cuts a character in two")
                })?;
                if !test.test.matches(text) {
                    open.clear(start + at);
                }
            }
        }
        Ok(())
    }
}

/// The pages that hold the ordinals of a local template.
fn pages_of(local: &Local) -> Range<usize> {
    local.first / PAGE_ROWS..(local.first + local.count).div_ceil(PAGE_ROWS)
}
