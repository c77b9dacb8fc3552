//! What became of a request, and whether that may be.

use m2m_auth_kit::servers::spelling::FORGED;
use m2m_auth_kit::servers::wire::Answer;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A handler ran.
    Ran(Reading),
    /// The server answered without any of its handlers.
    Server(u16),
    /// The filter refused it, for this reason.
    Refused(String),
    /// Envoy refused it.
    Envoy(u16),
    /// Envoy closed the stream or the connection.
    Closed,
}

/// What a handler has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) handler: String,
    /// The header of the filter that the client has set.
    forged: Option<String>,
}

/// The handlers that must not run in this suite.
const PROTECTED: [&str; 3] = ["admin", "admin-host", "delete"];

/// The headers that the filter owns, as a handler reports them and as CGI names them (RFC 3875
/// section 4.1.18).
const OWNED: [(&str, &str, &str); 2] = [
    ("caller: ", "x-caller", "HTTP_X_CALLER"),
    ("decision: ", "m2m-auth-decision", "HTTP_M2M_AUTH_DECISION"),
];

impl Outcome {
    pub(crate) fn of(answer: &Answer) -> Self {
        let Answer::Response(response) = answer else {
            return Self::Closed;
        };
        let text = response.text();
        if let Some(handler) = response.header("x-ran") {
            return Self::Ran(Reading::of(&handler, &text));
        }
        if response.header("x-envoy-upstream-service-time").is_some() {
            return Self::Server(response.status);
        }
        let reason = serde_json::from_str::<serde_json::Value>(&text).ok();
        let reason = reason.and_then(|body| Some(body.get("reason")?.as_str()?.to_owned()));
        // The answer to a HEAD has no body.
        let challenged = || response.header("www-authenticate").map(|_| "without a body".to_owned());
        reason.or_else(challenged).map_or(Self::Envoy(response.status), Self::Refused)
    }

    /// The violations that did happen.
    pub(crate) fn breach(&self) -> Option<String> {
        let Self::Ran(reading) = self else {
            return None;
        };
        if PROTECTED.contains(&reading.handler.as_str()) {
            return Some(format!("the handler {}", reading.handler));
        }
        reading.forged.as_ref().map(|forged| format!("a forged {forged}"))
    }
}

impl Reading {
    pub(crate) fn of(handler: &str, body: &str) -> Self {
        Self { handler: handler.to_owned(), forged: body.lines().find_map(forged) }
    }
}

/// The header of the filter that, by a line of a handler's answer, the client has set.
fn forged(line: &str) -> Option<String> {
    if !line.contains(FORGED) {
        return None;
    }
    if let Some((_, name, _)) = OWNED.iter().find(|(start, ..)| line.starts_with(start)) {
        return Some(format!("{name}, which the handler reads"));
    }
    let (name, _) = line.strip_prefix("header: ")?.rsplit_once(": ")?;
    let read =
        format!("HTTP_{}", name.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    let read = if name.starts_with("HTTP_") { name.to_owned() } else { read };
    OWNED.iter().any(|(.., cgi)| *cgi == read).then(|| format!("header that CGI reads as {read}"))
}
