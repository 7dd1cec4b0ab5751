//! Asking one question until its figures are steady.

use std::time::{Duration, Instant};

use crate::check::check;
use crate::corpus::Corpus;
use crate::oracle::Fact;
use crate::question::Question;
use crate::report::{QueryFigures, Spread};
use crate::target::Target;

/// Each class is asked at least so often after its first run …
const RUNS_MIN: usize = 3;
/// … and until it has run so long in all …
const CLASS_TIME: Duration = Duration::from_millis(1000);
/// … but not more often than this.
const RUNS_MAX: usize = 300;

/// Asks every question of a corpus. A question that the target cannot answer gives no figures; one
/// that it refuses or answers wrongly gives figures that say so.
pub(crate) async fn ask_all<T: Target>(
    target: &mut T,
    corpus: &Corpus,
    tell: &mut impl FnMut(&str),
) -> Vec<QueryFigures> {
    let mut all = Vec::new();
    for question in &corpus.questions {
        let Some(text) = target.translate(question) else { continue };
        tell(&format!("{}: {}", target.version(), question.class));
        let fact = corpus.facts.answers.get(question.class);
        let figures = match ask(target, question, fact).await {
            Ok(figures) => figures,
            Err(error) => QueryFigures {
                class: question.class.to_owned(),
                wrong: Some(format!("REFUSED: {error:#}")),
                ..QueryFigures::default()
            },
        };
        all.push(QueryFigures { question: text, ..figures });
    }
    all
}

/// The first run, which warms caches and is checked, is reported apart. Without a fact nothing is
/// checked.
pub(crate) async fn ask<T: Target>(
    target: &mut T,
    question: &Question,
    fact: Option<&Fact>,
) -> anyhow::Result<QueryFigures> {
    let begun = Instant::now();
    let answer = target.ask(question).await?;
    let first_ms = begun.elapsed().as_secs_f64() * 1e3;
    let rows = target.read(question, &answer)?;
    let verdict = fact.map(|fact| check(question, fact, &rows));
    let wrong = verdict.and_then(Result::err).map(|error| format!("WRONG: {error:#}"));

    let cpu_before_s = target.usage()?.cpu_s;
    let begun = Instant::now();
    let mut samples_ms = Vec::new();
    while samples_ms.len() < RUNS_MIN
        || (samples_ms.len() < RUNS_MAX && begun.elapsed() < CLASS_TIME)
    {
        let run = Instant::now();
        target.ask(question).await?;
        samples_ms.push(run.elapsed().as_secs_f64() * 1e3);
    }
    let cpu_s = target.usage()?.cpu_s - cpu_before_s;
    let spread = Spread::of(&mut samples_ms);
    Ok(QueryFigures {
        class: question.class.to_owned(),
        question: String::new(),
        rows: rows.len() as u64,
        wrong,
        first_ms,
        median_ms: spread.median,
        p99_ms: spread.p99,
        max_ms: spread.max,
        cpu_ms: cpu_s * 1e3 / samples_ms.len() as f64,
        runs: samples_ms.len(),
    })
}
