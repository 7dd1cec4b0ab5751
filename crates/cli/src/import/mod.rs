//! `lodge import`: files, patterns, compressed files and standard input, each record exactly once.
//!
//! One thread reads and cuts ([`cutter`]), the lanes' threads decode and send ([`lane`]). The
//! queues between hold a few chunks, so memory does not grow with the input.
//!
//! Invariants: running the same command again after an interruption, at whatever moment, stores
//! every record once; a file that is stored already is not sent again.

mod cutter;
mod decode;
mod guess;
mod lane;
mod progress;
mod source;

use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{HumanBytes, HumanCount, HumanDuration};
use lodge_record::ProducerId;
use lodge_wire::jsonline;

use self::cutter::{CUTTING_VERSION, Cutter};
use self::decode::Decoder;
use self::lane::{Job, LANES, Shipment, lane_of};
use self::progress::{Counters, Progress};
use self::source::Source;
use crate::client::{Client, ServerFlag};
use crate::failure::{Exit, Failure};
use crate::terminal::escape_text;

/// Chunks that wait for each lane.
const QUEUED_PER_LANE: usize = 1;
/// How long the batches in flight may take after Ctrl-C.
const INTERRUPT_GRACE: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  lodge import app.jsonl                          a file of JSON lines
  lodge import '/var/log/app/*.log*' --format text
  lodge import old.json.gz new.json.zst --time-field ts --msg-field message
  kubectl logs deploy/shop | lodge import - --stream-fields app

Each file is stored exactly once: run the same command again after an interruption and it goes on
where it stopped; a file that is stored already is skipped (--again sends it anew). A file that has
grown or changed since is another file: to follow growing files, use `lodge agent`.";

/// Import files or standard input, exactly once, with a progress bar
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ImportArgs {
    /// Files, patterns in quotes, or - for standard input; .gz and .zst are recognised by content
    #[arg(required = true, value_name = "FILES")]
    files: Vec<String>,

    #[command(flatten)]
    server: ServerFlag,

    /// Field with the time of a record
    ///
    /// [default: the first of _time, @timestamp, timestamp, time, ts, … that the file has]
    #[arg(long, value_name = "FIELD")]
    time_field: Option<String>,

    /// Field with the message
    ///
    /// [default: the first of _msg, message, msg, log, body, … that the file has]
    #[arg(long, value_name = "FIELD")]
    msg_field: Option<String>,

    /// Fields that make up the stream, comma-separated; an empty value means none
    ///
    /// [default: the well-known ones that the file has: service, app, namespace, pod, host, …]
    #[arg(long, value_name = "FIELDS")]
    stream_fields: Option<String>,

    /// How the lines are written
    #[arg(long, value_enum, default_value_t = LineFormat::Auto)]
    format: LineFormat,

    /// Send what the server has already once more, as a new import
    #[arg(long)]
    again: bool,

    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

/// How lines are written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum LineFormat {
    /// JSON if the first lines are JSON objects, else text
    Auto,
    /// A JSON object a line
    Json,
    /// A message a line
    Text,
}

/// Runs the command.
pub fn run(args: &ImportArgs) -> Result<(), Failure> {
    let sources = source::expand(&args.files)?;
    let client = Client::new(&args.server)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    watch_for_interrupt(&runtime, interrupted.clone());
    let counters = Arc::new(Counters::default());
    let progress = Progress::start(counters.clone(), total_bytes(&sources), args.quiet);
    let import = Import {
        args,
        client: &client,
        runtime: runtime.handle(),
        progress: &progress,
        now_ns: now_ns(),
        stop: &interrupted,
        first_failure: Mutex::new(None),
        spares: Mutex::new(Vec::new()),
    };
    let outcome = import.all(&sources);
    let elapsed = progress.elapsed();
    drop(progress);
    outcome.map_err(|failure| summarise_on_failure(failure, &counters))?;
    if !args.quiet {
        print_summary(&counters, elapsed)?;
    }
    Ok(())
}

/// Ctrl-C and SIGTERM end the import after the batches in flight, with a word on how to go on.
fn watch_for_interrupt(runtime: &tokio::runtime::Runtime, interrupted: Arc<AtomicBool>) {
    runtime.spawn(async move {
        crate::serve::interrupt().await;
        interrupted.store(true, Ordering::Relaxed);
        // The reader may wait for standard input, a lane for a server that is away: a second
        // signal, or a while, ends it hard, which costs nothing but the batches in flight.
        tokio::select! {
            () = crate::serve::interrupt() => {}
            () = tokio::time::sleep(INTERRUPT_GRACE) => {}
        }
        let failure = Failure::new("interrupted")
            .mend("run the same command again: it goes on where it stopped")
            .exit(Exit::Interrupted);
        failure.report();
        std::process::exit(Exit::Interrupted as i32);
    });
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The size of all sources, if all are files.
fn total_bytes(sources: &[Source]) -> Option<u64> {
    let size = |source: &Source| match source {
        Source::Stdin => None,
        Source::File(path) => {
            path.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len())
        }
    };
    sources.iter().map(size).sum()
}

/// One run of the command.
struct Import<'a> {
    args: &'a ImportArgs,
    client: &'a Client,
    runtime: &'a tokio::runtime::Handle,
    progress: &'a Progress,
    now_ns: i64,
    stop: &'a AtomicBool,
    first_failure: Mutex<Option<Failure>>,
    /// Buffers of chunks that are done, to be filled again.
    spares: Mutex<Vec<Vec<u8>>>,
}

impl Import<'_> {
    /// Imports the sources one after another; the lanes' threads live over all of them, so that
    /// many small files are in flight together.
    fn all(&self, sources: &[Source]) -> Result<(), Failure> {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..LANES).map(|_| mpsc::sync_channel(QUEUED_PER_LANE)).unzip();
        let outcome = std::thread::scope(|scope| {
            for receiver in receivers {
                scope.spawn(move || self.work(&receiver));
            }
            let outcome = sources
                .iter()
                .enumerate()
                .try_for_each(|(place, source)| self.one(source, place, &senders));
            // The threads end when their queues do.
            drop(senders);
            outcome
        });
        let first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match first {
            Some(failure) => Err(failure),
            None => outcome,
        }
    }

    /// A lane's thread: decodes and sends until there is nothing left or something failed.
    fn work(&self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            match lane::ship(job, self.client, self.progress, self.runtime) {
                Ok(spare) => {
                    let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
                    if spares.len() <= LANES {
                        spares.push(spare);
                    }
                }
                Err(failure) => {
                    let first = &self.first_failure;
                    let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(failure);
                    return;
                }
            }
        }
    }

    fn one(&self, source: &Source, place: usize, lanes: &[SyncSender<Job>]) -> Result<(), Failure> {
        let name = source.name();
        self.progress.file(&name);
        let failed = |e: std::io::Error| Failure::new(e.to_string()).at(name.clone());
        let mut identity = ProducerId::random().to_bytes().to_vec();
        let (mut size, mut time_ns) = (0, self.now_ns);
        let (contents, raw) = match source {
            Source::Stdin => source::read_stdin(),
            Source::File(path) => {
                let open = source::open(path).map_err(failed)?;
                if !open.is_stream && !self.args.again {
                    identity = open.fingerprint.to_vec();
                }
                size = open.size;
                time_ns = open.modified_ns.unwrap_or(time_ns);
                source::read_file(open)
            }
        }
        .map_err(failed)?;
        let mut cutter = Cutter::new(contents);
        let (decoder, options) = self.choose(source, time_ns, cutter.peek().map_err(failed)?);
        let cutting = [CUTTING_VERSION];
        let identity: [&[u8]; 3] = [&identity, &cutting, options.as_bytes()];
        let shipment = Arc::new(Shipment::new(name.clone(), &identity, decoder));
        if self.runtime.block_on(shipment.recall(self.client))? {
            self.skip_whole(&name, size);
            return Ok(());
        }
        self.deal(&shipment, cutter, &raw, place, lanes).map_err(|f| match f.place {
            Some(_) => f,
            None => f.at(name),
        })
    }

    fn skip_whole(&self, name: &str, size: u64) {
        let counters = self.progress.counters();
        Counters::add(&counters.raw_done, size);
        Counters::add(&counters.files_skipped, 1);
        self.progress.note(&format!(
            "{}: imported before, nothing sent (--again sends it once more)",
            escape_text(name)
        ));
    }

    /// Cuts a source and deals its chunks to the lanes, but for those that the server has.
    fn deal(
        &self,
        shipment: &Arc<Shipment>,
        mut cutter: Cutter<Box<dyn Read + Send>>,
        raw_read: &AtomicU64,
        place: usize,
        lanes: &[SyncSender<Job>],
    ) -> Result<(), Failure> {
        let counters = self.progress.counters();
        let mut raw_before = 0;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Failure::new("interrupted").exit(Exit::Interrupted));
            }
            let spare = self.spares.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(chunk) = cutter.next(spare.unwrap_or_default())? else {
                let raw = raw_read.load(Ordering::Relaxed);
                Counters::add(&counters.raw_done, raw - raw_before);
                return Ok(());
            };
            let raw_now = raw_read.load(Ordering::Relaxed);
            let raw = raw_now - std::mem::replace(&mut raw_before, raw_now);
            if shipment.has(chunk.index) {
                Counters::add(&counters.raw_done, raw);
                Counters::add(&counters.skipped, 1);
                Counters::add(&counters.skipped_bytes, chunk.bytes.len() as u64);
                self.spares.lock().unwrap_or_else(PoisonError::into_inner).push(chunk.bytes);
                continue;
            }
            // Each source begins at another thread, so that small files do not queue at the first.
            let thread = (place + lane_of(chunk.index)) % LANES;
            let job = Job { shipment: shipment.clone(), chunk, raw };
            let sent = lanes.get(thread).map(|lane| lane.send(job));
            if !matches!(sent, Some(Ok(()))) {
                // The thread ended: its failure is the one to tell.
                return Err(Failure::new("the import stopped"));
            }
        }
    }

    /// The decoder for a source, from the flags and its first lines, and a text of all that
    /// decides what its records look like: part of the import's identity.
    fn choose(&self, source: &Source, time_ns: i64, head: &[u8]) -> (Decoder, String) {
        let args = self.args;
        let guess = guess::guess(head);
        let json = match args.format {
            LineFormat::Auto => guess.json,
            LineFormat::Json => true,
            LineFormat::Text => false,
        };
        if !json {
            self.note_choice(source, "text; stack traces are joined to the line before them");
            let path = match source {
                Source::Stdin => PathBuf::from("stdin"),
                Source::File(path) => path.clone(),
            };
            return (Decoder::Text { path, time_ns }, "text".to_owned());
        }
        let shown = |given: &Option<String>, guessed: &Option<String>| {
            given.clone().or_else(|| guessed.clone()).unwrap_or_else(|| "none found".to_owned())
        };
        let time = shown(&args.time_field, &guess.time_field);
        let msg = shown(&args.msg_field, &guess.msg_field);
        let options = json_options(args, guess);
        let streams = match options.stream_fields.join(",") {
            fields if fields.is_empty() => "none".to_owned(),
            fields => fields,
        };
        let choice = format!("JSON lines; time: {time}; message: {msg}; stream: {streams}");
        self.note_choice(source, &choice);
        let identity = format!("json|{options:?}");
        (Decoder::Json { options, time_ns, idle: Mutex::default() }, identity)
    }

    fn note_choice(&self, source: &Source, choice: &str) {
        let text = format!("{}: {}", escape_text(&source.name()), escape_text(choice));
        self.progress.note(&text);
    }
}

/// The wire decoder's options: a field that the command line names is the only one, a guessed one
/// comes after the usual names.
fn json_options(args: &ImportArgs, guess: guess::Guess) -> jsonline::Options {
    let mut options = jsonline::Options::default();
    choose(&args.time_field, guess.time_field, &mut options.time_fields);
    choose(&args.msg_field, guess.msg_field, &mut options.msg_fields);
    options.stream_fields = match &args.stream_fields {
        None => guess.stream_fields,
        Some(given) => {
            given.split(',').map(|f| f.trim().to_owned()).filter(|f| !f.is_empty()).collect()
        }
    };
    options
}

fn choose(given: &Option<String>, guessed: Option<String>, names: &mut Vec<String>) {
    if let Some(given) = given {
        *names = vec![given.clone()];
    } else if let Some(guessed) = guessed.filter(|guessed| !names.contains(guessed)) {
        names.push(guessed);
    }
}

fn summarise_on_failure(failure: Failure, counters: &Counters) -> Failure {
    let records = Counters::get(&counters.records);
    let stored = format!("{} records of this run are stored", HumanCount(records));
    let again = "run the same command again: it goes on where it stopped";
    match (&failure.mend, failure.exit) {
        (Some(_), _) if records == 0 => failure,
        (Some(mend), exit) if exit != Exit::Interrupted => {
            let mend = format!("{mend}\n{stored}");
            failure.mend(mend)
        }
        _ => failure.mend(format!("{stored}; {again}")),
    }
}

fn print_summary(counters: &Counters, elapsed: Duration) -> Result<(), Failure> {
    use std::io::Write as _;
    let get = Counters::get;
    let seconds = elapsed.as_secs_f64().max(0.001);
    let bytes = get(&counters.stored_bytes);
    let mut out = format!(
        "imported {} records, {} in {:#} ({:.1} MB/s)\n",
        HumanCount(get(&counters.records)),
        HumanBytes(bytes),
        HumanDuration(Duration::from_secs_f64(seconds.ceil())),
        bytes as f64 / seconds / 1e6,
    );
    let mut also = |what: &str, count: u64| {
        if count > 0 {
            out.push_str(&format!("  {what}: {}\n", HumanCount(count)));
        }
    };
    also("bytes that an earlier run had stored", get(&counters.skipped_bytes));
    also("files that were imported before", get(&counters.files_skipped));
    also(
        "lines that could not be read, stored as text with the reason in lodge.error",
        get(&counters.malformed),
    );
    also("breaks put into lines longer than a record may be", get(&counters.breaks));
    also("requests sent again", get(&counters.retries));
    std::io::stderr().lock().write_all(out.as_bytes())?;
    Ok(())
}
