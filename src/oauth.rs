//! OAuth 2.0 as data: a [`Grant`] to the [`Call`] that asks for its token, and the [`Reply`] to a [`Token`] or a fault.
//!
//! RFC 6749 sections 2.3.1, 4.4, 5.1 and 5.2, RFC 7523, RFC 8705 section 2, RFC 8707. It keeps no state, retries nothing,
//! and never puts a secret or a body into an error.

use crate::assertion::{self, Claims, Signer};
use crate::io::{Call, Dice, Endpoint, MAX_REPLY_BYTES, Reply};
use crate::json;
use crate::lease::{Cause, Failure, Fresh};
use crate::private_key::PrivateKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// Something that must not be seen: no `Display`, no `Serialize`, no comparison, and a `Debug` that says nothing.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` out of sight.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret, for the wire.
    fn reveal(&self) -> &str {
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
pub struct Token(Rc<str>);

impl Token {
    /// The token, for the wire.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

/// How the client proves who it is (RFC 6749 section 2.3, `OpenID` Connect Core section 9).
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// `client_secret_basic`.
    Basic(Secret),
    /// `client_secret_post`.
    Post(Secret),
    /// `client_secret_jwt`, for this audience.
    SecretJwt(Secret, String),
    /// `private_key_jwt`, for this audience.
    PrivateKey(Box<PrivateKey>, String),
    /// `tls_client_auth`: the cluster shows a certificate, and the body says whose it should be (RFC 8705 section 2).
    Tls,
    /// The cluster adds `Authorization` to the call, and with it the client's id.
    Cluster,
}

/// What to ask the token endpoint for: the client-credentials grant of one client (RFC 6749 section 4.4).
#[derive(Clone, Debug)]
pub struct Grant {
    /// `client_id`.
    pub client_id: String,
    /// How the client authenticates. Of several the next is tried where the provider does not take one.
    pub auth: Vec<ClientAuth>,
    /// The other parameters: `scope`, `audience`, `resource`, and the operator's own.
    pub parameters: Vec<(String, String)>,
    /// The life of a token whose answer does not say.
    pub default_lifetime: Duration,
}

impl Grant {
    /// The request for a token, the client authenticating in the `turn`th of its ways; or why there is none.
    pub fn call(
        &self,
        turn: usize,
        endpoint: Endpoint,
        timeout: Duration,
        signer: &mut Signer,
        now: u64,
    ) -> Result<Call, Failure> {
        let mut headers = vec![
            ("content-type", "application/x-www-form-urlencoded".to_owned()),
            ("accept", "application/json".to_owned()),
        ];
        let mut body = form_pair("grant_type", "client_credentials");
        let mut add = |name: &str, value: &str| {
            body.push('&');
            body.push_str(&form_pair(name, value));
        };
        for (name, value) in &self.parameters {
            add(name, value);
        }
        let claims = |audience| Claims { client_id: &self.client_id, audience, now };
        let assertion = match self.auth.get(turn) {
            Some(ClientAuth::Basic(secret)) => {
                headers.push(("authorization", self.basic(secret)));
                None
            }
            Some(ClientAuth::Post(secret)) => {
                add("client_id", &self.client_id);
                add("client_secret", secret.reveal());
                None
            }
            Some(ClientAuth::SecretJwt(secret, audience)) => {
                Some(signer.by_secret(secret.reveal(), &claims(audience)))
            }
            Some(ClientAuth::PrivateKey(key, audience)) => {
                let signed = signer.by_key(key, &claims(audience));
                Some(signed.ok_or_else(|| cannot_sign(key))?)
            }
            Some(ClientAuth::Tls) => {
                add("client_id", &self.client_id);
                None
            }
            Some(ClientAuth::Cluster) | None => None,
        };
        if let Some(assertion) = assertion {
            // RFC 7521 section 4.2 leaves `client_id` to us, and some providers (Entra) ask for it.
            add("client_id", &self.client_id);
            add("client_assertion_type", assertion::TYPE);
            add("client_assertion", &assertion);
        }
        Ok(Call { endpoint, method: "POST", headers, body: body.into_bytes(), timeout })
    }

    /// All that decides which tokens it brings, the secret among it. To be hashed, and nothing else.
    pub fn fingerprint(&self) -> Vec<&[u8]> {
        let mut parts = vec![self.client_id.as_bytes()];
        for auth in &self.auth {
            let proof: [&[u8]; 3] = match auth {
                ClientAuth::Basic(secret) => [b"basic", secret.reveal().as_bytes(), b""],
                ClientAuth::Post(secret) => [b"post", secret.reveal().as_bytes(), b""],
                ClientAuth::SecretJwt(secret, audience) => {
                    [b"secret", secret.reveal().as_bytes(), audience.as_bytes()]
                }
                ClientAuth::PrivateKey(key, audience) => [b"key", key.pkcs8(), audience.as_bytes()],
                ClientAuth::Tls => [b"tls", b"", b""],
                ClientAuth::Cluster => [b"cluster", b"", b""],
            };
            parts.extend(proof);
        }
        parts.push(b"with");
        parts.extend(self.parameters.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
        parts
    }

    /// Whether a provider's text holds what it was told and nobody else may know, in any form in which it was told.
    fn repeats_secret(&self, text: &str) -> bool {
        // Compared without what is left out of a log line, so that nothing can hide in it.
        let text = printable(text, usize::MAX);
        let holds = |sent: &str| text.contains(&printable(sent, usize::MAX));
        self.auth.iter().any(|auth| match auth {
            ClientAuth::Basic(secret) | ClientAuth::Post(secret) | ClientAuth::SecretJwt(secret, _) => {
                holds(secret.reveal())
                    || holds(&form_encoded(secret.reveal()))
                    || holds(self.basic(secret).trim_start_matches("Basic "))
            }
            ClientAuth::PrivateKey(..) | ClientAuth::Tls | ClientAuth::Cluster => false,
        }) || text.contains("eyJ") // an assertion, good for one use and half a minute
    }

    /// RFC 6749 section 2.3.1: both halves are form-encoded before they are joined.
    fn basic(&self, secret: &Secret) -> String {
        let pair = format!("{}:{}", form_encoded(&self.client_id), form_encoded(secret.reveal()));
        format!("Basic {}", STANDARD.encode(pair))
    }

    /// The token of a reply, and how long it is good.
    pub fn read(&self, reply: &Reply, dice: &mut Dice) -> Result<Fresh<Token>, Failure> {
        let answer = token_answer(reply, &|text| self.repeats_secret(text))?;
        let lifetime = lifetime(answer.get("expires_in"), self.default_lifetime)?;
        Ok(Fresh {
            value: bearer_token(&answer)?,
            renew_after: renewal(lifetime, dice),
            end_after: end(lifetime),
        })
    }
}

/// Nobody here signs with this key; only an operator can mend it.
fn cannot_sign(key: &PrivateKey) -> Failure {
    let algorithm = key.algorithm();
    let detail = format!(
        "Envoy does not sign {algorithm} with this key, which is broken unless this Envoy is older than 1.37"
    );
    Failure::new(Cause::Configuration, detail)
}

/// Whether the provider says that it does not take the client for who it says it is (RFC 6749 section 5.2): with 401, or in
/// the words of the standard, or in Keycloak's, which says `unauthorized_client` of a wrong secret.
pub fn denies_client(reply: &Reply) -> bool {
    let stated = || {
        let answer = json::parse_object(reply.body.as_deref()?).ok()?;
        let error = answer.get("error")?.as_str()?;
        Some(matches!(error, "invalid_client" | "unauthorized_client"))
    };
    match reply.status {
        Some(401) => true,
        Some(400) => stated().unwrap_or_default(),
        _ => false,
    }
}

/// The largest token that is attached: Envoy takes 60 KiB of headers in all.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A token is not believed to live longer, whatever its answer says.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The body of a good reply, or the fault that the reply is.
pub fn body_of(reply: &Reply) -> Result<&[u8], Failure> {
    let status = reply.status.ok_or_else(|| Failure::new(Cause::Unreachable, reply.note.clone()))?;
    if !(200..300).contains(&status) {
        let fault = if is_stale(reply) {
            Failure::new(Cause::Stale, "the connection was closed")
        } else {
            status_fault(status)
        };
        return Err(Failure { retry_after: retry_after(reply), ..fault });
    }
    let too_large =
        || Failure::new(Cause::Unreadable, format!("the answer is larger than {MAX_REPLY_BYTES} bytes"));
    reply.body.as_deref().ok_or_else(too_large)
}

/// What the host answers itself when a kept connection turns out to be closed (Envoy issue 27311).
fn is_stale(reply: &Reply) -> bool {
    let body = reply.body.as_deref().unwrap_or_default();
    let words = b"reset reason: connection termination";
    reply.status == Some(503) && body.windows(words.len()).any(|part| part == words)
}

/// What a status that is not 2xx means for whoever asked.
fn status_fault(status: u16) -> Failure {
    let cause = match status {
        // What the host answers itself when it cannot connect, or its timer runs out.
        503 => Cause::Unreachable,
        504 => Cause::Timeout,
        // 404 is what a provider that is not there yet says, or a proxy before it.
        404 | 408 | 425 | 429 | 500..=599 => Cause::Status,
        _ => Cause::Configuration,
    };
    Failure::new(cause, format!("status {status}"))
}

/// RFC 6749 section 5: the members of a token answer, or the fault that it states.
fn token_answer(reply: &Reply, is_secret: &dyn Fn(&str) -> bool) -> Result<Map<String, Value>, Failure> {
    let unreadable = |detail: &str| Failure::new(Cause::Unreadable, detail);
    match body_of(reply) {
        Ok(body) => {
            let answer =
                json::parse_object(body).map_err(|_| unreadable("the token answer is not a JSON object"))?;
            stated_fault(&answer, is_secret).map_or(Ok(answer), Err)
        }
        Err(failure) if matches!(reply.status, Some(400..500)) => {
            let body = reply.body.as_deref().unwrap_or_default();
            let stated = json::parse_object(body).ok().and_then(|answer| stated_fault(&answer, is_secret));
            Err(stated.map_or(failure.clone(), |stated| Failure {
                detail: format!("{}, {}", failure.detail, stated.detail),
                ..failure
            }))
        }
        Err(failure) => Err(failure),
    }
}

/// RFC 6749 section 5.2: `error`, and `error_description` cut to what may stand in a log line.
fn stated_fault(answer: &Map<String, Value>, is_secret: &dyn Fn(&str) -> bool) -> Option<Failure> {
    let code =
        |code: &&str| code.len() <= 40 && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let error = answer.get("error")?.as_str().filter(code).filter(|code| !is_secret(code)).unwrap_or("error");
    let description = answer.get("error_description").and_then(Value::as_str).unwrap_or_default();
    let description =
        if is_secret(description) { "(not shown, as it repeats the secret)" } else { description };
    let detail = format!("{error}: {}", printable(description, 160));
    Some(Failure::new(Cause::Configuration, detail.trim_end_matches([':', ' '])))
}

/// The printable ASCII of a text, cut short.
fn printable(text: &str, most: usize) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(most).collect()
}

/// RFC 6749 section 5.1: a token that may be attached as Bearer, or why not.
fn bearer_token(answer: &Map<String, Value>) -> Result<Token, Failure> {
    let unreadable = |detail: &str| Failure::new(Cause::Unreadable, detail);
    match answer.get("token_type").and_then(Value::as_str) {
        Some(kind) if kind.eq_ignore_ascii_case("Bearer") => {}
        Some(kind @ ("DPoP" | "mac" | "N_A")) => {
            return Err(unreadable(&format!("token_type is {kind}, expected Bearer")));
        }
        Some(_) => return Err(unreadable("token_type is not Bearer")), // not told, as it may be the token
        None => return Err(unreadable("the answer has no token_type")),
    }
    let Some(Value::String(token)) = answer.get("access_token") else {
        return Err(unreadable("the answer has no access_token"));
    };
    // RFC 6749 appendix A.12 allows printable ASCII; a blank would end a Bearer credential (RFC 6750 section 2.1).
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(unreadable("access_token is empty, too long, or holds characters that a header cannot"));
    }
    Ok(Token(token.as_str().into()))
}

/// `expires_in`: a number or a numeric text, fractions dropped; absent means `default`; above a day means a day.
fn lifetime(expires_in: Option<&Value>, default: Duration) -> Result<Duration, Failure> {
    let seconds = match expires_in {
        None | Some(Value::Null) => return Ok(default.min(MAX_LIFETIME)),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => json::parse(text.as_bytes()).ok().and_then(|number| number.as_f64()),
        Some(_) => None,
    };
    match seconds {
        Some(seconds) if seconds >= 1.0 => {
            let capped = seconds.floor().min(MAX_LIFETIME.as_secs_f64());
            Ok(Duration::from_secs_f64(capped))
        }
        Some(_) => Err(Failure::new(Cause::Unreadable, "expires_in says that the token has ended already")),
        None => Err(Failure::new(Cause::Unreadable, "expires_in is not a number")),
    }
}

/// A token ends for us a little before it ends for its provider: the lesser of 10 s (x/oauth2) and a tenth of its life,
/// so that it does not end on its way.
fn end(lifetime: Duration) -> Duration {
    lifetime.saturating_sub((lifetime / 10).min(Duration::from_secs(10)))
}

/// At 80 % of its life, less up to a tenth of it: a share, since a fixed margin may exceed the life.
fn renewal(lifetime: Duration, dice: &mut Dice) -> Duration {
    (lifetime / 5 * 4).saturating_sub(dice.up_to(lifetime / 10))
}

/// RFC 9110 section 10.2.3, as seconds or as a date, which counts from the answer's own `Date`: a skewed clock does no harm.
pub fn retry_after(reply: &Reply) -> Option<Duration> {
    let text = std::str::from_utf8(reply.head.first("retry-after")?).ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = std::str::from_utf8(reply.head.first("date")?).ok()?;
    Some(Duration::from_secs(http_date(text)?.saturating_sub(http_date(date.trim())?)))
}

/// Seconds since 1970 of an IMF-fixdate (RFC 9110 section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = u64::try_from(MONTHS.iter().position(|month| *month == name)?).ok()? + 1;
    let year: u64 = words.next()?.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut clock =
        words.next()?.split(':').map(|number| number.parse::<u64>().ok().filter(|number| *number < 61));
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    // Days from civil (Howard Hinnant): years start in March, so that the leap day is the last.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day.min(31);
    days.checked_sub(719_469).map(|days| days * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

fn form_pair(name: &str, value: &str) -> String {
    format!("{}={}", form_encoded(name), form_encoded(value))
}

/// `application/x-www-form-urlencoded` (WHATWG URL section 5.2).
fn form_encoded(text: &str) -> String {
    use fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::Compact;
    use m2m_auth_kit::key::{Alg, Key};
    use m2m_auth_kit::token::{decode, verifies, verifies_by_secret};
    use serde_json::json;

    fn grant(auth: ClientAuth) -> Grant {
        let parameters =
            vec![("scope".to_owned(), "a b".to_owned()), ("resource".to_owned(), "https://x/?y".to_owned())];
        Grant {
            client_id: "a:b c".into(),
            auth: vec![auth],
            parameters,
            default_lifetime: Duration::from_secs(300),
        }
    }

    fn call(auth: ClientAuth) -> Call {
        let endpoint =
            Endpoint { cluster: "c".into(), scheme: "https", authority: "idp".into(), path: "/t".into() };
        grant(auth).call(0, endpoint, Duration::from_secs(5), &mut signer(), 1_800_000_000).unwrap()
    }

    fn signer() -> Signer {
        Signer::new(Box::new(Compact), [7; 32])
    }

    fn body(auth: ClientAuth) -> String {
        let call = call(auth);
        assert!(call.headers.iter().all(|(name, _)| *name != "authorization"), "one method only");
        String::from_utf8(call.body).unwrap()
    }

    fn read(answer: &Value) -> Result<Fresh<Token>, Failure> {
        let body = Some(answer.to_string().into_bytes());
        let reply = Reply { status: Some(200), body, ..Reply::default() };
        grant(ClientAuth::Post(Secret::new("s".into()))).read(&reply, &mut Dice::new(1))
    }

    fn good() -> Value {
        json!({ "access_token": "t", "token_type": "bearer", "expires_in": 300 })
    }

    #[test]
    fn basic_is_form_encoded_before_base64() {
        let call = call(ClientAuth::Basic(Secret::new("p%&+ü".into())));
        let (_, value) = call.headers.iter().find(|(name, _)| *name == "authorization").unwrap();
        let pair = STANDARD.decode(value.strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(String::from_utf8(pair).unwrap(), "a%3Ab+c:p%25%26%2B%C3%BC");
        let body = String::from_utf8(call.body).unwrap();
        assert_eq!(body, "grant_type=client_credentials&scope=a+b&resource=https%3A%2F%2Fx%2F%3Fy");
    }

    #[test]
    fn post_puts_both_into_the_body() {
        let body = body(ClientAuth::Post(Secret::new("p&q".into())));
        assert!(body.ends_with("&client_id=a%3Ab+c&client_secret=p%26q"), "{body}");
    }

    #[test]
    fn an_assertion_goes_into_the_body_and_the_secret_does_not() {
        let key = Key::new(Alg::EdDsa);
        let read = Box::new(PrivateKey::read(&key.private_pem(), None).unwrap());
        let assertion = |auth| {
            let body = body(auth);
            let expected = "&client_id=a%3Ab+c&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=";
            assert!(body.contains(expected) && !body.contains("hush"), "{body}");
            body.rsplit('=').next().unwrap().to_owned()
        };
        let by_key = assertion(ClientAuth::PrivateKey(read, "https://idp".to_owned()));
        assert!(verifies(&by_key, &key));
        assert_eq!(
            (&decode(&by_key).1["sub"], &decode(&by_key).1["aud"]),
            (&json!("a:b c"), &json!("https://idp"))
        );
        let by_secret = ClientAuth::SecretJwt(Secret::new("hush".into()), "https://idp".to_owned());
        assert!(verifies_by_secret(&assertion(by_secret), b"hush"));
    }

    #[test]
    fn what_the_cluster_proves_is_not_proved_here() {
        let plain = "grant_type=client_credentials&scope=a+b&resource=https%3A%2F%2Fx%2F%3Fy";
        assert_eq!(body(ClientAuth::Cluster), plain);
        assert_eq!(body(ClientAuth::Tls), format!("{plain}&client_id=a%3Ab+c"));
    }

    #[test]
    fn a_key_that_nobody_can_sign_with_is_the_operators_fault() {
        let read = PrivateKey::read(&Key::new(Alg::Es256).private_pem(), None).unwrap();
        let grant = grant(ClientAuth::PrivateKey(Box::new(read), String::new()));
        let to =
            Endpoint { cluster: "c".into(), scheme: "https", authority: "idp".into(), path: "/t".into() };
        let failure = grant.call(0, to, Duration::from_secs(5), &mut signer(), 0).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "configuration: Envoy does not sign ES256 with this key, which is broken unless this Envoy is older than 1.37"
        );
    }

    #[test]
    fn a_client_is_denied_by_401_and_by_the_words_of_the_standard() {
        let denies = |status, body: &str| {
            denies_client(&Reply {
                status: Some(status),
                body: Some(body.as_bytes().to_vec()),
                ..Reply::default()
            })
        };
        for error in ["invalid_client", "unauthorized_client"] {
            assert!(denies(400, &json!({ "error": error }).to_string()), "{error}");
            assert!(!denies(200, &json!({ "error": error }).to_string()), "{error}");
        }
        assert!(denies(401, "<html>") && denies(401, r#"{"error":"access_denied"}"#));
        assert!(!denies(400, r#"{"error":"invalid_scope"}"#) && !denies(400, "") && !denies(403, ""));
        assert!(!denies_client(&Reply::default()));
    }

    #[test]
    fn nothing_prints_a_secret() {
        let call = call(ClientAuth::Post(Secret::new("hush".into())));
        let token = read(&good()).unwrap().value;
        assert!(
            !format!("{call:?} {:?} {token:?}", grant(ClientAuth::Basic(Secret::new("hush".into()))))
                .contains("hush")
        );
    }

    #[test]
    fn a_token_is_renewed_and_ends_before_its_provider_ends_it() {
        for seconds in [1_u64, 5, 60, 300, 86_400] {
            let mut answer = good();
            answer["expires_in"] = json!(seconds);
            let fresh = read(&answer).unwrap();
            let life = Duration::from_secs(seconds);
            assert!(
                fresh.renew_after + Duration::from_millis(1) >= life / 10 * 7,
                "{seconds}: {:?}",
                fresh.renew_after
            );
            assert!(fresh.renew_after < fresh.end_after && fresh.end_after < life, "{seconds}");
        }
    }

    #[test]
    fn every_odd_expires_in_has_one_meaning() {
        let life = |expires_in: Value| {
            let mut answer = good();
            answer["expires_in"] = expires_in;
            read(&answer).map(|fresh| fresh.end_after.as_secs()).map_err(|failure| failure.cause)
        };
        assert_eq!(life(json!("300")), Ok(290));
        assert_eq!(life(json!(300.9)), Ok(290));
        assert_eq!(life(json!(null)), Ok(290));
        assert_eq!(life(json!(u64::MAX)), Ok(86_390));
        assert_eq!(life(json!(1e300)), Ok(86_390));
        for odd in [json!(0), json!(-5), json!("soon"), json!([300]), json!("NaN"), json!(0.5), json!(true)] {
            assert_eq!(life(odd.clone()), Err(Cause::Unreadable), "{odd}");
        }
        let mut absent = good();
        absent.as_object_mut().unwrap().remove("expires_in");
        assert_eq!(read(&absent).unwrap().end_after.as_secs(), 290);
    }

    #[test]
    fn what_cannot_be_attached_is_not_a_token() {
        for (name, value) in [
            ("access_token", json!("")),
            ("access_token", json!("a\r\nx: y")),
            ("access_token", json!("a b")),
            ("access_token", json!("ü")),
            ("access_token", json!(5)),
            ("access_token", json!("x".repeat(MAX_TOKEN_BYTES + 1))),
            ("token_type", json!("DPoP")),
            ("token_type", json!("mac")),
            ("token_type", json!(null)),
        ] {
            let mut answer = good();
            answer[name] = value.clone();
            assert_eq!(read(&answer).unwrap_err().cause, Cause::Unreadable, "{name} {value}");
        }
    }

    #[test]
    fn faults_tell_what_the_provider_said_and_no_more() {
        let reply = |status: u16, body: &str| Reply {
            status: Some(status),
            body: Some(body.as_bytes().to_vec()),
            ..Reply::default()
        };
        let fault = |reply: &Reply| {
            grant(ClientAuth::Post(Secret::new("s".into()))).read(reply, &mut Dice::new(1)).unwrap_err()
        };
        let wrong = fault(&reply(
            401,
            r#"{"error":"unauthorized_client","error_description":"Invalid client\r\nx"}"#,
        ));
        assert_eq!(wrong.cause, Cause::Configuration);
        assert_eq!(wrong.detail, "status 401, unauthorized_client: Invalid clientx");
        assert_eq!(fault(&reply(200, r#"{"error":"invalid_scope"}"#)).cause, Cause::Configuration);
        assert_eq!(fault(&reply(200, "<html>token</html>")).detail, "the token answer is not a JSON object");
        assert_eq!(fault(&reply(429, "")).cause, Cause::Status);
        assert_eq!(fault(&reply(500, "")).cause, Cause::Status);
        assert_eq!(fault(&Reply::default()).cause, Cause::Unreachable);
        assert_eq!(fault(&Reply { status: Some(200), ..Reply::default() }).cause, Cause::Unreadable);
    }

    #[test]
    fn retry_after_counts_from_the_answers_own_date() {
        let reply =
            |headers: &[(&str, &str)]| Reply { head: headers.iter().copied().collect(), ..Reply::default() };
        let seconds = |headers: &[(&str, &str)]| retry_after(&reply(headers)).map(|span| span.as_secs());
        assert_eq!(seconds(&[("retry-after", "7")]), Some(7));
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(seconds(&[date, ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")]), Some(30));
        assert_eq!(seconds(&[date, ("retry-after", "Sat, 05 Nov 1994 08:50:07 GMT")]), Some(0));
        assert_eq!(seconds(&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")]), None);
        assert_eq!(seconds(&[("retry-after", "-1")]), None);
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Tue, 29 Feb 2028 23:59:59 GMT"), Some(1_835_481_599));
    }
}
