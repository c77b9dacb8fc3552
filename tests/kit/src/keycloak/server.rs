//! The server process under [`Keycloak`](super::Keycloak), and the script that starts it and ends
//! it.

use super::{access_token, ask, folder, lock, secrets};
use crate::wait::until;
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, sync::oneshot};

/// Keycloak's admin tokens live 60 s.
const ADMIN_TOKEN_LIFE: Duration = Duration::from_secs(40);

/// One server process and the script above it.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    management_port: String,
    pub(super) directory: PathBuf,
    process: Mutex<Process>,
    admin_token: Mutex<Option<(String, Instant)>>,
    /// Where it also listens with TLS, and asks for client certificates.
    pub(super) tls_port: u16,
}

/// Its standard input is a pipe that nobody writes to: when it closes, by a drop or by the end of
/// this process, the script ends the server.
struct Process {
    script: Child,
    group: u32,
}

impl Server {
    pub(super) async fn start() -> Result<Arc<Self>, String> {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let tls_port = free.expect("a free port").port();
        let (process, said) = launch(None, tls_port).await?;
        Ok(Arc::new(Self {
            address: format!("127.0.0.1:{}", said["http_port"]).parse().expect("a port"),
            management_port: said["management_port"].clone(),
            directory: said["directory"].clone().into(),
            process: Mutex::new(process),
            admin_token: Mutex::default(),
            tls_port,
        }))
    }

    pub(super) async fn restart(&self) -> Result<(), String> {
        self.kill().await;
        let ended = || lock(&self.process).script.try_wait().expect("a child of ours").is_some();
        until("the script above Keycloak to end", async || ended().then_some(())).await;
        let (process, _) = launch(Some(self), self.tls_port).await?;
        *lock(&self.process) = process;
        self.forget_admin_token();
        Ok(())
    }

    pub(super) async fn kill(&self) {
        // Fails where it has ended already.
        let _ = self.signal("KILL");
        let refused = async || TcpStream::connect(self.address).await.is_err().then_some(());
        until("Keycloak to be gone", refused).await;
    }

    /// To the whole process group: the server's own script and its Java child. Whether there was
    /// one.
    pub(super) fn signal(&self, name: &str) -> bool {
        let command = format!("kill -{name} -- -{} 2>/dev/null", lock(&self.process).group);
        Command::new("bash").args(["-c", &command]).status().expect("bash").success()
    }

    fn forget_admin_token(&self) {
        *lock(&self.admin_token) = None;
    }

    pub(super) async fn admin_token(&self) -> String {
        if let Some((token, since)) = &*lock(&self.admin_token)
            && since.elapsed() < ADMIN_TOKEN_LIFE
        {
            return token.clone();
        }
        let url = format!("http://{}/realms/master/protocol/openid-connect/token", self.address);
        let form = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", "admin"),
            ("password", "admin"),
        ];
        let (since, token) = (Instant::now(), access_token(&ask(&url, &form).await));
        *lock(&self.admin_token) = Some((token.clone(), since));
        token
    }
}

/// Runs the script until it says that the server is ready; with `again` on the ports and the data
/// of that one.
async fn launch(
    again: Option<&Server>,
    tls_port: u16,
) -> Result<(Process, BTreeMap<String, String>), String> {
    let file = |option: &str, name: &str| {
        format!("--https-{option}-file={}", super::certificates().join(name).display())
    };
    let mut command = Command::new(folder().join("run.sh"));
    command.args(["run", "--until-eof", &format!("--https-port={tls_port}")]);
    command.args([file("certificate", "server.pem"), file("certificate-key", "server.key")]);
    command.args([file("trust-store", "ca.pem")]).envs(secrets());
    // Options of the build, which is kept beside the usual one.
    command.env("KEYCLOAK_BUILD_OPTIONS", "--https-client-auth=request --features=scim-api");
    for name in ["KC_BOOTSTRAP_ADMIN_USERNAME", "KC_BOOTSTRAP_ADMIN_PASSWORD"] {
        command.env(name, "admin");
    }
    for name in ["KC_HOSTNAME", "HTTP_PORT", "MANAGEMENT_PORT", "RUN_DIR", "REALM_FILE", "SCIM_AUDIENCE"] {
        command.env_remove(name);
    }
    if let Some(server) = again {
        command.env("HTTP_PORT", server.address.port().to_string());
        command.env("MANAGEMENT_PORT", &server.management_port).env("RUN_DIR", &server.directory);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A thread of its own rather than a task: the runtime of the test that comes first may end with
    // that test.
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || sender.send(launch_blocking(command)));
    receiver.await.unwrap_or_else(|_| Err("its starter panicked".to_owned()))
}

fn launch_blocking(mut command: Command) -> Result<(Process, BTreeMap<String, String>), String> {
    let mut script = command.spawn().map_err(|error| format!("{}/run.sh: {error}", folder().display()))?;
    let mut stderr = script.stderr.take().expect("a pipe");
    // Read to its end, so that the script never blocks on a full pipe nor breaks on a closed one.
    let complaints = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let mut said = BTreeMap::new();
    for line in BufReader::new(script.stdout.take().expect("a pipe")).lines() {
        let line = line.map_err(|error| error.to_string())?;
        if let Some((name, value)) = line.split_once(' ') {
            said.insert(name.to_owned(), value.trim().to_owned());
        }
        if let Some(group) = said.get("process_group") {
            let group = group.parse().map_err(|_| format!("no process group: {group}"))?;
            return Ok((Process { script, group }, said));
        }
    }
    drop(script.stdin.take());
    let _ = script.wait();
    Err(complaints.join().unwrap_or_default())
}
