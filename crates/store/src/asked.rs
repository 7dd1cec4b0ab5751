//! Which fields are asked for words: a commit then makes a filter of the words of its records
//! ([`Words`]), so that queries need not search records that are not built yet and have none of theirs.
//!
//! Invariants: what nobody asks for costs nothing; a filter changes no answer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lodge_record::TenantId;

/// Filters are made for so long after a field was asked for words.
const ASKED_FOR: Duration = Duration::from_secs(30);
/// Most fields of a tenant that have filters.
const FIELDS_MAX: usize = 16;
/// Most tenants.
const TENANTS_MAX: usize = 256;

/// The fields that were asked for words, and when they were last.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    tenants: Mutex<HashMap<TenantId, HashMap<String, Instant>>>,
}

impl Asked {
    /// Notes that `fields` are asked now. Beyond the limits others keep their filters.
    pub(crate) fn note<'f>(&self, tenant: &TenantId, fields: impl IntoIterator<Item = &'f str>) {
        let now = Instant::now();
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if !tenants.contains_key(tenant) {
            if tenants.len() >= TENANTS_MAX {
                tenants.retain(|_, fields| fields.values().any(|asked| is_recent(*asked, now)));
            }
            if tenants.len() >= TENANTS_MAX {
                return;
            }
            tenants.insert(tenant.clone(), HashMap::new());
        }
        let Some(known) = tenants.get_mut(tenant) else { return };
        for field in fields {
            if let Some(asked) = known.get_mut(field) {
                *asked = now;
                continue;
            }
            if known.len() >= FIELDS_MAX {
                known.retain(|_, asked| is_recent(*asked, now));
            }
            if known.len() < FIELDS_MAX {
                known.insert(field.to_owned(), now);
            }
        }
    }

    /// The fields of a tenant that are to have filters.
    pub(crate) fn fields(&self, tenant: &TenantId) -> Vec<String> {
        let now = Instant::now();
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let fields = tenants.get(tenant).into_iter().flatten();
        fields.filter(|(_, asked)| is_recent(**asked, now)).map(|(name, _)| name.clone()).collect()
    }
}

fn is_recent(asked: Instant, now: Instant) -> bool {
    now.saturating_duration_since(asked) < ASKED_FOR
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fields_are_known_by_tenant_within_the_limits() {
        let (asked, tenant) = (Asked::default(), |no: usize| format!("t{no}").parse::<TenantId>());
        let first = tenant(0).unwrap();
        asked.note(&first, ["_msg", "app", "_msg"]);
        let mut fields = asked.fields(&first);
        fields.sort();
        assert_eq!(fields, ["_msg", "app"]);
        assert!(asked.fields(&tenant(1).unwrap()).is_empty());
        let many: Vec<String> = (0..2 * FIELDS_MAX).map(|no| format!("f{no}")).collect();
        asked.note(&first, many.iter().map(String::as_str));
        assert_eq!(asked.fields(&first).len(), FIELDS_MAX);
        (1..2 * TENANTS_MAX).for_each(|no| asked.note(&tenant(no).unwrap(), ["_msg"]));
        assert_eq!(asked.tenants.lock().unwrap().len(), TENANTS_MAX);
    }
}
