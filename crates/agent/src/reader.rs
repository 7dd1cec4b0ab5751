//! The file sources' loop: finds files, looks at them, gives each its turn, hands batches to
//! shipping, takes answers in, and keeps the checkpoint.
//!
//! One thread owns all files, so nothing here is shared or locked. Invariants:
//! - a producer has one batch in flight, and at most one more built;
//! - batches that are built and not yet answered take at most [`MEMORY_BYTES_MAX`] (and the one
//!   turn that reaches it); when it is reached the files simply wait, as they are the buffer;
//! - in one round a file reads at most one turn, so a busy file cannot starve the others.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lodge_record::{Batch, TenantId};
use lodge_wire::agent_report::SOURCES_MAX;

use crate::account::carry_refused;
use crate::config::{AgentConfig, Start};
use crate::containers::ContainersMode;
use crate::containers::facts::ContainerFacts;
use crate::containers::kubernetes::Kubernetes;
use crate::counters::Counters;
use crate::discover::Globs;
use crate::identity::{FilePosition, Inode};
use crate::live::{self, Live};
use crate::pipeline::Pipeline;
use crate::sequence::{Reply, ServerState, Step};
use crate::ship::Shipper;
use crate::state::{FileEntry, StateDir};
use crate::tail::{Built, Sent, TailedFile, Turn, TurnContext};
use crate::timestamp::TimeContext;
use crate::watch::Watch;

/// Memory that built and unanswered batches may take.
const MEMORY_BYTES_MAX: usize = 6 << 20;
/// Bytes of a turn of a file that keeps up.
const TURN_BYTES: u64 = 1 << 20;
/// Most bytes of a turn of a file that is behind: fewer, larger batches, as each costs a commit.
const TURN_BYTES_MAX: u64 = 3 << 19;
/// Most descriptors, if the system allows that many.
const OPEN_FILES_MAX: usize = 1024;
/// Pause between rounds while files grow.
const ROUND: Duration = Duration::from_millis(20);
/// Pause between rounds when all is quiet.
const ROUND_QUIET: Duration = Duration::from_millis(50);
/// How long a file counts as growing after it grew.
const GROWING: Duration = Duration::from_secs(5);
/// Files per second that are looked at without a hint.
const POLLS_PER_S: usize = 2_000;
/// How long a file that cannot be found is remembered.
pub(crate) const REMEMBER_S: u64 = 7 * 86_400;
/// Resends without an acknowledgement between them before they are slowed down.
const RESENDS_MAX: u32 = 3;

/// How long a file waits that cannot be opened, for lack of descriptors or of rights.
const REOPEN: Duration = Duration::from_millis(200);
/// How long a file waits that cannot be read.
const READ_AGAIN: Duration = Duration::from_secs(2);

/// A file that is left out.
#[derive(Debug)]
pub(crate) struct Skipped {
    pub(crate) path: PathBuf,
    /// Only for lack of rights, which may change.
    pub(crate) denied: bool,
}

/// What other threads tell the loop.
#[derive(Debug)]
pub enum Event {
    /// A batch was answered; `None` if the agent stops.
    Answered { file: usize, batch: Batch, reply: Option<Reply> },
    /// The server's state of a producer; `None` if the agent stops.
    Recalled { file: usize, state: Option<Option<ServerState>> },
    /// As `Recalled`, of the producer that the original of a copied file had.
    RecalledOriginal { file: usize, state: Option<Option<ServerState>> },
    /// What is known of the container that writes a file.
    Learned { file: usize, inode: Inode, facts: Arc<ContainerFacts> },
    /// Stop reading, wait for answers, write the checkpoint, end.
    Stop,
}

/// The loop and all that it owns.
pub struct Reader {
    pub(crate) config: Arc<AgentConfig>,
    pub(crate) state: Arc<StateDir>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) pipeline: Arc<Pipeline>,
    /// By source, in their order.
    shippers: Vec<Arc<Shipper>>,
    pub(crate) runtime: tokio::runtime::Handle,
    /// Who is asked about containers, if anyone can be.
    pub(crate) kubernetes: Option<Arc<Kubernetes>>,
    events: Receiver<Event>,
    pub(crate) sender: Sender<Event>,
    pub(crate) globs: Vec<Globs>,
    pub(crate) watch: Watch,
    pub(crate) files: Vec<Option<TailedFile>>,
    pub(crate) free: Vec<usize>,
    pub(crate) by_inode: HashMap<Inode, usize>,
    pub(crate) by_path: HashMap<PathBuf, usize>,
    pub(crate) remembered: HashMap<u64, Vec<FileEntry>>,
    /// Files that are no more, the latest last.
    pub(crate) gone: VecDeque<FileEntry>,
    pub(crate) skipped: HashMap<Inode, Skipped>,
    pub(crate) walks: u64,
    pub(crate) walk_at: Instant,
    pub(crate) walk_cost: Duration,
    pub(crate) walk_hinted: bool,
    /// Files to look at each round, in order of their turns.
    active: VecDeque<usize>,
    is_active: Vec<bool>,
    poll_cursor: usize,
    polled_at: Instant,
    pub(crate) open_files: usize,
    pub(crate) open_files_max: usize,
    pub(crate) close_cursor: usize,
    /// Until then no file could be closed to open another.
    pub(crate) scarce_until: Instant,
    memory: usize,
    buffer: Vec<u8>,
    time: TimeContext,
    pub(crate) checkpoint_due: bool,
    /// A file waits for the checkpoint to name it.
    pub(crate) note_due: bool,
    pub(crate) checkpoint_at: Instant,
    pub(crate) checkpoint_cost: Duration,
    resends: HashMap<usize, u32>,
    live: Arc<Live>,
    told_at: Option<Instant>,
}

impl Reader {
    /// A loop that has not begun, and where to send it events.
    pub fn new(
        config: Arc<AgentConfig>,
        state: Arc<StateDir>,
        counters: Arc<Counters>,
        pipeline: Arc<Pipeline>,
        shippers: Vec<Arc<Shipper>>,
        globs: Vec<Globs>,
    ) -> (Self, Sender<Event>) {
        let (sender, events) = channel();
        let now = Instant::now();
        let mut remembered: HashMap<u64, Vec<FileEntry>> = HashMap::new();
        let mut gone = VecDeque::new();
        for entry in state.load_files().files {
            if entry.gone {
                gone.push_back(entry);
                continue;
            }
            remembered.entry(entry.ino).or_default().push(entry);
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let half = usize::try_from(limit.unwrap_or(u64::MAX) / 2).unwrap_or(usize::MAX);
        let asks = config.containers.mode == ContainersMode::Auto;
        let kubernetes = Kubernetes::new(&config.containers.kubernetes).filter(|_| asks);
        let reader = Reader {
            kubernetes: kubernetes.map(Arc::new),
            config,
            state,
            counters,
            pipeline,
            shippers,
            runtime: tokio::runtime::Handle::current(),
            events,
            sender: sender.clone(),
            globs,
            watch: Watch::new(),
            files: Vec::new(),
            free: Vec::new(),
            by_inode: HashMap::new(),
            by_path: HashMap::new(),
            remembered,
            gone,
            skipped: HashMap::new(),
            walks: 0,
            walk_at: now,
            walk_cost: Duration::ZERO,
            walk_hinted: false,
            active: VecDeque::new(),
            is_active: Vec::new(),
            poll_cursor: 0,
            polled_at: now,
            open_files: 0,
            open_files_max: half.clamp(8, OPEN_FILES_MAX),
            close_cursor: 0,
            scarce_until: now,
            memory: 0,
            buffer: Vec::new(),
            time: TimeContext::system(0),
            checkpoint_due: false,
            note_due: false,
            checkpoint_at: now,
            checkpoint_cost: Duration::ZERO,
            resends: HashMap::new(),
            live: Arc::default(),
            told_at: None,
        };
        (reader, sender)
    }

    /// Tells `live` what there is still to do.
    pub fn telling(mut self, live: Arc<Live>) -> Self {
        self.live = live;
        self
    }

    /// Says which files are not at rest.
    fn tell_if_due(&mut self) {
        if self.told_at.is_some_and(|at| at.elapsed() < live::PERIOD) {
            return;
        }
        self.told_at = Some(Instant::now());
        let mut busy = self.files.iter().flatten().filter(|file| !file.is_at_rest());
        let sources = busy.by_ref().take(SOURCES_MAX).map(TailedFile::live).collect();
        self.live.set_files(sources, busy.count() as u64);
    }

    /// Runs until [`Event::Stop`].
    pub fn run(mut self) {
        self.find_files();
        loop {
            let hints = self.watch.take();
            self.walk_hinted |= hints.moved || hints.lost;
            for path in &hints.written {
                if let Some(file) = self.by_path.get(path) {
                    self.activate(*file);
                }
            }
            if hints.lost {
                (0..self.files.len()).for_each(|file| self.activate(file));
            }
            self.find_files_if_due();
            self.poll_some();
            let busy = self.round();
            self.save_checkpoint_if_due();
            self.tell_if_due();
            let pause = match (busy, self.active.is_empty()) {
                (true, _) => Duration::ZERO,
                (false, false) => ROUND,
                (false, true) => ROUND_QUIET,
            };
            if self.take_events(pause) {
                break;
            }
        }
        self.drain();
        self.save_checkpoint();
    }

    /// Takes events in, waiting up to `pause` for the first; true when it is time to stop.
    fn take_events(&mut self, pause: Duration) -> bool {
        let mut next = match self.events.recv_timeout(pause) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return true,
        };
        while let Some(event) = next {
            match event {
                Event::Stop => return true,
                Event::Answered { file, batch, reply } => self.answered(file, batch, reply),
                Event::Recalled { file, state } => self.recalled(file, state),
                Event::RecalledOriginal { file, state } => self.recalled_original(file, state),
                Event::Learned { file, inode, facts } => self.learned(file, inode, &facts),
            }
            next = self.events.try_recv().ok();
        }
        false
    }

    /// Waits for the answers to what is under way.
    fn drain(&mut self) {
        let deadline = Instant::now() + self.config.timing.drain;
        while self.memory > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(Event::Answered { file, batch, reply }) => self.answered(file, batch, reply),
                Ok(_) => {}
                Err(_) => {
                    let bytes = self.memory;
                    tracing::warn!(bytes, "stopping with unanswered batches; they are read again");
                    return;
                }
            }
        }
    }

    /// Puts a file on the list of those looked at each round.
    pub(crate) fn activate(&mut self, file: usize) {
        self.is_active.resize(self.files.len().max(file + 1), false);
        if let Some(active) = self.is_active.get_mut(file)
            && !std::mem::replace(active, true)
        {
            self.active.push_back(file);
        }
    }

    /// Looks at some of the quiet files, so that all have been looked at within the poll period.
    fn poll_some(&mut self) {
        let total = self.files.len();
        let since = self.polled_at.elapsed();
        let per_s = (total as f64 / self.config.timing.poll.as_secs_f64()).min(POLLS_PER_S as f64);
        let count = (per_s * since.as_secs_f64()) as usize;
        if count == 0 {
            return;
        }
        self.polled_at = Instant::now();
        for _ in 0..count.min(total) {
            self.poll_cursor = (self.poll_cursor + 1) % total.max(1);
            let file = self.poll_cursor;
            if self.is_active.get(file) == Some(&false) && self.look_at(file) {
                self.activate(file);
            }
        }
    }

    /// One turn for each active file that is due; whether there is more to do at once.
    fn round(&mut self) -> bool {
        let mut busy = false;
        let timing = self.config.timing.clone();
        for _ in 0..self.active.len() {
            let Some(file) = self.active.pop_front() else { break };
            if self.memory >= MEMORY_BYTES_MAX {
                self.active.push_front(file);
                self.counters.memory_waits.increment();
                return false;
            }
            let stays = self.look_at(file);
            let now = Instant::now();
            let due = self.file(file).is_some_and(|file| file.is_due(now, &timing, TURN_BYTES));
            if due && self.turn(file) {
                busy = true;
            }
            if stays || due {
                self.active.push_back(file);
            } else if let Some(active) = self.is_active.get_mut(file) {
                *active = false;
            }
            if busy && self.take_pending_events() {
                return false;
            }
        }
        busy
    }

    /// Answers that came meanwhile; a stop is put back for the loop. True if there was one.
    fn take_pending_events(&mut self) -> bool {
        let stop = self.take_events(Duration::ZERO);
        if stop {
            let _ = self.sender.send(Event::Stop);
        }
        stop
    }

    pub(crate) fn file(&self, file: usize) -> Option<&TailedFile> {
        self.files.get(file)?.as_ref()
    }

    pub(crate) fn file_mut(&mut self, file: usize) -> Option<&mut TailedFile> {
        self.files.get_mut(file)?.as_mut()
    }

    /// Asks the file system about a file; whether it deserves attention in the next rounds.
    fn look_at(&mut self, file: usize) -> bool {
        let now = Instant::now();
        let Some(tailed) = self.file_mut(file) else { return false };
        let metadata = match &tailed.handle {
            Some(handle) => handle.metadata(),
            None => std::fs::metadata(&tailed.path),
        };
        match metadata {
            Ok(metadata) if Inode::of(&metadata) == tailed.inode => {
                tailed.observe(&metadata, now);
            }
            _ => return self.went_away(file),
        }
        let Some(tailed) = self.file_mut(file) else { return false };
        if tailed.replaced && tailed.is_settled() {
            let (reason, bytes) = ("its content was cut off or replaced", tailed.cut_bytes);
            if !self.tell_loss(file, reason, bytes) {
                self.begin_generation(file);
            }
        }
        self.forget_if_finished(file, now);
        self.file(file).is_some_and(|tailed| {
            let grew = now.saturating_duration_since(tailed.grown_at) < GROWING;
            !tailed.is_quiet() || grew || (tailed.moved && tailed.unread() > 0)
        })
    }

    /// A deleted file that was read to its end and acknowledged is let go after a while.
    fn forget_if_finished(&mut self, file: usize, now: Instant) {
        let linger = self.config.timing.deleted_linger;
        let Some(tailed) = self.file(file) else { return };
        let idle = now.saturating_duration_since(tailed.grown_at) >= linger;
        if tailed.deleted && idle && tailed.is_settled() && tailed.unread() == 0 {
            self.remove(file);
        }
    }

    /// Ends the tailing of a file.
    pub(crate) fn remove(&mut self, file: usize) {
        let Some(tailed) = self.files.get_mut(file).and_then(Option::take) else { return };
        self.remember_gone(&tailed);
        self.open_files -= usize::from(tailed.handle.is_some());
        self.by_inode.remove(&tailed.inode);
        if self.by_path.get(&tailed.path) == Some(&file) {
            self.by_path.remove(&tailed.path);
        }
        self.free.push(file);
        self.checkpoint_due = true;
    }

    /// The path leads nowhere or elsewhere, and no descriptor is held: look for the file by its
    /// inode. Whether it deserves attention.
    fn went_away(&mut self, file: usize) -> bool {
        let Some(tailed) = self.file(file) else { return false };
        let inode = tailed.inode;
        let found = crate::discover::locate(&tailed.path, |m| Inode::of(m) == inode);
        match found.filter(|path| !self.is_used_again(file, path)) {
            Some(path) => {
                self.renamed(file, path);
                true
            }
            None if self.file(file).is_some_and(TailedFile::is_settled) => {
                let unread = self.file(file).map_or(0, TailedFile::unread);
                if unread > 0 && self.tell_loss(file, "it was deleted before it was read", unread) {
                    return true;
                }
                self.counters.dropped_bytes_deleted.add(unread);
                self.remove(file);
                false
            }
            None => true,
        }
    }

    /// The file is known under another path now.
    pub(crate) fn renamed(&mut self, file: usize, path: PathBuf) {
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return };
        let old = std::mem::replace(&mut tailed.path, path.clone());
        tailed.moved = true;
        if self.by_path.get(&old) == Some(&file) {
            self.by_path.remove(&old);
        }
        self.by_path.insert(path, file);
        self.activate(file);
        self.checkpoint_due = true;
    }

    /// Identifies the file if need be and reads one turn; whether something was built.
    fn turn(&mut self, file: usize) -> bool {
        if !self.ensure_open(file) {
            self.hold_back(file, REOPEN);
            return false;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.turn_with(file, &mut buffer);
        self.buffer = buffer;
        match result {
            Ok(built) => built,
            Err(error) => {
                let path = self.file(file).map(|f| f.path.display().to_string());
                tracing::warn!(path, %error, "cannot read; trying again");
                self.hold_back(file, READ_AGAIN);
                false
            }
        }
    }

    fn hold_back(&mut self, file: usize, pause: Duration) {
        if let Some(tailed) = self.file_mut(file) {
            tailed.hold_back(Instant::now() + pause);
        }
    }

    fn turn_with(&mut self, file: usize, buffer: &mut Vec<u8>) -> io::Result<bool> {
        self.time.now_ns = now_ns();
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else {
            return Ok(false);
        };
        let (config, counters) = (Arc::clone(&self.config), Arc::clone(&self.counters));
        let Some(source) = config.files.get(tailed.source) else { return Ok(false) };
        let zone = source.zone.clone().or_else(|| self.time.zone.clone());
        let pipeline = Arc::clone(&self.pipeline);
        let context = TurnContext {
            now: Instant::now(),
            time: TimeContext { zone, ..self.time },
            counters: &counters,
            timing: &config.timing,
            multiline: &source.multiline,
            format: source.format,
            agent: self.state.agent(),
            pipeline: &pipeline,
        };
        if tailed.identity.is_none() {
            match tailed.identify(&context)? {
                Ok(true) if tailed.begin_at.is_some() => {
                    self.recall(file);
                    return Ok(false);
                }
                Ok(true) => self.keep_apart(file),
                Ok(false) => return Ok(false),
                Err(kind) => {
                    self.skip_binary(file, kind);
                    return Ok(false);
                }
            }
        }
        if !self.may_read(file) {
            return Ok(false);
        }
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else {
            return Ok(false);
        };
        let bytes_max = tailed.unread().clamp(TURN_BYTES, TURN_BYTES_MAX) as usize;
        match tailed.turn(buffer, bytes_max, &context)? {
            Turn::Built(built) => {
                self.built(file, built);
                Ok(true)
            }
            Turn::Nothing => Ok(false),
            Turn::Dropped => {
                self.checkpoint_due = true;
                Ok(true)
            }
            Turn::Replaced => {
                tailed.replaced = true;
                Ok(false)
            }
        }
    }

    /// Whether a file that was identified may be read on: it is no copy of another, and noted.
    fn may_read(&mut self, file: usize) -> bool {
        let Some(tailed) = self.file(file) else { return false };
        let begins = tailed.read.offset == 0 && !tailed.is_no_copy;
        let may_begin = match tailed.gzip {
            _ if !begins => true,
            Some(_) => self.may_begin_compressed(file),
            None => self.may_begin(file),
        };
        may_begin && (!self.reads_compressed(file) || self.is_noted(file))
    }

    fn skip_binary(&mut self, file: usize, kind: &'static str) {
        let Some(tailed) = self.file(file) else { return };
        let (inode, path) = (tailed.inode, tailed.path.clone());
        self.remove(file);
        self.skip(inode, &path, kind);
    }

    /// Leaves a file out, with a reason for the log.
    pub(crate) fn skip(&mut self, inode: Inode, path: &Path, reason: &str) {
        let skipped = Skipped { path: path.to_path_buf(), denied: false };
        if self.skipped.insert(inode, skipped).is_none_or(|before| before.path != path) {
            tracing::info!(path = %path.display(), reason, "not tailed");
            self.counters.files_skipped.increment();
        }
    }

    fn built(&mut self, file: usize, built: Built) {
        self.memory += built.memory;
        let Some(tailed) = self.file_mut(file) else { return };
        if tailed.in_flight.is_none() {
            self.dispatch(file, built);
        } else {
            tailed.waiting = Some(built);
        }
    }

    /// Gives the batch its origin and sends it on its way.
    pub(crate) fn dispatch(&mut self, file: usize, built: Built) {
        let Some(tailed) = self.file_mut(file) else { return };
        let Some((_, sequence)) = tailed.identity else { return };
        let Built { records, position, memory } = built;
        let rows = records.num_rows() as u64;
        let mut account = Box::new(std::mem::take(&mut tailed.unsaid));
        account.source = tailed.label.to_string_lossy().into_owned();
        let begun = tailed.base != FilePosition::start(0);
        account.from = begun.then(|| tailed.base.to_string());
        account.before.clone_from(&tailed.tally);
        tailed.in_flight = Some(Sent { position, memory, rows, account: account.clone() });
        let origin = Some(sequence.next());
        account.agent = self.state.agent().to_string();
        account.host.clone_from(&self.config.host);
        let mut batch =
            Batch::new(TenantId::default(), origin, Some(position.to_position()), records)
                .expect("the builder gives the shape that a batch has");
        batch.account = Some(account);
        self.counters.sent_records.add(rows);
        self.send(file, batch, Duration::ZERO);
    }

    /// The shipper of the source that a file belongs to.
    pub(crate) fn shipper(&self, file: usize) -> Option<Arc<Shipper>> {
        self.shippers.get(self.file(file)?.source).cloned()
    }

    fn send(&self, file: usize, batch: Batch, delay: Duration) {
        let (Some(shipper), sender) = (self.shipper(file), self.sender.clone()) else { return };
        self.runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            let reply = shipper.ship(&batch).await;
            // The loop may have ended; then no one waits for the answer.
            let _ = sender.send(Event::Answered { file, batch, reply });
        });
    }

    /// Asks the server what it knows of a file's producer, before anything is sent.
    pub(crate) fn recall(&mut self, file: usize) {
        let Some(shipper) = self.shipper(file) else { return };
        let Some(tailed) = self.file_mut(file) else { return };
        let Some((_, sequence)) = tailed.identity else { return };
        tailed.recalling = true;
        tailed.tally = None;
        let sender = self.sender.clone();
        self.runtime.spawn(async move {
            let state = shipper.recall(sequence.producer()).await;
            let _ = sender.send(Event::Recalled { file, state });
        });
    }

    fn recalled(&mut self, file: usize, state: Option<Option<ServerState>>) {
        let Some(tailed) = self.file_mut(file) else { return };
        tailed.recalling = false;
        let begin_at = tailed.begin_at.take();
        let Some(state) = state else { return };
        tracing::debug!(path = %tailed.path.display(), ?state, "recalled");
        tailed.tally = Some(Box::new(state.as_ref().map_or_else(<_>::default, ServerState::tally)));
        if let Some(state) = state {
            if let Some((_, sequence)) = &mut tailed.identity {
                sequence.recall(&state);
            }
            if let Some(position) = state.position {
                self.adopt(file, &position);
            }
        } else if let Some(offset) = begin_at {
            match tailed.position_at(offset) {
                Ok(position) => tailed.stand_at(position),
                Err(error) => tracing::warn!(%error, "cannot begin at the end; reading all"),
            }
        }
        self.checkpoint_due = true;
        self.activate(file);
    }

    fn answered(&mut self, file: usize, batch: Batch, reply: Option<Reply>) {
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return };
        let Some(reply) = reply else {
            // The agent stops; the batch stays unanswered and is read again when it is back.
            let memory = tailed.in_flight.as_ref().map_or(0, |sent| sent.memory);
            self.memory = self.memory.saturating_sub(memory);
            return;
        };
        let Some(sent) = tailed.in_flight.take() else { return };
        let Some((_, sequence)) = &mut tailed.identity else { return };
        let position = sent.position.to_string();
        let step = sequence.answered(&position, &reply);
        tracing::debug!(path = %tailed.path.display(), position, ?step, ?reply, "answered");
        if matches!(reply, Reply::Gap(_)) {
            let (path, epoch) = (tailed.path.display().to_string(), sequence.epoch());
            tracing::warn!(
                path,
                epoch,
                ?reply,
                "the server knows less of this file than was \
                acknowledged before; going on in a new epoch"
            );
            self.counters.gaps.increment();
        }
        // Of what was stored before its answer was lost only the server knows what it was told.
        let is_told = matches!(reply, Reply::Committed(_));
        let mut recounts = false;
        match step {
            Step::Resend => return self.resend(file, sent, batch),
            Step::Acknowledged => {
                (tailed.base, tailed.acked) = (sent.position, sent.position);
                self.counters.acknowledged_records.add(sent.rows);
                match tailed.tally.as_mut().filter(|_| is_told) {
                    Some(tally) => tally.add(&sent.account, sent.rows),
                    None if is_told => {}
                    None => {
                        self.adopt(file, &position);
                        recounts = true;
                    }
                }
            }
            Step::MoveOn => {
                tailed.acked = sent.position;
                let after = std::mem::take(&mut tailed.unsaid);
                let ends = (tailed.base.to_string(), sent.position.to_string());
                tailed.unsaid = carry_refused(*sent.account, after, ends, sent.rows);
            }
            Step::Adopt(position) => {
                self.adopt(file, &position);
                recounts = true;
            }
        }
        self.memory = self.memory.saturating_sub(sent.memory);
        self.resends.remove(&file);
        self.checkpoint_due = true;
        if recounts {
            return self.recall(file);
        }
        if let Some(next) = self.file_mut(file).and_then(|tailed| tailed.waiting.take()) {
            self.dispatch(file, next);
        }
        self.activate(file);
    }

    /// Sends the same records under the new origin; slowly, if that happens again and again.
    fn resend(&mut self, file: usize, sent: Sent, batch: Batch) {
        let count = self.resends.entry(file).or_insert(0);
        *count += 1;
        let delay = if *count > RESENDS_MAX { Duration::from_secs(1) } else { Duration::ZERO };
        let Some(tailed) = self.file_mut(file) else { return };
        let Some((_, sequence)) = tailed.identity else { return };
        tailed.in_flight = Some(sent);
        let mut again = batch;
        again.origin = Some(sequence.next());
        self.send(file, again, delay);
    }

    /// The server has everything up to `text`: go there, unless the content is another by now.
    fn adopt(&mut self, file: usize, text: &str) {
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return };
        if let Some(dropped) = tailed.waiting.take() {
            self.memory = self.memory.saturating_sub(dropped.memory);
        }
        let position = match text.parse::<FilePosition>() {
            Ok(position) => position,
            Err(error) => {
                tracing::error!(%error, "the server's position is not one of this agent; \
                    going on from the agent's own");
                tailed.stand_at(tailed.uncommitted());
                return;
            }
        };
        if position.generation < tailed.read.generation {
            // The server has not seen this generation; its content is all new.
            tailed.stand_at(tailed.uncommitted());
            tailed.base = position;
            return;
        }
        self.checkpoint_due = true;
        if !self.ensure_open(file) {
            // Without the content there is nothing to read either.
            if let Some(tailed) = self.file_mut(file) {
                tailed.stand_at(position);
            }
            return;
        }
        let Some(tailed) = self.file_mut(file) else { return };
        // What cannot be told now is told by the next turn, which compares before it reads.
        let same = tailed.has_content_before(&position).unwrap_or(true);
        if !same && tailed.gzip.is_some() {
            return self.go_alone(file);
        }
        tailed.stand_at(position);
        tailed.replaced = !same;
    }

    fn find_files_if_due(&mut self) {
        /// Least time between two walks, hinted or not.
        const WALK_PAUSE: Duration = Duration::from_millis(100);
        let since = self.walk_at.elapsed();
        let hinted = self.walk_hinted && since >= WALK_PAUSE.max(self.walk_cost * 20);
        if hinted || since >= self.config.timing.rescan.max(self.walk_cost * 100) {
            self.find_files();
        }
    }

    /// Where a file that was there before the agent is begun, if it is not at its start.
    pub(crate) fn begins_at_end(&self, source: usize) -> bool {
        let start = self.config.files.get(source).map(|source| source.start);
        self.walks == 1 && start == Some(Start::End)
    }
}

/// The present in UTC nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
