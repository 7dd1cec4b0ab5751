//! SQL over the table `logs`: one statement that reads, nothing that writes or configures.
//!
//! Field names are case sensitive; a name with dots or other signs goes in double quotes:
//! `SELECT "kubernetes.pod.name" FROM logs`.

mod columns;
mod distinct;
pub(crate) mod functions;
mod names;
mod newest;
mod plain;
pub(crate) mod pushdown;

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::SchemaError;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SQLOptions;
use lodge_record::field;
use tokio::runtime::Handle;

use crate::engine::Admitted;
use crate::error::QueryError;
use crate::logsql::QUERY_BYTES_MAX;
use crate::scan::{self, LogsTable, Source, Types, table_schema};

use names::Names;

pub(crate) use distinct::DistinctToGroups;
pub(crate) use newest::NewestRows;
pub(crate) use plain::is_plain;

/// Fields of a query that are in no column and are looked for in `_overflow`.
const SPILLED_FIELDS_MAX: usize = 64;

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

/// Plans a SQL query, whose functions are those of a session.
pub(crate) async fn query_plan(
    functions: &SessionState,
    admitted: &Admitted,
    runtime: &Handle,
    source: Source,
    query: &str,
    types: &mut Types,
) -> Result<LogicalPlan, QueryError> {
    let dialect = functions.config_options().sql_parser.dialect;
    let statement = functions.sql_to_statement(query, &dialect)?;
    let mut whole = columns::of_whole_rows(&statement);
    let mut columns = columns::named(&statement, query, &source.snapshot.schema());
    // Of more fields than a table can have columns, those that the text names must be there.
    let stored = source.snapshot.schema();
    let mut named: BTreeSet<String> = if stored.fields().len() > lodge_record::limits::COLUMNS_MAX {
        let names = stored.fields().iter().map(|field| field.name());
        names.filter(|name| query.contains(name.as_str())).cloned().collect()
    } else {
        BTreeSet::new()
    };
    loop {
        let schema = table_schema(&source.snapshot, columns.as_deref(), &named, types);
        let table = LogsTable::new(source.clone(), schema, admitted.partitions, None);
        let names = Names::new(functions, provider_as_source(Arc::new(table)));
        if let Some(whole) = whole.take() {
            match names.plan(whole).ok().and_then(columns::whole_rows) {
                Some(plan) => return only_reads(plan),
                None => continue,
            }
        }
        let error = match names.plan(statement.clone()) {
            Ok(plan) => return only_reads(plan),
            Err(_) if columns.take().is_some() => continue,
            Err(error) => error,
        };
        // A field that is in no column may be in `_overflow`, or be derived.
        let Some(name) = missing_field(&error).filter(|name| !named.contains(name)) else {
            return Err(error.into());
        };
        if named.len() >= SPILLED_FIELDS_MAX {
            return Err(error.into());
        }
        if name != field::STREAM_ID {
            let kind = scan::spilled_type(runtime, admitted, &source, &name).await?;
            let Some(kind) = kind else { return Err(error.into()) };
            types.spilled.insert(name.clone(), kind);
        }
        named.insert(name);
    }
}

fn only_reads(plan: LogicalPlan) -> Result<LogicalPlan, QueryError> {
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

/// The field that a plan names and no table has.
fn missing_field(error: &DataFusionError) -> Option<String> {
    match error.find_root() {
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, .. } => Some(field.name().to_owned()),
            _ => None,
        },
        _ => None,
    }
}
