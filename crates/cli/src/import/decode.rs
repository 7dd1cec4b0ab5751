//! Lines to records: JSON lines through the wire decoder, text through the agent's own parser, so
//! that an imported file looks like one that the agent has tailed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use arrow::array::RecordBatch;
use lodge_agent::counters::Counters;
use lodge_agent::frame::Frames;
use lodge_agent::parse::{Context, RecordParser, Text};
use lodge_agent::timestamp::TimeContext;
use lodge_record::builder::BatchBuilder;
use lodge_wire::jsonline;

use crate::failure::Failure;

/// How the lines of a source become records.
pub enum Decoder {
    /// Each line is a JSON object.
    Json {
        /// Which fields hold what.
        options: jsonline::Options,
        /// The time of a record that has none.
        time_ns: i64,
        /// Decoders that know the fields and how much comes of them, to be used again.
        idle: Mutex<Vec<jsonline::Decoder>>,
    },
    /// Each line is a message; stack traces are joined to the line before them.
    Text {
        /// The file, for the labels `file` and `service`.
        path: PathBuf,
        /// The time of a record that has none, and the year of one that leaves it out.
        time_ns: i64,
    },
}

/// The records of a chunk.
pub struct Decoded {
    /// The records; none when the chunk held no record.
    pub records: Option<RecordBatch>,
    /// Records that were kept as text because they could not be read.
    pub malformed: u64,
}

impl Decoder {
    /// Decodes a chunk of whole lines.
    pub fn decode(&self, lines: &[u8]) -> Result<Decoded, Failure> {
        match self {
            Self::Json { options, time_ns, idle } => {
                let known = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let mut decoder =
                    known.unwrap_or_else(|| jsonline::Decoder::new(options, *time_ns));
                decoder.body(lines);
                let decoded = decoder.finish().map_err(no_columns)?;
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(decoder);
                Ok(Decoded { records: decoded.records, malformed: decoded.malformed_total })
            }
            Self::Text { path, time_ns } => text(lines, path, *time_ns),
        }
    }
}

fn text(lines: &[u8], path: &std::path::Path, time_ns: i64) -> Result<Decoded, Failure> {
    // The host is left open: the file may come from another machine.
    let mut parser = RecordParser::for_file("", path, &BTreeMap::new());
    let counters = Counters::default();
    let context = Context { time: TimeContext::system(time_ns), counters: &counters };
    let mut builder = BatchBuilder::new();
    for frame in Frames::new(lines, true, true) {
        let text = Text::whole(frame.text);
        parser.append(&mut builder, text, &context);
    }
    let malformed = counters.invalid_utf8_records.get();
    if builder.rows() == 0 {
        return Ok(Decoded { records: None, malformed });
    }
    let records = builder.finish().map_err(no_columns)?;
    Ok(Decoded { records: Some(records), malformed })
}

fn no_columns(error: arrow::error::ArrowError) -> Failure {
    Failure::new(format!("the lines cannot be put into columns: {error}"))
}
