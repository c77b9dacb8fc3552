//! Secrets that are read from files: what a file must contain, and what it contains at the time.
//!
//! Envoy serves the file, normally by an internal listener. In: the reply. Out: the content, or why
//! it is not there yet. Errors quote nothing of the content.

use super::reply::success_body;
use crate::http::message::HttpReply;
use crate::jose::jwk::Algorithm;
use crate::jose::jws::{self, JwsError};
use crate::jose::private_key::PrivateKey;
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use crate::secret::Secret;
use serde_json::Value;
use std::fmt;
use std::rc::Rc;

/// A file that a secret is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// Its index in the list of files.
    pub index: usize,
    /// Its cluster and path, for logs: `files/client-secret`.
    pub name: Rc<str>,
}

/// What a file must contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileForm {
    /// A client secret: one line of text.
    Secret,
    /// A JWT.
    Assertion,
    /// A private key that signs with this algorithm, and the id that it is given.
    PrivateKey(Option<Algorithm>, Option<String>),
}

/// What a file contains.
#[derive(Clone, Debug)]
pub enum FileContent {
    /// A client secret.
    Secret(Secret),
    /// A JWT, and its `iat`.
    Assertion(Secret, Option<u64>),
    /// A private key.
    PrivateKey(Box<PrivateKey>),
}

/// The files, with what they contain now.
pub trait SecretFiles {
    /// The content of a file; `None` if it is not there.
    fn content(&self, file: &FileRef) -> Option<&FileContent>;

    /// The content that the file had before.
    fn previous(&self, _file: &FileRef) -> Option<&FileContent> {
        None
    }
}

/// No files: for configurations without one.
#[derive(Clone, Copy, Debug)]
pub struct NoFiles;

impl SecretFiles for NoFiles {
    fn content(&self, _file: &FileRef) -> Option<&FileContent> {
        None
    }
}

/// A value that is configured, or read from a file.
#[derive(Clone, Debug)]
pub enum ValueSource<T> {
    /// As configured.
    Fixed(T),
    /// What the file contains.
    File(FileRef),
}

/// A secret.
pub type SecretRef = ValueSource<Secret>;

/// A private key.
pub type KeyRef = ValueSource<Box<PrivateKey>>;

/// The largest secret or assertion. Larger ones do not fit into the header that a secret is sent
/// in, and no provider issues them.
const MAX_BYTES: usize = 16 * 1024;

/// What Envoy's formatters write for a value that they do not have.
const NO_VALUE: &str = "-";

impl FileForm {
    /// What the reply contains, without white space around it.
    pub fn read(&self, reply: &HttpReply) -> Result<FileContent, FetchError> {
        let unreadable = |detail: &str| FetchError::new(FetchErrorKind::Unreadable, detail);
        let body = success_body(reply)?;
        if body.len() > MAX_BYTES {
            let detail = format!("it has more than {MAX_BYTES} bytes");
            return Err(FetchError::new(FetchErrorKind::TooLarge, detail));
        }
        let text = std::str::from_utf8(body).map_err(|_| unreadable("it is not text"))?.trim();
        if text.is_empty() {
            return Err(unreadable("it is empty"));
        }
        if text == NO_VALUE {
            return Err(unreadable("it is \"-\", which Envoy serves for an empty or unknown secret of SDS"));
        }
        match self {
            Self::Secret if text.contains(|c: char| c.is_control()) => {
                Err(unreadable("it has more than one line, expected one secret"))
            }
            Self::Secret => Ok(FileContent::Secret(Secret::new(text.to_owned()))),
            Self::Assertion => {
                let issued_at = issued_at(text).map_err(|_| unreadable("it is not a JWT"))?;
                Ok(FileContent::Assertion(Secret::new(text.to_owned()), issued_at))
            }
            Self::PrivateKey(algorithm, kid) => {
                let key = PrivateKey::read(text, *algorithm);
                let key =
                    key.map_err(|error| unreadable(&format!("it is no usable private key: {error}")))?;
                Ok(FileContent::PrivateKey(Box::new(key.named(kid.clone()))))
            }
        }
    }
}

/// The `iat` of a JWT, if it has one.
fn issued_at(text: &str) -> Result<Option<u64>, JwsError> {
    let claims = jws::object(jws::read(text.as_bytes())?.payload)?;
    Ok(claims.get("iat").and_then(Value::as_u64))
}

/// The file is not there: no provider is asked.
pub fn not_there(file: &FileRef, why: &FetchError) -> FetchError {
    let detail = format!("{} is not there yet: {why}", file.name);
    FetchError { no_connection: true, ..FetchError::new(FetchErrorKind::SecretUnavailable, detail) }
}

impl<T> ValueSource<T> {
    /// The file that it is read from, if any.
    pub fn file(&self) -> Option<&FileRef> {
        match self {
            Self::Fixed(_) => None,
            Self::File(file) => Some(file),
        }
    }

    /// What it is, for a hash: the configured value, or the name of the file.
    fn parts<'a>(&'a self, value: impl FnOnce(&'a T) -> &'a [u8]) -> [&'a [u8]; 2] {
        match self {
            Self::Fixed(fixed) => [b"", value(fixed)],
            Self::File(file) => [b"file", file.name.as_bytes()],
        }
    }
}

impl SecretRef {
    /// The secret.
    pub fn get<'a>(&'a self, files: &'a dyn SecretFiles) -> Option<&'a Secret> {
        match self {
            Self::Fixed(secret) => Some(secret),
            Self::File(file) => files.content(file)?.text(),
        }
    }

    /// What it is. To be hashed, and nothing else.
    pub(super) fn identity(&self) -> [&[u8]; 2] {
        self.parts(|secret| secret.reveal().as_bytes())
    }
}

impl KeyRef {
    /// The key.
    pub fn get<'a>(&'a self, files: &'a dyn SecretFiles) -> Option<&'a PrivateKey> {
        match self {
            Self::Fixed(key) => Some(key),
            Self::File(file) => files.content(file)?.key(),
        }
    }

    /// What it is. To be hashed, and nothing else.
    pub(super) fn identity(&self) -> [&[u8]; 2] {
        self.parts(|key| key.pkcs8())
    }
}

impl FileContent {
    /// The secret or the assertion.
    pub fn text(&self) -> Option<&Secret> {
        match self {
            Self::Secret(secret) | Self::Assertion(secret, _) => Some(secret),
            Self::PrivateKey(_) => None,
        }
    }

    /// The private key.
    fn key(&self) -> Option<&PrivateKey> {
        match self {
            Self::PrivateKey(key) => Some(key),
            Self::Secret(_) | Self::Assertion(..) => None,
        }
    }
}

impl fmt::Display for FileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use m2m_auth_kit::key::{Alg, Key};

    fn read(form: &FileForm, body: &[u8]) -> Result<FileContent, String> {
        let reply = HttpReply { status: Some(200), body: Some(body.to_vec()), ..HttpReply::default() };
        form.read(&reply).map_err(|error| error.to_string())
    }

    // {"alg":"ES256"}.{"iat":1800000000}
    const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpYXQiOjE4MDAwMDAwMDB9.c2ln";

    #[test]
    fn white_space_around_a_secret_is_not_part_of_it() {
        let Ok(FileContent::Secret(secret)) = read(&FileForm::Secret, b" hush\r\n") else { panic!() };
        assert_eq!(secret.reveal(), "hush");
        let Ok(FileContent::Assertion(jwt, iat)) = read(&FileForm::Assertion, format!("{JWT}\n").as_bytes())
        else {
            panic!()
        };
        assert_eq!((jwt.reveal(), iat), (JWT, Some(1_800_000_000)));
    }

    #[test]
    fn what_is_not_of_the_expected_form_is_not_there_and_is_not_quoted() {
        let big = vec![b'x'; 1024 * 1024];
        for (form, body, expected) in [
            (FileForm::Secret, &b""[..], "unreadable: it is empty"),
            (FileForm::Secret, b" \r\n\t", "unreadable: it is empty"),
            (
                FileForm::Secret,
                b"-",
                "unreadable: it is \"-\", which Envoy serves for an empty or unknown secret of SDS",
            ),
            (FileForm::Secret, b"hush\nhush", "unreadable: it has more than one line, expected one secret"),
            (FileForm::Secret, b"hu\xffsh", "unreadable: it is not text"),
            (FileForm::Secret, &big, "too_large: it has more than 16384 bytes"),
            (FileForm::Assertion, b"hush", "unreadable: it is not a JWT"),
            (FileForm::Assertion, b"hush.hush.hush", "unreadable: it is not a JWT"),
            (FileForm::Assertion, b"null", "unreadable: it is not a JWT"),
        ] {
            assert_eq!(read(&form, body).unwrap_err(), expected);
        }
        let key = read(&FileForm::PrivateKey(None, None), b"hush").unwrap_err();
        assert!(
            key.starts_with("unreadable: it is no usable private key: ") && !key.contains("hush"),
            "{key}"
        );
        for status in [404, 500, 301] {
            let reply =
                HttpReply { status: Some(status), body: Some(b"hush".to_vec()), ..HttpReply::default() };
            let error = FileForm::Secret.read(&reply).unwrap_err().to_string();
            assert!(error.contains(&status.to_string()) && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_key_in_a_file_has_the_configured_id() {
        let form = FileForm::PrivateKey(Some(Algorithm::EdDsa), Some("k1".to_owned()));
        let pem = Key::new(Alg::EdDsa).private_pem();
        let Ok(FileContent::PrivateKey(key)) = read(&form, pem.as_bytes()) else { panic!() };
        assert_eq!(key.kid(), Some("k1"));
        assert!(read(&form, Key::new(Alg::Es256).private_pem().as_bytes()).is_err());
    }
}
