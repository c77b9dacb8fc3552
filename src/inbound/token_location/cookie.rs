//! The cookies of a request (RFC 6265 section 4.2): the value of one, and the header without some,
//! every other byte as it was.

use super::{ExtractError, MAX_BYTES};
use crate::http::message::MessageHead;

/// The value of the one cookie of this name.
pub(super) fn value<'a>(head: &'a MessageHead, name: &str) -> Result<&'a [u8], ExtractError> {
    if head.all("cookie").map(<[u8]>::len).sum::<usize>() > MAX_BYTES {
        return Err(ExtractError::TooLarge);
    }
    if head.all("cookie").any(|line| may_hide(line, name)) {
        return Err(ExtractError::Multiple);
    }
    let mut values = pairs(head).filter(|pair| has_name(pair, name)).map(|pair| split_pair(pair).1);
    let value = values.next().ok_or(ExtractError::Missing)?;
    if values.next().is_some() {
        return Err(ExtractError::Multiple);
    }
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(quoted.unwrap_or(value)).filter(|value| !value.is_empty()).ok_or(ExtractError::Missing)
}

/// Whether a cookie has this name, to the letter.
pub(super) fn has_name(pair: &[u8], name: &str) -> bool {
    split_pair(pair).0 == name.as_bytes()
}

/// Whether some server finds a cookie of this name where RFC 6265 sees none: some divide cookies at
/// commas, at white space or behind a quote, as Python's `http.cookies` does.
fn may_hide(line: &[u8], name: &str) -> bool {
    let divides = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b'"');
    line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).any(|pair| {
        let starts = pair.iter().enumerate().filter(|(_, byte)| divides(**byte)).map(|(at, _)| at);
        let rests = starts.filter_map(|at| pair.get(at..)?.get(1..)?.strip_prefix(name.as_bytes()));
        rests.into_iter().any(|rest| rest.trim_ascii_start().starts_with(b"="))
    })
}

/// The header's value without those cookies, empty if no other is left; none if it has none of
/// them.
pub(super) fn without(head: &MessageHead, gone: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    if !pairs(head).any(&gone) {
        return None;
    }
    let lines = head.all("cookie").map(|line| {
        let left: Vec<&[u8]> = line.split(|byte| *byte == b';').filter(|pair| !gone(pair)).collect();
        left.join(&b';').trim_ascii().to_vec()
    });
    let lines: Vec<Vec<u8>> = lines.filter(|line| !line.is_empty()).collect();
    Some(lines.join(&b"; "[..]))
}

/// A client may send several lines, of which HTTP/2 makes one (RFC 9113 section 8.2.3).
fn pairs(head: &MessageHead) -> impl Iterator<Item = &[u8]> {
    head.all("cookie").flat_map(|line| line.split(|byte| *byte == b';'))
}

/// Name and value, without the spaces around them.
fn split_pair(pair: &[u8]) -> (&[u8], &[u8]) {
    let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    let (name, value) = pair.split_at(end);
    (name.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii())
}
