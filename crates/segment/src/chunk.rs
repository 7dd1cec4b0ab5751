//! One column of one block as bytes: an Arrow IPC record-batch message of one column.
//!
//! ```text
//!  chunk := message_len u32 LE · message (flatbuffer) · body
//! ```
//!
//! Invariant: whoever decodes a chunk has checked its checksum first; what Arrow still refuses is
//! reported as damage.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::ipc::reader::read_record_batch;
use arrow::ipc::writer::{
    DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext, IpcWriteOptions,
};
use arrow::ipc::{CompressionType, MetadataVersion, root_as_message};
use bytes::Bytes;

use crate::SegmentError;

/// Below so many bytes of data compression costs more than it gives.
const COMPRESS_BYTES_MIN: usize = 256;
/// An L0 lives for seconds: only text is compressed, and only if so many rows of it
const SAMPLE_ROWS: usize = 256;
/// become at least so many times smaller. Writing a byte costs less CPU than compressing it.
const LZ4_GAIN_MIN: usize = 3;

/// Encodes chunks one after another, reusing its buffers.
pub(crate) struct ChunkWriter {
    plain: IpcWriteOptions,
    compressed: IpcWriteOptions,
    /// Each keeps the size of what it wrote last and makes room for as much.
    context: IpcWriteContext,
    sample_context: IpcWriteContext,
    generator: IpcDataGenerator,
}

impl ChunkWriter {
    pub(crate) fn new() -> Result<Self, SegmentError> {
        let plain = || IpcWriteOptions::try_new(8, false, MetadataVersion::V5);
        let compressed =
            plain().and_then(|o| o.try_with_compression(Some(CompressionType::LZ4_FRAME)));
        Ok(Self {
            plain: plain().map_err(encode_error)?,
            compressed: compressed.map_err(encode_error)?,
            context: IpcWriteContext::default(),
            sample_context: IpcWriteContext::default(),
            generator: IpcDataGenerator::default(),
        })
    }

    /// Appends `array` to `out` as a chunk. Dictionaries are not chunks: their codes are.
    pub(crate) fn append(
        &mut self,
        array: &ArrayRef,
        out: &mut Vec<u8>,
    ) -> Result<(), SegmentError> {
        let compress = self.is_worth_compressing(array)?;
        let options = if compress { &self.compressed } else { &self.plain };
        let encoded = encode(&self.generator, array, options, &mut self.context)?;
        let message_len = u32::try_from(encoded.ipc_message.len())
            .map_err(|_| SegmentError::Encode("a message header of 4 GiB".into()))?;
        out.extend_from_slice(&message_len.to_le_bytes());
        out.extend_from_slice(&encoded.ipc_message);
        out.extend_from_slice(&encoded.arrow_data);
        Ok(())
    }

    fn is_worth_compressing(&mut self, array: &ArrayRef) -> Result<bool, SegmentError> {
        if array.get_buffer_memory_size() < COMPRESS_BYTES_MIN {
            return Ok(false);
        }
        if array.data_type() != &DataType::Utf8 {
            return Ok(false);
        }
        let rows = array.len().min(SAMPLE_ROWS);
        let sample = array.slice((array.len() - rows) / 2, rows);
        let mut bytes = |options| {
            let encoded = encode(&self.generator, &sample, options, &mut self.sample_context)?;
            Ok(encoded.arrow_data.len())
        };
        let (plain_bytes, packed_bytes) = (bytes(&self.plain)?, bytes(&self.compressed)?);
        Ok(packed_bytes.saturating_mul(LZ4_GAIN_MIN) <= plain_bytes)
    }
}

fn encode(
    generator: &IpcDataGenerator,
    array: &ArrayRef,
    options: &IpcWriteOptions,
    context: &mut IpcWriteContext,
) -> Result<EncodedData, SegmentError> {
    let mut tracker = DictionaryTracker::new(true);
    let encoded = generator.encode(&batch_of(array)?, &mut tracker, options, context);
    encoded.map(|(_, encoded)| encoded).map_err(encode_error)
}

/// A column without a name.
fn batch_of(array: &ArrayRef) -> Result<RecordBatch, SegmentError> {
    let field = Field::new("", array.data_type().clone(), true);
    let options = RecordBatchOptions::new().with_row_count(Some(array.len()));
    let schema = Arc::new(Schema::new(vec![field]));
    RecordBatch::try_new_with_options(schema, vec![Arc::clone(array)], &options)
        .map_err(encode_error)
}

/// The array of a chunk, which must have the type and length given. The error is only what does not
/// hold; the caller knows the place.
pub(crate) fn decode(bytes: &Bytes, data_type: &DataType, rows: usize) -> Result<ArrayRef, String> {
    let message_len = bytes
        .get(..4)
        .and_then(|b| <[u8; 4]>::try_from(b).ok())
        .map(u32::from_le_bytes)
        .and_then(|len| usize::try_from(len).ok())
        .and_then(|len| len.checked_add(4))
        .ok_or("is shorter than its header")?;
    let message = bytes.get(4..message_len).ok_or("ends within its message")?;
    let message = root_as_message(message).map_err(|e| format!("its message is invalid: {e}"))?;
    let header = message.header_as_record_batch().ok_or("its message is not a record batch")?;
    let body = Buffer::from(bytes.slice(message_len..));
    let schema = Arc::new(Schema::new(vec![Field::new("", data_type.clone(), true)]));
    let batch = read_record_batch(&body, header, schema, &HashMap::new(), None, &message.version())
        .map_err(|e| format!("Arrow refuses it: {e}"))?;
    let array = batch.columns().first().ok_or("has no column")?;
    if array.len() != rows {
        return Err(format!("has {} rows instead of {rows}", array.len()));
    }
    Ok(Arc::clone(array))
}

/// Arrow refused to encode or cast, which our shapes rule out.
pub(crate) fn encode_error(error: ArrowError) -> SegmentError {
    SegmentError::Encode(error.to_string())
}
