//! The task that reads: it takes messages, the group's changes and the store's answers in turn, and
//! does for each partition what [`Partition`] says.
//!
//! Invariants:
//! - the group is polled all the time, whatever the store does, so that nobody takes us for dead;
//! - messages that are taken are bounded in number and bytes, and their memory is part of that for
//!   inserts; without room one message waits a moment in hand, then its partition is paused;
//! - what comes for a partition that was given up meanwhile is of an older generation and passed
//!   over.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use lodge_record::{ProducerId, TenantId};
use lodge_wire::kafka_message::Message;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::claim;
use super::client::{Change, GroupConsumer};
use super::commit::{Job, Source};
use super::dead_letters::DeadLetters;
use super::partition::{Action, Answer, Claim, ClaimError, Partition, Place, Verdict};
use super::settings::KafkaSettings;
use super::status::{Shared, Shown};
use crate::app::{App, now_ns};
use crate::body::Reserved;
use crate::metrics::Limit;

/// Messages of a partition that wait for their turn.
const PENDING_MAX: usize = 1 << 14;
/// Their bytes.
const PENDING_BYTES_MAX: usize = 8 << 20;
/// Memory that a byte of a message takes while it is decoded and committed.
const MEMORY_FACTOR: usize = 3;
/// What part of the memory for inserts messages may take.
const MEMORY_SHARE: u64 = 4;
/// How long a message waits in hand for room.
const IN_HAND_MAX: Duration = Duration::from_millis(500);
/// Messages that are taken before answers are looked at.
const TURN: usize = 512;
/// How often the status is brought up to date, and partitions without room are tried again.
const TICK: Duration = Duration::from_secs(1);
/// Partitions whose ends are asked for at once.
const LOOKS_MAX: usize = 16;
/// How long a stopping reader waits for answers.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(2);

type Key = (Arc<str>, i32);

/// What happened to a partition.
enum Event {
    Claimed(Result<Claim, ClaimError>, Option<Range<i64>>),
    Sought(Place, bool),
    Looked(Option<(i64, i64)>),
    Troubled,
    Answered(Answer),
}

/// A partition and what is under way for it.
struct Slot {
    generation: u64,
    partition: Partition,
    source: Arc<Source>,
    pending: Vec<Message>,
    pending_bytes: usize,
    sent_bytes: usize,
    memory: Reserved,
    /// Offsets that were gone before they were read, for the next batch.
    deleted: Option<Range<i64>>,
    /// Ends what is under way when the partition is given up.
    given_up: CancellationToken,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.given_up.cancel();
    }
}

/// A message for which there is no room yet.
struct InHand {
    key: Key,
    generation: u64,
    message: Message,
    until: Instant,
}

/// Why reading ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was asked to.
    Stopped,
    /// The client is of no use any more.
    Broken(KafkaError),
}

/// Reads until it is stopped.
pub(super) struct Reader {
    app: Arc<App>,
    shared: Arc<Shared>,
    settings: Arc<KafkaSettings>,
    consumer: Arc<GroupConsumer>,
    dead_letters: Option<Arc<DeadLetters>>,
    cluster: Arc<str>,
    slots: HashMap<Key, Slot>,
    generations: u64,
    /// Bytes of messages that were taken and are not stored.
    taken_bytes: usize,
    in_hand: Option<InHand>,
    events: mpsc::UnboundedReceiver<(Key, u64, Event)>,
    tell: mpsc::UnboundedSender<(Key, u64, Event)>,
    work: JoinSet<()>,
    /// Places among the questions to Kafka that each hold a thread.
    looks: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn new(
        app: Arc<App>,
        shared: Arc<Shared>,
        settings: Arc<KafkaSettings>,
        consumer: Arc<GroupConsumer>,
        dead_letters: Option<Arc<DeadLetters>>,
        cluster: &str,
    ) -> Self {
        // No more events wait than partitions have work under way.
        let (tell, events) = mpsc::unbounded_channel();
        Self {
            app,
            shared,
            settings,
            consumer,
            dead_letters,
            cluster: cluster.into(),
            slots: HashMap::new(),
            generations: 0,
            taken_bytes: 0,
            in_hand: None,
            events,
            tell,
            work: JoinSet::new(),
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
        }
    }

    /// Reads until `stop`, or until the client breaks.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> Ended {
        let consumer = Arc::clone(&self.consumer);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            for _ in 0..TURN {
                self.changes();
                if self.in_hand.is_some() {
                    break;
                }
                match consumer.recv().now_or_never() {
                    Some(Ok(message)) => self.message(&message),
                    Some(Err(error)) if is_fatal(&consumer, &error) => return Ended::Broken(error),
                    Some(Err(error)) => self.shared.failed(&error.to_string()),
                    None => break,
                }
            }
            self.changes();
            self.send();
            let until = self.in_hand.as_ref().map(|in_hand| in_hand.until);
            let no_room = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some((key, generation, event)) = self.events.recv() => {
                    self.happened(&key, generation, event);
                    self.room();
                }
                () = no_room => self.hold(),
                _ = tick.tick() => self.tick(),
                () = consumer.context().changed() => {}
                message = consumer.recv(), if until.is_none() => match message {
                    Ok(message) => {
                        self.changes();
                        self.message(&message);
                    }
                    Err(error) if is_fatal(&consumer, &error) => return Ended::Broken(error),
                    Err(error) => self.shared.failed(&error.to_string()),
                },
            }
            while self.work.try_join_next().is_some() {}
        }
        self.last_answers().await;
        self.shared.show(BTreeMap::new());
        Ended::Stopped
    }

    /// What is under way may still be answered; then Kafka is told how far it is.
    async fn last_answers(&mut self) {
        let deadline = Instant::now() + LAST_ANSWERS_MAX;
        while self.slots.values().any(|slot| slot.sent_bytes > 0) {
            let event = tokio::time::timeout_at(deadline, self.events.recv());
            let Ok(Some((key, generation, event))) = event.await else { return };
            self.happened(&key, generation, event);
        }
    }

    /// Works off what the group did.
    fn changes(&mut self) {
        for change in self.consumer.context().changes() {
            self.shared.rebalanced();
            match change {
                Change::Assigned(partitions) => {
                    tracing::info!(partitions = %listed(&partitions), "Kafka gave us partitions");
                    for (topic, partition) in partitions {
                        self.assigned(topic.into(), partition);
                    }
                }
                Change::Revoked(partitions) => {
                    tracing::info!(partitions = %listed(&partitions), "Kafka took partitions");
                    for (topic, partition) in partitions {
                        let slot = self.slots.remove(&(Arc::from(topic), partition));
                        self.forget(slot.as_ref());
                    }
                }
            }
        }
    }

    fn assigned(&mut self, topic: Arc<str>, number: i32) {
        let (partition, actions) = Partition::new(self.settings.start);
        self.generations += 1;
        let group: Arc<str> = self.settings.group.as_str().into();
        let producer = ProducerId::derive(&[
            b"kafka",
            self.cluster.as_bytes(),
            group.as_bytes(),
            topic.as_bytes(),
            &number.to_be_bytes(),
        ]);
        // A broker vouches for nobody: what it holds is the first tenant's.
        let tenant = TenantId::default();
        let memory = Reserved::new(&self.app, &tenant);
        let source = Source {
            app: self.app.clone(),
            shared: self.shared.clone(),
            dead_letters: self.dead_letters.clone(),
            format: self.settings.format,
            tenant,
            producer,
            cluster: self.cluster.clone(),
            group,
            topic: topic.clone(),
            partition: number,
            looks: self.looks.clone(),
        };
        let slot = Slot {
            generation: self.generations,
            partition,
            source: Arc::new(source),
            pending: Vec::new(),
            pending_bytes: 0,
            sent_bytes: 0,
            memory,
            deleted: None,
            given_up: CancellationToken::new(),
        };
        let key = (topic, number);
        let before = self.slots.insert(key.clone(), slot);
        self.forget(before.as_ref());
        self.act(&key, actions);
    }

    /// What was taken of a partition that was given up is not stored any more.
    fn forget(&mut self, slot: Option<&Slot>) {
        let bytes = slot.map_or(0, |slot| slot.pending_bytes + slot.sent_bytes);
        self.taken_bytes = self.taken_bytes.saturating_sub(bytes);
    }

    /// Does what a partition wants done.
    fn act(&mut self, key: &Key, actions: Vec<Action>) {
        for action in actions {
            let Some(slot) = self.slots.get_mut(key) else { return };
            match action {
                Action::Pause => self.set_paused(key, true),
                Action::Resume => self.set_paused(key, false),
                Action::Forget => {
                    slot.pending.clear();
                    let bytes = std::mem::take(&mut slot.pending_bytes);
                    self.taken_bytes = self.taken_bytes.saturating_sub(bytes);
                    slot.memory = Reserved::new(&self.app, &slot.source.tenant);
                }
                Action::Claim(wait) => self.claim(key, wait),
                Action::Seek(place, wait) => {
                    let (source, consumer) = (slot.source.clone(), self.consumer.clone());
                    self.spawn(key, async move {
                        tokio::time::sleep(wait).await;
                        let is_done = claim::seek(&source, &consumer, place).await;
                        Some(Event::Sought(place, is_done))
                    });
                }
                Action::Look => {
                    let (source, consumer) = (slot.source.clone(), self.consumer.clone());
                    self.spawn(key, async move {
                        Some(Event::Looked(claim::look(&source, &consumer).await))
                    });
                }
            }
        }
    }

    fn claim(&mut self, key: &Key, wait: Duration) {
        let Some(slot) = self.slots.get(key) else { return };
        let (source, consumer) = (slot.source.clone(), self.consumer.clone());
        let start = slot.partition.start();
        self.spawn(key, async move {
            tokio::time::sleep(wait).await;
            let claim = claim::claim(&source, &consumer, start).await;
            if let Err(ClaimError::Failed(reason)) = &claim {
                let Source { topic, partition, .. } = &*source;
                source.shared.failed(&format!("{topic}/{partition} cannot be read yet: {reason}"));
            }
            let mut deleted = None;
            if let Ok(Claim { next: Some(next), .. }) = &claim
                && let Some((low, _)) = claim::look(&source, &consumer).await
                && low > *next
            {
                deleted = Some(*next..low);
            }
            Some(Event::Claimed(claim, deleted))
        });
    }

    /// Has something done for a partition, until it is given up.
    fn spawn(&mut self, key: &Key, work: impl Future<Output = Option<Event>> + Send + 'static) {
        let Some(slot) = self.slots.get(key) else { return };
        let (key, generation) = (key.clone(), slot.generation);
        let (tell, given_up) = (self.tell.clone(), slot.given_up.clone());
        self.work.spawn(async move {
            if let Some(Some(event)) = given_up.run_until_cancelled(work).await {
                // Nobody listens any more: the reader ended.
                tell.send((key, generation, event)).ok();
            }
        });
    }

    fn set_paused(&self, (topic, partition): &Key, is_paused: bool) {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(topic, *partition);
        let done = match is_paused {
            true => self.consumer.pause(&list),
            false => self.consumer.resume(&list),
        };
        if let Err(error) = done {
            // It was taken from us a moment ago, or it is tried again with the next seek.
            tracing::debug!(%error, %topic, partition, is_paused, "not paused or resumed");
        }
    }

    fn happened(&mut self, key: &Key, generation: u64, event: Event) {
        let Some(slot) = self.slots.get_mut(key).filter(|s| s.generation == generation) else {
            return;
        };
        let Slot { partition, source, .. } = slot;
        let actions = match event {
            Event::Claimed(claim, deleted) => {
                if claim == Err(ClaimError::Taken) {
                    self.shared.taken_over();
                }
                if let Some(gone) = &deleted {
                    let offsets = u64::try_from(gone.end - gone.start).unwrap_or(0);
                    self.shared.deleted(&source.topic, offsets);
                    tracing::error!(topic = %source.topic, partition = source.partition, ?gone,
                        "Kafka deleted messages before they were read: its retention is too short");
                }
                slot.deleted = deleted;
                partition.claimed(claim)
            }
            Event::Sought(place, is_done) => partition.sought(place, is_done),
            Event::Looked(ends) => {
                let place = partition.looking();
                let (actions, is_new) = partition.looked(ends);
                if is_new {
                    tracing::warn!(topic = %source.topic, partition = source.partition, ?place,
                        ?ends, "the partition ends before its place: it was made anew, and is read \
                         from its beginning");
                }
                actions
            }
            Event::Troubled => partition.troubled(),
            Event::Answered(answer) => {
                let bytes = std::mem::take(&mut slot.sent_bytes);
                self.taken_bytes = self.taken_bytes.saturating_sub(bytes);
                if answer == Answer::StaleEpoch {
                    self.shared.taken_over();
                    tracing::warn!(topic = %source.topic, partition = source.partition,
                        "another consumer of the group took the partition over");
                }
                let actions = partition.answered(answer);
                if let Some(next) = partition.committed() {
                    // Kafka takes the last offset and tells the one behind it.
                    let last = next.saturating_sub(1);
                    let done = self.consumer.store_offset(&source.topic, source.partition, last);
                    if let Err(error) = done {
                        tracing::debug!(%error, "an offset is not told to Kafka");
                    }
                }
                actions
            }
        };
        self.act(key, actions);
    }

    /// Takes a message, or has it in hand until there is room.
    fn message(&mut self, message: &BorrowedMessage<'_>) {
        let key: Key = (message.topic().into(), message.partition());
        let Some(slot) = self.slots.get_mut(&key) else { return };
        match slot.partition.judge(message.offset()) {
            Verdict::Drop => {}
            Verdict::Before => {
                let actions = slot.partition.went_back(message.offset());
                tracing::info!(topic = %key.0, partition = key.1, offset = message.offset(),
                    place = ?slot.partition.looking(),
                    "Kafka went back on its own; looking where the partition ends");
                self.act(&key, actions);
            }
            Verdict::Take => {
                let (generation, message) = (slot.generation, owned(message));
                let until = Instant::now() + IN_HAND_MAX;
                self.take(InHand { key, generation, message, until });
            }
        }
    }

    /// Takes a message, or has it in hand if there is no room.
    fn take(&mut self, next: InHand) {
        if !self.has_room(&next.key, &next.message) {
            self.in_hand = Some(next);
        } else if let Some(slot) = self.slots.get_mut(&next.key) {
            let skipped = slot.partition.taken(next.message.offset);
            self.shared.skipped(&next.key.0, skipped);
            slot.pending.push(next.message);
        }
    }

    /// Whether there is room for a message; then the room is taken.
    fn has_room(&mut self, key: &Key, message: &Message) -> bool {
        let taken = self.taken_bytes;
        let share = self.app.config.insert_memory_bytes_max / MEMORY_SHARE;
        let share = usize::try_from(share).unwrap_or(usize::MAX) / MEMORY_FACTOR;
        let bytes = message.bytes();
        let Some(slot) = self.slots.get_mut(key) else { return false };
        let is_first = slot.pending.is_empty();
        let fits = slot.pending.len() < PENDING_MAX
            && slot.pending_bytes.saturating_add(bytes) <= PENDING_BYTES_MAX
            && taken.saturating_add(bytes) <= share;
        // One alone is taken however large it is, when nothing else is.
        let is_forced = is_first && taken == 0;
        if !fits && !is_forced {
            return false;
        }
        let wanted = slot.pending_bytes.saturating_add(bytes);
        if slot.memory.grow_to(wanted.saturating_mul(MEMORY_FACTOR)).is_err() {
            self.app.metrics.hit(Limit::InsertMemory);
            return false;
        }
        slot.pending_bytes = wanted;
        self.taken_bytes = self.taken_bytes.saturating_add(bytes);
        true
    }

    /// Looks whether the message in hand has room now.
    fn room(&mut self) {
        let Some(next) = self.in_hand.take() else { return };
        let slot = self.slots.get(&next.key).filter(|slot| slot.generation == next.generation);
        // Else its partition was given up, or goes on elsewhere.
        if slot.is_some_and(|slot| slot.partition.judge(next.message.offset) == Verdict::Take) {
            self.take(next);
        }
    }

    /// The message in hand waited long enough: its partition is paused, and it comes again.
    fn hold(&mut self) {
        let Some(InHand { key, generation, .. }) = self.in_hand.take() else { return };
        let slot = self.slots.get_mut(&key).filter(|slot| slot.generation == generation);
        let Some(slot) = slot else { return };
        let actions = slot.partition.hold();
        self.act(&key, actions);
    }

    /// Sends what waits, of every partition that has nothing under way.
    fn send(&mut self) {
        let waiting = self.slots.iter().filter(|(_, slot)| !slot.pending.is_empty());
        let keys: Vec<Key> = waiting.map(|(key, _)| key.clone()).collect();
        for key in keys {
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            let committed = slot.partition.committed();
            let Some((epoch, seq)) = slot.partition.send() else { continue };
            slot.sent_bytes = std::mem::take(&mut slot.pending_bytes);
            let job = Job {
                source: slot.source.clone(),
                epoch,
                seq,
                committed,
                deleted: slot.deleted.take(),
                messages: Arc::new(std::mem::take(&mut slot.pending)),
                _memory: std::mem::replace(
                    &mut slot.memory,
                    Reserved::new(&self.app, &slot.source.tenant),
                ),
            };
            let (tell, place) = (self.tell.clone(), (key.clone(), slot.generation));
            let trouble = move || {
                tell.send((place.0.clone(), place.1, Event::Troubled)).ok();
            };
            self.spawn(&key, async move { job.run(trouble).await.map(Event::Answered) });
        }
    }

    fn tick(&mut self) {
        let keys: Vec<Key> = self.slots.keys().cloned().collect();
        for key in keys {
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            if slot.pending.is_empty() {
                let actions = slot.partition.go_on();
                self.act(&key, actions);
            }
        }
        let shown = |(key, slot): (&Key, &Slot)| {
            let Slot { partition, .. } = slot;
            let state =
                if partition.is_troubled() { "waiting for the store" } else { partition.word() };
            let shown = Shown { state, epoch: partition.epoch(), position: partition.committed() };
            ((key.0.to_string(), key.1), shown)
        };
        self.shared.show(self.slots.iter().map(shown).collect());
    }
}

/// Whether the client has to be made anew.
fn is_fatal(consumer: &GroupConsumer, error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || consumer.client().fatal_error().is_some()
}

fn owned(message: &BorrowedMessage<'_>) -> Message {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        let owned = headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec)));
        owned.collect()
    });
    let time_ns = message.timestamp().to_millis().and_then(|ms| ms.checked_mul(1_000_000));
    Message {
        offset: message.offset(),
        time_ns: time_ns.unwrap_or_else(now_ns),
        key: message.key().map(<[u8]>::to_vec),
        headers,
        payload: message.payload().map(<[u8]>::to_vec),
    }
}

/// Partitions in a line, the first of many.
fn listed(partitions: &[(String, i32)]) -> String {
    const LISTED_MAX: usize = 20;
    let shown = partitions.iter().take(LISTED_MAX).map(|(topic, n)| format!("{topic}/{n}"));
    let mut text = shown.collect::<Vec<_>>().join(" ");
    if partitions.len() > LISTED_MAX {
        text.push_str(&format!(" and {} more", partitions.len() - LISTED_MAX));
    }
    text
}
