//! GELF 1.1, Graylog's format: one message is one JSON object.
//!
//! | sent | kept |
//! |---|---|
//! | `short_message`, else `message`, `full_message` | `_msg`; the others stay fields |
//! | `timestamp`, seconds with a fraction | the record's time; received where missing |
//! | `host` | field and stream label `host.name` |
//! | `level`, a syslog severity | `level`, its number in `syslog.severity` |
//! | `_name` | `name`; `_container_name` as `container.name`, … |
//! | `_service.name`, `_container_name` | stream labels too |
//! | `version` | left out |
//!
//! Chunks, compression and the framing of TCP are taken off before. Invariants: a message is one
//! record or one error; what is no message can be kept as text, where nobody is there to be told.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use crate::conventions::{self, Kept};
use crate::documents::{Document, Documents};
use crate::json_fields::Dialect;
use crate::json_object::JsonError;
use crate::{jsonline, level};

const DIALECT: Dialect = Dialect {
    naming,
    levels: &["level"],
    level_of: level::of_syslog_or_word,
    original_level: "syslog.severity",
    asked: "",
};

fn naming(name: &str) -> Kept<'_> {
    match name {
        "version" => Kept::Not,
        "host" => conventions::as_sent("host.name"),
        // These would be taken for what the message says itself.
        "_level" | "_host.name" => conventions::as_sent(name),
        // Docker's driver.
        "_container_name" => conventions::as_sent("container.name"),
        "_image_name" => conventions::as_sent("container.image.name"),
        _ => match name.strip_prefix('_') {
            Some(bare) => conventions::without_prefix(name, bare),
            None => conventions::as_sent(name),
        },
    }
}

fn options() -> jsonline::Options {
    let names = |all: &[&str]| all.iter().map(|n| n.to_string()).collect();
    jsonline::Options {
        time_fields: names(&["timestamp"]),
        msg_fields: names(&["short_message", "message", "full_message"]),
        stream_fields: names(&["host.name", "service.name", "container.name"]),
        ..jsonline::Options::default()
    }
}

/// Decodes messages one after the other into a batch.
pub struct Decoder {
    documents: Documents,
}

impl Decoder {
    /// A decoder with nothing in it. `received_ns` is the time of messages that have none.
    pub fn new(received_ns: i64) -> Self {
        Decoder { documents: Documents::new(&options(), DIALECT, received_ns) }
    }

    /// Sets the time of the messages to come that have none.
    pub fn set_received_ns(&mut self, received_ns: i64) {
        self.documents.set_received_ns(received_ns);
    }

    /// Records so far.
    pub fn rows(&self) -> usize {
        self.documents.rows()
    }

    /// Bytes of the records so far, roughly.
    pub fn bytes(&self) -> usize {
        self.documents.bytes()
    }

    /// Fields that the batch in hand has columns for.
    pub fn columns(&self) -> usize {
        self.documents.builder.columns()
    }

    /// Decodes one message. After an error the record does not exist.
    pub fn message(&mut self, bytes: &[u8]) -> Result<(), JsonError> {
        let document = Document::new(bytes.trim_ascii());
        let text = &*document.text;
        self.documents.walk(text)?;
        let time_ns = self.documents.settle(text);
        let stream = self.documents.stream(text, b"", |_| {});
        self.documents.close(time_ns, stream, document.raw);
        Ok(())
    }

    /// Keeps what is no message as the text of a record, with the reason. `bytes` are the head of
    /// `original_bytes`.
    pub fn keep_as_text(&mut self, bytes: &[u8], original_bytes: usize, reason: &str) {
        self.documents.keep_as_text(bytes, original_bytes, reason);
        let time_ns = self.documents.received_ns();
        let stream = self.documents.stream("", b"", |_| {});
        self.documents.close(time_ns, stream, None);
    }

    /// The records so far; `None` if there are none. The decoder is empty again.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        self.documents.finish()
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::test_support::{Damage, column, only, text};

    fn decoded(messages: &[&[u8]]) -> RecordBatch {
        let mut decoder = Decoder::new(7);
        for message in messages {
            decoder.message(message).expect("a message");
        }
        let records = decoder.finish().expect("arrow").expect("records");
        only(std::slice::from_ref(&records)).clone()
    }

    #[test]
    fn messages_of_libraries_and_of_docker() {
        let records = decoded(&[
            br#"{"version":"1.1","host":"example.org","short_message":"short","full_message":
                "long\nlong","timestamp":1385053862.3072,"level":1,"_user_id":9001,"_k":"v",
                "_level":"INFO","_trace_id":"AbC1","__msg":"x","_":"y","_host":"z","_time":5}"#,
            br#"{"version":"1.1","host":"h","short_message":"m","timestamp":1772366400.123,
                "level":6,"_container_name":"web","_container_id":"c1","_image_name":"nginx"}"#,
            b"{\"message\":\"caf\xe9\",\"level\":\"warning\",\"timestamp\":\"soon\"}",
        ]);
        let at = |name| text(&records, name, 0);
        assert_eq!(column(&records, "_msg"), ["short", "m", "caf\u{fffd}"]);
        assert_eq!(at("full_message").as_deref(), Some("long\nlong"));
        assert_eq!(at("_time").as_deref(), Some("2013-11-21T17:11:02.3072Z"));
        assert_eq!(column(&records, "level"), ["fatal", "info", "warn"]);
        assert_eq!(column(&records, "syslog.severity"), ["1", "6", "warning"]);
        assert_eq!(at("user_id").as_deref(), Some("9001"));
        assert_eq!(at("_level").as_deref(), Some("INFO"));
        assert_eq!(at("trace_id").as_deref(), Some("abc1"));
        assert_eq!((at("__msg").as_deref(), at("_").as_deref()), (Some("x"), Some("y")));
        assert_eq!((at("host").as_deref(), at("time").as_deref()), (Some("z"), Some("5")));
        assert_eq!(at("version"), None);
        assert_eq!(column(&records, "container.id")[1], "c1");
        assert_eq!(column(&records, "container.image.name")[1], "nginx");
        let streams = column(&records, "_stream");
        assert_eq!(streams[0], r#"{host.name="example.org"}"#);
        assert_eq!(streams[1], r#"{container.name="web",host.name="h"}"#);
        assert_eq!(column(&records, "timestamp")[2], "soon");
        assert!(text(&records, "lodge.raw_base64", 2).is_some());
    }

    #[test]
    fn what_is_no_message_is_refused_or_kept() {
        let mut decoder = Decoder::new(7);
        let deep = format!("{{\"_a\":{}", "[".repeat(100_000));
        for bad in ["", "text", "[]", "{\"short_message\":\"m\"", deep.as_str()] {
            assert!(decoder.message(bad.as_bytes()).is_err());
        }
        assert_eq!(decoder.rows(), 0);
        decoder.keep_as_text(b"text", 4, "not a JSON object");
        let records = decoder.finish().expect("arrow").expect("records");
        assert_eq!(column(&records, "_msg"), ["text"]);
        assert_eq!(column(&records, "lodge.error"), ["not a JSON object"]);
        assert_eq!(column(&records, "_stream"), ["{}"]);
    }

    #[test]
    fn a_message_is_a_record_or_an_error_fuzz() {
        let good = r#"{"version":"1.1","host":"h","short_message":"s \u00e9","full_message":"f","timestamp":1772366400.5,"level":3,"_a":{"b":[1]},"_level":2,"_spanId":"F","_msg":"m"}"#;
        let mut random = SmallRng::seed_from_u64(6);
        let mut decoder = Decoder::new(7);
        for round in 0..6_000 {
            let mut body = good.as_bytes().to_vec();
            for _ in 0..random.random_range(0..4) {
                Damage(&mut random).of(&mut body);
            }
            let before = decoder.rows();
            let stored = decoder.message(&body).is_ok();
            assert_eq!(decoder.rows(), before + usize::from(stored));
            if !stored && round % 2 == 0 {
                decoder.keep_as_text(&body, body.len(), "damaged");
                assert_eq!(decoder.rows(), before + 1);
            }
            if round % 50 == 0
                && let Some(records) = decoder.finish().expect("arrow")
            {
                lodge_record::schema::check(&records).expect("shape");
            }
        }
    }
}
