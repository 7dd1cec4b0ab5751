//! How the process gets its memory, and how long freed memory stays with it.
//!
//! Records pass through buffers of megabytes that live for milliseconds. Memory that goes back to
//! the system in between is cleared by it again when it is next touched, which was a quarter of
//! the CPU of taking records in. Huge pages are cleared whole at their first touch, also where a
//! twentieth of them is ever used. The allocator reads its options from the environment before
//! `main`, and has no safe call to set them later: so a command that moves much data starts itself
//! once more, in the same process, with its options set.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// The allocator's own variables; whoever sets the first has the last word.
///
/// For so many milliseconds freed memory is kept: a burst's memory is given back soon after it.
const KEPT_MS: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "60000");
/// No huge pages.
const HUGE_PAGES: (&str, &str) = ("MIMALLOC_ALLOW_THP", "0");

/// Sees to it that freed memory is kept for a while. Does not return when it has to start the
/// program anew; when that cannot be done, the program goes on as it is, only slower.
pub fn keep_freed_memory() {
    if env::var_os(KEPT_MS.0).is_some() {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let mut arguments = env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    let error = again.args(arguments).envs([KEPT_MS, HUGE_PAGES]).exec();
    tracing::debug!(%error, "cannot start with the allocator's options set");
}
