//! Records that are durable and not built yet.

use crate::fixture::{DAY, Lab, S, record};

/// Records that queries had to look at for this answer, on whichever server.
async fn rows_read(lab: &Lab, query: &str, expected: usize) -> u64 {
    let read = || lab.engines().map(|engine| engine.stats().rows_read).sum::<u64>();
    let before = read();
    assert_eq!(lab.logsql(query).await.len(), expected, "{query}");
    read() - before
}

#[tokio::test]
async fn while_words_are_asked_for_records_without_them_are_not_searched() {
    let lab = Lab::new().await;
    lab.commit(&[record(DAY, "worker-1 started"), record(DAY + S, "worker-2 failed")]).await;
    // Nobody has asked before: what is there has no filter.
    assert_eq!(rows_read(&lab, "failed", 1).await, 2);
    lab.commit(&[record(DAY + 2 * S, "worker-3 failed").with("app", "api")]).await;
    lab.commit(&[record(DAY + 3 * S, "worker-4 STARTED"), record(DAY + 4 * S, "worker-5")]).await;
    assert_eq!(rows_read(&lab, "failed", 2).await, 3);
    assert_eq!(rows_read(&lab, "started", 1).await, 4);
    assert_eq!(rows_read(&lab, "i(started)", 2).await, 4);
    assert_eq!(rows_read(&lab, "\"worker-5\"", 1).await, 4);
    assert_eq!(rows_read(&lab, "xyloneedle7q", 0).await, 2);
    assert_eq!(rows_read(&lab, "!failed", 3).await, 5, "all of some, and others one by one");
    // A part of a word is no word.
    assert_eq!(rows_read(&lab, "~\"ailed\"", 2).await, 5);
    // Of another field nothing is known until it is asked for, too.
    assert_eq!(rows_read(&lab, "app:web", 0).await, 1);
    lab.commit(&[record(DAY + 5 * S, "worker-6").with("app", "api")]).await;
    assert_eq!(rows_read(&lab, "app:web", 0).await, 1);
    assert_eq!(rows_read(&lab, "app:=api", 2).await, 2);
    lab.build().await;
    assert_eq!(lab.logsql("failed").await.len(), 2);
}
