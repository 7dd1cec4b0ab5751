//! What the doors count.
//!
//! Invariant: a message that was received is stored or counted as dropped, with its reason; what
//! the kernel dropped before is a reason too.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Protocol;

type ByProtocol = [(&'static str, &'static str); 1];
type ByReason = [(&'static str, &'static str); 2];

/// Why a message is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// The socket's buffer in the kernel was full.
    Kernel,
    /// What was received before waits to be decoded and committed.
    Queue,
    /// `insert_memory_bytes_max` is used up.
    Memory,
    /// The commit queue was full for too long.
    Overloaded,
    /// The disk is full.
    DiskFull,
    /// The store failed.
    Store,
    /// Larger than a batch may be.
    TooLarge,
    /// It cannot be decoded, and there is no text to keep.
    Malformed,
    /// The rest of it never came.
    Incomplete,
    /// Its sender is not of `trusted_networks`.
    Untrusted,
    /// The server stopped.
    Stopping,
    /// A fault of the server's own.
    Internal,
}

impl Dropped {
    const ALL: [Self; 12] = [
        Self::Kernel,
        Self::Queue,
        Self::Memory,
        Self::Overloaded,
        Self::DiskFull,
        Self::Store,
        Self::TooLarge,
        Self::Malformed,
        Self::Incomplete,
        Self::Untrusted,
        Self::Stopping,
        Self::Internal,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel_buffer",
            Self::Queue => "queue_full",
            Self::Memory => "insert_memory",
            Self::Overloaded => "ingest_queue",
            Self::DiskFull => "disk_full",
            Self::Store => "store_failed",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Incomplete => "incomplete",
            Self::Untrusted => "not_trusted",
            Self::Stopping => "stopping",
            Self::Internal => "internal",
        }
    }
}

/// The counters of all doors.
#[derive(Default)]
pub(crate) struct SocketMetrics {
    messages: Family<ByProtocol, Counter>,
    bytes: Family<ByProtocol, Counter>,
    malformed: Family<ByProtocol, Counter>,
    open: Family<ByProtocol, Gauge>,
    dropped: Family<ByReason, Counter>,
}

impl SocketMetrics {
    /// Makes them part of `/metrics`.
    pub(crate) fn register(&self, to: &mut Registry) {
        to.register(
            "socket_messages",
            "Messages received by the doors that speak no HTTP",
            self.messages.clone(),
        );
        to.register_with_unit(
            "socket",
            "Messages received by the doors that speak no HTTP",
            Unit::Bytes,
            self.bytes.clone(),
        );
        to.register(
            "socket_malformed_messages",
            "Messages that are not of their protocol; most are kept as text",
            self.malformed.clone(),
        );
        to.register(
            "socket_dropped_messages",
            "Messages that are not stored, by reason",
            self.dropped.clone(),
        );
        to.register(
            "socket_connections_open",
            "Open connections of the doors that speak no HTTP",
            self.open.clone(),
        );
    }

    /// The counters of one door, all of them at 0 where nothing was counted.
    pub(super) fn of(&self, protocol: Protocol) -> Counters {
        let label = [("protocol", protocol.name())];
        for reason in Dropped::ALL {
            let _ = self.dropped.get_or_create(&by_reason(protocol, reason));
        }
        Counters {
            protocol,
            messages: self.messages.get_or_create(&label).clone(),
            bytes: self.bytes.get_or_create(&label).clone(),
            malformed: self.malformed.get_or_create(&label).clone(),
            open: self.open.get_or_create(&label).clone(),
            dropped: self.dropped.clone(),
        }
    }
}

fn by_reason(protocol: Protocol, reason: Dropped) -> ByReason {
    [("protocol", protocol.name()), ("reason", reason.name())]
}

/// The counters of one door.
#[derive(Clone)]
pub(super) struct Counters {
    protocol: Protocol,
    /// Messages received: datagrams, frames or lines.
    pub(super) messages: Counter,
    /// Their bytes.
    pub(super) bytes: Counter,
    /// Messages that are not of the protocol.
    pub(super) malformed: Counter,
    /// Open connections.
    pub(super) open: Gauge,
    dropped: Family<ByReason, Counter>,
}

impl Counters {
    /// Counts messages that are not stored.
    pub(super) fn drop_messages(&self, reason: Dropped, count: u64) {
        if count > 0 {
            self.dropped.get_or_create(&by_reason(self.protocol, reason)).inc_by(count);
        }
    }
}
