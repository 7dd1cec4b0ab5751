//! The ledger: for each source what was read, what is durable, what was dropped and why, and where
//! something is missing.
//!
//! An entry is advanced in the transaction that adds the records, from the [`Account`] that came
//! with them, so it says of what is stored neither more nor less than is true. Invariants:
//! - a stretch begins where the committed one before it ended, what was read is what is stored and
//!   what was dropped, and its reader has counted so far what is counted here; otherwise there is a
//!   hole without a reason, which is an alarm;
//! - counts only rise, the newest holes are kept.

use std::collections::BTreeMap;

use lodge_record::account::add_reason;
use lodge_record::limits::HOLES_MAX;
use lodge_record::{Account, Hole, Position, ProducerId, Tally};
use serde::{Deserialize, Serialize};

use crate::ProducerState;

/// What an unexplained hole says instead of a reason.
pub const NO_REASON: &str = "no reason known";

/// The ledger's side of one source. Persisted as JSON: names stay, new members have defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LedgerEntry {
    /// Who reads the source.
    pub agent: String,
    /// On which machine.
    pub host: String,
    /// What people call it.
    pub source: String,
    /// Position at which its first stretch began, if not at the start.
    pub begun_at: Option<String>,
    /// Records read.
    pub read_records: u64,
    /// Records stored.
    pub stored_records: u64,
    /// Records dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// The newest holes, oldest first.
    pub holes: Vec<KeptHole>,
    /// All holes there ever were.
    pub holes_total: u64,
    /// Those of them without a reason.
    pub unexplained_total: u64,
    /// What its reader has counted, with the last batch; none where it does not say.
    pub told: Option<Tally>,
    /// When a batch was committed last, milliseconds since 1970.
    pub updated_ms: i64,
}

/// A hole and when it was learned of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptHole {
    /// Where, why and how much.
    #[serde(flatten)]
    pub hole: Hole,
    /// Whether no one has said why.
    #[serde(default)]
    pub unexplained: bool,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

/// A source as the ledger shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// Its producer.
    pub producer: ProducerId,
    /// How far it is durable.
    pub state: ProducerState,
    /// The rest.
    pub entry: LedgerEntry,
}

/// One stretch, as it is committed.
pub(crate) struct Stretch<'a> {
    /// What the producer says of it.
    pub(crate) account: &'a Account,
    /// Where the producer stood before; `None` if nothing was ever committed.
    pub(crate) committed: Option<&'a Position>,
    /// Where it stands now.
    pub(crate) position: Option<&'a Position>,
    /// Records stored.
    pub(crate) rows: u64,
    /// The present, milliseconds since 1970.
    pub(crate) now_ms: i64,
}

impl LedgerEntry {
    /// The entry after one more stretch.
    pub(crate) fn after(&self, stretch: &Stretch<'_>) -> LedgerEntry {
        let account = stretch.account;
        let mut entry = self.clone();
        entry.agent.clone_from(&account.agent);
        entry.host.clone_from(&account.host);
        entry.source.clone_from(&account.source);
        entry.updated_ms = stretch.now_ms;
        if stretch.committed.is_none() {
            entry.begun_at.clone_from(&account.from);
        }
        entry.read_records = entry.read_records.saturating_add(account.read_records);
        entry.stored_records = entry.stored_records.saturating_add(stretch.rows);
        for (reason, count) in &account.dropped {
            add_reason(&mut entry.dropped, reason, *count);
        }
        for hole in &account.holes {
            entry.keep(hole.clone(), false, stretch.now_ms);
        }
        let missing = missing_before(stretch).or_else(|| missing_within(stretch));
        if let Some(hole) = missing.or_else(|| self.counted_otherwise(stretch)) {
            entry.keep(hole, true, stretch.now_ms);
        }
        entry.told = account.before.as_deref().map(|before| {
            let mut told = before.clone();
            told.add(account, stretch.rows);
            told
        });
        entry
    }

    /// What is counted here, as its reader counts it.
    pub fn counted(&self) -> Tally {
        Tally {
            read_records: self.read_records,
            durable_records: self.stored_records,
            dropped: self.dropped.clone(),
            holes: self.holes_total.saturating_sub(self.unexplained_total),
        }
    }

    /// Whether its reader has counted otherwise, which is an alarm.
    pub fn is_told_otherwise(&self) -> bool {
        self.told.as_ref().is_some_and(|told| *told != self.counted())
    }

    /// What its reader has counted before the stretch is not what is counted here. It is said once,
    /// when it begins.
    fn counted_otherwise(&self, stretch: &Stretch<'_>) -> Option<Hole> {
        let before = stretch.account.before.as_deref()?;
        let counted = self.counted();
        if *before == counted || self.told.as_ref() == Some(before) {
            return None;
        }
        let text = |position: Option<&str>| position.unwrap_or("its start").to_owned();
        Some(Hole {
            from: text(self.begun_at.as_deref()),
            to: text(stretch.account.from.as_deref()),
            reason: format!(
                "its reader has counted {} records as durable, {} as dropped; here are {} and {}",
                before.durable_records,
                before.dropped_records(),
                counted.durable_records,
                counted.dropped_records()
            ),
            bytes: None,
            records: Some(before.durable_records.abs_diff(counted.durable_records)),
        })
    }

    fn keep(&mut self, hole: Hole, unexplained: bool, at_ms: i64) {
        self.holes_total += 1;
        self.unexplained_total += u64::from(unexplained);
        if self.holes.len() >= HOLES_MAX {
            // An unexplained one stays longer: it is what people look for.
            let explained = self.holes.iter().position(|kept| !kept.unexplained);
            self.holes.remove(explained.unwrap_or(0));
        }
        self.holes.push(KeptHole { hole, unexplained, at_ms });
    }

    /// Records dropped, for whatever reason.
    pub fn dropped_records(&self) -> u64 {
        self.dropped.values().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// The stretch begins elsewhere than where the committed one ended.
fn missing_before(stretch: &Stretch<'_>) -> Option<Hole> {
    let committed = stretch.committed?.as_str();
    let from = stretch.account.from.as_deref();
    if from == Some(committed) {
        return None;
    }
    let to = from.unwrap_or("its start").to_owned();
    let reason = NO_REASON.to_owned();
    Some(Hole { from: committed.to_owned(), to, reason, bytes: None, records: None })
}

/// What was read is not what is stored and dropped.
fn missing_within(stretch: &Stretch<'_>) -> Option<Hole> {
    let account = stretch.account;
    let accounted = stretch.rows.saturating_add(account.dropped_records());
    if account.read_records == accounted {
        return None;
    }
    let text = |position: Option<&str>| position.unwrap_or("its start").to_owned();
    Some(Hole {
        from: text(account.from.as_deref()),
        to: text(stretch.position.map(Position::as_str)),
        reason: match account.read_records > accounted {
            true => NO_REASON.to_owned(),
            false => "more is stored than was read".to_owned(),
        },
        bytes: None,
        records: Some(account.read_records.abs_diff(accounted)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(from: Option<&str>, read_records: u64, dropped: &[(&str, u64)]) -> Account {
        let dropped = dropped.iter().map(|(reason, n)| ((*reason).to_owned(), *n)).collect();
        let from = from.map(str::to_owned);
        Account { source: "a.log".into(), from, read_records, dropped, ..Account::default() }
    }

    fn after(
        entry: &LedgerEntry,
        committed: Option<&str>,
        account: &Account,
        rows: u64,
    ) -> LedgerEntry {
        let committed = committed.map(|text| Position::new(text).unwrap());
        let stretch =
            Stretch { account, committed: committed.as_ref(), position: None, rows, now_ms: 7 };
        entry.after(&stretch)
    }

    #[test]
    fn stretches_that_follow_each_other_leave_no_hole() {
        let one = after(&LedgerEntry::default(), None, &account(None, 10, &[]), 10);
        let two = after(&one, Some("10"), &account(Some("10"), 5, &[("rule debug", 3)]), 2);
        assert_eq!((two.read_records, two.stored_records, two.dropped_records()), (15, 12, 3));
        assert_eq!((two.holes_total, two.unexplained_total), (0, 0));
    }

    #[test]
    fn a_hole_with_a_reason_is_kept_and_is_no_alarm() {
        let mut said = account(Some("10"), 0, &[]);
        let (from, to, reason) = ("10".into(), "20".into(), "cut off".into());
        said.add_hole(Hole { from, to, reason, bytes: Some(10), records: None });
        let entry = after(&LedgerEntry::default(), Some("10"), &said, 0);
        assert_eq!((entry.holes_total, entry.unexplained_total), (1, 0));
        assert_eq!(entry.holes[0].hole.bytes, Some(10));
    }

    #[test]
    fn what_no_one_explains_is_an_alarm() {
        let start = LedgerEntry::default();
        let jumped = after(&start, Some("10"), &account(Some("20"), 1, &[]), 1);
        assert_eq!(jumped.unexplained_total, 1);
        assert_eq!((&*jumped.holes[0].hole.from, &*jumped.holes[0].hole.to), ("10", "20"));
        let fewer = after(&start, Some("10"), &account(Some("10"), 5, &[("rule", 1)]), 3);
        assert_eq!((fewer.unexplained_total, fewer.holes[0].hole.records), (1, Some(1)));
        let more = after(&start, Some("10"), &account(Some("10"), 5, &[]), 6);
        assert_eq!(more.unexplained_total, 1);
        assert!(more.holes[0].hole.reason.contains("more is stored"));
    }

    #[test]
    fn what_the_reader_has_counted_otherwise_is_an_alarm_once_and_stays_visible() {
        let counting = |from: Option<&str>, rows: u64, before: u64| {
            let tally = Tally { read_records: before, durable_records: before, ..Tally::default() };
            let before = Some(Box::new(tally));
            (Account { before, ..account(from, rows, &[]) }, rows)
        };
        let (first, rows) = counting(None, 10, 0);
        let one = after(&LedgerEntry::default(), None, &first, rows);
        assert_eq!((one.unexplained_total, one.is_told_otherwise()), (0, false));
        let (second, rows) = counting(Some("10"), 5, 12);
        let two = after(&one, Some("10"), &second, rows);
        assert_eq!((two.unexplained_total, two.is_told_otherwise()), (1, true));
        assert_eq!(two.holes[0].hole.records, Some(2));
        let (third, rows) = counting(Some("15"), 5, 17);
        let three = after(&two, Some("15"), &third, rows);
        assert_eq!((three.unexplained_total, three.is_told_otherwise()), (1, true));
        // One that has lost its state takes over what is counted here.
        let (fourth, rows) = counting(Some("20"), 1, 20);
        let four = after(&three, Some("20"), &fourth, rows);
        assert_eq!((four.unexplained_total, four.is_told_otherwise()), (1, false));
    }

    #[test]
    fn of_many_holes_the_newest_and_the_unexplained_are_kept() {
        let mut entry = after(&LedgerEntry::default(), Some("x"), &account(Some("y"), 0, &[]), 0);
        for n in 0..100 {
            let mut said = account(Some("p"), 0, &[]);
            let (from, to) = (n.to_string(), n.to_string());
            said.add_hole(Hole { from, to, reason: "cut".into(), bytes: None, records: None });
            entry = after(&entry, Some("p"), &said, 0);
        }
        assert_eq!((entry.holes.len(), entry.holes_total), (HOLES_MAX, 101));
        assert!(entry.holes[0].unexplained);
        assert_eq!(entry.holes.last().unwrap().hole.from, "99");
    }
}
