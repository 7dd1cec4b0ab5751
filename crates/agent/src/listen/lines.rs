//! Lines of a stream: cut at LF, at most so many bytes of each kept.

/// Cuts a stream into lines. At most the limit of a line is held.
#[derive(Debug)]
pub(super) struct Lines {
    head: Vec<u8>,
    original_bytes: u64,
    line_bytes_max: usize,
}

impl Lines {
    pub(super) fn new(line_bytes_max: usize) -> Self {
        Lines { head: Vec::new(), original_bytes: 0, line_bytes_max }
    }

    /// Takes the next bytes; `each` gets whole lines without their ends, and their lengths.
    pub(super) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8], u64)) {
        let mut rest = bytes;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, behind) = rest.split_at(at);
            rest = behind.get(1..).unwrap_or_default();
            if self.original_bytes == 0 && line.len() <= self.line_bytes_max {
                give(line, line.len() as u64, &mut each);
            } else {
                self.keep(line);
                self.finish(&mut each);
            }
        }
        self.keep(rest);
    }

    /// Gives out what has no line end.
    pub(super) fn finish(&mut self, mut each: impl FnMut(&[u8], u64)) {
        give(&self.head, self.original_bytes, &mut each);
        self.head.clear();
        self.original_bytes = 0;
    }

    fn keep(&mut self, part: &[u8]) {
        let room = self.line_bytes_max - self.head.len();
        self.head.extend_from_slice(part.get(..part.len().min(room)).unwrap_or_default());
        self.original_bytes += part.len() as u64;
    }
}

fn give(line: &[u8], original_bytes: u64, each: &mut impl FnMut(&[u8], u64)) {
    let whole = line.len() as u64 == original_bytes;
    let (line, original_bytes) = match line.strip_suffix(b"\r") {
        Some(line) if whole => (line, original_bytes - 1),
        _ => (line, original_bytes),
    };
    if original_bytes > 0 {
        each(line, original_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_in_whatever_pieces_they_come() {
        let text = b"one\r\n\ntwo\n0123456789abc\nlast";
        let expected = [("one", 3), ("two", 3), ("01234567", 13), ("last", 4)];
        for step in 1..text.len() {
            let (mut lines, mut got) = (Lines::new(8), Vec::new());
            let mut each = |line: &[u8], n| got.push((String::from_utf8_lossy(line).into(), n));
            text.chunks(step).for_each(|piece| lines.push(piece, &mut each));
            lines.finish(&mut each);
            let got: Vec<(String, u64)> = got;
            assert!(got.iter().map(|(l, n)| (l.as_str(), *n)).eq(expected), "{step}: {got:?}");
        }
    }
}
