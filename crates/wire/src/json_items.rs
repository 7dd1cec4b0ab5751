//! Where the parts of a JSON text begin and end, found by quotes and brackets alone.
//!
//! A body of many objects is cut here and each is read by itself, so that a damaged one costs only
//! itself. Works on bytes: a body may hold texts that are no UTF-8. What is cut is not checked;
//! whoever reads a part does that. Invariants: one pass, no recursion, no allocation; every byte
//! that is neither blank nor a separator is in exactly one item.

/// One part of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'b> {
    /// Where it begins, in bytes.
    pub offset: usize,
    /// Its bytes.
    pub bytes: &'b [u8],
}

/// The objects of a body: one after the other, with or without line ends or commas between, or the
/// elements of one array. What is no object is an item too, up to the next brace or line.
pub struct Items<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Items<'b> {
    /// The items of `bytes`.
    pub fn new(bytes: &'b [u8]) -> Self {
        let mut items = Items { bytes, at: 0 };
        items.pass_over(|b| b.is_ascii_whitespace());
        // Of an array only the elements matter, also if its end is missing.
        if items.rest().starts_with(b"[") {
            items.at += 1;
            let trimmed = bytes.trim_ascii_end();
            items.bytes = trimmed.strip_suffix(b"]").unwrap_or(trimmed);
        }
        items
    }

    fn rest(&self) -> &'b [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn pass_over(&mut self, skipped: impl Fn(&u8) -> bool) {
        self.at += self.rest().iter().take_while(|b| skipped(b)).count();
    }
}

impl<'b> Iterator for Items<'b> {
    type Item = Item<'b>;

    fn next(&mut self) -> Option<Item<'b>> {
        self.pass_over(|b| b.is_ascii_whitespace() || *b == b',');
        let rest = self.rest();
        let length = match rest.first()? {
            // One without an end takes all that is left, so that nothing is looked at again.
            b'{' => value_length(rest).unwrap_or(rest.len()),
            _ => memchr::memchr2(b'\n', b'{', rest).unwrap_or(rest.len()),
        };
        let offset = self.at;
        self.at += length;
        Some(Item { offset, bytes: rest.get(..length).unwrap_or_default() })
    }
}

/// Length of the value that `bytes` begin with; `None` if it does not end in them.
fn value_length(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? {
        b'"' => text_length(bytes),
        b'{' | b'[' => {
            let (mut open, mut at) = (0usize, 0usize);
            loop {
                match bytes.get(at)? {
                    b'"' => {
                        at += text_length(bytes.get(at..)?)?;
                        continue;
                    }
                    b'{' | b'[' => open += 1,
                    b'}' | b']' => open -= 1,
                    _ => {}
                }
                at += 1;
                if open == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let ends = |b: &u8| b.is_ascii_whitespace() || b",]}:".contains(b);
            Some(bytes.iter().position(ends).unwrap_or(bytes.len()))
        }
    }
}

/// Length of the text that `bytes` begin with, both quotes counted.
fn text_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}

/// The elements of the array that is `bytes`, none of anything else.
pub(crate) fn elements(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = inside(bytes, b'[', b']');
    std::iter::from_fn(move || {
        let skipped = |b: &&u8| b.is_ascii_whitespace() || **b == b',';
        rest = rest.get(rest.iter().take_while(skipped).count()..)?;
        let (element, after) = rest.split_at_checked(value_length(rest)?.max(1))?;
        rest = after;
        Some(element)
    })
}

/// The names, still escaped, and the values of the object that is `bytes`, none of anything else.
pub(crate) fn members(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = inside(bytes, b'{', b'}');
    std::iter::from_fn(move || {
        let skipped = |b: &&u8| b.is_ascii_whitespace() || b",:".contains(b);
        let mut value = || {
            rest = rest.get(rest.iter().take_while(skipped).count()..)?;
            let (value, after) = rest.split_at_checked(value_length(rest)?.max(1))?;
            rest = after;
            Some(value)
        };
        Some((text_inside(value()?)?, value()?))
    })
}

/// What is between the quotes of a text; `None` of another value.
pub(crate) fn text_inside(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

fn inside(bytes: &[u8], open: u8, close: u8) -> &[u8] {
    let bytes = bytes.trim_ascii();
    bytes.strip_prefix(&[open]).and_then(|b| b.strip_suffix(&[close])).unwrap_or_default()
}
