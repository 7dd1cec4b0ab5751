//! SQL over the table `logs`: one statement that reads, nothing that writes or configures.
//!
//! Field names are case sensitive; a name with dots or other signs goes in double quotes:
//! `SELECT "kubernetes.pod.name" FROM logs`.

pub(crate) mod pushdown;

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SQLOptions, SessionContext};

use crate::error::QueryError;
use crate::logsql::QUERY_BYTES_MAX;
use crate::scan::{LogsTable, Source, Types, table_schema};

/// Refuses a text that is too long before anything looks at it. What is nested too deep, the SQL
/// parser refuses itself.
pub(crate) fn check_length(query: &str) -> Result<(), QueryError> {
    if query.len() > QUERY_BYTES_MAX {
        return Err(QueryError::parse(
            1,
            format!(
                "the query is {} bytes long, the limit is {QUERY_BYTES_MAX}; shorten it",
                query.len()
            ),
        ));
    }
    Ok(())
}

/// Plans a SQL query.
pub(crate) async fn query_plan(
    session: &SessionContext,
    partitions: usize,
    source: Source,
    query: &str,
    types: &Types,
) -> Result<LogicalPlan, QueryError> {
    // Of more fields than a table can have columns, those that the text names must be there.
    let stored = source.snapshot.schema();
    let named: BTreeSet<String> = if stored.fields().len() > lodge_record::limits::COLUMNS_MAX {
        let names = stored.fields().iter().map(|field| field.name());
        names.filter(|name| query.contains(name.as_str())).cloned().collect()
    } else {
        BTreeSet::new()
    };
    let schema = table_schema(&source.snapshot, None, &named, types);
    let table = LogsTable::new(source, schema, partitions, None);
    session.register_table("logs", Arc::new(table))?;
    let plan = session.state().create_logical_plan(query).await?;
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)
        .map_err(|error| {
            let detail = QueryError::from(error);
            QueryError::invalid(format!(
                "only statements that read are allowed here, such as SELECT … FROM logs ({})",
                detail.message()
            ))
        })?;
    Ok(plan)
}
