//! What the Kubernetes API knows of a pod beyond the path of its log: labels, node, images.
//!
//! The path's facts suffice without it: every question has a deadline, the answers are few and
//! small, and a failure is remembered for a while instead of being repeated for every file.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::connection::Credentials;
use crate::containers::KubernetesApi;
use crate::containers::facts::ContainerFacts;

/// How long a file's first line waits for what the API says about its pod.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// Questions that are under way at once.
const CONCURRENCY: usize = 4;
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 2 << 20;
/// Most pods that are remembered.
const PODS_MAX: usize = 2_048;
/// How long an answer is used again, and how long a failure is.
const REMEMBER: Duration = Duration::from_secs(300);
const REMEMBER_FAILURE: Duration = Duration::from_secs(30);
/// Most labels of a pod that become fields, and the longest value.
const LABELS_MAX: usize = 64;
const LABEL_BYTES_MAX: usize = 256;
/// Where Kubernetes puts the identity of a pod.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Asks one API about pods.
#[derive(Debug)]
pub struct Kubernetes {
    client: reqwest::Client,
    base: String,
    /// The folder with the authority and the token.
    account: Option<PathBuf>,
    permits: Semaphore,
    pods: Mutex<HashMap<String, Remembered>>,
}

#[derive(Debug, Clone)]
struct Remembered {
    pod: Option<Pod>,
    at: Instant,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default)]
struct Pod {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default)]
struct Metadata {
    uid: String,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default)]
struct ContainerStatus {
    name: String,
    image: String,
    #[serde(rename = "containerID")]
    container_id: String,
}

impl Kubernetes {
    /// The API that the settings name, if there is one.
    pub fn new(api: &KubernetesApi) -> Option<Self> {
        let (base, account) = match api {
            KubernetesApi::Off => return None,
            KubernetesApi::At(base) => (base.trim_end_matches('/').to_owned(), None),
            KubernetesApi::AsPod(base, account) => (base.clone(), Some(account.clone())),
            KubernetesApi::Auto => (in_cluster_address()?, Some(PathBuf::from(ACCOUNT))),
        };
        let client = match client(&base, account.as_deref()) {
            Ok(client) => client,
            Err(error) => {
                tracing::warn!(error, "the Kubernetes API is not asked about pods");
                return None;
            }
        };
        let permits = Semaphore::new(CONCURRENCY);
        Some(Kubernetes { client, base, account, permits, pods: Mutex::default() })
    }

    /// What the API knows of a container beyond `known`, within the deadline.
    pub async fn facts(&self, known: &ContainerFacts) -> Option<ContainerFacts> {
        let key = format!("{}/{}", known.namespace, known.pod);
        let pod = match self.remembered(&key) {
            Some(pod) => pod,
            None => {
                let asked = tokio::time::timeout(DEADLINE, self.ask(known)).await;
                let pod = match asked.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
                    Ok(pod) => Some(pod),
                    Err(problem) => {
                        tracing::debug!(pod = key, problem, "the API says nothing of a pod");
                        None
                    }
                };
                self.remember(key, pod.clone());
                pod
            }
        };
        // A pod of the same name may have taken the place of the one that wrote the file.
        let pod = pod.filter(|pod| known.pod_uid.is_empty() || pod.metadata.uid == known.pod_uid);
        Some(facts_of(&pod?, known))
    }

    fn remembered(&self, key: &str) -> Option<Option<Pod>> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pods.get(key)?;
        let longest = if known.pod.is_some() { REMEMBER } else { REMEMBER_FAILURE };
        (known.at.elapsed() < longest).then(|| known.pod.clone())
    }

    fn remember(&self, key: String, pod: Option<Pod>) {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        if pods.len() >= PODS_MAX {
            pods.clear();
        }
        pods.insert(key, Remembered { pod, at: Instant::now() });
    }

    async fn ask(&self, known: &ContainerFacts) -> Result<Pod, String> {
        let _permit = self.permits.acquire().await.map_err(|error| error.to_string())?;
        let (namespace, pod) = (&known.namespace, &known.pod);
        let is_name = |name: &str| {
            name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        };
        if !is_name(namespace) || !is_name(pod) {
            return Err("no name that Kubernetes gives".to_owned());
        }
        let mut request =
            self.client.get(format!("{}/api/v1/namespaces/{namespace}/pods/{pod}", self.base));
        if let Some(account) = &self.account {
            // Read each time: tokens expire and are replaced in place.
            let token = std::fs::read_to_string(account.join("token"));
            request = request.bearer_auth(token.map_err(|error| error.to_string())?.trim());
        }
        let mut response = request.send().await.map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("status {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| error.to_string())? {
            body.extend_from_slice(&part);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(format!("answer longer than {ANSWER_BYTES_MAX} bytes"));
            }
        }
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }
}

fn facts_of(pod: &Pod, known: &ContainerFacts) -> ContainerFacts {
    let statuses = pod.status.container_statuses.iter().chain(&pod.status.init_container_statuses);
    let status = statuses.into_iter().find(|status| status.name == known.container);
    let mut facts = ContainerFacts { pod_uid: pod.metadata.uid.clone(), ..Default::default() };
    if let Some(status) = status {
        facts.image = status.image.clone();
        // "containerd://4f…"
        let id = status.container_id.split_once("://").map_or("", |(_, id)| id);
        facts.id = id.to_owned();
    }
    if !pod.spec.node_name.is_empty() {
        facts.fields.push(("kubernetes.node.name".to_owned(), pod.spec.node_name.clone()));
    }
    for (name, value) in pod.metadata.labels.iter().take(LABELS_MAX) {
        if !value.is_empty() && value.len() <= LABEL_BYTES_MAX {
            facts.fields.push((format!("kubernetes.labels.{name}"), value.clone()));
        }
    }
    facts
}

/// The address of the API of the cluster that this process runs in.
fn in_cluster_address() -> Option<String> {
    let host = std::env::var("KUBERNETES_SERVICE_HOST").ok().filter(|host| !host.is_empty())?;
    let port = std::env::var("KUBERNETES_SERVICE_PORT").unwrap_or_else(|_| "443".to_owned());
    // An IPv6 address stands in brackets.
    Some(if host.contains(':') {
        format!("https://[{host}]:{port}")
    } else {
        format!("https://{host}:{port}")
    })
}

fn client(base: &str, account: Option<&Path>) -> Result<reqwest::Client, String> {
    let server_ca = account.map(|account| account.join("ca.crt"));
    let credentials = Credentials { server_ca, ..Credentials::default() };
    let builder = credentials.client(&[base]).map_err(|error| error.to_string())?;
    let builder = builder
        .no_proxy()
        .connect_timeout(DEADLINE)
        .timeout(DEADLINE)
        .user_agent(concat!("lodge-agent/", env!("CARGO_PKG_VERSION")));
    builder.build().map_err(|error| error.to_string())
}
