//! Faults: real Lodge processes, real kills, and an oracle that knows what must be there afterwards.
//!
//! Nothing in this crate links the storage engine. It starts the real `lodge` and `lodge-agent`
//! binaries, talks to them over HTTP and the file system, and hurts them with signals and with a
//! full disk. What it believes about the far end comes from LogsQL queries alone, as a user's would.
//!
//! * [`mint`]: every line that a rig writes; its text can be made again from its number.
//! * [`ledger`]: what was sent and what was acknowledged.
//! * [`far_end`]: reads everything back and counts how often each line is there.
//! * [`report`]: the verdict: acknowledged / lost / invented / corrupted / doubled, and not idle.
//! * [`process`]: servers and agents as children that never outlive the rig.
//! * [`proxy`]: a network that loses answers and cuts connections.
//! * [`load`]: writers (files under rotation, HTTP) and a reader that watch the service.
//! * [`kill`]: rig K, which kills and stops processes at random moments.
//! * [`small_disk`]: a file system that is easily filled.
//! * [`http`]: a client that can be as rude as a test needs, and knows how far a request got.

pub mod far_end;
pub mod http;
pub mod kill;
pub mod ledger;
pub mod load;
pub mod mint;
pub mod process;
pub mod proxy;
pub mod report;
pub mod small_disk;
