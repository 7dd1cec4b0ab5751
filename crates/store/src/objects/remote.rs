//! Objects in a bucket of an object store.
//!
//! ```text
//!  put ─► create, only if the key is free ─► yes: durable
//!              ▲                          ─► no answer: the same again, a few times
//!              └── the key is taken by an attempt before: compared byte by byte, then durable
//! ```
//!
//! Invariants:
//! - a put is conditional and its key random: whoever finds the key taken finds its own bytes;
//! - every call ends: each attempt and all of them together have a limit of time;
//! - a bucket's folder belongs to one catalog, whose number is in its mark: what another catalog's
//!   objects are would look like orphans to this one, and be deleted.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path as Key;
use object_store::{
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutPayload, WriteMultipart,
};
use rand::Rng as _;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

use super::failed;
use super::place::Bucket;
use super::requests::Requests;
use crate::StoreError;

/// The object that says which catalog a folder belongs to.
pub(crate) const MARK: &str = "lodge-catalog";

/// A call is not tried again once it has taken so long.
const CALL_TIME_MAX: Duration = Duration::from_secs(20);
/// An attempt may take so long, and a second more for each of these bytes.
const ATTEMPT_TIME: Duration = Duration::from_secs(10);
const ATTEMPT_BYTES_PER_S: u64 = 1 << 20;
/// The pauses between attempts; which is chosen at random between none and that long.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1_600),
    Duration::from_secs(3),
];
/// A larger object is sent in parts, so that a failure costs a part and not the whole.
const WHOLE_BYTES_MAX: usize = 32 << 20;
/// Size of a part, and how many are sent at once.
const PART_BYTES: usize = 8 << 20;
const PARTS_AT_ONCE: usize = 4;

/// The objects of one folder of a bucket.
#[derive(Debug)]
pub(super) struct Remote {
    store: Arc<dyn ObjectStore>,
    requests: Arc<Requests>,
    url: String,
    /// What the mark says.
    owner: String,
    /// Set once the mark was seen to be that of this catalog.
    owned: OnceCell<()>,
}

impl Remote {
    /// One that is only read from: whatever is written to it is refused.
    pub(super) fn of_any(bucket: &Bucket) -> Result<Self, StoreError> {
        let requests = Arc::default();
        let url = bucket.url().to_owned();
        let store = bucket
            .client(&requests)
            .map_err(|reason| StoreError::Bucket { url: url.clone(), reason })?;
        Ok(Self { store, requests, url, owner: String::new(), owned: OnceCell::new() })
    }

    pub(super) async fn open(bucket: &Bucket, owner: String) -> Result<Self, StoreError> {
        let remote = Self { owner, ..Self::of_any(bucket)? };
        match remote.check_owner().await {
            Err(StoreError::Object { source, .. }) if !is_permanent(&source) => {
                tracing::warn!(bucket = remote.url, error = %source,
                    "the object store does not answer; what is sent is refused until it does");
                Ok(remote)
            }
            checked => checked.map(|()| remote),
        }
    }

    pub(super) fn store(&self) -> &dyn ObjectStore {
        &*self.store
    }

    pub(super) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Makes sure that the folder belongs to this catalog, and takes it if it belongs to none.
    pub(super) async fn check_owner(&self) -> Result<(), StoreError> {
        self.owned.get_or_try_init(|| self.take()).await.copied()
    }

    async fn take(&self) -> Result<(), StoreError> {
        let key = Key::from(MARK);
        let mine = &self.owner;
        assert!(!mine.is_empty(), "this place was opened to read from it");
        let found = match self.store.get(&key).await {
            Ok(found) => found.bytes().await.map_err(failed("read", MARK))?,
            Err(object_store::Error::NotFound { .. }) => {
                let payload = PutPayload::from(mine.clone());
                match self.store.put_opts(&key, payload, PutMode::Create.into()).await {
                    Ok(_) => return Ok(()),
                    Err(object_store::Error::AlreadyExists { .. }) => {
                        let found = self.store.get(&key).await.map_err(failed("read", MARK))?;
                        found.bytes().await.map_err(failed("read", MARK))?
                    }
                    Err(error) => return Err(self.unusable(error, "write")),
                }
            }
            Err(error) => return Err(self.unusable(error, "read")),
        };
        if found == mine.as_bytes() {
            return Ok(());
        }
        let reason = format!(
            "its objects belong to another catalog (the object {MARK} there says {}, this catalog is \
             {mine}); choose another folder of the bucket, or the catalog that belongs to it",
            String::from_utf8_lossy(&found).chars().take(32).collect::<String>().escape_debug(),
        );
        Err(StoreError::Bucket { url: self.url.clone(), reason })
    }

    fn unusable(&self, error: object_store::Error, action: &'static str) -> StoreError {
        if !is_permanent(&error) {
            return failed(action, MARK)(error);
        }
        StoreError::Bucket {
            url: self.url.clone(),
            reason: format!(
                "{error}; check that the bucket is there and that the credentials may read, write, \
                 list and delete in it"
            ),
        }
    }

    /// Creates an object.
    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.check_owner().await?;
        let at = Key::from(key);
        if bytes.len() > WHOLE_BYTES_MAX {
            let (at, bytes) = (&at, &bytes);
            return self.attempts("write", key, bytes.len(), || self.put_parts(at, bytes)).await;
        }
        let (at, bytes) = (&at, &bytes);
        self.attempts("write", key, bytes.len(), || async move {
            let payload = PutPayload::from(bytes.clone());
            match self.store.put_opts(at, payload, PutMode::Create.into()).await {
                Ok(_) => Ok(()),
                Err(taken @ object_store::Error::AlreadyExists { .. }) => {
                    // By an attempt of ours whose answer was lost. To be sure costs one read.
                    match self.store.get(at).await {
                        Ok(found) => {
                            let same = found.bytes().await? == *bytes;
                            if same { Ok(()) } else { Err(taken) }
                        }
                        // S3 says so, too, while that attempt is still under way there.
                        Err(object_store::Error::NotFound { source, .. }) => {
                            Err(object_store::Error::Generic { store: "object store", source })
                        }
                        Err(error) => Err(error),
                    }
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn put_parts(&self, at: &Key, bytes: &Bytes) -> Result<(), object_store::Error> {
        let upload = self.store.put_multipart_opts(at, PutMultipartOptions::default()).await?;
        let mut write = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        for start in (0..bytes.len()).step_by(PART_BYTES) {
            let end = (start + PART_BYTES).min(bytes.len());
            if let Err(error) = write.wait_for_capacity(PARTS_AT_ONCE).await {
                write.abort().await.ok();
                return Err(error);
            }
            write.put(bytes.slice(start..end));
        }
        // It takes back the parts by itself if it fails.
        write.finish().await.map(drop)
    }

    /// A whole object, of about so many bytes.
    pub(super) async fn read(&self, key: &str, about_bytes: u64) -> Result<Bytes, StoreError> {
        let at = &Key::from(key);
        let bytes = usize::try_from(about_bytes).unwrap_or(usize::MAX);
        self.attempts("read", key, bytes, || async move { self.store.get(at).await?.bytes().await })
            .await
    }

    /// Parts of an object; those near each other come with one request.
    pub(super) async fn ranges(
        &self,
        key: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, StoreError> {
        let at = &Key::from(key);
        let bytes = ranges.iter().map(|r| r.end.saturating_sub(r.start)).sum::<u64>();
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.attempts("read", key, bytes, || self.store.get_ranges(at, ranges)).await
    }

    /// Tries until it succeeds, fails for good, or has taken too long.
    async fn attempts<T, F>(
        &self,
        action: &'static str,
        key: &str,
        bytes: usize,
        attempt: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, object_store::Error>>,
    {
        let began = Instant::now();
        let attempt_max = ATTEMPT_TIME + Duration::from_secs(bytes as u64 / ATTEMPT_BYTES_PER_S);
        let mut pauses = PAUSES.iter();
        loop {
            let error = match timeout(attempt_max, attempt()).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => error,
                Err(_) => object_store::Error::Generic {
                    store: "object store",
                    source: format!("no answer within {} s", attempt_max.as_secs()).into(),
                },
            };
            let pause =
                pauses.next().filter(|_| !is_permanent(&error) && began.elapsed() < CALL_TIME_MAX);
            let Some(pause) = pause else { return Err(failed(action, key)(error)) };
            tracing::debug!(key, %error, "the object store is asked again");
            let pause = rand::rng().random_range(Duration::ZERO..*pause);
            sleep(pause).await;
        }
    }
}

/// Whether asking again is of no use.
fn is_permanent(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    matches!(
        error,
        E::NotFound { .. }
            | E::InvalidPath { .. }
            | E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::AlreadyExists { .. }
            | E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::UnknownConfigurationKey { .. }
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use object_store::memory::InMemory;

    use super::*;

    fn remote(store: &Arc<InMemory>, catalog: u64) -> Remote {
        let store: Arc<dyn ObjectStore> = Arc::clone(store) as _;
        let url = "s3://logs/lodge".to_owned();
        Remote {
            store,
            requests: Arc::default(),
            url,
            owner: catalog.to_string(),
            owned: OnceCell::new(),
        }
    }

    #[tokio::test]
    async fn a_large_object_sent_in_parts_is_read_back_as_it_was() {
        let remote = remote(&Arc::default(), 1);
        let bytes: Vec<u8> =
            (0..WHOLE_BYTES_MAX as u64 + 12_345).map(|i| ((i * i) >> 7) as u8).collect();
        let bytes = Bytes::from(bytes);
        remote.put("seg/large", bytes.clone()).await.unwrap();
        let (whole, end) = (bytes.len() as u64, bytes.len() as u64 - 7);
        let read = remote.ranges("seg/large", &[0..whole, 5..9, end..whole]).await.unwrap();
        assert!(read[0] == bytes);
        assert_eq!(read[1], bytes.slice(5..9));
        assert_eq!(read[2], bytes.slice(bytes.len() - 7..));
    }

    #[tokio::test]
    async fn an_object_that_an_attempt_before_left_is_the_same_put() {
        let store = Arc::default();
        let remote = remote(&store, 1);
        remote.put("l0/a", Bytes::from_static(b"records")).await.unwrap();
        remote.put("l0/a", Bytes::from_static(b"records")).await.unwrap();
        let other = remote.put("l0/a", Bytes::from_static(b"others")).await.unwrap_err();
        assert!(other.to_string().contains("l0/a"), "{other}");
        assert_eq!(remote.ranges("l0/a", &[0..3, 3..7]).await.unwrap(), ["rec", "ords"]);
    }

    #[tokio::test]
    async fn a_folder_that_belongs_to_another_catalog_is_refused() {
        let store = Arc::default();
        remote(&store, 1).check_owner().await.unwrap();
        remote(&store, 1).check_owner().await.unwrap();
        let error = remote(&store, 2).put("l0/a", Bytes::new()).await.unwrap_err().to_string();
        for part in ["s3://logs/lodge", "belong to another catalog", "says 1", "is 2", "choose"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
