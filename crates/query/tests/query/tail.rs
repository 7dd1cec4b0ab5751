//! Live tail: filters and row-wise pipes on committed batches.

use lodge_query::{QueryErrorKind, View};

use crate::fixture::{DAY, Lab, S, batch, record, rows};

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_shows_matching_records_with_the_fields_asked_for() {
    let lab = Lab::new().await;
    let records = batch(&[
        record(DAY, "an error happened").with("level", "error").with("n", 5),
        record(DAY + 1, "fine").with("level", "info").with("n", 7),
        record(DAY + 2, "another error").with("level", "warn"),
    ]);
    let tail = lab
        .engine
        .tail(&View::default(), "error | fields _time, _msg, n | rename n as number", DAY)
        .unwrap();
    assert_eq!(
        rows(&[tail.apply(&records).unwrap()]),
        [
            "_time=2026-01-02T00:00:00Z _msg=an error happened number=5",
            "_time=2026-01-02T00:00:00.000000002Z _msg=another error",
        ]
    );
    let tail =
        lab.engine.tail(&View::default(), "* | filter n:>6 | delete _stream, _time", DAY).unwrap();
    assert_eq!(rows(&[tail.apply(&records).unwrap()]), ["_msg=fine level=info n=7"]);
    let nothing = lab.engine.tail(&View::default(), "absent_word", DAY).unwrap();
    assert_eq!(nothing.apply(&records).unwrap().num_rows(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_refuses_what_needs_more_than_one_record() {
    let lab = Lab::new().await;
    for (query, pipe) in
        [("* | stats count()", "stats"), ("* | sort by (x)", "sort"), ("* | limit 5", "limit")]
    {
        let error = lab.engine.tail(&View::default(), query, DAY).unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Invalid);
        assert!(error.message().contains(&format!("`| {pipe}`")), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_makes_fields_of_fields() {
    let lab = Lab::new().await;
    let records = batch(&[
        record(DAY, r#"{"ip":"1.2.3.4","deep":{"n":7},"list":[1,2]}"#).with("level", "error"),
        record(DAY + 1, "took 5ms").with("level", "info"),
    ]);
    for (query, expected) in [
        (
            "* | unpack_json | delete _time, _stream, _msg",
            vec!["level=error ip=1.2.3.4 deep.n=7 list=[1,2]", "level=info"],
        ),
        ("* | unpack_json | filter deep.n:>5 | fields ip, deep*", vec!["deep.n=7 ip=1.2.3.4"]),
        ("* | unpack_json | delete deep*, l* | fields i*", vec!["ip=1.2.3.4", ""]),
        (
            "* | unpack_json | unroll (list) | format '<level>-<list>' as x | fields x",
            vec!["x=error-1", "x=error-2", "x=info-"],
        ),
        ("took | extract 'took <d>' | math d * 2 as twice | fields twice", vec!["twice=10000000"]),
        (
            "* | replace if (level:=info) ('5', '6') | fields _msg | filter took",
            vec!["_msg=took 6ms"],
        ),
    ] {
        let tail = lab.engine.tail(&View::default(), query, DAY).unwrap();
        assert_eq!(rows(&[tail.apply(&records).unwrap()]), expected, "{query}");
    }
    let bomb = batch(&[record(DAY, &format!("[{}1]", "1,".repeat(999_999)))]);
    let tail = lab.engine.tail(&View::default(), "* | unroll (_msg)", DAY).unwrap();
    assert_eq!(tail.apply(&bomb).unwrap().num_rows(), 1_000_000);
    let bomb = batch(&[record(DAY, &format!("[{}1]", "1,".repeat(1_000_000)))]);
    let error = tail.apply(&bomb).unwrap_err();
    assert!(error.message().contains("the most is 1000000"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn relative_times_go_along_with_the_time() {
    let lab = Lab::new().await;
    let tail = lab.engine.tail(&View::default(), "_time:5m", DAY).unwrap();
    let late = batch(&[record(DAY + 3_600 * S, "an hour later")]);
    assert_eq!(tail.apply(&late).unwrap().num_rows(), 0);
    let then = tail.at(DAY + 3_601 * S).unwrap();
    assert_eq!(then.apply(&late).unwrap().num_rows(), 1);
    let plain = lab.engine.tail(&View::default(), "later", DAY).unwrap();
    assert_eq!(plain.at(DAY + S).unwrap().apply(&late).unwrap().num_rows(), 1);
}
