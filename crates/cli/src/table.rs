//! Rows for people: log rows one to a line, everything else as a table with a header.
//!
//! Invariant: no byte of a row reaches the output but through [`escape_text`].

use std::io::{self, Write};

use lodge_record::field;
use lodge_record::stream::StreamLabels;

use crate::patterns;
use crate::row::Row;
use crate::terminal::{Ink, escape_text, truncate, width};

/// Rows that are looked at before the widths of the columns are fixed.
const WINDOW_ROWS: usize = 200;
/// Widest column when lines are cut to the terminal.
const COLUMN_WIDTH_MAX: usize = 60;
/// Columns for the stream of a log row.
const STREAM_WIDTH_MAX: usize = 32;
const LEVEL_WIDTH: usize = 5;

const LEVEL_NAMES: &[&str] =
    &["level", "severity", "lvl", "log.level", "severity_text", "loglevel", "levelname"];
/// Labels that say most about where a line comes from, most telling first.
const MAIN_LABELS: &[&str] = &[
    "service",
    "service.name",
    "service_name",
    "app",
    "application",
    "job",
    "unit",
    "namespace",
    "kubernetes.namespace",
    "container",
    "pod",
    "kubernetes.pod.name",
    "kubernetes.pod",
    "host",
    "hostname",
    "host.name",
];
const MAIN_LABELS_SHOWN: usize = 2;

/// Prints rows as they come.
pub struct Table<W> {
    out: W,
    /// Where lines are cut; `None` leaves them whole.
    columns_max: Option<usize>,
    ink: Ink,
    window: Vec<Row>,
    layout: Option<Layout>,
}

enum Layout {
    Log { stream_width: usize },
    Grid(Vec<Column>),
}

struct Column {
    name: String,
    width: usize,
    number: bool,
}

impl<W: Write> Table<W> {
    /// A table that fixes its columns after looking at the first rows.
    pub fn new(out: W, columns_max: Option<usize>, ink: Ink) -> Self {
        Self { out, columns_max, ink, window: Vec::new(), layout: None }
    }

    /// A table for live rows: log rows, each printed at once.
    pub fn live(out: W, columns_max: Option<usize>, ink: Ink) -> Self {
        let layout = Some(Layout::Log { stream_width: STREAM_WIDTH_MAX / 2 });
        Self { layout, ..Self::new(out, columns_max, ink) }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Row) -> io::Result<()> {
        let row = patterns::for_people(&row, self.columns_max).unwrap_or(row);
        if self.layout.is_some() {
            return self.print(&row);
        }
        self.window.push(row);
        if self.window.len() < WINDOW_ROWS { Ok(()) } else { self.settle() }
    }

    /// Prints what is held back.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.layout.is_none() {
            self.settle()?;
        }
        self.out.flush()
    }

    /// Flushes what was printed.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn settle(&mut self) -> io::Result<()> {
        if self.window.is_empty() {
            return Ok(());
        }
        let layout = self.choose_layout();
        if let Layout::Grid(columns) = &layout {
            let header: Vec<String> =
                columns.iter().map(|c| pad(&escape_text(&c.name), c.width, c.number)).collect();
            let header = header.join("  ");
            let header = self.fit(header.trim_end());
            writeln!(self.out, "{}", self.ink.bold(&header))?;
        }
        self.layout = Some(layout);
        for row in std::mem::take(&mut self.window) {
            self.print(&row)?;
        }
        Ok(())
    }

    fn choose_layout(&self) -> Layout {
        let is_log = |row: &Row| {
            row.get(field::STREAM).is_some()
                && row.get(field::TIME).is_some()
                && row.get(field::MSG).is_some()
        };
        if self.window.iter().filter(|row| is_log(row)).count() * 2 > self.window.len() {
            let widths = self.window.iter().map(|row| width(&main_labels(row)));
            let widest = widths.max().unwrap_or(0);
            return Layout::Log { stream_width: widest.min(STREAM_WIDTH_MAX) };
        }
        let mut columns: Vec<Column> = Vec::new();
        for (name, value) in self.window.iter().flat_map(Row::fields) {
            let number = value.is_empty() || value.parse::<f64>().is_ok();
            let value_width = width(&escape_text(value));
            match columns.iter_mut().find(|c| c.name == *name) {
                Some(column) => {
                    column.width = column.width.max(value_width);
                    column.number &= number;
                }
                None => {
                    let width = value_width.max(width(&escape_text(name)));
                    columns.push(Column { name: name.clone(), width, number });
                }
            }
        }
        // The last column takes nobody's room.
        if let (Some(_), [others @ .., _]) = (self.columns_max, &mut columns[..]) {
            for column in others {
                column.width = column.width.min(COLUMN_WIDTH_MAX);
            }
        }
        Layout::Grid(columns)
    }

    fn print(&mut self, row: &Row) -> io::Result<()> {
        let line = match &self.layout {
            Some(Layout::Grid(columns)) => self.fit(&grid_line(row, columns)),
            Some(Layout::Log { stream_width }) => self.log_line(row, *stream_width),
            None => return Ok(()),
        };
        writeln!(self.out, "{line}")
    }

    fn fit(&self, line: &str) -> String {
        match self.columns_max {
            Some(columns) => truncate(line, columns).into_owned(),
            None => line.to_owned(),
        }
    }

    fn log_line(&self, row: &Row, stream_width: usize) -> String {
        let time = short_time(row.get(field::TIME).unwrap_or_default());
        let level = row.first_of(LEVEL_NAMES).unwrap_or_default();
        let level_text = escape_text(level);
        let level_cell = pad(&truncate(&level_text, LEVEL_WIDTH), LEVEL_WIDTH, false);
        let stream = main_labels(row);
        let stream_cell = pad(&truncate(&stream, stream_width), stream_width, false);
        let message = match row.get(field::MSG) {
            Some(message) => escape_text(message).into_owned(),
            None => other_fields(row),
        };
        let used = width(&time) + LEVEL_WIDTH + stream_width + 6;
        let message = match self.columns_max {
            Some(columns) => truncate(&message, columns.saturating_sub(used).max(20)).into_owned(),
            None => message,
        };
        let ink = self.ink;
        format!(
            "{}  {}  {}  {message}",
            ink.dim(&time),
            ink.level(level, &level_cell),
            ink.dim(&stream_cell)
        )
    }
}

fn grid_line(row: &Row, columns: &[Column]) -> String {
    let mut line = String::new();
    for (i, column) in columns.iter().enumerate() {
        if i > 0 {
            line.push_str("  ");
        }
        let value = escape_text(row.get(&column.name).unwrap_or_default());
        line.push_str(&pad(&truncate(&value, column.width), column.width, column.number));
    }
    // A field that none of the first rows had has no column, but is not lost.
    let is_late = |name: &str| !columns.iter().any(|c| c.name == name);
    for (name, value) in row.fields().iter().filter(|(name, v)| is_late(name) && !v.is_empty()) {
        line.push_str(&format!("  {}={}", escape_text(name), escape_text(value)));
    }
    line.truncate(line.trim_end().len());
    line
}

fn pad(text: &str, columns: usize, right: bool) -> String {
    let blanks = " ".repeat(columns.saturating_sub(width(text)));
    if right { format!("{blanks}{text}") } else { format!("{text}{blanks}") }
}

/// RFC 3339 cut to milliseconds: still a time that `--start` takes.
fn short_time(text: &str) -> String {
    let text = escape_text(text);
    let Some(civil) = text.strip_suffix('Z') else { return text.into_owned() };
    let (seconds, fraction) = civil.split_once('.').unwrap_or((civil, ""));
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    format!("{seconds}.{millis}Z")
}

/// The values of the stream's most telling labels.
fn main_labels(row: &Row) -> String {
    let labels = row.get(field::STREAM).and_then(StreamLabels::parse).unwrap_or_default();
    let mut shown: Vec<_> = MAIN_LABELS
        .iter()
        .filter_map(|name| labels.get(name))
        .take(MAIN_LABELS_SHOWN)
        .map(escape_text)
        .collect();
    if shown.is_empty() {
        shown =
            labels.iter().take(MAIN_LABELS_SHOWN).map(|(_, value)| escape_text(value)).collect();
    }
    shown.join("/")
}

/// What a row without a message says instead: its fields.
fn other_fields(row: &Row) -> String {
    let skip = [field::TIME, field::STREAM, field::STREAM_ID];
    let labels = row.get(field::STREAM).and_then(StreamLabels::parse).unwrap_or_default();
    let fields = row.fields().iter().filter(|(name, value)| {
        !skip.contains(&name.as_str()) && labels.get(name).is_none() && !value.is_empty()
    });
    let texts: Vec<String> = fields
        .map(|(name, value)| format!("{}={}", escape_text(name), escape_text(value)))
        .collect();
    texts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns_max: Option<usize>, rows: &[&str]) -> String {
        let mut out = Vec::new();
        let mut table = Table::new(&mut out, columns_max, Ink::none());
        for row in rows {
            table.push(Row::parse(row).expect("row")).expect("write");
        }
        table.finish().expect("write");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn log_rows_are_time_level_stream_and_message() {
        let rows = [
            r#"{"_time":"2026-11-22T10:00:00.5Z","_stream":"{host=\"h1\",service=\"shop\"}",
                "_msg":"a\u001b[2Jb","level":"error","host":"h1"}"#,
            r#"{"_time":"2026-11-22T10:00:01Z","_stream":"{}","_msg":"line one\nline two"}"#,
            r#"{"_time":"2026-11-22T10:00:02Z","_stream":"{}","user":"7"}"#,
        ];
        assert_eq!(
            table(None, &rows),
            "2026-11-22T10:00:00.500Z  error  shop/h1  a\\x1b[2Jb\n\
             2026-11-22T10:00:01.000Z                  line one\\nline two\n\
             2026-11-22T10:00:02.000Z                  user=7\n"
        );
        let cut = table(Some(62), &rows[..1]);
        assert_eq!(cut, "2026-11-22T10:00:00.500Z  error  shop/h1  a\\x1b[2Jb\n");
    }

    #[test]
    fn results_are_a_table_with_numbers_to_the_right() {
        let rows = [r#"{"service":"shop","hits":12}"#, r#"{"service":"a\tb","hits":"7"}"#];
        assert_eq!(table(None, &rows), "service  hits\nshop       12\na\\tb        7\n");
        assert_eq!(table(None, &[]), "");
        assert_eq!(table(Some(9), &rows), "service …\nshop    …\na\\tb    …\n");
    }

    #[test]
    fn patterns_come_after_what_is_told_of_them() {
        let rows = [
            r#"{"pattern":"order <_>\u001b[<_> placed","hits":"12","share":"0.75",
                "first":"2026-11-22T10:00:00.5Z","last":"2026-11-22T10:01:00Z","trend":"[1,8]"}"#,
            r#"{"pattern":"out","hits":"4","share":"0.25",
                "first":"2026-11-22T10:00:00Z","last":"2026-11-22T10:00:00Z","trend":"[4,0]"}"#,
        ];
        assert_eq!(
            table(None, &rows),
            "hits  share %  trend  first                 last                  pattern\n\
             \x20 12     75.0  ▁█     2026-11-22T10:00:00Z  2026-11-22T10:01:00Z  \
             order <_>\\x1b[<_> placed\n\
             \x20  4     25.0  █      2026-11-22T10:00:00Z  2026-11-22T10:00:00Z  out\n"
        );
        assert_eq!(
            table(Some(40), &rows[..1]),
            "hits  share %  trend  pattern\n  12     75.0  ▁█     order <_>\\x1b[<_>…\n"
        );
    }

    #[test]
    fn a_field_that_comes_late_is_still_printed() {
        let mut rows = vec![r#"{"a":"1"}"#; WINDOW_ROWS];
        rows.push(r#"{"a":"2","late":"x"}"#);
        assert!(table(None, &rows).ends_with("2  late=x\n"));
    }
}
