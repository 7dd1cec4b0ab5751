//! The spool at its boundary: what is appended comes back, whatever happens to disk and process.
#![allow(clippy::unwrap_used)]

#[path = "spool/behaviour.rs"]
mod behaviour;
#[path = "spool/crash.rs"]
mod crash;
#[path = "spool/driver.rs"]
mod driver;
#[path = "spool/errors.rs"]
mod errors;
#[path = "spool/fuzz.rs"]
mod fuzz;
#[path = "spool/golden.rs"]
mod golden;
#[path = "spool/model.rs"]
mod model;
#[path = "spool/simulated.rs"]
mod simulated;
