//! What can be wrong with the bytes of an L0 section or a segment.

/// Bytes were not what was written, or records could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// A checksum, a bound or a tag does not hold.
    #[error("damaged: {place}: {trouble}")]
    Damaged {
        /// Which section, and which block and column where it is one of these.
        place: String,
        /// What does not hold.
        trouble: String,
    },
    /// The file was written by a newer Lodge.
    #[error("has format version {found}, this program reads versions up to {known}")]
    NewerVersion {
        /// Version found.
        found: u32,
        /// Highest version known.
        known: u32,
    },
    /// These sections are not in memory yet: read them, supply them, ask again.
    #[error("sections {0:?} are not in memory")]
    Missing(Vec<u32>),
    /// Records do not have the shape of records, which is a bug of the caller.
    #[error("records cannot be written: {0}")]
    Encode(String),
}

impl SegmentError {
    pub(crate) fn damaged(place: impl Into<String>, trouble: impl Into<String>) -> Self {
        SegmentError::Damaged { place: place.into(), trouble: trouble.into() }
    }
}
