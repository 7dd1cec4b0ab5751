//! A row of `| patterns` as people read it: how many, how often, when, and then the text, which is
//! as long as it likes.

use crate::row::Row;

/// Bars of a trend; the parts of a longer one are put together.
const BARS_MAX: usize = 15;
/// What stands for an eighth of the most, for two eighths, and so on.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Fewer columns have no room for both the times and the text.
const TIMES_COLUMNS_MIN: usize = 120;

/// The row for a table of so many columns, or none if it is no pattern's row.
pub fn for_people(row: &Row, columns_max: Option<usize>) -> Option<Row> {
    let names = ["pattern", "hits", "share", "first", "last", "trend"];
    if !row.fields().iter().map(|(name, _)| name.as_str()).eq(names) {
        return None;
    }
    let text = |name| row.get(name).unwrap_or_default();
    let share: f64 = text("share").parse().ok()?;
    let trend: Vec<u64> = serde_json::from_str(text("trend")).ok()?;
    let mut fields = vec![
        ("hits", text("hits").to_owned()),
        ("share %", format!("{:.1}", share * 100.0)),
        ("trend", bars(&trend)),
    ];
    if columns_max.is_none_or(|columns| columns >= TIMES_COLUMNS_MIN) {
        fields.extend(["first", "last"].map(|name| (name, to_seconds(text(name)))));
    }
    fields.push(("pattern", text("pattern").to_owned()));
    Some(Row::new(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

fn bars(counts: &[u64]) -> String {
    let together = counts.len().div_ceil(BARS_MAX).max(1);
    let sums: Vec<u64> = counts
        .chunks(together)
        .map(|part| part.iter().fold(0, |sum: u64, count| sum.saturating_add(*count)))
        .collect();
    let most = u128::from(sums.iter().copied().max().unwrap_or(0)).max(1);
    let bar = |sum: &u64| {
        let eighths = (u128::from(*sum) * BARS.len() as u128).div_ceil(most);
        // Nothing is blank, and one of a million is not.
        let place = usize::try_from(eighths).ok().and_then(|n| n.checked_sub(1));
        place.and_then(|place| BARS.get(place)).copied().unwrap_or(' ')
    };
    sums.iter().map(bar).collect()
}

/// RFC 3339 without the fraction of a second.
fn to_seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_what_is_there_however_little() {
        for (counts, text) in [
            (&[0, 1, 2, 4, 8][..], " ▁▂▄█"),
            (&[1, 0, 1_000_000], "▁ █"),
            (&[0, 0], "  "),
            (&[], ""),
            (&[u64::MAX, u64::MAX, 1], "██▁"),
        ] {
            assert_eq!(bars(counts), text);
        }
        let counts: Vec<u64> = (0..30).map(|part| u64::from(part >= 14)).collect();
        assert_eq!(bars(&counts), "       ████████");
    }

    #[test]
    fn other_rows_stay_as_they_are() {
        for line in [
            r#"{"pattern":"a","hits":1}"#,
            r#"{"pattern":"a","hits":1,"share":"x","first":"","last":"","trend":"[1]"}"#,
            r#"{"pattern":"a","hits":1,"share":1,"first":"","last":"","trend":"up"}"#,
        ] {
            let row = Row::parse(line).expect("row");
            assert_eq!(for_people(&row, None), None, "{line}");
        }
    }
}
