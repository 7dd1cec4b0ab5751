//! `lodge ledger`: for each source what was read, what is durable, what is on its way, and every
//! hole with its reason.

use std::io::{BufWriter, Write};

use lodge_record::Tally;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use crate::client::{Client, ServerFlag, causes};
use crate::failure::Failure;
use crate::row::Row;
use crate::table::Table;
use crate::terminal::{Ink, escape_json, escape_text, stdout_columns, stdout_is_terminal};

const EXAMPLES: &str = "\
Examples:
  lodge ledger                    what is durable of each source, the latest first
  lodge ledger web-1 --holes      what is missing from the sources of web-1, and why
  lodge ledger --check            for scripts: exit code 1 if anything is missing without a reason";

/// Show for each source what is durable, what is on its way, and what is missing and why
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct LedgerArgs {
    /// Only sources whose host, path or agent contains this text
    #[arg(value_name = "TEXT", default_value = "")]
    contains: String,

    #[command(flatten)]
    server: ServerFlag,

    /// Only sources with holes, and each of the holes
    #[arg(long)]
    holes: bool,

    /// Most sources shown; all are summed up
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    limit: usize,

    /// The server's answer as JSON
    #[arg(long)]
    json: bool,

    /// Exit with code 1 if anything is missing without a reason, or counted otherwise by its agent
    #[arg(long)]
    check: bool,
}

#[derive(Deserialize)]
struct Answer {
    totals: Totals,
    sources: Vec<Source>,
    agents: Vec<Agent>,
}

#[derive(Deserialize)]
struct Totals {
    sources: u64,
    read_records: u64,
    stored_records: u64,
    dropped_records: u64,
    unread_bytes: u64,
    in_flight_records: u64,
    holes: u64,
    unexplained_holes: u64,
    sources_counted_otherwise: u64,
}

#[derive(Deserialize)]
struct Source {
    host: String,
    source: String,
    updated: String,
    read_records: u64,
    stored_records: u64,
    dropped: std::collections::BTreeMap<String, u64>,
    counted_by_agent: Option<Tally>,
    counted_otherwise: bool,
    unread_bytes: u64,
    in_flight_records: u64,
    holes: Vec<Hole>,
    holes_total: u64,
    unexplained_holes: u64,
}

#[derive(Deserialize)]
struct Hole {
    from: String,
    to: String,
    reason: String,
    bytes: Option<u64>,
    records: Option<u64>,
    at: String,
}

#[derive(Deserialize)]
struct Agent {
    host: String,
    silent: bool,
    reported_s_ago: u64,
}

/// Runs the command.
pub fn run(args: &LedgerArgs) -> Result<(), Failure> {
    let client = Client::new(&args.server)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = runtime.block_on(fetch(&client, args))?;
    let value: Value = serde_json::from_slice(&body)
        .map_err(|e| Failure::new(format!("the answer is no JSON: {e}")).at(client.address()))?;
    let unexplained = value["totals"]["unexplained_holes"].as_u64().unwrap_or(0);
    let otherwise = value["totals"]["sources_counted_otherwise"].as_u64().unwrap_or(0);
    let shown = if args.json { show_json(&value) } else { show(value, args) };
    shown?;
    if args.check && unexplained > 0 {
        let what = format!("{unexplained} holes without a reason: records may be missing");
        return Err(Failure::new(what).mend("see them with `lodge ledger --holes`"));
    }
    if args.check && otherwise > 0 {
        let what = format!("{otherwise} sources are counted otherwise by their agents");
        return Err(Failure::new(what).mend("see them with `lodge ledger --json`"));
    }
    Ok(())
}

async fn fetch(client: &Client, args: &LedgerArgs) -> Result<Vec<u8>, Failure> {
    let request = client.request(Method::GET, "api/v1/ledger")?.query(&[
        ("contains", args.contains.clone()),
        ("holes", args.holes.to_string()),
        ("limit", args.limit.to_string()),
    ]);
    let response = client.send(request, "").await?;
    let body = response.bytes().await;
    body.map(Vec::from).map_err(|e| Failure::new("the answer broke off").at(causes(&e)))
}

fn show_json(value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    let line = if stdout_is_terminal() { escape_json(&text).into_owned() } else { text };
    Ok(writeln!(out, "{line}")?)
}

fn show(value: Value, args: &LedgerArgs) -> Result<(), Failure> {
    let answer: Answer = serde_json::from_value(value)
        .map_err(|e| Failure::new(format!("the answer is not as expected: {e}")))?;
    let ink = Ink::for_stdout();
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut table = Table::new(&mut out, stdout_columns(), ink);
    let rows: Vec<Row> = match args.holes {
        true => answer.sources.iter().flat_map(hole_rows).collect(),
        false => answer.sources.iter().map(source_row).collect(),
    };
    rows.into_iter().try_for_each(|row| table.push(row))?;
    table.finish()?;
    drop(table);
    Ok(summary(&mut out, &answer)?)
}

fn row<const N: usize>(fields: [(&str, String); N]) -> Row {
    Row::new(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn source_row(source: &Source) -> Row {
    let dropped: u64 = source.dropped.values().sum();
    let by_agent = match (&source.counted_by_agent, source.counted_otherwise) {
        (None, _) => "–".to_owned(),
        (Some(told), false) => told.durable_records.to_string(),
        (Some(told), true) => format!("{} (DIFFERS)", told.durable_records),
    };
    let holes = match source.unexplained_holes {
        0 => source.holes_total.to_string(),
        unexplained => format!("{} ({unexplained} UNEXPLAINED)", source.holes_total),
    };
    row([
        ("host", source.host.clone()),
        ("read", source.read_records.to_string()),
        ("durable", source.stored_records.to_string()),
        ("by the agent", by_agent),
        ("in flight", source.in_flight_records.to_string()),
        ("unread", bytes(source.unread_bytes)),
        ("dropped", dropped.to_string()),
        ("holes", holes),
        ("last", source.updated.split('.').next().unwrap_or_default().to_owned()),
        ("source", source.source.clone()),
    ])
}

fn hole_rows(source: &Source) -> impl Iterator<Item = Row> + '_ {
    source.holes.iter().map(|hole| {
        let amount = match (hole.records, hole.bytes) {
            (Some(records), _) => format!("{records} records"),
            (None, Some(of_bytes)) => bytes(of_bytes),
            (None, None) => "unknown".to_owned(),
        };
        row([
            ("host", source.host.clone()),
            ("source", source.source.clone()),
            ("missing", amount),
            ("known since", hole.at.split('.').next().unwrap_or_default().to_owned()),
            ("why", hole.reason.clone()),
            ("from", hole.from.clone()),
            ("to", hole.to.clone()),
        ])
    })
}

fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

fn summary(out: &mut impl Write, answer: &Answer) -> std::io::Result<()> {
    let t = &answer.totals;
    writeln!(
        out,
        "{} sources: {} records read, {} durable, {} dropped by rules and reasons, {} in flight, \
         {} unread, {} holes",
        t.sources,
        t.read_records,
        t.stored_records,
        t.dropped_records,
        t.in_flight_records,
        bytes(t.unread_bytes),
        t.holes
    )?;
    if t.unexplained_holes > 0 {
        writeln!(out, "ALARM: {} holes without a reason", t.unexplained_holes)?;
    }
    if t.sources_counted_otherwise > 0 {
        let count = t.sources_counted_otherwise;
        writeln!(out, "ALARM: {count} sources are counted otherwise by their agents")?;
    }
    for agent in answer.agents.iter().filter(|agent| agent.silent) {
        let host = escape_text(&agent.host);
        writeln!(out, "the agent on {host} is silent since {} s", agent.reported_s_ago)?;
    }
    out.flush()
}
