//! Putting an Envoy together and starting it.

use super::{
    Envoy, StartError, config,
    files::write_listeners,
    output::Lines,
    served::{Reading, Served, serve},
};
use crate::{serve::runtime, tools::tied_to_us};
use serde_json::Value;
use std::{collections::BTreeMap, ffi::OsString, fs, process::Stdio};
use tokio::process::Command;

/// What Envoy is started with.
pub struct Builder {
    clusters: Vec<Value>,
    listeners: Vec<Value>,
    static_listeners: bool,
    concurrency: u64,
    log_level: String,
    drain_seconds: u64,
    environment: Vec<(String, String)>,
    arguments: Vec<OsString>,
    files: Vec<(String, String)>,
    served: Vec<Served>,
    edit: Box<dyn FnOnce(&mut Value) + Send>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            clusters: Vec::new(),
            listeners: Vec::new(),
            static_listeners: false,
            concurrency: 2,
            log_level: "info".to_owned(),
            drain_seconds: 1,
            environment: Vec::new(),
            arguments: Vec::new(),
            files: Vec::new(),
            served: Vec::new(),
            edit: Box::new(|_| ()),
        }
    }

    /// Adds a cluster: see [`cluster`](super::cluster).
    #[must_use]
    pub fn cluster(mut self, cluster: Value) -> Self {
        self.clusters.push(cluster);
        self
    }

    /// Adds a listener: see [`listener`](super::listener).
    #[must_use]
    pub fn listener(mut self, listener: Value) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Puts the listeners into the bootstrap instead of a watched file: Envoy then exits at a bad
    /// one, as in most deployments, but nothing can be pushed.
    #[must_use]
    pub fn static_listeners(mut self) -> Self {
        self.static_listeners = true;
        self
    }

    /// The number of worker threads, 2 by default.
    #[must_use]
    pub fn concurrency(mut self, workers: u64) -> Self {
        self.concurrency = workers;
        self
    }

    /// `info` by default; `debug` logs more of what the filters do.
    #[must_use]
    pub fn log_level(mut self, level: &str) -> Self {
        level.clone_into(&mut self.log_level);
        self
    }

    /// How long a replaced listener keeps serving its old connections, 1 s by default (Envoy's own:
    /// 600 s).
    #[must_use]
    pub fn drain_seconds(mut self, seconds: u64) -> Self {
        self.drain_seconds = seconds;
        self
    }

    /// An environment variable of the process, as `host_env_keys` reads it.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One more command line argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// A file in Envoy's [directory](Envoy::directory), there before it starts; `DIRECTORY` in any
    /// string of the bootstrap is replaced by that directory.
    #[must_use]
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Serves a file at this request path of the cluster `files`, which only this Envoy reaches;
    /// the file must be there when Envoy starts. `DIRECTORY` in its name is replaced as in the
    /// bootstrap.
    #[must_use]
    pub fn serve_file(self, path: &str, file: &str) -> Self {
        self.serve_file_by(Reading::FileContent, path, file)
    }

    /// The same with another way to read the file: for an Envoy before 1.38.
    #[must_use]
    pub fn serve_file_by(mut self, reading: Reading, path: &str, file: &str) -> Self {
        self.served.push(Served { path: path.to_owned(), file: file.to_owned(), reading });
        self
    }

    /// Changes the finished bootstrap: `stats_config`, another admin, …
    #[must_use]
    pub fn bootstrap(mut self, edit: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        let before = self.edit;
        self.edit = Box::new(move |bootstrap| {
            before(bootstrap);
            edit(bootstrap);
        });
        self
    }

    /// Starts it, and comes back when it is ready and listens.
    pub async fn start(self) -> Result<Envoy, StartError> {
        let directory = tempfile::Builder::new().prefix("m2m-envoy-").tempdir().expect("a temporary folder");
        let here = directory.path().to_str().expect("a temporary folder with a plain name").to_owned();
        for (name, text) in &self.files {
            fs::write(directory.path().join(name), text).expect("a file in the temporary folder");
        }
        write_listeners(directory.path(), &self.listeners);
        let mut bootstrap =
            config::bootstrap(&self.clusters, self.static_listeners.then_some(&self.listeners));
        serve(&mut bootstrap, &self.served);
        (self.edit)(&mut bootstrap);
        let path = directory.path().join("bootstrap.json");
        fs::write(&path, bootstrap.to_string().replace("DIRECTORY", &here)).expect("a bootstrap file");

        let mut command = Command::from(tied_to_us(&super::binary()));
        command
            .arg("--config-path")
            .arg(&path)
            .args(["--admin-address-path", &format!("{here}/admin")])
            .args(["--concurrency", &self.concurrency.to_string()])
            .args(["--drain-time-s", &self.drain_seconds.to_string()])
            .args(["--log-level", &self.log_level])
            // Nothing is ever handed over to a second Envoy, and the shared memory for it would
            // outlive a kill.
            .arg("--disable-hot-restart")
            .args(["--file-flush-interval-msec", "20"])
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // The child belongs to the runtime that never ends, not to that of one test.
        let spawned = runtime().spawn(async move { command.spawn() }).await.expect("spawning does not panic");
        let mut child = spawned.expect("the Envoy binary starts");
        let log = Lines::of(child.stderr.take().expect("piped"));
        let access_log = Lines::of(child.stdout.take().expect("piped"));
        let mut envoy = Envoy {
            admin: String::new(),
            child,
            directory,
            log,
            access_log,
            ports: BTreeMap::new(),
            concurrency: self.concurrency,
        };
        match envoy.come_up(&self.listeners).await {
            Ok(()) => Ok(envoy),
            Err(exit) => {
                let _ = envoy.child.start_kill();
                envoy.log.closed().await;
                Err(StartError { log: envoy.log.text(), exit })
            }
        }
    }
}
