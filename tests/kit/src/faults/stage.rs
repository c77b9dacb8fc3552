//! A provider, a service that checks the token it receives, and an Envoy with one of the filters
//! between them.

use super::{Filter, Scenario};
use crate::{
    Value,
    client::{self, Request},
    envoy::{self, Builder, Envoy, Pushed, StartError, Wasm, module},
    idp::{Endpoint, Idp},
    json,
    load::{Load, sent_at},
    record::Recorded,
    token::decode,
    upstream::{Reply, Upstream},
    wait::until,
};
use std::{fs, time::Duration};
use tempfile::TempDir;

/// The client that fetches the tokens.
pub(super) const CLIENT: &str = "order-service";
/// Its secret at the simulated provider.
const SECRET: &str = "order-secret";
/// Its later secret.
const NEXT: &str = "order-secret-next";
/// The secret of Envoy's own filter, and the file with it.
const SECRET_NAME: &str = "order-service-secret";
const SECRET_FILE: &str = "order-service-secret.json";
/// The host of a service that refuses every token.
pub(super) const REFUSING: &str = "refusing.example.com";
/// The claim by which the service knows how far the provider's clock is ahead: it lives by that
/// clock.
pub(super) const AHEAD: &str = "kit_clock_ahead";

/// Everything that runs.
pub(super) struct Stage {
    pub(super) idp: Idp,
    pub(super) envoy: Envoy,
    _upstream: Upstream,
    _folder: TempDir,
    pub(super) filter: Filter,
    filters: Vec<Value>,
    pushed: u32,
}

impl Stage {
    /// Starts all of it; an error is how Envoy ended instead.
    pub(super) async fn start(
        idp: Idp,
        scenario: Scenario,
        filter: Filter,
        patience: Duration,
    ) -> Result<Self, StartError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let upstream = Upstream::start().await;
        upstream.answer_by(|request| {
            let refuses = request.header("host").as_deref() == Some(REFUSING);
            (refuses || !presents_a_good_token(request)).then(|| Reply::new(401, &[]))
        });
        let value = match filter {
            Filter::Native => {
                let (endpoint, scopes) = (idp.url(Endpoint::Token), ["inventory-api"]);
                let mut filter = envoy::credential_injector(&endpoint, "keycloak", CLIENT, &scopes);
                if scenario == Scenario::SecretRotated {
                    from_file(&mut filter);
                }
                filter
            }
            Filter::Ours => {
                let mut configuration = configuration(&idp, patience);
                if scenario == Scenario::SecretRotated {
                    configuration["outbound"]["credentials"][CLIENT]["client_secret"] =
                        json!([{ "inline": SECRET }, { "inline": NEXT }]);
                }
                let mut wasm = Wasm::new(&configuration);
                if scenario == Scenario::Crash {
                    let module = super::crashing(&module());
                    let path = folder.path().join("crashing.wasm");
                    fs::write(&path, module).expect("a file in the temporary folder");
                    wasm = wasm.module(path);
                }
                wasm.filter()
            }
        };
        let service = envoy::cluster("service", upstream.address());
        let (filters, service) = match scenario {
            Scenario::ClusterFilter => (Vec::new(), envoy::upstream_filters(service, vec![value])),
            _ => (vec![value], service),
        };
        let builder = builder(&idp).cluster(service).listener(listener(filters.clone(), 0));
        let envoy = builder.start().await?;
        Ok(Self { idp, envoy, _upstream: upstream, _folder: folder, filter, filters, pushed: 0 })
    }

    pub(super) fn request(&self) -> Request {
        client::get(self.envoy.url("main", "/orders"))
    }

    /// Comes back when every worker attaches tokens.
    pub(super) async fn warm_up(&self) {
        let request = self.request();
        until("every worker attaches tokens", async || {
            let report = Load::of(request.clone()).connections(8).requests(32).run().await;
            report.only(200).then_some(())
        })
        .await;
    }

    /// The provider takes another secret, and that one only.
    pub(super) fn rotate_secret(&self) {
        self.idp.set_secrets(CLIENT, &[NEXT]);
        self.envoy.write(SECRET_FILE, &envoy::secret(SECRET_NAME, NEXT));
    }

    /// Pushes a configuration in which nothing of the filter has changed.
    pub(super) async fn push(&mut self) {
        self.pushed += 1;
        let pushed = self.envoy.push([listener(self.filters.clone(), self.pushed)]).await;
        assert_eq!(pushed, Pushed::Accepted);
    }
}

fn builder(idp: &Idp) -> Builder {
    Envoy::builder()
        .log_level("error")
        // At once, each answer of the old listener says that its connection ends: none is cut off
        // in the middle.
        .drain_seconds(30)
        .argument("--drain-strategy")
        .argument("immediate")
        .cluster(envoy::cluster("keycloak", idp.address()))
        .file(SECRET_FILE, &envoy::secret(SECRET_NAME, SECRET))
        .bootstrap(|bootstrap| {
            bootstrap["static_resources"]["secrets"] = json!([envoy::static_secret(CLIENT, SECRET)]);
        })
}

/// The secret of Envoy's own filter comes from a file that it watches.
fn from_file(filter: &mut Value) {
    let place = "/typed_config/credential/typed_config/client_credentials/client_secret";
    let secret = filter.pointer_mut(place).expect("a `credential_injector`");
    let path =
        json!({ "path": format!("DIRECTORY/{SECRET_FILE}"), "watched_directory": { "path": "DIRECTORY" } });
    secret["sds_config"] = json!({ "resource_api_version": "V3", "path_config_source": path });
}

fn listener(filters: Vec<Value>, number: u32) -> Value {
    let mut routes = envoy::route_to("service");
    routes["name"] = json!(format!("routes-{number}"));
    let mut listener = envoy::listener("main", filters, routes);
    // Nobody reads it, and it costs as much as a filter.
    envoy::manager_mut(&mut listener).as_object_mut().expect("an object").remove("access_log");
    listener
}

fn configuration(idp: &Idp, patience: Duration) -> Value {
    let patience = format!("{}s", patience.as_secs());
    let credential = json!({
        "issuer": "keycloak",
        "client_id": CLIENT,
        "client_secret": { "inline": SECRET },
        "scopes": ["inventory-api"],
    });
    json!({
        "issuers": { "keycloak": { "issuer": idp.issuer(), "cluster": "keycloak", "timeout": patience } },
        "pending_requests": { "timeout": patience },
        "outbound": { "credentials": { CLIENT: credential }, "rules": [{ "credential": CLIENT }] },
    })
}

/// One that had not ended when its request was sent.
fn presents_a_good_token(request: &Recorded) -> bool {
    let value = request.header("authorization").unwrap_or_default();
    let claims = value.strip_prefix("Bearer ").map(|token| decode(token).1);
    claims.is_some_and(|claims| {
        let ahead = claims[AHEAD].as_i64().unwrap_or_default();
        claims["exp"].as_u64() >= Some(sent_at(request).saturating_add_signed(ahead))
    })
}
