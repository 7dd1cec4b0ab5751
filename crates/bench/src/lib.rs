//! Workloads and measurements.
//!
//! - [`workload`]: a Kubernetes-like fleet as JSON lines, the same bytes for the same seed;
//! - [`corpus`]: a whole workload in a file, with the right answers about it;
//! - [`demo`]: five services that write realistic log files and rotate them, for `lodge demo`;
//! - [`run`], [`freshness`], [`restart`]: measurements of real servers and agents.
//!
//! Invariant: what is measured is known only from outside, through its commands, its HTTP interface
//! and its files, as the peers will be that Lodge is compared with. Nothing here can look faster
//! than what a user would see. (Only the preparation of [`restart`] uses the store's own library.)

pub mod classes;
pub mod corpus;
pub mod demo;
pub mod freshness;
pub mod process;
pub mod report;
pub mod restart;
pub mod run;
pub mod workload;

mod lodge;
mod rng;
mod target;

pub use rng::Rng;
