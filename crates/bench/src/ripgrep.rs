//! ripgrep over zstd files as a target: what everybody has at hand.
//!
//! The corpus is cut into parts, each compressed by `zstd` at its default level; `rg -z` searches
//! them with as many threads as there are cores. Only questions that are a search for lines can be
//! asked; the times of the parts' records are not looked at.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::check::Row;
use crate::corpus::Corpus;
use crate::logsql;
use crate::process::{self, Usage};
use crate::question::{Filter, Question, Shape};
use crate::sender::{FileLines, Lines};
use crate::target::{Ingested, Target};
use crate::workload::MESSAGE_FIELD;

/// About the size of a part before it is compressed: several per core even for small corpora.
const PART_BYTES: usize = 32 << 20;

/// The folder of compressed parts.
pub(crate) struct Ripgrep {
    program: PathBuf,
    dir: PathBuf,
    version: String,
}

impl Ripgrep {
    pub(crate) fn new(program: &Path, dir: &Path) -> anyhow::Result<Self> {
        let output = Command::new(program)
            .arg("--version")
            .output()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let words: Vec<&str> = text.split_whitespace().take(2).collect();
        ensure!(output.status.success() && words.len() == 2, "no version: {text}");
        let dir = dir.join("zstd-parts");
        fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
        Ok(Self { program: program.to_owned(), dir, version: words.join(" ") })
    }

    /// Whether the answer is counted or printed, and the pattern.
    fn pattern(question: &Question) -> Option<(bool, String)> {
        let counts = match question.shape {
            Shape::Count => true,
            Shape::Rows => false,
            _ => return None,
        };
        Some((counts, line_pattern(&question.filter)?))
    }
}

/// A pattern that matches the lines of the records.
fn line_pattern(filter: &Filter) -> Option<String> {
    let in_message = |pattern: &str| format!("\"{MESSAGE_FIELD}\":\".*(?:{pattern})");
    let text = |filter: &Filter| {
        Some(match filter {
            Filter::Word(text) | Filter::Phrase(text) => format!(r"\b{}\b", regex::escape(text)),
            Filter::Prefix(text) => format!(r"\b{}", regex::escape(text)),
            Filter::Substring(text) => regex::escape(text),
            Filter::Regex(pattern) => pattern.clone(),
            _ => return None,
        })
    };
    match filter {
        Filter::All => Some("^".to_owned()),
        // A name without dots is a field of the top level, which stands before the message.
        Filter::Is(field, value) | Filter::Stream(field, value) if !field.contains('.') => {
            Some(regex::escape(&format!("\"{field}\":\"{value}\"")))
        }
        Filter::And(parts) => {
            let [first, second] = parts.as_slice() else { return None };
            if let (Some(a), Some(b)) = (text(first), text(second)) {
                return Some(in_message(&format!("{a}.*{b}|{b}.*{a}")));
            }
            let message = in_message(&text(second)?);
            Some(format!("{}.*{message}", line_pattern(first)?))
        }
        Filter::Or(parts) => {
            let parts: Option<Vec<String>> = parts.iter().map(text).collect();
            Some(in_message(&parts?.join("|")))
        }
        other => Some(in_message(&text(other)?)),
    }
}

impl Target for Ripgrep {
    fn version(&self) -> &str {
        &self.version
    }

    fn setup(&self) -> &str {
        "rg -z over parts of 32 MiB, each compressed by zstd -3; a process for each search"
    }

    async fn ingest(&mut self, corpus: &Corpus) -> anyhow::Result<Ingested> {
        let mut lines = FileLines::open(&corpus.path)?;
        let (_, before_s) = process::own_and_childrens_cpu_s()?;
        let begun = Instant::now();
        let (mut index, mut part) = (0, Vec::new());
        loop {
            let more = lines.next()?;
            part.extend_from_slice(&more);
            if !part.is_empty() && (more.is_empty() || part.len() >= PART_BYTES) {
                compress(&part, &self.dir.join(format!("part-{index:05}.jsonl.zst")))?;
                index += 1;
                part.clear();
            }
            if more.is_empty() {
                break;
            }
        }
        let (_, after_s) = process::own_and_childrens_cpu_s()?;
        Ok(Ingested {
            acknowledged: begun.elapsed(),
            settled: begun.elapsed(),
            client: Usage::default(),
            server: Usage { cpu_s: after_s - before_s, rss_peak_bytes: 0 },
            disk_bytes: self.disk_bytes()?,
        })
    }

    fn translate(&self, question: &Question) -> Option<String> {
        let (counts, pattern) = Self::pattern(question)?;
        Some(format!("rg -z {}-e '{pattern}'", if counts { "-c " } else { "" }))
    }

    async fn ask(&mut self, question: &Question) -> anyhow::Result<Vec<u8>> {
        let (counts, pattern) = Self::pattern(question).context("no search for lines")?;
        let mut command = Command::new(&self.program);
        command.args(["--no-config", "--search-zip", "--no-filename", "--no-line-number"]);
        if counts {
            command.arg("--count");
        }
        let output = command.arg("-e").arg(pattern).arg(&self.dir).output().context("rg")?;
        // 1: nothing found.
        if !matches!(output.status.code(), Some(0 | 1)) {
            bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(output.stdout)
    }

    fn read(&self, question: &Question, answer: &[u8]) -> anyhow::Result<Vec<Row>> {
        if question.shape == Shape::Count {
            let mut n = 0_u64;
            for line in String::from_utf8_lossy(answer).lines() {
                n += line.parse::<u64>().with_context(|| line.to_owned())?;
            }
            return Ok(vec![[("n".to_owned(), n.to_string())].into()]);
        }
        let mut rows = logsql::rows(answer)?;
        for row in &mut rows {
            let message = row.remove(MESSAGE_FIELD).unwrap_or_default();
            row.insert("_msg".to_owned(), message);
        }
        Ok(rows)
    }

    fn usage(&self) -> anyhow::Result<Usage> {
        let (_, cpu_s) = process::own_and_childrens_cpu_s()?;
        Ok(Usage { cpu_s, rss_peak_bytes: 0 })
    }

    fn disk_bytes(&self) -> anyhow::Result<u64> {
        process::disk_bytes(&self.dir)
    }

    async fn stop(self) {}
}

/// Compresses one part with the `zstd` program and syncs it.
fn compress(part: &[u8], to: &Path) -> anyhow::Result<()> {
    let mut zstd = Command::new("zstd")
        .args(["-q", "-3", "-o"])
        .arg(to)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start zstd (apt-get install zstd)")?;
    zstd.stdin.take().context("no standard input")?.write_all(part).context("zstd")?;
    let status = zstd.wait().context("zstd")?;
    ensure!(status.success(), "zstd: {status}");
    File::open(to)?.sync_all().with_context(|| to.display().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn patterns_find_the_lines_that_they_mean() {
        let line = r#"{"level":"error","message":"disk failed at 7, retry refused"}"#;
        let finds = |filter: &Filter| {
            let pattern = line_pattern(filter)?;
            Some(regex::Regex::new(&pattern).unwrap().is_match(line))
        };
        let failed = Filter::word("failed");
        assert_eq!(finds(&failed), Some(true));
        assert_eq!(finds(&Filter::word("fail")), Some(false));
        assert_eq!(finds(&Filter::word("error")), Some(false), "only in the message");
        assert_eq!(finds(&Filter::is("level", "error").and(failed.clone())), Some(true));
        assert_eq!(finds(&Filter::word("refused").and(failed.clone())), Some(true));
        assert_eq!(finds(&Filter::is("level", "warn").and(failed.clone())), Some(false));
        assert_eq!(finds(&failed.negated()), None);
    }
}
