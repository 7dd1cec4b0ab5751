//! A text that grows up to a limit.

use lodge_record::overflow::push_json_string;

/// Most bytes of one made value.
pub(super) const VALUE_BYTES_MAX: usize = 16 << 20;
/// So much of a text is put in quotes at once.
const QUOTED_BYTES: usize = 4_096;

/// A text; once it has grown too long, what comes is not kept.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    is_too_long: bool,
}

impl Text {
    pub(super) fn push_str(&mut self, more: &str) {
        if self.text.len() + more.len() > VALUE_BYTES_MAX {
            self.is_too_long = true;
        }
        if !self.is_too_long {
            self.text.push_str(more);
        }
    }

    pub(super) fn push(&mut self, more: char) {
        self.push_str(more.encode_utf8(&mut [0; 4]));
    }

    /// Appends a JSON string with its quotes.
    pub(super) fn push_quoted(&mut self, value: &str) {
        self.push('"');
        let mut rest = value;
        let mut quoted = String::new();
        while !rest.is_empty() && !self.is_too_long {
            let (head, tail) = rest.split_at(rest.ceil_char_boundary(QUOTED_BYTES));
            quoted.clear();
            push_json_string(&mut quoted, head);
            self.push_str(quoted.get(1..quoted.len() - 1).unwrap_or_default());
            rest = tail;
        }
        self.push('"');
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether nothing more is kept.
    pub(super) fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    /// The text; `None` if it grew too long.
    pub(super) fn get(&self) -> Option<&str> {
        (!self.is_too_long).then_some(self.text.as_str())
    }
}
