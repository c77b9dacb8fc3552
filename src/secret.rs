//! Secrets: none of them can be printed.

use std::fmt;
use std::rc::Rc;

/// Something that must not be seen: no `Display`, no `Serialize`, no comparison, and a `Debug` that says nothing.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` out of sight.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret, for the wire.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

/// An access token.
#[derive(Clone)]
pub struct AccessToken(Rc<str>);

impl AccessToken {
    /// Keeps a token out of sight.
    pub fn new(token: &str) -> Self {
        Self(token.into())
    }

    /// The token, for the wire.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

/// The key under which shared records are sealed: it has no `Display`, and its `Debug` says nothing.
#[derive(Clone)]
pub struct SharingKey(String);

impl SharingKey {
    /// Keeps a key out of sight.
    pub fn new(key: String) -> Self {
        Self(key)
    }

    /// The key, for the cipher.
    pub fn reveal(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for SharingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}
