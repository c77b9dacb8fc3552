//! The load: `wrk`, one thread, a few kept connections, each request ready-made before the clock
//! starts.

use crate::rows::{HOST, Load, PATH};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Connections kept open, HTTP/1.1. Enough to keep one worker busy, few enough that none of them
/// starves.
const CONNECTIONS: &str = "16";
/// At least as many requests as may have been sent when the time was up, without being counted.
const CUT_OFF: u64 = 100;

/// Reads one token per line of the file given to it; an empty file means requests without one.
const SCRIPT: &str = r#"
local requests, at = {}, 0
function init(args)
  at = tonumber(args[4])
  wrk.headers["Host"] = args[2]
  for token in io.lines(args[1]) do
    wrk.headers["Authorization"] = "Bearer " .. token
    requests[#requests + 1] = wrk.format("GET", args[3])
  end
  if #requests == 0 then requests[1] = wrk.format("GET", args[3]) end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function done(summary)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d\n", summary.requests, summary.duration, e.status,
    e.connect + e.read + e.write + e.timeout))
end
"#;

/// The driver with its files.
pub(crate) struct Wrk {
    folder: PathBuf,
    /// The next token for each address, so that a run does not begin with the tokens of the last
    /// one.
    next: HashMap<String, u64>,
}

/// What one run did.
pub(crate) struct Run {
    pub(crate) requests: f64,
    pub(crate) per_second: f64,
}

impl Wrk {
    /// Lays its files down; an error when there is no `wrk` here.
    pub(crate) fn new(folder: &Path, tokens: &[String], many_roles: &str) -> Result<Self, String> {
        // It prints its version and ends with 1.
        Command::new("wrk")
            .arg("--version")
            .output()
            .map_err(|error| format!("wrk: {error}: install it first (Debian: apt-get install wrk)"))?;
        let wrk = Self { folder: folder.to_owned(), next: HashMap::new() };
        let lines = |tokens: &[String]| tokens.iter().fold(String::new(), |text, token| text + token + "\n");
        for (name, text) in [
            ("wrk.lua", SCRIPT.to_owned()),
            (file(Load::Bare), String::new()),
            (file(Load::OneToken), lines(&tokens[..1])),
            (file(Load::NewTokens), lines(tokens)),
            (file(Load::ManyRoles), format!("{many_roles}\n")),
        ] {
            fs::write(wrk.folder.join(name), text).map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(wrk)
    }

    /// Loads `host:port` for so many seconds. An answer that is not 2xx is an error.
    pub(crate) fn run(&mut self, address: &str, load: Load, seconds: u64) -> Result<Run, String> {
        let next = self.next.entry(address.to_owned()).or_default();
        let output = Command::new("wrk")
            .current_dir(&self.folder)
            .args(["--threads", "1", "--connections", CONNECTIONS, "--script", "wrk.lua"])
            .args(["--duration", &format!("{seconds}s"), &format!("http://{address}{PATH}"), "--"])
            .args([file(load), HOST, PATH, &next.to_string()])
            .output()
            .map_err(|error| format!("wrk: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let result = text.lines().find_map(|line| line.strip_prefix("RESULT "));
        let numbers = result.into_iter().flat_map(str::split_whitespace);
        let numbers: Vec<u64> = numbers.filter_map(|number| number.parse().ok()).collect();
        match numbers[..] {
            [requests, microseconds, 0, 0] if requests > 0 => {
                *next += requests + CUT_OFF;
                Ok(Run { requests: requests as f64, per_second: requests as f64 / microseconds as f64 * 1e6 })
            }
            _ => {
                let errors = String::from_utf8_lossy(&output.stderr);
                Err(format!("not every request was answered well:\n{text}{errors}"))
            }
        }
    }
}

fn file(load: Load) -> &'static str {
    match load {
        Load::Bare | Load::Proven => "no-token",
        Load::OneToken => "one-token",
        Load::NewTokens => "new-tokens",
        Load::ManyRoles => "many-roles",
    }
}
