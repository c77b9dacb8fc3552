//! The query of a path: a parameter's value, and the path without some parameters, every other byte as it was.

use super::{ExtractError, MAX_BYTES};
use std::borrow::Cow;

/// The value of the one parameter of this name, decoded as forms are (RFC 6750 section 2.3). Only the
/// operator opens this location (RFC 9700 section 4.3.2).
pub(super) fn value<'a>(path: &'a [u8], name: &str) -> Result<Cow<'a, [u8]>, ExtractError> {
    let (_, query, _) = split_at_query(path).ok_or(ExtractError::Missing)?;
    if query.len() > MAX_BYTES {
        return Err(ExtractError::TooLarge);
    }
    let others = query.split(|byte| matches!(byte, b'&' | b';'));
    if others.filter(|piece| !has_name(piece, name)).any(|piece| may_be_read_as(piece, name))
        || may_hide(query, name)
    {
        return Err(ExtractError::Multiple);
    }
    let mut values = parameters(query).filter(|piece| has_name(piece, name)).map(|piece| split_pair(piece).1);
    let value = values.next().ok_or(ExtractError::Missing)?;
    if values.next().is_some() {
        return Err(ExtractError::Multiple);
    }
    match value {
        [] => Err(ExtractError::Missing),
        value if value.iter().any(|byte| matches!(byte, b'%' | b'+')) => Ok(decoded(value).collect()),
        value => Ok(value.into()),
    }
}

/// Whether a parameter has this name, in whatever spelling.
pub(super) fn has_name(piece: &[u8], name: &str) -> bool {
    decoded(split_pair(piece).0).eq(name.bytes())
}

/// Whether a parameter of this name follows a `;`, at which some servers divide too (HTML 4.01, appendix B.2.2).
fn may_hide(query: &[u8], name: &str) -> bool {
    parameters(query).any(|piece| piece.split(|byte| *byte == b';').skip(1).any(|part| has_name(part, name)))
}

/// Whether some server takes it for this parameter: PHP makes `access_token` of `access.token`, of `access[token`, and of
/// ` access_token`; ASP.NET ignores case.
fn may_be_read_as(piece: &[u8], name: &str) -> bool {
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'_' };
    let own: Vec<u8> = decoded(split_pair(piece).0).take_while(|byte| *byte != 0).collect();
    own.trim_ascii().iter().copied().map(fold).eq(name.bytes().map(fold))
}

/// The path without those parameters, and without the `?` if no other is left; none if there is none of them.
pub(super) fn without(path: &[u8], gone: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let (before, query, behind) = split_at_query(path)?;
    if !parameters(query).any(&gone) {
        return None;
    }
    let left = parameters(query).filter(|piece| !gone(piece)).collect::<Vec<_>>().join(&b'&');
    let mark: &[u8] = if left.is_empty() { b"" } else { b"?" };
    Some([before, mark, left.as_slice(), behind].concat())
}

/// What stands before the query's `?`, the query, and what stands behind it; none without a query.
fn split_at_query(path: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let end = path.iter().position(|byte| *byte == b'#').unwrap_or(path.len());
    let (path, behind) = path.split_at(end);
    let (before, query) = path.split_at(path.iter().position(|byte| *byte == b'?')?);
    Some((before, query.get(1..)?, behind))
}

fn parameters(query: &[u8]) -> impl Iterator<Item = &[u8]> {
    query.split(|byte| *byte == b'&')
}

/// Name and value.
fn split_pair(piece: &[u8]) -> (&[u8], &[u8]) {
    let end = piece.iter().position(|byte| *byte == b'=').unwrap_or(piece.len());
    let (name, value) = piece.split_at(end);
    (name, value.get(1..).unwrap_or_default())
}

/// The bytes that forms spell so; a `%` that spells none is itself.
fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (byte, tail) = rest.split_first()?;
        rest = tail;
        match (byte, tail) {
            (b'+', _) => Some(b' '),
            (b'%', [high, low, tail @ ..]) => match hex(*high).zip(hex(*low)) {
                Some((high, low)) => {
                    rest = tail;
                    Some(high << 4 | low)
                }
                None => Some(b'%'),
            },
            _ => Some(*byte),
        }
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
