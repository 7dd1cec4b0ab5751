//! Reading an answer that comes in lines, to its true end.
//!
//! The server cannot change the status once rows are out, so it says what happened later in a last
//! line: `{"error", "code", …}` before it cuts the connection, `{"partial": reason}` before a
//! regular end. The last line is therefore held back until it is known to be a row.

use reqwest::Response;
use serde::Deserialize;

use crate::client::{Client, causes};
use crate::failure::{Exit, Failure};
use crate::row::LineCutter;

/// Longest line that is taken: far more than any record may have.
const LINE_BYTES_MAX: usize = 256 << 20;

#[derive(Deserialize)]
struct Broken {
    error: String,
    #[serde(rename = "code")]
    _code: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Partial {
    partial: String,
}

/// Hands each row of `response` to `each`, until it wants no more (`Ok(false)`). A last line that
/// says the answer is partial is a failure; it can only come when the request allowed it.
pub async fn read_lines(
    client: &Client,
    mut response: Response,
    partial_allowed: bool,
    mut each: impl FnMut(&[u8]) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut cutter = LineCutter::default();
    let mut held: Option<Vec<u8>> = None;
    let mut enough = false;
    loop {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) => return Err(broken(client, held.as_deref(), &error)),
        };
        cutter.push(&chunk, |line| {
            if enough || line.is_empty() {
                return Ok::<(), Failure>(());
            }
            let buffer = held.get_or_insert_with(Vec::new);
            if !buffer.is_empty() {
                enough = !each(buffer)?;
            }
            buffer.clear();
            buffer.extend_from_slice(line);
            Ok(())
        })?;
        if enough {
            return Ok(());
        }
        if cutter.rest().len() > LINE_BYTES_MAX {
            return Err(Failure::new("the server sent a line without an end"));
        }
    }
    if !cutter.rest().is_empty() {
        let what = "the answer ends in the middle of a row";
        return Err(Failure::new(what).mend("ask again").exit(Exit::Unavailable));
    }
    let Some(last) = held else { return Ok(()) };
    if partial_allowed && let Ok(Partial { partial }) = serde_json::from_slice(&last) {
        return Err(Failure::new(format!("not all rows were found: {partial}"))
            .mend("narrow the time range or the filter")
            .exit(Exit::Partial));
    }
    each(&last).map(|_| ())
}

/// The connection was cut: the last line may say why.
fn broken(client: &Client, last: Option<&[u8]>, error: &reqwest::Error) -> Failure {
    if let Some(Broken { error, .. }) = last.and_then(|line| serde_json::from_slice(line).ok()) {
        return Failure::new(format!("the query failed on its way: {error}"))
            .at(client.address())
            .mend("what was printed is not everything");
    }
    Failure::new("the connection broke in the middle of the answer")
        .at(format!("{}: {}", client.address(), causes(error)))
        .mend("what was printed is not everything; ask again")
        .exit(Exit::Unavailable)
}
