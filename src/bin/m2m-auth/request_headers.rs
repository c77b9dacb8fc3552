//! `--header` of `explain`: a header of the request, or a file of header lines.
//!
//! No error quotes a line, since it may contain a token.

use crate::CommandError;
use std::fs::File;
use std::io::Read as _;

/// A header's name in lower case, and its value, as the host passes them.
type Header = (String, String);

/// The largest file of header lines, in bytes. Envoy accepts 60 KiB of request headers by default.
const LARGEST_FILE: u64 = 64 * 1024;

/// The headers that the arguments name: `NAME: VALUE`, `@FILE`, or `@-` for the standard input.
/// `config` is the file of the configuration, which may be the standard input too.
pub(crate) fn read(arguments: &[String], config: &str) -> Result<Vec<Header>, CommandError> {
    let mut headers = Vec::new();
    let mut is_stdin_read = config == "-";
    for argument in arguments {
        let Some(file) = argument.strip_prefix('@') else {
            headers.push(parse(argument).map_err(|why| CommandError(format!("--header: {why}")))?);
            continue;
        };
        if file == "-" && std::mem::replace(&mut is_stdin_read, true) {
            return Err(CommandError(
                "--header @-: the standard input is already read by another option, expected a file"
                    .to_owned(),
            ));
        }
        headers.extend(lines_of(file).map_err(|why| CommandError(format!("--header @{file}: {why}")))?);
    }
    Ok(headers)
}

/// The headers in a file; `-` is the standard input. Line breaks are LF or CRLF; empty lines are
/// skipped.
fn lines_of(file: &str) -> Result<Vec<Header>, String> {
    if file.is_empty() {
        return Err("no file name, expected @FILE, or @- for the standard input".to_owned());
    }
    let content = bytes_of(file).map_err(|error| error.to_string())?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > LARGEST_FILE {
        return Err(format!("more than {LARGEST_FILE} bytes, expected the header lines of one request"));
    }
    let not_text = "not a text file (UTF-8), expected lines NAME: VALUE";
    let content = String::from_utf8(content).map_err(|_| not_text.to_owned())?;
    if content.contains('\0') {
        return Err(not_text.to_owned());
    }
    let mut headers = Vec::new();
    // Some editors write a byte order mark.
    for (number, line) in (1..).zip(content.trim_start_matches('\u{feff}').split('\n')) {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.trim().is_empty() {
            continue;
        }
        headers.push(parse(line).map_err(|why| format!("line {number}: {why}"))?);
    }
    if headers.is_empty() {
        return Err("empty, expected lines NAME: VALUE".to_owned());
    }
    Ok(headers)
}

/// The content of a file, up to one byte more than is accepted: a device or a pipe may never end.
fn bytes_of(file: &str) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let most = LARGEST_FILE.saturating_add(1);
    if file == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut content)?;
    } else {
        File::open(file)?.take(most).read_to_end(&mut content)?;
    }
    Ok(content)
}

/// One header line (RFC 9112 section 5), or what is wrong with it.
fn parse(line: &str) -> Result<Header, &'static str> {
    if line.starts_with([' ', '\t']) {
        return Err("starts with a space, expected NAME: VALUE (folded lines are not supported)");
    }
    let (name, value) = line
        .split_once(':')
        .filter(|(name, _)| !name.trim().is_empty())
        .ok_or("without a header name, expected NAME: VALUE such as \"authorization: Bearer …\"")?;
    let name = name.trim();
    if !name.bytes().all(is_token) {
        return Err("a header name with characters that no name has, expected NAME: VALUE");
    }
    let value = value.trim_matches([' ', '\t']);
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err("a control character in the value, expected NAME: VALUE");
    }
    Ok((name.to_ascii_lowercase(), value.to_owned()))
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
