//! The readings of a host: the ways in which different servers interpret `:authority`.
//!
//! In: the host of a request, with its port if it has one. Out: the host without user information,
//! a malformed port, a trailing dot or an encoding, which some servers remove. A plain host has one
//! reading.

use super::path::{MAX_READINGS, Transform, Unreadable, decoded, fold_unicode};
use std::borrow::Cow;

/// The other readings of a host, apart from the host as sent.
pub(super) fn readings(host: &[u8]) -> Result<Vec<Cow<'_, [u8]>>, Unreadable> {
    let mut readings: Vec<Cow<'_, [u8]>> = Vec::new();
    if is_plain(host) {
        return Ok(readings);
    }
    let mut next = 0;
    loop {
        let reading = if next == 0 { Some(host) } else { readings.get(next - 1).map(AsRef::as_ref) };
        let Some(reading) = reading else { return Ok(readings) };
        let further: Vec<Vec<u8>> = TRANSFORMS.iter().filter_map(|step| step(reading)).collect();
        for read in further {
            if host != read && readings.iter().all(|known| **known != *read) {
                readings.push(Cow::Owned(read));
            }
        }
        if readings.len() >= MAX_READINGS {
            return Err(Unreadable);
        }
        next += 1;
    }
}

/// The transformations that servers apply to a host.
const TRANSFORMS: [Transform; 6] =
    [decoded, fold_unicode, without_port, without_user, without_end, without_dot];

/// RFC 3986 `reg-name` without encodings, with a port of digits or none.
fn is_plain(host: &[u8]) -> bool {
    let name = host_of(host);
    let sound = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.iter().all(sound) && name.last() != Some(&b'.')
}

/// Removes a malformed port; rules handle a port of digits themselves.
fn without_port(host: &[u8]) -> Option<Vec<u8>> {
    let name = host.iter().position(|byte| *byte == b']').unwrap_or_default();
    let colon = host.iter().skip(name).position(|byte| *byte == b':')?;
    host.get(..name.saturating_add(colon)).map(<[u8]>::to_vec)
}

fn without_user(host: &[u8]) -> Option<Vec<u8>> {
    let at = host.iter().rposition(|byte| *byte == b'@')?;
    host.get(at.saturating_add(1)..).map(<[u8]>::to_vec)
}

/// A list element ends at its comma, a URL's authority at the beginning of its path.
fn without_end(host: &[u8]) -> Option<Vec<u8>> {
    let ends = |byte: &u8| matches!(byte, b',' | b'/' | b'\\' | b'?' | b'#' | b';' | 0x7f) || *byte <= b' ';
    let start = host.iter().position(|byte| !ends(byte)).unwrap_or(host.len());
    let host = host.get(start..).unwrap_or_default();
    match host.iter().position(ends) {
        Some(end) => host.get(..end).map(<[u8]>::to_vec),
        None => (start > 0).then(|| host.to_vec()),
    }
}

/// `example.com.` is `example.com` (RFC 1034 section 3.1).
fn without_dot(host: &[u8]) -> Option<Vec<u8>> {
    let end = host.iter().rposition(|byte| *byte != b'.').map_or(0, |last| last.saturating_add(1));
    host.get(..end).filter(|left| left.len() < host.len()).map(<[u8]>::to_vec)
}

/// `host:8080` without its port; `[::1]:8080` too.
pub fn host_of(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|byte| *byte == b':') {
        Some(colon) => {
            let (name, port) = host.split_at(colon);
            let digits = port.get(1..).unwrap_or_default();
            if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) { name } else { host }
        }
        None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_host_has_one_reading() {
        for host in ["", "svc", "svc:8080", "Admin.example.com:443", "a-b_c.example.com"] {
            assert!(readings(host.as_bytes()).unwrap().is_empty(), "{host}");
        }
    }

    #[test]
    fn everything_around_a_host_may_be_dropped() {
        for spelling in [
            "admin.example.com:",
            "admin.example.com:x",
            "admin.example.com:+1",
            "admin.example.com:80.",
            "admin.example.com.",
            "admin.example.com.:80",
            "admin.example.com..",
            "user@admin.example.com",
            "public.example.com@admin.example.com:x",
            "admin.example.com,public.example.com",
            "admin.example.com/x",
            "admin.example.com\\x",
            "admin%2eexample.com",
            "admin.example.com%3a",
            "admin.example.com:80:81",
            " admin.example.com",
            "\u{ff41}dmin.example.com",
        ] {
            let readings = readings(spelling.as_bytes()).unwrap();
            assert!(
                readings.iter().any(|reading| **reading == *b"admin.example.com"),
                "{spelling}: {readings:?}"
            );
        }
        let six = readings(b"[::1]:x").unwrap();
        assert!(six.iter().any(|reading| **reading == *b"[::1]"), "{six:?}");
    }
}
