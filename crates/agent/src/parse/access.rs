//! Lines of web servers: access logs in the common and combined formats, and the error logs of
//! nginx and Apache, into fields with OpenTelemetry's names.
//!
//! ```text
//! [host:port] client ident user [02/Jan/2024:15:04:05 +0000] "GET /a?b HTTP/1.1" 200 12 ["referer" "agent"]
//! 2024/01/02 15:04:05 [error] 7#8: *9 text, client: 10.0.0.1, server: a, request: "GET / HTTP/1.1", …
//! [Tue Jan 02 15:04:05.1 2024] [core:error] [pid 7:tid 8] [client 10.0.0.1:4711] text
//! ```

use lodge_wire::json_object::JsonValue;

/// Longest part before the time in which client and user stand.
const HEAD_BYTES_MAX: usize = 512;

/// Gives the fields of an access log's line to `each`; false if it is none.
pub fn access_fields(line: &str, mut each: impl FnMut(&str, JsonValue<'_>)) -> bool {
    read_access(line, &mut each).is_some()
}

fn read_access(line: &str, each: &mut impl FnMut(&str, JsonValue<'_>)) -> Option<()> {
    let window = line.as_bytes().get(..line.len().min(HEAD_BYTES_MAX))?;
    let open = memchr::memmem::find_iter(window, b" [")
        .find(|open| line.as_bytes().get(open + 4) == Some(&b'/'))?;
    let (head, rest) = (line.get(..open)?, line.get(open + 2..)?);
    let (_, rest) = rest.split_once("] \"")?;
    let (request, rest) = quoted(rest)?;
    let mut words = rest.strip_prefix(' ')?.splitn(3, ' ');
    let status = words.next().filter(|s| s.len() == 3 && s.bytes().all(|b| b.is_ascii_digit()))?;
    let size = words.next().filter(|s| *s == "-" || s.bytes().all(|b| b.is_ascii_digit()))?;
    let rest = words.next().unwrap_or_default();

    // Nothing was given out before the line was known to be one.
    read_client(head, each)?;
    read_request(request, each);
    each("http.response.status_code", JsonValue::Number(status));
    if size != "-" && !size.is_empty() {
        each("http.response.body.size", JsonValue::Number(size));
    }
    let mut rest = rest;
    for name in ["http.request.header.referer", "user_agent.original"] {
        let Some((value, behind)) = rest.strip_prefix('"').and_then(quoted) else { break };
        text(name, value, each);
        rest = behind.trim_start();
    }
    Some(())
}

fn read_client(head: &str, each: &mut impl FnMut(&str, JsonValue<'_>)) -> Option<()> {
    let (mut client, mut rest) = head.split_once(' ')?;
    // With virtual hosts the server's name and port come first.
    let is_server = client.rsplit_once(':').is_some_and(|(host, port)| {
        !host.contains(':') && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
    });
    if is_server && rest.split(' ').count() >= 3 {
        text("server.address", client, each);
        (client, rest) = rest.split_once(' ')?;
    }
    let (_ident, user) = rest.split_once(' ')?;
    text("client.address", client, each);
    text("user.name", user, each);
    Some(())
}

/// `GET /path?query HTTP/1.1`; anything else is only in the message.
fn read_request(request: &str, each: &mut impl FnMut(&str, JsonValue<'_>)) {
    let mut words = request.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return };
    let protocol = words.next();
    let known = method.len() <= 32 && method.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
    if !known || method.is_empty() || words.next().is_some() {
        return;
    }
    text("http.request.method", method, each);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    text("url.path", path, each);
    text("url.query", query, each);
    if let Some(version) = protocol.and_then(|p| p.strip_prefix("HTTP/")) {
        each("network.protocol.version", JsonValue::Text(version));
    }
}

fn text(name: &str, value: &str, each: &mut impl FnMut(&str, JsonValue<'_>)) {
    if !value.is_empty() && value != "-" {
        each(name, JsonValue::Text(value));
    }
}

/// A text up to its closing quote, and what follows. Escapes stay as they are written.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', text.as_bytes().get(from..)?)?;
        if text.as_bytes().get(at) == Some(&b'"') {
            return Some((text.get(..at)?, text.get(at + 1..)?));
        }
        from = at + 2;
    }
}

/// Gives the fields of an nginx or Apache error log's line to `each`; `behind` is what follows the
/// time.
pub fn error_fields(behind: &str, mut each: impl FnMut(&str, JsonValue<'_>)) {
    if read_nginx_error(behind, &mut each).is_none() {
        let _ = read_apache_error(behind, &mut each);
    }
}

fn read_nginx_error(behind: &str, each: &mut impl FnMut(&str, JsonValue<'_>)) -> Option<()> {
    let (level, rest) = behind.strip_prefix(" [")?.split_once("] ")?;
    let (process, rest) = rest.split_once(": ")?;
    let (process, thread) = process.split_once('#')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !level.bytes().all(|b| b.is_ascii_lowercase()) || !number(process) || !number(thread) {
        return None;
    }
    each("process.pid", JsonValue::Number(process));
    each("thread.id", JsonValue::Number(thread));
    let names = [("client", "client.address"), ("server", "server.address")];
    for (key, name) in names {
        let value = rest.split_once(&format!(", {key}: ")).map(|(_, value)| value);
        let value = value.and_then(|value| value.split([',', ' ']).next());
        text(name, value.unwrap_or_default(), each);
    }
    if let Some((_, request)) = rest.split_once(", request: \"")
        && let Some((request, _)) = quoted(request)
    {
        read_request(request, each);
    }
    Some(())
}

fn read_apache_error(behind: &str, each: &mut impl FnMut(&str, JsonValue<'_>)) -> Option<()> {
    let (_level, rest) = behind.strip_prefix(" [")?.split_once("] ")?;
    let mut rest = rest;
    while let Some((part, next)) = rest.strip_prefix('[').and_then(|r| r.split_once("] ")) {
        if let Some(process) = part.strip_prefix("pid ") {
            let (process, thread) = process.split_once(":tid ").unwrap_or((process, ""));
            each("process.pid", JsonValue::Number(process));
            if !thread.is_empty() {
                each("thread.id", JsonValue::Number(thread));
            }
        } else if let Some(client) = part.strip_prefix("client ") {
            // The port stands behind the last colon, if there is one.
            let (address, _) = client.rsplit_once(':').unwrap_or((client, ""));
            text("client.address", address, each);
        }
        rest = next;
    }
    Some(())
}
