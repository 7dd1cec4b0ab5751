//! The right to copy: while it is held, no object that was named when it was taken is deleted, and no
//! other backup of the same installation is made.
//!
//! Why that is certain: a sweeper asks for garbage in one statement, which gives none while the lease
//! is held. An object that the copied rows name became garbage after they were read, so a statement
//! that sees it among the garbage sees the lease, too, which was there before.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::BackupError;
use crate::catalog::{Catalog, HOLD, Lease};

/// How often it is asked whether another has ended.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// It is renewed so often before it would end.
const RENEWALS: u32 = 6;

/// Held until it is released; dropped, it ends by itself.
#[derive(Debug)]
pub(super) struct Hold {
    catalog: Arc<dyn Catalog>,
    lease: Lease,
    lasts: Duration,
    renewing: JoinHandle<()>,
}

impl Hold {
    /// Takes it; waits for the end of that of a process that was killed.
    pub(super) async fn take(
        catalog: &Arc<dyn Catalog>,
        lasts: Duration,
    ) -> Result<Self, BackupError> {
        let holder = crate::held::holder();
        let give_up = Instant::now() + lasts + ASK_EVERY * 10;
        let lease = loop {
            match catalog.lease(HOLD, &holder, lasts).await? {
                Some(lease) => break lease,
                None if Instant::now() < give_up => sleep(ASK_EVERY).await,
                None => return Err(BackupError::Busy { wait_s: lasts.as_secs() }),
            }
        };
        let (renewed, kept) = (Arc::clone(catalog), lease.clone());
        let renewing = tokio::spawn(async move {
            loop {
                sleep(lasts / RENEWALS).await;
                match renewed.renew(&kept, lasts).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => tracing::debug!(%error, "the hold is renewed later"),
                }
            }
        });
        Ok(Self { catalog: Arc::clone(catalog), lease, lasts, renewing })
    }

    /// Makes sure that no other has it, and holds it for its whole time from now.
    pub(super) async fn check(&self) -> Result<(), BackupError> {
        if self.catalog.renew(&self.lease, self.lasts).await? {
            return Ok(());
        }
        Err(BackupError::LostHold { lasts_s: self.lasts.as_secs() })
    }

    pub(super) async fn release(self) {
        self.renewing.abort();
        if let Err(error) = self.catalog.release(&self.lease).await {
            tracing::debug!(%error, "the hold ends by itself");
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}
