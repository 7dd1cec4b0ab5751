//! The topic of dead letters: messages that can be no record, as they were, with where they come
//! from and why.
//!
//! Invariant: a message counts as handed over when all replicas have it, and only then does its
//! offset advance; so a crash in between hands it over twice, but never loses it.

use std::time::Duration;

use lodge_wire::kafka_message::Message;
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::client;
use super::settings::KafkaSettings;

/// How long a letter waits for room in the producer's queue.
const QUEUE_WAIT: Duration = Duration::from_secs(10);

struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "trouble of the producer of dead letters");
    }
}

/// Where dead letters go.
pub(super) struct DeadLetters {
    topic: String,
    producer: FutureProducer<Quiet>,
}

/// Why a letter was not handed over.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeadLetterError {
    /// The topic never takes it.
    #[error("the topic of dead letters does not take it: {0}")]
    Refused(KafkaError),
    /// It may be taken later.
    #[error("a dead letter was not written to `{topic}`: {error}")]
    Failed { topic: String, error: KafkaError },
}

impl DeadLetters {
    /// A producer of them, if the settings name a topic.
    ///
    /// # Errors
    /// If librdkafka does not take the settings; the network is not asked.
    pub(super) fn new(settings: &KafkaSettings) -> KafkaResult<Option<Self>> {
        if settings.dead_letter_topic.is_empty() {
            return Ok(None);
        }
        let config = client::producer_config(settings);
        let producer = FutureProducer::from_config_and_context(&config, Quiet)?;
        Ok(Some(Self { topic: settings.dead_letter_topic.clone(), producer }))
    }

    /// Hands a message over; it is there when this returns.
    pub(super) async fn hand_over(
        &self,
        topic: &str,
        partition: i32,
        message: &Message,
        reason: &str,
    ) -> Result<(), DeadLetterError> {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &message.headers {
            headers = headers.insert(Header { key, value: value.as_deref() });
        }
        let (partition, offset) = (partition.to_string(), message.offset.to_string());
        let time = lodge_record::time::format(message.time_ns);
        let ours = [
            ("lodge.error", reason),
            ("lodge.kafka.topic", topic),
            ("lodge.kafka.partition", &partition),
            ("lodge.kafka.offset", &offset),
            // Brokers may refuse what is dated long ago, so the letter has a time of its own.
            ("lodge.kafka.timestamp", &time),
        ];
        for (key, value) in ours {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.topic).headers(headers);
        record.key = message.key.as_deref();
        record.payload = message.payload.as_deref();
        match self.producer.send(record, QUEUE_WAIT).await {
            Ok(_) => Ok(()),
            Err((error, _)) if is_for_good(&error) => Err(DeadLetterError::Refused(error)),
            Err((error, _)) => Err(DeadLetterError::Failed { topic: self.topic.clone(), error }),
        }
    }
}

fn is_for_good(error: &KafkaError) -> bool {
    let codes = [
        RDKafkaErrorCode::MessageSizeTooLarge,
        RDKafkaErrorCode::MessageBatchTooLarge,
        RDKafkaErrorCode::InvalidMessage,
        RDKafkaErrorCode::InvalidRecord,
    ];
    error.rdkafka_error_code().is_some_and(|code| codes.contains(&code))
}
