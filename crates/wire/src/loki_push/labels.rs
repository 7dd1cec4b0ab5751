//! The labels of a stream as text: `{app="web", host="h1"}`, the values quoted as in Go.

use super::LABELS_BYTES_MAX;

/// Reads labels in the order in which they stand. No text, or `{}`, is no labels. The error says
/// what is wrong and where.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    if text.len() > LABELS_BYTES_MAX {
        return Err(format!("labels of {} bytes, more than {LABELS_BYTES_MAX}", text.len()));
    }
    let mut reader = Reader { text, rest: text.trim() };
    if reader.rest.is_empty() {
        return Ok(Vec::new());
    }
    reader.expect('{')?;
    let mut labels = Vec::new();
    loop {
        if reader.take('}') {
            break;
        }
        let name = reader.name()?;
        reader.expect('=')?;
        let value = reader.quoted()?.ok_or_else(|| reader.wrong("expected a quoted value"))?;
        labels.push((name, value));
        if !reader.take(',') {
            reader.expect('}')?;
            break;
        }
    }
    if !reader.rest.is_empty() {
        return Err(reader.wrong("more text after the labels"));
    }
    Ok(labels)
}

struct Reader<'t> {
    text: &'t str,
    rest: &'t str,
}

impl Reader<'_> {
    fn wrong(&self, what: &str) -> String {
        format!("{what} at byte {} of the labels", self.text.trim_end().len() - self.rest.len())
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default().trim_start();
    }

    fn take(&mut self, sign: char) -> bool {
        let taken = self.rest.starts_with(sign);
        if taken {
            self.advance(sign.len_utf8());
        }
        taken
    }

    fn expect(&mut self, sign: char) -> Result<(), String> {
        if self.take(sign) { Ok(()) } else { Err(self.wrong(&format!("expected '{sign}'"))) }
    }

    fn name(&mut self) -> Result<String, String> {
        if let Some(name) = self.quoted()? {
            return Ok(name);
        }
        let ends = |c: char| c.is_whitespace() || "=,{}\"".contains(c);
        let length = self.rest.find(ends).unwrap_or(self.rest.len());
        let name = self.rest.get(..length).unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(self.wrong("expected a label's name"));
        }
        self.advance(length);
        Ok(name)
    }

    /// A quoted text, if one stands here.
    fn quoted(&mut self) -> Result<Option<String>, String> {
        let Some(quote @ ('"' | '`' | '\'')) = self.rest.chars().next() else { return Ok(None) };
        let inner = self.rest.get(1..).unwrap_or_default();
        let mut is_escaped = false;
        let end = inner.find(|c| {
            let ends = c == quote && !is_escaped;
            is_escaped = c == '\\' && !is_escaped && quote != '`';
            ends
        });
        let raw = end.and_then(|end| inner.get(..end));
        let raw = raw.ok_or_else(|| self.wrong("a quoted text that does not end"))?;
        let text = if quote == '`' || !raw.contains('\\') {
            raw.to_owned()
        } else {
            unquote(raw).ok_or_else(|| self.wrong("an escape that Go does not have"))?
        };
        self.advance(raw.len() + 2);
        Ok(Some(text))
    }
}

/// The text that `raw`, from between quotes, stands for in Go.
fn unquote(raw: &str) -> Option<String> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.extend_from_slice(plain.as_bytes());
        let sign = escape.chars().next()?;
        let digits = |from: usize, count: usize, radix: u32| {
            let digits = escape.get(from..from + count)?;
            let all = digits.chars().all(|c| c.is_digit(radix));
            all.then(|| u32::from_str_radix(digits, radix).ok())?
        };
        let mut taken = sign.len_utf8();
        match sign {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' | '"' | '\'' => out.push(u8::try_from(sign).ok()?),
            'x' => {
                out.push(u8::try_from(digits(1, 2, 16)?).ok()?);
                taken = 3;
            }
            '0'..='7' => {
                out.push(u8::try_from(digits(0, 3, 8)?).ok()?);
                taken = 3;
            }
            'u' | 'U' => {
                let count = if sign == 'u' { 4 } else { 8 };
                let found = char::from_u32(digits(1, count, 16)?)?;
                out.extend_from_slice(found.encode_utf8(&mut [0; 4]).as_bytes());
                taken = 1 + count;
            }
            _ => return None,
        }
        rest = escape.get(taken..)?;
    }
    out.extend_from_slice(rest.as_bytes());
    Some(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let pairs = parse(text)?;
        Ok(pairs.iter().map(|(n, v)| format!("{n}={v};")).collect())
    }

    #[test]
    fn labels_as_clients_write_them() {
        for (text, labels) in [
            ("", ""),
            ("{}", ""),
            (r#"{app="web", host="h1"}"#, "app=web;host=h1;"),
            (r#" { app = "a,b=}{" ,} "#, "app=a,b=}{;"),
            (r#"{a="q\"\\\n\x41\u00e9\U0001F680\101",b=`raw\n`}"#, "a=q\"\\\nAé🚀A;b=raw\\n;"),
            (r#"{"service.name"="x",é="y"}"#, "service.name=x;é=y;"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(labels), "{text}");
        }
        for bad in [
            "app",
            "{",
            "{app}",
            "{app=}",
            "{app=web}",
            "{app=\"web}",
            "{app=\"web\\\"}",
            "{app=\"web\"} x",
            "{app=\"\\q\"}",
            "{app=\"\\ud800\"}",
            "{app=\"\\x4\"}",
            "{=\"x\"}",
            "{a=\"1\" b=\"2\"}",
        ] {
            let error = read(bad).expect_err(bad);
            assert!(error.contains("of the labels"), "{bad}: {error}");
        }
        assert!(parse(&format!("{{a=\"{}\"}}", "x".repeat(LABELS_BYTES_MAX))).is_err());
    }
}
