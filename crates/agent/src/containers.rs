//! Container logs as a source: where runtimes keep them, what shape their lines have, and what the
//! place of a file says about the container that wrote it.

pub mod facts;
pub mod kubernetes;
mod learning;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::{FileSource, Start};

/// Whether the container logs of this machine are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainersMode {
    /// Not.
    #[default]
    Off,
    /// Where there are any.
    Auto,
}

/// The container logs of this machine as a source.
#[derive(Clone, Debug)]
pub struct ContainerSource {
    /// Whether to read them.
    pub mode: ContainersMode,
    /// Where a file is begun that no one knows yet and that was there before the agent.
    pub start: Start,
    /// Globs of paths that are left out.
    pub exclude: Vec<String>,
    /// Labels of the streams, beside those of the container.
    pub labels: BTreeMap<String, String>,
    /// Whose API is asked for what the path does not say.
    pub kubernetes: KubernetesApi,
    /// Root of the file system in which the well-known places are; not a setting.
    pub root: PathBuf,
}

/// Which Kubernetes API is asked about pods.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum KubernetesApi {
    /// The one of the cluster that the agent runs in, if it runs in one.
    #[default]
    Auto,
    /// None.
    Off,
    /// The one at this address.
    At(String),
    /// The one at this address, asked as a pod asks: with the authority and the token in this folder.
    AsPod(String, PathBuf),
}

impl Default for ContainerSource {
    fn default() -> Self {
        ContainerSource {
            mode: ContainersMode::Off,
            start: Start::Beginning,
            exclude: Vec::new(),
            labels: BTreeMap::new(),
            kubernetes: KubernetesApi::Auto,
            root: PathBuf::from("/"),
        }
    }
}

impl ContainerSource {
    /// The well-known places as a source of files. Pods come first: their paths say the most, and
    /// a file that is found in several places is read once, as the one found first.
    pub fn files(&self) -> FileSource {
        let places = [
            "var/log/pods/*/*/*.log*",
            "var/log/containers/*.log",
            "var/lib/docker/containers/*/*-json.log*",
        ];
        let paths = places.iter().map(|place| self.root.join(place).to_string_lossy().into_owned());
        FileSource {
            paths: paths.collect(),
            exclude: self.exclude.clone(),
            labels: self.labels.clone(),
            start: self.start,
            ..FileSource::default()
        }
    }
}
