//! What the agent did, in numbers: everything that was read is sent, acknowledged, or counted here
//! with the reason why it was not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counters of one agent; shared by all its parts.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[doc = $doc])+ pub $name: Counter,)+ }

        /// The counters at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals { $($(#[doc = $doc])+ pub $name: u64,)+ }

        impl Counters {
            /// Reads all counters.
            pub fn totals(&self) -> Totals {
                Totals { $($name: self.$name.get(),)+ }
            }
        }

        impl Totals {
            /// The counters that are not zero, by name.
            pub fn named(&self) -> BTreeMap<String, u64> {
                let all = [$((stringify!($name), self.$name),)+];
                let some = all.into_iter().filter(|(_, value)| *value > 0);
                some.map(|(name, value)| (name.to_owned(), value)).collect()
            }
        }

        impl fmt::Display for Totals {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut separator = "";
                $(
                    if self.$name > 0 {
                        write!(f, "{separator}{}={}", stringify!($name), self.$name)?;
                        separator = " ";
                    }
                )+
                if separator.is_empty() { f.write_str("nothing yet") } else { Ok(()) }
            }
        }
    };
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// Lines framed from sources; what is read again (restart, adopted position) counts again.
    read_lines,
    /// Bytes of those lines.
    read_bytes,
    /// Records handed to shipping.
    sent_records,
    /// Records that the server acknowledged as durable.
    acknowledged_records,
    /// Bytes of request bodies that were sent, retries included.
    sent_bytes,
    /// Requests sent again after a failure.
    retried_requests,
    /// Batches of which the server said that it had them already.
    duplicate_batches,
    /// New epochs begun because the server knew less than the agent.
    gaps,
    /// Files found.
    files_found,
    /// Files not tailed because they are compressed, binary or unreadable.
    files_skipped,
    /// Files recognised as copies of files that were read already.
    copied_files,
    /// Times a file's content was cut off or replaced in place.
    truncated_files,
    /// Bytes that were cut off before they were read, as far as is known.
    dropped_bytes_truncated,
    /// Bytes of files deleted before they were read and while they were not held open.
    dropped_bytes_deleted,
    /// Lines with nothing in them, of which no record is made.
    dropped_lines_blank,
    /// Bytes cut off lines longer than the limit.
    dropped_bytes_long_lines,
    /// Bytes of zeros skipped where a writer left a hole after truncation.
    dropped_bytes_holes,
    /// Records that the server refused for good; they are in the dead-letter file.
    dead_letter_records,
    /// Records refused for good that the full dead-letter file could not take.
    dropped_records_dead_letter_full,
    /// Multi-line records ended by their limit of lines or bytes.
    multiline_capped,
    /// Records whose bytes were not UTF-8; they carry their original bytes.
    invalid_utf8_records,
    /// Records that were not in the notation that their source is said to be in; they are text.
    unmatched_records,
    /// Records that were sent to a listener and dropped: its spool or its socket was full.
    dropped_records_listen,
    /// Times that records waited for a spool that was full or could not be written.
    spool_waits,
    /// Records dropped by rules and programs; the pipeline's totals say by which.
    dropped_records_rules,
    /// Times reading paused because the memory for unsent records was used up.
    memory_waits,
}
