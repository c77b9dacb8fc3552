//! A real Envoy as a child process: configure it, push to it, read its logs and numbers.
//!
//! Listeners come from a file that Envoy watches, so a test can [`push`](Envoy::push) another
//! configuration and learn whether Envoy accepted it. Every port is Envoy's own choice and read
//! back, so many can run side by side.

mod binary;
mod config;
mod files;
mod output;
mod served;
mod start;

pub use binary::{binary, module};
pub use config::{
    Wasm, basic_injector, client_tls, cluster, credential_injector, http2, jwt_authn, listener, manager_mut,
    route_config, route_to, router, secret, static_secret, upstream_filters,
};
pub use served::Reading;
pub use start::Builder;

use crate::{
    client,
    wait::{PATIENCE, try_until, until},
};
use files::{replace, write_listeners};
use output::Lines;
use serde_json::Value;
use std::{collections::BTreeMap, fmt, fs, path::Path, process::ExitStatus};
use tempfile::TempDir;
use tokio::process::Child;

/// A running Envoy. Killed when dropped.
pub struct Envoy {
    admin: String,
    child: Child,
    directory: TempDir,
    log: Lines,
    access_log: Lines,
    ports: BTreeMap<String, u16>,
    concurrency: u64,
}

/// Envoy did not come up, or did not take its first configuration.
pub struct StartError {
    /// What it printed.
    pub log: String,
    /// How it ended, if it ended by itself.
    pub exit: Option<ExitStatus>,
}

/// What Envoy made of a configuration that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in force.
    Accepted,
    /// The old one stays in force; the string is what Envoy logged.
    Rejected(String),
}

impl Envoy {
    /// An Envoy with two workers and nothing configured.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The port of a listener.
    pub fn port(&self, listener: &str) -> u16 {
        *self
            .ports
            .get(listener)
            .unwrap_or_else(|| panic!("no listener {listener}, there is {:?}", self.ports))
    }

    /// `host:port` of a listener.
    pub fn address(&self, listener: &str) -> String {
        format!("127.0.0.1:{}", self.port(listener))
    }

    /// The URL of a path at a listener.
    pub fn url(&self, listener: &str, path: &str) -> String {
        format!("http://{}{path}", self.address(listener))
    }

    /// Replaces all listeners, and comes back when Envoy has taken or refused them.
    pub async fn push(&mut self, listeners: impl IntoIterator<Item = Value>) -> Pushed {
        let listeners: Vec<_> = listeners.into_iter().collect();
        let before = self.stats("listener_manager.").await;
        let logged = self.log.count();
        write_listeners(self.directory.path(), &listeners);
        let of = |stats: &BTreeMap<String, u64>, name: &str| {
            stats.get(&format!("listener_manager.{name}")).copied().unwrap_or_default()
        };
        let accepted = until("Envoy says what it thinks of the pushed listeners", async || {
            let now = self.stats("listener_manager.").await;
            let grown = |name: &str| of(&now, name) - of(&before, name);
            if grown("lds.update_rejected") > 0 {
                return Some(false);
            }
            // The workers are updated one by one; each reports back when it has the new listener.
            let changed = (grown("listener_added") + grown("listener_modified")) * self.concurrency;
            let in_force =
                grown("listener_create_success") >= changed && of(&now, "total_listeners_warming") == 0;
            (grown("lds.update_success") > 0 && in_force).then_some(true)
        })
        .await;
        if !accepted {
            let words = until("Envoy logs why", async || {
                let words = self.log.since(logged);
                words.iter().any(|line| line.contains("rejected")).then_some(words)
            });
            return Pushed::Rejected(words.await.join("\n"));
        }
        self.read_ports(&listeners).await;
        Pushed::Accepted
    }

    /// Writes a file into Envoy's directory by an atomic rename, so that a watched secret is seen
    /// whole.
    pub fn write(&self, name: &str, text: &str) {
        replace(self.directory.path(), name, text);
    }

    /// The folder with its bootstrap, its listeners and the files given to it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Everything Envoy and its filters have logged.
    pub fn logs(&self) -> String {
        self.log.text()
    }

    /// Comes back with the first log line that contains `text`, of the past or to come.
    pub async fn wait_for_log(&self, text: &str) -> String {
        self.log.wait_for(text).await
    }

    /// The access log so far: one JSON object per finished request (see [`listener`]).
    pub fn access_log(&self) -> Vec<Value> {
        self.access_log.all().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Comes back with the access log once it has `count` entries.
    pub async fn wait_for_access_log(&self, count: usize) -> Vec<Value> {
        until(&format!("{count} entries in the access log"), async || {
            Some(self.access_log()).filter(|entries| entries.len() >= count)
        })
        .await
    }

    /// Counters and gauges with names that start with `prefix`; untouched ones may be missing.
    pub async fn stats(&self, prefix: &str) -> BTreeMap<String, u64> {
        let text = self.admin_get(&format!("/stats?filter={}", starting_with(prefix))).await;
        let pairs = text.lines().filter_map(|line| line.split_once(": "));
        pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    /// One counter or gauge; 0 when it has not been touched.
    pub async fn stat(&self, name: &str) -> u64 {
        self.stats(name).await.get(name).copied().unwrap_or_default()
    }

    /// Comes back with the value once `good` says so.
    pub async fn wait_for_stat(&self, name: &str, mut good: impl FnMut(u64) -> bool) -> u64 {
        until(name, async || Some(self.stat(name).await).filter(|value| good(*value))).await
    }

    /// The numbers as Prometheus reads them.
    pub async fn prometheus(&self) -> String {
        self.admin_get("/stats/prometheus").await
    }

    /// The configuration dump.
    pub async fn config_dump(&self) -> Value {
        serde_json::from_str(&self.admin_get("/config_dump").await).expect("Envoy dumps JSON")
    }

    /// The body that the admin interface answers with.
    pub async fn admin_get(&self, path: &str) -> String {
        client::get(format!("http://{}{path}", self.admin)).send().await.text()
    }

    /// Posts to the admin interface: `/logging?level=debug`, `/reset_counters`, …
    pub async fn admin_post(&self, path: &str) -> String {
        client::post(format!("http://{}{path}", self.admin)).send().await.text()
    }

    /// `host:port` of the admin interface.
    pub fn admin_address(&self) -> &str {
        &self.admin
    }

    /// The id of the process, for measuring it.
    pub fn process_id(&self) -> u32 {
        self.child.id().expect("not yet ended")
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// Kills it and waits for its end.
    pub async fn stop(mut self) {
        let _ = self.child.start_kill();
        let _ = self.child.wait().await;
    }

    /// Waits until it is ready and listens; an error is how it ended, or `None` when it lives but
    /// does not get there.
    async fn come_up(&mut self, listeners: &[Value]) -> Result<(), Option<ExitStatus>> {
        let admin = self.directory.path().join("admin");
        let mut ended = None;
        let ready = try_until(PATIENCE, async || {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                ended = Some(status);
                return Some(false);
            }
            if self.admin.is_empty() {
                self.admin = fs::read_to_string(&admin).ok().filter(|text| !text.is_empty())?;
            }
            let answer = client::get(format!("http://{}/ready", self.admin)).try_send().await;
            answer.is_ok_and(|answer| answer.status == 200).then_some(true)
        })
        .await;
        if ready != Some(true) || self.stat("listener_manager.lds.update_rejected").await > 0 {
            return Err(ended);
        }
        self.read_ports(listeners).await;
        Ok(())
    }

    async fn read_ports(&mut self, listeners: &[Value]) {
        let names: Vec<_> = listeners.iter().filter_map(|listener| listener["name"].as_str()).collect();
        self.ports = until(&format!("Envoy listens: {names:?}"), async || {
            let status: Value = serde_json::from_str(&self.admin_get("/listeners?format=json").await).ok()?;
            // Without a listener there is no such member.
            let statuses = status["listener_statuses"].as_array().into_iter().flatten();
            let ports: BTreeMap<_, _> = statuses.filter_map(port).collect();
            let started = self.stat("listener_manager.workers_started").await == 1;
            (started && names.iter().all(|name| ports.contains_key(*name))).then_some(ports)
        })
        .await;
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envoy did not start ({:?}):\n{}", self.exit, self.log)
    }
}

/// The same message: `unwrap` is how a test reports it.
impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for StartError {}

impl Drop for Envoy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // libtest prints this only for the test that failed.
            println!("--- Envoy's log ---\n{}", self.log.tail(60));
        }
    }
}

/// A regular expression for names with that prefix, fit for a query.
fn starting_with(prefix: &str) -> String {
    let escape = |it: char| {
        if it.is_alphanumeric() || it == '_' { it.to_string() } else { format!("\\{it}") }
    };
    let pattern: String = prefix.chars().map(escape).collect();
    form_urlencoded::byte_serialize(format!("^{pattern}").as_bytes()).collect()
}

fn port(status: &Value) -> Option<(String, u16)> {
    let port = status["local_address"]["socket_address"]["port_value"].as_u64()?;
    Some((status["name"].as_str()?.to_owned(), u16::try_from(port).ok().filter(|port| *port > 0)?))
}
