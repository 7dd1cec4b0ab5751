//! Where records and the catalog are, and what this process does: the settings that make a cluster of
//! servers.

use std::collections::BTreeMap;
use std::fmt;

use lodge_store::{Bucket, CatalogAddress};

use super::ServerConfig;
use super::values::show_options;

/// What stands in the place of a password in an address.
const HIDDEN_PASSWORD: &str = "hidden";

/// Options of an object store's client by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ObjectsOptions(pub(super) BTreeMap<String, String>);

impl fmt::Debug for ObjectsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show_options(&self.0))
    }
}

/// Address of a catalog in PostgreSQL; empty for a file in the data folder.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CatalogUrl(String);

impl CatalogUrl {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let known = text.is_empty()
            || ["postgres://", "postgresql://"].iter().any(|begin| text.starts_with(begin));
        match known {
            true if text.contains(&format!(":{HIDDEN_PASSWORD}@")) => {
                Err("the password is hidden: put it there again".to_owned())
            }
            true => Ok(Self(text.to_owned())),
            false => Err("it does not begin with postgres://".to_owned()),
        }
    }

    /// The first host that it names, and its port; `None` without one, as of a socket's file.
    pub(crate) fn host(&self) -> Option<(String, u16)> {
        let url = url::Url::parse(&self.0).ok()?;
        Some((url.host_str()?.trim_matches(['[', ']']).to_owned(), url.port().unwrap_or(5432)))
    }

    /// The address without its password.
    pub(super) fn shown(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else { return self.0.clone() };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let authority = rest.get(..end).unwrap_or_default();
        match authority
            .rsplit_once('@')
            .and_then(|(user, host)| Some((user.split_once(':')?.0, host)))
        {
            Some((user, host)) => {
                let more = rest.get(end..).unwrap_or_default();
                format!("{scheme}://{user}:{HIDDEN_PASSWORD}@{host}{more}")
            }
            None => self.0.clone(),
        }
    }
}

impl fmt::Debug for CatalogUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// What this process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Takes records.
    pub ingest: bool,
    /// Answers queries.
    pub query: bool,
    /// Builds, merges and sweeps.
    pub build: bool,
}

impl Default for Roles {
    fn default() -> Self {
        Self { ingest: true, query: true, build: true }
    }
}

impl Roles {
    pub(super) fn parse(value: &toml::Value) -> Result<Self, String> {
        let list = value.as_array().ok_or_else(|| format!("it is a {}", value.type_str()))?;
        let mut roles = Self { ingest: false, query: false, build: false };
        for role in list {
            match role.as_str() {
                Some("ingest") => roles.ingest = true,
                Some("query") => roles.query = true,
                Some("build") => roles.build = true,
                _ => return Err(format!("{role} is no role")),
            }
        }
        if list.is_empty() { Err("it is empty".to_owned()) } else { Ok(roles) }
    }

    /// The names of the roles.
    pub(crate) fn names(self) -> Vec<&'static str> {
        [("ingest", self.ingest), ("query", self.query), ("build", self.build)]
            .into_iter()
            .filter_map(|(name, is_there)| is_there.then_some(name))
            .collect()
    }

    pub(super) fn shown(self) -> String {
        format!("{:?}", self.names())
    }
}

impl ServerConfig {
    /// The bucket that objects are in; `None` where they are files.
    ///
    /// # Errors
    /// What is wrong with its address or its options.
    pub fn bucket(&self) -> Result<Option<Bucket>, String> {
        match (self.objects.as_str(), self.objects_options.0.is_empty()) {
            ("", true) => Ok(None),
            ("", false) => Err("objects_options are for a bucket, and none is named".to_owned()),
            (url, _) => Bucket::new(url, self.objects_options.0.clone()).map(Some),
        }
    }

    /// The catalog's address; `None` where it is a file.
    pub fn catalog_address(&self) -> Option<CatalogAddress> {
        (!self.catalog.0.is_empty()).then(|| self.catalog.0.clone().into())
    }

    /// What of these settings does not go together: the setting, and why.
    pub(super) fn check_cluster(&self) -> Result<(), (&'static str, String)> {
        self.bucket().map_err(|reason| ("objects", reason))?;
        let (is_shared, has_bucket) = (!self.catalog.0.is_empty(), !self.objects.is_empty());
        if is_shared && !has_bucket {
            let reason = "servers that share a catalog share their objects, too: set `objects`";
            return Err(("catalog", reason.to_owned()));
        }
        if !is_shared && self.roles != Roles::default() {
            let reason = "a server that has its catalog to itself has all roles: set `catalog`";
            return Err(("roles", reason.to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{explain, parse};

    const CLUSTER: &str = "objects = \"s3://logs/lodge\"\n\
        catalog = \"postgres://lodge:hush@db:5432/lodge?sslmode=require\"\n\
        objects_options = { region = \"eu-1\", access_key_id = \"me\", \
        secret_access_key = \"hush\" }\n";

    #[test]
    fn secrets_of_a_cluster_are_never_shown() {
        let config = parse(CLUSTER, "x").unwrap();
        let explained = explain(&config);
        assert!(
            explained.contains("region = \"eu-1\", secret_access_key = \"(hidden)\""),
            "{explained}"
        );
        assert!(explained.contains("postgres://lodge:hidden@db:5432/lodge?sslmode=require"));
        assert!(!format!("{config:?}{explained}").contains("hush"));
        for wrong in ["queries_max = 0", "catalog = \"mysql://lodge:hush@db\"", "roles = []"] {
            let name = wrong.split(' ').next().unwrap();
            let others: String = CLUSTER
                .lines()
                .filter(|l| !l.starts_with(name))
                .map(|l| format!("{l}\n"))
                .collect();
            let error = parse(&format!("{others}{wrong}"), "x").unwrap_err().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
        // What was shown cannot be mistaken for what was meant.
        let error = parse(&explained, "x").unwrap_err().to_string();
        assert!(error.contains("put"), "{error}");
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        for (text, part) in [
            ("objects_options = { region = \"eu-1\" }", "none is named"),
            ("catalog = \"postgres://db/lodge\"", "set `objects`"),
            ("roles = [\"query\"]", "set `catalog`"),
            ("roles = [\"cook\"]", "\"cook\" is no role"),
        ] {
            let error = parse(text, "x").unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let config = parse(&format!("{CLUSTER}roles = [\"query\", \"build\"]"), "x").unwrap();
        assert_eq!(config.roles, Roles { ingest: false, query: true, build: true });
    }
}
