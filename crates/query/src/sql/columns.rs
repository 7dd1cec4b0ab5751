//! Which columns the table needs for a statement: as many as it can name, not all that there are.
//!
//! Every step of a plan has a schema, and making those of a table with a thousand columns takes longer
//! than counting its rows.
//!
//! Invariant: a statement means the same over these columns as over all. One of which that is not sure
//! gets all of them, and so does one that is refused, as the refusal may list them.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::logical_expr::{self, Explain, Limit, LogicalPlan, Sort};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, OrderByKind, Query, Select,
    SelectFlavor, SelectItem, SetExpr, TableFactor, TableWithJoins, Visit, Visitor,
};
use lodge_record::field;

/// Longer statements are not looked through for the name of each field.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// The fields that `statement`, written as `text`, can name; `None` for all.
pub(super) fn named(statement: &Statement, text: &str, stored: &Schema) -> Option<Vec<String>> {
    // A name with a quote in it is not written as it is, and `_overflow` holds what has no column.
    let is_short = text.len() <= TEXT_BYTES_MAX;
    if !is_short || text.contains("\"\"") || text.contains(field::OVERFLOW) {
        return None;
    }
    if query(statement)?.visit(&mut Open).is_break() {
        return None;
    }
    let is_wanted = |name: &str| {
        matches!(name, field::TIME | field::STREAM | field::MSG) || text.contains(name)
    };
    let names = stored.fields().iter().map(|field| field.name().as_str());
    Some(names.filter(|name| is_wanted(name)).map(str::to_owned).collect())
}

/// `statement` with one column in place of all, if it is `SELECT * FROM` the table with conditions, an
/// order and limits and nothing else: to name each of a thousand columns in a plan, only to take all of
/// them, takes long. What it becomes is for [`whole_rows`].
pub(super) fn of_whole_rows(statement: &Statement) -> Option<Statement> {
    let select_of = |query: &Query| match query.body.as_ref() {
        SetExpr::Select(select) => is_of_whole_rows(query, select),
        _ => false,
    };
    if !query(statement).is_some_and(select_of) {
        return None;
    }
    let mut statement = statement.clone();
    if let SetExpr::Select(select) = query_mut(&mut statement)?.body.as_mut() {
        select.projection = vec![SelectItem::UnnamedExpr(Expr::Identifier(field::TIME.into()))];
    }
    Some(statement)
}

fn is_of_whole_rows(query: &Query, select: &Select) -> bool {
    let is_star = match select.projection.as_slice() {
        [item @ SelectItem::Wildcard(_)] => item.to_string() == "*",
        _ => false,
    };
    let is_table = match select.from.as_slice() {
        [TableWithJoins { relation: TableFactor::Table { alias, args: None, .. }, joins }] => {
            joins.is_empty() && alias.as_ref().is_none_or(|alias| alias.columns.is_empty())
        }
        _ => false,
    };
    // A number is the place of a column.
    let is_by_expressions = query.order_by.as_ref().is_none_or(|order| match &order.kind {
        OrderByKind::All(_) => false,
        OrderByKind::Expressions(by) => by.iter().all(|by| !matches!(by.expr, Expr::Value(_))),
    });
    let is_standard = matches!(select.flavor, SelectFlavor::Standard);
    is_star && is_table && is_by_expressions && is_standard && select.exclude.is_none()
}

/// The plan of what [`of_whole_rows`] gave, with all columns; `None` if it has steps that are not
/// expected.
pub(super) fn whole_rows(plan: LogicalPlan) -> Option<LogicalPlan> {
    let under = |input: Arc<LogicalPlan>| whole_rows(Arc::unwrap_or_clone(input)).map(Arc::new);
    let is_column =
        |expression: &logical_expr::Expr| matches!(expression, logical_expr::Expr::Column(_));
    Some(match plan {
        LogicalPlan::Explain(explain) => {
            let plan = under(explain.plan)?;
            LogicalPlan::Explain(Explain { plan, ..explain })
        }
        LogicalPlan::Projection(projection) if projection.expr.iter().all(is_column) => {
            whole_rows(Arc::unwrap_or_clone(projection.input))?
        }
        LogicalPlan::Sort(sort) => {
            let input = under(sort.input)?;
            LogicalPlan::Sort(Sort { input, ..sort })
        }
        LogicalPlan::Limit(limit) => {
            let input = under(limit.input)?;
            LogicalPlan::Limit(Limit { input, ..limit })
        }
        LogicalPlan::Filter(filter) if is_table(&filter.input) => LogicalPlan::Filter(filter),
        table if is_table(&table) => table,
        _ => return None,
    })
}

fn is_table(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => is_table(&alias.input),
        plan => matches!(plan, LogicalPlan::TableScan(_)),
    }
}

fn query_mut(statement: &mut Statement) -> Option<&mut Query> {
    match statement {
        Statement::Explain(explain) => query_mut(&mut explain.statement),
        Statement::Statement(statement) => match statement.as_mut() {
            ast::Statement::Query(query) => Some(query),
            _ => None,
        },
        _ => None,
    }
}

fn query(statement: &Statement) -> Option<&Query> {
    match statement {
        Statement::Explain(explain) => query(&explain.statement),
        Statement::Statement(statement) => match statement.as_ref() {
            ast::Statement::Query(query) => Some(query),
            _ => None,
        },
        _ => None,
    }
}

/// Breaks at what may mean a column that is not named.
struct Open;

fn go_on(is_sure: bool) -> ControlFlow<()> {
    if is_sure { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

impl Visitor for Open {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        go_on(matches!(*query.body, SetExpr::Select(_) | SetExpr::Query(_)))
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let is_named = |item: &SelectItem| {
            matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
        };
        // Joins can be over all columns of the same names.
        let is_one_table = select.from.len() <= 1 && select.from.iter().all(|t| t.joins.is_empty());
        let is_standard = matches!(select.flavor, SelectFlavor::Standard);
        go_on(is_standard && is_one_table && select.projection.iter().all(is_named))
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        go_on(matches!(table, TableFactor::Table { .. } | TableFactor::Derived { .. }))
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        let Expr::Function(call) = expression else {
            return go_on(!matches!(expression, Expr::Wildcard(_) | Expr::QualifiedWildcard(..)));
        };
        let name = call.name.to_string();
        // A filter of LogsQL names fields in its own way, and may be one on any field.
        if name.eq_ignore_ascii_case("logsql") {
            return go_on(false);
        }
        let FunctionArguments::List(arguments) = &call.args else { return go_on(true) };
        let is_open = |argument: &FunctionArg| {
            let (FunctionArg::Named { arg, .. }
            | FunctionArg::ExprNamed { arg, .. }
            | FunctionArg::Unnamed(arg)) = argument;
            !matches!(arg, FunctionArgExpr::Expr(_))
        };
        go_on(name.eq_ignore_ascii_case("count") || !arguments.args.iter().any(is_open))
    }
}
