//! What is imported: files, patterns, standard input; which of them are compressed; and the
//! fingerprint by which a second import of the same file is recognised.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use crate::failure::Failure;

/// Bytes read at a time from a file.
const READ_BYTES: usize = 256 * 1024;
/// Bytes at the front and at the back of a file that its fingerprint covers whole.
const FINGERPRINT_EDGE_BYTES: u64 = 1 << 20;
/// Places between front and back that are sampled, and the bytes of each.
const FINGERPRINT_SAMPLES: u64 = 64;
const FINGERPRINT_SAMPLE_BYTES: u64 = 64 << 10;

/// One thing to import.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl Source {
    /// Its name in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// Expands the command line's files and patterns, each file once, in the order given; what a
/// pattern matches is sorted by name.
pub fn expand(arguments: &[String]) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for argument in arguments {
        if argument == "-" {
            if !sources.contains(&Source::Stdin) {
                sources.push(Source::Stdin);
            }
            continue;
        }
        for path in expand_one(argument)? {
            let identity = path.canonicalize().unwrap_or_else(|_| path.clone());
            if seen.insert(identity) {
                sources.push(Source::File(path));
            }
        }
    }
    Ok(sources)
}

fn expand_one(argument: &str) -> Result<Vec<PathBuf>, Failure> {
    let path = PathBuf::from(argument);
    // A file whose very name has a star in it is that file.
    match path.metadata() {
        Ok(meta) if meta.is_dir() => {
            return Err(Failure::usage("this is a folder, not a file")
                .at(argument)
                .mend(format!("name the files in it, for example '{argument}/*.log'")));
        }
        Ok(_) => return Ok(vec![path]),
        Err(error) if !argument.contains(['*', '?', '[']) => {
            return Err(Failure::usage(error.to_string()).at(argument));
        }
        Err(_) => {}
    }
    let pattern = glob::glob(argument)
        .map_err(|e| Failure::usage(format!("this pattern cannot be read: {e}")).at(argument))?;
    let mut files = Vec::new();
    for entry in pattern {
        let path = entry
            .map_err(|e| Failure::new(e.error().to_string()).at(e.path().display().to_string()))?;
        if path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Failure::usage("no file matches this pattern").at(argument));
    }
    Ok(files)
}

/// A file that has been opened, with what identifies it.
pub struct OpenFile {
    /// The file, at its start.
    pub file: File,
    /// Its size when it was opened: only so much is read, even if it grows meanwhile.
    pub size: u64,
    /// Hash of samples of its contents; equal for the same contents under any name.
    pub fingerprint: [u8; 32],
    /// When it was last written to, in nanoseconds since 1970: the time of records without one.
    pub modified_ns: Option<i64>,
    /// Whether it is a pipe or a device, which can be read only once.
    pub is_stream: bool,
}

/// Opens a file and takes its fingerprint.
pub fn open(path: &Path) -> io::Result<OpenFile> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        let fingerprint = [0; 32];
        return Ok(OpenFile { file, size: 0, fingerprint, modified_ns: None, is_stream: true });
    }
    let modified_ns = meta
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .and_then(|since| i64::try_from(since.as_nanos()).ok());
    let fingerprint = fingerprint(&mut file, meta.len())?;
    file.seek(SeekFrom::Start(0))?;
    Ok(OpenFile { file, size: meta.len(), fingerprint, modified_ns, is_stream: false })
}

/// A hash over the front, the back and evenly spread samples between: the whole of a small file, a
/// few megabytes of a large one. Log lines carry times, so two different files do not agree there.
fn fingerprint(file: &mut File, size: u64) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&size.to_le_bytes());
    let sampled = FINGERPRINT_SAMPLES * FINGERPRINT_SAMPLE_BYTES;
    if size <= 2 * FINGERPRINT_EDGE_BYTES + sampled {
        hash_range(file, 0, size, &mut hasher)?;
        return Ok(*hasher.finalize().as_bytes());
    }
    hash_range(file, 0, FINGERPRINT_EDGE_BYTES, &mut hasher)?;
    let between = size - 2 * FINGERPRINT_EDGE_BYTES - FINGERPRINT_SAMPLE_BYTES;
    for sample in 0..FINGERPRINT_SAMPLES {
        // In this order it cannot overflow for any file that fits on a disk.
        let at = FINGERPRINT_EDGE_BYTES + between / FINGERPRINT_SAMPLES * sample;
        hash_range(file, at, FINGERPRINT_SAMPLE_BYTES, &mut hasher)?;
    }
    hash_range(file, size - FINGERPRINT_EDGE_BYTES, FINGERPRINT_EDGE_BYTES, &mut hasher)?;
    Ok(*hasher.finalize().as_bytes())
}

fn hash_range(file: &mut File, at: u64, len: u64, hasher: &mut blake3::Hasher) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    let copied = io::copy(&mut file.by_ref().take(len), hasher)?;
    if copied != len {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter"));
    }
    Ok(())
}

/// Counts the raw bytes taken from a source, for the progress bar.
pub struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Fails when a file ends before the size it had when it was opened.
struct Whole<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        let n = self.inner.read(out.get_mut(..most).unwrap_or_default())?;
        if n == 0 && most > 0 {
            let what = "the file became shorter while it was read; import it again";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}

/// The decompressed bytes of an opened source, and the count of raw bytes read for them.
pub type Contents = (Box<dyn Read + Send>, Arc<AtomicU64>);

/// The contents of a file, decompressed if they begin like gzip or Zstandard.
pub fn read_file(open: OpenFile) -> io::Result<Contents> {
    if open.is_stream {
        return decompress(open.file);
    }
    decompress(Whole { inner: open.file, left: open.size })
}

/// The contents of standard input, decompressed if they begin like gzip or Zstandard.
pub fn read_stdin() -> io::Result<Contents> {
    decompress(io::stdin())
}

fn decompress(raw: impl Read + Send + 'static) -> io::Result<Contents> {
    let count = Arc::new(AtomicU64::new(0));
    let mut reader =
        BufReader::with_capacity(READ_BYTES, Counted { inner: raw, count: count.clone() });
    let mut magic = Vec::with_capacity(4);
    reader.by_ref().take(4).read_to_end(&mut magic)?;
    let gzip = magic.starts_with(&[0x1f, 0x8b]);
    let zstd = magic == [0x28, 0xb5, 0x2f, 0xfd];
    let whole = io::Cursor::new(magic).chain(reader);
    let contents: Box<dyn Read + Send> = if gzip {
        Box::new(flate2::read::MultiGzDecoder::new(whole))
    } else if zstd {
        Box::new(zstd::stream::read::Decoder::new(whole)?)
    } else {
        Box::new(whole)
    };
    Ok((contents, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_fingerprint_follows_the_contents_not_the_name() {
        let dir = tempfile::tempdir().expect("temp dir");
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            File::create(&path).and_then(|mut f| f.write_all(bytes)).expect("write");
            open(&path).expect("open").fingerprint
        };
        let mut bytes = vec![b'x'; 20 << 20];
        let first = write("a", &bytes);
        assert_eq!(first, write("b", &bytes));
        let last = bytes.len() - 1;
        bytes[last] = b'y';
        assert_ne!(first, write("a", &bytes));
        assert_ne!(write("a", b"small"), write("a", b"smalk"));
        assert_eq!(write("a", b""), write("b", b""));
    }

    #[test]
    fn compressed_members_one_after_another_are_read_to_the_end() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("x");
        let mut bytes = Vec::new();
        for text in ["one\n", "two\n"] {
            let mut gz = flate2::write::GzEncoder::new(&mut bytes, flate2::Compression::fast());
            gz.write_all(text.as_bytes()).and_then(|()| gz.try_finish()).expect("gzip");
        }
        std::fs::write(&path, &bytes).expect("write");
        let (mut contents, count) = read_file(open(&path).expect("open")).expect("read");
        let mut text = String::new();
        contents.read_to_string(&mut text).expect("text");
        assert_eq!(text, "one\ntwo\n");
        assert_eq!(count.load(Ordering::Relaxed), bytes.len() as u64);
    }

    #[test]
    fn patterns_are_sorted_and_a_file_comes_once() {
        let dir = tempfile::tempdir().expect("temp dir");
        for name in ["b.log", "a.log", "c.txt"] {
            std::fs::write(dir.path().join(name), "x").expect("write");
        }
        let at = |name: &str| dir.path().join(name).display().to_string();
        let sources = expand(&[at("b.log"), at("*.log"), "-".into(), "-".into()]).expect("files");
        let names: Vec<_> = sources.iter().map(Source::name).collect();
        assert_eq!(names, [at("b.log"), at("a.log"), "standard input".to_owned()]);
        assert!(expand(&[at("*.none")]).is_err());
        assert!(expand(&[at("none.log")]).is_err());
        assert!(expand(&[dir.path().display().to_string()]).is_err());
    }
}
