//! One record of a batch, by its fields' names.

use std::borrow::Cow;
use std::collections::HashMap;

use arrow::array::{Array, AsArray};
use arrow::record_batch::RecordBatch;
use lodge_record::{field, overflow, schema};

/// One record of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Record<'b> {
    pub(crate) batch: &'b RecordBatch,
    /// See [`columns_of`].
    pub(crate) columns: &'b HashMap<String, usize>,
    pub(crate) row: usize,
}

/// The places of the columns of a batch.
pub(crate) fn columns_of(batch: &RecordBatch) -> HashMap<String, usize> {
    let fields = batch.schema_ref().fields().iter().enumerate();
    fields.map(|(place, field)| (field.name().clone(), place)).collect()
}

impl<'b> Record<'b> {
    /// The value of a field; empty if it has none.
    pub(crate) fn value(&self, name: &str) -> Cow<'b, str> {
        if let Some(place) = self.columns.get(name) {
            return schema::value_text(self.batch.column(*place), self.row).unwrap_or_default();
        }
        let found = self.spilled().and_then(|text| overflow::get(text, name));
        Cow::Owned(found.map(Cow::into_owned).unwrap_or_default())
    }

    /// The fields without a column, as the text of an `_overflow`.
    pub(crate) fn spilled(&self) -> Option<&'b str> {
        let column = self.batch.column(*self.columns.get(field::OVERFLOW)?);
        let texts = column.as_string_opt::<i32>()?;
        texts.is_valid(self.row).then(|| texts.value(self.row))
    }

    /// Every field that is not empty.
    pub(crate) fn each(&self, mut each: impl FnMut(&str, &str)) {
        for (field, column) in self.batch.schema_ref().fields().iter().zip(self.batch.columns()) {
            if field.name() == field::OVERFLOW {
                continue;
            }
            let value = schema::value_text(column, self.row);
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                each(field.name(), &value);
            }
        }
        if let Some(text) = self.spilled() {
            overflow::for_each(text, |name, value| {
                if !value.is_empty() {
                    each(name, value);
                }
            });
        }
    }
}
