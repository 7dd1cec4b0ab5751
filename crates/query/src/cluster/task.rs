//! What one server asks another to do.
//!
//! It is JSON: tasks are small, and of servers of one version alone. Schemas and expressions are in
//! the encodings of Arrow and DataFusion, which are bytes, in Base64.
//!
//! Invariant: a task that arrived reads the same records, and makes the same of them, as the leaf that
//! it was made of; what cannot be written so that this holds is an error, and stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion_proto::physical_plan::from_proto::parse_physical_expr;
use datafusion_proto::physical_plan::to_proto::serialize_physical_expr;
use datafusion_proto::protobuf::PhysicalExprNode;
use lodge_record::{TenantId, field};
use lodge_segment::predicate::Predicate;
use lodge_store::{SegmentFacts, SegmentId, SegmentRef, Snapshot};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::error::QueryError;
use crate::plan::Functions;
use crate::request::Budget;
use crate::scan::{Function, GroupLimit, Grouping, Key, Shape, TextOf, Through, TopByTime};

/// Bytes in Base64.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Blob(String);

impl Blob {
    fn of(bytes: &[u8]) -> Self {
        Self(STANDARD.encode(bytes))
    }

    fn bytes(&self) -> Result<Vec<u8>, QueryError> {
        STANDARD.decode(&self.0).map_err(|error| broken(&error))
    }
}

fn broken(error: &dyn std::fmt::Display) -> QueryError {
    QueryError::internal(format!("a task of another server cannot be read: {error}"))
}

/// The columns of something.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SchemaSent(Blob);

impl SchemaSent {
    fn of(schema: &Schema) -> Result<Self, QueryError> {
        let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(|e| broken(&e))?;
        writer.finish().map_err(|e| broken(&e))?;
        Ok(Self(Blob::of(writer.get_ref())))
    }

    fn schema(&self) -> Result<SchemaRef, QueryError> {
        let bytes = self.0.bytes()?;
        let reader = StreamReader::try_new(bytes.as_slice(), None).map_err(|e| broken(&e))?;
        Ok(reader.schema())
    }
}

/// See [`Shape`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ShapeSent {
    table: SchemaSent,
    output: SchemaSent,
}

impl ShapeSent {
    pub(crate) fn of(shape: &Shape) -> Result<Self, QueryError> {
        let (table, output) = (SchemaSent::of(shape.table())?, SchemaSent::of(shape.output())?);
        Ok(Self { table, output })
    }

    pub(crate) fn shape(&self) -> Result<Shape, QueryError> {
        Ok(Shape::new(self.table.schema()?, self.output.schema()?))
    }
}

/// See [`SegmentFacts`].
#[derive(Debug, Serialize, Deserialize)]
struct SegmentSent {
    id: u64,
    level: u8,
    rows: u64,
    bytes: u64,
    arrow_bytes: u64,
    time_min_ns: i64,
    time_max_ns: i64,
    /// Its place among those of the task.
    schema: usize,
    /// Only if the predicate looks at them.
    streams: Option<Vec<String>>,
    created_ms: i64,
    object_key: String,
    object_offset: u64,
}

/// What is done with the records.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Work {
    /// All of them are wanted, in no order.
    Rows(ShapeSent),
    /// The first by time.
    Newest {
        shape: ShapeSent,
        rows: usize,
        newest: bool,
        /// The key that a row must exceed to be of use.
        bar: i64,
    },
    /// Sums.
    Groups(GroupsSent),
}

impl Work {
    /// The first by time, better than `bar`.
    pub(crate) fn newest(shape: &Shape, top: TopByTime, bar: i64) -> Result<Self, QueryError> {
        let TopByTime { rows, newest } = top;
        Ok(Self::Newest { shape: ShapeSent::of(shape)?, rows, newest, bar })
    }
}

/// What is left of a query's budget.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct BudgetSent {
    time_ms: u64,
    memory_bytes_max: usize,
    bytes_max: Option<u64>,
    rows_max: Option<u64>,
    allow_partial: bool,
}

/// A task as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    tenant: String,
    catalog_version: u64,
    schemas: Vec<SchemaSent>,
    segments: Vec<SegmentSent>,
    predicate: Predicate,
    budget: BudgetSent,
    pub(crate) work: Work,
}

impl Task {
    pub(crate) fn new(
        snapshot: &Snapshot,
        predicate: &Predicate,
        budget: &Budget,
        work: &Work,
    ) -> Result<Self, QueryError> {
        let by_stream = predicate.fields().contains(field::STREAM);
        let mut schemas = Vec::new();
        let mut known: BTreeMap<*const Schema, usize> = BTreeMap::new();
        let mut segments = Vec::with_capacity(snapshot.segments.len());
        for segment in &snapshot.segments {
            let schema = match known.get(&Arc::as_ptr(&segment.schema)) {
                Some(place) => *place,
                None => {
                    known.insert(Arc::as_ptr(&segment.schema), schemas.len());
                    schemas.push(SchemaSent::of(&segment.schema)?);
                    schemas.len() - 1
                }
            };
            let streams = segment.streams.as_ref().filter(|_| by_stream);
            segments.push(SegmentSent {
                id: segment.id.0,
                level: segment.level,
                rows: segment.rows,
                bytes: segment.bytes,
                arrow_bytes: segment.arrow_bytes,
                time_min_ns: segment.time_min_ns,
                time_max_ns: segment.time_max_ns,
                schema,
                streams: streams.map(|streams| streams.to_vec()),
                created_ms: segment.created_ms,
                object_key: segment.object_key().to_string(),
                object_offset: segment.object_offset(),
            });
        }
        let budget = BudgetSent {
            time_ms: u64::try_from(budget.time_max.as_millis()).unwrap_or(u64::MAX),
            memory_bytes_max: budget.memory_bytes_max,
            bytes_max: budget.bytes_max,
            rows_max: budget.rows_max,
            allow_partial: budget.allow_partial,
        };
        Ok(Self {
            tenant: snapshot.tenant.to_string(),
            catalog_version: snapshot.version,
            schemas,
            segments,
            predicate: predicate.clone(),
            budget,
            work: work.clone(),
        })
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, QueryError> {
        serde_json::to_vec(self).map_err(|error| broken(&error))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, QueryError> {
        serde_json::from_slice(bytes).map_err(|error| broken(&error))
    }

    /// The segments, as if the catalog had been asked.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, QueryError> {
        let tenant: TenantId = self.tenant.parse().map_err(|error| broken(&error))?;
        let schemas: Vec<SchemaRef> =
            self.schemas.iter().map(SchemaSent::schema).collect::<Result<_, _>>()?;
        let segment = |sent: &SegmentSent| {
            let schema = schemas.get(sent.schema).cloned();
            Ok(Arc::new(SegmentRef::from(SegmentFacts {
                id: SegmentId(sent.id),
                tenant: tenant.clone(),
                level: sent.level,
                rows: sent.rows,
                bytes: sent.bytes,
                arrow_bytes: sent.arrow_bytes,
                time_min_ns: sent.time_min_ns,
                time_max_ns: sent.time_max_ns,
                schema: schema.ok_or_else(|| broken(&"a segment's schema is missing"))?,
                streams: sent.streams.clone().map(Arc::from),
                created_ms: sent.created_ms,
                object_key: sent.object_key.as_str().into(),
                object_offset: sent.object_offset,
            })))
        };
        let segments = self.segments.iter().map(segment).collect::<Result<_, QueryError>>()?;
        Ok(Snapshot::of(self.catalog_version, tenant, segments))
    }

    pub(crate) fn predicate(&self) -> &Predicate {
        &self.predicate
    }

    pub(crate) fn budget(&self) -> Budget {
        let BudgetSent { time_ms, memory_bytes_max, bytes_max, rows_max, allow_partial } =
            self.budget;
        let time_max = Duration::from_millis(time_ms);
        Budget { time_max, memory_bytes_max, bytes_max, rows_max, allow_partial }
    }
}

/// See [`Grouping`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GroupsSent {
    keys: Vec<KeySent>,
    arguments: Vec<Blob>,
    functions: Vec<FunctionSent>,
    shape: Option<ShapeSent>,
    skips_nulls: bool,
    limit: Option<(usize, String)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum KeySent {
    Bucket { step_ns: i64, offset_ns: i64 },
    Text { of: TextOf, through: Option<ThroughSent> },
    Constant(Option<String>),
}

/// A text made of a field: of its only column, by the expression.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ThroughSent {
    column: SchemaSent,
    expression: Blob,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum FunctionSent {
    Rows,
    Distinct { of: TextOf, through: Option<ThroughSent>, empty: bool },
    Of(AggregateSent),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct AggregateSent {
    function: Blob,
    name: String,
    is_distinct: bool,
    ignores_nulls: bool,
    is_reversed: bool,
    /// How its first argument is ordered, if that is its way to say what it is of: descending, nulls
    /// first.
    order: Option<(bool, bool)>,
    arguments: Vec<usize>,
    filter: Option<usize>,
}

impl ThroughSent {
    fn of(through: &Through, functions: &Functions) -> Result<Self, QueryError> {
        let column = Field::new("value", through.data_type.clone(), true);
        let column = SchemaSent::of(&Schema::new(vec![column]))?;
        Ok(Self { column, expression: expression_sent(&through.expression, functions)? })
    }

    fn through(&self, functions: &Functions) -> Result<Through, QueryError> {
        let column = self.column.schema()?;
        let expression = expression(&self.expression, &column, functions)?;
        let field = column.fields().first().ok_or_else(|| broken(&"a key has no column"))?;
        Ok(Through { data_type: field.data_type().clone(), expression })
    }
}

fn expression_sent(
    expression: &Arc<dyn PhysicalExpr>,
    functions: &Functions,
) -> Result<Blob, QueryError> {
    Ok(Blob::of(&serialize_physical_expr(expression, functions)?.encode_to_vec()))
}

fn expression(
    sent: &Blob,
    schema: &Schema,
    functions: &Functions,
) -> Result<Arc<dyn PhysicalExpr>, QueryError> {
    let node = PhysicalExprNode::decode(sent.bytes()?.as_slice()).map_err(|e| broken(&e))?;
    Ok(parse_physical_expr(&node, &TaskContext::default(), schema, functions)?)
}

impl AggregateSent {
    fn of(
        aggregate: &AggregateFunctionExpr,
        arguments: &[usize],
        filter: Option<usize>,
        functions: &Functions,
    ) -> Result<Self, QueryError> {
        let order = match aggregate.order_bys() {
            [] => None,
            [only] => Some((only.options.descending, only.options.nulls_first)),
            _ => return Err(broken(&"an aggregate in several orders stays")),
        };
        if arguments.is_empty() {
            return Err(broken(&"an aggregate of nothing stays"));
        }
        Ok(Self {
            function: Blob::of(&functions.encode_aggregate(aggregate.fun())?),
            name: aggregate.name().to_owned(),
            is_distinct: aggregate.is_distinct(),
            ignores_nulls: aggregate.ignore_nulls(),
            is_reversed: aggregate.is_reversed(),
            order,
            arguments: arguments.to_vec(),
            filter,
        })
    }

    fn function(
        &self,
        all: &[Arc<dyn PhysicalExpr>],
        shape: Option<&Shape>,
        functions: &Functions,
    ) -> Result<Function, QueryError> {
        let argument = |place: &usize| {
            all.get(*place).cloned().ok_or_else(|| broken(&"an argument is missing"))
        };
        let own: Vec<_> = self.arguments.iter().map(argument).collect::<Result<_, _>>()?;
        let schema = shape.map_or_else(|| Arc::new(Schema::empty()), |s| s.output().clone());
        let order = match (self.order, own.first()) {
            (Some((descending, nulls_first)), Some(first)) => {
                let options = arrow::compute::SortOptions { descending, nulls_first };
                vec![PhysicalSortExpr { expr: first.clone(), options }]
            }
            _ => Vec::new(),
        };
        let function = functions.decode_aggregate(&self.function.bytes()?)?;
        let aggregate = AggregateExprBuilder::new(function, own)
            .schema(schema)
            .alias(&self.name)
            .with_distinct(self.is_distinct)
            .with_ignore_nulls(self.ignores_nulls)
            .with_reversed(self.is_reversed)
            .order_by(order)
            .build()?;
        if self.filter.is_some_and(|place| place >= all.len()) {
            return Err(broken(&"a filter is missing"));
        }
        Ok(Function::Of {
            aggregate: Arc::new(aggregate),
            arguments: self.arguments.clone(),
            filter: self.filter,
        })
    }
}

impl GroupsSent {
    pub(crate) fn of(
        grouping: &Grouping,
        limit: Option<&GroupLimit>,
        functions: &Functions,
    ) -> Result<Self, QueryError> {
        let through = |through: &Option<Through>| {
            through.as_ref().map(|through| ThroughSent::of(through, functions)).transpose()
        };
        let key = |key: &Key| {
            Ok(match key {
                Key::Bucket { step_ns, offset_ns } => {
                    KeySent::Bucket { step_ns: *step_ns, offset_ns: *offset_ns }
                }
                Key::Text { of, through: made } => {
                    KeySent::Text { of: of.clone(), through: through(made)? }
                }
                Key::Constant(text) => KeySent::Constant(text.clone()),
            })
        };
        let function = |function: &Function| {
            Ok(match function {
                Function::Rows => FunctionSent::Rows,
                Function::Distinct { of, through: made, empty } => FunctionSent::Distinct {
                    of: of.clone(),
                    through: through(made)?,
                    empty: *empty,
                },
                Function::Of { aggregate, arguments, filter } => {
                    FunctionSent::Of(AggregateSent::of(aggregate, arguments, *filter, functions)?)
                }
            })
        };
        Ok(Self {
            keys: grouping.keys.iter().map(key).collect::<Result<_, QueryError>>()?,
            arguments: grouping
                .arguments
                .iter()
                .map(|argument| expression_sent(argument, functions))
                .collect::<Result<_, _>>()?,
            functions: grouping
                .functions
                .iter()
                .map(function)
                .collect::<Result<_, QueryError>>()?,
            shape: grouping.shape.as_ref().map(ShapeSent::of).transpose()?,
            skips_nulls: grouping.skips_nulls,
            limit: limit.map(|limit| (limit.groups, limit.message.clone())),
        })
    }

    pub(crate) fn grouping(&self, functions: &Functions) -> Result<Grouping, QueryError> {
        let shape = self.shape.as_ref().map(ShapeSent::shape).transpose()?;
        let through = |through: &Option<ThroughSent>| {
            through.as_ref().map(|through| through.through(functions)).transpose()
        };
        let columns = match &shape {
            Some(shape) => shape.output().clone(),
            None => Arc::new(Schema::empty()),
        };
        let arguments: Vec<Arc<dyn PhysicalExpr>> = self
            .arguments
            .iter()
            .map(|argument| expression(argument, &columns, functions))
            .collect::<Result<_, _>>()?;
        let key = |key: &KeySent| {
            Ok(match key {
                KeySent::Bucket { step_ns, offset_ns } => {
                    Key::Bucket { step_ns: *step_ns, offset_ns: *offset_ns }
                }
                KeySent::Text { of, through: made } => {
                    Key::Text { of: of.clone(), through: through(made)? }
                }
                KeySent::Constant(text) => Key::Constant(text.clone()),
            })
        };
        let function = |function: &FunctionSent| {
            Ok(match function {
                FunctionSent::Rows => Function::Rows,
                FunctionSent::Distinct { of, through: made, empty } => {
                    Function::Distinct { of: of.clone(), through: through(made)?, empty: *empty }
                }
                FunctionSent::Of(sent) => sent.function(&arguments, shape.as_ref(), functions)?,
            })
        };
        let keys = self.keys.iter().map(key).collect::<Result<_, QueryError>>()?;
        let functions = self.functions.iter().map(function).collect::<Result<_, QueryError>>()?;
        Ok(Grouping { keys, arguments, functions, shape, skips_nulls: self.skips_nulls })
    }

    pub(crate) fn limit(&self) -> Option<GroupLimit> {
        let (groups, message) = self.limit.clone()?;
        Some(GroupLimit { groups, message })
    }
}
