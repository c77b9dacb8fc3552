//! Certificate-bound tokens (RFC 8705 section 3): what a rule requires, and the certificate that was presented.
//!
//! It knows no signatures: that the client has the certificate's key, the handshake has proven, or the proxy that sent the header.

use crate::http::message::MessageHead;

/// What a rule asks of tokens that are bound to a key. Without it a bound token is refused: nobody has looked at the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingRequirement {
    /// Where the client's certificate is looked for, if tokens may be bound to one.
    pub certificate: Option<CertificateSource>,
    /// Whether tokens may be bound to a key that is proven by `DPoP`.
    pub dpop: bool,
    /// Whether a token that is not bound is taken too.
    pub optional: bool,
}

/// Where the client's certificate is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// It was shown on this very connection.
    Connection,
    /// The proxy before this one says in `x-forwarded-client-cert` that it was shown there.
    Forwarded,
}

/// Where a proxy says which certificate it was shown.
pub const XFCC: &str = "x-forwarded-client-cert";

impl CertificateSource {
    /// The SHA-256 of the client's certificate.
    pub fn fingerprint(self, head: &MessageHead) -> Option<[u8; 32]> {
        match self {
            Self::Connection => unhex(head.certificate()?),
            Self::Forwarded => {
                // One element alone: Envoy does not quote `URI` and `DNS`, so that a client chooses what looks like a further one.
                let mut lines = head.all(XFCC);
                let element = lines.next().filter(|_| lines.next().is_none())?;
                unhex(hash_of(single_element(element)?)?)
            }
        }
    }
}

/// The one element of a list; none where there are more, or where quotes do not end.
fn single_element(list: &[u8]) -> Option<&[u8]> {
    match *split(list, b',')? {
        [element] => Some(element),
        _ => None,
    }
}

/// The one `Hash` of an element, `By=…;Hash=…;Subject="…"`.
fn hash_of(element: &[u8]) -> Option<&[u8]> {
    let pairs = split(element, b';')?;
    let mut hashes = pairs.iter().filter_map(|pair| {
        let (name, value) = pair.trim_ascii().split_at_checked("Hash=".len())?;
        name.eq_ignore_ascii_case(b"Hash=").then_some(value)
    });
    let hash = hashes.next()?;
    hashes.next().is_none().then_some(hash)
}

/// The parts between these bytes, outside of quotes.
fn split(text: &[u8], at: u8) -> Option<Vec<&[u8]>> {
    let (mut parts, mut rest) = (Vec::new(), text);
    let (mut place, mut quoted, mut escaped) = (0_usize, false, false);
    while let Some(byte) = rest.get(place) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if *byte == at && !quoted => {
                let (part, behind) = rest.split_at_checked(place)?;
                parts.push(part);
                rest = behind.get(1..)?;
                place = 0;
                continue;
            }
            _ => {}
        }
        place = place.saturating_add(1);
    }
    parts.push(rest);
    (!quoted).then_some(parts)
}

/// 32 bytes from 64 hexadecimal digits.
fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_chunks::<2>();
    let mut bytes = [0; 32];
    if !rest.is_empty() || pairs.len() != bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0707070707070707070707070707070707070707070707070707070707070707";

    fn forwarded(lines: &[&str]) -> Option<[u8; 32]> {
        let head = lines.iter().map(|line| ("x-forwarded-client-cert", line)).collect();
        CertificateSource::Forwarded.fingerprint(&head)
    }

    #[test]
    fn one_element_counts_and_more_than_one_count_for_nothing() {
        let own = format!("By=spiffe://a;Hash={HEX};Subject=\"CN=a,O=\\\"b;c\\\"\";URI=spiffe://b");
        let other = format!("Hash={}", "08".repeat(32));
        assert_eq!(forwarded(&[&own]), Some([7; 32]));
        assert_eq!(forwarded(&[&other]), Some([8; 32]));
        for list in
            [format!("{other},{own}"), format!("{own},{other}"), format!("Hash={HEX};URI=spiffe://a,{other}")]
        {
            assert_eq!(forwarded(&[&list]), None, "{list}");
        }
        assert_eq!(forwarded(&[&other, &own]), None);
        assert_eq!(forwarded(&[&own, "By=nobody"]), None);
        assert_eq!(forwarded(&[&format!("hash={HEX}")]), Some([7; 32]));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_certificate() {
        for odd in [
            String::new(),
            format!("Hash={HEX};Hash={HEX}"),
            format!("Subject=\"CN=a;Hash={HEX}"),
            format!("Subject=\"x,Hash={HEX}\""),
            format!("XHash={HEX}"),
            format!("Hash=\"{HEX}\""),
            format!("Hash={HEX}0"),
            format!("Hash={}", &HEX[1..]),
            format!("Hash={}", HEX.replacen("07", "+7", 1)),
            format!("Hash={HEX},"),
        ] {
            assert_eq!(forwarded(&[&odd]), None, "{odd}");
        }
        assert_eq!(forwarded(&[]), None);
    }
}
