//! Which values pass a test.

use std::ops::Range;

use super::append::Texts;
use super::check::Tree;
use super::column::{Part, Template, TextColumn};
use super::prepare::{PAGE_ROWS, Plan, TextTest};
use super::raw::RawCursor;
use super::rows::BLOCK_VALUES;
use crate::SegmentError;
use crate::bits::Mask;
use crate::sections::Sections;

/// What is known of a template's values in a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    No,
    Yes,
    /// Their texts are looked at.
    Text,
    /// Those that meet the conditions on slots pass.
    Slots,
    /// Of those that meet the conditions on slots, the texts are looked at.
    SlotsThenText,
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
        let mut needs = self.needs(&parts, within);
        needs.retain(|(no, _)| {
            matches!(test.plans.get(*no as usize), Some(Plan::Slots(_) | Plan::Both(_)))
        });
        sections.require(self.sections_of(&needs))?;
        let (mut sure, mut open) = (Mask::none(len), Mask::none(len));
        for part in &parts {
            let range = part.at..part.at + part.values.len();
            if within.is_none_or(|within| within.count_range(range) > 0) {
                self.select_part(test, sections, part, &mut sure, &mut open)?;
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

    /// Sets in `sure` the values that pass, and in `open` those whose texts must be looked at.
    fn select_part(
        &self,
        test: &TextTest,
        sections: &Sections,
        part: &Part<'_>,
        sure: &mut Mask,
        open: &mut Mask,
    ) -> Result<(), SegmentError> {
        let mut fates = Vec::with_capacity(part.block.locals.len());
        for local in &part.block.locals {
            let fate = match test.plans.get(local.template as usize) {
                None | Some(Plan::None) => Fate::No,
                Some(Plan::All) => Fate::Yes,
                Some(Plan::Decode) => Fate::Text,
                Some(plan @ (Plan::Slots(tree) | Plan::Both(tree))) => {
                    let ordinals = local.first..local.first + local.count;
                    let met = self.any_met(test, local.template, tree, sections, ordinals)?;
                    match (met, plan) {
                        (false, _) => Fate::No,
                        (true, Plan::Slots(_)) => Fate::Slots,
                        (true, _) => Fate::SlotsThenText,
                    }
                }
            };
            fates.push(fate);
        }
        let has = |fate: Fate| fates.contains(&fate);
        let slots = has(Fate::Slots) || has(Fate::SlotsThenText);
        if !slots && !has(Fate::Yes) && !has(Fate::Text) {
            return Ok(());
        }
        let mut ordinals =
            if slots { part.block.ordinals_at(part.values.start) } else { Vec::new() };
        part.block.for_each(part.values.clone(), |at, place| {
            let fate = fates.get(place).copied().unwrap_or(Fate::No);
            match fate {
                Fate::No => {}
                Fate::Yes => sure.set(part.at + at),
                Fate::Text => open.set(part.at + at),
                Fate::Slots | Fate::SlotsThenText => {
                    let Some(ordinal) = ordinals.get_mut(place) else { return };
                    let this = *ordinal;
                    *ordinal += 1;
                    let template = part.block.locals.get(place).map_or(0, |local| local.template);
                    if !is_met(test, template, this) {
                        return;
                    }
                    if fate == Fate::Slots {
                        sure.set(part.at + at);
                    } else {
                        open.set(part.at + at);
                    }
                }
            }
        });
        Ok(())
    }

    /// Decides the conditions on slots for the pages that hold these ordinals. Gives whether any of
    /// the ordinals meets them.
    fn any_met(
        &self,
        test: &TextTest,
        no: u32,
        tree: &Tree,
        sections: &Sections,
        ordinals: Range<usize>,
    ) -> Result<bool, SegmentError> {
        let Some(template) = self.template(no) else { return Ok(false) };
        let pages = test.pages.get(no as usize).map_or(&[][..], Vec::as_slice);
        let mut any = false;
        for at in ordinals.start / PAGE_ROWS..ordinals.end.div_ceil(PAGE_ROWS) {
            let Some(lock) = pages.get(at) else { continue };
            let page = match lock.get() {
                Some(page) => page,
                None => {
                    let page = self.page(template, tree, sections, at)?;
                    lock.get_or_init(|| page)
                }
            };
            let first = at * PAGE_ROWS;
            let from = ordinals.start.saturating_sub(first);
            any |= page.count_range(from..ordinals.end.saturating_sub(first)) > 0;
        }
        Ok(any)
    }

    fn page(
        &self,
        template: &Template,
        tree: &Tree,
        sections: &Sections,
        at: usize,
    ) -> Result<Mask, SegmentError> {
        let stored = self.stored(template, sections)?;
        let first = at * PAGE_ROWS;
        let ordinals = first..template.rows.min(first + PAGE_ROWS);
        Ok(tree.evaluate(&template.slots, stored, &ordinals))
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

/// Whether a row meets the conditions on its slots, which were decided before.
fn is_met(test: &TextTest, template: u32, ordinal: usize) -> bool {
    let pages = test.pages.get(template as usize);
    let page = pages.and_then(|pages| pages.get(ordinal / PAGE_ROWS)).and_then(|lock| lock.get());
    page.is_some_and(|page| page.get(ordinal % PAGE_ROWS))
}
