//! HTTP (RFC 9110): messages, URLs, paths and their readings, and which rule a request matches.

pub mod host;
pub mod message;
pub mod path;
pub mod route;
pub mod url;

/// The printable ASCII characters of a string, at most `most` of them.
pub fn printable(text: &str, most: usize) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(most).collect()
}
