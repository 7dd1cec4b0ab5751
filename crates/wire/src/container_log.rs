//! The lines in which container runtimes keep what containers print: CRI (containerd, CRI-O) and
//! Docker's json-file.
//!
//! ```text
//! CRI     2024-01-02T15:04:05.123456789Z stdout P text      P: part of a line, F: its last part
//! Docker  {"log":"text\n","stream":"stdout","time":"…Z"}    a part has no \n at the end of log
//! ```
//!
//! Invariants: a line that is not exactly of its form gives `None`, and the caller keeps it as it
//! is; nothing of a container's own text is lost: bytes that are no UTF-8 pass through CRI.

use std::borrow::Cow;

use lodge_record::time;

use crate::json_object::{self, JsonValue};

/// Longest Docker line that is decoded; the runtime cuts texts at 16 KiB, so this is ample.
const DOCKER_LINE_BYTES_MAX: usize = 8 << 20;

/// Which of its two outputs a container wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Output {
    /// Its name, as runtimes and `log.iostream` have it.
    pub fn name(self) -> &'static str {
        match self {
            Output::Stdout => "stdout",
            Output::Stderr => "stderr",
        }
    }
}

/// What one line of a container log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'l> {
    /// When the runtime read it, UTC nanoseconds since 1970.
    pub time_ns: i64,
    /// Where the container wrote it.
    pub output: Output,
    /// The container's line goes on in the next entry of the same output.
    pub partial: bool,
    /// What it wrote, without the line end.
    pub text: Cow<'l, [u8]>,
}

/// Reads a line of a CRI log, without its line end.
pub fn parse_cri(line: &[u8]) -> Option<Entry<'_>> {
    let (stamp, rest) = split_blank(line)?;
    let (output, rest) = split_blank(rest)?;
    let output = match output {
        b"stdout" => Output::Stdout,
        b"stderr" => Output::Stderr,
        _ => return None,
    };
    let (tags, text) = split_blank(rest).unwrap_or((rest, &[]));
    // Tags are separated by colons; only the first has a meaning today.
    let partial = match tags.split(|b| *b == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    let stamp = std::str::from_utf8(stamp).ok()?;
    // A date alone or a number is a time elsewhere, but not here.
    let time_ns = stamp.contains('T').then(|| time::parse(stamp))??;
    Some(Entry { time_ns, output, partial, text: Cow::Borrowed(text) })
}

fn split_blank(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = memchr::memchr(b' ', text)?;
    Some((text.get(..blank)?, text.get(blank + 1..)?))
}

/// Reads a line of Docker's json-file, without its line end.
pub fn parse_docker(line: &[u8]) -> Option<Entry<'_>> {
    if line.len() > DOCKER_LINE_BYTES_MAX {
        return None;
    }
    let line = std::str::from_utf8(line).ok().filter(|line| line.starts_with('{'))?;
    let (mut text, mut output, mut time_ns) = (None, None, None);
    let read = json_object::for_each_field(line, |name, value| match (name, value) {
        ("log", JsonValue::Text(log)) => text = Some(log.to_owned()),
        ("stream", JsonValue::Text("stdout")) => output = Some(Output::Stdout),
        ("stream", JsonValue::Text("stderr")) => output = Some(Output::Stderr),
        ("time", JsonValue::Text(stamp)) => time_ns = time::parse(stamp),
        _ => {}
    });
    read.ok()?;
    let mut text = text?;
    let partial = !text.ends_with('\n');
    if !partial {
        text.pop();
    }
    let (output, time_ns) = (output?, time_ns?);
    Some(Entry { time_ns, output, partial, text: Cow::Owned(text.into_bytes()) })
}

#[cfg(test)]
mod tests;
