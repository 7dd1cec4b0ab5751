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

/// One message as framed, within the framer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'f> {
    /// Its bytes, at most the limit; without the line end.
    pub bytes: &'f [u8],
    /// Its length as it came.
    pub original_bytes: u64,
    /// What its length announces and the end of the stream cut off.
    pub missing_bytes: u64,
}

/// Cuts a stream into messages.
#[derive(Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    /// What of the buffer was taken.
    at: usize,
    message_bytes_max: usize,
    /// The message in hand, at most the limit of it.
    head: Vec<u8>,
    /// Its length, once it is whole.
    whole_bytes: u64,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
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
        Framer {
            buffer: Vec::new(),
            at: 0,
            message_bytes_max,
            head: Vec::new(),
            whole_bytes: 0,
            open: None,
        }
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

    /// Whether a message has begun whose end has not come.
    pub fn is_inside(&self) -> bool {
        self.open.is_some() || !self.rest().is_empty()
    }

    /// Bytes that are held of it.
    pub fn held_bytes(&self) -> usize {
        self.rest().len() + if self.open.is_some() { self.head.len() } else { 0 }
    }

    /// The next whole message.
    pub fn next_frame(&mut self) -> Option<Framed> {
        self.next_borrowed().map(Framed::from)
    }

    /// The next whole message, without a copy of its own.
    pub fn next_borrowed(&mut self) -> Option<Frame<'_>> {
        self.next_is_whole().then(|| self.whole(0))
    }

    /// Goes on until a message is whole; false if none is yet.
    fn next_is_whole(&mut self) -> bool {
        loop {
            if self.open.is_none() {
                let blank = |b: &&u8| matches!(b, b'\n' | b'\r' | 0);
                self.at += self.rest().iter().take_while(blank).count();
                match self.start() {
                    Start::Unknown => return false,
                    Start::Counted { length, behind } => {
                        self.at += behind;
                        self.begin(Some(length));
                    }
                    Start::Line => self.begin(None),
                }
            }
            if !self.go_on() {
                return false;
            }
            if self.whole_bytes > 0 {
                return true;
            }
        }
    }

    /// The message that the end of the stream cut off, if there is one.
    pub fn finish(&mut self) -> Option<Framed> {
        self.finish_borrowed().map(Framed::from)
    }

    /// As [`Self::finish`], without a copy.
    pub fn finish_borrowed(&mut self) -> Option<Frame<'_>> {
        if self.next_is_whole() {
            return Some(self.whole(0));
        }
        if self.open.is_none() && !self.rest().is_empty() {
            self.begin(None);
        }
        self.keep(self.rest().len());
        let missing_bytes = self.open?.left.unwrap_or(0);
        self.close();
        Some(self.whole(missing_bytes)).filter(|frame| frame.original_bytes > 0)
    }

    fn whole(&self, missing_bytes: u64) -> Frame<'_> {
        Frame { bytes: &self.head, original_bytes: self.whole_bytes, missing_bytes }
    }

    fn begin(&mut self, left: Option<u64>) {
        self.head.clear();
        self.open = Some(Open { original_bytes: 0, left });
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

    /// Takes bytes into the open message; whether it is whole now.
    fn go_on(&mut self) -> bool {
        let Some(open) = self.open else { return false };
        let rest = self.rest();
        let is_whole = match open.left {
            Some(left) => {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                self.keep(here);
                left == here as u64
            }
            None => match memchr::memchr2(b'\n', 0, rest) {
                Some(end) => {
                    self.keep(end);
                    self.at += 1;
                    true
                }
                None => {
                    self.keep(rest.len());
                    false
                }
            },
        };
        if is_whole {
            self.close();
        }
        is_whole
    }

    fn keep(&mut self, length: usize) {
        let bytes = self.buffer.get(self.at..self.at + length).unwrap_or_default();
        self.at += length;
        let Some(open) = &mut self.open else { return };
        open.original_bytes += bytes.len() as u64;
        open.left = open.left.map(|left| left.saturating_sub(bytes.len() as u64));
        let room = self.message_bytes_max.saturating_sub(self.head.len());
        self.head.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
    }

    fn close(&mut self) {
        self.whole_bytes = self.open.take().map_or(0, |open| open.original_bytes);
        while self.head.len() as u64 == self.whole_bytes
            && matches!(self.head.last(), Some(b'\n' | b'\r'))
        {
            self.head.pop();
            self.whole_bytes -= 1;
        }
    }
}

impl From<Frame<'_>> for Framed {
    fn from(frame: Frame<'_>) -> Self {
        Framed { bytes: frame.bytes.to_vec(), original_bytes: frame.original_bytes }
    }
}

#[cfg(test)]
mod tests;
