//! Where a request carries its bearer token (RFC 6750 section 2.1).
//!
//! In: the head. Out: the token's bytes, or that there is none, or more than one. What is in it, others read.

use crate::io::Head;
use crate::trace;

/// Why a request has no token that could be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It carries none.
    None,
    /// It carries more than one credential (RFC 6750 section 2).
    Several,
}

/// The token that stands in this header, behind `Bearer` if it is `Authorization`.
pub fn in_header<'a>(head: &'a Head, name: &str) -> Result<&'a [u8], Absent> {
    if name == "authorization" {
        return of(head);
    }
    let mut values = head.all(name);
    let value = values.next().filter(|value| !value.is_empty()).ok_or(Absent::None)?;
    if values.next().is_some() { Err(Absent::Several) } else { Ok(value) }
}

/// A token as text: what no header may hold, and no blank (RFC 6750 section 2.1), is in none.
pub fn text(token: &[u8]) -> Option<&str> {
    let sound = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(token).ok().filter(|_| sound)
}

/// The bearer token of a request (RFC 6750 section 2.1); the scheme in any case (RFC 9110 section 11.1), at the start only.
pub fn of(head: &Head) -> Result<&[u8], Absent> {
    let found = find(head);
    trace::tell("token", found.is_ok(), || match found {
        Ok(token) => format!("Authorization: Bearer, {} bytes", token.len()),
        Err(Absent::None) => "no Authorization: Bearer".to_owned(),
        Err(Absent::Several) => "more than one credential in Authorization".to_owned(),
    });
    found
}

fn find(head: &Head) -> Result<&[u8], Absent> {
    let mut values = head.all("authorization");
    let value = values.next().ok_or(Absent::None)?;
    if values.next().is_some() {
        return Err(Absent::Several);
    }
    if !value.contains(&b',') {
        return bearer_of(value).ok_or(Absent::None);
    }
    // Envoy joins repeated lines of this header with commas: a further credential has a scheme, or is an empty line.
    let mut further = value.split(|byte| *byte == b',').skip(1).map(<[u8]>::trim_ascii);
    match bearer_of(value) {
        Some(_) if further.any(|part| part.is_empty() || part.contains(&b' ')) => Err(Absent::Several),
        None if further.any(|part| bearer_of(part).is_some()) => Err(Absent::Several),
        Some(token) => Ok(token),
        None => Err(Absent::None),
    }
}

/// What stands behind `Bearer`.
fn bearer_of(credential: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = credential.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}
