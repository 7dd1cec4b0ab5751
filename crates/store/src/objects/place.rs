//! Where objects are: files in the data folder, or a bucket of an object store.
//!
//! Invariant: what was accepted here can be opened: every option is known to the client of its store,
//! and nothing of a secret is ever shown.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::requests::{CountingConnector, Requests};

/// A request that got no answer for so long is given up; a large object takes less.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);
/// As long a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// So long, and so often, a request is tried again after an answer that says "later" or none.
const RETRY_TIME_MAX: Duration = Duration::from_secs(10);
const RETRIES_MAX: usize = 8;
/// The pause before the first repeat, and the longest; the client chooses at random between.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// What stands in the place of a secret.
pub const HIDDEN: &str = "(hidden)";

/// A bucket, the folder in it, and how to reach it.
#[derive(Clone, PartialEq, Eq)]
pub struct Bucket {
    url: String,
    options: BTreeMap<String, String>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// Whether the value of an option is not for other eyes.
pub fn is_secret(option: &str) -> bool {
    ["secret", "token", "password", "service_account_key", "access_key", "sas", "account_key"]
        .iter()
        .any(|part| option.contains(part))
        && !option.ends_with("access_key_id")
}

impl Bucket {
    /// Reads `s3://bucket/folder`, `gs://bucket/folder` or `az://container/folder` and the options of
    /// that store's client, named as in `object_store`: `endpoint`, `region`, `access_key_id`, …. What
    /// is not given comes from the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`) or from the machine.
    ///
    /// # Errors
    /// What is wrong, without a secret.
    pub fn new(url: &str, options: BTreeMap<String, String>) -> Result<Self, String> {
        let bucket = Self { url: url.trim_end_matches('/').to_owned(), options };
        bucket.scheme()?;
        bucket.client(&Arc::default()).map(|_| bucket)
    }

    /// Whether an address is one of a bucket, or empty.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_url(url: &str) -> Result<(), String> {
        let bucket = Self { url: url.to_owned(), options: BTreeMap::new() };
        if url.is_empty() { Ok(()) } else { bucket.scheme().map(drop) }
    }

    /// The address as it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The options, with secrets.
    pub fn options(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    fn scheme(&self) -> Result<(Scheme, &str, &str), String> {
        let known = "it begins with s3://, gs:// or az://";
        let (scheme, rest) = self.url.split_once("://").ok_or(known)?;
        let scheme = match scheme {
            "s3" => Scheme::S3,
            "gs" => Scheme::Gcs,
            "az" => Scheme::Azure,
            _ => return Err(known.to_owned()),
        };
        let (bucket, folder) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() || bucket.contains(['@', '?', '#', ':']) {
            return Err("it names no bucket, as s3://bucket/folder does".to_owned());
        }
        Ok((scheme, bucket, folder))
    }

    /// A client whose requests are counted.
    pub(super) fn client(&self, requests: &Arc<Requests>) -> Result<Arc<dyn ObjectStore>, String> {
        let (scheme, bucket, folder) = self.scheme()?;
        let http = ClientOptions::new()
            .with_timeout(REQUEST_TIME_MAX)
            .with_connect_timeout(CONNECT_TIME_MAX)
            .with_user_agent(http_agent());
        let retry = RetryConfig {
            backoff: BackoffConfig { init_backoff: PAUSE_MIN, max_backoff: PAUSE_MAX, base: 2.0 },
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_TIME_MAX,
        };
        let connector = CountingConnector(Arc::clone(requests));
        let refused = |error: object_store::Error| self.without_secrets(&error.to_string());
        let store: Arc<dyn ObjectStore> = match scheme {
            Scheme::S3 => {
                let mut client = AmazonS3Builder::from_env()
                    .with_client_options(http)
                    .with_retry(retry)
                    .with_http_connector(connector)
                    .with_bucket_name(bucket);
                for (name, value) in &self.options {
                    client = client.with_config(known::<AmazonS3ConfigKey>(name)?, value);
                }
                Arc::new(client.build().map_err(refused)?)
            }
            Scheme::Gcs => {
                let mut client = GoogleCloudStorageBuilder::from_env()
                    .with_client_options(http)
                    .with_retry(retry)
                    .with_http_connector(connector)
                    .with_bucket_name(bucket);
                for (name, value) in &self.options {
                    client = client.with_config(known::<GoogleConfigKey>(name)?, value);
                }
                Arc::new(client.build().map_err(refused)?)
            }
            Scheme::Azure => {
                let mut client = MicrosoftAzureBuilder::from_env()
                    .with_client_options(http)
                    .with_retry(retry)
                    .with_http_connector(connector)
                    .with_container_name(bucket);
                for (name, value) in &self.options {
                    client = client.with_config(known::<AzureConfigKey>(name)?, value);
                }
                Arc::new(client.build().map_err(refused)?)
            }
        };
        let folder = Key::parse(folder).map_err(|error| error.to_string())?;
        Ok(if folder.as_ref().is_empty() {
            store
        } else {
            Arc::new(PrefixStore::new(store, folder))
        })
    }

    fn without_secrets(&self, text: &str) -> String {
        let secrets =
            self.options.iter().filter(|(name, value)| is_secret(name) && !value.is_empty());
        secrets.fold(text.to_owned(), |text, (_, secret)| text.replace(secret, HIDDEN))
    }
}

#[derive(Clone, Copy)]
enum Scheme {
    S3,
    Gcs,
    Azure,
}

fn known<K: FromStr>(name: &str) -> Result<K, String> {
    name.parse().map_err(|_| format!("`{name}` is no option of that store's client"))
}

fn http_agent() -> object_store::HeaderValue {
    object_store::HeaderValue::from_static(concat!("lodge/", env!("CARGO_PKG_VERSION")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn options(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_cannot_be_opened_is_refused_with_what_is_wrong() {
        for (url, given, part) in [
            ("/var/lib/logs", options(&[]), "begins with s3://"),
            ("ftp://logs", options(&[]), "begins with s3://"),
            ("s3:///folder", options(&[]), "names no bucket"),
            ("s3://key:secret@logs", options(&[]), "names no bucket"),
            ("s3://logs", options(&[("colour", "red")]), "`colour` is no option"),
            ("s3://logs/a//b", options(&[]), "empty"),
        ] {
            let error = Bucket::new(url, given).unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
        }
        let given = [("access_key_id", "me"), ("secret_access_key", "hush")];
        let bucket = Bucket::new("s3://logs/lodge/", options(&given)).unwrap();
        assert_eq!(bucket.url(), "s3://logs/lodge");
        assert!(!format!("{bucket:?}").contains("hush"));
    }
}
