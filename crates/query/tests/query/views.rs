//! A caller who may see some records only gets every answer from these.

use lodge_query::{HitsRequest, QueryErrorKind, SqlRequest, View};

use crate::fixture::{DAY, Lab, Record, S, batch, record, rows};

fn logs() -> Vec<Record> {
    (0..60)
        .map(|i| {
            let app = if i % 3 == 0 { "shop" } else { "bank" };
            record(DAY + i * S, &format!("{app} says {i}"))
                .label("app", app)
                .with("secret", format!("{app}-{}", i % 2).as_str())
        })
        .collect()
}

fn shop() -> View {
    View::default().narrowed("{app=\"shop\"}", DAY).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrowed_view_shows_nothing_else_whatever_is_asked() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    for query in [
        "* | stats count() n",
        "{app=\"bank\"} or {app=\"shop\"} | stats count() n",
        "!{app=\"shop\"} or * | filter * | stats count() n",
    ] {
        let request = lodge_query::LogsqlRequest { view: shop(), ..lab.request(query) };
        assert_eq!(lab.ask(request).await.unwrap(), ["n=20"], "{query}");
    }
    let request = lodge_query::LogsqlRequest { view: shop(), ..lab.request("bank") };
    assert_eq!(lab.ask(request).await.unwrap(), Vec::<String>::new());

    for query in [
        "SELECT count(*) AS n FROM logs",
        "SELECT count(*) AS n FROM logs WHERE app = 'bank' OR true",
        "SELECT count(*) AS n FROM (SELECT * FROM logs UNION ALL SELECT * FROM logs WHERE \
         app = 'bank')",
        "WITH other AS (SELECT * FROM logs) SELECT count(*) AS n FROM other",
    ] {
        let view = shop();
        let lodge_query::LogsqlRequest { budget, .. } = lab.request("*");
        let query = query.to_owned();
        let request = SqlRequest { view, query, start_ns: None, end_ns: None, budget };
        let found = rows(&lab.engine.sql(request).await.unwrap().collect().await.unwrap());
        assert_eq!(found, ["n=20"]);
    }

    let fields = || lodge_query::FieldsRequest { view: shop(), ..lab.fields_request("*") };
    let values = lab.engine.field_values(fields(), "secret").await.unwrap().value;
    assert!(values.iter().all(|v| v.value.starts_with("shop-")), "{values:?}");
    let streams = lab.engine.streams(fields()).await.unwrap().value;
    assert_eq!(streams.iter().map(|v| v.value.as_str()).collect::<Vec<_>>(), ["{app=\"shop\"}"]);
    let lodge_query::LogsqlRequest { view: _, query, start_ns, end_ns, now_ns, budget, .. } =
        lab.request("*");
    let hits = HitsRequest {
        view: shop(),
        query,
        start_ns,
        end_ns,
        step_ns: 3_600 * S,
        offset_ns: 0,
        fields: vec!["app".into()],
        fields_limit: None,
        now_ns,
        budget,
    };
    let groups = lab.engine.hits(hits).await.unwrap().value;
    assert_eq!(groups.iter().map(|g| g.total).sum::<u64>(), 20, "{groups:?}");

    let tail = lab.engine.tail(&shop(), "*", DAY).unwrap();
    let records = batch(&logs());
    assert_eq!(tail.apply(&records).unwrap().num_rows(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_can_only_become_narrower() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    let view = shop().narrowed("{app=\"bank\"} or 3", DAY).unwrap();
    let request = lodge_query::LogsqlRequest { view, ..lab.request("* | stats count() n") };
    assert_eq!(lab.ask(request).await.unwrap(), ["n=1"]);
    let error = View::default().narrowed("* | limit 3", DAY).unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Invalid);
    assert!(View::default().narrowed("{", DAY).is_err());
}
