//! Runs the blocks of a page.
//!
//! 1. [`Page::read`], then [`Page::yaml`] for a block of it.
//! 2. [`Setup::example`] or [`Setup::of`] is the Envoy, [`Setup::filter`] the page's configuration
//!    of the filter in it. The provider and the services of the test replace the endpoints of its
//!    clusters. The page's issuer stays: `idp.set_issuer("https://keycloak.example.com/…")`.
//! 3. [`Setup::start`] gives the [`Run`]: Envoy, and a shell in a folder with `envoy.yaml`, which
//!    is the Envoy as the page has it, and `envoy.log`.
//! 4. [`Run::header`] writes a file for `curl -H @FILE`; [`Run::verify`] runs the page's `console`
//!    blocks and compares what they print.
//!
//! What a block prints must be the whole output. `…` in it matches any text, lines included.
//! `127.0.0.1` with the port of a listener or of the admin interface is that of the real Envoy.

use crate::envoy::scene::{HAS_KEYS, VMS};
use m2m_auth_kit::client::{self, Request};
use m2m_auth_kit::envoy::{self, Envoy};
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::repository;
use m2m_auth_kit::tools::tied_to_us;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::{PATIENCE, try_until, until};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The issuer of the examples and of most pages.
pub(crate) const ISSUER: &str = "https://keycloak.example.com/realms/my-realm";

/// A document.
pub(crate) struct Page {
    name: String,
    text: String,
}

impl Page {
    /// The document of that path in the repository.
    pub(crate) fn read(name: &str) -> Self {
        let text = std::fs::read_to_string(repository().join(name)).unwrap();
        Self { name: name.to_owned(), text }
    }

    /// Its blocks of that language, in order.
    pub(crate) fn blocks(&self, language: &str) -> Vec<&str> {
        let blocks = self.text.split("```").skip(1).step_by(2);
        blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
    }

    /// Its section with that heading, up to the next heading of the same level.
    pub(crate) fn section(&self, heading: &str) -> Self {
        let start = format!("\n{heading}\n");
        let (_, text) = self.text.split_once(&start).unwrap_or_else(|| panic!("{}: {heading}", self.name));
        let level = heading.split(' ').next().unwrap();
        let text = text.split(&format!("\n{level} ")).next().unwrap().to_owned();
        Self { name: format!("{}, {heading}", self.name), text }
    }

    /// The only `yaml` block that contains this.
    pub(crate) fn yaml(&self, part: &str) -> &str {
        self.block("yaml", part)
    }

    /// The only block of that language that contains this.
    pub(crate) fn block(&self, language: &str, part: &str) -> &str {
        let with: Vec<_> = self.blocks(language).into_iter().filter(|block| block.contains(part)).collect();
        assert_eq!(with.len(), 1, "{}: {language} blocks with {part:?}", self.name);
        with[0]
    }
}

/// A `yaml` block as JSON.
pub(crate) fn parsed(yaml: &str) -> Value {
    serde_norway::from_str(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// An Envoy, before it starts.
pub(crate) struct Setup {
    bootstrap: Value,
    behind: Vec<(String, SocketAddr)>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// The file of that name in `examples/envoy`.
    pub(crate) fn example(name: &str) -> Self {
        Self::of(&std::fs::read_to_string(repository().join("examples/envoy").join(name)).unwrap())
    }

    /// A whole bootstrap.
    pub(crate) fn of(yaml: &str) -> Self {
        Self { bootstrap: parsed(yaml), behind: Vec::new(), environment: Vec::new() }
    }

    /// This configuration replaces that of the only plugin.
    pub(crate) fn filter(self, yaml: &str) -> Self {
        let configuration = parsed(yaml);
        self.edit(move |bootstrap| {
            let plugins = plugins(bootstrap);
            let [plugin] =
                plugins.try_into().unwrap_or_else(|found: Vec<_>| panic!("{} plugins", found.len()));
            plugin["configuration"]["value"] = configuration;
        })
    }

    /// These filters follow the plugin in the first listener, before the router.
    pub(crate) fn later_filters(self, yaml: &str) -> Self {
        let filters = parsed(yaml);
        self.edit(move |bootstrap| {
            let known = manager(bootstrap)["http_filters"].as_array_mut().unwrap();
            for filter in filters.as_array().unwrap() {
                known.insert(known.len() - 1, filter.clone());
            }
        })
    }

    /// These settings of the first listener's HTTP connection manager.
    pub(crate) fn manager(self, yaml: &str) -> Self {
        let settings = parsed(yaml);
        self.edit(move |bootstrap| {
            for (name, value) in settings.as_object().unwrap() {
                manager(bootstrap)[name] = value.clone();
            }
        })
    }

    /// One more cluster.
    pub(crate) fn cluster(self, yaml: &str) -> Self {
        let cluster = parsed(yaml);
        self.edit(|bootstrap| {
            bootstrap["static_resources"]["clusters"].as_array_mut().unwrap().push(cluster);
        })
    }

    /// Replaces a string of the bootstrap, such as the path of a file.
    pub(crate) fn replace(self, theirs: &str, ours: &str) -> Self {
        let text = self.bootstrap.to_string();
        assert!(text.contains(theirs), "{theirs}");
        Self { bootstrap: serde_json::from_str(&text.replace(theirs, ours)).unwrap(), ..self }
    }

    /// Changes the bootstrap as the page describes it.
    pub(crate) fn edit(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(&mut self.bootstrap);
        self
    }

    /// The cluster reaches this address, without TLS.
    pub(crate) fn behind(mut self, cluster: &str, address: SocketAddr) -> Self {
        self.behind.push((cluster.to_owned(), address));
        self
    }

    /// An environment variable of Envoy.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts Envoy and the shell. Each cluster needs an address by [`behind`](Self::behind).
    pub(crate) async fn start(self) -> Run {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("envoy.yaml"), self.bootstrap.to_string()).unwrap();
        let (mut bootstrap, mut listens) = (self.bootstrap, Vec::new());
        for listener in bootstrap["static_resources"]["listeners"].as_array_mut().unwrap() {
            let address = &mut listener["address"]["socket_address"];
            listens.push((listener_name(&address["port_value"]), address["port_value"].clone()));
            *address = socket(([127, 0, 0, 1], 0).into());
            listener["name"] = json!(listens.last().unwrap().0);
        }
        let admin = bootstrap["admin"]["address"]["socket_address"]["port_value"].clone();
        bootstrap["admin"] = json!({ "address": { "socket_address": socket(([127, 0, 0, 1], 0).into()) } });
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
        assert_eq!(clusters.len(), self.behind.len(), "an address for each cluster: {:?}", self.behind);
        for cluster in clusters {
            let own = self.behind.iter().find(|(name, _)| cluster["name"] == **name);
            let (_, address) = own.unwrap_or_else(|| panic!("no address for {}", cluster["name"]));
            let path = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
            *cluster.pointer_mut(path).unwrap() = socket(*address);
            cluster.as_object_mut().unwrap().remove("transport_socket");
        }
        for plugin in plugins(&mut bootstrap) {
            let file = plugin.pointer_mut("/vm_config/code/local/filename").unwrap();
            assert!(file.as_str().unwrap().ends_with("m2m_auth.wasm"), "{file}");
            *file = json!(envoy::module());
        }
        let mut builder = Envoy::builder().bootstrap(move |own| *own = bootstrap);
        for (name, value) in &self.environment {
            builder = builder.env(name, value);
        }
        let envoy = builder.start().await.unwrap();
        let mut addresses = Vec::new();
        for (name, port) in listens {
            for host in ["127.0.0.1", "localhost"] {
                addresses.push((format!("{host}:{port}"), format!("{host}:{}", envoy.port(&name))));
            }
        }
        if !admin.is_null() {
            addresses.push((format!("127.0.0.1:{admin}"), envoy.admin_address().to_owned()));
        }
        let shell = Shell::start(folder.path());
        Run { envoy, addresses, shell, folder }
    }
}

fn listener_name(port: &Value) -> String {
    format!("port-{port}")
}

fn socket(address: SocketAddr) -> Value {
    json!({ "address": address.ip().to_string(), "port_value": address.port() })
}

/// An Envoy that protects a service.
pub(crate) struct Inbound {
    pub(crate) idp: Idp,
    pub(crate) service: Upstream,
    pub(crate) run: Run,
}

impl Inbound {
    /// `examples/envoy/inbound-only.yaml` with this configuration of the filter.
    pub(crate) async fn start(configuration: &str) -> Self {
        Self::with(Setup::example("inbound-only.yaml").filter(configuration)).await
    }

    /// An Envoy with the clusters of that example.
    pub(crate) async fn with(setup: Setup) -> Self {
        let (idp, service) = (Idp::start().await, Upstream::start().await);
        idp.set_issuer(ISSUER);
        let setup = setup.behind("keycloak", idp.address()).behind("own-service", service.address());
        let run = setup.start().await;
        run.logged_by_all(HAS_KEYS).await;
        Self { idp, service, run }
    }

    /// Writes a file for `curl -H @NAME` with a token, after `edit` has changed its claims.
    pub(crate) fn token(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        self.run.bearer(name, &self.mint(edit));
    }

    /// A token, after `edit` has changed its claims.
    pub(crate) fn mint(&self, edit: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.idp.claims();
        edit(&mut claims);
        self.idp.mint(claims)
    }

    /// The paths of the requests that the service received.
    pub(crate) fn arrived(&self) -> Vec<String> {
        self.service.requests().into_iter().map(|request| request.path).collect()
    }
}

/// The first listener's HTTP connection manager.
fn manager(bootstrap: &mut Value) -> &mut Value {
    envoy::manager_mut(&mut bootstrap["static_resources"]["listeners"][0])
}

/// The `config` of every plugin.
fn plugins(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::Object(members) if members.contains_key("vm_config") => vec![value],
        Value::Object(members) => members.values_mut().flat_map(plugins).collect(),
        Value::Array(elements) => elements.iter_mut().flat_map(plugins).collect(),
        _ => Vec::new(),
    }
}

/// Envoy, and a shell for the commands of a page.
pub(crate) struct Run {
    pub(crate) envoy: Envoy,
    /// As the page has them, and as they are.
    addresses: Vec<(String, String)>,
    shell: Shell,
    folder: TempDir,
}

impl Run {
    /// The folder in which the commands run.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file for `curl -H @NAME` with that line.
    pub(crate) fn header(&self, name: &str, line: &str) {
        std::fs::write(self.folder().join(name), format!("{line}\n")).unwrap();
    }

    /// Writes a file for `curl -H @NAME` with that token.
    pub(crate) fn bearer(&self, name: &str, token: &str) {
        self.header(name, &format!("authorization: Bearer {token}"));
    }

    /// Waits until every VM of Envoy has logged this.
    pub(crate) async fn logged_by_all(&self, text: &str) {
        let seen = async || (self.envoy.logs().matches(text).count() >= VMS).then_some(());
        until(&format!("each VM logs {text:?}"), seen).await;
    }

    /// A request of the test itself to the listener on that port of the page.
    pub(crate) fn get(&self, port: u16, path: &str) -> Request {
        client::get(self.envoy.url(&listener_name(&json!(port)), path))
    }

    /// Runs every `console` block of the page.
    pub(crate) async fn verify(&mut self, page: &Page) {
        let blocks = page.blocks("console");
        assert!(!blocks.is_empty(), "{}: no console blocks", page.name);
        for block in blocks {
            self.play(block).await;
        }
    }

    /// Runs the commands of a `console` block, and compares what each prints with the block. What
    /// only reads logs or counters is repeated until it prints that.
    #[allow(clippy::print_stdout, reason = "the author of a page reads what its commands print")]
    pub(crate) async fn play(&mut self, block: &str) {
        for (command, expected) in commands(block) {
            let reads = ["/stats", "envoy.log", "access.log"].iter().any(|part| command.contains(part));
            let mut printed = String::new();
            let fits = async || {
                printed = self.run(&command).await;
                if matches(&expected, &printed) {
                    return Some(true);
                }
                (!reads).then_some(false)
            };
            let good = try_until(PATIENCE, fits).await == Some(true);
            assert!(good, "$ {command}\n--- expected ---\n{expected}\n--- printed ---\n{printed}");
            println!("$ {command}\n{printed}");
        }
    }

    /// Runs a command of the page, and returns what it prints.
    pub(crate) async fn run(&mut self, command: &str) -> String {
        std::fs::write(self.folder().join("envoy.log"), self.envoy.logs()).unwrap();
        let lines: Vec<_> = self.envoy.access_log().iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(self.folder().join("access.log"), lines.concat()).unwrap();
        let command =
            self.addresses.iter().fold(command.to_owned(), |text, (page, own)| text.replace(page, own));
        let printed = self.shell.run(&command).await;
        self.addresses.iter().fold(printed, |text, (page, own)| text.replace(own, page))
    }
}

/// The commands of a `console` block, and what each prints.
fn commands(block: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut continued = false;
    for line in block.lines() {
        if continued {
            let (command, _) = found.last_mut().unwrap();
            command.extend(["\n", line]);
        } else if let Some(command) = line.strip_prefix("$ ") {
            found.push((command.to_owned(), String::new()));
        } else {
            let (_, printed) = found.last_mut().unwrap_or_else(|| panic!("no command before {line:?}"));
            printed.extend([line, "\n"]);
            continue;
        }
        continued = line.ends_with('\\');
    }
    found.into_iter().map(|(command, printed)| (command, printed.trim().to_owned())).collect()
}

/// Whether the output is what was expected; `…` matches any text.
pub(super) fn matches(expected: &str, printed: &str) -> bool {
    let mut pieces = expected.split('…');
    let Some(mut rest) = printed.strip_prefix(pieces.next().unwrap()) else { return false };
    let pieces: Vec<_> = pieces.collect();
    let Some((last, middle)) = pieces.split_last() else { return rest.is_empty() };
    for piece in middle {
        let Some((_, behind)) = rest.split_once(piece) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

/// A shell that runs one command after the other.
struct Shell {
    _child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

/// What ends the output of a command.
const END: &str = "--- the command has ended ---";

impl Shell {
    fn start(folder: &Path) -> Self {
        let tool = PathBuf::from(env!("CARGO_BIN_EXE_m2m-auth"));
        let path = format!("{}:{}", tool.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut command = Command::from(tied_to_us(Path::new("/bin/bash")));
        command
            .arg("--norc")
            .current_dir(folder)
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { _child: child, input, output }
    }

    async fn run(&mut self, command: &str) -> String {
        let script = format!("{{ {command}\n}} 2>&1 < /dev/null\nprintf '\\n%s\\n' '{END}'\n");
        let exchange = async {
            self.input.write_all(script.as_bytes()).await.unwrap();
            let mut bytes = Vec::new();
            while !bytes.ends_with(format!("\n{END}\n").as_bytes()) {
                let read = self.output.read_buf(&mut bytes).await.unwrap();
                assert!(read > 0, "the shell has ended: {}", String::from_utf8_lossy(&bytes));
            }
            String::from_utf8(bytes).unwrap()
        };
        let printed =
            tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| panic!("no end: {command}"));
        let lines = printed.trim_end().strip_suffix(END).unwrap().lines();
        lines.map(str::trim_end).collect::<Vec<_>>().join("\n").trim().to_owned()
    }
}
