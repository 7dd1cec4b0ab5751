//! What is read of a file: its bytes, or the text of a gzip file, decompressed as it is read.
//!
//! Offsets into a gzip file are offsets in its text. Invariants: of the text only what was read
//! last is held, whatever it expands to; a read from further back begins at the start again.

use std::cell::RefCell;
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

/// Bytes that are decompressed at once to reach an offset.
const SKIP_BYTES: usize = 64 << 10;

/// An open file.
#[derive(Debug)]
pub enum Content {
    /// Its bytes are its content.
    Plain(File),
    /// Its content is compressed.
    Gzip(Arc<File>, Box<RefCell<GzipText>>),
}

impl Content {
    /// The content of `file`.
    pub fn new(file: File, is_gzip: bool) -> Self {
        if !is_gzip {
            return Content::Plain(file);
        }
        let file = Arc::new(file);
        let text = GzipText::new(Arc::clone(&file));
        Content::Gzip(file, Box::new(RefCell::new(text)))
    }

    /// What the file system says of the file.
    pub fn metadata(&self) -> io::Result<Metadata> {
        match self {
            Content::Plain(file) => file.metadata(),
            Content::Gzip(file, _) => file.metadata(),
        }
    }

    /// Reads until `buffer` is full or the content ends.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Content::Plain(file) => read_full(file, buffer, offset),
            Content::Gzip(_, text) => {
                let mut text = text.borrow_mut();
                // What was held does not fit where it stopped.
                text.read_at(buffer, offset).inspect_err(|_| text.restart())
            }
        }
    }

    /// Lets go what is held of the content before `offset`.
    pub fn forget_before(&self, offset: u64) {
        if let Content::Gzip(_, text) = self {
            text.borrow_mut().forget_before(offset);
        }
    }

    /// Why the content ended where it did, if it is damaged or not all there.
    pub fn problem(&self) -> Option<String> {
        match self {
            Content::Plain(_) => None,
            Content::Gzip(_, text) => text.borrow().problem.clone(),
        }
    }

    /// Begins again, as the file has changed.
    pub fn restart(&self) {
        if let Content::Gzip(_, text) = self {
            text.borrow_mut().restart();
        }
    }
}

/// The text of a gzip file of one or more members.
pub struct GzipText {
    file: Arc<File>,
    decoder: MultiGzDecoder<BufReader<Bytes>>,
    /// Offset in the text that the decoder has reached.
    at: u64,
    /// The text right before `at`, as far as it is held.
    held: Vec<u8>,
    problem: Option<String>,
}

impl std::fmt::Debug for GzipText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GzipText").field("at", &self.at).field("problem", &self.problem).finish()
    }
}

/// The bytes of a file from its start on, with a place of its own.
struct Bytes {
    file: Arc<File>,
    at: u64,
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl GzipText {
    fn new(file: Arc<File>) -> Self {
        let decoder = decoder(&file);
        GzipText { file, decoder, at: 0, held: Vec::new(), problem: None }
    }

    fn restart(&mut self) {
        *self = GzipText::new(Arc::clone(&self.file));
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset < self.at - self.held.len() as u64 {
            self.restart();
        }
        let mut skipped = vec![0u8; if offset > self.at { SKIP_BYTES } else { 0 }];
        while self.at < offset {
            let left = usize::try_from(offset - self.at).unwrap_or(usize::MAX).min(SKIP_BYTES);
            let Some(piece) = skipped.get_mut(..left) else { break };
            if self.decode(piece)? == 0 {
                self.held.clear();
                return Ok(0);
            }
            self.held.clear();
        }
        let start = self.at - self.held.len() as u64;
        let known = self.held.get((offset - start) as usize..).unwrap_or_default();
        let mut length = known.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), known.get(..length)) {
            to.copy_from_slice(from);
        }
        let before = length;
        while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match self.decode(rest)? {
                0 => break,
                more => length += more,
            }
        }
        if length > before {
            self.held.clear();
            self.held.extend_from_slice(buffer.get(..length).unwrap_or_default());
        }
        Ok(length)
    }

    /// Decompresses some of what follows; 0 at the end, and where it cannot be read on.
    fn decode(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.problem.is_some() {
            return Ok(0);
        }
        loop {
            match self.decoder.read(buffer) {
                Ok(length) => {
                    self.at += length as u64;
                    return Ok(length);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::InvalidData
                    | io::ErrorKind::InvalidInput => {
                        self.problem = Some(error.to_string());
                        return Ok(0);
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    fn forget_before(&mut self, offset: u64) {
        let start = self.at - self.held.len() as u64;
        let length = usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
        self.held.drain(..length.min(self.held.len()));
        self.held.shrink_to_fit();
    }
}

fn decoder(file: &Arc<File>) -> MultiGzDecoder<BufReader<Bytes>> {
    MultiGzDecoder::new(BufReader::new(Bytes { file: Arc::clone(file), at: 0 }))
}

/// Reads until `buffer` is full or the file ends.
pub fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
