//! Hostile bytes: requests and lines that want more memory than they are.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

/// A zstd frame of `blocks` blocks that each say "128 KiB of x" in four bytes (RFC 8878, 3.1.1.2).
pub fn zstd_bomb(blocks: u32) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x70];
    for block in 1..=blocks {
        let header: u32 = (128 << 10) << 3 | 1 << 1 | u32::from(block == blocks);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(b'x');
    }
    frame
}

/// JSON lines with a million field names between them.
pub fn million_names(round: u64) -> Vec<u8> {
    let mut body = String::new();
    for record in 0..1_000 {
        body.push_str("{\"_msg\":\"many names\"");
        for field in 0..1_000 {
            body.push_str(&format!(",\"n{round}_{record}_{field}\":{field}"));
        }
        body.push_str("}\n");
    }
    body.into_bytes()
}

/// JSON lines of a million streams.
pub fn million_streams(round: u64) -> Vec<u8> {
    let mut body = String::new();
    for stream in 0..1_000_000 {
        let line = format!("{{\"_msg\":\"many streams\",\"source\":\"s{round}-{stream}\"}}\n");
        body.push_str(&line);
    }
    body.into_bytes()
}

/// Posts one line of `bytes` without ever holding it; the status of the answer.
pub fn post_endless_line(addr: SocketAddr, target: &str, bytes: u64) -> io::Result<u16> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let start = b"{\"_msg\":\"";
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        bytes + start.len() as u64,
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(start)?;
    let piece = vec![b'x'; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(piece.len() as u64) as usize;
        // A server that refuses early closes early; its answer is read all the same.
        if stream.write_all(&piece[..now]).is_err() {
            break;
        }
        left -= now as u64;
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    String::from_utf8_lossy(&answer)
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| io::Error::other("an answer that is not HTTP"))
}

/// Writes files that an agent finds hard to read: one line of `bytes`, and lines in every bad form.
pub fn write_hard_files(folder: &Path, bytes: u64) -> io::Result<()> {
    let mut file = io::BufWriter::new(std::fs::File::create(folder.join("monster.log"))?);
    let piece = vec![b'y'; 1 << 20];
    for _ in 0..bytes >> 20 {
        file.write_all(&piece)?;
    }
    file.write_all(b"\nafter the monster\n")?;
    file.flush()?;
    let mut file = io::BufWriter::new(std::fs::File::create(folder.join("forms.log"))?);
    file.write_all(b"\xef\xbb\xbfbehind a byte order mark\r\n")?;
    for number in 0..200_000_u32 {
        writeln!(file, "carriage {number}\r")?;
        file.write_all(b"nul \0 and \xff\xfe no UTF-8 \xed\xa0\x80\n")?;
    }
    file.write_all(&vec![0; 4 << 20])?;
    file.write_all(b"\n")?;
    file.flush()?;
    let mut file = io::BufWriter::new(std::fs::File::create(folder.join("utf16.log"))?);
    file.write_all(&[0xff, 0xfe])?;
    for number in 0..50_000_u32 {
        for unit in format!("sixteen bits {number}\n").encode_utf16() {
            file.write_all(&unit.to_le_bytes())?;
        }
    }
    file.flush()
}
