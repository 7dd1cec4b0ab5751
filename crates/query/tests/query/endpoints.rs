//! The questions behind VictoriaLogs' endpoints: hits, stats, fields, values, streams.

use lodge_query::{
    Budget, Facet, FacetsRequest, HitsGroup, HitsRequest, QueryErrorKind, StatsRangeRequest,
    StatsRequest, ValueHits, View, logsql,
};

use crate::fixture::{DAY, Lab, Record, S, record};

fn logs() -> Vec<Record> {
    (0..60)
        .map(|i| {
            let level = if i % 10 == 0 { "error" } else { "info" };
            record(DAY + i * 60 * S, &format!("request {i}"))
                .label("app", if i % 3 == 0 { "api" } else { "web" })
                .with("level", level)
                .with("size", i)
        })
        .collect()
}

fn hits(query: &str, fields: &[&str], fields_limit: Option<usize>) -> HitsRequest {
    HitsRequest {
        view: View::default(),
        query: query.to_owned(),
        start_ns: None,
        end_ns: None,
        step_ns: 1800 * S,
        offset_ns: 0,
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        fields_limit,
        now_ns: DAY + 3600 * S,
        budget: Budget::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_are_counted_per_bucket_and_group() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    let half = 1800 * S;
    let all = lab.engine.hits(hits("*", &[], None)).await.unwrap().value;
    assert_eq!(
        all,
        [HitsGroup {
            fields: vec![],
            timestamps_ns: vec![DAY, DAY + half],
            values: vec![30, 30],
            total: 60
        }]
    );
    // Pipes that aggregate or cut do not change what matched.
    let same =
        lab.engine.hits(hits("* | sort by (_time) | limit 3", &[], None)).await.unwrap().value;
    assert_eq!(same, all);
    let by_level = lab.engine.hits(hits("request", &["level"], None)).await.unwrap().value;
    let totals: Vec<(String, u64)> =
        by_level.iter().map(|group| (group.fields[0].1.clone(), group.total)).collect();
    assert_eq!(totals, [("info".to_owned(), 54), ("error".to_owned(), 6)]);
    let limited = lab.engine.hits(hits("*", &["size"], Some(2))).await.unwrap().value;
    assert_eq!(limited.len(), 3);
    assert_eq!((limited[2].fields.len(), limited[2].total), (0, 58));
    let mut shifted = hits("*", &[], None);
    shifted.offset_ns = 600 * S;
    let shifted = lab.engine.hits(shifted).await.unwrap().value;
    assert_eq!(shifted[0].timestamps_ns, [DAY - 600 * S, DAY + 1200 * S, DAY + 3000 * S]);
    assert_eq!(shifted[0].values, [20, 30, 10]);
    let mut zero = hits("*", &[], None);
    zero.step_ns = 0;
    assert_eq!(lab.engine.hits(zero).await.unwrap_err().kind(), QueryErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_respect_the_time_range_half_open() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    let mut request = hits("*", &[], None);
    request.start_ns = Some(DAY + 60 * S);
    request.end_ns = Some(DAY + 180 * S);
    assert_eq!(lab.engine.hits(request).await.unwrap().value[0].total, 2);
    let mut empty = hits("*", &[], None);
    empty.start_ns = Some(DAY);
    empty.end_ns = Some(DAY);
    assert_eq!(lab.engine.hits(empty).await.unwrap().value, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_become_metrics() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    let request = |query: &str| StatsRequest {
        view: View::default(),
        query: query.to_owned(),
        start_ns: None,
        end_ns: None,
        time_ns: DAY + 3600 * S,
        budget: Budget::default(),
    };
    let query = "* | stats by (level) count() hits, max(size) | sort by (hits)";
    let samples = lab.engine.stats_query(request(query)).await.unwrap().value;
    let shown: Vec<String> = samples
        .iter()
        .map(|sample| format!("{} {} {}", sample.metric[0].1, sample.metric[1].1, sample.value))
        .collect();
    assert_eq!(shown, ["hits error 6", "max(size) error 50", "hits info 54", "max(size) info 59"]);
    assert_eq!(samples[0].metric[0].0, "__name__");
    assert_eq!(samples[0].metric[1].0, "level");
    let error = lab.engine.stats_query(request("error")).await.unwrap_err();
    assert!(error.message().contains("needs a `| stats"), "{error}");
    let error = lab.engine.stats_query(request("* | top 5 by (level)")).await.unwrap_err();
    assert!(error.message().contains("`| top`"), "{error}");

    let range = StatsRangeRequest {
        view: View::default(),
        query: "* | stats by (app) count() n".to_owned(),
        start_ns: None,
        end_ns: None,
        step_ns: 1800 * S,
        offset_ns: 0,
        now_ns: DAY,
        budget: Budget::default(),
    };
    let series = lab.engine.stats_query_range(range).await.unwrap().value;
    let shown: Vec<_> =
        series.iter().map(|series| (series.metric[1].1.as_str(), series.values.clone())).collect();
    let at = |index: i64, value: &str| (DAY + index * 1800 * S, value.to_owned());
    assert_eq!(
        shown,
        [("api", vec![at(0, "10"), at(1, "10")]), ("web", vec![at(0, "20"), at(1, "20")])]
    );
}

fn value(value: &str, hits: u64) -> ValueHits {
    ValueHits { value: value.to_owned(), hits }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_values_and_streams() {
    let lab = Lab::new().await;
    let mut records = logs();
    records.push(record(DAY, "bare"));
    lab.fill(&records).await;
    let names = lab.engine.field_names(lab.fields_request("*")).await.unwrap().value;
    assert_eq!(
        names,
        [
            value("_msg", 61),
            value("_stream", 61),
            value("_stream_id", 61),
            value("_time", 61),
            value("app", 60),
            value("level", 60),
            value("size", 60),
        ]
    );
    let names = lab.engine.field_names(lab.fields_request("bare")).await.unwrap().value;
    assert_eq!(names.len(), 4);
    let values =
        lab.engine.field_values(lab.fields_request("request"), "level").await.unwrap().value;
    assert_eq!(values, [value("info", 54), value("error", 6)]);
    let mut limited = lab.fields_request("*");
    limited.limit = Some(1);
    let values = lab.engine.field_values(limited, "app").await.unwrap().value;
    assert_eq!(values, [value("web", 40)]);
    let streams = lab.engine.streams(lab.fields_request("*")).await.unwrap().value;
    assert_eq!(streams, [value("{app=\"web\"}", 40), value("{app=\"api\"}", 20), value("{}", 1)]);
    let ids = lab.engine.field_values(lab.fields_request("*"), "_stream_id").await.unwrap().value;
    assert_eq!(ids.len(), 3);
    let one = format!("_stream_id:{}", ids[0].value);
    assert_eq!(lab.logsql(&format!("{one} | count() n")).await, ["n=40"]);
    let absent = lab.engine.field_values(lab.fields_request("*"), "absent").await.unwrap().value;
    assert_eq!(absent, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipes_that_make_records_count_for_questions_about_records() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    let renamed = "* | rename level as l | filter l:error";
    let groups = lab.engine.hits(hits(renamed, &["l"], None)).await.unwrap().value;
    assert_eq!(groups.len(), 1);
    assert_eq!((groups[0].fields[0].1.as_str(), groups[0].total), ("error", 6));
    assert_eq!(groups[0].timestamps_ns, [DAY, DAY + 1800 * S]);
    let values = lab.engine.field_values(lab.fields_request(renamed), "l").await.unwrap().value;
    assert_eq!(values, [value("error", 6)]);
    let names = lab.engine.field_names(lab.fields_request(renamed)).await.unwrap().value;
    assert!(names.contains(&value("l", 6)) && !names.iter().any(|n| n.value == "level"));
    let error = lab.engine.hits(hits("* | delete _time | filter request", &[], None)).await;
    assert!(error.unwrap_err().message().contains("`_time`"));
    let without = logsql::without_pipes("request or bare | stats count() | limit 1", DAY).unwrap();
    assert_eq!(without.trim(), "request or bare");
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_streams_are_listed() {
    let lab = Lab::new().await;
    let mut records = logs();
    records.push(record(DAY, "two labels").label("app", "api").label("host", "h \"1\""));
    lab.fill(&records).await;
    let names = lab.engine.stream_field_names(lab.fields_request("*")).await.unwrap().value;
    assert_eq!(names, [value("app", 61), value("host", 1)]);
    let request = lab.fields_request("*");
    let apps = lab.engine.stream_field_values(request, "app").await.unwrap().value;
    assert_eq!(apps, [value("web", 40), value("api", 21)]);
    let mut one = lab.fields_request("*");
    one.limit = Some(1);
    let hosts = lab.engine.stream_field_values(one, "host").await.unwrap().value;
    assert_eq!(hosts, [value("h \"1\"", 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_made_records_are_those_that_the_pipe_gives() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    let query = "* | rename level as l | filter l:*";
    let names = lab.engine.field_names(lab.fields_request(query)).await.unwrap().value;
    let mut found: Vec<String> =
        names.iter().map(|hit| format!("name={} hits={}", hit.value, hit.hits)).collect();
    found.sort();
    assert_eq!(found, lab.logsql(&format!("{query} | field_names | sort by (name)")).await);
    assert!(found.contains(&"name=_stream_id hits=60".to_owned()), "{found:?}");
    assert!(found.contains(&"name=l hits=60".to_owned()), "{found:?}");
}

fn facet(field: &str, values: &[(&str, u64)]) -> Facet {
    let values = values.iter().map(|(text, hits)| value(text, *hits)).collect();
    Facet { field: field.to_owned(), values }
}

#[tokio::test(flavor = "multi_thread")]
async fn facets_are_the_frequent_values_of_fields_with_few() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    let ask = |change: fn(&mut FacetsRequest), query: &str| {
        let mut request = FacetsRequest::new(lab.fields_request(query));
        request.values_max = 20;
        change(&mut request);
        lab.engine.facets(request)
    };
    // `_msg`, `_time` and `size` have too many values.
    let found = ask(|_| (), "*").await.unwrap();
    assert_eq!(found.partial, None);
    let by_name: Vec<&str> = found.value.iter().map(|f| f.field.as_str()).collect();
    assert_eq!(by_name, ["_stream", "_stream_id", "app", "level"]);
    assert_eq!(found.value[2], facet("app", &[("web", 40), ("api", 20)]));
    assert_eq!(found.value[3], facet("level", &[("info", 54), ("error", 6)]));
    // What is the same everywhere says nothing.
    let found = ask(|_| (), "level:error").await.unwrap().value;
    assert!(!found.iter().any(|f| f.field == "level"), "{found:?}");
    let found = ask(|r| r.keep_const_fields = true, "level:error").await.unwrap().value;
    assert!(found.contains(&facet("level", &[("error", 6)])), "{found:?}");
    let found = ask(|r| r.records.limit = Some(1), "*").await.unwrap().value;
    assert!(found.contains(&facet("level", &[("info", 54)])), "{found:?}");
    let found = ask(|r| r.value_bytes_max = 4, "*").await.unwrap().value;
    assert!(!found.iter().any(|f| f.field == "level" || f.field == "_stream"), "{found:?}");
    let made = ask(|_| (), "* | rename level as l | filter l:*").await.unwrap().value;
    assert!(made.contains(&facet("l", &[("info", 54), ("error", 6)])), "{made:?}");
    // Fields that are in no column are fields as well.
    let wide = |last: &str| {
        let mut wide = record(DAY, "wide").with("level", "debug");
        for i in 0..1_199 {
            wide = wide.with(&format!("f{i:04}"), i % 3);
        }
        wide.with("f1199", last)
    };
    lab.commit(&[wide("2"), wide("other")]).await;
    let found = ask(|_| (), "wide").await.unwrap().value;
    assert!(found.contains(&facet("f1199", &[("2", 1), ("other", 1)])), "{found:?}");
}
