//! All tests of the query engine, in one binary: linking DataFusion takes long.
#![allow(clippy::unwrap_used)]

mod aggregates;
mod answers;
mod differential;
mod endpoints;
mod explain;
mod filters;
mod fixture;
mod fresh;
mod fuzzed;
mod limits;
mod model;
mod naive;
mod naive_stats;
mod servers;
mod spread;
mod sql;
mod stages;
mod stats;
mod syntax;
mod tail;
mod transforms;
mod transforms_model;
mod views;
