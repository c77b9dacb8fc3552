//! `WWW-Authenticate`: the challenge for each scheme in which a token is accepted (RFC 6750 section 3, RFC 9449 section 7.1).

use super::RefusalFormat;
use crate::dpop::{self, verify};

/// What the challenge of a reason says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// There is none: no token would help.
    None,
    /// No error: a request without a credential gets no error code (RFC 6750 section 3.1).
    WithoutError,
    /// This error code, with the message.
    Error(&'static str),
}

/// The schemes that a rule accepts, and the one that the client used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schemes {
    /// `Bearer`.
    pub bearer: bool,
    /// `DPoP`.
    pub dpop: bool,
    /// It came as `DPoP`.
    pub used_dpop: bool,
}

impl Default for Schemes {
    /// `Bearer` alone.
    fn default() -> Self {
        Self { bearer: true, dpop: false, used_dpop: false }
    }
}

/// A parameter of a challenge.
pub(super) type Parameter = (&'static str, String);

/// A challenge for each scheme in which a token is accepted; the error goes into the challenge of the scheme that the client
/// used (RFC 9449 section 7.1).
pub(super) fn challenges(
    format: &RefusalFormat,
    schemes: Schemes,
    parameters: &[Parameter],
) -> impl Iterator<Item = (&'static str, String)> {
    let error_in_dpop = schemes.used_dpop || !schemes.bearer;
    let of = |has_error: bool| if has_error { parameters } else { &[] };
    let bearer = schemes.bearer.then(|| challenge(format, "Bearer", of(!error_in_dpop)));
    let dpop = schemes.dpop.then(|| {
        let algorithms = [("algs", verify::ALGORITHMS.to_owned())];
        challenge(format, dpop::SCHEME, &[of(error_in_dpop), &algorithms].concat())
    });
    bearer.into_iter().chain(dpop).map(|challenge| ("www-authenticate", challenge))
}

fn challenge(format: &RefusalFormat, scheme: &str, parameters: &[Parameter]) -> String {
    let mut challenge = format!("{scheme} realm=\"{}\"", quotable(&format.realm));
    // RFC 9728 section 5.1.
    let metadata = format.resource_metadata.as_deref().map(|url| ("resource_metadata", url));
    let parameters = parameters.iter().map(|(name, value)| (*name, value.as_str()));
    for (name, value) in parameters.chain(metadata) {
        for text in [", ", name, "=\"", &quotable(value), "\""] {
            challenge.push_str(text);
        }
    }
    challenge
}

/// The characters that RFC 6750 section 3 allows in an attribute. The host does not stop CR and LF in an answer.
fn quotable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect()
}
