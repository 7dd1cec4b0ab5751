//! All tests of the query engine, in one binary: linking DataFusion takes long.
#![allow(clippy::unwrap_used)]

mod aggregates;
mod answers;
mod endpoints;
mod explain;
mod fixture;
mod limits;
mod model;
mod naive;
mod sql;
mod syntax;
mod tail;
mod views;
