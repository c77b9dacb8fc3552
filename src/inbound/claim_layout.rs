//! Where the tokens of each common provider say what their callers may do: one table.
//!
//! Plain data, chosen once per issuer. It reads no token, and decides nothing.

/// Where a provider's access tokens say what this filter asks them.
#[derive(Debug, PartialEq, Eq)]
pub struct ClaimLayout {
    /// `preset` in the configuration.
    pub name: &'static str,
    /// The array of the caller's roles (groups, permissions) that belong to no client; the first of
    /// these that is there.
    pub roles: &'static [&'static [&'static str]],
    /// The object of clients, and in each of them the array of the caller's roles there.
    pub client_roles: Option<(&'static str, &'static str)>,
    /// The scopes, a string with spaces or an array; the first of these that is there.
    pub scopes: &'static [&'static str],
    /// The client that the token was issued to; the first of these that is there.
    pub client: &'static [&'static str],
    /// The claims in which access tokens differ from the other tokens of the provider.
    pub kind: &'static [KindClaim],
}

/// A claim in which access tokens differ from other tokens that are signed with the same keys (RFC
/// 8725 section 3.12).
#[derive(Debug, PartialEq, Eq)]
pub struct KindClaim {
    /// Its name in the payload.
    pub name: &'static str,
    /// Its values in access tokens, in any case. None: access tokens do not have it.
    pub values: &'static [&'static str],
    /// A further value, in tokens that are bound to a key (RFC 9449 section 6.1).
    pub if_bound: Option<&'static str>,
    /// Whether every access token has it.
    pub required: bool,
}

impl KindClaim {
    /// A claim that access tokens do not have.
    const fn none(name: &'static str) -> Self {
        Self { name, values: &[], if_bound: None, required: false }
    }
}

/// Of ID tokens: the hash of the access token, and of the code, that was issued with it (`OpenID`
/// Connect Core 1.0 sections 3.1.3.6 and 3.3.2.11). No access token can contain its own.
const AT_HASH: KindClaim = KindClaim::none("at_hash");
const C_HASH: KindClaim = KindClaim::none("c_hash");
const ID_TOKEN_HASHES: &[KindClaim] = &[AT_HASH, C_HASH];

/// Keycloak's: `typ` is `Bearer`, `ID`, `Refresh`, `Offline`, `Logout`. The default, and so it
/// knows the names that others have for scopes, the client and the kind of the token.
pub const KEYCLOAK: ClaimLayout = ClaimLayout {
    name: "keycloak",
    roles: &[&["realm_access", "roles"]],
    client_roles: Some(("resource_access", "roles")),
    scopes: &["scope", "scp"],
    client: &["azp", "client_id", "cid", "appid"],
    kind: &[
        KindClaim { name: "typ", values: &["Bearer"], if_bound: Some("DPoP"), required: false },
        KindClaim { name: "token_use", values: &["access"], if_bound: None, required: false },
        AT_HASH,
        C_HASH,
    ],
};

/// Auth0's: `permissions` where RBAC is on; `client_id` in its RFC 9068 profile.
pub const AUTH0: ClaimLayout = ClaimLayout {
    name: "auth0",
    roles: &[&["permissions"]],
    client_roles: None,
    scopes: &["scope"],
    client: &["azp", "client_id"],
    kind: ID_TOKEN_HASHES,
};

/// Microsoft Entra ID's: app roles; `scp` in tokens of users only; `azp` in version 2.0, `appid` in
/// 1.0.
pub const ENTRA: ClaimLayout = ClaimLayout {
    name: "entra",
    roles: &[&["roles"]],
    client_roles: None,
    scopes: &["scp"],
    client: &["azp", "appid"],
    kind: ID_TOKEN_HASHES,
};

/// Okta's: groups, where they are configured; scopes as an array.
pub const OKTA: ClaimLayout = ClaimLayout {
    name: "okta",
    roles: &[&["groups"]],
    client_roles: None,
    scopes: &["scp"],
    client: &["cid"],
    kind: ID_TOKEN_HASHES,
};

/// Amazon Cognito's: groups of users; its ID tokens are signed alike, and differ in `token_use`.
pub const COGNITO: ClaimLayout = ClaimLayout {
    name: "cognito",
    roles: &[&["cognito:groups"]],
    client_roles: None,
    scopes: &["scope"],
    client: &["client_id"],
    kind: &[
        KindClaim { name: "token_use", values: &["access"], if_bound: None, required: true },
        AT_HASH,
        C_HASH,
    ],
};

/// Google's service accounts': ID tokens, with neither roles nor scopes; who calls is `email` and
/// `sub`.
pub const GOOGLE: ClaimLayout =
    ClaimLayout { name: "google", roles: &[], client_roles: None, scopes: &[], client: &["azp"], kind: &[] };

/// Kubernetes' service accounts': neither roles nor scopes; `sub` is
/// `system:serviceaccount:<namespace>:<name>`.
pub const KUBERNETES: ClaimLayout = ClaimLayout {
    name: "kubernetes",
    roles: &[],
    client_roles: None,
    scopes: &[],
    client: &["sub"],
    kind: &[],
};

/// Any other provider's, as RFC 9068 section 2.2 has it; `azp` where a provider has no `client_id`.
/// Roles have no standard claim.
pub const GENERIC: ClaimLayout = ClaimLayout {
    name: "generic",
    roles: &[],
    client_roles: None,
    scopes: &["scope"],
    client: &["client_id", "azp"],
    kind: ID_TOKEN_HASHES,
};
