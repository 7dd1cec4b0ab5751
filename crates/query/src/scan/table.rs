//! The leaf as a DataFusion table.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::Source;
use super::exec::Scan;
use super::newest::Top;
use super::shape::Shape;
use crate::sql::pushdown;

/// Only the first rows in order of `_time`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopByTime {
    /// How many.
    pub(crate) rows: usize,
    /// The newest ones, newest first; else the oldest, oldest first.
    pub(crate) newest: bool,
}

/// One query's view of a tenant's records.
#[derive(Debug)]
pub(crate) struct LogsTable {
    source: Source,
    schema: SchemaRef,
    partitions: usize,
    top: Option<TopByTime>,
}

impl LogsTable {
    pub(crate) fn new(
        source: Source,
        schema: SchemaRef,
        partitions: usize,
        top: Option<TopByTime>,
    ) -> Self {
        Self { source, schema, partitions, top }
    }
}

#[async_trait]
impl TableProvider for LogsTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let output = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => self.schema.clone(),
        };
        let shape = Shape::new(self.schema.clone(), output);
        let source = match pushdown::conjunction(filters, &self.schema) {
            Some(predicate) if !filters.is_empty() => self.source.narrowed(predicate),
            // A filter that cannot be translated was refused in `supports_filters_pushdown`.
            _ => self.source.clone(),
        };
        Ok(match self.top {
            Some(top) => Top::plan(source, shape, self.partitions, top),
            None => Scan::plan(source, shape, self.partitions, limit),
        })
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        // Filters above "the last N" must not choose which N.
        let exact = |filter: &&Expr| {
            self.top.is_none() && pushdown::predicate(filter, &self.schema).is_some()
        };
        Ok(filters
            .iter()
            .map(|filter| match exact(filter) {
                true => TableProviderFilterPushDown::Exact,
                false => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }
}
