//! Which columns the table needs for a statement: as many as it can name, not all that there are.
//!
//! Every step of a plan has a schema, and making those of a table with a thousand columns takes longer
//! than counting its rows.
//!
//! Invariant: a statement means the same over these columns as over all. One of which that is not sure
//! gets all of them, and so does one that is refused, as the refusal may list them.

use std::ops::ControlFlow;

use arrow::datatypes::Schema;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query, Select, SelectFlavor,
    SelectItem, SetExpr, TableFactor, Visit, Visitor,
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
