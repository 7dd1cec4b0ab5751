//! Figures as tables in Markdown that can also be read on a terminal.

use crate::report::{IngestFigures, QueryFigures, TargetFigures, WorkloadFigures};

/// A store does not answer such questions, or has no such figure.
const NO_FIGURE: &str = "–";

/// Rows of cells, the first of them the head; every column is as wide as its widest cell.
pub(crate) fn markdown(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
    let width = |column| {
        let widths = rows.iter().map(|row| cell(row, column).chars().count());
        widths.max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (column, &width) in widths.iter().enumerate() {
            let text = cell(row, column);
            let space = " ".repeat(width - text.chars().count());
            // Names to the left, figures to the right.
            if column == 0 {
                out.push_str(&format!("| {text}{space} "));
            } else {
                out.push_str(&format!("| {space}{text} "));
            }
        }
        out.push_str("|\n");
        if index == 0 {
            for (column, &width) in widths.iter().enumerate() {
                let line = "-".repeat(width + 1);
                out.push_str(&if column == 0 { format!("|{line}-") } else { format!("|{line}:") });
            }
            out.push_str("|\n");
        }
    }
    out
}

/// Everything about one workload.
pub(crate) fn workload(workload: &WorkloadFigures) -> String {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let mut out = format!(
        "\n### {}: {}\n\n\
         {} records, {:.0} MB of JSON lines ({:.0} % of them messages), seed {}\n\n",
        workload.kind.name(),
        workload.kind.about(),
        workload.records,
        mb(workload.bytes),
        100.0 * mb(workload.message_bytes) / mb(workload.bytes).max(1e-9),
        workload.seed,
    );
    out.push_str(&markdown(&ingest_rows(workload)));
    for target in &workload.targets {
        let text = match &target.not_measured {
            Some(why) => format!("not measured: {why}"),
            None => target.setup.clone(),
        };
        out.push_str(&format!("- {}: {text}\n", target.name));
    }
    out.push_str("\nMilliseconds: median / p99 / CPU of the store for each query.\n\n");
    out.push_str(&markdown(&query_rows(workload)));
    for target in &workload.targets {
        for query in &target.queries {
            if let Some(what) = &query.wrong {
                out.push_str(&format!("- {}, {}: {what}\n", target.name, query.class));
            }
        }
    }
    out
}

fn ingest_rows(workload: &WorkloadFigures) -> Vec<Vec<String>> {
    type Read = fn(&IngestFigures) -> Option<String>;
    fn megabytes(bytes: u64) -> Option<String> {
        (bytes > 0).then(|| format!("{:.0}", bytes as f64 / 1e6))
    }
    let lines: [(&str, Read); 8] = [
        ("server CPU-s/GB", |i| Some(format!("{:.2}", i.server_cpu_s_per_gb))),
        ("with client CPU-s/GB", |i| Some(format!("{:.2}", i.cpu_s_per_gb))),
        ("s to the last acknowledgement", |i| Some(format!("{:.1}", i.acknowledged_s))),
        ("s until at rest", |i| Some(format!("{:.1}", i.settled_s))),
        ("peak RSS MB", |i| megabytes(i.server_rss_peak_bytes)),
        ("client's peak RSS MB", |i| megabytes(i.client_rss_peak_bytes)),
        ("disk MB right after", |i| megabytes(i.disk_bytes_at_once)),
        ("disk MB", |i| megabytes(i.disk_bytes)),
    ];
    let head = workload.targets.iter().map(|target| target.name.clone());
    let mut rows: Vec<Vec<String>> =
        vec![std::iter::once("storing".to_owned()).chain(head).collect()];
    for (name, read) in lines {
        let cells = workload.targets.iter().map(|target| {
            target.ingest.as_ref().and_then(read).unwrap_or_else(|| NO_FIGURE.to_owned())
        });
        rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
    }
    rows
}

fn query_rows(workload: &WorkloadFigures) -> Vec<Vec<String>> {
    let asked =
        |target: &&TargetFigures| target.not_measured.is_some() || !target.queries.is_empty();
    let targets: Vec<&TargetFigures> = workload.targets.iter().filter(asked).collect();
    let head = targets.iter().map(|target| target.name.clone());
    let mut rows: Vec<Vec<String>> =
        vec![std::iter::once("query".to_owned()).chain(head).collect()];
    for class in &workload.classes {
        let cells = targets.iter().map(|target| {
            let query = target.queries.iter().find(|query| query.class == *class);
            query.map_or_else(|| NO_FIGURE.to_owned(), query_cell)
        });
        rows.push(std::iter::once(class.clone()).chain(cells).collect());
    }
    rows
}

fn query_cell(query: &QueryFigures) -> String {
    if query.runs == 0 {
        return "refused".to_owned();
    }
    let figures = [query.median_ms, query.p99_ms, query.cpu_ms].map(milliseconds).join(" / ");
    if query.wrong.is_some() { format!("WRONG {figures}") } else { figures }
}

/// Three significant digits are more than a run repeats.
pub(crate) fn milliseconds(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let table = markdown(&[row(["query", "A"]), row(["a – b", "12.5"])]);
        assert_eq!(table, "| query |    A |\n|-------|-----:|\n| a – b | 12.5 |\n");
    }
}
