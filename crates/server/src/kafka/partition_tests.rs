//! Tests of a partition: each answer by itself, and several consumers that do not know of each other
//! against one catalog, in random orders of everything that can happen.

use lodge_store::{Verdict as Judged, judge};

use super::*;

const SOON: Duration = Duration::ZERO;

fn producer() -> ProducerId {
    ProducerId::derive(&[b"kafka", b"test"])
}

fn state(epoch: u32, seq: u64, next: Option<i64>) -> ProducerState {
    ProducerState { epoch, seq, position: next.and_then(position) }
}

/// A partition that reads on at an offset, in epoch 4.
fn reading(next: i64) -> Partition {
    let (mut partition, actions) = Partition::new(Start::Earliest);
    assert_eq!(actions, [Action::Pause, Action::Claim(SOON)]);
    let claim = Claim { epoch: 4, seq: 1, next: Some(next) };
    assert_eq!(partition.claimed(Ok(claim)), [Action::Seek(Place::At(next), SOON)]);
    assert_eq!(partition.sought(Place::At(next), true), [Action::Resume]);
    partition
}

fn acked(sent: Sent, epoch: u32, seq: u64, next: i64) -> Answer {
    Answer::Acked { sent, epoch, seq, position: position(next) }
}

#[test]
fn a_claim_owns_the_next_epoch_and_reads_where_the_catalog_says() {
    assert_eq!(fence(None, producer()).map(|o| (o.epoch, o.seq)), Ok((1, 1)));
    let known = state(7, 9, Some(5));
    assert_eq!(fence(Some(&known), producer()).map(|o| (o.epoch, o.seq)), Ok((8, 1)));
    assert!(fence(Some(&state(u32::MAX, 1, None)), producer()).is_err());

    assert_eq!(
        owned(8, Some(&state(8, 1, Some(60)))),
        Ok(Claim { epoch: 8, seq: 1, next: Some(60) })
    );
    assert_eq!(owned(8, Some(&state(8, 1, None))), Ok(Claim { epoch: 8, seq: 1, next: None }));
    assert_eq!(owned(8, Some(&state(9, 1, Some(60)))), Err(ClaimError::Taken));
    for bad in ["", "x", "-1", "12:3"] {
        let position = Position::new(bad).ok();
        let found = ProducerState { epoch: 8, seq: 1, position };
        assert!(matches!(owned(8, Some(&found)), Err(ClaimError::Failed(_))), "{bad}");
    }
}

#[test]
fn an_expected_acknowledgement_goes_on_and_another_is_adopted() {
    let mut partition = reading(10);
    assert_eq!((partition.judge(9), partition.judge(10)), (Verdict::Before, Verdict::Take));
    assert_eq!(partition.taken(10), 0);
    assert_eq!(partition.taken(14), 3);
    assert_eq!(partition.send(), Some((4, 2)));
    assert_eq!(partition.send(), None);
    let sent = Sent { seq: 2, next: 15 };
    assert_eq!(partition.answered(acked(sent, 4, 2, 15)), []);
    assert_eq!((partition.committed(), partition.judge(15)), (Some(15), Verdict::Take));

    // Stored before, and further: that is where it goes on.
    assert_eq!(partition.send(), Some((4, 3)));
    let sent = Sent { seq: 3, next: 20 };
    assert_eq!(
        partition.answered(acked(sent, 4, 6, 33)),
        [Action::Forget, Action::Pause, Action::Seek(Place::At(33), SOON)]
    );
    assert_eq!(partition.judge(33), Verdict::Drop);
    assert_eq!(partition.sought(Place::At(20), true), []);
    assert_eq!(partition.sought(Place::At(33), true), [Action::Resume]);
    assert_eq!(partition.send(), Some((4, 7)));
}

#[test]
fn a_stale_epoch_leaves_the_partition_and_a_gap_claims_it_anew() {
    let mut partition = reading(10);
    partition.send();
    let left = partition.answered(Answer::StaleEpoch);
    assert_eq!(left, [Action::Forget, Action::Pause, Action::Claim(LEAVE_MIN)]);
    assert_eq!((partition.judge(10), partition.send()), (Verdict::Drop, None));
    // Taken over again: it is left for longer.
    assert_eq!(partition.claimed(Err(ClaimError::Taken)), [Action::Claim(LEAVE_MIN * 2)]);
    for _ in 0..20 {
        partition.claimed(Err(ClaimError::Taken));
    }
    assert_eq!(partition.claimed(Err(ClaimError::Taken)), [Action::Claim(LEAVE_MAX)]);

    let mut partition = reading(10);
    partition.send();
    let anew = partition.answered(Answer::Gap);
    assert_eq!(anew, [Action::Forget, Action::Pause, Action::Claim(SOON)]);
    // An acknowledgement of another epoch is not ours.
    let mut partition = reading(10);
    partition.send();
    let left = partition.answered(acked(Sent { seq: 2, next: 11 }, 5, 3, 11));
    assert_eq!(left.last(), Some(&Action::Claim(LEAVE_MIN)));
}

#[test]
fn failures_are_tried_again_ever_more_slowly() {
    let (mut partition, _) = Partition::new(Start::Latest);
    let failed = || Err(ClaimError::Failed("no".to_owned()));
    assert_eq!(partition.claimed(failed()), [Action::Claim(RETRY_MIN)]);
    assert_eq!(partition.claimed(failed()), [Action::Claim(RETRY_MIN * 2)]);
    for _ in 0..40 {
        partition.claimed(failed());
    }
    assert_eq!(partition.claimed(failed()), [Action::Claim(RETRY_MAX)]);
    let claim = Claim { epoch: 1, seq: 1, next: None };
    assert_eq!(partition.claimed(Ok(claim)), [Action::Seek(Place::Beginning, SOON)]);
    assert_eq!(
        partition.sought(Place::Beginning, false),
        [Action::Seek(Place::Beginning, RETRY_MIN)]
    );
    assert_eq!(partition.sought(Place::Beginning, true), [Action::Resume]);
    assert_eq!(partition.judge(0), Verdict::Take);
}

#[test]
fn without_room_or_in_trouble_it_is_paused_and_sought_again() {
    let mut partition = reading(10);
    partition.taken(10);
    assert_eq!(partition.hold(), [Action::Pause]);
    assert_eq!((partition.judge(11), partition.hold()), (Verdict::Drop, vec![]));
    assert_eq!(partition.go_on(), [Action::Seek(Place::At(11), SOON)]);
    partition.sought(Place::At(11), true);

    partition.send();
    assert_eq!(partition.troubled(), [Action::Pause]);
    assert_eq!(partition.go_on(), []);
    let sent = Sent { seq: 2, next: 11 };
    assert_eq!(partition.answered(acked(sent, 4, 2, 11)), [Action::Seek(Place::At(11), SOON)]);
}

#[test]
fn a_topic_that_was_made_anew_is_read_from_its_beginning() {
    let look = [Action::Pause, Action::Look];
    let mut partition = reading(1_000);
    assert_eq!(partition.went_back(0), look);
    assert_eq!(partition.judge(0), Verdict::Drop);
    let (actions, is_new) = partition.looked(Some((0, 20)));
    assert_eq!((actions, is_new), (vec![Action::Seek(Place::At(0), SOON)], true));
    // Kafka has the place: what came of before it was a mistake, or nobody knows.
    for ends in [Some((0, 1_000)), None] {
        let mut partition = reading(1_000);
        assert_eq!(partition.went_back(0), look);
        let (actions, is_new) = partition.looked(ends);
        assert_eq!((actions, is_new), (vec![Action::Seek(Place::At(1_000), SOON)], false));
    }
}

#[test]
fn an_end_before_a_message_that_came_is_not_believed() {
    for (seen, high) in [(0, 0), (7, 7), (7, 3)] {
        let mut partition = reading(1_000);
        partition.went_back(seen);
        let (actions, is_new) = partition.looked(Some((0, high)));
        assert_eq!((actions, is_new), (vec![Action::Seek(Place::At(1_000), SOON)], false));
    }
}

mod model {
    //! One partition, one catalog, and consumers that come, go, stall, lose answers and believe to
    //! own what others own.

    use std::collections::BTreeSet;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// A batch that may be committed at any time from now on, also after its sender is gone.
    #[derive(Clone)]
    struct Batch {
        origin: Origin,
        offsets: Vec<i64>,
        position: Option<Position>,
    }

    #[derive(Default)]
    struct Catalog {
        state: Option<ProducerState>,
        stored: BTreeSet<i64>,
    }

    impl Catalog {
        fn commit(&mut self, batch: &Batch) -> Judged {
            let verdict = judge(self.state.as_ref(), &batch.origin);
            if verdict == Judged::New {
                let before = self.state.take().and_then(|state| state.position);
                let Origin { epoch, seq, .. } = batch.origin;
                let position = batch.position.clone().or(before);
                self.state = Some(ProducerState { epoch, seq, position });
                for offset in &batch.offsets {
                    assert!(self.stored.insert(*offset), "{offset} is stored twice");
                }
            }
            verdict
        }
    }

    enum Claiming {
        Begin,
        Fence(Origin),
        Look(u32),
    }

    struct Consumer {
        partition: Partition,
        is_paused: bool,
        at: usize,
        pending: Vec<i64>,
        sent: Option<(Batch, Sent)>,
        claiming: Option<Claiming>,
        seeking: Option<Place>,
    }

    impl Consumer {
        fn new(random: &mut SmallRng) -> Self {
            let (partition, actions) = Partition::new(Start::Earliest);
            let mut consumer = Consumer {
                partition,
                is_paused: false,
                // Kafka begins where its own offsets say, which is anywhere.
                at: random.random_range(0..20),
                pending: Vec::new(),
                sent: None,
                claiming: None,
                seeking: None,
            };
            consumer.take(actions);
            consumer
        }

        fn take(&mut self, actions: Vec<Action>) {
            for action in actions {
                match action {
                    Action::Pause => self.is_paused = true,
                    Action::Resume => self.is_paused = false,
                    Action::Forget => self.pending.clear(),
                    Action::Claim(_) => self.claiming = Some(Claiming::Begin),
                    Action::Seek(place, _) => self.seeking = Some(place),
                    Action::Look => panic!("nothing goes back here"),
                }
            }
        }

        /// One step of whatever is under way. `ghosts` are batches that may land later.
        fn step(
            &mut self,
            log: &[i64],
            catalog: &mut Catalog,
            ghosts: &mut Vec<Batch>,
            random: &mut SmallRng,
        ) {
            match random.random_range(0..6) {
                0 | 1 => self.message(log),
                2 => self.send(),
                3 => self.answer(catalog, ghosts, random),
                4 => self.claim(catalog, ghosts, random),
                _ => self.other(log, random),
            }
        }

        fn message(&mut self, log: &[i64]) {
            let Some(&offset) = log.get(self.at).filter(|_| !self.is_paused) else { return };
            self.at += 1;
            match self.partition.judge(offset) {
                Verdict::Take => {
                    self.partition.taken(offset);
                    self.pending.push(offset);
                }
                Verdict::Drop => {}
                Verdict::Before => panic!("a message of before the place"),
            }
        }

        fn send(&mut self) {
            let Some(&last) = self.pending.last() else { return };
            let Some((epoch, seq)) = self.partition.send() else { return };
            let offsets = std::mem::take(&mut self.pending);
            let origin = Origin { producer: producer(), epoch, seq };
            let batch = Batch { origin, offsets, position: position(last + 1) };
            self.sent = Some((batch, Sent { seq, next: last + 1 }));
        }

        fn answer(
            &mut self,
            catalog: &mut Catalog,
            ghosts: &mut Vec<Batch>,
            random: &mut SmallRng,
        ) {
            let Some((batch, sent)) = self.sent.clone() else { return };
            match random.random_range(0..8) {
                // The store fails, or fails and stores it all the same, now or later.
                0 => return self.take_trouble(),
                1 => {
                    catalog.commit(&batch);
                    return self.take_trouble();
                }
                2 => {
                    ghosts.push(batch);
                    return self.take_trouble();
                }
                _ => {}
            }
            let verdict = catalog.commit(&batch);
            let found = catalog.state.clone().unwrap_or_default();
            let answer = match verdict {
                Judged::New => acked(sent, batch.origin.epoch, sent.seq, sent.next),
                Judged::Duplicate => Answer::Acked {
                    sent,
                    epoch: found.epoch,
                    seq: found.seq,
                    position: found.position,
                },
                Judged::Gap => Answer::Gap,
                Judged::StaleEpoch => Answer::StaleEpoch,
            };
            self.sent = None;
            let actions = self.partition.answered(answer);
            self.take(actions);
        }

        fn take_trouble(&mut self) {
            let actions = self.partition.troubled();
            self.take(actions);
        }

        fn claim(&mut self, catalog: &mut Catalog, ghosts: &mut Vec<Batch>, random: &mut SmallRng) {
            let failed = || Err(ClaimError::Failed("no answer".to_owned()));
            let claim = match self.claiming.take() {
                None => return,
                Some(Claiming::Begin) => match fence(catalog.state.as_ref(), producer()) {
                    Ok(origin) => {
                        self.claiming = Some(Claiming::Fence(origin));
                        return;
                    }
                    Err(error) => Err(error),
                },
                Some(Claiming::Fence(origin)) => {
                    let batch = Batch { origin, offsets: Vec::new(), position: None };
                    match random.random_range(0..6) {
                        0 => failed(),
                        1 => {
                            ghosts.push(batch);
                            failed()
                        }
                        _ if catalog.commit(&batch) == Judged::New => {
                            self.claiming = Some(Claiming::Look(origin.epoch));
                            return;
                        }
                        _ => Err(ClaimError::Taken),
                    }
                }
                Some(Claiming::Look(_)) if random.random_ratio(1, 8) => failed(),
                Some(Claiming::Look(epoch)) => owned(epoch, catalog.state.as_ref()),
            };
            let actions = self.partition.claimed(claim);
            self.take(actions);
        }

        fn other(&mut self, log: &[i64], random: &mut SmallRng) {
            if let Some(place) = self.seeking.take() {
                let is_done = random.random_ratio(3, 4);
                if is_done {
                    self.at = match place {
                        Place::Beginning => 0,
                        Place::At(next) => log.partition_point(|offset| *offset < next),
                    };
                }
                let actions = self.partition.sought(place, is_done);
                return self.take(actions);
            }
            let actions = match random.random_range(0..4) {
                0 => self.partition.hold(),
                _ => self.partition.go_on(),
            };
            self.take(actions);
        }
    }

    /// Steps in which consumers come and go, and until the last of them must have stored it all.
    const RESTLESS_STEPS: usize = 4_000;
    const STEPS_MAX: usize = 40_000;

    fn run(seed: u64) -> usize {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut catalog = Catalog::default();
        let mut log: Vec<i64> = Vec::new();
        let mut ghosts: Vec<Batch> = Vec::new();
        let mut consumers: Vec<Consumer> = Vec::new();
        let mut takeovers = 0;
        for step in 0..STEPS_MAX {
            let is_calm = step > RESTLESS_STEPS;
            if is_calm && catalog.stored.len() == log.len() {
                break;
            }
            if !is_calm && random.random_ratio(1, 8) {
                // Offsets with holes, as transactions and compaction leave them.
                let last = log.last().copied().unwrap_or(-1);
                log.push(last + random.random_range(1..4));
            }
            if consumers.is_empty()
                || (!is_calm && consumers.len() < 4 && random.random_ratio(1, 60))
            {
                consumers.push(Consumer::new(&mut random));
                takeovers += 1;
            }
            let gone = (is_calm && consumers.len() > 1) || (!is_calm && random.random_ratio(1, 80));
            if gone && !consumers.is_empty() {
                let gone = consumers.remove(0);
                // It was killed, or the partition was taken from it: what it sent may land.
                ghosts.extend(gone.sent.map(|(batch, _)| batch));
            }
            if !ghosts.is_empty() && random.random_ratio(1, 10) {
                let ghost = ghosts.remove(random.random_range(0..ghosts.len()));
                catalog.commit(&ghost);
            }
            let count = consumers.len();
            if let Some(consumer) = consumers.get_mut(random.random_range(0..count.max(1))) {
                consumer.step(&log, &mut catalog, &mut ghosts, &mut random);
            }
        }
        assert_eq!(catalog.stored, log.into_iter().collect(), "lost or invented, seed {seed}");
        takeovers
    }

    #[test]
    fn every_message_is_stored_once_whoever_reads_it_model() {
        let takeovers: usize = (0..300).map(run).sum();
        assert!(takeovers > 5_000, "{takeovers} takeovers");
    }
}
