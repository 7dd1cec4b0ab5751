//! Messages as they were received, on their way to the thread that decodes them.
//!
//! Invariant: a piece costs an allocation or two, a message of it none; its memory is reserved
//! before anybody waits for it to be decoded.

use std::net::SocketAddr;

use lodge_record::TenantId;
use tokio::sync::oneshot;

use super::Peer;
use crate::body::Reserved;

/// Memory that a byte of a message takes while it is decoded and committed.
const MEMORY_FACTOR: usize = 3;
/// What a piece takes beside its bytes, and what each of its messages does.
const PIECE_COST_BYTES: usize = 512;
const MESSAGE_COST_BYTES: usize = 64;

/// One message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'p> {
    /// Its bytes, or the head of them.
    pub(super) bytes: &'p [u8],
    /// How many there were.
    pub(super) original_bytes: u64,
    /// Who sent it.
    pub(super) from: SocketAddr,
}

struct Entry {
    end: usize,
    original_bytes: u64,
    from: SocketAddr,
}

/// Some messages of one tenant.
pub(super) struct Piece {
    /// Whose records they become.
    pub(super) tenant: TenantId,
    /// When they came.
    pub(super) received_ns: i64,
    /// Sender of the messages that are pushed next.
    pub(super) from: SocketAddr,
    /// Messages of which only the head is here, because they were too long.
    pub(super) overlong: u64,
    /// Somebody waits for its commit.
    pub(super) is_urgent: bool,
    /// Told the reply when all is durable; dropped if it never will be.
    pub(super) done: Option<oneshot::Sender<Vec<u8>>>,
    /// What it takes from `insert_memory_bytes_max`, once it is on its way.
    pub(super) memory: Option<Reserved>,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Piece {
    /// An empty piece.
    pub(super) fn new(peer: &Peer) -> Self {
        Piece {
            tenant: peer.tenant.clone(),
            received_ns: 0,
            from: peer.address,
            overlong: 0,
            is_urgent: false,
            done: None,
            memory: None,
            bytes: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Adds a message of so many bytes, of which `bytes` are all or the head.
    pub(super) fn push(&mut self, bytes: &[u8], original_bytes: u64) {
        self.bytes.extend_from_slice(bytes);
        self.entries.push(Entry { end: self.bytes.len(), original_bytes, from: self.from });
    }

    /// Messages.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the messages.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What it is counted as where sizes are compared.
    pub(super) fn cost_bytes(&self) -> usize {
        PIECE_COST_BYTES + self.bytes.len() + self.entries.len() * MESSAGE_COST_BYTES
    }

    /// Memory that it takes until its records are committed.
    pub(super) fn memory_bytes(&self) -> usize {
        self.cost_bytes().saturating_mul(MEMORY_FACTOR)
    }

    /// The messages in order.
    pub(super) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        let mut start = 0;
        self.entries.iter().map(move |entry| {
            let bytes = self.bytes.get(start..entry.end).unwrap_or_default();
            start = entry.end;
            Message { bytes, original_bytes: entry.original_bytes, from: entry.from }
        })
    }

    /// Frees the messages, which were decoded.
    pub(super) fn forget_messages(&mut self) {
        (self.bytes, self.entries) = (Vec::new(), Vec::new());
    }
}
