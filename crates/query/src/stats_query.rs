//! Results of a `stats` pipe as metrics: labels are the `by` fields, the name is the result's name.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::TimestampNanosecondType;
use arrow::record_batch::RecordBatch;
use lodge_record::{field, schema};

use crate::error::QueryError;
use crate::logsql::{Bucket, GroupKey, Pipe, Query, StatsPipe};
use crate::request::{StatsSample, StatsSeries};

/// The label that names a metric.
const NAME_LABEL: &str = "__name__";

/// A metric's labels.
type Metric = Vec<(String, String)>;

/// Which columns of the result are labels and which are values.
#[derive(Debug, Clone)]
pub(crate) struct Labels {
    by: Vec<String>,
    values: Vec<String>,
}

/// Checks that `query` gives metrics, and tells their columns.
pub(crate) fn shape(query: &Query) -> Result<Labels, QueryError> {
    let mut stats: Option<&StatsPipe> = None;
    for pipe in &query.pipes {
        match (pipe, stats) {
            (Pipe::Stats(pipe), None) => stats = Some(pipe),
            (Pipe::Filter(_) | Pipe::Sort(_) | Pipe::Limit(_) | Pipe::Offset(_), _) => {}
            (pipe, None) if pipe.is_row_wise() => {}
            (pipe, _) => {
                return Err(QueryError::invalid(format!(
                    "`| {}` cannot be used here: this query must end in one `| stats …`, which only \
                     filter, sort, limit and offset may follow",
                    pipe.name()
                )));
            }
        }
    }
    let Some(stats) = stats else {
        return Err(QueryError::invalid(
            "this query needs a `| stats …` pipe, for example `error | stats by (service) count()`",
        ));
    };
    Ok(Labels {
        by: stats.by.iter().map(|key| key.name.clone()).collect(),
        values: stats.calls.iter().map(|call| call.name.clone()).collect(),
    })
}

/// Makes the `stats` pipe group by time too.
pub(crate) fn add_time_bucket(
    query: &mut Query,
    step_ns: i64,
    offset_ns: i64,
) -> Result<(), QueryError> {
    if step_ns <= 0 {
        return Err(QueryError::invalid(format!(
            "step is {step_ns} ns; it must be a positive duration, for example 1h"
        )));
    }
    let bucket = Some(Bucket::Step { step: step_ns as f64, step_ns, offset_ns });
    for pipe in &mut query.pipes {
        if let Pipe::Stats(stats) = pipe {
            stats.by.retain(|key| key.name != field::TIME);
            stats.by.insert(0, GroupKey { name: field::TIME.to_owned(), bucket });
            // A rate is one within its bucket.
            stats.calls.iter_mut().for_each(|call| call.set_span(Some(step_ns)));
        }
    }
    Ok(())
}

/// One sample per row and value.
pub(crate) fn samples(
    labels: &Labels,
    rows: &[RecordBatch],
) -> Result<Vec<StatsSample>, QueryError> {
    let mut samples = Vec::new();
    for batch in rows {
        for row in 0..batch.num_rows() {
            for name in &labels.values {
                let metric = metric(labels, name, batch, row);
                samples.push(StatsSample { metric, value: text(batch, name, row) });
            }
        }
    }
    Ok(samples)
}

/// One series per combination of labels and value's name, in the order of their labels.
pub(crate) fn series(
    labels: &Labels,
    rows: &[RecordBatch],
) -> Result<Vec<StatsSeries>, QueryError> {
    let mut series: BTreeMap<Metric, Vec<(i64, String)>> = BTreeMap::new();
    for batch in rows {
        let times = batch
            .column_by_name(field::TIME)
            .and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>())
            .ok_or_else(|| {
                QueryError::invalid(
                    "this query drops or changes `_time` before `| stats`, which needs it",
                )
            })?;
        for row in 0..batch.num_rows() {
            for name in &labels.values {
                let value = (times.value(row), text(batch, name, row));
                series.entry(metric(labels, name, batch, row)).or_default().push(value);
            }
        }
    }
    Ok(series
        .into_iter()
        .map(|(metric, mut values)| {
            values.sort_by_key(|(time, _)| *time);
            StatsSeries { metric, values }
        })
        .collect())
}

fn metric(labels: &Labels, name: &str, batch: &RecordBatch, row: usize) -> Metric {
    let by = labels.by.iter().filter(|label| *label != field::TIME || batch_is_instant(batch));
    std::iter::once((NAME_LABEL.to_owned(), name.to_owned()))
        .chain(by.map(|label| (label.clone(), text(batch, label, row))))
        .collect()
}

/// Whether `_time` of the result is a label's text and not the time of a sample.
fn batch_is_instant(batch: &RecordBatch) -> bool {
    batch
        .column_by_name(field::TIME)
        .is_none_or(|column| column.as_primitive_opt::<TimestampNanosecondType>().is_none())
}

fn text(batch: &RecordBatch, name: &str, row: usize) -> String {
    batch
        .column_by_name(name)
        .and_then(|column| Some(schema::value_text(column, row)?.into_owned()))
        .unwrap_or_default()
}
