//! `lodge query` (and `lodge export`): one LogsQL or SQL query, printed or written to a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use reqwest::{Method, Response};

use crate::answer::read_lines;
use crate::client::{Client, ServerFlag, causes};
use crate::explain;
use crate::failure::{Exit, Failure};
use crate::row::{LineCutter, Row};
use crate::table::Table;
use crate::terminal::{Ink, escape_json, escape_text, stdout_columns, stdout_is_terminal};

/// Rows of a table unless `--limit` says otherwise.
const TABLE_ROWS: usize = 1_000;
const OUT_BUFFER_BYTES: usize = 256 * 1024;

const EXAMPLES: &str = "\
Examples:
  lodge query 'error' --since 1h                  the last hour's lines with the word error
  lodge query '{service=\"shop\"} level:warn | stats by (host) count() hits'
  lodge query 'error | patterns' --since 1h       what the messages have in common
  lodge query --sql 'SELECT service, count(*) FROM logs GROUP BY service'
  lodge query --explain 'error | stats by (service) count()' --since 7d
  lodge export '*' --since 1d --output logs.parquet";

/// Ask the server with LogsQL or SQL and print the rows, or export them to a file
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct QueryArgs {
    /// The query, in LogsQL (or in SQL over the table `logs` with --sql)
    #[arg(value_name = "QUERY")]
    query: String,

    #[command(flatten)]
    server: ServerFlag,

    #[command(flatten)]
    time: TimeFlags,

    /// Most rows: the newest ones for LogsQL; 0 for all
    ///
    /// [default: 1000 for a table, all for every other format]
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<usize>,

    /// How the rows are written
    ///
    /// [default: what the ending of --output says, else a table on a terminal and jsonl elsewhere]
    #[arg(long, short, value_enum)]
    format: Option<Format>,

    /// Write to this file instead of stdout; it appears when it is complete
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The query is SQL
    #[arg(long)]
    sql: bool,

    /// Do not run the query: say what it would read, what the segments do of it and what is left
    #[arg(long, conflicts_with_all = ["output", "partial"])]
    explain: bool,

    /// Do not cut lines to the width of the terminal
    #[arg(long, short)]
    wide: bool,

    /// When the query hits a limit of the server, take the rows found until then (exit code 4)
    #[arg(long)]
    partial: bool,
}

/// Flags that bound the time of the records.
#[derive(clap::Args, Debug)]
pub struct TimeFlags {
    /// Only records of the last 15m, 6h, 7d, …
    #[arg(long, short, value_name = "DURATION", conflicts_with = "start")]
    since: Option<String>,

    /// Only records from this time on: RFC 3339, a part of it (2026-11-22), Unix, or now-1h
    #[arg(long, value_name = "TIME")]
    start: Option<String>,

    /// Only records before this time
    #[arg(long, value_name = "TIME")]
    end: Option<String>,
}

impl TimeFlags {
    /// The server's arguments.
    fn arguments(&self) -> Vec<(&'static str, String)> {
        let since = self.since.as_ref().map(|s| format!("now-{}", s.trim_start_matches('-')));
        let start = since.or_else(|| self.start.clone());
        let end = self.end.clone();
        let start = start.map(|text| ("start", text));
        start.into_iter().chain(end.map(|text| ("end", text))).collect()
    }
}

/// How rows are written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns for people; control characters are shown escaped
    Table,
    /// A JSON object a line
    Jsonl,
    /// Comma-separated values with a header; no cell is a spreadsheet formula
    Csv,
    /// A Parquet file, for DuckDB, pandas, Spark, …
    Parquet,
    /// An Arrow IPC stream
    Arrow,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }

    fn of_file(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "jsonl" | "ndjson" | "json" => Self::Jsonl,
            "csv" => Self::Csv,
            "parquet" => Self::Parquet,
            "arrow" | "arrows" => Self::Arrow,
            "txt" => Self::Table,
            _ => return None,
        })
    }
}

/// Runs the command.
pub fn run(args: &QueryArgs) -> Result<(), Failure> {
    if args.explain {
        return args.explained();
    }
    let format = args.format()?;
    let client = Client::new(&args.server)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut output = Output::open(args.output.as_deref())?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = args.answer(&client, format, &mut output) => outcome,
            () = crate::serve::interrupt() => {
                Err(Failure::new("interrupted").exit(Exit::Interrupted))
            }
        }
    });
    match outcome {
        Ok(()) => output.keep(),
        Err(failure) if failure.exit == Exit::Partial => output.keep().and(Err(failure)),
        Err(failure) => {
            output.discard();
            Err(failure)
        }
    }
}

impl QueryArgs {
    fn format(&self) -> Result<Format, Failure> {
        let on_terminal = self.output.is_none() && stdout_is_terminal();
        let chosen = self.format.or_else(|| self.output.as_deref().and_then(Format::of_file));
        let format = match chosen {
            Some(format) => format,
            None if on_terminal => Format::Table,
            None => Format::Jsonl,
        };
        if on_terminal && matches!(format, Format::Parquet | Format::Arrow) {
            return Err(Failure::usage(format!("{} is not for a terminal", format.name()))
                .mend("write it to a file with --output FILE, or into a pipe"));
        }
        Ok(format)
    }

    fn explained(&self) -> Result<(), Failure> {
        let mut form: Vec<(&str, String)> = self.time.arguments();
        form.push(("query", self.query.clone()));
        let path = if self.sql { "api/v1/sql/explain" } else { "select/logsql/explain" };
        if let Some(limit) = self.limit.filter(|limit| *limit > 0 && !self.sql) {
            form.push(("limit", limit.to_string()));
        }
        let as_json = match self.format {
            None => !stdout_is_terminal(),
            Some(Format::Table) => false,
            Some(Format::Jsonl) => true,
            Some(other) => {
                return Err(Failure::usage(format!("{} is not for --explain", other.name()))
                    .mend("take table or jsonl"));
            }
        };
        let client = Client::new(&self.server)?;
        explain::run(&client, path, &form, &self.query, as_json)
    }

    async fn answer(
        &self,
        client: &Client,
        format: Format,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        let limit = match (self.limit, format) {
            (Some(0), _) => None,
            (None, Format::Table) => Some(TABLE_ROWS),
            (limit, _) => limit,
        };
        let response = self.ask(client, format, limit).await?;
        match format {
            Format::Table => self.table(client, response, limit, output, started).await,
            Format::Jsonl => self.lines(client, response, limit, output).await,
            Format::Csv if output.is_terminal() => csv_on_terminal(client, response, output).await,
            Format::Csv | Format::Parquet | Format::Arrow => copy(client, response, output).await,
        }
    }

    async fn ask(
        &self,
        client: &Client,
        format: Format,
        limit: Option<usize>,
    ) -> Result<Response, Failure> {
        let mut form: Vec<(&str, String)> = self.time.arguments();
        form.push((if self.sql { "sql" } else { "query" }, self.query.clone()));
        let wire = if format == Format::Table { Format::Jsonl } else { format };
        form.push(("format", wire.name().to_owned()));
        match limit {
            // SQL has its own LIMIT: rows in lines are counted here, files cannot be cut.
            Some(_) if self.sql && !matches!(format, Format::Table | Format::Jsonl) => {
                return Err(Failure::usage("--limit does not reach into SQL")
                    .mend("put LIMIT into the query"));
            }
            Some(limit) if !self.sql => form.push(("limit", limit.to_string())),
            _ => {}
        }
        if self.partial {
            form.push(("allow_partial", "1".to_owned()));
        }
        let request = client.request(Method::POST, "api/v1/export")?.form(&form);
        client.send(request, &self.query).await
    }

    async fn table(
        &self,
        client: &Client,
        response: Response,
        limit: Option<usize>,
        output: &mut Output,
        started: Instant,
    ) -> Result<(), Failure> {
        let on_terminal = output.is_terminal();
        let columns = if self.wide || !on_terminal { None } else { stdout_columns() };
        let ink = if on_terminal { Ink::for_stdout() } else { Ink::none() };
        let mut rows = 0usize;
        let mut table = Table::new(&mut *output, columns, ink);
        let outcome = read_lines(client, response, self.partial, |line| {
            let text = String::from_utf8_lossy(line);
            let row = Row::parse(&text)
                .map_err(|e| Failure::new(format!("the server sent a row that is no JSON: {e}")))?;
            table.push(row)?;
            rows += 1;
            Ok(limit.is_none_or(|limit| rows < limit))
        })
        .await;
        table.finish()?;
        outcome?;
        if on_terminal {
            let more = match limit {
                Some(limit) if rows >= limit && self.limit.is_none() => {
                    "; there may be more: --limit N, or 0 for all"
                }
                _ => "",
            };
            let noun = if rows == 1 { "row" } else { "rows" };
            let seconds = started.elapsed().as_secs_f64();
            let text = format!("{rows} {noun} in {seconds:.2} s{more}");
            writeln!(io::stderr().lock(), "{}", Ink::for_stderr().dim(&text))?;
        }
        Ok(())
    }

    async fn lines(
        &self,
        client: &Client,
        response: Response,
        limit: Option<usize>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let on_terminal = output.is_terminal();
        let mut rows = 0usize;
        let outcome = read_lines(client, response, self.partial, |line| {
            if on_terminal {
                let text = String::from_utf8_lossy(line);
                output.write_all(escape_json(&text).as_bytes())?;
            } else {
                output.write_all(line)?;
            }
            output.write_all(b"\n")?;
            rows += 1;
            Ok(limit.is_none_or(|limit| rows < limit))
        })
        .await;
        output.flush()?;
        outcome
    }
}

/// CSV with the control characters of its cells shown escaped.
async fn csv_on_terminal(
    client: &Client,
    mut response: Response,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut cutter = LineCutter::default();
    while let Some(chunk) = response.chunk().await.map_err(|e| cut_off(client, &e))? {
        cutter.push(&chunk, |line| {
            writeln!(output, "{}", escape_text(&String::from_utf8_lossy(line)))
        })?;
    }
    output.flush()?;
    Ok(())
}

/// The answer as it is.
async fn copy(client: &Client, mut response: Response, output: &mut Output) -> Result<(), Failure> {
    while let Some(chunk) = response.chunk().await.map_err(|e| cut_off(client, &e))? {
        output.write_all(&chunk)?;
    }
    output.flush()?;
    Ok(())
}

fn cut_off(client: &Client, error: &reqwest::Error) -> Failure {
    Failure::new("the answer was cut off: the query failed on its way, or the server stopped")
        .at(format!("{}: {}", client.address(), causes(error)))
        .mend("what was written is not usable; narrow the query, or see the server's log")
}

/// Where rows go: stdout, or a file that gets its name when it is complete.
enum Output {
    Stdout {
        out: BufWriter<io::Stdout>,
        terminal: bool,
    },
    File {
        out: BufWriter<File>,
        part: PathBuf,
        path: PathBuf,
    },
    /// A pipe or device that was there before.
    Special(BufWriter<File>),
}

impl Output {
    fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            let out = BufWriter::with_capacity(OUT_BUFFER_BYTES, io::stdout());
            return Ok(Self::Stdout { out, terminal: stdout_is_terminal() });
        };
        let failed =
            |e: io::Error| Failure::usage(e.to_string()).at(format!("--output {}", path.display()));
        let buffer = |file| BufWriter::with_capacity(OUT_BUFFER_BYTES, file);
        if path.metadata().is_ok_and(|meta| !meta.is_file()) {
            let file = File::options().write(true).open(path).map_err(failed)?;
            return Ok(Self::Special(buffer(file)));
        }
        let name = path.file_name().ok_or_else(|| Failure::usage("--output names no file"))?;
        let mut part_name = name.to_owned();
        part_name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(part_name);
        let file = File::create(&part).map_err(failed)?;
        Ok(Self::File { out: buffer(file), part, path: path.to_owned() })
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Self::Stdout { terminal: true, .. })
    }

    fn inner(&mut self) -> &mut dyn Write {
        match self {
            Self::Stdout { out, .. } => out,
            Self::File { out, .. } | Self::Special(out) => out,
        }
    }

    /// Gives a complete file its name.
    fn keep(mut self) -> Result<(), Failure> {
        self.inner().flush()?;
        if let Self::File { out, part, path } = self {
            drop(out);
            std::fs::rename(&part, &path)
                .map_err(|e| Failure::new(e.to_string()).at(path.display().to_string()))?;
        }
        Ok(())
    }

    /// Takes an incomplete file away.
    fn discard(self) {
        if let Self::File { part, .. } = self {
            // It is only a left-over; the failure that led here is the one to tell.
            let _ = std::fs::remove_file(part);
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner().flush()
    }
}
