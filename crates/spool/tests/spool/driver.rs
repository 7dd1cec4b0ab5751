//! A proper user of the spool: it keeps what is not durable, appends it again after a failure, and
//! notes what it was promised and when, for the oracle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lodge_spool::{
    AppendError, Damage, Disk, Options, Position, Read, Recovery, Spool, SpoolError,
};

use crate::simulated::{Image, Simulated};

/// Small, so that a scenario has many files.
pub fn options() -> Options {
    Options {
        bytes_max: 3000,
        file_bytes_max: 420,
        frame_bytes_max: 200,
        files_max: 12,
        quarantine_bytes_max: 2000,
    }
}

/// The frame with number `id`: its content says which it is, and looks like a frame within.
pub fn frame(id: u32, bytes: usize) -> Vec<u8> {
    let mut out = id.to_le_bytes().to_vec();
    let mut state = id.wrapping_mul(2_654_435_761) | 1;
    while out.len() < bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match state >> 30 {
            0 => out.extend_from_slice(&[0x9F, 0xF5, 0xC0, 0xFE, 8, 0, 0, 0]),
            _ => out.extend_from_slice(&state.to_be_bytes()),
        }
    }
    out.truncate(bytes.max(4));
    out
}

/// The number of a frame, if it is one that was appended.
pub fn number(bytes: &[u8], sizes: &BTreeMap<u32, usize>) -> u32 {
    let id = u32::from_le_bytes(bytes[..4].try_into().unwrap());
    let size = sizes.get(&id).unwrap_or_else(|| panic!("frame {id} was never appended"));
    assert_eq!(bytes, frame(id, *size), "frame {id} is not as it was appended");
    id
}

/// A fact, and how many disk operations there had been.
#[derive(Clone, Debug)]
pub struct Event {
    pub operations: usize,
    pub fact: Fact,
}

#[derive(Clone, Copy, Debug)]
pub enum Fact {
    /// `append` gave this position for a frame.
    Given(Position),
    /// `sync` covered it, or it was read.
    Durable(u32),
    /// It was read up to here, and done with up to this frame.
    Done(u32, Position),
}

/// The user.
pub struct Driver {
    pub disk: Simulated,
    options: Options,
    spool: Option<Spool<Simulated>>,
    /// Frames that are not durable, with the position that `append` gave.
    pending: VecDeque<(u32, Option<Position>)>,
    pub sizes: BTreeMap<u32, usize>,
    pub events: Vec<Event>,
    pub delivered: Vec<u32>,
    delivered_done: usize,
    /// What was read counts as durable. Not so where a sync has failed before a restart: then the
    /// system may show what it will lose, and nobody can know.
    pub reads_promise: bool,
    read_at: Position,
    pub done: Position,
    pub damaged: Vec<Damage>,
}

impl Driver {
    pub fn new(disk: Simulated, options: Options) -> Self {
        Driver {
            disk,
            options,
            spool: None,
            pending: VecDeque::new(),
            sizes: BTreeMap::new(),
            events: Vec::new(),
            delivered: Vec::new(),
            delivered_done: 0,
            reads_promise: true,
            read_at: Position::START,
            done: Position::START,
            damaged: Vec::new(),
        }
    }

    fn note(&mut self, fact: Fact) {
        self.events.push(Event { operations: self.disk.log_len(), fact });
    }

    fn open(&mut self) -> Option<&mut Spool<Simulated>> {
        if self.spool.is_none() {
            let opened = Spool::open_on(self.disk.clone(), self.options.clone(), None);
            let (spool, recovery) = opened.ok()?;
            self.damaged.extend(recovery.damaged);
            self.spool = Some(spool);
        }
        self.spool.as_mut()
    }

    /// Takes a frame in; it may have to wait for the disk. False if the spool is full.
    pub fn append(&mut self, bytes: usize) -> bool {
        let id = self.sizes.len() as u32;
        self.sizes.insert(id, bytes.max(4));
        self.pending.push_back((id, None));
        if self.write() != Some(false) {
            return true;
        }
        self.pending.retain(|(pending, _)| *pending != id);
        false
    }

    /// Appends what is not in the spool; `None` if the disk does not let it, false if it is full.
    fn write(&mut self) -> Option<bool> {
        self.open()?;
        let spool = self.spool.as_mut()?;
        for index in 0..self.pending.len() {
            let (id, given) = self.pending[index];
            if given.is_some() {
                continue;
            }
            match spool.append(&frame(id, self.sizes[&id])) {
                Ok(position) => {
                    self.pending[index].1 = Some(position);
                    let operations = self.disk.log_len();
                    self.events.push(Event { operations, fact: Fact::Given(position) });
                }
                Err(AppendError::Full { .. }) => return Some(false),
                Err(AppendError::NotDurable(lost)) => {
                    self.settle(lost.durable);
                    return None;
                }
                Err(error) => panic!("{error}"),
            }
        }
        Some(true)
    }

    /// Everything up to `durable` is; everything else has to be appended again.
    fn settle(&mut self, durable: Position) {
        while let Some((id, Some(position))) = self.pending.front().copied() {
            if position > durable {
                break;
            }
            self.pending.pop_front();
            self.note(Fact::Durable(id));
        }
        self.pending.iter_mut().for_each(|(_, position)| *position = None);
    }

    /// True if everything that was taken in is durable.
    pub fn sync(&mut self) -> bool {
        if self.write() != Some(true) {
            return false;
        }
        let spool = self.spool.as_mut().unwrap();
        match spool.sync() {
            Ok(durable) => {
                self.settle(durable);
                assert!(self.pending.is_empty(), "sync does not cover what was appended");
                true
            }
            Err(lost) => {
                self.settle(lost.durable);
                assert_eq!(lost.frames, self.pending.len() as u64);
                false
            }
        }
    }

    /// Reads up to `frames` more.
    pub fn read(&mut self, frames: usize) {
        for _ in 0..frames {
            let from = self.read_at;
            let Some(spool) = self.open() else { return };
            match spool.read(from) {
                Ok(Some(Read::Frame { bytes, next })) => {
                    assert!(next > from, "reading goes on");
                    self.read_at = next;
                    let id = number(&bytes, &self.sizes);
                    self.delivered.push(id);
                    if self.reads_promise {
                        self.note(Fact::Durable(id));
                    }
                }
                Ok(Some(Read::Lost { damage, next })) => {
                    self.read_at = next;
                    self.damaged.push(damage);
                }
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Is done with all that was read.
    pub fn acknowledge(&mut self) {
        self.done = self.read_at;
        self.delivered_done = self.delivered.len();
        if let Some(last) = self.delivered.last() {
            self.note(Fact::Done(*last, self.done));
        }
        let done = self.done;
        if let Some(spool) = self.open() {
            // What could not be deleted is deleted with the next one.
            let _ = spool.acknowledge(done);
        }
    }

    /// The process ends and starts again; the disk keeps what it shows.
    pub fn restart(&mut self) {
        self.spool = None;
        self.pending.clear();
        self.read_at = self.done;
        self.delivered.truncate(self.delivered_done);
    }

    /// What must, may and must not be there after `operations` disk operations.
    pub fn promises(&self, operations: usize) -> Promises {
        let mut done = None;
        let mut promises = Promises { sizes: self.sizes.clone(), ..Promises::default() };
        for event in self.events.iter().filter(|event| event.operations <= operations) {
            match event.fact {
                Fact::Given(position) => promises.given = promises.given.max(position),
                Fact::Durable(id) => {
                    promises.durable.insert(id);
                }
                Fact::Done(id, position) => {
                    promises.done = position;
                    done = Some(id);
                }
            }
        }
        promises.durable.retain(|id| Some(*id) > done);
        promises
    }
}

/// What the oracle holds a spool to.
#[derive(Clone, Debug, Default)]
pub struct Promises {
    pub sizes: BTreeMap<u32, usize>,
    /// Durable and not done with.
    pub durable: BTreeSet<u32>,
    pub done: Position,
    /// The highest position that was given out.
    pub given: Position,
}

/// What an opened spool gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Frame, and where it begins and ends.
    pub frames: Vec<(u32, Position, Position)>,
    pub recovery: Recovery,
    pub lost: Vec<Damage>,
}

impl Given {
    pub fn ids(&self) -> Vec<u32> {
        self.frames.iter().map(|(id, ..)| *id).collect()
    }

    /// Whether the range around a byte was reported, in whatever way.
    pub fn reports(&self, file: u64, offset: u64) -> bool {
        let hit = |of: u64, from: u64, to: u64| of == file && (from..to).contains(&offset);
        self.recovery.damaged.iter().chain(&self.lost).any(|d| hit(d.file, d.from, d.to))
            || self.recovery.tails.iter().any(|tail| hit(tail.file, tail.from, tail.to))
    }
}

/// Reads all from `from`.
pub fn drain<D: Disk>(spool: &mut Spool<D>, from: Position, sizes: &BTreeMap<u32, usize>) -> Given {
    let mut given = Given::default();
    let mut at = from;
    while let Some(item) = spool.read(at).unwrap() {
        at = match item {
            Read::Frame { bytes, next } => {
                let begin = Position { offset: next.offset - bytes.len() as u64 - 16, ..next };
                assert!(begin >= at, "frames do not overlap");
                given.frames.push((number(&bytes, sizes), begin, next));
                next
            }
            Read::Lost { damage, next } => {
                given.lost.push(damage);
                next
            }
        };
    }
    given
}

/// Opens what is left of a disk and holds it to the promises, all but the frames in `excused`; then
/// goes on with it.
pub fn check(image: &Image, promises: &Promises, excused: &[u32]) -> Given {
    let disk = Simulated::holding(image);
    // What is left may fill the spool; there is room to go on.
    let options = Options { bytes_max: 6000, files_max: 24, ..options() };
    let opened: Result<_, SpoolError> = Spool::open_on(disk.clone(), options.clone(), None);
    let (mut spool, recovery) = opened.expect("it always opens");
    let mut given = drain(&mut spool, promises.done, &promises.sizes);
    given.recovery = recovery;
    let ids = given.ids();
    assert!(ids.is_sorted_by(|a, b| a < b), "not in order, or twice: {ids:?}");
    let missing: Vec<_> = promises
        .durable
        .iter()
        .filter(|id| ids.binary_search(id).is_err() && !excused.contains(id))
        .collect();
    assert!(missing.is_empty(), "lost: {missing:?} of {:?}, came: {ids:?}", promises.durable);

    // It goes on: what comes next is behind everything, and at places never given out before.
    spool.acknowledge(promises.done).unwrap();
    let mut sizes = promises.sizes.clone();
    let first = sizes.len() as u32;
    let mut expected = ids;
    for id in first..first + 2 {
        sizes.insert(id, 60);
        let position = spool.append(&frame(id, 60)).unwrap();
        assert!(position > promises.given, "{position} was given out before");
        expected.push(id);
    }
    spool.sync().unwrap();
    let more = drain(&mut spool, promises.done, &sizes);
    assert_eq!(more.ids(), expected, "after going on");
    assert_eq!(more.lost, [], "reported twice");
    // And a second crash changes nothing.
    let again = Simulated::holding(&disk.image());
    let (mut spool, _) = Spool::open_on(again, options, Some(promises.done)).unwrap();
    assert_eq!(drain(&mut spool, promises.done, &sizes).ids(), expected, "after another start");
    given
}
