//! In what shape the lines of a file stand in it, and the pieces that they are read as.
//!
//! Sans-I/O. Invariant: a line that is not of the file's shape is a piece with its bytes as they
//! are; no byte is passed over but line ends and UTF-16's byte order mark.

use std::borrow::Cow;

use lodge_wire::container_log::{self, Entry, Output};

use crate::assemble::Piece;
use crate::identity::HEAD_BYTES_MAX;
use crate::parse::format::Format;

/// The shape of a file's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Bytes up to a line feed.
    Lines,
    /// Entries of containerd or CRI-O.
    Cri,
    /// Entries of Docker's json-file.
    Docker,
    /// Two bytes a unit, the low one first.
    Utf16Le,
    /// Two bytes a unit, the high one first.
    Utf16Be,
}

impl Framing {
    /// The shape of a file that begins with `head`, by its settings or by what it shows itself to
    /// be; `None` while the head is too short to tell.
    pub fn of(head: &[u8], format: Format) -> Option<Framing> {
        match head {
            [0xff, 0xfe, ..] => return Some(Framing::Utf16Le),
            [0xfe, 0xff, ..] => return Some(Framing::Utf16Be),
            _ => {}
        }
        match format {
            Format::Cri => return Some(Framing::Cri),
            Format::Docker => return Some(Framing::Docker),
            Format::Auto => {}
            _ => return Some(Framing::Lines),
        }
        let Some(end) = memchr::memchr(b'\n', head) else {
            // Entries of containers begin in ways that hardly any other line does.
            let shown = match head {
                _ if is_cri_head(head) => Framing::Cri,
                _ if head.starts_with(b"{\"log\":") => Framing::Docker,
                _ => return Some(Framing::Lines),
            };
            return (head.len() >= HEAD_BYTES_MAX).then_some(shown);
        };
        let line = head.get(..end).unwrap_or_default();
        Some(if container_log::parse_cri(line).is_some() {
            Framing::Cri
        } else if line.starts_with(b"{\"log\":") && container_log::parse_docker(line).is_some() {
            Framing::Docker
        } else {
            Framing::Lines
        })
    }

    /// Whether lines are decoded from two bytes a unit.
    pub fn is_utf16(self) -> bool {
        matches!(self, Framing::Utf16Le | Framing::Utf16Be)
    }

    /// Length of the first line of `bytes` with its line end, if that is there.
    pub fn line_end(self, bytes: &[u8]) -> Option<usize> {
        let wanted: [u8; 2] = match self {
            Framing::Utf16Le => [b'\n', 0],
            Framing::Utf16Be => [0, b'\n'],
            _ => return memchr::memchr(b'\n', bytes).map(|at| at + 1),
        };
        bytes.chunks_exact(2).position(|pair| pair == wanted).map(|unit| unit * 2 + 2)
    }

    /// Bytes of a line end.
    pub fn line_end_bytes(self) -> u64 {
        if self.is_utf16() { 2 } else { 1 }
    }

    /// The piece that the line `bytes` (with its line end) is, standing at `start`.
    pub fn piece(self, bytes: &[u8], start: u64) -> Piece<'_> {
        let end = start + bytes.len() as u64;
        let text = without_line_end(bytes);
        let entry = match self {
            Framing::Cri => container_log::parse_cri(text),
            Framing::Docker => container_log::parse_docker(text),
            Framing::Utf16Le | Framing::Utf16Be => return self.decoded(bytes, start),
            Framing::Lines => None,
        };
        match entry {
            Some(Entry { time_ns, output, partial, text }) => {
                let lane = if output == Output::Stdout { 0 } else { 1 };
                Piece { lane, text, raw: None, partial, time_ns: Some(time_ns), start, end }
            }
            None => {
                let text = Cow::Borrowed(text);
                Piece { lane: 2, text, raw: None, partial: false, time_ns: None, start, end }
            }
        }
    }

    fn decoded(self, bytes: &[u8], start: u64) -> Piece<'_> {
        let unit = |pair: &[u8]| match (self, pair) {
            (Framing::Utf16Le, [low, high]) => u16::from_le_bytes([*low, *high]),
            (_, [high, low]) => u16::from_be_bytes([*high, *low]),
            _ => 0xfffd,
        };
        let mut text = String::with_capacity(bytes.len() / 2);
        // Half a unit can only stand at the end of a file that was cut.
        let mut damaged = !bytes.len().is_multiple_of(2);
        for unit in char::decode_utf16(bytes.chunks(2).map(unit)) {
            damaged |= unit.is_err();
            text.push(unit.unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        if start == 0 && text.starts_with('\u{feff}') {
            text.remove(0);
        }
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        Piece {
            lane: 2,
            text: Cow::Owned(text.into_bytes()),
            raw: damaged.then_some(bytes),
            partial: false,
            time_ns: None,
            start,
            end: start + bytes.len() as u64,
        }
    }
}

/// Why a file that begins with `head` is not tailed, if it is not.
pub fn binary_kind(head: &[u8]) -> Option<&'static str> {
    const MAGICS: [(&[u8], &str); 8] = [
        (b"\x1f\x8b", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh", "bzip2"),
        (b"PK\x03\x04", "zip"),
        (b"LPKSHHRH", "a journal"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\x7fELF", "a program"),
    ];
    if let Some((_, kind)) = MAGICS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(kind);
    }
    if Framing::of(head, Format::Text).is_some_and(Framing::is_utf16) {
        return None;
    }
    // Zeros at the start are the hole that a writer leaves when its log is truncated under it.
    let zeros = head.iter().take_while(|b| **b == 0).count();
    let text = head.get(zeros..).unwrap_or_default();
    let control = |b: &&u8| matches!(**b, 0..=8 | 14..=26 | 28..=31);
    let controls = text.iter().filter(control).count();
    (text.len() >= 32 && controls * 10 > text.len() * 3).then_some("binary")
}

/// The output that a lane stands for.
pub fn output_of(lane: usize) -> Option<Output> {
    match lane {
        0 => Some(Output::Stdout),
        1 => Some(Output::Stderr),
        _ => None,
    }
}

fn is_cri_head(head: &[u8]) -> bool {
    let window = head.get(..head.len().min(64)).unwrap_or_default();
    let dated = window.get(10) == Some(&b'T') && window.first().is_some_and(u8::is_ascii_digit);
    dated
        && [&b" stdout P "[..], b" stdout F ", b" stderr P ", b" stderr F "]
            .iter()
            .any(|tag| memchr::memmem::find(window, tag).is_some())
}

fn without_line_end(bytes: &[u8]) -> &[u8] {
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    text.strip_suffix(b"\r").unwrap_or(text)
}
