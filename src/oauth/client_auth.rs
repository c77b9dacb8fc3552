//! How a client shows who it is, whatever it asks for (RFC 6749 section 2.3, `OpenID` Connect Core
//! section 9).

use super::form::{Form, form_encoded};
use super::secret_file::{FileContent, FileRef, KeyRef, SecretFiles, SecretRef};
use crate::http::message::{Endpoint, HttpCall};
use crate::http::printable;
use crate::jose::private_key::PrivateKey;
use crate::oauth::client_assertion::{self, AssertionClaims, SignError, Signer};
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use crate::rng::RandomError;
use crate::secret::{Secret, SecretText};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeSet;
use std::time::Duration;

/// How the client proves who it is (RFC 6749 section 2.3, `OpenID` Connect Core section 9).
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// `client_secret_basic`.
    Basic(SecretRef),
    /// `client_secret_post`.
    Post(SecretRef),
    /// `client_secret_jwt`.
    SecretJwt(SecretRef, AssertionTarget),
    /// `private_key_jwt`.
    PrivateKey(KeyRef, AssertionTarget),
    /// An assertion that the platform issues, and its `client_assertion_type`.
    Workload(FileRef, &'static str),
    /// No client authentication.
    None,
    /// `tls_client_auth`: the cluster shows a certificate, and the body says whose it should be
    /// (RFC 8705 section 2).
    Tls,
    /// The cluster adds `Authorization` to the call, and with it the client's id.
    Cluster,
}

/// The audience of a client's assertion, and its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssertionTarget {
    /// `aud`.
    pub audience: String,
    /// `typ` of the header.
    pub header_type: String,
}

impl ClientAuth {
    /// The file that the secret, the key or the assertion is read from, if any.
    pub fn file(&self) -> Option<&FileRef> {
        match self {
            Self::Basic(secret) | Self::Post(secret) | Self::SecretJwt(secret, _) => secret.file(),
            Self::PrivateKey(key, _) => key.file(),
            Self::Workload(file, _) => Some(file),
            Self::None | Self::Tls | Self::Cluster => None,
        }
    }

    /// All that it depends on. To be hashed, and nothing else.
    pub(super) fn identity(&self) -> Vec<&[u8]> {
        let (name, source, target): (&[u8], [&[u8]; 2], Option<&AssertionTarget>) = match self {
            Self::Basic(secret) => (b"basic", secret.identity(), None),
            Self::Post(secret) => (b"post", secret.identity(), None),
            Self::SecretJwt(secret, target) => (b"secret", secret.identity(), Some(target)),
            Self::PrivateKey(key, target) => (b"key", key.identity(), Some(target)),
            Self::Workload(file, kind) => (b"workload", [file.name.as_bytes(), kind.as_bytes()], None),
            Self::None => (b"none", [b"", b""], None),
            Self::Tls => (b"tls", [b"", b""], None),
            Self::Cluster => (b"cluster", [b"", b""], None),
        };
        let target = target.into_iter().flat_map(|target| [&target.audience, &target.header_type]);
        [name].into_iter().chain(source).chain(target.map(String::as_bytes)).collect()
    }
}

/// A client, and its ways to authenticate.
#[derive(Clone, Copy)]
pub(super) struct Client<'a> {
    pub(super) id: &'a str,
    pub(super) auth: &'a [ClientAuth],
    /// What its files contain.
    pub(super) files: &'a dyn SecretFiles,
}

/// So many consecutive bytes of a secret are a part of it that a log line must not hold.
const TELLING_BYTES: usize = 8;

/// Whether a string holds a revealing part of this secret, or all of a shorter one.
pub(super) fn repeats(text: &str, secret: &str) -> bool {
    // Compared without what is left out of a log line, so that nothing can hide in it.
    let (text, secret) = (printable(text, usize::MAX), printable(secret, usize::MAX));
    let length = secret.len().clamp(1, TELLING_BYTES);
    let parts: BTreeSet<&[u8]> = secret.as_bytes().windows(length).collect();
    text.as_bytes().windows(length).any(|part| parts.contains(part))
}

impl Client<'_> {
    /// The request, with the client's proof in it: in the way whose `turn` it is.
    #[inline(never)]
    pub(super) fn call(
        self,
        endpoint: Endpoint,
        timeout: Duration,
        mut form: Form,
        turn: usize,
        now: u64,
        signer: &mut Signer,
    ) -> Result<HttpCall, FetchError> {
        let claims = |target| AssertionClaims::for_client(self.id, target, now);
        let own = client_assertion::ASSERTION_TYPE;
        let assertion = match self.auth.get(turn) {
            Some(ClientAuth::Basic(secret)) => {
                form.headers.push(("authorization", self.basic(self.secret(secret)?)));
                None
            }
            Some(ClientAuth::Post(secret)) => {
                form.add("client_id", self.id);
                form.add("client_secret", self.secret(secret)?.reveal());
                None
            }
            Some(ClientAuth::SecretJwt(secret, target)) => {
                let signed = signer.sign_with_secret(self.secret(secret)?.reveal(), &claims(target));
                Some((own, signed.map_err(no_randomness)?))
            }
            Some(ClientAuth::PrivateKey(key, target)) => {
                let key = key.get(self.files).ok_or_else(gone)?;
                let signed = signer.sign_with_key(key, &claims(target));
                Some((own, signed.map_err(|error| cannot_sign(key, error))?))
            }
            Some(ClientAuth::Workload(file, kind)) => {
                let content = self.files.content(file).and_then(FileContent::text).ok_or_else(gone)?;
                Some((*kind, content.reveal().to_owned()))
            }
            // RFC 8705 section 2.
            Some(ClientAuth::Tls | ClientAuth::None) => {
                self.add_id(&mut form);
                None
            }
            Some(ClientAuth::Cluster) | None => None,
        };
        if let Some((kind, assertion)) = assertion {
            // RFC 7521 section 4.2 leaves `client_id` to us, and some providers (Entra) ask for it.
            self.add_id(&mut form);
            form.add("client_assertion_type", kind);
            form.add("client_assertion", &assertion);
        }
        let Form { headers, body } = form;
        Ok(HttpCall { endpoint, method: "POST", headers, body: body.into_bytes(), timeout })
    }

    /// Whether a provider's text repeats a secret of this client, in any encoding in which it was
    /// sent.
    pub(super) fn contains_secret(self, text: &str) -> bool {
        let holds = |sent: &str| repeats(text, sent);
        let is_sent = |secret: &Secret| {
            holds(secret.reveal())
                || holds(&form_encoded(secret.reveal()))
                || holds(self.basic(secret).trim_start_matches("Basic "))
        };
        // The file may have changed since the call.
        let in_file = |file: &FileRef| {
            let contents = self.files.content(file).into_iter().chain(self.files.previous(file));
            contents.filter_map(FileContent::text).any(is_sent)
        };
        self.auth.iter().any(|auth| match auth {
            ClientAuth::Basic(SecretRef::Fixed(secret))
            | ClientAuth::Post(SecretRef::Fixed(secret))
            | ClientAuth::SecretJwt(SecretRef::Fixed(secret), _) => is_sent(secret),
            _ => auth.file().is_some_and(in_file),
        }) || text.contains("eyJ") // an assertion, good for one use and half a minute
    }

    fn secret<'s>(&'s self, secret: &'s SecretRef) -> Result<&'s Secret, FetchError> {
        secret.get(self.files).ok_or_else(gone)
    }

    /// A client that the assertion identifies needs no id.
    fn add_id(&self, form: &mut Form) {
        if !self.id.is_empty() {
            form.add("client_id", self.id);
        }
    }

    /// RFC 6749 section 2.3.1: both halves are form-encoded before they are joined.
    fn basic(self, secret: &Secret) -> String {
        let mut pair = SecretText::default();
        for part in [form_encoded(self.id).as_str(), ":", form_encoded(secret.reveal()).as_str()] {
            pair.push_str(part);
        }
        format!("Basic {}", STANDARD.encode(&*pair.into_bytes()))
    }
}

/// The file was there when the call was due.
pub(super) fn gone() -> FetchError {
    FetchError {
        no_connection: true,
        ..FetchError::new(FetchErrorKind::SecretUnavailable, "the secret is gone")
    }
}

/// There is no assertion; only an operator can change that.
pub(super) fn cannot_sign(key: &PrivateKey, error: SignError) -> FetchError {
    let algorithm = key.algorithm();
    let detail = match error {
        SignError::UnsupportedKey => format!(
            "Envoy does not sign {algorithm} with this key, which is broken unless this Envoy is older than 1.37"
        ),
        SignError::NoRandomness => return no_randomness(RandomError),
    };
    FetchError::new(FetchErrorKind::Configuration, detail)
}

fn no_randomness(error: RandomError) -> FetchError {
    FetchError::new(FetchErrorKind::Configuration, format!("no assertion can be made: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::secret_file::NoFiles;

    const SECRET: &str = "s3cr3t/of+the=order-service-0123456789";

    fn says(text: &str) -> bool {
        let auth = [ClientAuth::Basic(SecretRef::Fixed(Secret::new(SECRET.to_owned())))];
        Client { id: "order-service", auth: &auth, files: &NoFiles }.contains_secret(text)
    }

    #[test]
    fn a_text_with_a_part_of_the_secret_repeats_it() {
        let encoded = form_encoded(SECRET);
        let basic = STANDARD.encode(format!("order-service:{}", *encoded));
        for whole in [SECRET, &encoded, &basic] {
            for start in 0..=whole.len() - TELLING_BYTES {
                let part = &whole[start..start + TELLING_BYTES];
                assert!(says(&format!("bad secret {part}?")), "{part}");
                assert!(says(&format!("bad {}\u{7f}é{}", &part[..3], &part[3..])), "{part}, apart");
            }
        }
        assert!(says(&format!("unknown client with secret {}...", &SECRET[..26])));
        assert!(!says("Invalid client or Invalid client credentials") && !says(&SECRET[..7]) && !says(""));
    }

    #[test]
    fn of_a_short_secret_all_is_compared() {
        assert!(repeats("the secret is abc", "abc") && !repeats("the secret is ab", "abc"));
        assert!(!repeats("", "") && !repeats("", "abc"));
    }

    #[test]
    fn a_long_text_and_a_long_token_are_compared_in_one_pass() {
        let text = "x".repeat(256 * 1024);
        assert!(!repeats(&text, &"y".repeat(16 * 1024)));
    }
}
