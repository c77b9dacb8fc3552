//! Where a request carries its token (RFC 6750 section 2): behind a scheme in a header, in a header
//! of its own, in a cookie, in the query.
//!
//! In: the head, and the locations that may hold it. Out: the token's bytes, or that there is none,
//! or more than one; and what is left of the request without them. What is in a token, others read.

mod cookie;
mod query;

use crate::decision_trace;
use crate::dpop;
use crate::http::message::MessageHead;
use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

/// The longest query, and the most cookies, in which a token is looked for, in bytes: room for the
/// largest token that is looked at, and for as much beside it. Envoy takes 60 KiB of headers in
/// all.
pub const MAX_BYTES: usize = 32 * 1024;

/// A location, and whether the service sees the token in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenLocation {
    /// Where.
    pub source: TokenSource,
    /// Whether it stays.
    pub forward: bool,
}

/// Where a token may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// In this header, after a scheme (RFC 9110 section 11.4) and a space; `authorization`,
    /// `Bearer`.
    Scheme(Rc<str>, String),
    /// In this header, behind a text, which may be empty.
    Header(Rc<str>, String),
    /// In the cookie of this name (RFC 6265).
    Cookie(String),
    /// In the query's parameter of this name (RFC 6750 section 2.3).
    Query(String),
}

/// A token, and how it was shown.
pub struct ExtractedToken<'a> {
    /// The token's bytes.
    pub token: Cow<'a, [u8]>,
    /// Whether it came after `DPoP`, which says that it is bound to a key (RFC 9449 section 7.1).
    pub is_dpop_scheme: bool,
}

/// Why a request has no token that could be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtractError {
    /// It carries none.
    Missing,
    /// It carries more than one credential (RFC 6750 section 2).
    Multiple,
    /// The query or the cookies are larger than [`MAX_BYTES`].
    TooLarge,
}

/// The one token in these locations.
pub fn extract<'a>(
    places: &[TokenLocation],
    head: &'a MessageHead,
) -> Result<ExtractedToken<'a>, ExtractError> {
    let found = extract_with_source(places, head);
    decision_trace::record("token", found.is_ok(), || match &found {
        Ok((at, found)) => format!("{at}, {} bytes", found.token.len()),
        Err(ExtractError::Missing) => "no token in the configured locations".to_owned(),
        Err(ExtractError::Multiple) => "more than one credential".to_owned(),
        Err(ExtractError::TooLarge) => "a query or cookies that are too large".to_owned(),
    });
    found.map(|(_, found)| found)
}

fn extract_with_source<'a, 'p>(
    places: &'p [TokenLocation],
    head: &'a MessageHead,
) -> Result<(&'p TokenSource, ExtractedToken<'a>), ExtractError> {
    let mut found = None;
    for place in places {
        match place.source.token(head) {
            Err(ExtractError::Missing) => {}
            Ok(_) if found.is_some() => return Err(ExtractError::Multiple),
            token => {
                let found_here = ExtractedToken { token: token?, is_dpop_scheme: place.source.is_dpop() };
                found = Some((&place.source, found_here));
            }
        }
    }
    found.ok_or(ExtractError::Missing)
}

/// The token in this header, after `Bearer` if it is `Authorization`.
pub fn in_header<'a>(head: &'a MessageHead, name: &str) -> Result<&'a [u8], ExtractError> {
    if name == "authorization" {
        scheme_credential(head, name, "Bearer")
    } else {
        after_prefix(head, name, b"")
    }
}

/// A token as a string: it has no byte that a header may not hold, and no space (RFC 6750 section
/// 2.1).
pub fn token_str(token: &[u8]) -> Option<&str> {
    let sound = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(token).ok().filter(|_| sound)
}

/// The path without the query parameters of locations that are not forwarded; none if nothing
/// changes.
pub fn path_without_tokens(head: &MessageHead, places: &[TokenLocation]) -> Option<Vec<u8>> {
    let gone = |piece: &[u8], at: &TokenSource| matches!(at, TokenSource::Query(name) if query::has_name(piece, name));
    query::without(head.path(), |piece| stripped_sources(places).any(|at| gone(piece, at)))
}

/// The cookies without those of places that are not forwarded, perhaps none at all; none if there
/// is nothing to take away.
pub fn cookies_without_tokens(head: &MessageHead, places: &[TokenLocation]) -> Option<Vec<u8>> {
    let gone = |pair: &[u8], at: &TokenSource| matches!(at, TokenSource::Cookie(name) if cookie::has_name(pair, name));
    cookie::without(head, |pair| stripped_sources(places).any(|at| gone(pair, at)))
}

/// The headers of locations that are not forwarded, if they hold a token.
pub fn headers_to_strip<'p>(
    head: &MessageHead,
    places: &'p [TokenLocation],
) -> impl Iterator<Item = &'p Rc<str>> {
    stripped_sources(places).filter_map(|at| match at {
        TokenSource::Scheme(name, _) | TokenSource::Header(name, _) => {
            (at.token(head) != Err(ExtractError::Missing)).then_some(name)
        }
        TokenSource::Cookie(_) | TokenSource::Query(_) => None,
    })
}

fn stripped_sources(places: &[TokenLocation]) -> impl Iterator<Item = &TokenSource> {
    places.iter().filter(|place| !place.forward).map(|place| &place.source)
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(header, scheme) => write!(f, "header {header}, scheme {scheme}"),
            Self::Header(header, text) if text.is_empty() => write!(f, "header {header}"),
            Self::Header(header, text) => write!(f, "header {header}, behind {text:?}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::Query(name) => write!(f, "query parameter {name}"),
        }
    }
}

impl TokenSource {
    /// The header, if it is one of its own.
    pub fn header(&self) -> Option<&Rc<str>> {
        match self {
            Self::Scheme(name, _) | Self::Header(name, _) => Some(name),
            Self::Cookie(_) | Self::Query(_) => None,
        }
    }

    /// Whether a token here is bound to a key, and useless without a proof.
    pub fn is_dpop(&self) -> bool {
        matches!(self, Self::Scheme(_, scheme) if scheme.eq_ignore_ascii_case(dpop::SCHEME))
    }

    /// The token in this location.
    pub fn token<'a>(&self, head: &'a MessageHead) -> Result<Cow<'a, [u8]>, ExtractError> {
        match self {
            Self::Scheme(header, scheme) => scheme_credential(head, header, scheme).map(Cow::Borrowed),
            Self::Header(header, text) => after_prefix(head, header, text.as_bytes()).map(Cow::Borrowed),
            Self::Cookie(name) => cookie::value(head, name).map(Cow::Borrowed),
            Self::Query(name) => query::value(head.path(), name),
        }
    }
}

/// The credential of a scheme, in any case (RFC 9110 section 11.1), at the start only.
fn scheme_credential<'a>(
    head: &'a MessageHead,
    header: &str,
    scheme: &str,
) -> Result<&'a [u8], ExtractError> {
    let mut values = head.all(header);
    let value = values.next().ok_or(ExtractError::Missing)?;
    if values.next().is_some() {
        return Err(ExtractError::Multiple);
    }
    if !value.contains(&b',') {
        return strip_scheme(value, scheme).ok_or(ExtractError::Missing);
    }
    // Envoy joins repeated lines of this header with commas: a further credential has a scheme, or
    // is an empty line.
    let mut further = value.split(|byte| *byte == b',').skip(1).map(<[u8]>::trim_ascii);
    match strip_scheme(value, scheme) {
        Some(_) if further.any(|part| part.is_empty() || part.contains(&b' ')) => Err(ExtractError::Multiple),
        None if further.any(|part| strip_scheme(part, scheme).is_some()) => Err(ExtractError::Multiple),
        Some(token) => Ok(token),
        None => Err(ExtractError::Missing),
    }
}

/// What follows the scheme. A separator that is no space, or bytes before the scheme that no scheme
/// can have (RFC 9110 section 11.1), are part of what is returned, so that it is no good token: a
/// lenient server might take it for one.
fn strip_scheme<'a>(credential: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let start = credential.iter().position(|byte| is_tchar(*byte))?;
    let (own, token) = credential.get(start..)?.split_at_checked(scheme.len())?;
    let separator = token.first().filter(|byte| !is_tchar(**byte))?;
    if !own.eq_ignore_ascii_case(scheme.as_bytes()) {
        return None;
    }
    let sound = start == 0 && *separator == b' ';
    Some(if sound { token.trim_ascii() } else { credential })
}

/// RFC 9110 section 5.6.2, `token`.
pub fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What follows a prefix, exactly.
fn after_prefix<'a>(head: &'a MessageHead, header: &str, text: &[u8]) -> Result<&'a [u8], ExtractError> {
    let mut values =
        head.all(header).filter_map(|value| value.strip_prefix(text)).filter(|token| !token.is_empty());
    let token = values.next().ok_or(ExtractError::Missing)?;
    if values.next().is_some() { Err(ExtractError::Multiple) } else { Ok(token) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> MessageHead {
        fields.iter().copied().collect()
    }

    fn places(at: &[TokenSource]) -> Vec<TokenLocation> {
        at.iter().map(|at| TokenLocation { source: at.clone(), forward: false }).collect()
    }

    fn found(at: &[TokenSource], fields: &[(&str, &str)]) -> Result<String, ExtractError> {
        let head = head(fields);
        extract(&places(at), &head).map(|found| String::from_utf8(found.token.into_owned()).unwrap())
    }

    fn everywhere() -> Vec<TokenSource> {
        vec![
            TokenSource::Scheme("authorization".into(), "Bearer".into()),
            TokenSource::Header("x-api-token".into(), "tok:".into()),
            TokenSource::Cookie("session".into()),
            TokenSource::Query("access_token".into()),
        ]
    }

    #[test]
    fn a_token_is_found_in_each_place() {
        for field in [
            ("authorization", "bEaReR t"),
            ("authorization", "Bearer   t "),
            ("x-api-token", "tok:t"),
            ("cookie", "a=b; session=t; c"),
            ("cookie", "session=\"t\""),
            (":path", "/x?a=b&access_token=t"),
            (":path", "/x?access_token=%74#f"),
        ] {
            assert_eq!(found(&everywhere(), &[field]), Ok("t".to_owned()), "{field:?}");
        }
        let blank = found(&everywhere(), &[(":path", "/x?access_token=a+b%2")]);
        assert_eq!(blank, Ok("a b%2".to_owned()), "as forms are decoded");
    }

    #[test]
    fn what_only_looks_like_a_token_is_none() {
        for field in [
            ("authorization", "Basic t"),
            ("authorization", "Bearert"),
            ("authorization", "foo Bearer t"),
            ("x-api-token", "t"),
            ("x-api-token", "TOK:t"),
            ("x-api-token", "tok:"),
            ("cookie", "Session=t; xsession=t; session; a=session=t; b=1 xsession=t; c=1 session"),
            ("cookie", "session="),
            (":path", "/x?xaccess_token=t&a=access_token=t&access_token"),
            (":path", "/access_token=t"),
            (":path", "/x#?access_token=t"),
            (":path", "/x?access_token="),
        ] {
            assert_eq!(found(&everywhere(), &[field]), Err(ExtractError::Missing), "{field:?}");
        }
        let only_headers = &everywhere()[..2];
        assert_eq!(
            found(only_headers, &[(":path", "/?access_token=t"), ("cookie", "session=t")]),
            Err(ExtractError::Missing),
            "places count only where they are named"
        );
    }

    #[test]
    fn more_than_one_credential_is_one_too_many_wherever_they_stand() {
        let single = [
            ("authorization", "Bearer t"),
            ("x-api-token", "tok:t"),
            ("cookie", "session=t"),
            (":path", "/?access_token=t"),
        ];
        for (index, one) in single.iter().enumerate() {
            for other in &single[index..] {
                let twice = [*one, *other];
                let expected = if one == other && one.0 == ":path" {
                    Ok("t".to_owned())
                } else {
                    Err(ExtractError::Multiple)
                };
                assert_eq!(found(&everywhere(), &twice), expected, "{twice:?}");
            }
        }
        for field in [
            ("cookie", "session=t; session=t"),
            ("cookie", "session=; session=t"),
            ("cookie", "session=t; a=1 session=u"),
            ("cookie", "a=1, session=t"),
            ("cookie", "a=\"b\" session=t"),
            ("cookie", "a=1\tsession =t"),
            (":path", "/?a=1;access_token=t"),
            (":path", "/?access_token=t;access_token=u"),
            (":path", "/?Access_Token=t"),
            (":path", "/?access_token=t&a=1;ACCESS_TOKEN=u"),
            (":path", "/?access_token=t&access_token=t"),
            (":path", "/?access_token=&access_token=t"),
            (":path", "/?access%5Ftoken=t&access_token=u"),
            (":path", "/?access.token=t"),
            (":path", "/?access%5Btoken=t"),
            (":path", "/?+access_token%00=t"),
            ("authorization", "Bearer t, Bearer t"),
        ] {
            assert_eq!(found(&everywhere(), &[field]), Err(ExtractError::Multiple), "{field:?}");
        }
    }

    #[test]
    fn a_line_of_a_credential_that_holds_nothing_is_one_more() {
        for value in ["Bearer t,", "Bearer t, ", "Bearer t,, Bearer u", "Basic a, Bearer t"] {
            assert_eq!(
                found(&everywhere(), &[("authorization", value)]),
                Err(ExtractError::Multiple),
                "{value:?}"
            );
        }
        assert_eq!(
            found(&everywhere(), &[("authorization", "Bearer t,u")]),
            Ok("t,u".to_owned()),
            "no space"
        );
    }

    #[test]
    fn a_header_goes_whatever_number_of_tokens_it_holds() {
        let without = |fields: &[(&str, &str)]| -> Vec<String> {
            let (head, places) = (head(fields), places(&everywhere()));
            headers_to_strip(&head, &places).map(ToString::to_string).collect()
        };
        assert_eq!(without(&[("authorization", "Bearer t")]), ["authorization"]);
        assert_eq!(
            without(&[("authorization", "Bearer t"), ("authorization", "Bearer u")]),
            ["authorization"]
        );
        assert_eq!(without(&[("x-api-token", "tok:t"), ("x-api-token", "tok:u")]), ["x-api-token"]);
        assert!(without(&[("authorization", "Basic t"), ("x-api-token", "t")]).is_empty(), "nothing of ours");
    }

    #[test]
    fn a_header_that_holds_a_token_alone_has_no_scheme_and_authorization_has_one() {
        let of = |name: &str, value: &str| {
            in_header(&head(&[(name, value)]), name).map(|token| String::from_utf8(token.to_vec()).unwrap())
        };
        assert_eq!(of("x-subject", "t"), Ok("t".to_owned()));
        assert_eq!(of("x-subject", "Bearer t"), Ok("Bearer t".to_owned()));
        assert_eq!(of("authorization", "Bearer t"), Ok("t".to_owned()));
        assert_eq!(of("authorization", "t"), Err(ExtractError::Missing));
    }

    #[test]
    fn a_token_that_no_header_could_hold_is_no_text() {
        assert_eq!(token_str(b"a-._~+/=\"'{}"), Some("a-._~+/=\"'{}"));
        for odd in [&b""[..], b"a b", b"a\t", b"a\r\nb: c", b"\x7f", "\u{e9}".as_bytes(), b"\xff"] {
            assert_eq!(token_str(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn a_query_and_cookies_beyond_the_bound_are_not_searched() {
        for (name, text) in [(":path", "/?access_token="), ("cookie", "session=")] {
            let of = |length: usize| {
                format!("{text}{}", "x".repeat(length - text.len() + text.find('?').map_or(0, |at| at + 1)))
            };
            assert!(found(&everywhere(), &[(name, &of(MAX_BYTES))]).is_ok(), "{name}");
            assert_eq!(
                found(&everywhere(), &[(name, &of(MAX_BYTES + 1))]),
                Err(ExtractError::TooLarge),
                "{name}"
            );
        }
        let half = format!("a={}", "x".repeat(MAX_BYTES / 2));
        let lines = [("cookie", half.as_str()), ("cookie", "session=t"), ("cookie", half.as_str())];
        assert_eq!(found(&everywhere(), &lines), Err(ExtractError::TooLarge), "all lines count together");
    }

    #[test]
    fn everything_else_in_a_query_stays_as_it_was() {
        for (path, left) in [
            ("/x?access_token=t", "/x"),
            ("/x?access_token=t&", "/x"),
            ("/x?a=1&access_token=t", "/x?a=1"),
            ("/x?access_token=t&a=1", "/x?a=1"),
            ("/x?a=1&access_token=t&b=%20+%2B&a=2&c&=d&&e=f=g", "/x?a=1&b=%20+%2B&a=2&c&=d&&e=f=g"),
            ("/x?access%5ftoken=t&a=%26%3D", "/x?a=%26%3D"),
            ("/x?access_token=t&access_token=u&q=?", "/x?q=?"),
            ("/x?access_token&a", "/x?a"),
            ("/%78;p//y/../?access_token=t#f?access_token=u", "/%78;p//y/../#f?access_token=u"),
        ] {
            let without = path_without_tokens(&head(&[(":path", path)]), &places(&everywhere()));
            assert_eq!(without.as_deref(), Some(left.as_bytes()), "{path}");
        }
        for path in
            ["/x", "/x?", "/x?a=access_token", "/access_token=t", "/x?access_token%3Dt", "/x#?access_token=t"]
        {
            assert_eq!(
                path_without_tokens(&head(&[(":path", path)]), &places(&everywhere())),
                None,
                "{path}"
            );
        }
    }

    #[test]
    fn everything_else_in_the_cookies_stays_as_it_was() {
        let without = |lines: &[&str]| {
            let fields: Vec<(&str, &str)> = lines.iter().map(|line| ("cookie", *line)).collect();
            cookies_without_tokens(&head(&fields), &places(&everywhere()))
                .map(|left| String::from_utf8(left).unwrap())
        };
        for (cookies, left) in [
            ("session=t", ""),
            ("session=t;", ""),
            ("session=t; a=1", "a=1"),
            ("a=1; session=t", "a=1"),
            ("a=\"x y\"; session=t;b=2;  c=; a=3", "a=\"x y\";b=2;  c=; a=3"),
            ("session=t; session=u; Session=v", "Session=v"),
            ("session; a", "a"),
        ] {
            assert_eq!(without(&[cookies]).as_deref(), Some(left), "{cookies}");
        }
        assert_eq!(without(&["a=1", "session=t", "b=2"]).as_deref(), Some("a=1; b=2"));
        assert_eq!(without(&["a=1; xsession=t"]), None);
        assert_eq!(without(&[]), None);
    }
}
