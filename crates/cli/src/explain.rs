//! `lodge query --explain`: what a query would read, for people.

use std::io::{self, Write};

use reqwest::Method;
use serde::Deserialize;

use crate::client::{Client, causes};
use crate::failure::Failure;
use crate::terminal::{Ink, escape_text};

#[derive(Deserialize)]
struct Explanation {
    segments: Share,
    blocks: Share,
    rows: Share,
    bytes: Share,
    pushed_down: Vec<Scan>,
    rest: Vec<String>,
}

#[derive(Deserialize, Clone, Copy)]
struct Share {
    read: u64,
    total: u64,
}

#[derive(Deserialize)]
struct Scan {
    does: String,
    filter: String,
    fields: Vec<String>,
    may_stop_early: bool,
    segments: Share,
    blocks: Share,
    rows: Share,
    bytes: Share,
}

/// Asks the server to explain a query, and prints the answer.
pub fn run(
    client: &Client,
    path: &str,
    form: &[(&str, String)],
    query: &str,
    as_json: bool,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = runtime.block_on(async {
        let request = client.request(Method::POST, path)?.form(form);
        let response = client.send(request, query).await?;
        response.bytes().await.map_err(|error| {
            Failure::new("the answer was cut off").at(format!(
                "{}: {}",
                client.address(),
                causes(&error)
            ))
        })
    })?;
    let mut out = io::stdout().lock();
    if as_json {
        out.write_all(&body)?;
        return Ok(());
    }
    let explained: Explanation = serde_json::from_slice(&body).map_err(|error| {
        Failure::new(format!("the server's explanation cannot be read: {error}"))
            .mend("client and server may be of different versions")
    })?;
    explained.print(&mut out, Ink::for_stdout())?;
    Ok(())
}

impl Explanation {
    fn print(&self, out: &mut impl Write, ink: Ink) -> io::Result<()> {
        let early = if self.pushed_down.iter().any(|scan| scan.may_stop_early) {
            ", and may stop before"
        } else {
            ""
        };
        writeln!(out, "{} at most{early}", ink.bold("reads"))?;
        shares(out, "  ", [self.segments, self.blocks, self.rows, self.bytes])?;
        for scan in &self.pushed_down {
            writeln!(out, "{} {}", ink.bold("in the segments:"), scan.does)?;
            writeln!(out, "  filter    {}", escape_text(&scan.filter))?;
            writeln!(out, "  fields    {}", escape_text(&scan.fields.join(", ")))?;
            if self.pushed_down.len() > 1 {
                shares(out, "  ", [scan.segments, scan.blocks, scan.rows, scan.bytes])?;
            }
        }
        if self.rest.is_empty() {
            return writeln!(out, "{} nothing", ink.bold("after that:"));
        }
        writeln!(out, "{} (the last step first)", ink.bold("after that:"))?;
        for step in &self.rest {
            writeln!(out, "  {}", escape_text(step))?;
        }
        Ok(())
    }
}

fn shares(out: &mut impl Write, indent: &str, shares: [Share; 4]) -> io::Result<()> {
    let [segments, blocks, rows, bytes] = shares;
    for (name, share) in [("segments", segments), ("blocks", blocks), ("records", rows)] {
        let (read, total) = (grouped(share.read), grouped(share.total));
        writeln!(out, "{indent}{name:9} {read} of {total}")?;
    }
    writeln!(out, "{indent}{:9} {} of {}", "bytes", size(bytes.read), size(bytes.total))
}

/// With a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// In the largest unit that leaves a number above one.
fn size(bytes: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.into_iter().find(|(_, factor)| bytes as f64 >= *factor) {
        Some((unit, factor)) => format!("{:.1} {unit}", bytes as f64 / factor),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_sizes_have_units() {
        assert_eq!([grouped(0), grouped(999), grouped(1_234_567)], ["0", "999", "1,234,567"]);
        assert_eq!([size(0), size(1_500), size(2_000_000)], ["0 B", "1.5 kB", "2.0 MB"]);
    }
}
