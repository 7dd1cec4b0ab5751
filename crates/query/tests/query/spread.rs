//! Queries over several servers: who works, and what becomes of an answer when one goes away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_distributed::{
    ChannelResolver, CoordinatorToWorkerMsg, ExecuteTaskRequest, GetWorkerInfoRequest,
    GetWorkerInfoResponse, SetPlanRequest, WorkerChannel, WorkerToCoordinatorMsg,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::HeaderMap;
use lodge_query::QueryErrorKind;
use url::Url;

use crate::fixture::{DAY, Lab, Record, S, record};
use crate::servers::cluster_of;

/// Ways to be cut off: at the beginning, at a piece, or before the last word.
const QUERIES: [&str; 8] = [
    "*",
    "ready | fields id, level",
    "* | stats by (level) count() n, sum(id) s, count_uniq(app) apps",
    "* | stats count() n, count_uniq(id) ids, quantile(0.5, id) q, max(id) most",
    "* | stats by (_time:1h, level) count() n, uniq_values(app) apps",
    "* | count() n",
    "ready | sort by (_time desc) limit 7",
    "* | sort by (_time) limit 100 | fields _time, id",
];

fn records(from: i64, count: i64) -> Vec<Record> {
    (from..from + count)
        .map(|i| {
            record(DAY + i * S, &format!("request {i} is {}", ["ready", "late"][i as usize % 2]))
                .label("app", ["api", "web", "db"][i as usize % 3])
                .with("level", ["info", "warn", "error", "debug"][i as usize % 4])
                .with("id", i)
        })
        .collect()
}

/// A dozen segments, built ones and others.
async fn lab() -> Lab {
    let lab = Lab::new().await;
    for part in 0..6 {
        lab.commit(&records(part * 500, 500)).await;
    }
    lab.build().await;
    for part in 6..18 {
        lab.commit(&records(part * 500, 500)).await;
    }
    lab
}

/// The answers of one server.
async fn alone(lab: &mut Lab) -> Vec<Vec<String>> {
    lab.spread_over(1).await;
    let mut answers = Vec::new();
    for query in QUERIES {
        answers.push(lab.sorted(query).await);
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_does_its_part_and_the_answers_are_those_of_one() {
    let mut lab = lab().await;
    let alone = alone(&mut lab).await;
    lab.spread_over(3).await;
    for (query, alone) in QUERIES.iter().zip(alone) {
        let before: Vec<u64> = lab.others.iter().map(|o| o.engine.stats().tasks_done).collect();
        assert_eq!(lab.sorted(query).await, alone, "{query}");
        let after: Vec<u64> = lab.others.iter().map(|o| o.engine.stats().tasks_done).collect();
        if *query != "* | count() n" {
            // A count that the catalog knows is nobody's work.
            assert!(before.iter().zip(&after).any(|(b, a)| a > b), "{query}: {before:?} {after:?}");
        }
    }
    let stats = lab.engine.stats();
    assert_eq!(stats.tasks_lost, 0, "{stats:?}");
    for other in &lab.others {
        assert!(other.engine.stats().blocks_read > 0, "one server did nothing");
        assert_eq!(other.engine.stats().tasks_running, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_read_is_charged_to_the_query() {
    let mut lab = lab().await;
    lab.spread_over(3).await;
    let mut request = lab.request("ready | stats by (level) count() n");
    request.budget.rows_max = Some(8_000);
    let error = lab.ask(request.clone()).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::BudgetRows, "{error}");
    request.budget.allow_partial = true;
    let rows = lab.engine.logsql(request).await.unwrap();
    let mut rows = Box::pin(rows);
    while let Some(batch) = rows.next().await {
        batch.unwrap();
    }
    assert!(rows.partial().is_some_and(|why| why.kind() == QueryErrorKind::BudgetRows));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_in_the_midst_costs_no_row_and_doubles_none() {
    let mut lab = lab().await;
    let alone = alone(&mut lab).await;
    for cut_after in 0..6 {
        lab.spread_over(3).await;
        for (query, alone) in QUERIES.iter().zip(&alone) {
            // Joined anew, as who went away is not asked for a while.
            let mut cluster = cluster_of(&lab.others);
            let names = format!("{query}{cut_after}");
            cluster.peers.iter_mut().for_each(|peer| peer.name.push_str(&names));
            let left = AtomicUsize::new(cut_after);
            cluster.channels = Arc::new(Cutting { inner: cluster.channels, left: Arc::new(left) });
            lab.engine.join(cluster);
            assert_eq!(lab.sorted(query).await, *alone, "{query} cut after {cut_after}");
        }
    }
    assert!(lab.engine.stats().tasks_lost > 6, "{:?}", lab.engine.stats());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_done_without_and_not_asked_again_at_once() {
    let mut lab = lab().await;
    let alone = alone(&mut lab).await;
    lab.spread_over(3).await;
    lab.others[0].kill();
    for (query, alone) in QUERIES.iter().zip(&alone) {
        assert_eq!(lab.sorted(query).await, *alone, "{query}");
    }
    let stats = lab.engine.stats();
    assert!((1..=3).contains(&stats.tasks_lost), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_drops_an_answer_ends_the_work_of_all() {
    let mut lab = lab().await;
    lab.spread_over(3).await;
    let running = |lab: &Lab| -> u64 {
        lab.others.iter().map(|other| other.engine.stats().tasks_running).sum()
    };
    let mut rows = lab.engine.logsql(lab.request("*")).await.unwrap();
    rows.next().await.unwrap().unwrap();
    drop(rows);
    let gone = async {
        while running(&lab) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("tasks go on for nobody");
}

/// Cuts what comes of tasks off after so many pieces in all.
struct Cutting {
    inner: Arc<dyn ChannelResolver + Send + Sync>,
    left: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl ChannelResolver for Cutting {
    async fn get_worker_client_for_url(&self, url: &Url) -> Result<Box<dyn WorkerChannel>> {
        let inner = self.inner.get_worker_client_for_url(url).await?;
        Ok(Box::new(CutChannel { inner, left: self.left.clone() }))
    }
}

struct CutChannel {
    inner: Box<dyn WorkerChannel>,
    left: Arc<AtomicUsize>,
}

fn cut() -> DataFusionError {
    DataFusionError::Execution("the cable was cut".to_owned())
}

#[async_trait::async_trait]
impl WorkerChannel for CutChannel {
    async fn coordinator_channel(
        &mut self,
        headers: HeaderMap,
        request: SetPlanRequest,
        messages: BoxStream<'static, CoordinatorToWorkerMsg>,
        metrics: ExecutionPlanMetricsSet,
        context: &Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<WorkerToCoordinatorMsg>>> {
        self.inner.coordinator_channel(headers, request, messages, metrics, context).await
    }

    async fn execute_task(
        &mut self,
        headers: HeaderMap,
        request: ExecuteTaskRequest,
        metrics: ExecutionPlanMetricsSet,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<BoxStream<'static, Result<RecordBatch>>>> {
        let streams = self.inner.execute_task(headers, request, metrics, context).await?;
        let cut_off = |stream: BoxStream<'static, Result<RecordBatch>>| {
            let left = self.left.clone();
            let take = move |batch: Result<RecordBatch>| {
                let one_less = |left: usize| left.checked_sub(1);
                match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
                    Ok(_) => batch,
                    Err(_) => Err(cut()),
                }
            };
            stream.map(take).boxed()
        };
        Ok(streams.into_iter().map(cut_off).collect())
    }

    async fn get_worker_info(
        &mut self,
        request: GetWorkerInfoRequest,
    ) -> Result<GetWorkerInfoResponse> {
        self.inner.get_worker_info(request).await
    }
}
