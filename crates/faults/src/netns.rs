//! A network namespace of the rig's own, joined to the host by a pair of virtual interfaces: cables
//! that can be pulled and made bad, for one process alone.
//!
//! Invariant: the namespace and its interfaces are removed when the handle is dropped.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Wrap;

/// A namespace, and the host's end of its only cable.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    host_link: String,
    host: Ipv4Addr,
    hosts: PathBuf,
}

fn ip(args: &[&str]) -> io::Result<()> {
    command("ip", args)
}

fn command(program: &str, args: &[&str]) -> io::Result<()> {
    let output = Command::new(program).args(args).output()?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{program} {}: {why}", args.join(" "))))
}

impl Namespace {
    /// Makes a namespace; needs root. In it `localhost` is the host at the other end of the cable,
    /// for a server answers to its own names only; a file in `folder` says so.
    pub fn make(folder: &Path) -> io::Result<Namespace> {
        let id = std::process::id();
        let name = format!("lodge-faults-{id}");
        // An interface's name has at most 15 letters.
        let host_link = format!("lfh{id}");
        let inner_link = format!("lfn{id}");
        // 198.18/15 is set aside for tests of networks: no real host is there.
        let [.., high, low] = id.to_be_bytes();
        let host = Ipv4Addr::new(198, 18 | (high & 1), low, 1);
        let hosts = folder.join("hosts");
        fs::write(&hosts, format!("{host} localhost\n"))?;
        ip(&["netns", "add", &name])?;
        let namespace = Namespace { name, host_link, host, hosts };
        let (name, host_link) = (&namespace.name, &namespace.host_link);
        let inner = format!("{}/30", Ipv4Addr::from_bits(host.to_bits() + 1));
        ip(&["link", "add", host_link, "type", "veth", "peer", "name", &inner_link])?;
        ip(&["link", "set", &inner_link, "netns", name])?;
        ip(&["addr", "add", &format!("{host}/30"), "dev", host_link])?;
        ip(&["link", "set", host_link, "up"])?;
        ip(&["-n", name, "addr", "add", &inner, "dev", &inner_link])?;
        ip(&["-n", name, "link", "set", &inner_link, "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The host's address on the cable.
    pub fn host(&self) -> IpAddr {
        self.host.into()
    }

    /// How a process is started inside.
    pub fn wrap(&self) -> Wrap {
        // The namespace has mounts of its own, which end with the process.
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        let hosts = self.hosts.display().to_string();
        let prefix = ["ip", "netns", "exec", &self.name, "sh", "-c", script, &hosts];
        let prefix = prefix.map(str::to_owned).to_vec();
        Wrap { prefix, envs: Vec::new() }
    }

    /// Pulls the cable: packets vanish, and nobody is told.
    pub fn pull(&self) -> io::Result<()> {
        ip(&["link", "set", &self.host_link, "down"])
    }

    /// Puts the cable back.
    pub fn put_back(&self) -> io::Result<()> {
        ip(&["link", "set", &self.host_link, "up"])
    }

    /// Makes the cable bad in the words of `tc qdisc … netem`.
    pub fn make_bad(&self, how: &[&str]) -> io::Result<()> {
        let mut args = vec!["qdisc", "replace", "dev", &self.host_link, "root", "netem"];
        args.extend(how);
        command("tc", &args)
    }

    /// Makes the cable good again.
    pub fn make_good(&self) -> io::Result<()> {
        command("tc", &["qdisc", "del", "dev", &self.host_link, "root"])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Either may be gone already: the other end of the cable went with the namespace.
        let _gone = ip(&["link", "del", &self.host_link]);
        let _gone = ip(&["netns", "del", &self.name]);
    }
}
