//! DataFusion's planning state: made once per engine, not per query.
//!
//! LogsQL plans have few shapes and bring their functions along, so few rules and no registry of
//! functions serve them. So it is with most of SQL; what has joins, subqueries or windows gets every
//! rule.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{FunctionRegistry, TaskContext};
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::push_down_limit::PushDownLimit;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::combine_partial_final_agg::CombinePartialFinalAggregate;
use datafusion::physical_optimizer::ensure_requirements::EnsureRequirements;
use datafusion::physical_optimizer::limit_pushdown::LimitPushdown;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_optimizer::output_requirements::OutputRequirements;
use datafusion::physical_optimizer::projection_pushdown::ProjectionPushdown;
use datafusion::physical_optimizer::update_aggr_exprs::OptimizeAggregateOrder;
use datafusion::prelude::SessionConfig;

use lodge_segment::predicate::Predicate;

use crate::error::QueryError;
use crate::plan::{SegmentAggregation, bucket_function};
use crate::sql::functions::Words;
use crate::sql::{self, DistinctToGroups, NewestRows};
use crate::stage::StagePlanner;
use crate::{logsql, plan};

/// What plans are made with.
#[derive(Debug)]
pub(crate) struct Sessions {
    logsql: SessionState,
    /// Has the functions of SQL; the states that plans are made with have none, as each is cloned for
    /// a query and a plan holds the functions that it calls.
    functions: SessionState,
    /// For statements that [`sql::is_plain`] knows.
    plain: SessionState,
    /// For all others.
    full: SessionState,
}

impl Sessions {
    /// For plans of `partitions` parts.
    pub(crate) fn new(environment: &Arc<RuntimeEnv>, partitions: usize) -> Self {
        let mut config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_information_schema(false)
            .with_create_default_catalog_and_schema(false);
        let options = config.options_mut();
        // Field names are case sensitive.
        options.sql_parser.enable_ident_normalization = false;
        // There is no disk to spill to, so nothing has to be set aside for merging spills.
        options.execution.sort_spill_reservation_bytes = 0;
        let mut once = config.clone();
        let optimizer = &mut once.options_mut().optimizer;
        optimizer.max_passes = 1;
        // Rows that are dealt out anew lose their order, and the leaf deals out its work itself.
        optimizer.enable_round_robin_repartition = false;
        let builder = |config: &SessionConfig| {
            SessionStateBuilder::new()
                .with_config(config.clone())
                .with_runtime_env(environment.clone())
        };
        let mut functions = builder(&config).with_default_features().build();
        let own = sql::functions::all(Words { filter, bucket: bucket_function });
        own.into_iter().for_each(|function| {
            // They have names of their own, so none is replaced and none can be refused.
            drop(functions.register_udf(function));
        });
        let mut physical = PhysicalOptimizer::new().rules;
        physical.insert(0, Arc::new(SegmentAggregation));
        physical.insert(0, Arc::new(NewestRows));
        let full = builder(&config)
            .with_physical_optimizer_rules(physical)
            // What `DISTINCT ON` becomes is looked for by its name.
            .with_aggregate_functions(vec![first_value_udaf()])
            .build();
        let plain = builder(&once)
            .with_optimizer_rules(plain_rules())
            .with_physical_optimizer_rules(plain_physical_rules())
            .build();
        let logsql = builder(&once)
            .with_analyzer_rules(vec![Arc::new(TypeCoercion::new())])
            .with_optimizer_rules(logical_rules())
            .with_physical_optimizer_rules(physical_rules())
            .with_query_planner(Arc::new(StagePlanner))
            .build();
        Self { logsql, functions, plain, full }
    }

    /// The state to plan LogsQL with.
    pub(crate) fn logsql(&self) -> SessionState {
        self.logsql.clone()
    }

    /// What the names of functions in SQL mean.
    pub(crate) fn functions(&self) -> &SessionState {
        &self.functions
    }

    /// The state to plan a statement with, of which `plan` is what is written.
    pub(crate) fn sql(&self, plan: &LogicalPlan) -> Result<SessionState, QueryError> {
        let mut state = match sql::is_plain(plan)? {
            true => self.plain.clone(),
            false => self.full.clone(),
        };
        // The moment that `now()` gives.
        state.mark_start_execution();
        Ok(state)
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

/// As far as a statement is plain, what DataFusion's own rules come to; with the limits pushed down
/// after the filters, as there is no second time.
fn plain_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(SimplifyExpressions::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(PushDownLimit::new()),
        Arc::new(DistinctToGroups::default()),
        Arc::new(CommonSubexprEliminate::new()),
        Arc::new(OptimizeProjections::new()),
    ]
}

fn plain_physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    vec![
        Arc::new(NewestRows),
        Arc::new(SegmentAggregation),
        Arc::new(OutputRequirements::new_add_mode()),
        Arc::new(EnsureRequirements::new()),
        Arc::new(CombinePartialFinalAggregate::new()),
        Arc::new(OptimizeAggregateOrder::new()),
        Arc::new(OutputRequirements::new_remove_mode()),
        Arc::new(ProjectionPushdown::new()),
        Arc::new(LimitPushdown::new()),
    ]
}
