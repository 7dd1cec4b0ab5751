//! LogsQL from text to rows over a real store, L0s and built segments together.

use crate::fixture::{DAY, Lab, Record, S, record};

fn requests() -> Vec<Record> {
    (0..40)
        .map(|i| {
            record(DAY + i * S, &format!("GET /item/{i} took {}ms", i * 3))
                .label("app", ["api", "web", "db"][(i % 3) as usize])
                .with("level", ["info", "warn", "error", "debug"][(i % 4) as usize])
                .with("size", i * 100)
                .with("took", format!("{}ms", i * 3).as_str())
                .with("host", format!("host-{}", i % 12).as_str())
        })
        .collect()
}

async fn lab() -> Lab {
    let lab = Lab::new().await;
    lab.fill(&requests()).await;
    lab
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_records_come_with_all_their_fields() {
    let lab = lab().await;
    assert_eq!(
        lab.logsql("\"/item/7\"").await,
        ["_time=2026-01-02T00:00:07Z _stream={app=\"web\"} _msg=GET /item/7 took 21ms app=web \
          host=host-7 level=debug size=700 took=21ms"]
    );
    assert_eq!(lab.logsql("*").await.len(), 40);
    assert_eq!(lab.logsql("nothing_like_this").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_answers_every_question() {
    let lab = Lab::new().await;
    assert_eq!(lab.logsql("*").await, [""; 0]);
    assert_eq!(lab.logsql("error | sort by (x) | limit 5").await, [""; 0]);
    assert_eq!(lab.logsql("* | stats count() n, sum(x) s, max(x) m").await, ["n=0 s=NaN"]);
    assert_eq!(lab.logsql("* | stats by (a) count() n").await, [""; 0]);
    assert_eq!(lab.sql("SELECT count(*) AS n FROM logs").await, ["n=0"]);
    assert_eq!(lab.engine.streams(lab.fields_request("*")).await.unwrap().value, []);
    assert_eq!(lab.engine.field_names(lab.fields_request("*")).await.unwrap().value, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_ranges_of_filters_and_requests_meet() {
    let lab = lab().await;
    assert_eq!(lab.logsql("_time:<2026-01-02T00:00:10Z | count() n").await, ["n=10"]);
    let mut request = lab.request("_time:>=2026-01-02T00:00:05Z | count() n");
    request.end_ns = Some(DAY + 10 * S);
    assert_eq!(lab.ask(request).await.unwrap(), ["n=5"]);
    let mut request = lab.request("*");
    (request.start_ns, request.end_ns) = (Some(DAY + 10 * S), Some(DAY + 10 * S));
    assert_eq!(lab.ask(request).await.unwrap(), [""; 0]);
    assert_eq!(lab.logsql("_time:[2030-01-01, 2030-01-02] | count() n").await, ["n=0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_copy_rename_delete() {
    let lab = lab().await;
    assert_eq!(
        lab.logsql("\"/item/7\" | fields size, absent, level").await,
        ["size=700 level=debug"]
    );
    assert_eq!(
        lab.logsql("\"/item/7\" | fields s*, l* | rename size as bytes, level l").await,
        ["bytes=700 l=debug"]
    );
    assert_eq!(
        lab.logsql("\"/item/7\" | copy size as level | fields level, size").await,
        ["level=700 size=700"]
    );
    assert_eq!(
        lab.logsql("\"/item/7\" | delete _time, _stream, _msg, h*, took | rename size as app")
            .await,
        ["level=debug app=700"]
    );
    assert_eq!(
        lab.logsql("\"/item/7\" | fields _stream_id | copy _stream_id as id | count(id) n").await,
        ["n=1"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sorting_is_natural() {
    let lab = lab().await;
    let hosts = lab.logsql("* | uniq by (host) | sort by (host)").await;
    let expected: Vec<String> = (0..12).map(|host| format!("host=host-{host}")).collect();
    assert_eq!(hosts, expected);
    assert_eq!(
        lab.logsql("* | sort by (took desc) limit 2 | fields took").await,
        ["took=117ms", "took=114ms"]
    );
    assert_eq!(
        lab.logsql("* | sort by (size desc) offset 1 limit 2 rank as place | fields size, place")
            .await,
        ["size=3800 place=2", "size=3700 place=3"]
    );
    assert_eq!(
        lab.logsql("* | first 1 by (size) partition by (level) | fields level, size").await,
        ["level=debug size=300", "level=error size=200", "level=info", "level=warn size=100"]
            .map(|row| if row == "level=info" { "level=info size=0" } else { row })
    );
    assert_eq!(lab.logsql("* | last 1 by (_time) | fields size").await, ["size=3900"]);
    assert_eq!(lab.logsql("* | sort by (absent, size) | limit 1 | fields size").await, ["size=0"]);
    assert_eq!(
        lab.logsql("* | sort by (level, size desc) | limit 2 | fields level, size").await,
        ["level=debug size=3900", "level=debug size=3500"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_offsets() {
    let lab = lab().await;
    assert_eq!(lab.logsql("* | limit 7 | count() n").await, ["n=7"]);
    assert_eq!(lab.logsql("* | offset 35 | count() n").await, ["n=5"]);
    assert_eq!(lab.logsql("* | offset 100 | count() n").await, ["n=0"]);
    assert_eq!(lab.logsql("* | limit 0").await, [""; 0]);
    assert_eq!(lab.logsql("* | last 3 by (_time) | count() n").await, ["n=3"]);
    let mut request = lab.request("* | fields size");
    request.limit = Some(2);
    assert_eq!(lab.ask(request.clone()).await.unwrap(), ["size=3900", "size=3800"]);
    // A filter behind a renaming pipe comes before the request's limit.
    request.query = "* | rename level as l | filter l:=error | fields _time, size".into();
    assert_eq!(
        lab.ask(request.clone()).await.unwrap(),
        ["_time=2026-01-02T00:00:38Z size=3800", "_time=2026-01-02T00:00:34Z size=3400"]
    );
    // A filter behind "the last N" must not choose which N.
    request.query = "* | last 3 by (_time) | filter size:<3900 | fields size".into();
    assert_eq!(lab.ask(request).await.unwrap(), ["size=3800", "size=3700"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_functions() {
    let lab = lab().await;
    assert_eq!(
        lab.logsql(
            "* | stats count() n, count(absent) none, count_empty(absent) empty, sum(size) total, \
             avg(size) mean, min(size) low, max(size) high, sum_len(level) bytes, \
             count_uniq(level, app) pairs, count_uniq(host) limit 5 few"
        )
        .await,
        ["n=40 none=0 empty=40 total=78000 mean=1950 low=0 high=3900 bytes=180 pairs=12 few=5"]
    );
    // Durations and texts compare by value.
    assert_eq!(
        lab.logsql("* | stats max(took) slowest, min(took) fastest, max(host) last, sum(took) s")
            .await,
        ["slowest=117ms fastest=0ms last=host-11 s=2340000000"]
    );
    assert_eq!(
        lab.logsql("* | stats median(size) m, quantile(0, size) q0, quantile(1, size) q1").await,
        ["m=1950 q0=0 q1=3900"]
    );
    assert_eq!(
        lab.logsql(
            "* | count() if (level:error) errors, count() if (level:none) none, count() all"
        )
        .await,
        ["errors=10 none=0 all=40"]
    );
    assert_eq!(
        lab.logsql("* | stats uniq_values(level) all").await,
        [r#"all=["debug","error","info","warn"]"#]
    );
    // Any two of them.
    let two = lab.logsql("* | stats uniq_values(level) limit 2 two").await;
    let two: Vec<String> = serde_json::from_str(two[0].trim_start_matches("two=")).unwrap();
    let levels = ["debug", "error", "info", "warn"];
    assert!(two.len() == 2 && two[0] < two[1], "{two:?}");
    assert!(two.iter().all(|level| levels.contains(&level.as_str())), "{two:?}");
    assert_eq!(
        lab.logsql("* | stats max(size, took) m, min(_time) t, sum(si*) s").await,
        ["m=117ms t=2026-01-02T00:00:00Z s=78000"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_by_groups_and_buckets() {
    let lab = lab().await;
    assert_eq!(
        lab.sorted("* | stats by (app) count() n, max(size) m").await,
        ["app=api n=14 m=3900", "app=db n=13 m=3800", "app=web n=13 m=3700"]
    );
    assert_eq!(
        lab.sorted("* | by_nothing:\"\" | stats (_time:15s) count() n").await,
        [
            "_time=2026-01-02T00:00:00Z n=15",
            "_time=2026-01-02T00:00:15Z n=15",
            "_time=2026-01-02T00:00:30Z n=10"
        ]
    );
    assert_eq!(
        lab.sorted("* | stats by (_time:day offset 2h) count() n").await,
        ["_time=2026-01-01T22:00:00Z n=40"]
    );
    assert_eq!(
        lab.sorted("* | stats by (_time:month) count() n").await,
        ["_time=2026-01-01T00:00:00Z n=40"]
    );
    assert_eq!(
        lab.sorted("* | stats by (size:2KB) count() n").await,
        ["size=0 n=20", "size=2000 n=20"].map(str::to_owned)
    );
    assert_eq!(lab.sorted("* | stats by (absent) count() n").await, ["n=40"]);
    assert_eq!(
        lab.logsql("* | stats by (level) count() n | filter level:~\"^e\" | fields n").await,
        ["n=10"]
    );
    assert_eq!(
        lab.logsql("* | stats by (app) sum(size) total | sort by (total desc) | limit 1").await,
        ["app=api total=27300"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn top_and_uniq() {
    let lab = lab().await;
    assert_eq!(lab.logsql("* | top 2 by (app)").await, ["app=api hits=14", "app=db hits=13"]);
    assert_eq!(
        lab.logsql("* | top 2 by (app, level) hits as n rank as r").await,
        ["app=api level=info n=4 r=1", "app=api level=warn n=4 r=2"]
            .map(|row| row.replace("level=info n=4 r=1", "level=debug n=4 r=1"))
            .map(|row| row.replace("level=warn n=4 r=2", "level=info n=4 r=2"))
    );
    assert_eq!(
        lab.sorted("* | uniq by (level) with hits").await,
        ["level=debug hits=10", "level=error hits=10", "level=info hits=10", "level=warn hits=10"]
    );
    assert_eq!(lab.logsql("* | uniq by (host) limit 3 | count() n").await, ["n=3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_may_be_a_number_here_and_text_there() {
    let lab = Lab::new().await;
    lab.commit(&[record(DAY, "a").with("v", 10), record(DAY + 1, "b").with("v", 200)]).await;
    lab.build().await;
    lab.commit(&[record(DAY + 2, "c").with("v", "10"), record(DAY + 3, "d").with("v", "ten")])
        .await;
    lab.commit(&[record(DAY + 4, "e").with("v", 10.5), record(DAY + 5, "f").with("v", true)]).await;
    lab.commit(&[record(DAY + 6, "g").with("v", i64::MAX), record(DAY + 7, "h")]).await;
    assert_eq!(lab.sorted("v:=10 | fields _msg").await, ["_msg=a", "_msg=c"]);
    assert_eq!(lab.sorted("v:>10 | fields _msg").await, ["_msg=b", "_msg=e", "_msg=g"]);
    assert_eq!(lab.sorted("v:true | fields _msg").await, ["_msg=f"]);
    assert_eq!(lab.sorted("v:\"\" | fields _msg").await, ["_msg=h"]);
    assert_eq!(
        lab.logsql("* | sort by (v) | fields v").await,
        ["", "v=10", "v=10", "v=10.5", "v=200", "v=9223372036854775807", "v=ten", "v=true"]
    );
    assert_eq!(
        lab.logsql("* | stats by (v) count() n | sort by (n desc, v) | limit 1").await,
        ["v=10 n=2"]
    );
    assert_eq!(
        lab.logsql("v:<1000 | stats sum(v) s, max(v) m, count_uniq(v) u").await,
        ["s=230.5 m=200 u=3"]
    );
    assert_eq!(lab.sql("SELECT count(*) AS n FROM logs WHERE v = '10'").await, ["n=2"]);
}

/// One record with more fields than a batch has columns, among ordinary ones.
fn wide() -> Vec<Record> {
    let mut wide = record(DAY + 100 * S, "a wide record");
    for i in 0..1200 {
        wide = wide.with(&format!("f{i:04}"), i);
    }
    let narrow = record(DAY + 101 * S, "a narrow record").with("f1190", "narrow").with("z", 1);
    vec![wide, narrow]
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_in_overflow_are_fields() {
    let lab = Lab::new().await;
    lab.commit(&requests()).await;
    lab.commit(&wide()).await;
    for round in 0..2 {
        assert_eq!(lab.logsql("f1190:=1190 | fields f1190, f0001").await, ["f1190=1190 f0001=1"]);
        assert_eq!(
            lab.sorted("f1190:* | fields _msg").await,
            ["_msg=a narrow record", "_msg=a wide record"]
        );
        assert_eq!(lab.logsql("f1195:>1000 | stats sum(f1195) s, count() n").await, ["s=1195 n=1"]);
        assert_eq!(
            lab.logsql("record | sort by (f1190) | fields f1190").await,
            ["f1190=1190", "f1190=narrow"]
        );
        // Prefixes and deletions reach fields that have no column.
        assert_eq!(
            lab.logsql("wide | fields _msg, f119*").await[0].matches(" f119").count(),
            10,
            "round {round}"
        );
        let left = lab.logsql("wide | delete f1*, f0*").await;
        assert_eq!(left[0].matches(" f").count(), 0, "round {round}: {left:?}");
        let all = lab.logsql("wide").await;
        assert_eq!(all.len(), 1, "round {round}");
        assert_eq!(all[0].matches(" f").count(), 1200, "round {round}");
        assert_eq!(all[0].matches("f1190=").count(), 1, "round {round}");
        let values = lab.engine.field_values(lab.fields_request("*"), "f1190").await.unwrap().value;
        assert_eq!(values.len(), 2);
        let names = lab.engine.field_names(lab.fields_request("wide")).await.unwrap().value;
        assert_eq!(names.len(), 1200 + 4, "round {round}");
        assert_eq!(lab.logsql("size:>=3900 | fields size").await, ["size=3900"]);
        lab.build().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_fields_than_a_table_has_columns() {
    let lab = Lab::new().await;
    for chunk in 0..4 {
        let records: Vec<Record> = (0..400)
            .map(|i| {
                let field = chunk * 400 + i;
                record(DAY + field * S, "sparse")
                    .with(&format!("only{field}"), field)
                    .with("id", field)
            })
            .collect();
        lab.commit(&records).await;
    }
    let all = lab.logsql("*").await;
    assert_eq!(all.len(), 1600);
    for row in &all {
        assert_eq!(row.matches("only").count(), 1, "{row}");
    }
    assert_eq!(lab.logsql("only1599:* | fields id").await, ["id=1599"]);
    assert_eq!(lab.logsql("* | sort by (only3 desc) | limit 1 | fields id").await, ["id=3"]);
    assert_eq!(
        lab.sql("SELECT id FROM logs WHERE only1500 = '1500' OR only1500 = 1500").await.len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_select_by_labels() {
    let lab = lab().await;
    assert_eq!(lab.logsql("{app=\"api\"} | count() n").await, ["n=14"]);
    assert_eq!(lab.logsql("{app=~\"a.*|db\"} | count() n").await, ["n=27"]);
    assert_eq!(lab.logsql("{app!=\"api\"} _time:<2026-01-02T00:00:10Z | count() n").await, ["n=6"]);
    assert_eq!(lab.logsql("{host=\"host-1\"} | count() n").await, ["n=0"]);
    assert_eq!(lab.logsql("!{app=\"api\"} | count() n").await, ["n=26"]);
    assert_eq!(lab.logsql("_stream:\"api\" | count() n").await, ["n=14"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_read_while_segments_are_built_and_records_come() {
    let lab = Lab::new().await;
    lab.commit(&requests()).await;
    let stream = lab.engine.logsql(lab.request("*")).await.unwrap();
    lab.build().await;
    lab.commit(&requests()).await;
    let rows = crate::fixture::rows(&stream.collect().await.unwrap());
    assert_eq!(rows.len(), 40);
    assert_eq!(lab.logsql("* | count() n").await, ["n=80"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_come_in_the_order_in_which_they_are_asked_for() {
    let lab = lab().await;
    let request = lab.request("size:=3900 | fields size, absent, app, level");
    let stream = lab.engine.logsql(request).await.unwrap();
    let schema = stream.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["size", "absent", "app", "level"]);
}

/// Messages of two patterns, and records without a message.
fn chatter() -> Vec<Record> {
    (0..40)
        .map(|i| match i % 4 {
            0 => record(DAY + i * S, &format!("user u{i} from 10.0.0.{i} left")),
            3 => Record { msg: None, ..record(DAY + i * S, "") }.with("n", i),
            _ => record(DAY + i * S, &format!("GET /item/{i} took {}ms", i * 3)),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_of_messages() {
    let lab = Lab::new().await;
    assert_eq!(lab.logsql("* | patterns").await, [""; 0]);
    lab.fill(&chatter()).await;
    let rows = lab.logsql("* | patterns").await;
    assert_eq!(rows.len(), 2);
    assert!(
        rows[0].starts_with(
            "pattern=GET /item/<_> took <_> hits=20 share=0.6666666666666666 \
             first=2026-01-02T00:00:01Z last=2026-01-02T00:00:38Z trend=["
        ),
        "{rows:?}"
    );
    assert!(rows[1].starts_with("pattern=user <_> from <_>.<_>.<_>.<_> left hits=10 "), "{rows:?}");
    assert_eq!(
        lab.logsql("took | patterns 1 | fields pattern, hits").await,
        ["pattern=GET /item/<_> took <_> hits=20"]
    );
    assert_eq!(
        lab.logsql("* | patterns at n | fields pattern, hits").await,
        ["pattern=<_> hits=10"]
    );
    // What is sorted first is grouped by DataFusion, not by the leaf.
    assert_eq!(lab.logsql("* | sort by (n) | patterns").await, rows);
    let request = lodge_query::PatternsRequest {
        records: lab.fields_request("*"),
        field: "_msg".into(),
        buckets: 4,
    };
    let found = lab.engine.patterns(request).await.unwrap().value;
    assert_eq!(found.trend_start_ns, DAY);
    assert_eq!(found.patterns.len(), 2);
    assert_eq!(found.patterns[0].trend.iter().sum::<u64>(), 20);
    assert_eq!(found.patterns[1].trend, [3, 2, 3, 2]);
    assert_eq!(found.patterns[1].first_ns, DAY);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_about_a_hundred_fields_is_answered() {
    let lab = Lab::new().await;
    let row = |no: i64| {
        let row =
            record(no * S, "of many fields").with("id", format!("{:032x}", no * 7919).as_str());
        (2..102).fold(row, |row, by| row.with(&format!("f{by}"), no % by))
    };
    lab.commit(&(0..3000).map(row).collect::<Vec<_>>()).await;
    lab.build().await;
    let count = async |parts: Vec<String>, between: &str| {
        let query = format!("{} | stats count() n", parts.join(between));
        lab.logsql(&query).await
    };
    let all = (2..102).map(|by| format!("f{by}:=0")).collect();
    assert_eq!(count(all, " ").await, ["n=1"]);
    let highest = (2..102).map(|by| format!("f{by}:={}", by - 1)).collect();
    let expected = (0..3000i64).filter(|no| (2..102).any(|by| no % by == by - 1)).count();
    assert_eq!(count(highest, " or ").await, [format!("n={expected}")]);
    let ids = (0..150).map(|no| format!("id:={:032x}", no * 15 * 7919)).collect();
    assert_eq!(count(ids, " or ").await, ["n=150"]);
}
