//! Real servers that may be behind a filter, and the strange requests that a client may send them.
//!
//! `make servers` installs them; `tests/servers/README.md` says what each of them does.
//! [`spelling`] is one request, byte by byte; [`grammar`] makes as many of them as wanted; [`wire`]
//! sends them over HTTP/1 or HTTP/2.

pub mod grammar;
pub mod spelling;
pub mod wire;

use crate::{
    repository,
    tools::tied_to_us,
    wait::{PATIENCE, try_until},
};
use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};
use tempfile::TempDir;

/// A server, not yet started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// What it is called in reports, and in the variable `SERVERS`.
    pub name: &'static str,
    /// Whether Envoy talks HTTP/2 to it.
    pub http2: bool,
    /// Whether it starts within a second or two.
    pub fast: bool,
    start: Start,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// A program below `build/servers` that prints its port, after a slash one on the `PATH`; run
    /// in the repository's root.
    Prints(&'static str, &'static [&'static str]),
    /// A program that takes a configuration.
    Configured(&'static str),
}

/// All of them; the fast ones come first.
pub const SERVERS: [Server; 10] = [
    Server::printing("go", "go/server", &[]),
    Server::printing("go-http2", "go/server", &[]).over_http2(),
    Server::printing("express4", "/node", &["build/servers/node/server.mjs", "express4"]),
    Server::printing("express5", "/node", &["build/servers/node/server.mjs", "express5"]),
    Server::printing("flask", "python/bin/python", &["tests/servers/python/flask_app.py"]),
    Server::printing("uvicorn", "python/bin/python", &["tests/servers/python/starlette_app.py", "uvicorn"]),
    Server::printing(
        "hypercorn",
        "python/bin/python",
        &["tests/servers/python/starlette_app.py", "hypercorn"],
    )
    .over_http2(),
    Server::configured("nginx"),
    Server::configured("lighttpd"),
    Server {
        fast: false,
        ..Server::printing(
            "tomcat",
            "/java",
            &["-Xmx128m", "-cp", "build/servers/tomcat:build/servers/tomcat/*", "Server"],
        )
    },
];

/// A server that runs; it is killed when this is dropped.
pub struct Running {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Server {
    const fn printing(name: &'static str, program: &'static str, arguments: &'static [&'static str]) -> Self {
        Self { name, http2: false, fast: true, start: Start::Prints(program, arguments) }
    }

    const fn configured(name: &'static str) -> Self {
        Self { name, http2: false, fast: false, start: Start::Configured(name) }
    }

    const fn over_http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Starts it, and comes back when it listens.
    pub async fn start(&self) -> Running {
        let directory = tempfile::Builder::new().prefix("m2m-server-").tempdir().expect("a temporary folder");
        let (child, address) = match self.start {
            Start::Prints(program, arguments) => self.print_its_port(program, arguments),
            Start::Configured(name) => self.configure(name, directory.path()),
        };
        let running = Running { child, address, _directory: directory };
        let listens = async || tokio::net::TcpStream::connect(address).await.ok();
        let listens = try_until(PATIENCE, listens).await;
        assert!(listens.is_some(), "{} does not listen at {address}", self.name);
        running
    }

    fn print_its_port(&self, program: &str, arguments: &[&str]) -> (Child, SocketAddr) {
        // On the PATH, or installed.
        let program = program.strip_prefix('/').map_or_else(|| self.installed(program), PathBuf::from);
        let mut child = self.spawn(program.as_ref(), arguments);
        let mut line = String::new();
        let printed = BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line);
        printed.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let port = line.trim().parse();
        let port = port.unwrap_or_else(|_| panic!("{} prints no port, but {line:?}", self.name));
        (child, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    fn configure(&self, name: &str, directory: &Path) -> (Child, SocketAddr) {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = free.expect("a free port");
        let root = self.installed(&format!("{name}/usr"));
        let source = repository().join("tests/servers").join(name);
        let path = directory.join("server.conf");
        let text = fs::read_to_string(source.join(format!("{name}.conf"))).expect("its configuration");
        let text = text
            .replace("DIRECTORY", &directory.to_string_lossy())
            .replace("PORT", &address.port().to_string());
        fs::write(&path, text).expect("a file in the temporary folder");
        let program = root.join("sbin").join(name);
        if name == "nginx" {
            let log = directory.join("start.log");
            let arguments = [OsStr::new("-c"), path.as_ref(), OsStr::new("-e"), log.as_ref()];
            return (self.spawn(&program, arguments), address);
        }
        for handler in ["admin", "admin-host", "delete", "health", "items", "public"] {
            fs::copy(source.join("handler.cgi"), directory.join(format!("{handler}.cgi")))
                .expect("a script in the temporary folder");
        }
        let modules = root.join("lib/lighttpd");
        let arguments =
            [OsStr::new("-D"), OsStr::new("-f"), path.as_ref(), OsStr::new("-m"), modules.as_ref()];
        (self.spawn(&program, arguments), address)
    }

    fn spawn(&self, program: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Child {
        tied_to_us(program)
            .args(arguments)
            .current_dir(repository())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {}: {error}", self.name, program.display()))
    }

    fn installed(&self, path: &str) -> PathBuf {
        let file = repository().join("build/servers").join(path);
        assert!(file.exists(), "{}: no {}: run `make servers`", self.name, file.display());
        file
    }
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
