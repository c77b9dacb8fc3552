//! A simulated `OpenID` provider, shaped as Keycloak 26: discovery, key set, token and
//! introspection endpoint.
//!
//! It knows the clients of the demo's realm from the start ([`ClientSpec::defaults`]), counts and
//! records what it is asked, rotates and withdraws keys, and fails on command ([`Fault`]).
//! Everything may be changed while it runs.

mod client;
mod fault;
mod grant;
mod refusal;
mod state;

pub use client::ClientSpec;
pub use fault::{Endpoint, Fault, Gate};

use crate::{
    key::{Alg, Key},
    record::{Log, Recorded},
    serve::{Answer, Server, lock},
    token::{self, Mint},
};
use hyper::{Request, body::Incoming};
use serde_json::Value;
use state::State;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

/// The provider. Its port closes when it is dropped.
pub struct Idp {
    shared: Arc<Shared>,
    server: Mutex<Option<Server>>,
    address: SocketAddr,
}

struct Shared {
    logs: [Log; Endpoint::ALL.len()],
    state: Mutex<State>,
}

impl Idp {
    /// Starts on a free loopback port with one RS256 key and the default clients.
    pub async fn start() -> Self {
        Self::serve(None).await
    }

    /// Starts on that port.
    pub async fn start_on(port: u16) -> Self {
        Self::serve(Some(port)).await
    }

    async fn serve(port: Option<u16>) -> Self {
        let shared =
            Arc::new(Shared { logs: Endpoint::ALL.map(|_| Log::new()), state: Mutex::new(State::new()) });
        let server = listen(port, &shared).await;
        let address = server.address();
        lock(&shared.state).issuer = format!("http://{address}/realms/my-realm");
        Self { shared, server: Mutex::new(Some(server)), address }
    }

    /// Closes the port and every connection at once. The state stays: see [`Idp::resume`].
    pub async fn stop(&self) {
        let server = lock(&self.server).take();
        if let Some(server) = server {
            server.stop().await;
        }
    }

    /// Opens the same port again, with the same keys and clients.
    pub async fn resume(&self) {
        let server = listen(Some(self.address.port()), &self.shared).await;
        *lock(&self.server) = Some(server);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `iss` of its tokens: `http://127.0.0.1:PORT/realms/my-realm` until changed.
    pub fn issuer(&self) -> String {
        lock(&self.shared.state).issuer.clone()
    }

    /// Another issuer. The endpoints follow its path, and discovery names them below it; the port
    /// stays.
    pub fn set_issuer(&self, issuer: &str) {
        issuer.trim_end_matches('/').clone_into(&mut lock(&self.shared.state).issuer);
    }

    /// The URL of an endpoint as discovery names it (below the issuer).
    pub fn url(&self, endpoint: Endpoint) -> String {
        lock(&self.shared.state).endpoint_url(endpoint)
    }

    /// The path of an endpoint.
    pub fn path(&self, endpoint: Endpoint) -> String {
        lock(&self.shared.state).endpoint_path(endpoint)
    }

    /// From now on the endpoint has this path, as at another provider than Keycloak.
    pub fn set_path(&self, endpoint: Endpoint, path: &str) {
        lock(&self.shared.state).paths[endpoint as usize] = Some(path.to_owned());
    }

    /// The document that the endpoint answers with (discovery, metadata, keys), to be changed and
    /// handed to [`Fault::Body`].
    pub fn document(&self, endpoint: Endpoint) -> Value {
        let state = lock(&self.shared.state);
        match endpoint {
            Endpoint::Keys => state.key_set(),
            Endpoint::Discovery | Endpoint::Metadata => state.discovery(),
            other => panic!("{other:?} answers with no document"),
        }
    }

    /// Adds a client, or replaces the one with its id.
    pub fn client(&self, client: ClientSpec) {
        lock(&self.shared.state).clients.insert(client.id.clone(), client);
    }

    /// Changes a client; panics when no client has that id.
    pub fn change_client(&self, id: &str, change: impl FnOnce(&mut ClientSpec)) {
        let mut state = lock(&self.shared.state);
        change(state.clients.get_mut(id).unwrap_or_else(|| panic!("no client {id}")));
    }

    /// From now on only these secrets of the client are good.
    pub fn set_secrets(&self, id: &str, secrets: &[&str]) {
        self.change_client(id, |client| {
            client.secrets = secrets.iter().map(ToString::to_string).collect();
        });
    }

    /// Removes a client.
    pub fn remove_client(&self, id: &str) {
        lock(&self.shared.state).clients.remove(id);
    }

    /// The endpoint fails in this way until the fault is changed.
    pub fn fault(&self, endpoint: Endpoint, fault: Fault) {
        lock(&self.shared.state).faults[endpoint as usize] = (fault, None);
    }

    /// The next `times` requests to the endpoint fail in this way.
    pub fn fault_times(&self, endpoint: Endpoint, times: usize, fault: Fault) {
        lock(&self.shared.state).faults[endpoint as usize] = (fault, Some(times));
    }

    /// Requests to introspect or to exchange this token fail in this way, and no others.
    pub fn fault_for(&self, token: &str, fault: Fault) {
        lock(&self.shared.state).poison.insert(token.to_owned(), fault);
    }

    /// Headers that the endpoint's good answers carry beside, or instead of, the usual ones.
    pub fn answer_headers(&self, endpoint: Endpoint, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        lock(&self.shared.state).headers[endpoint as usize] = headers.collect();
    }

    /// From now on each proof at the token endpoint must hold this nonce (RFC 9449 section 8).
    pub fn demand_nonce(&self, nonce: &str) {
        lock(&self.shared.state).nonce = Some(nonce.to_owned());
    }

    /// Offers `ETag` on keys and discovery, and answers `If-None-Match` with 304. Keycloak does
    /// not.
    pub fn offer_etags(&self) {
        lock(&self.shared.state).etags = true;
    }

    /// Answers RFC 8414's well-known path too, with the same document.
    pub fn offer_metadata(&self) {
        lock(&self.shared.state).metadata = true;
    }

    /// Its clock is so many seconds ahead of ours, or behind: in the tokens that it gives to
    /// clients.
    pub fn set_clock(&self, ahead: i64) {
        lock(&self.shared.state).ahead = ahead;
    }

    /// The key that signs at the moment.
    pub fn signing_key(&self) -> Key {
        lock(&self.shared.state).signing_key().clone()
    }

    /// A new key signs from now on, with the algorithm of the last; the old ones stay published.
    /// Returns the new one.
    pub fn rotate_key(&self) -> Key {
        self.add_key(self.signing_key().alg())
    }

    /// A new key of that algorithm is published and signs from now on. Returns it.
    pub fn add_key(&self, alg: Alg) -> Key {
        let key = Key::new(alg);
        lock(&self.shared.state).keys.push(key.clone());
        key
    }

    /// Publishes that key too and signs with it from now on.
    pub fn use_key(&self, key: &Key) {
        lock(&self.shared.state).keys.push(key.clone());
    }

    /// Publishes one more member of the key set, unchanged: a broken one, an unknown type, …
    pub fn publish_jwk(&self, jwk: Value) {
        lock(&self.shared.state).extra_keys.push(jwk);
    }

    /// Removes the key from the set; it signs no more. Panics when no key has that id, or no other
    /// is left.
    pub fn withdraw_key(&self, kid: &str) {
        let mut state = lock(&self.shared.state);
        let before = state.keys.len();
        assert!(before > 1, "the last key cannot be withdrawn");
        state.keys.retain(|key| key.kid() != kid);
        assert!(state.keys.len() < before, "no key {kid}");
    }

    /// A key that no provider publishes, for forged tokens.
    pub fn foreign_key() -> Key {
        Key::new(Alg::Rs256)
    }

    /// Good claims of this issuer, to be edited: see [`token::claims`].
    pub fn claims(&self) -> Value {
        token::claims(&self.issuer())
    }

    /// A token of these claims, signed with the key of the moment.
    pub fn mint(&self, claims: Value) -> String {
        self.mint_with(&Mint::of(claims))
    }

    /// An opaque token of these claims: only introspection reveals them.
    pub fn opaque(&self, claims: Value) -> String {
        self.opaque_as(&format!("opaque-{}", token::uuid()), claims)
    }

    /// The same, with the mint's header and format.
    pub fn opaque_as(&self, token: &str, claims: Value) -> String {
        lock(&self.shared.state).opaque.insert(token.to_owned(), claims);
        token.to_owned()
    }

    /// From now on introspection says that this token is not active.
    pub fn revoke(&self, token: &str) {
        lock(&self.shared.state).revoked.insert(token.to_owned());
    }

    /// A token made by that mint.
    pub fn mint_with(&self, mint: &Mint) -> String {
        mint.sign(&self.signing_key())
    }

    /// A good token: [`Idp::mint`] of [`Idp::claims`].
    pub fn token(&self) -> String {
        self.mint(self.claims())
    }

    /// How often the endpoint was asked.
    pub fn count(&self, endpoint: Endpoint) -> usize {
        self.log(endpoint).count()
    }

    /// What the endpoint was asked, in order.
    pub fn requests(&self, endpoint: Endpoint) -> Vec<Recorded> {
        self.log(endpoint).all()
    }

    /// The newest request to the endpoint; panics when there was none.
    pub fn last(&self, endpoint: Endpoint) -> Recorded {
        self.requests(endpoint).pop().unwrap_or_else(|| panic!("{endpoint:?} was never asked"))
    }

    /// Forgets the requests so far, at every endpoint; counting starts at 0 again.
    pub fn forget(&self) {
        self.shared.logs.iter().for_each(Log::forget);
    }

    /// Comes back once the endpoint has been asked `count` times (since the start, or
    /// [`Idp::forget`]).
    pub async fn wait_for(&self, endpoint: Endpoint, count: usize) {
        self.log(endpoint).wait_for(&format!("{endpoint:?}"), count).await;
    }

    fn log(&self, endpoint: Endpoint) -> &Log {
        &self.shared.logs[endpoint as usize]
    }
}

async fn listen(port: Option<u16>, shared: &Arc<Shared>) -> Server {
    let shared = Arc::clone(shared);
    Server::start(port, move |request| serve(Arc::clone(&shared), request)).await
}

async fn serve(shared: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let request = Recorded::read(request).await?;
    let (good, fault) = {
        let mut state = lock(&shared.state);
        let endpoint = state.endpoint_of(&request);
        shared.logs[endpoint as usize].push(request.clone());
        let fault = state.next_fault(endpoint, &request);
        (state.answer(endpoint, &request), fault)
    };
    fault.spoil(good).await
}
