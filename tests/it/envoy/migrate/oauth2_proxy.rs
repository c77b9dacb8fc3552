//! From oauth2-proxy, used for bearer tokens: the real program, which `make` builds, with the flags
//! of the page.

use super::jwt_authn::{start, target};
use super::page::Page;
use super::requests::{Target, ask};
use super::{listener, provider};
use m2m_auth_kit::client;
use m2m_auth_kit::idp::{Endpoint, Idp};
use m2m_auth_kit::tools::{self, tied_to_us};
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

fn page() -> Page {
    Page::read("oauth2-proxy")
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The page's command, with the addresses of the test.
fn flags(page: &Page, idp: &Idp, upstream: &Upstream, port: u16) -> Vec<String> {
    let command = page.blocks("sh").into_iter().find(|block| block.starts_with("oauth2-proxy ")).unwrap();
    let flags = command.replace("\\\n", " ");
    let flags = flags.split_whitespace().skip(1).map(|flag| flag.replace('\'', ""));
    let value = |flag: &str| match flag {
        "--http-address" => Some(format!("127.0.0.1:{port}")),
        "--oidc-jwks-url" => Some(format!("http://{}{}", idp.address(), idp.path(Endpoint::Keys))),
        "--upstream" => Some(upstream.url("")),
        _ => None,
    };
    flags
        .map(|flag| {
            let name = flag.split('=').next().unwrap().to_owned();
            value(&name).map_or(flag, |value| format!("{name}={value}"))
        })
        .collect()
}

#[tokio::test]
async fn both_answer_as_the_page_says() {
    let (idp, upstream, page) = (provider().await, Upstream::start().await, page());
    let envoy = start(&idp, &upstream, vec![listener("ours", page.block("m2m-auth"))]).await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let flags = flags(&page, &idp, &upstream, port);
    let mut command = tied_to_us(&tools::oauth2_proxy());
    command.args(&flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _running = Running(command.spawn().unwrap());
    let origin = format!("http://127.0.0.1:{port}");
    let ping = client::get(format!("{origin}/ping"));
    until("oauth2-proxy listens", async || ping.try_send().await.ok()).await;
    let native = Target { idp: &idp, origin };
    let seen = ask(&native, &target(&envoy, &idp, "ours"), "x-forwarded-user").await;
    page.compare("oauth2-proxy", &seen);
}

#[test]
fn the_tables_have_every_flag() {
    let help = Command::new(tools::oauth2_proxy()).arg("--help").output().unwrap();
    let help = format!("{}{}", String::from_utf8_lossy(&help.stdout), String::from_utf8_lossy(&help.stderr));
    let flags: BTreeSet<String> = help
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--"))
        .map(|line| format!("--{}", line.split_whitespace().next().unwrap()))
        .collect();
    assert!(flags.len() > 100, "{flags:?}");
    assert_eq!(page().first_column("## Flags"), flags);
}
