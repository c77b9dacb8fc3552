//! The body of a request to a provider: `application/x-www-form-urlencoded`.

use crate::secret::SecretText;
use zeroize::Zeroizing;

/// A request in the making.
pub(super) struct Form {
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: SecretText,
}

impl Form {
    /// A request with this parameter.
    pub(super) fn new(name: &str, value: &str) -> Self {
        let headers = vec![
            ("content-type", "application/x-www-form-urlencoded".to_owned()),
            ("accept", "application/json".to_owned()),
        ];
        let mut form = Self { headers, body: SecretText::default() };
        form.push_pair(name, value);
        form
    }

    /// One more parameter.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        self.body.push_str("&");
        self.push_pair(name, value);
    }

    fn push_pair(&mut self, name: &str, value: &str) {
        for part in [form_encoded(name).as_str(), "=", form_encoded(value).as_str()] {
            self.body.push_str(part);
        }
    }
}

/// `application/x-www-form-urlencoded` (WHATWG URL section 5.2).
pub(super) fn form_encoded(text: &str) -> Zeroizing<String> {
    use std::fmt::Write as _;
    // Room for the longest, since a string that grows leaves a copy behind.
    let mut encoded = Zeroizing::new(String::with_capacity(text.len().saturating_mul(3)));
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}
