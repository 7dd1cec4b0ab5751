//! Hints from the kernel about which files changed, so that quiet files need not be looked at
//! often.
//!
//! Only hints: files are looked at without them too, a little later. Therefore an event that is
//! lost (queue overflow, too many folders, a file system without events) loses nothing.

use std::collections::HashSet;
use std::path::PathBuf;

/// What changed since the last look.
#[derive(Debug, Default)]
pub struct Hints {
    /// Files that were written to.
    pub written: HashSet<PathBuf>,
    /// Files came, went or were renamed.
    pub moved: bool,
    /// Events were lost: look at everything.
    pub lost: bool,
}

#[cfg(target_os = "linux")]
mod inotify_watch {
    use std::collections::HashMap;
    use std::ffi::OsStr;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::os::unix::ffi::OsStrExt;
    use std::path::{Path, PathBuf};

    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

    use super::Hints;

    /// Most folders that are watched.
    const FOLDERS_MAX: usize = 8192;
    /// Most events taken at one look; the rest waits for the next.
    const EVENTS_MAX: usize = 65_536;

    /// Watches folders with inotify.
    #[derive(Debug)]
    pub struct Watch {
        inotify: Option<OwnedFd>,
        folders: HashMap<i32, PathBuf>,
        watched: std::collections::HashSet<PathBuf>,
    }

    impl Watch {
        /// Watches nothing yet.
        pub fn new() -> Self {
            let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
                .inspect_err(|error| tracing::info!(%error, "no inotify; files are polled"))
                .ok();
            Watch { inotify, folders: HashMap::new(), watched: Default::default() }
        }

        /// Watches `folder`, if it can be.
        pub fn add(&mut self, folder: &Path) {
            let Some(inotify) = &self.inotify else { return };
            if self.watched.contains(folder) || self.watched.len() >= FOLDERS_MAX {
                return;
            }
            let flags = WatchFlags::MODIFY
                | WatchFlags::CREATE
                | WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO
                | WatchFlags::DELETE
                | WatchFlags::ONLYDIR;
            if let Ok(id) = inotify::add_watch(inotify, folder, flags) {
                self.folders.insert(id, folder.to_path_buf());
                self.watched.insert(folder.to_path_buf());
            }
        }

        /// Takes the events that came since the last call.
        pub fn take(&mut self) -> Hints {
            let mut hints = Hints::default();
            let Some(inotify) = &self.inotify else { return hints };
            let mut buffer = [MaybeUninit::<u8>::uninit(); 16 << 10];
            let mut reader = inotify::Reader::new(inotify, &mut buffer);
            // A busy writer's events repeat: the last one is remembered to skip its like.
            let mut last: (i32, Vec<u8>) = (-1, Vec::new());
            for _ in 0..EVENTS_MAX {
                let Ok(event) = reader.next() else { break };
                if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                    hints.lost = true;
                    continue;
                }
                if event.events().contains(ReadFlags::IGNORED) {
                    if let Some(folder) = self.folders.remove(&event.wd()) {
                        self.watched.remove(&folder);
                    }
                    continue;
                }
                let name = event.file_name().map(|name| name.to_bytes()).unwrap_or_default();
                if !event.events().contains(ReadFlags::MODIFY) {
                    hints.moved = true;
                    continue;
                }
                if last.0 == event.wd() && last.1 == name {
                    continue;
                }
                if let Some(folder) = self.folders.get(&event.wd()) {
                    hints.written.insert(folder.join(OsStr::from_bytes(name)));
                }
                last.0 = event.wd();
                last.1.clear();
                last.1.extend_from_slice(name);
            }
            hints
        }
    }
}

#[cfg(target_os = "linux")]
pub use inotify_watch::Watch;

/// Watches nothing: on this system files are polled.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, Default)]
pub struct Watch;

#[cfg(not(target_os = "linux"))]
impl Watch {
    /// Watches nothing.
    pub fn new() -> Self {
        Watch
    }

    /// Does nothing.
    pub fn add(&mut self, _folder: &std::path::Path) {}

    /// No hints.
    pub fn take(&mut self) -> Hints {
        Hints::default()
    }
}
