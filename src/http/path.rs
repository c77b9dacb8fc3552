//! The readings of a path: the ways in which different servers interpret it.
//!
//! In: the path of a request, without its query. Out: every path to which some server transforms
//! it, by decoding it once or twice, resolving dot segments, dropping parameters, merging slashes
//! and so on, in any order. Rules must match all readings of a request, since the server behind
//! Envoy is unknown. A plain path has one reading, and costs one check of each byte.
//!
//! Not a reading: a suffix that a framework drops (`/admin.json`), and Unicode compatibility forms
//! other than ASCII's full-width forms.

mod normal;

pub use normal::{AmbiguousPath, normal};
use std::borrow::Cow;

/// One reading of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathReading<'a> {
    /// The path that a server compares with its routes.
    pub path: Cow<'a, [u8]>,
    decoded: Decoded,
}

/// How far a reading is percent-decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decoded {
    No,
    /// Except `%2f` and `%5c`.
    ButSlashes,
    Once,
    Twice,
}

/// The readings of one path.
#[derive(Clone, Debug)]
pub struct PathReadings<'a> {
    first: PathReading<'a>,
    /// Empty for a plain path.
    others: Vec<PathReading<'a>>,
}

/// A path with too many readings, or one that leads above its root: if Envoy or a server adds a
/// prefix, it could lead anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// The maximum number of readings of one request: five independent oddities make 32, and no
/// legitimate client sends as many.
pub const MAX_READINGS: usize = 128;

/// The maximum size of all readings of one path, in bytes: a path of 250 bytes may have
/// [`MAX_READINGS`]. It limits the time per path to about 1 ms.
pub const MAX_READING_BYTES: usize = 32 * 1024;

impl<'a> PathReadings<'a> {
    /// The readings of a path without its query; the first is the path as sent.
    pub fn of(path: &'a [u8]) -> Result<Self, Unreadable> {
        if is_plain(path) {
            return Ok(Self::as_sent(path));
        }
        let path = decode(path, has_no_plain_spelling).map_or(Cow::Borrowed(path), Cow::Owned);
        let first = PathReading { path, decoded: Decoded::No };
        let mut others: Vec<PathReading<'a>> = Vec::new();
        let mut bytes = first.path.len();
        let mut next = 0;
        loop {
            let reading = if next == 0 { Some(&first) } else { others.get(next - 1) };
            let Some(reading) = reading else { return Ok(Self { first, others }) };
            let reading_climbs = leaves_root(&reading.path);
            for read in reading.read_on() {
                if first.path != read.path && others.iter().all(|known| known.path != read.path) {
                    bytes = bytes.saturating_add(read.path.len());
                    others.push(read);
                }
            }
            if others.len() >= MAX_READINGS || bytes > MAX_READING_BYTES || reading_climbs {
                return Err(Unreadable);
            }
            next += 1;
        }
    }

    /// Only the path as sent: for rules that do not match paths.
    pub fn as_sent(path: &'a [u8]) -> Self {
        let first = PathReading { path: Cow::Borrowed(path), decoded: Decoded::No };
        Self { first, others: Vec::new() }
    }

    /// Every reading.
    pub fn iter(&self) -> impl Iterator<Item = &PathReading<'a>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.others.len().saturating_add(1)
    }
}

impl PathReading<'_> {
    /// The readings to which a server may transform this one in one step.
    fn read_on<'b>(&self) -> Vec<PathReading<'b>> {
        let mut further = Vec::new();
        let mut add = |path: Option<Vec<u8>>, decoded| {
            further.extend(path.map(|path| PathReading { path: Cow::Owned(path), decoded }));
        };
        let path = self.path.as_ref();
        let next = match self.decoded {
            Decoded::No => Some(Decoded::Once),
            Decoded::ButSlashes | Decoded::Once => Some(Decoded::Twice),
            Decoded::Twice => None,
        };
        if let Some(next) = next {
            add(decoded(path), next);
            let but_slashes = if next == Decoded::Once { Decoded::ButSlashes } else { next };
            add(decode(path, |byte, _| !is_slash(byte)), but_slashes);
        }
        for step in TRANSFORMS {
            add(step(path), self.decoded);
        }
        further
    }

    /// A part of this reading, percent-decoded once in all.
    pub fn decoded_once<'p>(&self, part: &'p [u8]) -> Cow<'p, [u8]> {
        let decoded = match self.decoded {
            Decoded::No => decoded(part),
            Decoded::ButSlashes => decode(part, |byte, _| is_slash(byte)),
            Decoded::Once | Decoded::Twice => None,
        };
        decoded.map_or(Cow::Borrowed(part), Cow::Owned)
    }
}

/// A transformation that servers apply to a path; `None` if it changes nothing.
pub(super) type Transform = fn(&[u8]) -> Option<Vec<u8>>;

/// The transformations that servers apply to a path, apart from decoding.
const TRANSFORMS: [Transform; 12] = [
    fold_unicode,
    slashes_for_backslashes,
    without_parameters,
    up_to_semicolon,
    without_dot_segments,
    without_empty_segments,
    without_authority,
    without_spaces_at_ends,
    without_dots_at_ends,
    up_to_query,
    up_to_control,
    without_controls,
];

/// Whether every server reads the path unchanged: RFC 3986 `pchar` without `;` and `%`, no empty
/// segment, and none that ends in a dot.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    for &byte in path {
        let plain = match byte {
            b'/' => !matches!(before, b'/' | b'.'),
            _ => byte.is_ascii_alphanumeric() || b"-_~!$&'()*+,=:@.".contains(&byte),
        };
        if !plain {
            return false;
        }
        before = byte;
    }
    path.first() == Some(&b'/') && before != b'.'
}

/// Octets that a URL can contain only encoded (RFC 3986 section 2.1), so that even a server that
/// does not decode has the encoded form in its routes: a rule's `/café` matches `/caf%C3%A9`. Not
/// octets that have a special meaning for some server.
fn has_no_plain_spelling(byte: u8, rest: &[u8]) -> bool {
    match byte {
        0x80.. | b' ' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' | b'[' | b']' => true,
        // Two hexadecimal digits after it would make it a double encoding.
        b'%' => !matches!(rest, [high, low, ..] if hex(*high).is_some() && hex(*low).is_some()),
        _ => false,
    }
}

fn is_slash(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

/// Percent-decodes once.
pub(super) fn decoded(path: &[u8]) -> Option<Vec<u8>> {
    decode(path, |_, _| true)
}

/// Percent-decodes, once, the octets that `wanted` accepts; it also gets the rest of the path.
fn decode(path: &[u8], wanted: impl Fn(u8, &[u8]) -> bool) -> Option<Vec<u8>> {
    if !path.contains(&b'%') {
        return None;
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, behind)) = rest.split_first() {
        let octet = match (byte, behind) {
            (b'%', [high, low, behind @ ..]) => {
                let octet = hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low);
                octet.filter(|octet| wanted(*octet, behind)).map(|octet| (octet, behind))
            }
            _ => None,
        };
        let (byte, behind) = octet.unwrap_or((byte, behind));
        decoded.push(byte);
        rest = behind;
    }
    changed(path, decoded)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn changed(path: &[u8], read: Vec<u8>) -> Option<Vec<u8>> {
    (read != path).then_some(read)
}

/// Non-ASCII forms of ASCII: IIS' `%u0061`, overlong UTF-8 (RFC 3629 section 10), full-width
/// letters, and the four other letters whose upper or lower case is ASCII.
pub(super) fn fold_unicode(path: &[u8]) -> Option<Vec<u8>> {
    if path.is_ascii() && !path.contains(&b'%') {
        return None;
    }
    let mut folded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, behind)) = rest.split_first() {
        let (byte, behind) = ascii_in_disguise(rest).unwrap_or((byte, behind));
        folded.push(byte);
        rest = behind;
    }
    changed(path, folded)
}

/// The ASCII character that some server reads at the start of this, and the rest.
fn ascii_in_disguise(rest: &[u8]) -> Option<(u8, &[u8])> {
    let low = |byte: &u8| u32::from(*byte & 0x3f);
    let (code, behind) = match rest {
        [b'%', b'u' | b'U', a, b, c, d, behind @ ..] => {
            let digits =
                [a, b, c, d].into_iter().try_fold(0, |code, digit| Some(code << 4 | u32::from(hex(*digit)?)));
            (digits?, behind)
        }
        [first @ 0xc0..=0xdf, b, behind @ ..] => (u32::from(*first & 0x1f) << 6 | low(b), behind),
        [first @ 0xe0..=0xef, b, c, behind @ ..] => {
            (u32::from(*first & 0x0f) << 12 | low(b) << 6 | low(c), behind)
        }
        [0xf0, b, c, d, behind @ ..] => (low(b) << 12 | low(c) << 6 | low(d), behind),
        _ => return None,
    };
    let ascii = match code {
        0..=0x7f => u8::try_from(code).ok()?,
        0xff01..=0xff5e => u8::try_from(code - 0xfee0).ok()?,
        0x130 | 0x131 => b'i',
        0x17f => b's',
        0x212a => b'k',
        _ => return None,
    };
    Some((ascii, behind))
}

fn slashes_for_backslashes(path: &[u8]) -> Option<Vec<u8>> {
    changed(path, path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect())
}

/// Each segment up to its `;` (RFC 3986 section 3.3), as servlet containers read it.
fn without_parameters(path: &[u8]) -> Option<Vec<u8>> {
    if !path.contains(&b';') {
        return None;
    }
    by_segment(path, |segment| segment.split(|byte| *byte == b';').next().unwrap_or_default())
}

/// Fastify treats `;` as `?`, as old servlet containers did.
fn up_to_semicolon(path: &[u8]) -> Option<Vec<u8>> {
    up_to(path, |byte| byte == b';')
}

/// Whether it leads above its root.
fn leaves_root(path: &[u8]) -> bool {
    let mut depth = 0_usize;
    path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/').any(|segment| match segment {
        b".." => {
            let climbs = depth == 0;
            depth = depth.saturating_sub(1);
            climbs
        }
        b"." => false,
        _ => {
            depth = depth.saturating_add(1);
            false
        }
    })
}

/// RFC 3986 section 5.2.4.
fn without_dot_segments(path: &[u8]) -> Option<Vec<u8>> {
    if !path.contains(&b'.') {
        return None;
    }
    let mut left: Vec<&[u8]> = Vec::new();
    let mut ends_in_slash = false;
    for segment in path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/') {
        ends_in_slash = matches!(segment, b"." | b"..");
        match segment {
            b"." => {}
            b".." => drop(left.pop()),
            _ => left.push(segment),
        }
    }
    if ends_in_slash {
        left.push(b"");
    }
    let read: Vec<u8> = left.iter().flat_map(|segment| [b"/", *segment].concat()).collect();
    changed(path, if read.is_empty() { b"/".to_vec() } else { read })
}

fn without_empty_segments(path: &[u8]) -> Option<Vec<u8>> {
    let mut merged = Vec::with_capacity(path.len());
    for &byte in path {
        if byte != b'/' || merged.last() != Some(&b'/') {
            merged.push(byte);
        }
    }
    changed(path, merged)
}

/// The path that a URL parser extracts if the path is a URL, or starts like one without a scheme.
/// The WHATWG parser skips all slashes before the authority.
fn without_authority(path: &[u8]) -> Option<Vec<u8>> {
    let after = match path {
        [b'/', b'/', ..] => {
            let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
            path.get(start..).unwrap_or_default()
        }
        [b'/', ..] => return None,
        _ => match path.windows(3).position(|three| three == b"://") {
            Some(at) => path.get(at.saturating_add(3)..).unwrap_or_default(),
            None => return Some([b"/", path].concat()),
        },
    };
    let slash = after.iter().position(|byte| *byte == b'/').unwrap_or(after.len());
    Some(after.get(slash..).filter(|rest| !rest.is_empty()).unwrap_or(b"/").to_vec())
}

/// As Windows does for file names.
fn without_spaces_at_ends(path: &[u8]) -> Option<Vec<u8>> {
    if !path.contains(&b' ') {
        return None;
    }
    by_segment(path, |segment| without_at_end(segment, b' '))
}

/// As Windows does for file names. Segments of only dots are handled separately.
fn without_dots_at_ends(path: &[u8]) -> Option<Vec<u8>> {
    if !path.contains(&b'.') {
        return None;
    }
    by_segment(path, |segment| {
        let left = without_at_end(segment, b'.');
        if left.is_empty() { segment } else { left }
    })
}

fn without_at_end(segment: &[u8], dropped: u8) -> &[u8] {
    let end = segment.iter().rposition(|byte| *byte != dropped).map_or(0, |last| last.saturating_add(1));
    segment.get(..end).unwrap_or_default()
}

/// A server that parses the decoded path as a URL ends it at the query or the fragment.
fn up_to_query(path: &[u8]) -> Option<Vec<u8>> {
    up_to(path, |byte| matches!(byte, b'?' | b'#'))
}

/// A C string ends at its NUL, a line at its line break.
fn up_to_control(path: &[u8]) -> Option<Vec<u8>> {
    up_to(path, is_control)
}

/// The WHATWG URL parser drops tabs and newlines.
fn without_controls(path: &[u8]) -> Option<Vec<u8>> {
    changed(path, path.iter().copied().filter(|byte| !is_control(*byte)).collect())
}

fn is_control(byte: u8) -> bool {
    byte < b' ' || byte == 0x7f
}

fn up_to(path: &[u8], end: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    let at = path.iter().position(|byte| end(*byte))?;
    path.get(..at).map(<[u8]>::to_vec)
}

fn by_segment(path: &[u8], read: impl Fn(&[u8]) -> &[u8]) -> Option<Vec<u8>> {
    let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').map(read).collect();
    changed(path, segments.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(path: &[u8]) -> Vec<String> {
        let readings = PathReadings::of(path).unwrap();
        readings.iter().map(|reading| String::from_utf8_lossy(&reading.path).into_owned()).collect()
    }

    #[test]
    fn a_plain_path_has_one_reading() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/admin/x.y/z",
            "/.well-known/x",
            "/a..b/...c",
            "/A/b-_~!$&'()*+,=:@",
            "/shop.v1.Orders/Get",
        ] {
            assert!(is_plain(path.as_bytes()), "{path}");
            assert_eq!(readings(path.as_bytes()), [path]);
        }
    }

    #[test]
    fn what_a_url_can_only_hold_encoded_is_the_same_to_every_server() {
        for (path, read) in [
            ("/caf%C3%A9", "/café"),
            ("/caf%c3%a9/x", "/café/x"),
            ("/a%20b", "/a b"),
            ("/100%25", "/100%"),
            ("/%7Bx%7D%5B0%5D", "/{x}[0]"),
        ] {
            assert_eq!(readings(path.as_bytes()), [read], "{path}");
        }
    }

    #[test]
    fn every_step_of_a_server_is_a_reading() {
        for (path, read) in [
            (&b"/%61dmin"[..], "/admin"),
            (b"/%2561dmin", "/admin"),
            (b"/a%2fb", "/a/b"),
            (b"/%61%2fb", "/a%2fb"),
            (b"/a%252fb", "/a/b"),
            (b"/a\\b", "/a/b"),
            (b"/a%5cb", "/a/b"),
            (b"/a;x/b;y", "/a/b"),
            (b"/a;x/b;y", "/a"),
            (b"/x/../admin", "/admin"),
            (b"/x/..;/admin", "/admin"),
            (b"/admin/..;/health", "/admin/../health"),
            (b"/admin/..%3b/health", "/health"),
            (b"/x/%2e%2e%2fadmin", "/admin"),
            (b"/x/./admin/.", "/x/admin/"),
            (b"//admin//x", "/admin/x"),
            (b"//public/admin/users", "/admin/users"),
            (b"//public", "/"),
            (b"///public@x/admin/users", "/admin/users"),
            (b"/\\/public/admin", "/admin"),
            (b"/\\public/admin", "/admin"),
            (b"http://x/admin", "/admin"),
            (b"http://x", "/"),
            (b"admin", "/admin"),
            (b"*", "/*"),
            (b"/admin.", "/admin"),
            (b"/admin%20/x", "/admin/x"),
            (b"/admin. .%20", "/admin"),
            (b"/x/..%20/admin", "/admin"),
            (b"/admin%3fx", "/admin"),
            (b"/admin#x", "/admin"),
            (b"/admin%00.png", "/admin"),
            (b"/ad%09min", "/admin"),
            (b"/%u0061dmin", "/admin"),
            (b"/%c1%a1dmin", "/admin"),
            (b"/x/%c0%ae%c0%ae/admin", "/admin"),
            (b"/x%c0%afadmin", "/x/admin"),
            (b"/x%e0%80%afadmin", "/x/admin"),
            (b"/x%f0%80%80%afadmin", "/x/admin"),
            ("/x／admin".as_bytes(), "/x/admin"),
            ("/ａdmin".as_bytes(), "/admin"),
            ("/adm\u{131}n".as_bytes(), "/admin"),
            ("/\u{212a}ey\u{17f}".as_bytes(), "/keys"),
        ] {
            let readings = readings(path);
            assert!(readings.iter().any(|reading| reading == read), "{}: {readings:?}", path.escape_ascii());
        }
    }

    #[test]
    fn what_is_left_as_it_was_is_a_reading_too() {
        for path in ["/a%2fb", "/a//b", "/a/../b", "/a;b", "/A%61", "//x/y", "/a\\b", "/a.", "/%u0061"] {
            assert_eq!(readings(path.as_bytes()).first().map(String::as_str), Some(path));
        }
    }

    #[test]
    fn a_part_is_decoded_once_however_far_its_reading_is() {
        for (path, parts) in
            [("/%34%32", vec!["42"]), ("/%2534", vec!["%34", "4"]), ("/%61%2fb", vec!["a/b", "a/b", "a/b"])]
        {
            let readings = PathReadings::of(path.as_bytes()).unwrap();
            let values: Vec<String> = readings
                .iter()
                .map(|reading| {
                    String::from_utf8_lossy(&reading.decoded_once(&reading.path[1..])).into_owned()
                })
                .collect();
            assert!(parts.iter().all(|part| values.iter().any(|value| value == part)), "{path}: {values:?}");
            assert!(values.iter().all(|value| parts.contains(&value.as_str())), "{path}: {values:?}");
        }
    }

    #[test]
    fn a_path_that_leads_above_its_root_has_no_reading() {
        for path in [
            "/..",
            "/../admin",
            "/x/../../admin",
            "/%2e%2e/admin",
            "/x/..;/..;/y",
            "/x%2f..%5c..",
            "/./../x",
            "..",
            "//x/../y",
        ] {
            assert_eq!(PathReadings::of(path.as_bytes()).unwrap_err(), Unreadable, "{path}");
        }
    }

    #[test]
    fn a_path_that_could_be_anything_is_not_looked_at_for_long() {
        let long = ["/", &"%61".repeat(MAX_READING_BYTES)].concat();
        assert_eq!(PathReadings::of(long.as_bytes()).unwrap_err(), Unreadable);
        let odd = "/a%2561;x/%252e%252e%255c;y//b.%20/%u0061%3f%00\\c;/./d#e".repeat(4);
        assert_eq!(PathReadings::of(odd.as_bytes()).unwrap_err(), Unreadable);
    }
}
