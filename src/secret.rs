//! Secrets: they cannot be printed, compared or serialised, and their memory is overwritten when they are dropped.
//!
//! This covers the values that live as long as the configuration or the token. It does not cover what the host keeps (its
//! copy of the configuration, of headers and of bodies), nor what a parser leaves behind.

use std::fmt;
use std::rc::Rc;
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// A client secret.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Secret(String);

/// An access token. Clones share one allocation; the last one overwrites it.
#[derive(Clone)]
pub struct AccessToken(Rc<Zeroizing<String>>);

// `Rc` cannot say it: the allocation is a `Zeroizing`.
impl ZeroizeOnDrop for AccessToken {}

/// The key that shared records are encrypted with.
#[derive(Clone, ZeroizeOnDrop)]
pub struct SharingKey(String);

/// The key of the `DPoP` nonces that this service issues (RFC 9449 section 9).
#[derive(Clone, ZeroizeOnDrop)]
pub struct NonceKey(String);

impl Secret {
    /// Takes over a secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret, for the wire.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl AccessToken {
    /// Copies a token.
    pub fn new(token: &str) -> Self {
        Self(Rc::new(Zeroizing::new(token.to_owned())))
    }

    /// The token, for the wire.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl SharingKey {
    /// Takes over a key.
    pub fn new(key: String) -> Self {
        Self(key)
    }

    /// The key, for the cipher.
    pub fn reveal(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl NonceKey {
    /// Takes over a key.
    pub fn new(key: String) -> Self {
        Self(key)
    }

    /// The key, for the MAC.
    pub fn reveal(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

macro_rules! redact {
    ($($name:ident)+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("redacted")
            }
        }
    )+};
}

redact!(Secret AccessToken SharingKey NonceKey);

/// A text that grows without leaving parts of itself behind: a `String` that is full moves, and frees what it was as it is.
#[derive(Default)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Appends `text`.
    pub fn push_str(&mut self, text: &str) {
        let length = self.0.len().saturating_add(text.len());
        if length > self.0.capacity() {
            let mut grown = Zeroizing::new(String::with_capacity(length.saturating_mul(2)));
            grown.push_str(&self.0);
            self.0 = grown;
        }
        self.0.push_str(text);
    }

    /// The text as bytes, in the same memory.
    pub fn into_bytes(mut self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(std::mem::take(&mut *self.0).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::message::HttpCall;
    use crate::jose::private_key::PrivateKey;

    #[test]
    fn secrets_are_overwritten_when_they_are_dropped() {
        fn of<T: ZeroizeOnDrop>() {}
        of::<Secret>();
        of::<AccessToken>();
        of::<SharingKey>();
        of::<NonceKey>();
        of::<PrivateKey>();
        of::<HttpCall>();
        assert!(std::mem::needs_drop::<Secret>() && std::mem::needs_drop::<AccessToken>());
    }

    #[test]
    fn clones_of_a_token_share_its_memory() {
        let token = AccessToken::new("hush");
        assert_eq!(token.clone().reveal().as_ptr(), token.reveal().as_ptr());
    }

    #[test]
    fn a_text_that_grows_keeps_what_it_had() {
        let mut text = SecretText::default();
        for part in ["a", "", "bcd", "efghijklmnop"] {
            text.push_str(part);
        }
        assert_eq!(*text.into_bytes(), *b"abcdefghijklmnop");
    }
}
