//! Programs in other languages, which `make peers` installs: the clients of `examples/clients`, run
//! once each, and the inventory in Express.

use crate::{repository, wait::PATIENCE};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};
use tokio::process::Command;

/// A client of `examples/clients`: `Client::plain()` know nothing of tokens, `Client::libraries()`
/// fetch their own.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// What it is written in.
    pub name: &'static str,
    /// Its source, below `examples/clients`.
    pub source: &'static str,
    /// How it is started, below `build/clients`.
    command: &'static [&'static str],
}

impl Client {
    /// Those without any authentication code.
    pub fn plain() -> [Self; 3] {
        [
            Self { name: "Go, net/http", source: "go/plain/main.go", command: &["go/plain"] },
            Self {
                name: "Python, requests",
                source: "python/plain.py",
                command: &["python/bin/python", "../../examples/clients/python/plain.py"],
            },
            Self { name: "Node, fetch", source: "node/plain.mjs", command: &["node", "node/plain.mjs"] },
        ]
    }

    /// Those that fetch their token by their language's own library.
    pub fn libraries() -> [Self; 3] {
        [
            Self {
                name: "Go, x/oauth2 clientcredentials",
                source: "go/library/main.go",
                command: &["go/library"],
            },
            Self {
                name: "Python, requests-oauthlib",
                source: "python/library.py",
                command: &["python/bin/python", "../../examples/clients/python/library.py"],
            },
            Self {
                name: "Node, openid-client",
                source: "node/library.mjs",
                command: &["node", "node/library.mjs"],
            },
        ]
    }

    /// The lines of its source.
    pub fn code(&self) -> String {
        let path = repository().join("examples/clients").join(self.source);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Runs it with nothing but these variables, and comes back with the status and the body that
    /// it prints.
    pub async fn run(&self, environment: &[(&str, &str)]) -> (u16, String) {
        let folder = installed("clients");
        let program = self.command[0];
        // Node is the machine's own.
        let program = if program.contains('/') { folder.join(program) } else { program.into() };
        let mut command = Command::new(program);
        command.args(&self.command[1..]).current_dir(&folder).env_clear();
        command.envs(std::env::var("PATH").map(|path| ("PATH", path)));
        // Else oauthlib refuses a provider without TLS, even on loopback.
        command.env("OAUTHLIB_INSECURE_TRANSPORT", "1");
        command.envs(environment.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("a client that ends");
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let (said, complained) = (text(&output.stdout), text(&output.stderr));
        let answer = said.split_once(' ').and_then(|(status, body)| Some((status.parse().ok()?, body)));
        let (status, body) = answer.unwrap_or_else(|| panic!("{} says: {said}{complained}", self.name));
        (status, body.trim().to_owned())
    }
}

/// The inventory in Express, three times: behind the walkthroughs' own middleware, behind one with
/// `jose`, and plain. It ends when this is dropped.
pub struct Express {
    child: Child,
    ports: Value,
}

impl Express {
    /// Starts it for the tokens of that issuer.
    pub fn start(issuer: &str, jwks_uri: &str) -> Self {
        let mut child = std::process::Command::new("node")
            .arg(installed("express").join("server.mjs"))
            .env("ISSUER", issuer)
            .env("JWKS_URI", jwks_uri)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("node: {error}"));
        let mut line = String::new();
        let said = BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line);
        said.expect("Express says where it listens");
        let ports = serde_json::from_str(&line).unwrap_or_else(|_| panic!("Express says: {line}"));
        Self { child, ports }
    }

    /// Where the one of that name listens: `walkthrough`, `jose` or `plain`.
    pub fn address(&self, name: &str) -> SocketAddr {
        let port = self.ports[name].as_u64().and_then(|port| port.try_into().ok());
        SocketAddr::from(([127, 0, 0, 1], port.unwrap_or_else(|| panic!("no {name} in {}", self.ports))))
    }
}

impl Drop for Express {
    fn drop(&mut self) {
        // It ends by itself when its input closes; nobody waits for that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn installed(name: &str) -> PathBuf {
    let folder = repository().join("build").join(name);
    let is_there = |file: &Path| folder.join(file).exists();
    assert!(
        is_there(Path::new("installed")) || is_there(Path::new("node/installed")),
        "nothing in {}: run `make peers`",
        folder.display()
    );
    folder
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
