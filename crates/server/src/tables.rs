//! `/api/v1/sql` and `/api/v1/export`: whole result sets, typed, as files that other tools read.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use crate::answer::ApiError;
use crate::app::App;
use crate::args::Args;
use crate::encode::Format;
use crate::identity::Identity;
use crate::limits::EXPORT_TIME_MAX;
use crate::question::Question;
use crate::rows;

/// `/api/v1/sql`: `query=SELECT …` over the table `logs`, `format=json|jsonl|csv|arrow|parquet`.
pub(crate) async fn sql(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let offered = [
        ("json", Format::Json),
        ("jsonl", Format::JsonLines),
        ("csv", Format::Csv),
        ("arrow", Format::Arrow),
        ("parquet", Format::Parquet),
    ];
    let format = Format::parse(args.get("format").unwrap_or("json"), &offered)?;
    let query = args.required("query", "SELECT count(*) FROM logs")?.to_owned();
    let question = Question::about(&app, &identity, &args, query)?;
    question.check_format(format)?;
    run_sql(app, question, format, None, "/api/v1/sql").await
}

/// `/api/v1/export`: a LogsQL `query=` or a SQL `sql=`, `format=parquet|arrow|jsonl|csv`.
pub(crate) async fn export(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let lines = if args.get("sql").is_some() { Format::JsonLines } else { Format::LogLines };
    let offered = [
        ("parquet", Format::Parquet),
        ("arrow", Format::Arrow),
        ("jsonl", lines),
        ("csv", Format::Csv),
    ];
    let format = Format::parse(args.get("format").unwrap_or("parquet"), &offered)?;
    if let Some(sql) = args.get("sql").map(str::to_owned) {
        if args.get("query").is_some() {
            return Err(ApiError::bad_request("give either `query` (LogsQL) or `sql`, not both"));
        }
        let question = patient(Question::about(&app, &identity, &args, sql)?, &args)?;
        question.check_format(format)?;
        return run_sql(app, question, format, Some("lodge"), "/api/v1/export").await;
    }
    let question = patient(Question::of(&app, &identity, &args)?, &args)?;
    question.check_format(format)?;
    let limit = args.number("limit")?.filter(|n| *n > 0);
    let offset = args.number("offset")?;
    let running = app.begin_query(&question.view.tenant, "/api/v1/export").await?;
    let request = question.rows(limit, offset);
    let stream = app.engine.logsql(request).await.map_err(|e| app.query_failed(&e))?;
    rows::answer(app, running, stream, format, Some("lodge")).await
}

/// An export takes as long as its data is, unless the request says otherwise.
fn patient(mut question: Question, args: &Args) -> Result<Question, ApiError> {
    if args.duration_ns("timeout")?.is_none() {
        question.budget.time_max = question.budget.time_max.max(EXPORT_TIME_MAX);
    }
    Ok(question)
}

async fn run_sql(
    app: Arc<App>,
    question: Question,
    format: Format,
    file: Option<&str>,
    endpoint: &'static str,
) -> Result<Response, ApiError> {
    let running = app.begin_query(&question.view.tenant, endpoint).await?;
    let stream = app.engine.sql(question.sql()).await.map_err(|e| app.query_failed(&e))?;
    rows::answer(app, running, stream, format, file).await
}
