//! Fields that are in no column: what their values are.

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use datafusion::execution::memory_pool::MemoryConsumer;
use lodge_record::{field, overflow};
use lodge_segment::predicate::{FieldTest, Predicate};
use tokio::runtime::Handle;

use super::reader::{Columns, Reader, Wanted};
use super::shape::type_of_texts;
use super::{Source, on_runtime};
use crate::engine::Admitted;
use crate::error::QueryError;

/// Values that are looked at. One of another type that comes later makes the field text.
const VALUES_MAX: usize = 1_000;

/// The type of a field that is in `_overflow` alone, by the first of its values; `None` if no record of
/// `source` has it.
pub(crate) async fn spilled_type(
    runtime: &Handle,
    admitted: &Admitted,
    source: &Source,
    name: &str,
) -> Result<Option<DataType>, QueryError> {
    if source.snapshot.schema().index_of(field::OVERFLOW).is_err() {
        return Ok(None);
    }
    let source = source.narrowed(Predicate::field(name, FieldTest::Any));
    let (pool, name, control) = (admitted.memory(), name.to_owned(), source.control.clone());
    let work = async move {
        let works = source.divide(1, false).into_iter().flatten().collect();
        let wanted = Wanted::of(Columns::Named(vec![name.clone()]));
        let reservation = MemoryConsumer::new("reading a block").register(&pool);
        let mut reader = Reader::new(source, works, wanted, reservation);
        let mut texts: Vec<String> = Vec::new();
        while texts.len() < VALUES_MAX
            && let Some(found) = reader.next().await?
        {
            let spilled = found.batch.column_by_name(field::OVERFLOW);
            let Some(spilled) = spilled.and_then(|column| column.as_string_opt::<i32>()) else {
                continue;
            };
            let rows = (0..spilled.len()).filter(|row| spilled.is_valid(*row));
            let values = rows.filter_map(|row| overflow::get(spilled.value(row), &name));
            texts.extend(values.map(std::borrow::Cow::into_owned).take(VALUES_MAX));
        }
        Ok((!texts.is_empty()).then(|| type_of_texts(texts.iter().map(String::as_str))))
    };
    on_runtime(runtime, &control, work).await
}
