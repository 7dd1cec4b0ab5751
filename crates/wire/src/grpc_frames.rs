//! What gRPC puts around a message: its frame, the deadline, and the text of a status.
//!
//! ```text
//! frame           flag (0 plain, 1 compressed) | length, 4 bytes big-endian | message
//! grpc-timeout    1 to 8 digits and a unit: H M S m u n
//! grpc-message    percent-encoded where it is no printable ASCII
//! ```
//!
//! Specification: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>. Invariants: a
//! length is never believed beyond the bytes that are there, and nothing is copied; a message for
//! a client is at most [`MESSAGE_BYTES_MAX`] long when it is encoded.

use std::time::Duration;

/// What stands before each message.
pub const HEAD_BYTES: usize = 5;
/// Longest `grpc-message`: clients take 8 KiB of headers and trailers in all.
pub const MESSAGE_BYTES_MAX: usize = 1 << 10;
/// Most digits of a `grpc-timeout`.
const TIMEOUT_DIGITS_MAX: usize = 8;

/// The message of a unary call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'b> {
    /// Whether it is compressed as the header `grpc-encoding` says.
    pub is_compressed: bool,
    /// Its bytes.
    pub bytes: &'b [u8],
}

/// Why a body is not the one message of a unary call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The body is empty.
    #[error("the call has no message; it takes one")]
    None,
    /// The body ends too early.
    #[error("the gRPC message is cut off: {announced} bytes were announced, {there} came")]
    Cut {
        /// What the frame's head says; its own length where not even that is there.
        announced: usize,
        /// What followed it.
        there: usize,
    },
    /// The first byte is neither 0 nor 1.
    #[error("the gRPC message begins with the byte {0}, which is neither 0 (plain) nor 1")]
    Flag(u8),
    /// Something follows the message.
    #[error("{0} bytes follow the call's message; it takes one message")]
    More(usize),
}

/// The message of a unary call's body.
pub fn only_message(body: &[u8]) -> Result<Message<'_>, FrameError> {
    let Some((head, rest)) = body.split_first_chunk::<HEAD_BYTES>() else {
        let there = body.len();
        let cut = FrameError::Cut { announced: HEAD_BYTES, there };
        return Err(if body.is_empty() { FrameError::None } else { cut });
    };
    let [flag, length @ ..] = *head;
    if flag > 1 {
        return Err(FrameError::Flag(flag));
    }
    let announced = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    let Some((bytes, more)) = rest.split_at_checked(announced) else {
        return Err(FrameError::Cut { announced, there: rest.len() });
    };
    if !more.is_empty() {
        return Err(FrameError::More(more.len()));
    }
    Ok(Message { is_compressed: flag == 1, bytes })
}

/// A plain message in its frame. `None` for one of 4 GiB or more, which no frame can hold.
pub fn framed(message: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(message.len()).ok()?;
    let mut out = Vec::with_capacity(HEAD_BYTES + message.len());
    out.push(0);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(message);
    Some(out)
}

/// The value of `grpc-message` for a text: its head, if it is long.
pub fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        let before = out.len();
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            if (b' '..=b'~').contains(&byte) && byte != b'%' {
                out.push(char::from(byte));
            } else {
                out.push('%');
                out.extend([byte >> 4, byte & 15].map(hex_digit));
            }
        }
        if out.len() > MESSAGE_BYTES_MAX {
            out.truncate(before);
            break;
        }
    }
    out
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase()
}

/// The value of `grpc-timeout`; `None` if it is none.
pub fn timeout(value: &str) -> Option<Duration> {
    let (unit_at, unit) = value.char_indices().next_back()?;
    let digits = value.get(..unit_at)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    if digits.is_empty() || digits.len() > TIMEOUT_DIGITS_MAX || !is_number {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    // Eight digits of hours are far from the largest number of seconds.
    Some(match unit {
        'H' => Duration::from_secs(amount * 3600),
        'M' => Duration::from_secs(amount * 60),
        'S' => Duration::from_secs(amount),
        'm' => Duration::from_millis(amount),
        'u' => Duration::from_micros(amount),
        'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unary_call_has_one_whole_message() {
        let body = framed(b"hello").expect("short");
        assert_eq!(body, b"\0\0\0\0\x05hello");
        let message = Message { is_compressed: false, bytes: b"hello" };
        assert_eq!(only_message(&body), Ok(message));
        let compressed = only_message(b"\x01\0\0\0\0").expect("an empty message");
        assert_eq!(compressed, Message { is_compressed: true, bytes: b"" });
        assert_eq!(only_message(b""), Err(FrameError::None));
        for length in 1..body.len() {
            let error = only_message(&body[..length]).expect_err("cut");
            assert!(matches!(error, FrameError::Cut { .. }), "{length}: {error}");
        }
        assert_eq!(only_message(&[&body[..], &body[..]].concat()), Err(FrameError::More(10)));
        assert_eq!(only_message(b"{\"res"), Err(FrameError::Flag(b'{')));
    }

    #[test]
    fn an_announced_gigabyte_is_not_waited_for_or_allocated() {
        let error = FrameError::Cut { announced: 1 << 30, there: 1 };
        assert_eq!(only_message(b"\0\x40\0\0\0x"), Err(error));
        let error = FrameError::Cut { announced: u32::MAX as usize, there: 0 };
        assert_eq!(only_message(b"\x01\xff\xff\xff\xff"), Err(error));
    }

    #[test]
    fn a_status_text_is_printable_ascii_of_bounded_length() {
        assert_eq!(percent_encoded("100% of é\n~"), "100%25 of %C3%A9%0A~");
        let long = percent_encoded(&"🦀".repeat(1000));
        assert_eq!(long, "%F0%9F%A6%80".repeat(MESSAGE_BYTES_MAX / 12));
        assert_eq!(percent_encoded(&"a".repeat(5000)).len(), MESSAGE_BYTES_MAX);
    }

    #[test]
    fn a_timeout_has_up_to_eight_digits_and_a_unit() {
        for (value, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("10S", Duration::from_secs(10)),
            ("99999999m", Duration::from_millis(99_999_999)),
            ("5u", Duration::from_micros(5)),
            ("0n", Duration::ZERO),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(timeout(value), Some(expected), "{value}");
        }
        for value in ["", "S", "10", "10s", "-1S", "1.5S", " 1S", "100000000S", "1é", "٣S"] {
            assert_eq!(timeout(value), None, "{value}");
        }
    }
}
