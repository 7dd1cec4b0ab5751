//! Workloads and measurements.
//!
//! - [`workload`]: a Kubernetes-like fleet as JSON lines, the same bytes for the same seed;
//! - [`corpus`]: a whole workload in a file, with the right answers about it;
//! - [`demo`]: five services that write realistic log files and rotate them, for `lodge demo`.
//!
//! Invariant: this crate knows Lodge only from outside, through its commands, its HTTP interface
//! and its files, as it will know the peers that Lodge is compared with. Nothing here can look
//! faster than what a user would see.

pub mod corpus;
pub mod demo;
pub mod workload;

mod rng;

pub use rng::Rng;
