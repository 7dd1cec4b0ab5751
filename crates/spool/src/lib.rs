//! The agent's disk queue for what cannot be read again: UDP, pipes, sockets.
//!
//! Frames are opaque bytes. They are appended, made durable by groups, read in order, and forgotten
//! by whole files once they are acknowledged. The spool knows nothing of logs or HTTP.
//!
//! Invariants:
//! - only frames that a successful sync covered are read, so what is shipped is durable;
//! - a write or sync that failed is never tried again and trusted: its file is closed where it was
//!   durable last, and a new one begins ([`NotDurable`] says which frames to append again);
//! - positions grow with every frame and are never given out twice, also after a crash, and also
//!   after the folder was lost if the caller knows a floor;
//! - a file is written by one life of the spool only, and never again after that;
//! - a file is synced before the next one begins, and the next one's header and folder entry are
//!   durable before it takes its first frame. So only the last file can have an unsynced end;
//! - damage costs the frames that it touched and no others; its range is reported once and kept in
//!   `quarantine/`, within limits.
//!
//! # Format, version 1
//!
//! Numbers are little-endian. A file is named `NUMBER-SALT.spool`: 20 decimal and 16 hexadecimal
//! digits. The salt is random, so that nobody can log something that passes for a frame, and a
//! block of a deleted file cannot either; it is in the name so that a lost header loses no frame.
//!
//! ```text
//! file     = header header frame*               the header twice: either copy will do
//! header   = preamble body                      60 bytes
//! preamble = "LODGESPL" version:u32 sum:u32     the same in every version, at 0 and at 60;
//!                                               sum = crc32c(the 12 bytes before)
//! body     = number:u64 salt:u64                as in the name
//!            begun:u64                          Unix milliseconds
//!            ends_file:u64 ends_offset:u64      where the frames before this file end
//!            sum:u32                            crc32c(the 56 bytes before)
//! frame    = 9F F5 C0 FE                        magic
//!            length:u32                         of the payload, at most 64 MiB
//!            payload_sum:u32                    crc32c(place length payload)
//!            header_sum:u32                     crc32c(place magic length payload_sum)
//!            payload
//! place    = salt:u64 number:u64 offset:u64 version:u32     summed, not written
//! ```
//!
//! What stands at or behind `ends` in the files below a file is void. It was written but not synced
//! when its writer failed, and its frames may have been appended again in the file that says so.
//!
//! A reader that finds no frame at its place goes on at the next magic whose header sum fits its own
//! place. Payloads need not be read for that, so no content makes it slow.

mod disk;
mod format;
mod position;
mod quarantine;
mod recover;
mod spool;
mod walk;

pub use disk::{Disk, StdDisk};
pub use position::{Position, PositionError};
pub use recover::{Damage, Recovery, Refused, Tail};
pub use spool::{AppendError, Counters, NotDurable, Options, Read, ReadError, Spool, SpoolError};
pub use walk::Reason;
