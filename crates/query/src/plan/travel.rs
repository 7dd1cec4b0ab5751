//! Functions on their way to another server: ours by what they are made of, DataFusion's by name.
//!
//! Invariant: a function that the other side would not have, or would have otherwise, does not travel.

use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{FunctionRegistry, TaskContext};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use lodge_segment::predicate::float_bits;
use serde::{Deserialize, Serialize};

use super::functions::{Spill, ValueFunction, value_function};
use super::gather::Gather;
use super::trend::Parts;
use super::{quantile, trend};

/// A function over values.
#[derive(Serialize, Deserialize)]
enum Scalar {
    Ours(ValueFunction),
    Named(String),
}

/// A function over groups of values.
#[derive(Serialize, Deserialize)]
enum Aggregate {
    Gather(Gather),
    Trend(Parts),
    Quantile {
        #[serde(with = "float_bits")]
        phi: f64,
        spill: Spill,
    },
    Named(String),
}

/// What functions there are, here as there.
pub(crate) struct Functions(SessionState);

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Functions")
    }
}

impl Functions {
    /// Those that `state` knows by name, and ours.
    pub(crate) fn new(state: SessionState) -> Self {
        Self(state)
    }

    /// A function over groups as it travels.
    pub(crate) fn encode_aggregate(&self, function: &AggregateUDF) -> Result<Vec<u8>> {
        let sent = if let Some(gather) = Gather::of_function(function) {
            Aggregate::Gather(gather.clone())
        } else if let Some(parts) = trend::parts_of(function) {
            Aggregate::Trend(parts)
        } else if let Some((phi, spill)) = quantile::quantile_of(function) {
            Aggregate::Quantile { phi, spill }
        } else if self.0.udaf(function.name()).is_ok_and(|known| *known == *function) {
            Aggregate::Named(function.name().to_owned())
        } else {
            return Err(stays(function.name()));
        };
        serde_json::to_vec(&sent).map_err(unreadable)
    }

    /// A function over groups that has arrived.
    pub(crate) fn decode_aggregate(&self, bytes: &[u8]) -> Result<Arc<AggregateUDF>> {
        Ok(match serde_json::from_slice(bytes).map_err(unreadable)? {
            Aggregate::Gather(gather) => Arc::new(gather.function()),
            Aggregate::Trend(parts) if !parts.is_valid() => return Err(stays("trend")),
            Aggregate::Trend(parts) => Arc::new(trend::function(parts)),
            Aggregate::Quantile { phi, spill } => Arc::new(quantile::function(phi, spill)),
            Aggregate::Named(name) => self.0.udaf(&name)?,
        })
    }
}

impl PhysicalExtensionCodec for Functions {
    fn try_decode(
        &self,
        _: &[u8],
        _: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(stays("a plan"))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        _: &mut Vec<u8>,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        Err(stays(node.name()))
    }

    fn try_encode_udf(&self, function: &ScalarUDF, bytes: &mut Vec<u8>) -> Result<()> {
        let sent = if let Some(ours) = value_function(function) {
            Scalar::Ours(ours.clone())
        } else if self.0.udf(function.name()).is_ok_and(|known| *known == *function) {
            Scalar::Named(function.name().to_owned())
        } else {
            return Err(stays(function.name()));
        };
        serde_json::to_writer(bytes, &sent).map_err(unreadable)
    }

    fn try_decode_udf(&self, _: &str, bytes: &[u8]) -> Result<Arc<ScalarUDF>> {
        Ok(match serde_json::from_slice(bytes).map_err(unreadable)? {
            Scalar::Ours(ours) => Arc::new(ours.function()),
            Scalar::Named(name) => self.0.udf(&name)?,
        })
    }
}

fn stays(what: &str) -> DataFusionError {
    DataFusionError::NotImplemented(format!("{what} is not sent to other servers"))
}

fn unreadable(error: serde_json::Error) -> DataFusionError {
    DataFusionError::Internal(format!("a function cannot travel: {error}"))
}
