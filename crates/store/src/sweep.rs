//! Objects that nothing names any more are deleted, after a grace period.
//!
//! Invariants:
//! - garbage (named once, no longer) stays for [`StoreOptions::garbage_grace`], so that a query
//!   that began before can end;
//! - an orphan (never named) is deleted only if it is older than [`StoreOptions::orphan_grace`], is
//!   not in flight, and the catalog does not name it, asked in this order: an object whose
//!   transaction ends between the questions is named by then. Where other processes write, too, the
//!   catalog sees to it that a transaction that comes later than that fails.
//!
//! [`StoreOptions::garbage_grace`]: crate::StoreOptions::garbage_grace
//! [`StoreOptions::orphan_grace`]: crate::StoreOptions::orphan_grace

use std::time::{Duration, SystemTime};

use crate::StoreError;
use crate::store::{Store, now_ms};

/// Objects handled between two looks at the catalog.
const CHUNK: usize = 256;

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Store {
    /// Deletes garbage whose grace is over.
    pub(crate) async fn sweep_garbage(&self) -> Result<(), StoreError> {
        loop {
            let before_ms = now_ms().saturating_sub(millis(self.options.garbage_grace));
            let keys = self.catalog.garbage(before_ms, CHUNK).await?;
            if keys.is_empty() {
                return Ok(());
            }
            for key in &keys {
                self.objects.delete(key).await?;
            }
            self.catalog.forget_garbage(&keys).await?;
            self.counters.deleted(keys.len() as u64, 0);
        }
    }

    /// Removes producers whose time is over, some at a time so that commits get their turn.
    pub(crate) async fn sweep_producers(&self) -> Result<(), StoreError> {
        loop {
            let (removed, left) = self.catalog.forget_producers(now_ms(), CHUNK).await?;
            self.counters.remembered(left);
            if removed < CHUNK as u64 {
                return Ok(());
            }
        }
    }

    /// Deletes orphans whose grace is over.
    pub(crate) async fn sweep_orphans(&self) -> Result<(), StoreError> {
        let now = SystemTime::now();
        let grace = self.options.orphan_grace;
        let old = |modified: SystemTime| now.duration_since(modified).is_ok_and(|age| age >= grace);
        let listed = self.objects.list().await?;
        let keys: Vec<String> = listed
            .into_iter()
            .filter(|object| old(object.modified))
            .map(|object| object.key)
            .filter(|key| !self.objects.is_in_flight(key))
            .collect();
        for chunk in keys.chunks(CHUNK) {
            let named = self.catalog.names_objects(chunk).await?;
            let unnamed = chunk.iter().zip(named).filter(|(_, named)| !named).map(|(key, _)| key);
            let unnamed: Vec<String> = unnamed.cloned().collect();
            let named = self.catalog.disown(&unnamed).await?;
            let orphans = unnamed.iter().zip(named).filter(|(_, named)| !named);
            for (key, _) in orphans {
                tracing::info!(object = %key, "deleting an object that no transaction names");
                self.objects.delete(key).await?;
                self.counters.deleted(0, 1);
            }
        }
        self.catalog.drop_unused_schemas().await?;
        self.catalog.prune().await
    }
}
