//! Who does what in the background, where several processes share a catalog.
//!
//! Invariants:
//! - a work that is held by this process is done by no other, unless this process could not say for
//!   [`LEASE_LASTS`] that it is still there;
//! - then another may do it again, but what this one publishes afterwards is refused: the catalog
//!   looks at the lease in the transaction.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::catalog::{Catalog, Lease};
use crate::{Store, StoreError};

/// A process that does not say for so long that it is still there has lost its work.
const LEASE_LASTS: Duration = Duration::from_secs(30);
/// How often it says so.
const RENEW_EVERY: Duration = Duration::from_secs(8);

/// A work that this process holds, until it is released; dropped, the lease ends by itself.
#[derive(Debug)]
pub(crate) struct Held {
    /// `None` in a catalog that is not shared: there is nobody else.
    shared: Option<(Lease, Arc<dyn Catalog>, JoinHandle<()>)>,
}

impl Held {
    pub(crate) fn lease(&self) -> Option<&Lease> {
        self.shared.as_ref().map(|(lease, _, _)| lease)
    }

    pub(crate) async fn release(self) {
        if let Some((lease, catalog, _)) = &self.shared
            && let Err(error) = catalog.release(lease).await
        {
            tracing::debug!(%error, work = lease.name, "the lease ends by itself");
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((_, _, renewing)) = &self.shared {
            renewing.abort();
        }
    }
}

async fn renew_until_lost(catalog: Arc<dyn Catalog>, lease: Lease) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        match catalog.renew(&lease, LEASE_LASTS).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(work = lease.name, "another process has taken this work over");
                return;
            }
            Err(error) => tracing::debug!(%error, work = lease.name, "not renewed; tried again"),
        }
    }
}

/// A name for this process that no other has, which also tells people which one it is.
pub(crate) fn holder() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}/{}/{}", std::process::id(), uuid::Uuid::new_v4().simple())
}

impl Store {
    /// Takes a work; `None` if another process holds it.
    pub(crate) async fn hold(&self, work: &str) -> Result<Option<Held>, StoreError> {
        if !self.catalog.is_shared() {
            return Ok(Some(Held { shared: None }));
        }
        let lease = self.catalog.lease(work, &self.holder, LEASE_LASTS).await?;
        Ok(lease.map(|lease| {
            let renewing = renew_until_lost(Arc::clone(&self.catalog), lease.clone());
            Held { shared: Some((lease, Arc::clone(&self.catalog), tokio::spawn(renewing))) }
        }))
    }
}
