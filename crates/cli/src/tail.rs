//! `lodge tail`: rows as they are committed, through reconnects.
//!
//! Invariant: after a reconnect the rows of the gap are asked for and each row is shown once: what
//! was shown last is remembered, and skipped when the server's history brings it again.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use rand::Rng as _;
use reqwest::{Method, Response};

use crate::client::{Client, ServerFlag};
use crate::failure::{Exit, Failure};
use crate::row::{LineCutter, Row};
use crate::table::Table;
use crate::terminal::{Ink, escape_json, stdout_columns, stdout_is_terminal};

/// Shown lines that are remembered, to tell them from new ones after a reconnect.
const REMEMBERED_MAX: usize = 20_000;
/// How far back of the last sign of life the history is asked for.
const OVERLAP: Duration = Duration::from_secs(5);
/// How long after a reconnect a line may be one that was shown before.
const OVERLAP_ENDS: Duration = Duration::from_secs(10);
const BACK_OFF_MIN: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  lodge tail '*'                                  everything as it arrives
  lodge tail 'error' --since 5m                   with the last five minutes first
  lodge tail '{service=\"shop\"} -level:debug'
  lodge tail '*' --format jsonl | jq ._msg        for programs; jsonl is the default in a pipe";

/// Show matching rows live, as they become durable
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct TailArgs {
    /// The filter, in LogsQL; of the pipes only `fields` makes sense here
    #[arg(value_name = "QUERY", default_value = "*")]
    query: String,

    #[command(flatten)]
    server: ServerFlag,

    /// Begin with the newest rows of the last 5m, 1h, … (at most 1000 of them)
    #[arg(long, short, value_name = "DURATION")]
    since: Option<String>,

    /// How the rows are written
    ///
    /// [default: table on a terminal, jsonl elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<TailFormat>,

    /// Do not cut lines to the width of the terminal
    #[arg(long, short)]
    wide: bool,
}

/// How live rows are written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum TailFormat {
    /// Time, level, stream and message; control characters are shown escaped
    Table,
    /// A JSON object a line
    Jsonl,
}

/// Runs the command; ends only by a signal, a refusal or a reader that is gone.
pub fn run(args: &TailArgs) -> Result<(), Failure> {
    let client = Client::new(&args.server)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            outcome = Tail::new(args).follow(&client) => outcome,
            // Ctrl-C is how a tail ends: no failure.
            () = crate::serve::interrupt() => Ok(()),
        }
    })
}

struct Tail<'a> {
    args: &'a TailArgs,
    printer: Printer,
    remembered: Remembered,
    connected_before: bool,
    last_sign: Instant,
}

impl<'a> Tail<'a> {
    fn new(args: &'a TailArgs) -> Self {
        Self {
            args,
            printer: Printer::new(args),
            remembered: Remembered::default(),
            connected_before: false,
            last_sign: Instant::now(),
        }
    }

    async fn follow(mut self, client: &Client) -> Result<(), Failure> {
        let mut back_off = BACK_OFF_MIN;
        loop {
            let failure = match self.connect(client).await {
                Ok(response) => {
                    back_off = BACK_OFF_MIN;
                    self.read(response).await?;
                    None
                }
                Err(failure) if failure.exit != Exit::Unavailable => return Err(failure),
                Err(failure) if !self.connected_before => return Err(failure),
                Err(failure) => Some(failure),
            };
            if back_off == BACK_OFF_MIN {
                let why = failure.map_or_else(|| "the connection ended".to_owned(), |f| f.what);
                let text = format!("{why}; connecting again …");
                writeln!(io::stderr().lock(), "{}", Ink::for_stderr().dim(&text))?;
            }
            let jitter = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(back_off.mul_f64(jitter)).await;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    async fn connect(&mut self, client: &Client) -> Result<Response, Failure> {
        let mut form = vec![("query", self.args.query.clone())];
        if self.connected_before {
            let gap = self.last_sign.elapsed() + OVERLAP;
            form.push(("start_offset", format!("{}ms", gap.as_millis())));
        } else if let Some(since) = &self.args.since {
            form.push(("start_offset", since.clone()));
        }
        let request = client.request(Method::POST, "select/logsql/tail")?.form(&form);
        let response = client.send(request, &self.args.query).await?;
        self.remembered.overlap(self.connected_before);
        self.connected_before = true;
        self.last_sign = Instant::now();
        Ok(response)
    }

    /// Prints rows until the connection ends, for whatever reason.
    async fn read(&mut self, mut response: Response) -> Result<(), Failure> {
        let mut cutter = LineCutter::default();
        while let Ok(Some(chunk)) = response.chunk().await {
            self.last_sign = Instant::now();
            let (printer, remembered) = (&mut self.printer, &mut self.remembered);
            cutter.push(&chunk, |line| {
                if line.is_empty() || remembered.is_repeat(line) {
                    return Ok(());
                }
                printer.print(line)
            })?;
            self.printer.flush()?;
        }
        Ok(())
    }
}

/// Hashes of the lines shown last, with how often each was shown.
#[derive(Default)]
struct Remembered {
    order: VecDeque<u64>,
    shown: HashMap<u64, u32>,
    /// Lines that may come once more, until then.
    repeats: HashMap<u64, u32>,
    until: Option<Instant>,
}

impl Remembered {
    /// A connection begins; after a reconnect its first rows may be known.
    fn overlap(&mut self, reconnected: bool) {
        if reconnected {
            self.repeats = self.shown.clone();
            self.until = Some(Instant::now() + OVERLAP_ENDS);
        }
    }

    /// Whether this line is one of those shown before the reconnect; remembers it otherwise.
    fn is_repeat(&mut self, line: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        line.hash(&mut hasher);
        let hash = hasher.finish();
        if self.until.is_some_and(|until| Instant::now() < until) {
            if let Some(left) = self.repeats.get_mut(&hash).filter(|left| **left > 0) {
                *left -= 1;
                return true;
            }
        } else if self.until.take().is_some() {
            self.repeats = HashMap::new();
        }
        *self.shown.entry(hash).or_default() += 1;
        self.order.push_back(hash);
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
            && let Some(count) = self.shown.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.shown.remove(&oldest);
            }
        }
        false
    }
}

enum Printer {
    Table(Table<BufWriter<io::Stdout>>),
    Lines { out: BufWriter<io::Stdout>, terminal: bool },
}

impl Printer {
    fn new(args: &TailArgs) -> Self {
        let terminal = stdout_is_terminal();
        let out = BufWriter::new(io::stdout());
        let default = if terminal { TailFormat::Table } else { TailFormat::Jsonl };
        match args.format.unwrap_or(default) {
            TailFormat::Table => {
                let columns = if args.wide { None } else { stdout_columns() };
                Self::Table(Table::live(out, columns, Ink::for_stdout()))
            }
            TailFormat::Jsonl => Self::Lines { out, terminal },
        }
    }

    fn print(&mut self, line: &[u8]) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(line);
        match self {
            Self::Table(table) => {
                let row = Row::parse(&text).map_err(|e| {
                    Failure::new(format!("the server sent a row that is no JSON: {e}"))
                })?;
                table.push(row)?;
            }
            Self::Lines { out, terminal: true } => writeln!(out, "{}", escape_json(&text))?,
            Self::Lines { out, terminal: false } => {
                out.write_all(line)?;
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Table(table) => table.flush(),
            Self::Lines { out, .. } => out.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_reconnect_each_line_is_shown_as_often_as_it_came() {
        let mut remembered = Remembered::default();
        remembered.overlap(false);
        assert!(!remembered.is_repeat(b"a") && !remembered.is_repeat(b"a"));
        assert!(!remembered.is_repeat(b"b"));
        remembered.overlap(true);
        assert!(remembered.is_repeat(b"a") && remembered.is_repeat(b"a"));
        assert!(!remembered.is_repeat(b"a"), "a third one is new");
        assert!(remembered.is_repeat(b"b") && !remembered.is_repeat(b"c"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut remembered = Remembered::default();
        for i in 0..REMEMBERED_MAX + 10 {
            assert!(!remembered.is_repeat(i.to_string().as_bytes()));
        }
        assert_eq!(remembered.order.len(), REMEMBERED_MAX);
        assert_eq!(remembered.shown.len(), REMEMBERED_MAX);
    }
}
