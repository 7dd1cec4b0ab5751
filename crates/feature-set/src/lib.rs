//! No code: the features of a few small dependencies, named once for the whole workspace.
//!
//! Cargo compiles a dependency anew for every set of features that it is asked for, and what is asked
//! for depends on the packages in hand: binaries alone, or tests with their tools. A different
//! `lexical-core` or `mio` below DataFusion means DataFusion twice, a quarter of an hour on two cores.
//! As a member of the workspace this crate asks for the larger set always. Build with `--workspace`
//! (or add `-p lodge-feature-set`) to profit.
