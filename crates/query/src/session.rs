//! DataFusion's planning state: made once per engine, not per query.
//!
//! LogsQL plans have few shapes and bring their functions along, so few rules and no registry of
//! functions serve them; SQL gets everything.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::catalog::MemoryCatalogProviderList;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{FunctionRegistry, TaskContext};
use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::push_down_limit::PushDownLimit;
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::combine_partial_final_agg::CombinePartialFinalAggregate;
use datafusion::physical_optimizer::ensure_requirements::EnsureRequirements;
use datafusion::physical_optimizer::limit_pushdown::LimitPushdown;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_optimizer::projection_pushdown::ProjectionPushdown;
use datafusion::prelude::{SessionConfig, SessionContext};

use lodge_segment::predicate::Predicate;

use crate::error::QueryError;
use crate::plan::{SegmentAggregation, bucket_function};
use crate::sql::functions::Words;
use crate::sql::{self, NewestRows};
use crate::stage::StagePlanner;
use crate::{logsql, plan};

/// What plans are made with.
#[derive(Debug)]
pub(crate) struct Sessions {
    config: SessionConfig,
    logsql: SessionState,
    sql: SessionState,
}

impl Sessions {
    /// For plans of `partitions` parts.
    pub(crate) fn new(environment: &Arc<RuntimeEnv>, partitions: usize) -> Self {
        let mut config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_information_schema(false)
            .with_create_default_catalog_and_schema(true);
        let options = config.options_mut();
        // Field names are case sensitive.
        options.sql_parser.enable_ident_normalization = false;
        // There is no disk to spill to, so nothing has to be set aside for merging spills.
        options.execution.sort_spill_reservation_bytes = 0;
        let builder = || {
            SessionStateBuilder::new()
                .with_config(config.clone())
                .with_runtime_env(environment.clone())
        };
        let mut physical = PhysicalOptimizer::new().rules;
        physical.insert(0, Arc::new(SegmentAggregation));
        physical.insert(0, Arc::new(NewestRows));
        let mut sql =
            builder().with_default_features().with_physical_optimizer_rules(physical).build();
        let functions = sql::functions::all(Words { filter, bucket: bucket_function });
        functions.into_iter().for_each(|function| {
            // They have names of their own, so none is replaced and none can be refused.
            drop(sql.register_udf(function));
        });
        let mut logsql = builder()
            .with_analyzer_rules(vec![Arc::new(TypeCoercion::new())])
            .with_optimizer_rules(logical_rules())
            .with_physical_optimizer_rules(physical_rules())
            .with_query_planner(Arc::new(StagePlanner))
            .build();
        let optimizer = &mut logsql.config_mut().options_mut().optimizer;
        optimizer.max_passes = 1;
        // Rows that are dealt out anew lose their order, and the leaf deals out its work itself.
        optimizer.enable_round_robin_repartition = false;
        Self { config, logsql, sql }
    }

    /// The state to plan LogsQL with.
    pub(crate) fn logsql(&self) -> SessionState {
        self.logsql.clone()
    }

    /// A session for one SQL query, with a catalog of its own.
    pub(crate) fn sql(&self, environment: &Arc<RuntimeEnv>) -> SessionContext {
        let state = SessionStateBuilder::new_from_existing(self.sql.clone())
            // With it goes the wish for a new catalog.
            .with_config(self.config.clone())
            .with_runtime_env(environment.clone())
            .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()))
            .build();
        SessionContext::new_with_state(state)
    }
}

/// What a plan runs with.
pub(crate) fn task_context(state: &SessionState, environment: &Arc<RuntimeEnv>) -> TaskContext {
    TaskContext::new(
        None,
        String::new(),
        state.config().clone(),
        // Plans hold the functions that they call.
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        environment.clone(),
    )
}

/// The records that the text of a LogsQL filter selects, for the functions of SQL.
fn filter(text: &str, now_ns: i64) -> Result<Predicate, QueryError> {
    plan::only_filter(logsql::parse(text, now_ns)?)
}

/// Filters, limits and columns go down to the leaf; more the plans of LogsQL do not need.
fn logical_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(PushDownLimit::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(SingleDistinctToGroupBy::new()),
        Arc::new(OptimizeProjections::new()),
    ]
}

fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    vec![
        Arc::new(SegmentAggregation),
        Arc::new(EnsureRequirements::new()),
        Arc::new(CombinePartialFinalAggregate::new()),
        Arc::new(ProjectionPushdown::new()),
        Arc::new(LimitPushdown::new()),
    ]
}
