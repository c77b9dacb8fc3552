//! The steps of the two walkthroughs from which the product's main example comes, on a realm of
//! their own. Each step prints one line.

use m2m_auth_kit::client::{self, Response};
use m2m_auth_kit::envoy::{self, Envoy, Wasm};
use m2m_auth_kit::json;
use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::load::{Load, Report};
use m2m_auth_kit::peers::{Client, Express};
use m2m_auth_kit::story::{NEXT_SECRET, Story};
use m2m_auth_kit::token::{self, Mint, now};
use m2m_auth_kit::wait::until;
use std::time::Duration;

/// Lifetime of tokens, in seconds, in the steps about renewal and expiry.
const LIFE: u64 = 10;

pub(super) async fn play(demo: &mut super::Story, keycloak: &Keycloak) {
    let realm = keycloak.realm("walkthroughs").await;
    let story = Story::start(realm.clone()).await;
    by_hand(demo, &story).await;
    clients(demo, &story).await;
    on_behalf_of(demo, &story).await;
    cached(demo, &story).await;
    bound(demo, &story).await;
    provisioned(demo, &story).await;
    // Whatever the old key signed is void from then on.
    rotated(demo, &story).await;
    beside_express(demo, keycloak).await;
    audit_log(demo, &story).await;
    wrong_secret(demo, keycloak).await;
}

fn logins(count: usize) -> String {
    format!("{count} token request{}", if count == 1 { "" } else { "s" })
}

fn sum(report: &Report) -> String {
    let good = report.by_status.get(&200).copied().unwrap_or_default();
    match report.sent() - good {
        0 => format!("{} requests, 0 failed", report.sent()),
        failed => format!("{} requests, {failed} failed: {report} {:?}", report.sent(), report.samples),
    }
}

/// The walkthrough's curl command, and the same token by the filter.
async fn by_hand(demo: &mut super::Story, story: &Story) {
    let secret = keycloak::secret("order-service");
    let token = story.realm.token("order-service", &secret, "inventory-api").await;
    let (_, claims) = token::decode(&token);
    let shown = format!("azp {}, aud {}, {}", claims["azp"], claims["aud"], claims["resource_access"]);
    demo.show(
        "the walkthrough's curl: grant_type=client_credentials, order-service, its secret, inventory-api",
        &shown,
        claims["aud"] == "inventory-service",
        "What everybody does by hand once.",
    );
    let answer = story.order("/inventory/items").send().await;
    let arrived = arrived(&answer, story);
    demo.show(
        "order-service: the same request without any of that",
        &format!("{} the inventory was called with a token for {arrived}", answer.status),
        answer.status == 200 && arrived == "\"inventory-service\"",
        "Its Envoy asked for the token, and keeps it until it nears its end.",
    );
}

fn arrived(answer: &Response, story: &Story) -> String {
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), story.envoy.logs());
    let sent = story.inventory.last().header("authorization").expect("a token");
    token::decode(sent.trim_start_matches("Bearer ")).1["aud"].to_string()
}

async fn clients(demo: &mut super::Story, story: &Story) {
    let order = format!("http://{}", story.envoy.address("order"));
    for client in Client::plain() {
        let (status, _) = client.run(&[("INVENTORY_URL", &order)]).await;
        demo.show(
            &format!("{}: examples/clients/{}", client.name, client.source),
            &format!("{status}, {} lines, none of them about authentication", client.code().lines().count()),
            status == 200,
            "The walkthrough's client, without its authentication.",
        );
    }
    let inventory = format!("http://{}", story.envoy.address("inventory"));
    let (issuer, token_url) = (story.realm.issuer(), story.realm.endpoint("token"));
    let secret = keycloak::secret("order-service");
    for client in Client::libraries() {
        let environment = [
            ("INVENTORY_URL", &*inventory),
            ("ISSUER", &*issuer),
            ("TOKEN_URL", &*token_url),
            ("CLIENT_ID", "order-service"),
            ("CLIENT_SECRET", &*secret),
        ];
        let (status, _) = client.run(&environment).await;
        let why = "Whoever fetches its own token by its language's library is as welcome.";
        demo.show(client.name, &status.to_string(), status == 200, why);
    }
}

async fn on_behalf_of(demo: &mut super::Story, story: &Story) {
    let answer = story.order("/inventory/items").send().await;
    let charged = story.payment.last();
    let caller = charged.header("x-caller").unwrap_or_default();
    let same = charged.header("x-on-behalf-of") == story.inventory.last().header("x-on-behalf-of");
    demo.show(
        "inventory-service charges at payment-service on behalf of order-service",
        &format!("{} payment sees x-caller: {caller}, and order-service's sub: {same}", answer.status),
        answer.status == 200 && same && caller == "inventory-service",
        "Its Envoy exchanged the token that it was called with (RFC 8693): audience payment-service, scope payment-api.",
    );
}

async fn cached(demo: &mut super::Story, story: &Story) {
    let count = async || story.realm.events("CLIENT_LOGIN", "order-service").await.len();
    let before = count().await;
    let report = Load::of(story.order("/inventory/items")).connections(8).requests(1000).run().await;
    let more = count().await - before;
    demo.show(
        "1,000 calls, within the life of the token that is there",
        &format!("{}, {}", sum(&report), logins(more)),
        report.only(200) && more == 0,
        "Two workers, one token.",
    );
    // The held token stays valid, so a client of its own demonstrates a short lifetime.
    let realm = &story.realm;
    realm.set_token_life("billing-service", LIFE).await;
    let (upstream, envoy) = sidecar(realm, "billing-service", &keycloak::secret("billing-service")).await;
    let load = Load::of(client::get(envoy.url("out", "/"))).connections(4).rate(100.0);
    let report = load.duration(Duration::from_secs(2 * LIFE)).run().await;
    let asked = realm.events("CLIENT_LOGIN", "billing-service").await.len();
    demo.show(
        &format!("tokens of {LIFE} s, 100 calls a second for {} s", 2 * LIFE),
        &format!("{}, {}", sum(&report), logins(asked)),
        report.only(200) && (2..=4).contains(&asked),
        "Each is renewed in the background before it ends.",
    );
    drop(upstream);
}

/// A proxy that attaches that client's token and nothing else.
async fn sidecar(realm: &Keycloak, client: &str, secret: &str) -> (m2m_auth_kit::upstream::Upstream, Envoy) {
    let upstream = m2m_auth_kit::upstream::Upstream::start().await;
    let configuration = json!({
        "issuers": { "keycloak": { "issuer": realm.issuer(), "cluster": "keycloak" } },
        "outbound": {
            "credentials": { "own": {
                "issuer": "keycloak",
                "client_id": client,
                "client_secret": { "inline": secret },
            } },
            "rules": [{ "credential": "own" }],
        },
    });
    let envoy = Envoy::builder()
        .cluster(envoy::cluster("keycloak", realm.address()))
        .cluster(envoy::cluster("service", upstream.address()))
        .listener(envoy::listener(
            "out",
            vec![Wasm::new(&configuration).filter()],
            envoy::route_to("service"),
        ))
        .start()
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    (upstream, envoy)
}

async fn rotated(demo: &mut super::Story, story: &Story) {
    let realm = &story.realm;
    realm.set_token_life("order-service", LIFE).await;
    // Its first token lives as long.
    let fresh = Story::start(realm.clone()).await;
    assert_eq!(fresh.order("/inventory/items").send().await.status, 200, "{}", fresh.envoy.logs());
    let load = Load::of(fresh.order("/inventory/items")).connections(8).rate(200.0).start();
    load.proceed(100).await;
    realm.set_client_secret("order-service", NEXT_SECRET).await;
    fresh.envoy.wait_for_log("by secret 2 of 2").await;
    load.proceed(100).await;
    let report = load.stop().await;
    demo.show(
        "the secret of order-service is changed by the Admin REST API, at 200 calls a second",
        &sum(&report),
        report.only(200),
        "A list of two secrets: where Keycloak does not take one, the other is tried at once.",
    );
    let old = realm.signing_key().await;
    let load = Load::of(fresh.order("/inventory/items")).connections(8).rate(100.0).start();
    load.proceed(50).await;
    let new = realm.rotate_signing_key().await;
    let last = now() + LIFE;
    until("the last token of the old key has ended", async || (now() > last).then_some(())).await;
    realm.delete_key(&old.component).await;
    load.proceed(100).await;
    let report = load.stop().await;
    demo.show(
        "the signing key is rotated, and the old one deleted once its last token has ended",
        &format!("{}; new tokens have kid {}", sum(&report), new.kid),
        report.only(200),
        "The first token of a new key makes each Envoy fetch the key set; requests wait for that.",
    );
}

async fn bound(demo: &mut super::Story, story: &Story) {
    let answer = client::get(story.envoy.url("bound", "/payments")).send().await;
    let sent = story.payment.last().header("authorization").unwrap_or_default();
    let thumbprint = token::decode(sent.trim_start_matches("Bearer ")).1["cnf"]["x5t#S256"].clone();
    demo.show(
        "tls-service: a client certificate instead of a secret, presented by Envoy's cluster",
        &format!("{} its token has cnf.x5t#S256 {thumbprint}", answer.status),
        answer.status == 200 && thumbprint.is_string(),
        "Keycloak binds the token to that certificate (RFC 8705): stolen, it is worth nothing.",
    );
}

async fn provisioned(demo: &mut super::Story, story: &Story) {
    let user = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": "ada",
        "name": { "givenName": "Ada", "familyName": "Lovelace" },
        "emails": [{ "value": "ada@example.com", "primary": true }],
        "active": true,
    });
    let post = story.scim("POST", "/Users").header("content-type", "application/scim+json");
    let made = post.body(user.to_string()).send().await;
    let id = made.json()["id"].as_str().unwrap_or_default().to_owned();
    let read = story.scim("GET", &format!("/Users/{id}")).send().await;
    let name = read.json()["userName"].clone();
    demo.show(
        "provisioning: POST and GET of a user at Keycloak's own SCIM endpoint, plain",
        &format!("{} {id}, then {} {name}", made.status, read.status),
        (made.status, read.status) == (201, 200) && name == "ada",
        "One more outbound route: provisioning-service's token has the endpoint in its audience.",
    );
}

async fn beside_express(demo: &mut super::Story, keycloak: &Keycloak) {
    let express = Express::start(&keycloak.issuer(), &keycloak.endpoint("certs"));
    let of = async |client: &str| keycloak.token(client, &keycloak::secret(client), "").await;
    let good = of("order-service").await;
    let forged = Mint::of(token::decode(&good).1).unsigned().sign(keycloak::signing_key());
    let cases = [
        ("a good token", format!("Bearer {good}")),
        ("alg: none", format!("Bearer {forged}")),
        ("without the role", format!("Bearer {}", of("billing-service").await)),
        ("without the audience", format!("Bearer {}", of("payment-service").await)),
    ];
    for (name, authorization) in cases {
        let url = format!("http://{}/inventory/items", express.address("walkthrough"));
        let theirs = client::get(url).header("authorization", &authorization).send().await;
        let ours = client::get(demo.envoy.url("ingress", "/inventory/items"));
        let ours = ours.header("authorization", &authorization).send().await;
        let error = |answer: &Response| match answer.status {
            200 => "200".to_owned(),
            status => format!("{status} {}", answer.json()["error"].as_str().unwrap_or_default()),
        };
        demo.show(
            &format!("the walkthrough's Express middleware and the filter: {name}"),
            &format!("Express {}, m2m-auth {}", error(&theirs), error(&ours)),
            error(&theirs) == error(&ours),
            "docs/compare/express.md has 63 requests, and why 16 of them differ.",
        );
    }
}

async fn audit_log(demo: &mut super::Story, story: &Story) {
    client::get(story.envoy.url("inventory", "/knock")).send().await;
    let refused = until("the line of a refusal", async || story.audit("refused").pop()).await;
    let tokens = story.audit("token");
    let logs = story.envoy.logs();
    let clean = !logs.contains("eyJ") && !logs.contains("-secret\"");
    demo.show(
        "the audit: a stranger knocks at the inventory",
        &refused.to_string(),
        refused["reason"] == "no_token" && clean,
        "One line of JSON for each refusal, without token or secret.",
    );
    let last = tokens.last().map(ToString::to_string).unwrap_or_default();
    demo.show(
        &format!("the audit: {} lines about tokens so far, the last one", tokens.len()),
        &last,
        !tokens.is_empty(),
        "And one for each token that has come, or has not.",
    );
}

async fn wrong_secret(demo: &mut super::Story, keycloak: &Keycloak) {
    let (_upstream, envoy) = sidecar(keycloak, "order-service", "not-the-secret").await;
    let answer = client::get(envoy.url("out", "/")).send().await;
    let line = envoy.wait_for_log("unauthorized_client").await;
    let line = line.split_once("m2m-auth: ").map_or(&*line, |(_, line)| line);
    demo.show("a wrong secret", &format!("{} {}", answer.status, answer.text()), answer.status == 503, line);
}
