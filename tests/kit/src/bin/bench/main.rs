//! `make bench`: our filter and Envoy's own, side by side, in one run of one Envoy.
//!
//! Every row is a listener of the same Envoy process with one worker. Round by round each row is
//! loaded for a moment, in turn, and what the process used of the CPU is divided by the requests it
//! answered. Envoy answers by itself (`direct_response`), so there is no upstream to wait for. A
//! row must first prove that it does its work.
//!
//! `bench [--rounds N] [--seconds N] [--tokens N]`; takes about `rounds * seconds * 15` seconds.
//! What the figures mean: `docs/compare/benchmarks.md`.

#![allow(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a tool on the bench: it lives in real time, and failing loudly at once is how it reports"
)]

mod noop;
mod rows;
mod table;
mod wrk;

use m2m_auth_kit::{
    Value, client,
    envoy::{self, Builder, Envoy},
    idp::Idp,
    json, repository,
    token::{Mint, now},
    upstream::Upstream,
    wait,
};
use rows::{Check, HOST, Load, PATH, Row};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::exit,
    thread,
    time::Duration,
};
use table::{Sample, Samples};
use wrk::Wrk;

#[tokio::main]
async fn main() {
    if let Err(problem) = bench().await {
        eprintln!("bench: {problem}");
        exit(1);
    }
}

async fn bench() -> Result<(), String> {
    let order = Order::read(env::args().skip(1))?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let noop = folder.path().join("noop.wasm");
    fs::write(&noop, noop::module()).map_err(|error| error.to_string())?;
    let ours = module();

    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let rows = rows::rows(&idp, &noop, ours.as_deref());
    eprintln!("signing {} tokens", order.tokens);
    let tokens = mint(&idp, order.tokens);
    let mut wrk = Wrk::new(folder.path(), &tokens, &many_roles(&idp))?;
    let envoy = start(&idp, &upstream, &rows, folder.path()).await?;
    for row in &rows {
        check(row, &envoy, &idp, &upstream, &idp.token()).await;
    }

    // The counters of these requests are reported within a second, and must not count for the first
    // row.
    thread::sleep(Duration::from_secs(2));
    let mut samples = Samples::default();
    for round in 0..order.rounds {
        eprintln!("round {} of {}", round + 1, order.rounds);
        // There and back again, so that a machine that gets slower is not held against the same
        // rows each time.
        let mut turn: Vec<_> = rows.iter().collect();
        if round % 2 == 1 {
            turn.reverse();
        }
        for row in turn {
            let known = known_tokens(&envoy).await;
            let before = cpu_microseconds(envoy.process_id());
            let run = wrk
                .run(&envoy.address(row.id), row.load, order.seconds)
                .map_err(|error| format!("{}: {error}", row.id))?;
            let cpu = (cpu_microseconds(envoy.process_id()) - before) / run.requests;
            samples.add(row, Sample { cpu, per_second: run.per_second });
            let known = known_tokens(&envoy).await - known;
            if row.load == Load::NewTokens && known > 0 {
                return Err(format!("{}: {known} of its tokens were not new", row.id));
            }
        }
    }

    println!("{}", machine(&envoy, ours.as_ref(), &tokens[0], &order).await);
    println!("{}", table::markdown(&rows, &samples).expect("a string grows"));
    Ok(())
}

async fn start(idp: &Idp, upstream: &Upstream, rows: &[Row], folder: &Path) -> Result<Envoy, String> {
    let (listeners_behind, clusters): (Vec<_>, Vec<_>) =
        rows.iter().filter_map(|row| row.second(folder)).unzip();
    let builder = Envoy::builder()
        .concurrency(1)
        .log_level("error")
        .static_listeners()
        .cluster(envoy::cluster("keycloak", idp.address()))
        .cluster(envoy::cluster("upstream", upstream.address()))
        .bootstrap(move |bootstrap| {
            bootstrap["static_resources"]["secrets"] = rows::secrets();
            // They have no port to wait for.
            if let Some(listeners) = bootstrap["static_resources"]["listeners"].as_array_mut() {
                listeners.extend(listeners_behind);
            }
        });
    let builder = rows.iter().fold(builder, |builder, row| builder.listener(row.listener()));
    let builder = clusters.into_iter().fold(builder, Builder::cluster);
    builder.start().await.map_err(|error| error.to_string())
}

/// Panics when the row does not do its work: what does not check anything is easily fast.
async fn check(row: &Row, envoy: &Envoy, idp: &Idp, upstream: &Upstream, token: &str) {
    let request = client::get(envoy.url(row.id, PATH)).header("host", HOST);
    let status = async |request: client::Request| request.send().await.status;
    // Key sets and tokens arrive a moment after the start.
    wait::until(row.id, async || (status(request.clone().bearer(token)).await == 200).then_some(())).await;
    let (bare, without_role) = (status(request.clone()).await, status(request.bearer(roleless(idp))).await);
    let expected = match row.check {
        Check::Passes | Check::Attaches => (200, 200),
        Check::NeedsToken => (401, 200),
        Check::NeedsRole => (401, 403),
    };
    assert_eq!((bare, without_role), expected, "{}: without a token, without the role", row.id);
    if row.id == "proof-m2m" {
        let judged = "wasmcustom.m2m_auth_inbound.rule.proven.decision.allowed";
        envoy.wait_for_stat(judged, |count| count > 0).await;
    }
    if let Check::Attaches = row.check {
        wait::until(row.id, async || {
            upstream.forget();
            let answer = client::get(envoy.url(row.id, "/check")).header("host", HOST).send().await;
            let sent = upstream.requests().last().and_then(|request| request.header("authorization"));
            let attached =
                |value: &String| ["Bearer ey", "DPoP ey"].iter().any(|start| value.starts_with(start));
            (answer.status == 200 && sent.is_some_and(|value| attached(&value))).then_some(())
        })
        .await;
    }
}

/// How often some cache has known a token, `jwt_authn`'s and ours.
async fn known_tokens(envoy: &Envoy) -> u64 {
    let stats = envoy.stats("").await;
    let hits = |name: &&String| {
        name.ends_with(".jwt_cache_hit") || *name == "wasmcustom.m2m_auth_token_cache.lookup.hit"
    };
    stats.keys().filter(hits).map(|name| stats[name]).sum()
}

/// Good tokens, each with its own `jti` and so its own signature; signed by two threads.
fn mint(idp: &Idp, count: usize) -> Vec<String> {
    let mut claims = idp.claims();
    claims["exp"] = json!(now() + 3600);
    let one = |number: usize| {
        let mut claims = claims.clone();
        claims["jti"] = json!(format!("trrtcc:bench-{number:06}"));
        Mint::of(claims).sign(&idp.signing_key())
    };
    let half = count / 2;
    thread::scope(|scope| {
        let second = scope.spawn(|| (half..count).map(one).collect::<Vec<_>>());
        let mut tokens: Vec<_> = (0..half).map(one).collect();
        tokens.extend(second.join().expect("signing does not panic"));
        tokens
    })
}

/// A good token with a hundred roles; the one that counts is the last.
fn many_roles(idp: &Idp) -> String {
    let others = (1..100).map(|number| format!("inventory:role-{number:02}"));
    let roles: Vec<_> = others.chain(["inventory:read".to_owned()]).collect();
    let mut claims = idp.claims();
    claims["exp"] = json!(now() + 3600);
    claims["resource_access"]["inventory-service"]["roles"] = json!(roles);
    idp.mint(claims)
}

fn roleless(idp: &Idp) -> String {
    let mut claims = idp.claims();
    claims["resource_access"] = json!({});
    idp.mint(claims)
}

/// The module, if it has been built: the bench does not build it, so that it measures what is
/// there.
fn module() -> Option<PathBuf> {
    let named = env::var_os("M2M_AUTH_WASM").map(PathBuf::from);
    let module = named.unwrap_or_else(|| repository().join("target/m2m_auth.wasm"));
    if module.is_file() {
        return Some(module);
    }
    eprintln!("no {}: only Envoy's own filters are measured; `make wasm` builds it", module.display());
    None
}

/// User and system time of a process so far (`proc_pid_stat(5)`, fields 14 and 15), to a hundredth
/// of a second.
fn cpu_microseconds(process: u32) -> f64 {
    /// `USER_HZ`, which Linux promises to programs whatever the kernel's own rate is.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("Envoy is running, on Linux");
    // The name, field 2, is in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks = rest.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().expect("a number"));
    ticks.sum::<f64>() / TICKS_PER_SECOND * 1e6
}

/// What it ran on, in one paragraph.
async fn machine(envoy: &Envoy, ours: Option<&PathBuf>, token: &str, order: &Order) -> String {
    let info: Value = serde_json::from_str(&envoy.admin_get("/server_info").await).unwrap_or_default();
    // `9e55…/1.40.0/Clean/RELEASE/BoringSSL`
    let version = info["version"].as_str().and_then(|text| text.split('/').nth(1)).unwrap_or("?").to_owned();
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        processor.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("?").to_owned();
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let module = ours.and_then(|path| fs::metadata(path).ok()).map_or_else(
        || "m2m-auth not measured".to_owned(),
        |file| format!("module {} KB", file.len() / 1000),
    );
    format!(
        "Envoy {version}, one worker; {model}, {cores} cores; {module}; {} RS256 tokens of {} bytes; {} rounds of {} s.",
        order.tokens,
        token.len(),
        order.rounds,
        order.seconds,
    )
}

/// The command line.
struct Order {
    rounds: usize,
    seconds: u64,
    tokens: usize,
}

impl Order {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        // 6000 are more than any cache here holds; 5 rounds of 2 s are two minutes.
        let mut order = Self { rounds: 5, seconds: 2, tokens: 6000 };
        while let Some(name) = arguments.next() {
            let value = arguments.next().and_then(|text| text.parse::<u16>().ok()).filter(|value| *value > 0);
            let value = value.ok_or_else(|| format!("{name}: expected a number"))?;
            match name.as_str() {
                "--rounds" => order.rounds = value.into(),
                "--seconds" => order.seconds = value.into(),
                "--tokens" => order.tokens = value.into(),
                _ => {
                    return Err(format!("{name}: no such option, there are --rounds, --seconds, --tokens"));
                }
            }
        }
        Ok(order)
    }
}
