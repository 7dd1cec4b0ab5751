//! What names in a statement mean: one table, and DataFusion's functions beside our own.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableFunctionArgs;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, TableReference, plan_err};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::parser::Statement;
use datafusion::sql::planner::{ParserOptions, SqlToRel};

/// The only table.
const TABLE: &str = "logs";
/// Names that may stand before the table's: those of a catalog and a schema.
const CATALOG: &str = "datafusion";
const SCHEMA: &str = "public";

/// The names of one statement.
pub(super) struct Names<'s> {
    /// Functions, and how operators and types are planned.
    functions: &'s SessionState,
    logs: Arc<dyn TableSource>,
}

impl<'s> Names<'s> {
    pub(super) fn new(functions: &'s SessionState, logs: Arc<dyn TableSource>) -> Self {
        Self { functions, logs }
    }

    /// The plan of a statement, as it is written.
    pub(super) fn plan(&self, statement: Statement) -> Result<LogicalPlan> {
        let options = ParserOptions::from(&self.options().sql_parser);
        SqlToRel::new_with_options(self, options).statement_to_plan(statement)
    }
}

impl ContextProvider for Names<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let is_ours = name.table() == TABLE
            && name.schema().is_none_or(|schema| schema == SCHEMA)
            && name.catalog().is_none_or(|catalog| catalog == CATALOG);
        if !is_ours {
            return plan_err!("there is no table `{name}`; the only one is `{TABLE}`");
        }
        Ok(Arc::clone(&self.logs))
    }

    fn get_table_function_source(
        &self,
        name: &str,
        arguments: Vec<Expr>,
    ) -> Result<Arc<dyn TableSource>> {
        let Some(function) = self.functions.table_functions().get(name) else {
            return plan_err!("there is no function `{name}` that gives a table");
        };
        let context = SimplifyContext::builder()
            .with_config_options(Arc::clone(self.functions.config_options()));
        let simplifier = ExprSimplifier::new(context.build());
        let none = DFSchema::empty();
        let constant = |argument| simplifier.simplify(simplifier.coerce(argument, &none)?);
        let arguments = arguments.into_iter().map(constant).collect::<Result<Vec<_>>>()?;
        let arguments = TableFunctionArgs::new(&arguments, self.functions);
        Ok(provider_as_source(function.create_table_provider_with_args(arguments)?))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.functions.expr_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        None
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.functions.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.functions.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.functions.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.functions.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.functions.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.functions.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.functions.window_functions().keys().cloned().collect()
    }
}
