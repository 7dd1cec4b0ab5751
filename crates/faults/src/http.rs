//! A small blocking HTTP/1.1 client for fault tests.
//!
//! Why not a library: an oracle must know whether a request could have reached the server at all
//! ([`Trouble::Connect`]: no) or may have been carried out unseen (every other trouble: perhaps), and
//! the tests of hostile input must be able to send bytes that no honest client would. One request
//! per connection; every wait has a deadline, so a stopped server never hangs a rig.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The largest head (status line and headers) that is read from an answer.
const HEAD_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// No connection: the server cannot have seen the request.
    #[error("no connection to {addr}: {source}")]
    Connect {
        /// Where the connection was tried.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke or timed out: the server may have carried the request out.
    #[error("the connection to {addr} broke: {source}")]
    Broken {
        /// The server's address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing that the protocol allows came back, or it could not be asked.
    #[error("{addr}: {what}")]
    Other {
        /// The server's address.
        addr: SocketAddr,
        /// What was wrong.
        what: String,
    },
    /// What came back is not HTTP.
    #[error("{addr} answered something that is not HTTP: {what}")]
    NotHttp {
        /// The server's address.
        addr: SocketAddr,
        /// What was wrong with it.
        what: String,
    },
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, and their values.
    pub headers: Vec<(String, String)>,
    /// The body, without its chunking.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Sends one request and reads the answer to its end. `deadline` bounds each wait for the other
/// side, not the whole exchange.
pub fn request(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    deadline: Duration,
) -> Result<Answer, Trouble> {
    let mut collected = Vec::new();
    let mut body = Sent::Whole(body);
    let (status, headers) =
        exchange(addr, method, target, headers, &mut body, deadline, &mut |reader| {
            reader.read_to_end(&mut collected).map(|_| ())
        })?;
    Ok(Answer { status, headers, body: collected })
}

/// As [`request`], with a body that is made while it is sent (`Transfer-Encoding: chunked`): an
/// iterator that pauses makes it slow, an empty piece is left out.
pub fn request_in_pieces(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    pieces: &mut dyn Iterator<Item = Vec<u8>>,
    deadline: Duration,
) -> Result<Answer, Trouble> {
    let mut collected = Vec::new();
    let mut body = Sent::Pieces(pieces);
    let (status, headers) =
        exchange(addr, method, target, headers, &mut body, deadline, &mut |reader| {
            reader.read_to_end(&mut collected).map(|_| ())
        })?;
    Ok(Answer { status, headers, body: collected })
}

/// Sends one request and hands over the body of a 2xx answer line by line, so that a large answer
/// is never held whole. Any other answer comes back as `Ok` with its body.
pub fn request_lines(
    addr: SocketAddr,
    target: &str,
    deadline: Duration,
    on_line: &mut dyn FnMut(&[u8]),
) -> Result<Answer, Trouble> {
    let mut whole = Vec::new();
    let mut none = Sent::Whole(b"");
    let (status, headers) =
        exchange(addr, "GET", target, &[], &mut none, deadline, &mut |reader| {
            let mut line = Vec::new();
            let mut reader = BufReader::with_capacity(256 * 1024, reader);
            while reader.read_until(b'\n', &mut line)? > 0 {
                let text = line.strip_suffix(b"\n").unwrap_or(&line);
                if !text.is_empty() {
                    on_line(text);
                }
                if whole.len() < 64 * 1024 {
                    whole.extend_from_slice(&line);
                }
                line.clear();
            }
            Ok(())
        })?;
    Ok(Answer { status, headers, body: whole })
}

/// Writes raw bytes and returns what came back before the server closed or `deadline` passed.
/// Half-closes after writing when `finish` is set; otherwise leaves the request hanging.
pub fn raw(addr: SocketAddr, bytes: &[u8], finish: bool, deadline: Duration) -> Vec<u8> {
    let mut back = Vec::new();
    let Ok(mut stream) = TcpStream::connect_timeout(&addr, deadline) else {
        return back;
    };
    if stream.set_read_timeout(Some(deadline)).is_err() {
        return back;
    }
    // A server that refuses early closes early: a failed write is then part of its answer.
    let _refused_early = stream.write_all(bytes);
    if finish {
        let _already_closed = stream.shutdown(std::net::Shutdown::Write);
    }
    let _until_closed_or_deadline = stream.take(1 << 20).read_to_end(&mut back);
    back
}

type Head = (u16, Vec<(String, String)>);

/// A request's body.
enum Sent<'b> {
    Whole(&'b [u8]),
    Pieces(&'b mut dyn Iterator<Item = Vec<u8>>),
}

impl Sent<'_> {
    /// The header that says where it ends.
    fn framing(&self) -> String {
        match self {
            Self::Whole(body) => format!("Content-Length: {}", body.len()),
            Self::Pieces(_) => "Transfer-Encoding: chunked".to_owned(),
        }
    }

    fn write(&mut self, writer: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Whole(body) => writer.write_all(body),
            Self::Pieces(pieces) => {
                for piece in pieces.filter(|piece| !piece.is_empty()) {
                    let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
                    chunk.extend_from_slice(&piece);
                    chunk.extend_from_slice(b"\r\n");
                    writer.write_all(&chunk)?;
                }
                writer.write_all(b"0\r\n\r\n")
            }
        }
    }
}

fn exchange(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &mut Sent<'_>,
    deadline: Duration,
    on_body: &mut dyn FnMut(&mut dyn Read) -> io::Result<()>,
) -> Result<Head, Trouble> {
    let stream = TcpStream::connect_timeout(&addr, deadline)
        .map_err(|source| Trouble::Connect { addr, source })?;
    let broken = |source| Trouble::Broken { addr, source };
    stream.set_read_timeout(Some(deadline)).map_err(broken)?;
    stream.set_write_timeout(Some(deadline)).map_err(broken)?;
    stream.set_nodelay(true).map_err(broken)?;
    let mut writing = &stream;
    let sent = writing
        .write_all(request_head(addr, method, target, headers, &body.framing()).as_bytes())
        .and_then(|()| body.write(&mut writing));
    let mut reader = BufReader::with_capacity(64 * 1024, &stream);
    // A server may refuse a body before it was sent whole: its answer, if there is one, is worth
    // more than our failed write.
    let (status, headers) = match (read_head(&mut reader), sent) {
        (Ok(head), _) => head,
        (Err(_), Err(source)) | (Err(HeadError::Io(source)), Ok(())) => return Err(broken(source)),
        (Err(HeadError::NotHttp(what)), Ok(())) => return Err(Trouble::NotHttp { addr, what }),
    };
    let length = find(&headers, "content-length").and_then(|v| v.parse::<u64>().ok());
    let chunked =
        find(&headers, "transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
    let read = match (chunked, length) {
        (true, _) => on_body(&mut Chunked { inner: &mut reader, left: 0, ended: false }),
        (false, Some(n)) => {
            let mut limited = (&mut reader).take(n);
            on_body(&mut limited).and_then(|()| match limited.limit() {
                0 => Ok(()),
                missing => Err(short(&format!("{missing} body bytes are missing"))),
            })
        }
        (false, None) => on_body(&mut reader),
    };
    read.map_err(broken)?;
    Ok((status, headers))
}

fn request_head(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    framing: &str,
) -> String {
    let mut head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\
         {framing}\r\n"
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head
}

enum HeadError {
    Io(io::Error),
    NotHttp(String),
}

fn read_head(reader: &mut impl BufRead) -> Result<Head, HeadError> {
    let mut reader = reader.take(HEAD_BYTES_MAX);
    loop {
        let status = read_head_line(&mut reader)?;
        let code = status
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split_ascii_whitespace().nth(1))
            .and_then(|code| code.parse::<u16>().ok())
            .ok_or_else(|| HeadError::NotHttp(format!("status line {status:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = read_head_line(&mut reader)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| HeadError::NotHttp(format!("header line {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        // 100 Continue and its like announce the answer; they are not the answer.
        if code >= 200 {
            return Ok((code, headers));
        }
    }
}

fn read_head_line(reader: &mut impl BufRead) -> Result<String, HeadError> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).map_err(HeadError::Io)?;
    if line.pop() != Some(b'\n') {
        return Err(HeadError::Io(short("the answer ends within its head")));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| HeadError::NotHttp("a head that is not UTF-8".into()))
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

fn short(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, what.to_owned())
}

/// Takes the chunking off a body. A body that ends without its last chunk is an error: a server
/// that was killed within an answer must not look like one that had no more to say.
struct Chunked<'r, R> {
    inner: &'r mut R,
    left: u64,
    ended: bool,
}

impl<R: BufRead> Read for Chunked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        if self.left == 0 {
            self.left = self.next_chunk()?;
            if self.left == 0 {
                self.ended = true;
                return Ok(0);
            }
        }
        let n = (&mut self.inner).take(self.left).read(buffer)?;
        if n == 0 && !buffer.is_empty() {
            return Err(short("the body ends within a chunk"));
        }
        self.left -= n as u64;
        if self.left == 0 {
            let mut line_end = [0; 2];
            self.inner.read_exact(&mut line_end)?;
        }
        Ok(n)
    }
}

impl<R: BufRead> Chunked<'_, R> {
    fn next_chunk(&mut self) -> io::Result<u64> {
        let mut line = String::new();
        (&mut self.inner).take(1024).read_line(&mut line)?;
        let digits = line.split(';').next().unwrap_or("").trim();
        if digits.is_empty() {
            return Err(short("the body ends without its last chunk"));
        }
        u64::from_str_radix(digits, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("chunk size {line:?}")))
    }
}

/// Percent-encodes a value for a query string.
pub fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
