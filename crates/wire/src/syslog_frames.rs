//! Syslog over a stream of bytes (RFC 6587): where one message ends and the next begins.
//!
//! Both framings are read, and may change from message to message: octet counting (`LEN SP MSG`,
//! where MSG begins with `<`) and messages that end with LF (or NUL, which some senders write).
//! Invariants: at most [`Framer::new`]'s limit of a message is kept, the rest is counted and passed
//! over; what was pushed is given out in order, whatever the pieces in which it came.

/// Most digits of a message's length.
const LENGTH_DIGITS_MAX: usize = 9;

/// One message as framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    /// Its bytes, at most the limit; without the line end.
    pub bytes: Vec<u8>,
    /// Its whole length.
    pub original_bytes: u64,
}

/// Cuts a stream into messages.
#[derive(Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    /// What of the buffer was taken.
    at: usize,
    message_bytes_max: usize,
    /// The message in hand.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    head: Vec<u8>,
    original_bytes: u64,
    /// What is still to come of a counted message; `None` if it ends with its line.
    left: Option<u64>,
}

enum Start {
    Counted { length: u64, behind: usize },
    Line,
    Unknown,
}

impl Framer {
    /// A framer that keeps at most `message_bytes_max` bytes of a message.
    pub fn new(message_bytes_max: usize) -> Self {
        Framer { buffer: Vec::new(), at: 0, message_bytes_max, open: None }
    }

    /// Takes the next bytes of the stream. Call [`Self::next_frame`] until it is empty before the
    /// next piece: then at most one message and one piece are held.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// The next whole message.
    pub fn next_frame(&mut self) -> Option<Framed> {
        loop {
            if self.open.is_none() {
                let blank = |b: &&u8| matches!(b, b'\n' | b'\r' | 0);
                self.at += self.rest().iter().take_while(blank).count();
                match self.start() {
                    Start::Unknown => return None,
                    Start::Counted { length, behind } => {
                        self.at += behind;
                        self.begin(Some(length));
                    }
                    Start::Line => self.begin(None),
                }
            }
            let frame = self.go_on()?;
            if frame.original_bytes > 0 {
                return Some(frame);
            }
        }
    }

    /// The message that the end of the stream cut off, if there is one.
    pub fn finish(&mut self) -> Option<Framed> {
        if let Some(frame) = self.next_frame() {
            return Some(frame);
        }
        if self.open.is_none() && !self.rest().is_empty() {
            self.begin(None);
        }
        self.keep(self.rest().len());
        self.close().filter(|frame| frame.original_bytes > 0)
    }

    fn begin(&mut self, left: Option<u64>) {
        self.open = Some(Open { head: Vec::new(), original_bytes: 0, left });
    }

    fn start(&self) -> Start {
        let rest = self.rest();
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let Some(next) = rest.get(digits) else {
            let open = rest.is_empty() || (1..=LENGTH_DIGITS_MAX).contains(&digits);
            return if open { Start::Unknown } else { Start::Line };
        };
        if *next != b' ' || digits == 0 || digits > LENGTH_DIGITS_MAX {
            return Start::Line;
        }
        match rest.get(digits + 1) {
            None => Start::Unknown,
            Some(b'<') => {
                let text = rest.get(..digits).and_then(|d| std::str::from_utf8(d).ok());
                match text.and_then(|text| text.parse().ok()) {
                    Some(length) if length > 0 => Start::Counted { length, behind: digits + 1 },
                    _ => Start::Line,
                }
            }
            Some(_) => Start::Line,
        }
    }

    /// Takes bytes into the open message; gives it when it is whole.
    fn go_on(&mut self) -> Option<Framed> {
        let rest = self.rest();
        match self.open.as_ref()?.left {
            Some(left) => {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                self.keep(here);
                let left = left - here as u64;
                if let Some(open) = &mut self.open {
                    open.left = Some(left);
                }
                if left == 0 { self.close() } else { None }
            }
            None => match memchr::memchr2(b'\n', 0, rest) {
                Some(end) => {
                    self.keep(end);
                    self.at += 1;
                    self.close()
                }
                None => {
                    self.keep(rest.len());
                    None
                }
            },
        }
    }

    fn keep(&mut self, length: usize) {
        let bytes = self.buffer.get(self.at..self.at + length).unwrap_or_default();
        self.at += length;
        let Some(open) = &mut self.open else { return };
        open.original_bytes += bytes.len() as u64;
        let room = self.message_bytes_max.saturating_sub(open.head.len());
        open.head.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
    }

    fn close(&mut self) -> Option<Framed> {
        let open = self.open.take()?;
        let (mut bytes, mut original_bytes) = (open.head, open.original_bytes);
        while bytes.len() as u64 == original_bytes && matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
            original_bytes -= 1;
        }
        Some(Framed { bytes, original_bytes })
    }
}

#[cfg(test)]
mod tests;
