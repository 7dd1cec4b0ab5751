//! A small file system in memory, so that a full disk is a second away.
//!
//! Mounting needs privileges. Where it is not permitted the caller is told so and must cause the
//! same condition in another way; nothing here skips in silence.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts a tmpfs of `mib` MiB at `path`, which is made.
    pub fn mount(path: &Path, mib: u64) -> io::Result<SmallDisk> {
        std::fs::create_dir_all(path)?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "lodge-faults"])
            .arg(path)
            .output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(SmallDisk { path: path.to_owned() })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, for a process that is just being killed may still hold a file.
        let _stays_until_reboot = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
