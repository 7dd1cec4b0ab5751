//! Workloads and measurements.
//!
//! - [`workload`]: three kinds of logs as JSON lines, the same bytes for the same seed;
//! - [`question`], [`oracle`], [`check`]: what is asked about them and the right answers;
//! - [`corpus`]: a whole workload in a file, with the right answers about it;
//! - [`demo`]: five services that write realistic log files and rotate them, for `lodge demo`;
//! - [`doors`]: what each protocol costs by which logs come in, floods of datagrams, and crowds;
//! - [`run`]: Lodge beside its peers; [`languages`]: SQL beside LogsQL; [`scale`], [`interference`],
//!   [`freshness`], [`restart`]: more measurements of real servers and agents.
//!
//! Invariant: what is measured is known only from outside, through its commands, its HTTP interface
//! and its files, as its peers are. Nothing here can look faster than what a user would see. (Only
//! the preparation of [`restart`] uses the store's own library.)

pub mod check;
pub mod corpus;
pub mod demo;
pub mod doors;
pub mod freshness;
pub mod interference;
pub mod languages;
pub mod oracle;
pub mod process;
pub mod question;
pub mod report;
pub mod restart;
pub mod run;
pub mod scale;
pub mod shipping;
pub mod workload;

mod clickhouse;
mod load;
mod lodge;
mod lodge_sql;
mod logsql;
mod matcher;
mod measure;
mod ripgrep;
mod rng;
mod sender;
mod shippers;
mod table;
mod target;
pub mod tenants;
mod victoria_logs;

pub use rng::Rng;
