//! The catalog in PostgreSQL, shared by all processes of a cluster.
//!
//! Invariants:
//! - no row is written by all commits: they wait for each other only where they advance the same
//!   producers;
//! - a failure of the connection is no failure of what was asked: reads are asked again for a while,
//!   writes once it is certain that they did not happen (see `publish`);
//! - rows of segments never change.

mod connection;
mod copies;
mod lists;
mod migrations;
mod publish;
mod records;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use lodge_record::{ProducerId, TenantId};

use super::{
    Applied, Candidates, Catalog, CopyCounts, CopyRow, Lease, NewSegment, Node, Producer,
    ProducerAdvance, RowSink, Totals,
};
use crate::token::Token;
use crate::{LedgerRow, SegmentId, SegmentRef, Snapshot, StoreError};
use connection::{Database, retrying};
use lists::Lists;
use publish::{Settled, Work};

pub(crate) use connection::hint;

/// Parsed column lists kept in memory.
const SCHEMAS_MAX: usize = 8_192;

/// A catalog in a PostgreSQL database: in the first schema of the connection's search path.
#[derive(Debug)]
pub struct PostgresCatalog {
    database: Database,
    schemas: Mutex<Schemas>,
    lists: Lists,
}

/// Column lists by number, and their numbers by the hash of their text.
#[derive(Debug, Default)]
struct Schemas {
    by_id: HashMap<i64, SchemaRef>,
    ids: HashMap<[u8; 32], i64>,
}

impl PostgresCatalog {
    /// Connects to `postgres://user:password@host:port/database`, makes the tables if they are not
    /// there and brings them to this program's version. An older program may go on with a newer
    /// catalog as long as that says so.
    ///
    /// # Errors
    /// [`StoreError::NewerCatalog`] if it needs a newer program, [`StoreError::CatalogAddress`],
    /// [`StoreError::Postgres`] with what to do about it.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let database = Database::open(url).await?;
        migrations::migrate(&database).await?;
        Ok(Self { database, schemas: Mutex::default(), lists: Lists::default() })
    }

    fn with_schemas<T>(&self, run: impl FnOnce(&mut Schemas) -> T) -> T {
        run(&mut self.schemas.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn schema(&self, id: i64) -> Option<SchemaRef> {
        self.with_schemas(|known| known.by_id.get(&id).cloned())
    }

    fn known_schema(&self, hash: &[u8; 32]) -> Option<(i64, SchemaRef)> {
        self.with_schemas(|known| {
            let id = *known.ids.get(hash)?;
            Some((id, Arc::clone(known.by_id.get(&id)?)))
        })
    }

    /// Keeps a column list; gives the one that is shared by all who have it.
    fn keep_schema(&self, id: i64, hash: Option<[u8; 32]>, schema: SchemaRef) -> SchemaRef {
        self.with_schemas(|known| {
            if known.by_id.len() >= SCHEMAS_MAX {
                *known = Schemas::default();
            }
            if let Some(hash) = hash {
                known.ids.insert(hash, id);
            }
            Arc::clone(known.by_id.entry(id).or_insert(schema))
        })
    }

    /// A column list whose number was known may have been removed by another process.
    fn forget_schemas_after(&self, error: &StoreError) {
        if let StoreError::Postgres { source, .. } = error
            && source.as_database_error().is_some_and(|e| e.is_foreign_key_violation())
        {
            self.with_schemas(|known| *known = Schemas::default());
        }
    }
}

#[async_trait]
impl Catalog for PostgresCatalog {
    async fn number(&self) -> Result<u64, StoreError> {
        retrying!("number the catalog", self.read_number())
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn close(&self) {
        self.database.close().await;
    }

    async fn commit(
        &self,
        segments: &[NewSegment],
        producers: &[ProducerAdvance],
    ) -> Result<Option<Applied>, StoreError> {
        self.publish(Work { add: segments, producers, ..Work::default() }).await
    }

    async fn swap(
        &self,
        remove: &[SegmentId],
        add: &[NewSegment],
        now_ms: i64,
        lease: Option<&Lease>,
    ) -> Result<Option<Applied>, StoreError> {
        self.publish(Work { remove, add, now_ms, lease, ..Work::default() }).await
    }

    async fn snapshot(
        &self,
        tenant: &TenantId,
        time: Option<(i64, i64)>,
    ) -> Result<(u64, Vec<Arc<SegmentRef>>), StoreError> {
        let read = self.read(tenant, time).await?;
        Ok((read.version, read.segments.clone()))
    }

    fn kept(&self, _: &TenantId) -> Option<Arc<Snapshot>> {
        // Another process may have written since: that is a question to the database.
        None
    }

    async fn snapshot_to_keep(
        &self,
        tenant: &TenantId,
        time: Option<(i64, i64)>,
    ) -> Result<Arc<Snapshot>, StoreError> {
        self.current(tenant, time).await
    }

    async fn producers(
        &self,
        wanted: &[(TenantId, ProducerId)],
    ) -> Result<Vec<Option<Producer>>, StoreError> {
        retrying!("read producers", self.read_producers(wanted))
    }

    async fn forget_producers(
        &self,
        before_ms: i64,
        limit: usize,
    ) -> Result<(u64, u64), StoreError> {
        retrying!("forget producers", self.delete_producers(before_ms, limit))
    }

    async fn ledger(
        &self,
        tenant: &TenantId,
        after: Option<ProducerId>,
        limit: usize,
    ) -> Result<Vec<LedgerRow>, StoreError> {
        retrying!("read the ledger", self.read_ledger(tenant, after, limit))
    }

    async fn settle(&self, object_key: &str) -> Result<Option<Vec<Arc<SegmentRef>>>, StoreError> {
        let settled = self.settle_publish(object_key).await?;
        let segments = retrying!("look for an object", self.segments_of(object_key))?;
        let committed = matches!(settled, Settled::Committed) || !segments.is_empty();
        if committed {
            return Ok(Some(segments));
        }
        // What is kept of a transaction is kept for a while only; its object may tell.
        let keys = [object_key.to_owned()];
        let named = self.names_objects(&keys).await?;
        Ok(named.first().is_some_and(|named| *named).then_some(segments))
    }

    async fn candidates(
        &self,
        which: Candidates,
        limit: usize,
    ) -> Result<Vec<Arc<SegmentRef>>, StoreError> {
        retrying!("list segments to build", self.read_candidates(which, limit))
    }

    async fn names_objects(&self, keys: &[String]) -> Result<Vec<bool>, StoreError> {
        retrying!("look for objects", self.read_names(keys))
    }

    async fn disown(&self, keys: &[String]) -> Result<Vec<bool>, StoreError> {
        for key in keys {
            self.settle_publish(key).await?;
        }
        self.names_objects(keys).await
    }

    async fn garbage(&self, before_ms: i64, limit: usize) -> Result<Vec<String>, StoreError> {
        retrying!("list the garbage", self.read_garbage(before_ms, limit))
    }

    async fn forget_garbage(&self, keys: &[String]) -> Result<(), StoreError> {
        retrying!("take out of the garbage", self.delete_garbage(keys))
    }

    async fn drop_unused_schemas(&self) -> Result<(), StoreError> {
        retrying!("remove unused column lists", self.delete_schemas())
    }

    async fn prune(&self) -> Result<(), StoreError> {
        retrying!("forget old transactions", self.delete_publishes())?;
        retrying!("forget old removals", self.delete_removals())?;
        retrying!("forget nodes", self.delete_nodes())
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        lasts: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        retrying!("take a lease", self.take_lease(name, holder, lasts))
    }

    async fn renew(&self, lease: &Lease, lasts: Duration) -> Result<bool, StoreError> {
        retrying!("renew a lease", self.extend_lease(lease, Some(lasts)))
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        retrying!("release a lease", self.extend_lease(lease, None)).map(drop)
    }

    async fn announce(&self, node: &Node, lasts: Duration) -> Result<(), StoreError> {
        retrying!("announce a node", self.put_node(node, lasts))
    }

    async fn depart(&self, name: &str) -> Result<(), StoreError> {
        retrying!("remove a node", self.delete_node(name))
    }

    async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        retrying!("list nodes", self.read_nodes())
    }

    async fn totals(&self) -> Result<(Totals, Totals), StoreError> {
        retrying!("sum up segments", self.read_totals())
    }

    async fn add_token(&self, token: &Token) -> Result<bool, StoreError> {
        self.insert_token(token).await
    }

    async fn remove_token(&self, id: &str) -> Result<bool, StoreError> {
        self.delete_token(id).await
    }

    async fn tokens(&self, known: Option<u64>) -> Result<Option<(u64, Vec<Token>)>, StoreError> {
        retrying!("read the tokens", self.read_tokens(known))
    }

    async fn give(&self, sink: &mut dyn RowSink) -> Result<u64, StoreError> {
        self.give_rows(sink).await
    }

    async fn begin_fill(&self) -> Result<bool, StoreError> {
        self.begin_filling().await
    }

    async fn fill(&self, rows: &[CopyRow]) -> Result<(), StoreError> {
        self.fill_rows(rows).await
    }

    async fn end_fill(&self, wanted: CopyCounts, highest: u64) -> Result<(), StoreError> {
        self.end_filling(wanted, highest).await
    }

    async fn is_filling(&self) -> Result<bool, StoreError> {
        retrying!("read the version", self.read_filling())
    }
}
