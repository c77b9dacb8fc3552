//! The requests: what is wrong with a token, or with the request around it, one thing at a time.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use m2m_auth_kit::client::Request;
use m2m_auth_kit::key::{Alg, Key, encode};
use m2m_auth_kit::token::{self, Mint, sign_bytes};
use serde_json::{Value, json};

/// One request, to be sent to each of the two.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) group: &'static str,
    pub(super) name: &'static str,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: &'static str,
    /// What its token has instead of good claims, of the time when it is sent.
    change: Option<fn(&mut Value)>,
}

impl Case {
    /// With a token whose times are those of now.
    pub(super) fn ready(&self, keys: &Keys) -> Self {
        let mut ready = self.clone();
        if let Some(change) = self.change {
            let mut claims = claims();
            change(&mut claims);
            ready.headers.push(("authorization", format!("Bearer {}", Mint::of(claims).sign(&keys.current))));
        }
        ready
    }

    pub(super) fn request(&self, url: impl FnOnce(&str) -> String) -> Request {
        let request = Request::new(self.method, url(&self.path)).body(self.body);
        self.headers.iter().fold(request, |request, (name, value)| request.header(name, value))
    }
}

/// The provider's keys. All are published but `stranger`; `new` only once both filters have the key
/// set, and `withdrawn` no longer then.
pub(super) struct Keys {
    pub(super) current: Key,
    pub(super) es256: Key,
    pub(super) ed25519: Key,
    pub(super) ps256: Key,
    pub(super) rs384: Key,
    pub(super) rs512: Key,
    pub(super) new: Key,
    pub(super) withdrawn: Key,
    pub(super) stranger: Key,
    /// Published with `use: enc`.
    pub(super) encrypting: Key,
    /// Published with `key_ops: [encrypt]`.
    pub(super) wrapping: Key,
    /// Published with `key_ops: [verify]`.
    pub(super) verifying: Key,
    /// Published without `alg` and `use`, as many providers do.
    pub(super) bare_ec: Key,
    pub(super) bare_ed: Key,
    pub(super) bare_rsa: Key,
}

pub(super) const ISSUER: &str = "https://idp.example.com/realms/m2m";

/// The secret of the symmetric key that the provider publishes by error.
pub(super) const SYMMETRIC: &[u8] = b"a secret of thirty-two bytes!!!!";

/// A key of 1024 bits and a token that it has signed; current libraries make neither.
pub(super) fn small() -> Value {
    serde_json::from_str(include_str!("../../../data/rsa-1024.json")).unwrap()
}

impl Keys {
    pub(super) fn new(current: Key) -> Self {
        let rsa = || Key::new(Alg::Rs256);
        Self {
            current,
            es256: Key::new(Alg::Es256),
            ed25519: Key::new(Alg::EdDsa),
            ps256: Key::new(Alg::Ps256),
            rs384: Key::new(Alg::Rs384),
            rs512: Key::new(Alg::Rs512),
            new: Key::new(Alg::Es256),
            withdrawn: Key::new(Alg::Es256),
            stranger: rsa(),
            encrypting: rsa(),
            wrapping: rsa(),
            verifying: rsa(),
            bare_ec: Key::new(Alg::Es256),
            bare_ed: Key::new(Alg::EdDsa),
            bare_rsa: rsa(),
        }
    }

    /// The other keys of the key set.
    pub(super) fn jwks(&self) -> Vec<Value> {
        let with = |key: &Key, member: &str, value: Value| {
            let mut jwk = key.bare_jwk();
            (jwk["kid"], jwk[member]) = (json!(key.kid()), value);
            jwk
        };
        let bare = |key: &Key| with(key, "kid", json!(key.kid()));
        let plain = [&self.es256, &self.ed25519, &self.ps256, &self.rs384, &self.rs512];
        plain
            .map(Key::jwk)
            .into_iter()
            .chain([&self.bare_ec, &self.bare_ed, &self.bare_rsa].map(bare))
            .chain([
                with(&self.encrypting, "use", json!("enc")),
                with(&self.wrapping, "key_ops", json!(["encrypt"])),
                with(&self.verifying, "key_ops", json!(["verify"])),
                json!({ "kty": "oct", "kid": "symmetric", "k": encode(SYMMETRIC) }),
                small()["jwk"].clone(),
            ])
            .collect()
    }
}

/// Good claims, for longer than all requests take.
pub(super) fn claims() -> Value {
    let mut claims = token::claims(ISSUER);
    claims["exp"] = json!(token::now() + 86_400);
    claims
}

struct Corpus<'k> {
    keys: &'k Keys,
    group: &'static str,
    cases: Vec<Case>,
}

/// A name, and what it does to good claims.
type Change = (&'static str, fn(&mut Value));

impl Corpus<'_> {
    fn ask(&mut self, name: &'static str, path: &str, headers: &[(&'static str, &str)]) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let (group, path) = (self.group, path.to_owned());
        self.cases.push(Case { group, name, method: "GET", path, headers, body: "", change: None });
    }

    fn token(&mut self, name: &'static str, token: &str) {
        self.ask(name, "/inventory/items", &[("authorization", &format!("Bearer {token}"))]);
    }

    fn mint(&mut self, name: &'static str, mint: &Mint) {
        self.token(name, &mint.sign(&self.keys.current));
    }

    fn changed(&mut self, path: &str, changes: &[Change]) {
        for (name, change) in changes {
            self.ask(name, path, &[]);
            self.cases.last_mut().unwrap().change = Some(*change);
        }
    }

    /// A token of this header and payload, correctly signed.
    fn raw(&mut self, name: &'static str, header: Option<&str>, payload: Option<&[u8]>) {
        let own = format!(r#"{{"alg":"RS256","typ":"JWT","kid":"{}"}}"#, self.keys.current.kid());
        let (header, claims) = (header.map_or(own, |text| self.header(text)), claims().to_string());
        let payload = payload.unwrap_or(claims.as_bytes());
        self.token(name, &sign_bytes(&self.keys.current, header.as_bytes(), payload));
    }

    fn header(&self, text: &str) -> String {
        text.replace("KID", self.keys.current.kid())
    }
}

/// Token, header and signature apart.
fn parts(token: &str) -> [String; 3] {
    token.split('.').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap()
}

fn take(claims: &mut Value, name: &str) {
    claims.as_object_mut().unwrap().remove(name);
}

fn roles(claims: &mut Value, roles: Value) {
    claims["resource_access"]["inventory-service"]["roles"] = roles;
}

/// All of it. The first two need a key set that has changed since it was fetched, and so come
/// before anything else can fetch it anew.
pub(super) fn corpus(keys: &Keys) -> Vec<Case> {
    let mut all = Corpus { keys, group: "", cases: Vec::new() };
    rotated(&mut all);
    good(&mut all);
    location(&mut all);
    form(&mut all);
    signature(&mut all);
    time(&mut all);
    issuer_and_audience(&mut all);
    kind(&mut all);
    access(&mut all);
    paths(&mut all);
    methods(&mut all);
    all.cases
}

fn rotated(all: &mut Corpus<'_>) {
    all.group = "Keys that change";
    let keys = all.keys;
    all.mint("a key that was published after the key set was fetched", &Mint::of(claims()).key(&keys.new));
    all.token("a token seen before, whose key has been withdrawn since", &withdrawn(keys));
    all.mint("a key that the provider does not publish", &Mint::of(claims()).key(&keys.stranger));
}

/// The token that both filters have seen before its key was withdrawn: the same each time.
pub(super) fn withdrawn(keys: &Keys) -> String {
    let mut claims = claims();
    (claims["iat"], claims["exp"], claims["jti"]) =
        (json!(1_700_000_000), json!(4_102_444_800_u64), json!("w"));
    // Ed25519 and RFC 6979: the same claims have the same signature.
    Mint::of(claims).key(&keys.withdrawn).sign(&keys.withdrawn)
}

fn good(all: &mut Corpus<'_>) {
    all.group = "Good tokens";
    let keys = all.keys;
    for (name, key) in [
        ("RS256", &keys.current),
        ("RS384", &keys.rs384),
        ("RS512", &keys.rs512),
        ("PS256", &keys.ps256),
        ("ES256", &keys.es256),
        ("EdDSA", &keys.ed25519),
        ("RS256, a key without `alg` and `use`", &keys.bare_rsa),
        ("RS256, a key with `key_ops: [verify]`", &keys.verifying),
    ] {
        all.mint(name, &Mint::of(claims()).key(key));
    }
    let mint = || Mint::of(claims());
    all.mint("no `kid`", &mint().without_header("kid"));
    for (name, typ) in [
        ("header `typ: at+jwt`", "at+jwt"),
        ("header `typ: application/at+jwt`", "application/at+jwt"),
        ("header `typ: jwt`", "jwt"),
    ] {
        all.mint(name, &mint().header("typ", typ));
    }
    all.mint("no header `typ`", &mint().without_header("typ"));
    all.mint("an unknown header member", &mint().header("x-other", 1));
    let mut stranger = keys.stranger.jwk();
    stranger["kid"] = json!(keys.current.kid());
    all.mint("somebody's `jwk` in the header, signed by the provider", &mint().header("jwk", stranger));
    all.mint(
        "a `jku` in the header, signed by the provider",
        &mint().header("jku", "https://evil.example/keys"),
    );
    all.changed(
        "/inventory/items",
        &[
            ("`aud` is a list with this service in it", |claims| {
                claims["aud"] = json!(["a", "inventory-service"]);
            }),
            ("no `sub`", |claims| take(claims, "sub")),
            ("a claim nested 60 deep", |claims| {
                claims["deep"] = (0..60).fold(json!(1), |inner, _| json!([inner]));
            }),
            ("a token of 12 KB", |claims| claims["much"] = json!("a".repeat(8_400))),
        ],
    );
}

fn location(all: &mut Corpus<'_>) {
    all.group = "Location of the token";
    let good = Mint::of(claims()).sign(&all.keys.current);
    let other = Mint::of(claims()).sign(&all.keys.current);
    let path = "/inventory/items";
    all.ask("no token", path, &[]);
    for (name, value) in [
        ("`bearer` in lower case", format!("bearer {good}")),
        ("`BEARER` in capitals", format!("BEARER {good}")),
        ("two spaces after `Bearer`", format!("Bearer  {good}")),
        ("a tab after `Bearer`", format!("Bearer\t{good}")),
        ("no scheme, only the token", good.clone()),
        ("`foo Bearer TOKEN`", format!("foo Bearer {good}")),
        ("`Basic Zm9v, Bearer TOKEN`", format!("Basic Zm9v, Bearer {good}")),
        ("`Basic Zm9vOmJhcg==`", "Basic Zm9vOmJhcg==".to_owned()),
        ("`DPoP TOKEN`", format!("DPoP {good}")),
        ("`Bearer` and nothing", "Bearer".to_owned()),
        ("`Bearer \"TOKEN\"`", format!("Bearer \"{good}\"")),
        ("`Bearer TOKEN,`", format!("Bearer {good},")),
        ("`Bearer TOKEN other`", format!("Bearer {good} other")),
        ("`Bearer TOKEN, Bearer OTHER`, both good", format!("Bearer {good}, Bearer {other}")),
        ("`Bearer=TOKEN`", format!("Bearer={good}")),
        ("`Bearer: TOKEN`", format!("Bearer: {good}")),
    ] {
        all.ask(name, path, &[("authorization", &value)]);
    }
    let (one, two) = (format!("Bearer {good}"), format!("Bearer {other}"));
    all.ask(
        "two `Authorization` lines, both good",
        path,
        &[("authorization", &one), ("authorization", &two)],
    );
    all.ask(
        "two `Authorization` lines with the same token",
        path,
        &[("authorization", &one), ("authorization", &one)],
    );
    all.ask(
        "a good `Authorization` line, then Basic",
        path,
        &[("authorization", &one), ("authorization", "Basic Zm9v")],
    );
    all.ask(
        "Basic, then a good `Authorization` line",
        path,
        &[("authorization", "Basic Zm9v"), ("authorization", &one)],
    );
    all.ask("in the query, as `access_token`", &format!("{path}?access_token={good}"), &[]);
    all.ask(
        "good, and a bad one in the query",
        &format!("{path}?access_token=x"),
        &[("authorization", &one)],
    );
    all.ask("in a cookie", path, &[("cookie", &format!("access_token={good}"))]);
    all.ask("in `X-Authorization`", path, &[("x-authorization", &one)]);
    all.ask("in `Proxy-Authorization`", path, &[("proxy-authorization", &one)]);
    all.ask("in the body, as `access_token`", path, &[("content-type", "application/x-www-form-urlencoded")]);
    let last = all.cases.last_mut().unwrap();
    (last.method, last.body) = ("POST", "access_token=x");
}

fn form(all: &mut Corpus<'_>) {
    all.group = "The form of the token";
    let token = Mint::of(claims()).sign(&all.keys.current);
    let [header, payload, signature] = parts(&token);
    let pad = |part: &str| URL_SAFE.encode(URL_SAFE_NO_PAD.decode(part).unwrap());
    // The last character of a signature of 256 bytes carries two bits of data.
    let loose = |part: &str| {
        let (rest, last) = part.split_at(part.len() - 1);
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let next = alphabet.find(last).unwrap() + 1;
        format!("{rest}{}", &alphabet[next..=next])
    };
    for (name, token) in [
        ("a word", "garbage".to_owned()),
        ("two parts", format!("{header}.{payload}")),
        ("four parts", format!("{token}.x")),
        ("five parts (JWE)", format!("{header}.e30.{payload}.{signature}.x")),
        ("an empty payload", format!("{header}..{signature}")),
        ("no signature", format!("{header}.{payload}.")),
        ("a dot before it", format!(".{token}")),
        ("a dot behind it", format!("{token}.")),
        ("two dots behind the header", format!("{header}..{payload}.{signature}")),
        ("the signature padded with `=`", format!("{header}.{payload}.{}", pad(&signature))),
        (
            "bits of the signature that carry nothing are set",
            format!("{header}.{payload}.{}", loose(&signature)),
        ),
        ("the signature in plain base64", {
            let plain = STANDARD.encode(URL_SAFE_NO_PAD.decode(&signature).unwrap());
            format!("{header}.{payload}.{}+/", plain.trim_end_matches('='))
        }),
        ("a space within it", format!("{header}. {payload}.{signature}")),
        ("a character outside of the alphabet", format!("{header}.{payload}!.{signature}")),
    ] {
        all.token(name, &token);
    }
    let mut padded = claims();
    // As many bytes as need padding.
    while padded.to_string().len().is_multiple_of(3) {
        padded["fill"] = json!(format!("{}a", padded["fill"].as_str().unwrap_or_default()));
    }
    let signed = format!("{header}.{}", URL_SAFE.encode(padded.to_string()));
    let padded = format!("{signed}.{}", encode(all.keys.current.sign(signed.as_bytes())));
    all.token("the payload padded with `=`, and signed so", &padded);
    let text = claims().to_string();
    let inner = text.trim_start_matches('{');
    all.raw("`aud` twice, the last one is ours", None, Some(format!(r#"{{"aud":"x",{inner}"#).as_bytes()));
    all.raw("`iss` twice, the same", None, Some(format!(r#"{{"iss":"{ISSUER}",{inner}"#).as_bytes()));
    all.raw("`alg` twice in the header", Some(r#"{"alg":"none","alg":"RS256","kid":"KID"}"#), None);
    all.raw("the payload is a list", None, Some(format!("[{text}]").as_bytes()));
    all.raw("the payload is `null`", None, Some(b"null"));
    all.raw("the payload is no JSON", None, Some(b"no json"));
    let not_utf8: Vec<u8> =
        format!("{{\"x\":\"?\",{inner}").bytes().map(|byte| if byte == b'?' { 0xff } else { byte }).collect();
    all.raw("the payload is no UTF-8", None, Some(&not_utf8));
    all.raw("a byte order mark before the payload", None, Some(format!("\u{feff}{text}").as_bytes()));
    all.raw("something behind the payload", None, Some(format!("{text}{{}}").as_bytes()));
    all.raw("spaces and line ends in the payload", None, Some(format!(" \n{text}\r\n").as_bytes()));
    all.raw("the header is a list", Some(r#"["RS256"]"#), None);
    all.raw(
        "the payload is nested 200 deep",
        None,
        Some(format!("{{\"x\":{}1{},{inner}", "[".repeat(200), "]".repeat(200)).as_bytes()),
    );
    let mint = || Mint::of(claims());
    all.mint("an unknown extension in `crit`", &mint().header("crit", json!(["x"])).header("x", 1));
    all.mint("an empty `crit`", &mint().header("crit", json!([])));
    all.mint("`b64: false` in `crit`", &mint().header("crit", json!(["b64"])).header("b64", false));
    all.mint("`b64: false`", &mint().header("b64", false));
    all.mint("`b64: true`", &mint().header("b64", true));
    all.changed(
        "/inventory/items",
        &[
            ("a token of 20 KB", |claims| claims["much"] = json!("a".repeat(14_500))),
            ("a token of 40 KB", |claims| claims["much"] = json!("a".repeat(29_500))),
            ("a token of 70 KB", |claims| claims["much"] = json!("a".repeat(52_000))),
        ],
    );
}

fn signature(all: &mut Corpus<'_>) {
    all.group = "Algorithm, key and signature";
    let keys = all.keys;
    let mint = || Mint::of(claims());
    all.mint("`alg: none`, unsigned", &mint().unsigned());
    all.mint("`alg: none`, unsigned, with the `kid`", &mint().unsigned().kid(keys.current.kid()));
    all.mint("`alg: nOnE`, unsigned", &mint().unsigned().alg("nOnE"));
    all.mint("`alg: none`, properly signed", &mint().alg("none"));
    all.mint("HS256 of some secret", &mint().secret("secret").kid(keys.current.kid()));
    all.mint(
        "HS256 of the public key in PEM",
        &mint().secret(keys.current.public_pem()).kid(keys.current.kid()),
    );
    let modulus = URL_SAFE_NO_PAD.decode(keys.current.bare_jwk()["n"].as_str().unwrap()).unwrap();
    all.mint("HS256 of the public modulus", &mint().secret(modulus).kid(keys.current.kid()));
    all.mint(
        "HS256 of a symmetric key that the provider publishes",
        &mint().secret(SYMMETRIC).kid("symmetric"),
    );
    all.mint(
        "`alg: RS256`, but HMAC of that symmetric key",
        &mint().secret(SYMMETRIC).kid("symmetric").alg("RS256"),
    );
    all.mint("`alg: RS256`, but ECDSA, of a key without `alg`", &mint().key(&keys.bare_ec).alg("RS256"));
    all.mint("`alg: RS256`, but Ed25519, of a key without `alg`", &mint().key(&keys.bare_ed).alg("RS256"));
    all.mint("`alg: ES256`, but RSA, of a key without `alg`", &mint().key(&keys.bare_rsa).alg("ES256"));
    all.mint("`alg: EdDSA`, but ECDSA, of a key without `alg`", &mint().key(&keys.bare_ec).alg("EdDSA"));
    all.mint("`alg: PS256` of a key for RS256", &mint().alg("PS256"));
    all.mint("`alg: rs256` in lower case", &mint().alg("rs256"));
    all.mint("`alg: RS1`", &mint().alg("RS1"));
    all.mint("`alg` is a number", &mint().header("alg", 256));
    all.mint("no `alg`", &mint().without_header("alg"));
    all.mint("a key with `use: enc`", &mint().key(&keys.encrypting));
    all.mint("a key with `key_ops: [encrypt]`", &mint().key(&keys.wrapping));
    all.token("an RSA key of 1024 bits", small()["token"].as_str().unwrap());
    all.mint(
        "signed by a stranger under the provider's `kid`",
        &mint().key(&keys.stranger).kid(keys.current.kid()),
    );
    all.mint("signed by a stranger, without `kid`", &mint().key(&keys.stranger).without_header("kid"));
    let mut stranger = keys.stranger.jwk();
    stranger["kid"] = json!("own");
    all.mint(
        "signed by a stranger, whose `jwk` is in the header",
        &mint().key(&keys.stranger).kid("own").header("jwk", stranger),
    );
    all.mint(
        "signed by a stranger, whose `jku` is in the header",
        &mint().key(&keys.stranger).header("jku", "https://evil.example/keys"),
    );
    all.mint("another key's `kid`", &mint().kid(keys.bare_rsa.kid()));
    all.mint("an empty `kid`", &mint().kid(""));
    all.mint("`kid` is a number", &mint().header("kid", 7));
    all.mint("`kid` is null", &mint().header("kid", Value::Null));
    all.mint("a space after the `kid`", &mint().kid(&format!("{} ", keys.current.kid())));
    all.mint("a `kid` of 1000 bytes", &mint().kid(&"k".repeat(1000)));
    let [header, payload, signature] = parts(&mint().sign(&keys.current));
    let raw = URL_SAFE_NO_PAD.decode(&signature).unwrap();
    let of = |bytes: &[u8]| format!("{header}.{payload}.{}", encode(bytes));
    let mut flipped = raw.clone();
    flipped[0] ^= 1;
    all.token("one bit of the signature is wrong", &of(&flipped));
    all.token("the signature is one byte short", &of(&raw[1..]));
    all.token("a zero byte before the signature", &of(&[&[0][..], &raw].concat()));
    let mut admin = claims();
    roles(&mut admin, json!(["inventory:admin"]));
    all.token(
        "other claims under the same signature",
        &format!("{header}.{}.{signature}", encode(admin.to_string())),
    );
    let [header, payload, signature] = parts(&mint().key(&keys.es256).sign(&keys.es256));
    let raw = URL_SAFE_NO_PAD.decode(&signature).unwrap();
    let of = |bytes: &[u8]| format!("{header}.{payload}.{}", encode(bytes));
    let (r, s) = raw.split_at(32);
    all.token("ES256, each half 8 zero bytes longer", &of(&[&[0; 8][..], r, &[0; 8], s].concat()));
    all.token("ES256, the signature is zero", &of(&[0; 64]));
    let part = |number: &[u8]| {
        let sign = usize::from(number[0] > 127);
        [&[2, u8::try_from(32 + sign).unwrap()][..], &[0][..sign], number].concat()
    };
    let both = [part(r), part(s)].concat();
    all.token(
        "ES256, the signature in DER",
        &of(&[&[0x30, u8::try_from(both.len()).unwrap()][..], &both].concat()),
    );
}

fn time(all: &mut Corpus<'_>) {
    all.group = "Time";
    all.changed(
        "/inventory/items",
        &[
            ("`exp` an hour ago", |claims| claims["exp"] = json!(token::now() - 3600)),
            ("`exp` 30 s ago", |claims| claims["exp"] = json!(token::now() - 30)),
            ("`exp` 90 s ago", |claims| claims["exp"] = json!(token::now() - 90)),
            ("no `exp`", |claims| take(claims, "exp")),
            ("`exp` is 0", |claims| claims["exp"] = json!(0)),
            ("`exp` is negative", |claims| claims["exp"] = json!(-1)),
            ("`exp` has a fraction", |claims| claims["exp"] = json!(4_102_444_800.5)),
            ("`exp` is 1e30", |claims| claims["exp"] = json!(1e30)),
            ("`exp` is a string", |claims| claims["exp"] = json!("4102444800")),
            ("`exp` is null", |claims| claims["exp"] = Value::Null),
            ("`exp` is true", |claims| claims["exp"] = json!(true)),
            ("good for a hundred years", |claims| claims["exp"] = json!(token::now() + 3_155_760_000)),
            ("`nbf` in an hour", |claims| claims["nbf"] = json!(token::now() + 3600)),
            ("`nbf` in 30 s", |claims| claims["nbf"] = json!(token::now() + 30)),
            ("`nbf` is a string", |claims| claims["nbf"] = json!("0")),
            ("`iat` in an hour", |claims| claims["iat"] = json!(token::now() + 3600)),
            ("`iat` in 30 s", |claims| claims["iat"] = json!(token::now() + 30)),
            ("`iat` is a string", |claims| claims["iat"] = json!("0")),
            ("no `iat`", |claims| take(claims, "iat")),
        ],
    );
}

fn issuer_and_audience(all: &mut Corpus<'_>) {
    all.group = "Issuer and audience";
    all.changed(
        "/inventory/items",
        &[
            ("another `iss`", |claims| claims["iss"] = json!("https://evil.example.com")),
            ("`iss` with a slash behind it", |claims| claims["iss"] = json!(format!("{ISSUER}/"))),
            ("`iss` in capitals", |claims| claims["iss"] = json!(ISSUER.to_uppercase())),
            ("no `iss`", |claims| take(claims, "iss")),
            ("`iss` is a list with the right one in it", |claims| claims["iss"] = json!([ISSUER])),
            ("another `aud`", |claims| claims["aud"] = json!("payment-service")),
            ("no `aud`", |claims| take(claims, "aud")),
            ("`aud` is empty", |claims| claims["aud"] = json!("")),
            ("`aud` is an empty list", |claims| claims["aud"] = json!([])),
            ("`aud` is a list of others", |claims| claims["aud"] = json!(["account", "payment-service"])),
            ("`aud` is a number", |claims| claims["aud"] = json!(7)),
            ("`aud` is a list with a number and this service", |claims| {
                claims["aud"] = json!([7, "inventory-service"]);
            }),
            ("`aud` is an object", |claims| claims["aud"] = json!({ "inventory-service": true })),
            ("`aud` is `https://inventory-service`", |claims| {
                claims["aud"] = json!("https://inventory-service");
            }),
            ("`aud` is `inventory-service/`", |claims| claims["aud"] = json!("inventory-service/")),
            ("`aud` in capitals", |claims| claims["aud"] = json!("INVENTORY-SERVICE")),
            ("`aud` begins like this service", |claims| claims["aud"] = json!("inventory-service-2")),
            ("`aud` is several names in one string", |claims| {
                claims["aud"] = json!("account inventory-service");
            }),
        ],
    );
}

fn kind(all: &mut Corpus<'_>) {
    all.group = "Other kinds of tokens";
    all.changed(
        "/inventory/items",
        &[
            ("an ID token of Keycloak (`typ: ID`)", |claims| claims["typ"] = json!("ID")),
            ("a refresh token of Keycloak (`typ: Refresh`)", |claims| claims["typ"] = json!("Refresh")),
            ("an offline token of Keycloak (`typ: Offline`)", |claims| claims["typ"] = json!("Offline")),
            ("a logout token of Keycloak (`typ: Logout`)", |claims| claims["typ"] = json!("Logout")),
            ("an ID token of Cognito (`token_use: id`)", |claims| claims["token_use"] = json!("id")),
            ("an access token of Cognito (`token_use: access`)", |claims| {
                claims["token_use"] = json!("access");
            }),
            ("a token that is bound to a DPoP key, sent as `Bearer`", |claims| {
                claims["cnf"] = json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" });
            }),
            ("a token that is bound to a client certificate, from a client without one", |claims| {
                claims["cnf"] = json!({ "x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2" });
            }),
            ("`sub` is a number", |claims| claims["sub"] = json!(7)),
            ("`jti` is a number", |claims| claims["jti"] = json!(7)),
        ],
    );
    all.mint("header `typ: dpop+jwt`", &Mint::of(claims()).header("typ", "dpop+jwt"));
    all.mint("header `typ: logout+jwt`", &Mint::of(claims()).header("typ", "logout+jwt"));
    all.mint("header `typ` is a number", &Mint::of(claims()).header("typ", 1));
}

fn access(all: &mut Corpus<'_>) {
    all.group = "Roles and scopes";
    all.changed(
        "/inventory/items",
        &[
            ("no roles at all", |claims| take(claims, "resource_access")),
            ("an empty list of roles", |claims| roles(claims, json!([]))),
            ("another role", |claims| roles(claims, json!(["inventory:write"]))),
            ("the role of another client", |claims| {
                claims["resource_access"] = json!({ "payment-service": { "roles": ["inventory:read"] } });
            }),
            ("the role as a realm role", |claims| {
                take(claims, "resource_access");
                claims["realm_access"] = json!({ "roles": ["inventory:read"] });
            }),
            ("a role that begins like it", |claims| roles(claims, json!(["inventory:readonly"]))),
            ("the role in capitals", |claims| roles(claims, json!(["INVENTORY:READ"]))),
            ("the roles as one string", |claims| roles(claims, json!("inventory:read"))),
            ("the role among others", |claims| roles(claims, json!(["a", "inventory:read", 7]))),
            ("the role within a further list", |claims| roles(claims, json!([["inventory:read"]]))),
        ],
    );
    all.changed(
        "/orders/7",
        &[
            ("the scope", |claims| claims["scope"] = json!("orders:read")),
            ("the scope among others", |claims| claims["scope"] = json!("openid orders:read email")),
            ("another scope", |claims| claims["scope"] = json!("orders:write")),
            ("a scope that begins like it", |claims| claims["scope"] = json!("orders:readonly")),
            ("a scope that ends like it", |claims| claims["scope"] = json!("my-orders:read")),
            ("no scope", |claims| take(claims, "scope")),
            ("scopes with commas between", |claims| claims["scope"] = json!("orders:read,orders:write")),
            ("scopes as a list", |claims| claims["scope"] = json!(["orders:read"])),
            ("scopes in `scp`, as Okta and Entra have it", |claims| {
                take(claims, "scope");
                claims["scp"] = json!(["orders:read"]);
            }),
            ("scopes with a line end between", |claims| claims["scope"] = json!("openid\norders:read")),
        ],
    );
    all.changed(
        "/inventory/admin/x",
        &[
            ("the role for reading, to where another is needed", |_| {}),
            ("the role that is needed there", |claims| roles(claims, json!(["inventory:admin"]))),
        ],
    );
}

fn paths(all: &mut Corpus<'_>) {
    all.group = "Paths";
    let bearer = format!("Bearer {}", Mint::of(claims()).sign(&all.keys.current));
    // A reader, on paths that some servers take for /inventory/admin.
    for (name, path) in [
        ("a reader at `//inventory/admin`", "//inventory/admin"),
        ("a reader at `/inventory//admin`", "/inventory//admin"),
        ("a reader at `/inventory/%61dmin`", "/inventory/%61dmin"),
        ("a reader at `/inventory/x/../admin`", "/inventory/x/../admin"),
        ("a reader at `/inventory/x/%2e%2e/admin`", "/inventory/x/%2e%2e/admin"),
        ("a reader at `/inventory/./admin`", "/inventory/./admin"),
        ("a reader at `/inventory/admin;x`", "/inventory/admin;x"),
        ("a reader at `/inventory;x/admin`", "/inventory;x/admin"),
        ("a reader at `/inventory/x/..;/admin`", "/inventory/x/..;/admin"),
        ("a reader at `/inventory%2fadmin`", "/inventory%2fadmin"),
        ("a reader at `/inventory%5cadmin`", "/inventory%5cadmin"),
        ("a reader at `/inventory\\admin`", "/inventory\\admin"),
        ("a reader at `/inventory/%2561dmin`", "/inventory/%2561dmin"),
        ("a reader at `/inventory/admin%00`", "/inventory/admin%00"),
        ("a reader at `/inventory/admin%20`", "/inventory/admin%20"),
        ("a reader at `/inventory/admin/`", "/inventory/admin/"),
        ("a reader at `/inventory/admin?x`", "/inventory/admin?x"),
        ("a reader at `/inventory/admin#x`", "/inventory/admin#x"),
        ("a reader at `/inventory/ADMIN`", "/inventory/ADMIN"),
        ("a reader at `/inventory/administrators`", "/inventory/administrators"),
        ("a reader at `/inventory/%zz`", "/inventory/%zz"),
        ("a reader at `/inventory/caf%C3%A9`", "/inventory/caf%C3%A9"),
        ("a reader at `/inventory/a%2Fb`, one segment with a slash in it", "/inventory/a%2Fb"),
        ("a reader at `/inventory/items;page=2`", "/inventory/items;page=2"),
        ("a reader at `/inventory`", "/inventory"),
        ("a reader at `/inventoryx`, which no rule is for", "/inventoryx"),
        ("a reader at `/INVENTORY`", "/INVENTORY"),
        ("a reader at `/`, which no rule is for", "/"),
        ("a reader at `/elsewhere`, which no rule is for", "/elsewhere"),
    ] {
        all.ask(name, path, &[("authorization", &bearer)]);
    }
    for (name, path) in [
        ("nobody at `/public`", "/public"),
        ("nobody at `/public/page`", "/public/page"),
        ("nobody at `/publicx`", "/publicx"),
        ("nobody at `/public/../inventory/items`", "/public/../inventory/items"),
        ("nobody at `/public/%2e%2e/inventory/items`", "/public/%2e%2e/inventory/items"),
        ("nobody at `/public/..;/inventory/items`", "/public/..;/inventory/items"),
        ("nobody at `/public/..%2finventory/items`", "/public/..%2finventory/items"),
        ("nobody at `/public/..%5cinventory/items`", "/public/..%5cinventory/items"),
        ("nobody at `/inventory/items?/public`", "/inventory/items?/public"),
        ("nobody at `/elsewhere`, which no rule is for", "/elsewhere"),
    ] {
        all.ask(name, path, &[]);
    }
    all.ask("a bad token at `/public`", "/public", &[("authorization", "Bearer garbage")]);
}

fn methods(all: &mut Corpus<'_>) {
    all.group = "Methods";
    let reader = format!("Bearer {}", Mint::of(claims()).sign(&all.keys.current));
    let mut both = claims();
    roles(&mut both, json!(["inventory:write"]));
    let writer = format!("Bearer {}", Mint::of(both).sign(&all.keys.current));
    for (name, method, bearer, extra) in [
        ("HEAD with a good token", "HEAD", Some(&reader), None),
        ("HEAD without a token", "HEAD", None, None),
        ("POST of a reader", "POST", Some(&reader), None),
        ("POST of a writer", "POST", Some(&writer), None),
        ("GET of a writer", "GET", Some(&writer), None),
        ("PUT of a reader", "PUT", Some(&reader), None),
        (
            "POST of a reader, with `X-HTTP-Method-Override: GET`",
            "POST",
            Some(&reader),
            Some(("x-http-method-override", "GET")),
        ),
        (
            "GET of a reader, with `X-HTTP-Method-Override: POST`",
            "GET",
            Some(&reader),
            Some(("x-http-method-override", "POST")),
        ),
        ("`post` in lower case, of a reader", "post", Some(&reader), None),
        ("DELETE of a reader, which no rule names", "DELETE", Some(&reader), None),
        ("OPTIONS without a token", "OPTIONS", None, None),
        ("a CORS preflight without a token", "OPTIONS", None, Some(("access-control-request-method", "GET"))),
    ] {
        let headers = bearer.map(|bearer| ("authorization", bearer.as_str()));
        let origin =
            extra.filter(|(name, _)| name.starts_with("access")).map(|_| ("origin", "https://shop.example"));
        let headers: Vec<_> = headers.into_iter().chain(extra).chain(origin).collect();
        all.ask(name, "/inventory/items", &headers);
        all.cases.last_mut().unwrap().method = method;
    }
}
