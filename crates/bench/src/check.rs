//! Whether an answer is right.
//!
//! Each target brings its answers into one shape: rows of named texts. They are checked against
//! facts that were gathered while the corpus was written, never against another run of a store.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;

use crate::oracle::{Fact, NumberFact, fingerprint};
use crate::question::{Question, Shape};

/// One row of an answer.
pub type Row = BTreeMap<String, String>;

/// Whether `rows` answer `question` as `fact` says.
///
/// # Errors
/// What is wrong with them.
pub fn check(question: &Question, fact: &Fact, rows: &[Row]) -> anyhow::Result<()> {
    match (&question.shape, fact) {
        (Shape::Count | Shape::Distinct(_), Fact::Count(wanted)) => {
            let [row] = rows else { bail!("{} rows instead of one", rows.len()) };
            let got: u64 = number(row, "n")?;
            ensure!(got == *wanted, "{got} instead of {wanted}");
            Ok(())
        }
        (Shape::Rows, Fact::Rows(wanted, print)) => whole(rows, *wanted, *print),
        (Shape::Newest(_), Fact::Newest(times_ns)) => newest(rows, times_ns),
        (Shape::Histogram(_, field), Fact::Histogram(wanted)) => histogram(rows, field, wanted),
        (Shape::Top(field, n), Fact::Counts(wanted)) => top(rows, field, *n, wanted),
        (Shape::SqlCounts(field), Fact::Counts(wanted)) => {
            let got = rows.iter().map(|row| Ok((text(row, field)?.to_owned(), number(row, "n")?)));
            let got: BTreeMap<String, u64> = got.collect::<anyhow::Result<_>>()?;
            ensure!(got == *wanted, "{got:?} instead of {wanted:?}");
            Ok(())
        }
        (Shape::Numbers(by, _), Fact::Numbers(wanted)) => numbers(rows, by, wanted),
        (shape, fact) => bail!("no fact of {shape:?} but {fact:?}"),
    }
}

fn text<'r>(row: &'r Row, name: &str) -> anyhow::Result<&'r str> {
    row.get(name).map(String::as_str).with_context(|| format!("no field {name} in {row:?}"))
}

fn number<T: std::str::FromStr>(row: &Row, name: &str) -> anyhow::Result<T> {
    let text = text(row, name)?;
    text.parse().ok().with_context(|| format!("{name}={text} is no number"))
}

fn time_ns(row: &Row, name: &str) -> anyhow::Result<i64> {
    let time: Timestamp = text(row, name)?.parse().context("time")?;
    i64::try_from(time.as_nanosecond()).context("time")
}

fn whole(rows: &[Row], wanted: u64, wanted_print: u64) -> anyhow::Result<()> {
    ensure!(rows.len() as u64 == wanted, "{} records instead of {wanted}", rows.len());
    let mut print = 0_u64;
    for row in rows {
        print = print.wrapping_add(fingerprint(time_ns(row, "_time")?, text(row, "_msg")?));
    }
    ensure!(print == wanted_print, "these are other records than the right ones");
    Ok(())
}

fn newest(rows: &[Row], wanted_ns: &[i64]) -> anyhow::Result<()> {
    let times = rows.iter().map(|row| time_ns(row, "_time"));
    let mut times = times.collect::<anyhow::Result<Vec<i64>>>()?;
    times.sort_unstable_by(|a, b| b.cmp(a));
    ensure!(times.len() == wanted_ns.len(), "{} rows, not {}", times.len(), wanted_ns.len());
    ensure!(times == wanted_ns, "these are not the newest");
    Ok(())
}

fn histogram(rows: &[Row], field: &str, wanted: &[(i64, String, u64)]) -> anyhow::Result<()> {
    let mut got: BTreeMap<(i64, &str), u64> = BTreeMap::new();
    for row in rows {
        let n: u64 = number(row, "n")?;
        if n > 0 {
            *got.entry((time_ns(row, "time")?, text(row, field)?)).or_default() += n;
        }
    }
    for (bucket_ns, value, n) in wanted {
        let found = got.remove(&(*bucket_ns, value.as_str()));
        ensure!(found == Some(*n), "{value} at {bucket_ns}: {found:?} instead of {n}");
    }
    ensure!(got.is_empty(), "{} buckets too many, for instance {:?}", got.len(), got.first_entry());
    Ok(())
}

fn top(rows: &[Row], field: &str, n: usize, all: &BTreeMap<String, u64>) -> anyhow::Result<()> {
    let mut wanted: Vec<u64> = all.values().copied().collect();
    wanted.sort_unstable_by(|a, b| b.cmp(a));
    wanted.truncate(n);
    let mut got = Vec::new();
    for row in rows {
        let (value, n) = (row.get(field).map_or("", String::as_str), number::<u64>(row, "n")?);
        let fact = all.get(value);
        ensure!(fact == Some(&n), "{value} has {n} instead of {fact:?}");
        got.push(n);
    }
    // Values with the same number may come in any order and either may be cut off.
    ensure!(got == wanted, "{got:?} instead of {wanted:?}");
    Ok(())
}

fn numbers(rows: &[Row], by: &str, wanted: &BTreeMap<String, NumberFact>) -> anyhow::Result<()> {
    ensure!(rows.len() == wanted.len(), "{} groups instead of {}", rows.len(), wanted.len());
    for row in rows {
        let name = text(row, by)?;
        let fact = wanted.get(name).with_context(|| format!("there is no {by} {name}"))?;
        let n: u64 = number(row, "n")?;
        ensure!(n == fact.count, "{name}: count {n} instead of {}", fact.count);
        let sum = fact.sum_thousandths as f64 / 1000.0;
        close(name, "sum", number(row, "sum")?, sum)?;
        close(name, "avg", number(row, "avg")?, sum / fact.count.max(1) as f64)?;
        let p99: f64 = number(row, "p99")?;
        let (low, high) = fact.p99_thousandths;
        let (low, high) = (low as f64 / 1000.0, high as f64 / 1000.0);
        // Estimates come as 32-bit floats from some.
        ensure!(
            (low * (1.0 - 1e-6)..=high * (1.0 + 1e-6)).contains(&p99),
            "{name}: p99 {p99}, not {low} to {high}"
        );
    }
    Ok(())
}

/// Sums of floats depend on their order in the last digits.
fn close(name: &str, what: &str, got: f64, wanted: f64) -> anyhow::Result<()> {
    let near = (got - wanted).abs() <= wanted.abs() * 1e-9;
    ensure!(near, "{name}: {what} {got} instead of {wanted}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::question::Filter;

    fn row(fields: &[(&str, &str)]) -> Row {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn ask(shape: Shape) -> Question {
        Question::new("test", Filter::All, shape)
    }

    #[test]
    fn a_wrong_count_is_noticed() {
        let (question, fact) = (ask(Shape::Count), Fact::Count(20_000));
        check(&question, &fact, &[row(&[("n", "20000")])]).unwrap();
        let error = check(&question, &fact, &[row(&[("n", "19999")])]).unwrap_err();
        assert_eq!(error.to_string(), "19999 instead of 20000");
        assert!(check(&question, &fact, &[]).is_err());
    }

    #[test]
    fn rows_must_be_complete_and_the_right_ones() {
        let rows = [
            row(&[("_time", "1970-01-01T00:00:00Z"), ("_msg", "a")]),
            row(&[("_time", "1970-01-01T00:00:00.000000007Z"), ("_msg", "b")]),
        ];
        let print = fingerprint(0, "a").wrapping_add(fingerprint(7, "b"));
        let (question, fact) = (ask(Shape::Rows), Fact::Rows(2, print));
        check(&question, &fact, &rows).unwrap();
        check(&question, &fact, &[rows[1].clone(), rows[0].clone()]).unwrap();
        assert!(check(&question, &fact, &rows[..1]).is_err());
        assert!(check(&question, &fact, &[rows[0].clone(), rows[0].clone()]).is_err());
    }

    #[test]
    fn a_histogram_must_match_in_every_bucket() {
        let question = ask(Shape::Histogram(1_000_000_000, "level".to_owned()));
        let fact = Fact::Histogram(vec![(0, "info".to_owned(), 2)]);
        let at = |time: &str, n: &str| row(&[("time", time), ("level", "info"), ("n", n)]);
        let zero = at("1970-01-01T00:00:01Z", "0");
        check(&question, &fact, &[at("1970-01-01T00:00:00Z", "2"), zero]).unwrap();
        assert!(check(&question, &fact, &[at("1970-01-01T00:00:00Z", "3")]).is_err());
        assert!(check(&question, &fact, &[]).is_err());
        let more = [at("1970-01-01T00:00:00Z", "2"), at("1970-01-01T00:00:01Z", "1")];
        assert!(check(&question, &fact, &more).is_err());
    }

    #[test]
    fn the_newest_are_checked_by_their_times() {
        let (question, fact) = (ask(Shape::Newest(2)), Fact::Newest(vec![2_000_000_000, 0]));
        let at = |time: &str| row(&[("_time", time)]);
        let (old, new) = (at("1970-01-01T00:00:00Z"), at("1970-01-01T00:00:02Z"));
        check(&question, &fact, &[old.clone(), new.clone()]).unwrap();
        assert!(check(&question, &fact, &[old.clone(), old]).is_err());
        assert!(check(&question, &fact, &[new]).is_err());
    }

    #[test]
    fn the_top_may_break_ties_either_way() {
        let question = ask(Shape::Top("host".to_owned(), 1));
        let counts = [("a".to_owned(), 3), ("b".to_owned(), 3), ("c".to_owned(), 1)];
        let fact = Fact::Counts(counts.into());
        let top = |host: &str, n: &str| vec![row(&[("host", host), ("n", n)])];
        check(&question, &fact, &top("a", "3")).unwrap();
        check(&question, &fact, &top("b", "3")).unwrap();
        assert!(check(&question, &fact, &top("c", "1")).is_err());
    }
}
