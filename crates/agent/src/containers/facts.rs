//! Which container wrote a log file, from the file's paths and from what Docker keeps beside it.
//!
//! ```text
//! /var/log/pods/<namespace>_<pod>_<uid>/<container>/<restarts>.log
//! /var/log/containers/<pod>_<namespace>_<container>-<id>.log           a link to the one above
//! /var/lib/docker/containers/<id>/<id>-json.log                        beside config.v2.json
//! ```
//!
//! Names in Kubernetes hold no underscore, so the parts of a path are told apart without doubt.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Most links that are followed from one path.
const LINKS_MAX: usize = 8;
/// Most entries of the folder of links that are looked at for a container's id.
const ENTRIES_MAX: usize = 20_000;
/// Longest `config.v2.json` that is read.
const DOCKER_CONFIG_BYTES_MAX: u64 = 4 << 20;

/// What is known of a container. A text that is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    /// `kubernetes.namespace`.
    pub namespace: String,
    /// `kubernetes.pod.name`.
    pub pod: String,
    /// `kubernetes.pod.uid`.
    pub pod_uid: String,
    /// `kubernetes.container.name`.
    pub container: String,
    /// `container.id`.
    pub id: String,
    /// `container.name`, as the runtime calls it.
    pub name: String,
    /// `container.image`.
    pub image: String,
    /// Further fields, with their names.
    pub fields: Vec<(String, String)>,
}

impl ContainerFacts {
    /// Takes over what is known in `other` and not here.
    pub fn fill_from(&mut self, other: ContainerFacts) {
        let pairs = [
            (&mut self.namespace, other.namespace),
            (&mut self.pod, other.pod),
            (&mut self.pod_uid, other.pod_uid),
            (&mut self.container, other.container),
            (&mut self.id, other.id),
            (&mut self.name, other.name),
            (&mut self.image, other.image),
        ];
        for (own, other) in pairs {
            if own.is_empty() {
                *own = other;
            }
        }
        self.fields.extend(other.fields);
    }

    /// Labels of the container's streams: a pod's name and container tell its records apart; its
    /// uid and the container's id would only say the same once more, and begin a stream at every
    /// restart.
    pub fn labels(&self) -> Vec<(&'static str, &str)> {
        let service = [&self.container, &self.name, &self.id].into_iter().find(|n| !n.is_empty());
        let mut labels = vec![("service", service.map_or("", String::as_str))];
        if self.pod.is_empty() {
            let name = if self.name.is_empty() { &self.id } else { &self.name };
            labels.push(("container.name", name));
        } else {
            labels.push(("kubernetes.namespace", &self.namespace));
            labels.push(("kubernetes.pod.name", &self.pod));
            labels.push(("kubernetes.container.name", &self.container));
        }
        labels
    }

    /// Fields of the container's records beside the labels.
    pub fn fields(&self) -> Vec<(String, String)> {
        let named = [
            ("kubernetes.pod.uid", &self.pod_uid),
            ("container.id", &self.id),
            ("container.name", &self.name),
            ("container.image", &self.image),
        ];
        let labels = self.labels();
        let named = named.into_iter().filter(|(name, value)| {
            !value.is_empty() && labels.iter().all(|(label, _)| label != name)
        });
        let named = named.map(|(name, value)| (name.to_owned(), value.clone()));
        named.chain(self.fields.iter().cloned()).collect()
    }
}

/// What the path of a log says by itself; `None` if it is not where container logs are.
pub fn of_path(path: &Path) -> Option<ContainerFacts> {
    let mut parts = path.iter().rev().map(|part| part.to_str().unwrap_or_default());
    let (file, folder) = (parts.next()?, parts.next()?);
    let (above, over) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if over == "pods" {
        return of_pod_path(above, folder);
    }
    if folder == "containers" && above == "log" {
        return of_link(file);
    }
    let of_docker = above == "containers" && file.starts_with(folder) && is_id(folder);
    of_docker.then(|| ContainerFacts { id: folder.to_owned(), ..ContainerFacts::default() })
}

fn of_pod_path(pod: &str, container: &str) -> Option<ContainerFacts> {
    let mut parts = pod.split('_');
    let (namespace, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
    let known = !namespace.is_empty() && !name.is_empty() && parts.next().is_none();
    known.then(|| ContainerFacts {
        namespace: namespace.to_owned(),
        pod: name.to_owned(),
        pod_uid: uid.to_owned(),
        container: container.to_owned(),
        ..ContainerFacts::default()
    })
}

fn of_link(file: &str) -> Option<ContainerFacts> {
    let mut parts = file.strip_suffix(".log")?.split('_');
    let (pod, namespace, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let (container, id) = rest.rsplit_once('-')?;
    let known = is_id(id) && !pod.is_empty() && !namespace.is_empty() && parts.next().is_none();
    known.then(|| ContainerFacts {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
        id: id.to_owned(),
        ..ContainerFacts::default()
    })
}

/// Whether a text is a container's id: 64 hexadecimal digits.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What is known of the container that writes the log at `path`: what the path and the paths that
/// it links to say, and what stands beside them.
pub fn find(path: &Path) -> Option<ContainerFacts> {
    let mut facts = of_path(path)?;
    let mut last = path.to_path_buf();
    for next in links(path) {
        facts.fill_from(of_path(&next).unwrap_or_default());
        last = next;
    }
    if facts.id.is_empty() {
        facts.id = id_from_links(path, &facts).unwrap_or_default();
    }
    facts.fill_from(of_docker_config(&last).unwrap_or_default());
    Some(facts)
}

/// The paths that `path` links to, one after the other.
fn links(path: &Path) -> impl Iterator<Item = PathBuf> {
    let next = |path: &PathBuf| {
        let target = std::fs::read_link(path).ok()?;
        Some(path.parent()?.join(target))
    };
    std::iter::successors(next(&path.to_path_buf()), next).take(LINKS_MAX)
}

/// The id of the container whose link leads to the pod's log at `path`.
fn id_from_links(path: &Path, facts: &ContainerFacts) -> Option<String> {
    let folder = path.ancestors().nth(4)?.join("containers");
    let begin = format!("{}_{}_{}-", facts.pod, facts.namespace, facts.container);
    let entries = std::fs::read_dir(folder).ok()?.take(ENTRIES_MAX).flatten();
    let links = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&begin));
    let ours = links.map(|entry| entry.path()).find(|link| {
        std::fs::read_link(link).is_ok_and(|to| to == path || link.with_file_name(to) == path)
    })?;
    of_path(&ours).map(|facts| facts.id)
}

/// The members of Docker's `config.v2.json` that are of use.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "Config", default)]
    config: DockerImage,
}

#[derive(Deserialize, Default)]
struct DockerImage {
    #[serde(rename = "Image", default)]
    image: String,
}

fn of_docker_config(log: &Path) -> Option<ContainerFacts> {
    let path = log.with_file_name("config.v2.json");
    if std::fs::metadata(&path).ok()?.len() > DOCKER_CONFIG_BYTES_MAX {
        return None;
    }
    let config: DockerConfig = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    Some(ContainerFacts {
        name: config.name.trim_start_matches('/').to_owned(),
        image: config.config.image,
        ..ContainerFacts::default()
    })
}
