//! Records for live tails where several processes share a catalog: what any of them commits is read from
//! there, a moment after it became durable.
//!
//! ```text
//!  subscribe ─► the tenant's segments now ─► every 250 ms those now ─► new L0s read ─► tails
//! ```
//!
//! Invariants:
//! - only tenants that someone follows are looked at;
//! - an L0 is shown once; the records of one that was built before it was seen, that cannot be read or
//!   that there is no memory for are counted, and the next message says how many they were.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use lodge_record::TenantId;
use lodge_store::{SegmentId, SegmentRef, Snapshot, Store, StoreError};
use tokio::sync::{Mutex, Notify};

use crate::tail::{Commits, Tail};

/// How often it is looked for what others committed.
const EVERY: Duration = Duration::from_millis(250);

/// Says that someone follows a tenant, until it is dropped.
#[derive(Debug)]
pub(crate) struct Wanted;

/// A tenant that someone follows.
#[derive(Debug)]
struct Followed {
    wanted: Weak<Wanted>,
    /// The L0s that were there at the last look.
    seen: HashSet<SegmentId>,
    /// All records that were there.
    rows: u64,
}

impl Followed {
    fn new(wanted: Weak<Wanted>, now: &Snapshot) -> Self {
        Self { wanted, seen: l0s(now).map(|segment| segment.id).collect(), rows: now.rows() }
    }
}

fn l0s(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<SegmentRef>> {
    snapshot.segments.iter().filter(|segment| segment.level == 0)
}

/// The tenants that are followed.
#[derive(Debug, Default)]
pub(crate) struct Follow {
    tenants: Mutex<HashMap<TenantId, Followed>>,
    begun: Notify,
}

impl Follow {
    /// Follows a tenant from now on, as long as what this gives is kept.
    pub(crate) async fn begin(
        &self,
        store: &Store,
        tail: &Tail,
        tenant: &TenantId,
    ) -> Result<Commits, StoreError> {
        let mut tenants = self.tenants.lock().await;
        let known = tenants.get_mut(tenant);
        let wanted = match known.and_then(|f| f.wanted.upgrade().map(|wanted| (f, wanted))) {
            Some((followed, wanted)) => {
                // What came before is for those who follow already.
                look(store, tail, tenant, followed).await?;
                wanted
            }
            None => {
                let wanted = Arc::new(Wanted);
                let now = store.snapshot(tenant, None).await?;
                tenants.insert(tenant.clone(), Followed::new(Arc::downgrade(&wanted), &now));
                self.begun.notify_one();
                wanted
            }
        };
        // Nobody looks meanwhile: nothing of what comes now is missed.
        Ok(Commits { receiver: tail.subscribe(), _wanted: Some(wanted) })
    }

    /// Sends what has been committed until now.
    pub(crate) async fn catch_up(
        &self,
        store: &Store,
        tail: &Tail,
        tenant: &TenantId,
    ) -> Result<(), StoreError> {
        match self.tenants.lock().await.get_mut(tenant) {
            Some(followed) => look(store, tail, tenant, followed).await,
            None => Ok(()),
        }
    }

    /// Looks from time to time, while anything is followed, for ever.
    pub(crate) async fn run(&self, store: &Store, tail: &Tail) {
        let mut troubled = false;
        loop {
            let mut tenants = self.tenants.lock().await;
            tenants.retain(|_, followed| followed.wanted.strong_count() > 0);
            if tenants.is_empty() {
                drop(tenants);
                self.begun.notified().await;
                continue;
            }
            let mut failed = None;
            for (tenant, followed) in tenants.iter_mut() {
                failed = look(store, tail, tenant, followed).await.err().or(failed);
            }
            drop(tenants);
            // Told once, as it is tried again in a moment.
            if let Some(error) = failed.as_ref().filter(|_| !troubled) {
                tracing::warn!(%error, "live tails wait: what was committed cannot be asked for");
            }
            troubled = failed.is_some();
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// Sends the records that came since the last look.
async fn look(
    store: &Store,
    tail: &Tail,
    tenant: &TenantId,
    followed: &mut Followed,
) -> Result<(), StoreError> {
    let now = store.snapshot(tenant, None).await?;
    let came = now.rows().saturating_sub(followed.rows);
    let new: Vec<_> = l0s(&now).filter(|segment| !followed.seen.contains(&segment.id)).collect();
    let mut shown = 0;
    for segment in new {
        if !tail.has_room(segment.arrow_bytes) {
            continue;
        }
        match read(store, segment).await {
            Ok(records) => {
                tail.send(records.into_iter().map(|batch| (tenant.clone(), batch)).collect());
                shown += segment.rows;
            }
            Err(error) => tracing::warn!(%error, "live tails skip what cannot be read"),
        }
    }
    // What came and is in no L0 that was sent: retention may hide some, and adds none.
    tail.miss(came.saturating_sub(shown));
    *followed = Followed::new(followed.wanted.clone(), &now);
    Ok(())
}

async fn read(store: &Store, segment: &Arc<SegmentRef>) -> Result<Vec<RecordBatch>, StoreError> {
    let open = store.open_segment(segment).await?;
    let schema = Arc::clone(open.schema());
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut records = Vec::with_capacity(open.blocks().len());
    for block in 0..open.blocks().len() {
        records.push(open.read(block, &names, None).await?);
    }
    Ok(records)
}
