//! What an operator has to change, for error descriptions of Keycloak that are known.
//!
//! In: `error` and `error_description` of a refusal. Out: a sentence for the log. It decides nothing, and never quotes what it was given.

/// Keycloak's words, as its versions 26.4 to 26.7 have them, and what they ask for in the words of its Admin Console. The first
/// that fits counts.
const KEYCLOAK: &[(&str, &str, &str)] = &[
    (
        "unauthorized_client",
        "Invalid client or Invalid client credentials",
        "client_secret must be the one of the client's Credentials tab",
    ),
    (
        "invalid_client",
        "Invalid client or Invalid client credentials",
        "client_id must be a client of this realm that is enabled, with the client authenticator that auth_method uses",
    ),
    ("", "Client not enabled to retrieve service account", "switch on the client's Service account roles"),
    (
        "",
        "Public client not allowed",
        "switch on the client's Client authentication and Service account roles",
    ),
    (
        "invalid_scope",
        "Invalid scopes",
        "each of scopes must be a client scope of the realm, and assigned to the client on its Client scopes tab",
    ),
    (
        "",
        "Standard token exchange is not enabled",
        "switch on Standard Token Exchange of the client that exchanges",
    ),
    (
        "",
        "Requested audience not available",
        "name the client scope in scopes whose Audience mapper brings it; audience alone only narrows",
    ),
    ("", "Audience not found", "audience must be the client_id of a client of this realm that is enabled"),
    (
        "",
        "Client is not within the token audience",
        "the caller's token must have this client_id in aud: give the caller a client scope with an Audience mapper for it",
    ),
];

/// The sentence for these words, if they are known.
pub(super) fn hint(error: &str, description: &str) -> Option<&'static str> {
    let fits = |(of, words, _): &&(&str, &str, &str)| {
        (of.is_empty() || *of == error) && description.starts_with(words)
    };
    KEYCLOAK.iter().find(fits).map(|(_, _, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_secret_and_an_unknown_client_are_told_apart() {
        let words = "Invalid client or Invalid client credentials";
        assert!(hint("unauthorized_client", words).unwrap().contains("client_secret"));
        assert!(hint("invalid_client", words).unwrap().contains("client_id"));
        assert_eq!(hint("invalid_request", words), None);
    }

    #[test]
    fn what_is_not_known_gets_no_advice() {
        assert_eq!(hint("invalid_scope", "no such scope"), None);
        assert_eq!(hint("", ""), None);
        assert!(hint("invalid_scope", "Invalid scopes: nope").is_some());
    }
}
