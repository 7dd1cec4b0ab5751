//! What becomes of accounts that did not reach the ledger with their batch.

use lodge_record::{Account, Hole};

/// Reason of records that the server will never take.
const REFUSED: &str = "refused by the server";

/// The account of a batch with `rows` records between two positions that the server refused for
/// good, as a part of what the next batch has to say, beside `after`, which was read since.
pub fn carry_refused(
    refused: Account,
    after: Account,
    ends: (String, String),
    rows: u64,
) -> Account {
    let mut carried = Account { before: None, ..refused };
    carried.drop_records(REFUSED, rows);
    let (from, to) = ends;
    let reason = format!("{REFUSED}; see the dead-letter file");
    carried.add_hole(Hole { from, to, reason, bytes: None, records: Some(rows) });
    carried.read_records = carried.read_records.saturating_add(after.read_records);
    after.dropped.iter().for_each(|(why, count)| carried.drop_records(why, *count));
    after.holes.into_iter().for_each(|hole| carried.add_hole(hole));
    carried
}
