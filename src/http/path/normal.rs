//! The normal form of a path, for URLs in the configuration and in `DPoP` proofs (RFC 3986 section
//! 6.2). Requests have readings instead, since servers do not agree on one form.

use std::borrow::Cow;

/// The path has no unique normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmbiguousPath;

/// The normal form of a path, without its query: decoded, without parameters, empty segments and
/// dot segments.
pub fn normal(path: &[u8]) -> Result<Cow<'_, [u8]>, AmbiguousPath> {
    let end = path.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
    let path = path.get(..end).unwrap_or_default();
    if path.first() != Some(&b'/') {
        return Err(AmbiguousPath);
    }
    if path.iter().any(|byte| *byte < b' ' || matches!(byte, b'\\' | 0x7f)) {
        return Err(AmbiguousPath);
    }
    if is_normal(path) {
        return is_utf8(path).map(|()| Cow::Borrowed(path));
    }
    let decoded = decode(path)?;
    is_utf8(&decoded)?;
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut ends_in_slash = false;
    for segment in decoded.split(|byte| *byte == b'/').skip(1) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        ends_in_slash = matches!(name, b"" | b"." | b"..");
        match name {
            b"" | b"." => {}
            b".." => drop(segments.pop().ok_or(AmbiguousPath)?),
            _ => segments.push(name),
        }
    }
    let mut normal = Vec::with_capacity(decoded.len());
    for segment in segments {
        normal.push(b'/');
        normal.extend_from_slice(segment);
    }
    if ends_in_slash || normal.is_empty() {
        normal.push(b'/');
    }
    Ok(Cow::Owned(normal))
}

/// RFC 3629 section 10: a lenient decoder reads `%c0%af` as a slash and `%c0%ae` as a dot, a strict
/// one rejects both.
fn is_utf8(path: &[u8]) -> Result<(), AmbiguousPath> {
    std::str::from_utf8(path).map(drop).map_err(|_| AmbiguousPath)
}

/// No percent, no parameter, no empty segment, and no segment that starts with a dot (some of which
/// are fine).
fn is_normal(path: &[u8]) -> bool {
    !path.iter().any(|byte| matches!(byte, b'%' | b';'))
        && !path.windows(2).any(|pair| matches!(pair, [b'/', b'/' | b'.']))
}

/// Percent-decodes once. What servers interpret differently (an encoded slash, a path that is
/// encoded twice) is rejected.
fn decode(path: &[u8]) -> Result<Vec<u8>, AmbiguousPath> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let ([high, low, ..], Some(tail)) = (tail, tail.get(2..)) else {
            return Err(AmbiguousPath);
        };
        let byte = hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low).ok_or(AmbiguousPath)?;
        if byte < b' ' || matches!(byte, b'/' | b'\\' | 0x7f) {
            return Err(AmbiguousPath);
        }
        if byte == b'%' && matches!(tail, [high, low, ..] if hex(*high).is_some() && hex(*low).is_some()) {
            return Err(AmbiguousPath);
        }
        decoded.push(byte);
        rest = tail;
    }
    Ok(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(path: &str) -> Option<String> {
        normal(path.as_bytes()).ok().map(|path| String::from_utf8_lossy(&path).into_owned())
    }

    #[test]
    fn every_spelling_of_a_path_has_one_form() {
        for spelling in [
            "/admin",
            "/admin?x",
            "/admin#x",
            "//admin",
            "///admin",
            "/./admin",
            "/x/../admin",
            "/%61dmin",
            "/%61%64min",
            "/admin;x",
            "/;a/admin",
            "/admin;a=b;c",
            "/x/%2e%2e/admin",
            "/x/..;/admin",
            "/x/.%2E/admin",
            "/admin%3bx",
        ] {
            assert_eq!(form(spelling).as_deref(), Some("/admin"), "{spelling}");
        }
        assert_eq!(form("/admin/").as_deref(), Some("/admin/"));
        assert_eq!(form("/admin/.").as_deref(), Some("/admin/"));
        assert_eq!(form("/admin/x/..").as_deref(), Some("/admin/"));
        assert_eq!(form("/").as_deref(), Some("/"));
        assert_eq!(form("/.well-known/x").as_deref(), Some("/.well-known/x"));
        assert_eq!(form("/a..b/...").as_deref(), Some("/a..b/..."));
        assert_eq!(form("/100%25").as_deref(), Some("/100%"));
        assert_eq!(form("/caf%C3%A9").as_deref(), Some("/café"));
    }

    #[test]
    fn a_path_that_is_not_utf8_is_refused() {
        for path in [&b"/x/\xc0\xae\xc0\xae/admin"[..], b"/caf\xe9", b"/\xff", b"/%61/\xc0\xaf"] {
            assert_eq!(normal(path), Err(AmbiguousPath), "{}", path.escape_ascii());
        }
        assert_eq!(normal("/café".as_bytes()).as_deref(), Ok("/café".as_bytes()));
    }

    #[test]
    fn what_has_no_single_form_is_refused() {
        for spelling in [
            "/%c0%afadmin",
            "/x/%c0%ae%c0%ae/admin",
            "/%e0%80%afadmin",
            "/%f0%80%80%afadmin",
            "/caf%e9",
            "/%ff",
            "/%u0061dmin",
            "",
            "*",
            "admin",
            "http://x/admin",
            "/..",
            "/x/../../admin",
            "/x%2fadmin",
            "/x%5Cadmin",
            "/x\\admin",
            "/%00",
            "/a\0",
            "/%2561dmin",
            "/%",
            "/%6",
            "/%zz",
            "/\n",
            "/%0a",
            "\u{7f}",
        ] {
            assert_eq!(form(spelling), None, "{spelling:?}");
        }
    }
}
