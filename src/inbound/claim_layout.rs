//! Where the tokens of each common provider say what their callers may do: one table.
//!
//! Plain data, chosen once per issuer. It reads no token, and decides nothing.

/// Where a provider's access tokens say what this filter asks them.
#[derive(Debug, PartialEq, Eq)]
pub struct ClaimLayout {
    /// `preset` in the configuration.
    pub name: &'static str,
    /// The array of the caller's roles (groups, permissions) that belong to no client; the first of these that is there.
    pub roles: &'static [&'static [&'static str]],
    /// The object of clients, and in each of them the array of the caller's roles there.
    pub client_roles: Option<(&'static str, &'static str)>,
    /// The scopes, a string with spaces or an array; the first of these that is there.
    pub scopes: &'static [&'static str],
    /// The client that the token was issued to; the first of these that is there.
    pub client: &'static [&'static str],
    /// A claim that every access token has, and its value; ID tokens have another.
    pub access_token_marker: Option<(&'static str, &'static str)>,
}

/// Keycloak's. The default, and so it knows the names that others have for scopes and the client.
pub const KEYCLOAK: ClaimLayout = ClaimLayout {
    name: "keycloak",
    roles: &[&["realm_access", "roles"]],
    client_roles: Some(("resource_access", "roles")),
    scopes: &["scope", "scp"],
    client: &["azp", "client_id", "cid", "appid"],
    access_token_marker: None,
};

/// Auth0's: `permissions` where RBAC is on; `client_id` in its RFC 9068 profile.
pub const AUTH0: ClaimLayout = ClaimLayout {
    name: "auth0",
    roles: &[&["permissions"]],
    client_roles: None,
    scopes: &["scope"],
    client: &["azp", "client_id"],
    access_token_marker: None,
};

/// Microsoft Entra ID's: app roles; `scp` in tokens of users only; `azp` in version 2.0, `appid` in 1.0.
pub const ENTRA: ClaimLayout = ClaimLayout {
    name: "entra",
    roles: &[&["roles"]],
    client_roles: None,
    scopes: &["scp"],
    client: &["azp", "appid"],
    access_token_marker: None,
};

/// Okta's: groups, where they are configured; scopes as an array.
pub const OKTA: ClaimLayout = ClaimLayout {
    name: "okta",
    roles: &[&["groups"]],
    client_roles: None,
    scopes: &["scp"],
    client: &["cid"],
    access_token_marker: None,
};

/// Amazon Cognito's: groups of users; its ID tokens are signed alike, and differ in `token_use`.
pub const COGNITO: ClaimLayout = ClaimLayout {
    name: "cognito",
    roles: &[&["cognito:groups"]],
    client_roles: None,
    scopes: &["scope"],
    client: &["client_id"],
    access_token_marker: Some(("token_use", "access")),
};

/// Google's service accounts': ID tokens, with neither roles nor scopes; who calls is `email` and `sub`.
pub const GOOGLE: ClaimLayout = ClaimLayout {
    name: "google",
    roles: &[],
    client_roles: None,
    scopes: &[],
    client: &["azp"],
    access_token_marker: None,
};

/// Kubernetes' service accounts': neither roles nor scopes; `sub` is `system:serviceaccount:<namespace>:<name>`.
pub const KUBERNETES: ClaimLayout = ClaimLayout {
    name: "kubernetes",
    roles: &[],
    client_roles: None,
    scopes: &[],
    client: &["sub"],
    access_token_marker: None,
};
