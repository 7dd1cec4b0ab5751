//! Syslog messages as records.
//!
//! | said | kept |
//! |---|---|
//! | time | the record's time; one that cannot be read stays in `syslog.timestamp` |
//! | host, program | `syslog.hostname`, `syslog.appname`: labels of the stream |
//! | process, kind, facility | `syslog.procid`, `syslog.msgid`, `syslog.facility` |
//! | severity | `level`; without one what the text shows |
//! | structured data | `syslog.data.<element>.<parameter>` |
//! | who sent it | `client.address`, a label where the message names no host |
//!
//! Invariants: every message becomes exactly one record; of a long one the head is kept and marked;
//! the bytes of one that is no UTF-8 are kept beside it.

use std::borrow::Cow;
use std::net::IpAddr;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use hashbrown::HashMap;
use lodge_record::builder::{BatchBuilder, StreamCode};
use lodge_record::limits;
use lodge_record::stream::StreamLabels;

use crate::syslog::stamps::{Stamps, Zone};
use crate::syslog::{self, APPNAME, HOSTNAME};
use crate::{level, text_value};

/// Who sent a message, as agents call it too.
const CLIENT: &str = "client.address";
/// Longest value that becomes a label; a longer one is a field.
const LABEL_BYTES_MAX: usize = 255;
/// Most streams of a batch that are remembered by their labels; more are looked up by their text.
const STREAMS_MAX: usize = 65_536;

/// A message as it came.
#[derive(Clone, Copy, Debug)]
pub struct Received<'m> {
    /// Its bytes, or the head of them.
    pub bytes: &'m [u8],
    /// How many there were.
    pub original_bytes: u64,
    /// Who sent them.
    pub client: IpAddr,
}

/// Decodes messages one after the other into a batch.
pub struct Decoder {
    builder: BatchBuilder,
    streams: HashMap<Vec<u8>, StreamCode>,
    key: Vec<u8>,
    name: String,
    stamps: Stamps,
    client: Option<IpAddr>,
    client_text: String,
    received_ns: i64,
}

/// The labels of a message's stream.
#[derive(Clone, Copy)]
struct Labels<'m> {
    host: Option<&'m str>,
    app: Option<&'m str>,
    client: Option<&'m str>,
}

impl<'m> Labels<'m> {
    fn all(&self) -> impl Iterator<Item = (&'m str, &'m str)> {
        let all: [(&'m str, _); 3] =
            [(CLIENT, self.client), (APPNAME, self.app), (HOSTNAME, self.host)];
        all.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }

    fn write_key(&self, key: &mut Vec<u8>) {
        key.clear();
        for part in [self.host, self.app, self.client] {
            // A label has at most 255 bytes.
            let part = part.unwrap_or_default();
            key.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
            key.extend_from_slice(part.as_bytes());
        }
    }
}

impl Decoder {
    /// A decoder with nothing in it. Times that name no zone are in `zone`.
    pub fn new(zone: Zone) -> Self {
        Decoder {
            builder: BatchBuilder::new(),
            streams: HashMap::new(),
            key: Vec::new(),
            name: String::new(),
            stamps: Stamps::new(zone),
            client: None,
            client_text: String::new(),
            received_ns: 0,
        }
    }

    /// Sets the time of the messages to come that have none.
    pub fn set_received_ns(&mut self, received_ns: i64) {
        self.received_ns = received_ns;
    }

    /// Records so far.
    pub fn rows(&self) -> usize {
        self.builder.rows()
    }

    /// Bytes of the records so far, roughly.
    pub fn bytes(&self) -> usize {
        self.builder.bytes()
    }

    /// Fields that the batch in hand has columns for.
    pub fn columns(&self) -> usize {
        self.builder.columns()
    }

    /// Adds a message; whether it began as one does, with a priority or a time.
    pub fn message(&mut self, received: Received<'_>) -> bool {
        let head = received.bytes.get(..limits::LINE_BYTES_MAX).unwrap_or(received.bytes);
        let is_cut = (head.len() as u64) < received.original_bytes;
        let text = text_value::text_of(head, is_cut);
        let message = syslog::parse(text.trim_start_matches('\u{feff}'));
        let time_ns = self.time(&message);
        self.set_fields(&message);
        if matches!(text, Cow::Owned(_)) {
            text_value::keep_raw(&mut self.builder, head);
        }
        if is_cut {
            let original_bytes = usize::try_from(received.original_bytes).unwrap_or(usize::MAX);
            text_value::mark_cut(&mut self.builder, original_bytes);
        }
        let stream = self.set_labels(&message, received.client);
        self.builder.finish_row(time_ns, stream);
        message.severity.is_some() || message.timestamp.is_some()
    }

    fn time(&mut self, message: &syslog::Message<'_>) -> i64 {
        let Some(stamp) = message.timestamp else { return self.received_ns };
        self.stamps.read(stamp, self.received_ns).unwrap_or_else(|| {
            self.builder.field_str("syslog.timestamp", stamp);
            self.received_ns
        })
    }

    fn set_fields(&mut self, message: &syslog::Message<'_>) {
        let Decoder { builder, name, .. } = self;
        builder.message(message.text);
        let level = match message.severity {
            Some(severity) => level::of_syslog_priority(severity),
            None => level::in_line(message.text),
        };
        let named = [
            ("level", level),
            (syslog::PROCID, message.procid),
            (syslog::MSGID, message.msgid),
            (syslog::FACILITY, message.facility.map(syslog::facility_name)),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                builder.field_str(name, value);
            }
        }
        for (element, parameter, value) in &message.structured {
            name.clear();
            syslog::push_data_name(name, element, parameter);
            builder.field_str(name, value);
        }
    }

    /// Sets the labels of the message's stream as fields, and beside them what cannot be one.
    fn set_labels(&mut self, message: &syslog::Message<'_>, client: IpAddr) -> StreamCode {
        if self.client != Some(client) {
            self.client = Some(client);
            self.client_text = client.to_canonical().to_string();
        }
        let fits = |value: &&str| value.len() <= LABEL_BYTES_MAX;
        let host = message.hostname.filter(fits);
        let labels = Labels {
            host,
            app: message.appname.filter(fits),
            client: host.is_none().then_some(&self.client_text),
        };
        let builder = &mut self.builder;
        for (name, value, label) in [
            (HOSTNAME, message.hostname, labels.host),
            (syslog::APPNAME, message.appname, labels.app),
            (CLIENT, Some(&*self.client_text), labels.client),
        ] {
            if let (Some(value), None) = (value, label) {
                builder.field_str(name, value);
            }
        }
        labels.write_key(&mut self.key);
        let code = match self.streams.get(self.key.as_slice()) {
            Some(&code) => code,
            None => {
                let mut set = StreamLabels::new();
                labels.all().for_each(|(name, value)| set.set(name, value));
                let code = builder.stream_labelled(&set.canonical(), labels.all());
                if self.streams.len() < STREAMS_MAX {
                    self.streams.insert(self.key.clone(), code);
                }
                code
            }
        };
        builder.set_labels(code);
        code
    }

    /// The records so far; `None` if there are none. The decoder is empty again.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let records = if self.rows() > 0 { Some(self.builder.finish()?) } else { None };
        self.streams.clear();
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::test_support::{column, only, text};

    const CLIENT_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    /// 2026-03-01T12:00:00Z
    const NOW_NS: i64 = 1_772_366_400_000_000_000;

    fn decoder() -> Decoder {
        let mut decoder = Decoder::new(Box::new(Some));
        decoder.set_received_ns(NOW_NS);
        decoder
    }

    fn whole(bytes: &[u8]) -> Received<'_> {
        Received { bytes, original_bytes: bytes.len() as u64, client: CLIENT_IP }
    }

    fn decoded(messages: &[&[u8]]) -> RecordBatch {
        let mut decoder = decoder();
        for message in messages {
            decoder.message(whole(message));
        }
        let records = decoder.finish().unwrap().unwrap();
        only(std::slice::from_ref(&records)).clone()
    }

    #[test]
    fn messages_become_records_field_by_field() {
        let records = decoded(&[
            b"<165>1 2026-03-01T10:00:00.5Z web-1 shop 77 ID47 [a@1 k=\"v\" q=\"\\\"\"] paid",
            b"<34>Feb 28 22:14:15 web-2 su[9]: 'su root' failed",
            b"<13>just text",
            b"no header at all: ERROR it broke",
            b"<13>Feb 30 22:14:15 h app: caf\xe9",
        ]);
        let at = |name| text(&records, name, 0).unwrap_or_default();
        assert_eq!(at("_msg"), "paid");
        assert_eq!(at("_time"), "2026-03-01T10:00:00.5Z");
        assert_eq!(at("_stream"), r#"{syslog.appname="shop",syslog.hostname="web-1"}"#);
        assert_eq!((at("syslog.hostname"), at("syslog.appname")), ("web-1".into(), "shop".into()));
        assert_eq!((at("syslog.procid"), at("syslog.msgid")), ("77".into(), "ID47".into()));
        assert_eq!((at("syslog.facility"), at("level")), ("local4".into(), "notice".into()));
        assert_eq!((at("syslog.data.a@1.k"), at("syslog.data.a@1.q")), ("v".into(), "\"".into()));
        assert_eq!(column(&records, "client.address"), ["192.0.2.1"; 5]);
        assert_eq!(text(&records, "_time", 1).as_deref(), Some("2026-02-28T22:14:15Z"));
        assert_eq!(text(&records, "level", 1).as_deref(), Some("critical"));
        let streams = column(&records, "_stream");
        assert_eq!(streams[2], r#"{client.address="192.0.2.1"}"#);
        assert_eq!(streams[3], r#"{client.address="192.0.2.1"}"#);
        assert_eq!(text(&records, "level", 3).as_deref(), Some("error"));
        assert_eq!(text(&records, "_time", 3).as_deref(), Some("2026-03-01T12:00:00Z"));
        assert_eq!(text(&records, "syslog.timestamp", 4).as_deref(), Some("Feb 30 22:14:15"));
        assert_eq!(text(&records, "_msg", 4).as_deref(), Some("caf\u{fffd}"));
        assert!(text(&records, "lodge.raw_base64", 4).is_some());
    }

    #[test]
    fn long_messages_and_long_names_are_bounded() {
        let mut decoder = decoder();
        let host = "h".repeat(LABEL_BYTES_MAX + 1);
        decoder.message(whole(format!("<13>1 - {host} app - - - text").as_bytes()));
        let head = b"<13>1 - host app - - - text \xc3";
        assert!(decoder.message(Received {
            bytes: head,
            original_bytes: 5_000_000,
            client: CLIENT_IP
        }));
        let records = decoder.finish().unwrap().unwrap();
        assert_eq!(text(&records, "syslog.hostname", 0), Some(host));
        assert_eq!(
            column(&records, "_stream")[0],
            r#"{client.address="192.0.2.1",syslog.appname="app"}"#
        );
        assert_eq!(text(&records, "_msg", 1).as_deref(), Some("text "));
        assert_eq!(text(&records, "truncated", 1).as_deref(), Some("true"));
        assert_eq!(text(&records, "lodge.original_bytes", 1).as_deref(), Some("5000000"));
        assert_eq!(text(&records, "lodge.raw_base64", 1), None);
        assert!(!decoder.message(whole(b"text")), "neither a priority nor a time");
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_record_fuzz(
            messages in proptest::collection::vec(
                proptest::collection::vec(
                    prop_oneof![any::<u8>(), Just(b' '), Just(b'<'), Just(b'>'), b'0'..=b'9'],
                    0..80),
                1..20),
        ) {
            let mut decoder = decoder();
            for (before, message) in messages.iter().enumerate() {
                decoder.message(whole(message));
                prop_assert_eq!(decoder.rows(), before + 1);
            }
            lodge_record::schema::check(&decoder.finish().unwrap().unwrap()).unwrap();
        }
    }
}
