//! A text column split into templates and typed slots.
//!
//! Signatures (all `pub(crate)`), the names that the rest of the crate uses:
//!
//! ```text
//! TextEncoder::new() -> TextEncoder
//!   .push(&mut self, &str)
//!   .finish(self, &mut SectionWriter<'_>, meta: &mut Vec<u8>) -> Result<Outcome, SegmentError>
//! enum Outcome { Written, NotWorth }          // NotWorth: nothing was written, neither sections nor meta
//!
//! TextReader::open(meta: &mut &[u8]) -> Result<TextReader, SegmentError>
//!   .len() -> usize
//!   .sections() -> Range<SectionNo>           // all sections of the column
//!   .load(&self, &Sections) -> Result<TextColumn, SegmentError>    // Missing(one section) if absent
//!
//! TextColumn (Send + Sync; keep one per open segment)
//!   .len() -> usize
//!   .memory_bytes() -> usize
//!   .prepare(&self, &FieldTest) -> TextTest   // decided from templates and dictionaries alone
//!   .select(&self, &TextTest, &Sections, values: Range<usize>, within: Option<&Mask>)
//!        -> Result<Mask, SegmentError>        // bit 0 is the first of `values`
//!   .append(&self, &Sections, values: Range<usize>, picked: Option<&Mask>, out: &mut Texts)
//!        -> Result<(), SegmentError>
//!   .templates(&self) -> impl Iterator<Item = TemplateInfo { number: u32, text: String, rows: u64 }>
//!   .template_numbers(&self, &Sections, values: Range<usize>) -> Result<Vec<u32>, SegmentError>
//! TextTest (Send + Sync; good for the column that made it)
//!   .verdict() -> predicate::Verdict
//!   .count() -> Option<u64>                   // where the templates alone tell it
//! Texts { bytes: Vec<u8>, offsets: Vec<i32> } // Arrow's layout; starts as Texts::default()
//!   .len(), .into_array() -> Result<StringArray, SegmentError>
//! ```
