//! `lodge-bench languages`: what each question costs in SQL beside the same question in LogsQL.
//!
//! One server is asked in both languages in turn, so that whatever disturbs one disturbs the other as
//! much. Its store can be kept for the next run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::check::check;
use crate::corpus::Corpus;
use crate::lodge::LodgeServer;
use crate::lodge_sql;
use crate::logsql::Request;
use crate::question::Question;
use crate::report::{Machine, Spread};
use crate::run::run_dir;
use crate::table;
use crate::target::Target;
use crate::workload::Kind;

/// Questions that are answered fast are asked more often than is asked for, until so much time is over …
const CLASS_TIME: Duration = Duration::from_millis(500);
/// … but so often at the most.
const RUNS_MAX: usize = 300;

/// How to measure.
#[derive(Clone, Debug)]
pub struct LanguagesOptions {
    /// The `lodge` binary.
    pub lodge: PathBuf,
    /// Where the run's folder is made; removed at its end.
    pub dir: PathBuf,
    /// The folder of a store that is kept: filled if it is empty. Without one, a store is filled and
    /// removed.
    pub data_dir: Option<PathBuf>,
    /// How often each question is asked in each language, at the least.
    pub runs: usize,
    /// Only classes whose name has this in it.
    pub only: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Languages {
    /// What was measured, with its version.
    pub target: String,
    /// Where.
    pub machine: Machine,
    /// The workload.
    pub kind: Kind,
    /// Its records.
    pub records: u64,
    /// Its size as JSON lines.
    pub bytes: u64,
    /// One for each class of questions.
    pub classes: Vec<ClassFigures>,
}

/// One class of questions.
#[derive(Clone, Debug, Serialize)]
pub struct ClassFigures {
    /// Its name.
    pub class: String,
    /// In LogsQL.
    pub logsql: LanguageFigures,
    /// In SQL.
    pub sql: LanguageFigures,
}

/// One class in one language.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LanguageFigures {
    /// The question as it was asked.
    pub question: String,
    /// What is wrong with the answer; none if it was exactly right.
    pub wrong: Option<String>,
    /// The middle one of the runs.
    pub median_ms: f64,
    /// The 99th percentile (with few runs: the slowest).
    pub p99_ms: f64,
    /// CPU of the server per run.
    pub cpu_ms: f64,
    /// How many runs after the first.
    pub runs: usize,
}

impl ClassFigures {
    /// How many times as long SQL takes.
    pub fn ratio(&self) -> f64 {
        self.sql.median_ms / self.logsql.median_ms
    }
}

/// Fills a server, unless its store has the corpus already, and asks every question in both languages.
///
/// # Errors
/// When the server fails or the kept store has another corpus. A wrong answer is in the figures.
pub async fn measure(
    options: &LanguagesOptions,
    corpus: &Corpus,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<Languages> {
    let dir = run_dir(&options.dir)?;
    let data_dir = options.data_dir.clone().unwrap_or_else(|| dir.path().join("data"));
    let server = filled(&options.lodge, &data_dir, dir.path(), corpus, &mut tell).await?;
    let mut classes = Vec::new();
    for question in &corpus.questions {
        if options.only.as_ref().is_some_and(|only| !question.class.contains(only)) {
            continue;
        }
        tell(question.class);
        let figures = ask(&server, corpus, question, options.runs).await;
        classes.push(figures.with_context(|| question.class.to_owned())?);
    }
    let target = server.version().to_owned();
    server.stop().await;
    Ok(Languages {
        target,
        machine: Machine::this(),
        kind: corpus.kind,
        records: corpus.facts.records,
        bytes: corpus.facts.bytes,
        classes,
    })
}

/// A server that has the corpus and is at rest.
async fn filled(
    lodge: &Path,
    data_dir: &Path,
    log_dir: &Path,
    corpus: &Corpus,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<LodgeServer> {
    let mut server = LodgeServer::start(lodge, data_dir, log_dir).await?;
    let stored = server.status().await?.rows;
    if stored == 0 {
        tell(&format!("storing the {} workload", corpus.kind.name()));
        server.ingest(corpus).await?;
        return Ok(server);
    }
    ensure!(
        stored == corpus.facts.records,
        "the store in {} has {stored} records, the workload {}; name an empty folder",
        data_dir.display(),
        corpus.facts.records
    );
    server.settle().await?;
    Ok(server)
}

async fn ask(
    server: &LodgeServer,
    corpus: &Corpus,
    question: &Question,
    runs: usize,
) -> anyhow::Result<ClassFigures> {
    let requests = [Request::of(question), lodge_sql::request(question)];
    let mut figures = [LanguageFigures::default(), LanguageFigures::default()];
    // The first runs warm caches and are checked.
    for (request, figures) in requests.iter().zip(&mut figures) {
        let rows = request.read(&server.client().ask(request).await?)?;
        let fact = corpus.facts.answers.get(question.class);
        let verdict = fact.map(|fact| check(question, fact, &rows));
        figures.wrong = verdict.and_then(Result::err).map(|error| format!("{error:#}"));
        figures.question = request.text();
    }
    let mut samples_ms = [Vec::new(), Vec::new()];
    let begun = Instant::now();
    let mut asked = 0;
    while asked < runs || (asked < RUNS_MAX && begun.elapsed() < CLASS_TIME) {
        for (at, request) in requests.iter().enumerate() {
            let cpu_before_s = server.usage()?.cpu_s;
            let run = Instant::now();
            server.client().ask(request).await?;
            samples_ms[at].push(run.elapsed().as_secs_f64() * 1e3);
            figures[at].cpu_ms += (server.usage()?.cpu_s - cpu_before_s) * 1e3;
        }
        asked += 1;
    }
    for (figures, samples_ms) in figures.iter_mut().zip(&mut samples_ms) {
        let spread = Spread::of(samples_ms);
        figures.median_ms = spread.median;
        figures.p99_ms = spread.p99;
        figures.cpu_ms /= asked as f64;
        figures.runs = asked;
    }
    let [logsql, sql] = figures;
    Ok(ClassFigures { class: question.class.to_owned(), logsql, sql })
}

impl Languages {
    /// The table, in Markdown.
    pub fn table(&self) -> String {
        let head = ["ms: median / p99 / CPU", "LogsQL", "SQL", "SQL takes"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for class in &self.classes {
            let cell = |figures: &LanguageFigures| {
                let numbers = [figures.median_ms, figures.p99_ms, figures.cpu_ms];
                let numbers = numbers.map(table::milliseconds).join(" / ");
                if figures.wrong.is_some() { format!("WRONG {numbers}") } else { numbers }
            };
            let ratio = format!("{:.2} times", class.ratio());
            rows.push(vec![class.class.clone(), cell(&class.logsql), cell(&class.sql), ratio]);
        }
        format!(
            "{}, {}\n\n### {}: {} records, {:.0} MB of JSON lines\n\n{}",
            self.target,
            self.machine.text(),
            self.kind.name(),
            self.records,
            self.bytes as f64 / 1e6,
            table::markdown(&rows)
        )
    }

    /// The answers that are wrong.
    pub fn wrong(&self) -> Vec<String> {
        let of = |language: &str, class: &ClassFigures, figures: &LanguageFigures| {
            let wrong = figures.wrong.as_ref()?;
            Some(format!("{} in {language}: {wrong}", class.class))
        };
        let both = |class: &ClassFigures| {
            [of("LogsQL", class, &class.logsql), of("SQL", class, &class.sql)].into_iter().flatten()
        };
        self.classes.iter().flat_map(both).collect()
    }
}
