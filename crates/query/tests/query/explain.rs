//! What a query would cost, told before it runs, and what runs are charged with.

use lodge_query::{Explanation, SqlRequest, View};

use crate::fixture::{DAY, Lab, Record, S, record};

fn hour(of: i64) -> Vec<Record> {
    (0..2_000)
        .map(|i| {
            record(DAY + of * 3_600 * S + i * S, &format!("hour{of} request {i}"))
                .label("app", if i % 2 == 0 { "api" } else { "web" })
                .with("level", if i % 100 == 0 { "error" } else { "info" })
        })
        .collect()
}

/// Three segments of an hour each.
async fn hours() -> Lab {
    let lab = Lab::new().await;
    for of in 0..3 {
        lab.commit(&hour(of)).await;
    }
    lab
}

async fn sql(lab: &Lab, query: &str) -> Explanation {
    let request = SqlRequest {
        view: View::default(),
        query: query.to_owned(),
        start_ns: None,
        end_ns: None,
        budget: lab.request("*").budget,
    };
    lab.engine.explain_sql(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_query_reads_fewer_segments_rows_and_bytes() {
    let lab = hours().await;
    let explained = |query: &str| lab.engine.explain_logsql(lab.request(query));
    let all = explained("request | stats by (level) count() n").await.unwrap();
    let [all] = all.scans.as_slice() else { panic!("{all:?}") };
    assert_eq!((all.segments.read, all.segments.total), (3, 3));
    assert_eq!((all.rows.read, all.rows.total), (6_000, 6_000));
    assert!(all.bytes.read > 0 && !all.may_stop, "{all:?}");
    assert!(all.does.starts_with("groups"), "{all:?}");
    assert!(all.columns.contains(&"level".to_owned()), "{all:?}");

    let narrow = "_time:[2026-01-02T01:00:00Z, 2026-01-02T02:00:00Z) request \
                  | stats by (level) count() n";
    let one = explained(narrow).await.unwrap();
    let [one] = one.scans.as_slice() else { panic!("{one:?}") };
    assert_eq!((one.segments.read, one.segments.total), (1, 3));
    assert_eq!((one.rows.read, one.rows.total), (2_000, 6_000));
    assert!(one.bytes.read < all.bytes.read, "{one:?}");
    assert!(one.filter.contains("request"), "{one:?}");

    // The number of all records is in the catalog.
    let counted = explained("* | count() n").await.unwrap();
    assert_eq!(counted.scans[0].rows.read, 0, "{counted:?}");
    let newest = explained("request | sort by (_time desc) limit 5 | fields _msg").await.unwrap();
    assert!(newest.scans[0].may_stop && newest.scans[0].does.contains("5 newest"), "{newest:?}");
    let sorted = explained("request | sort by (_msg) | limit 3").await.unwrap();
    assert!(sorted.rest.iter().any(|step| step.contains("Sort")), "{sorted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_a_segment_does_not_have_rule_it_out() {
    let lab = hours().await;
    lab.build().await;
    let word = lab.engine.explain_logsql(lab.request("nosuchword")).await.unwrap();
    assert_eq!((word.scans[0].rows.read, word.scans[0].bytes.read), (0, 0), "{word:?}");
    let before = lab.engine.stats();
    assert_eq!(lab.logsql("nosuchword | stats by (level) count() n").await, Vec::<String>::new());
    let found = sql(&lab, "SELECT level FROM logs WHERE match(_msg, 'nosuchword')").await;
    assert_eq!((found.scans[0].rows.read, found.scans[0].blocks.read), (0, 0), "{found:?}");
    assert!(lab.sql("SELECT level FROM logs WHERE match(_msg, 'nosuchword')").await.is_empty());
    let after = lab.engine.stats();
    assert_eq!(after.rows_read, before.rows_read, "an index said that there is nothing");
    assert!(after.blocks_skipped > before.blocks_skipped, "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_is_explained_and_no_run_costs_more_than_was_told() {
    let lab = hours().await;
    lab.build().await;
    for query in [
        "SELECT level, count(*) FROM logs WHERE match(_msg, 'request') GROUP BY level",
        "SELECT * FROM logs WHERE _time >= '2026-01-02T02:00:00Z'",
        "SELECT _msg FROM logs WHERE app = 'api' ORDER BY _time DESC LIMIT 10",
        "SELECT count(*) FROM logs WHERE logsql('level:error')",
    ] {
        let told = sql(&lab, query).await;
        let before = lab.engine.stats();
        lab.sql(query).await;
        let after = lab.engine.stats();
        let told_rows: u64 = told.scans.iter().map(|scan| scan.rows.read).sum();
        let told_bytes: u64 = told.scans.iter().map(|scan| scan.bytes.read).sum();
        assert!(after.rows_read - before.rows_read <= told_rows, "{query}: {told:?}");
        assert!(after.bytes_read - before.bytes_read <= told_bytes, "{query}: {told:?}");
    }
    let joined = "SELECT count(*) FROM logs a JOIN logs b ON a.app = b.app WHERE a.level = 'error'";
    let joined = sql(&lab, joined).await;
    assert_eq!(joined.scans.len(), 2, "{joined:?}");
    assert!(joined.rest.iter().any(|step| step.contains("Join")), "{joined:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sees_some_records_is_not_told_how_many_there_are() {
    let lab = hours().await;
    let view = View::default().narrowed("{app=\"nobody\"}", DAY).unwrap();
    let request = lodge_query::LogsqlRequest { view, ..lab.request("*") };
    let told = lab.engine.explain_logsql(request).await.unwrap();
    assert_eq!((told.scans[0].rows.read, told.scans[0].rows.total), (0, 0), "{told:?}");
}
