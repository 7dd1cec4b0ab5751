//! Faults: real Lodge processes, real kills, and an oracle that knows what must be there afterwards.
//!
//! Nothing in this crate links the storage engine. It starts the real `lodge` and `lodge-agent`
//! binaries, talks to them over HTTP and the file system, and hurts them from outside. What it
//! believes about the far end comes from LogsQL queries alone, as a user's would.
//!
//! The oracle:
//! * [`mint`]: every line that a rig writes; its text can be made again from its number.
//! * [`ledger`]: what was sent and what was acknowledged.
//! * [`far_end`]: reads everything back and counts how often each line is there.
//! * [`report`]: the verdict: acknowledged / lost / invented / corrupted / doubled, and not idle.
//!
//! What rigs stand on:
//! * [`process`], [`agent`]: servers and agents as children that never outlive the rig.
//! * [`doors`]: the protocols by which writers send; [`writers`]: one for each.
//! * [`load`]: writers (files under rotation, HTTP) and a reader that watch the service.
//! * [`rig`]: both together, with the comparisons that every rig makes.
//! * [`http`]: a client that can be as rude as a test needs, and knows how far a request got.
//!
//! Rigs, which [`suite`] lists and runs, and their tools:
//! * [`kill`], random kills and stops; [`doors_kill`], the same of the server while every protocol
//!   that acknowledges sends; [`points`], kills at each system call of a short load.
//! * [`disk`], full disks, made by [`small_disk`].
//! * [`syscalls`], system calls that fail, by [`strace`].
//! * [`network`], bad weather of a [`proxy`] and bad cables of a [`netns`].
//! * [`memory`], [`hostile`] input under the limit of a [`cgroup`].
//! * [`clock`], clocks that jump.

pub mod agent;
pub mod cgroup;
pub mod clock;
pub mod cluster;
pub mod disk;
pub mod doors;
pub mod doors_kill;
pub mod far_end;
pub mod hostile;
pub mod http;
pub mod kill;
pub mod ledger;
pub mod load;
pub mod memory;
pub mod mint;
pub mod netns;
pub mod network;
pub mod object_store;
pub mod objects;
pub mod points;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod report;
pub mod rig;
pub mod small_disk;
pub mod strace;
pub mod suite;
pub mod syscalls;
pub mod writers;
