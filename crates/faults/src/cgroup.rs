//! A control group with a memory limit, for one process: version 2 where it has the memory
//! controller, else version 1.
//!
//! Invariant: the group is removed when the handle is dropped; its process must be gone by then.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::process::Wrap;

/// A group of this rig's own.
#[derive(Debug)]
pub struct MemoryLimit {
    path: PathBuf,
    v2: bool,
}

impl MemoryLimit {
    /// Makes a group that may hold so many bytes; needs root.
    pub fn make(bytes: u64) -> io::Result<MemoryLimit> {
        let root = Path::new("/sys/fs/cgroup");
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let v2 = controllers.split_ascii_whitespace().any(|name| name == "memory");
        let parent = if v2 { root.to_owned() } else { root.join("memory") };
        let path = parent.join(format!("lodge-faults-{}", std::process::id()));
        fs::create_dir(&path)?;
        let limit = MemoryLimit { path, v2 };
        let file = if v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(limit.path.join(file), bytes.to_string())?;
        Ok(limit)
    }

    /// How a process is started inside.
    pub fn wrap(&self) -> Wrap {
        let script = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";
        let path = self.path.display().to_string();
        let prefix = vec!["sh".to_owned(), "-c".to_owned(), script.to_owned(), path];
        Wrap { prefix, envs: Vec::new() }
    }

    /// How many processes the kernel has killed for the limit.
    pub fn kills(&self) -> u64 {
        let file = if self.v2 { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // A process that was just killed may still be leaving.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
