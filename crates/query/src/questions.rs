//! Questions about records that are no list of rows: hits, stats, fields, values, streams, patterns.
//!
//! Invariants:
//! - an answer that a budget cut short says so ([`Marked`]);
//! - of a query's pipes those count that make records of records; what aggregates, orders or cuts off
//!   does not change what matched.

use std::sync::Arc;

use crate::budget::QueryControl;
use crate::engine::{Admitted, Engine};
use crate::error::QueryError;
use crate::logsql::{Pipe, Query};
use crate::plan::{Page, Records};
use crate::request::{
    Facet, FacetsRequest, FieldsRequest, HitsGroup, HitsRequest, Marked, Patterns, PatternsRequest,
    StatsRangeRequest, StatsRequest, StatsSample, StatsSeries, ValueHits,
};
use crate::scan::Source;
use crate::stream::QueryStream;
use crate::subqueries::{Asked, asked};
use crate::{discover, facets, hits, logsql, patterns, plan, stats_query};

/// The records of a question, ready to be read.
enum Questioned {
    /// As they are stored.
    Stored(Admitted, Source),
    /// What pipes make of them.
    Made(Admitted, Source, Box<Query>),
}

impl Questioned {
    fn control(&self) -> Arc<QueryControl> {
        match self {
            Self::Stored(admitted, _) | Self::Made(admitted, ..) => Arc::clone(&admitted.control),
        }
    }
}

fn marked<T>(value: T, control: &QueryControl) -> Marked<T> {
    Marked { value, partial: control.partial().cloned() }
}

impl Engine {
    /// Matching records per time bucket (and per combination of fields' values).
    pub async fn hits(&self, request: HitsRequest) -> Result<Marked<Vec<HitsGroup>>, QueryError> {
        hits::check(&request)?;
        let asked = self
            .asked(&FieldsRequest {
                view: request.view.clone(),
                query: request.query.clone(),
                start_ns: request.start_ns,
                end_ns: request.end_ns,
                limit: None,
                now_ns: request.now_ns,
                budget: request.budget,
            })
            .await?;
        let control = asked.control();
        let groups = match asked {
            Questioned::Stored(admitted, source) => {
                hits::hits(self.runtime(), &admitted, source, &request).await?
            }
            Questioned::Made(admitted, source, query) => {
                let rows = self.made(admitted, source, *query, hits::counting(&request));
                hits::made(&rows.await?.collect().await?, &request)?
            }
        };
        Ok(marked(groups, &control))
    }

    /// The results of a query that ends in a `stats` pipe, as Prometheus-like samples.
    pub async fn stats_query(
        &self,
        request: StatsRequest,
    ) -> Result<Marked<Vec<StatsSample>>, QueryError> {
        let understood = self.understood(&request.query, asked!(request, time_ns)).await?;
        let labels = stats_query::shape(&understood.query)?;
        let (admitted, source) = self.ready(&request.view, &understood).await?;
        let control = Arc::clone(&admitted.control);
        let rows = self.run_logsql(admitted, source, &understood.query, Page::default()).await?;
        let rows = rows.collect().await?;
        Ok(marked(stats_query::samples(&labels, &rows)?, &control))
    }

    /// The results of a query that ends in a `stats` pipe, per time bucket, as series.
    pub async fn stats_query_range(
        &self,
        request: StatsRangeRequest,
    ) -> Result<Marked<Vec<StatsSeries>>, QueryError> {
        let mut understood = self.understood(&request.query, asked!(request, now_ns)).await?;
        let labels = stats_query::shape(&understood.query)?;
        let (step_ns, offset_ns) = (request.step_ns, request.offset_ns);
        stats_query::add_time_bucket(&mut understood.query, step_ns, offset_ns)?;
        let (admitted, source) = self.ready(&request.view, &understood).await?;
        let control = Arc::clone(&admitted.control);
        let rows = self.run_logsql(admitted, source, &understood.query, Page::default()).await?;
        let rows = rows.collect().await?;
        Ok(marked(stats_query::series(&labels, &rows)?, &control))
    }

    /// The names of fields in matching records; `hits` are exact while few records match, and
    /// beyond that an upper bound (see `discover`).
    pub async fn field_names(
        &self,
        request: FieldsRequest,
    ) -> Result<Marked<Vec<ValueHits>>, QueryError> {
        let asked = self.asked(&request).await?;
        let control = asked.control();
        let names = match asked {
            Questioned::Stored(admitted, source) => {
                discover::field_names(self.runtime(), &admitted, source, request.limit).await?
            }
            Questioned::Made(admitted, source, query) => {
                let rows = self.made(admitted, source, *query, Pipe::FieldNames);
                discover::made_names(&rows.await?.collect().await?, request.limit)?
            }
        };
        Ok(marked(names, &control))
    }

    /// The non-empty values of `field` in matching records.
    pub async fn field_values(
        &self,
        request: FieldsRequest,
        field: &str,
    ) -> Result<Marked<Vec<ValueHits>>, QueryError> {
        let asked = self.asked(&request).await?;
        let (control, limit) = (asked.control(), request.limit);
        let values = match asked {
            Questioned::Stored(admitted, source) => {
                discover::field_values(self.runtime(), &admitted, source, field, limit).await?
            }
            Questioned::Made(admitted, source, query) => {
                let rows = self.made(admitted, source, *query, discover::counting(field));
                discover::made_values(&rows.await?.collect().await?, field, limit)?
            }
        };
        Ok(marked(values, &control))
    }

    /// The streams of matching records, as canonical text.
    pub async fn streams(
        &self,
        request: FieldsRequest,
    ) -> Result<Marked<Vec<ValueHits>>, QueryError> {
        self.field_values(request, lodge_record::field::STREAM).await
    }

    /// The names of the labels of matching records' streams.
    pub async fn stream_field_names(
        &self,
        request: FieldsRequest,
    ) -> Result<Marked<Vec<ValueHits>>, QueryError> {
        let limit = request.limit;
        let streams = self.streams(FieldsRequest { limit: None, ..request }).await?;
        let value = discover::label_names(&streams.value, limit);
        Ok(Marked { value, partial: streams.partial })
    }

    /// The values of the label `field` of matching records' streams.
    pub async fn stream_field_values(
        &self,
        request: FieldsRequest,
        field: &str,
    ) -> Result<Marked<Vec<ValueHits>>, QueryError> {
        let limit = request.limit;
        let streams = self.streams(FieldsRequest { limit: None, ..request }).await?;
        let value = discover::label_values(&streams.value, field, limit);
        Ok(Marked { value, partial: streams.partial })
    }

    /// The most frequent values of each field of matching records, by the fields' names.
    pub async fn facets(&self, request: FacetsRequest) -> Result<Marked<Vec<Facet>>, QueryError> {
        let asked = self.asked(&request.records).await?;
        let control = asked.control();
        let found = match asked {
            Questioned::Stored(admitted, source) => {
                facets::facets(self.runtime(), &admitted, source, &request).await?
            }
            Questioned::Made(admitted, source, query) => {
                let rows = self.made(admitted, source, *query, facets::counting(&request));
                facets::made(&rows.await?.collect().await?)
            }
        };
        Ok(marked(found, &control))
    }

    /// The most frequent patterns of a field's texts.
    pub async fn patterns(&self, request: PatternsRequest) -> Result<Marked<Patterns>, QueryError> {
        let PatternsRequest { records, field, buckets } = request;
        let asked = self.asked(&records).await?;
        let control = asked.control();
        let (admitted, source, mut query) = match asked {
            Questioned::Stored(admitted, source) => {
                let predicate = source.predicate.as_ref().clone();
                (admitted, source, Query::new(predicate, Vec::new()))
            }
            Questioned::Made(admitted, source, query) => (admitted, source, *query),
        };
        let Some(span) = source.span() else { return Ok(Marked::default()) };
        let limit = records.limit.map_or(u64::MAX, |limit| limit as u64);
        query.pipes.push(Pipe::Patterns(logsql::PatternsPipe { limit, field, buckets }));
        let rows = self.run_logsql(admitted, source, &query, Page::default()).await?;
        let (trend_start_ns, trend_step_ns) = plan::trend_parts(span, buckets);
        let patterns = patterns::hits(&rows.collect().await?)?;
        Ok(marked(Patterns { trend_start_ns, trend_step_ns, patterns }, &control))
    }

    async fn asked(&self, request: &FieldsRequest) -> Result<Questioned, QueryError> {
        let mut understood = self.understood(&request.query, asked!(request, now_ns)).await?;
        let records = plan::records(&understood.query);
        let options = understood.query.options;
        let query = match &records {
            Records::Stored(predicate) => Query::new(predicate.clone(), Vec::new()),
            Records::Made(query) => query.clone(),
        };
        understood.query = Query { options, ..query };
        let (admitted, source) = self.ready(&request.view, &understood).await?;
        Ok(match records {
            Records::Stored(_) => Questioned::Stored(admitted, source),
            Records::Made(query) => Questioned::Made(admitted, source, Box::new(query)),
        })
    }

    /// The rows that pipes make, and what `last` makes of them.
    async fn made(
        &self,
        admitted: Admitted,
        source: Source,
        mut query: Query,
        last: Pipe,
    ) -> Result<QueryStream, QueryError> {
        query.pipes.push(last);
        self.run_logsql(admitted, source, &query, Page::default()).await
    }
}
