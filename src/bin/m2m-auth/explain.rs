//! `explain`: the decision about one request by the filter's own code, with every step.

use crate::document::{self, PluginConfig};
use crate::offline::{FETCHED, OfflineWorker};
use crate::{CommandError, CommandOutput, Format, environment, key_set, read, request_headers};
use m2m_auth::decision_trace::DecisionStep;
use m2m_auth::filter::header_edits::{Edit, HeaderEdits};
use m2m_auth::http::message::{LocalReply, MessageHead, Route};
use m2m_auth::inbound::refusal::reason::Reason;
use m2m_auth::plugin;
use m2m_auth::policy::Policy;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Explain what the filter decides about a request, with every step; offline.
///
/// Exit code: 0 accepted, 1 refused, 2 cannot be determined (wrong usage, errors in the
/// configuration, missing keys). Tokens are never printed.
#[derive(clap::Args)]
#[command(after_help = FETCH_KEYS)]
pub(crate) struct ExplainArguments {
    /// The configuration: Envoy's, Istio's or bare, YAML or JSON; `-` is the standard input.
    #[arg(long, value_name = "FILE")]
    config: String,
    /// The name of the plugin, if the file has several.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// The key set (JWKS) of an issuer, by its name in the configuration. If it is missing, or
    /// does not contain the token's key, the command that fetches it is printed.
    #[arg(long, value_name = "ISSUER=FILE")]
    jwks: Vec<String>,
    /// The current time, in seconds since 1970. Default: the system clock.
    #[arg(long, value_name = "SECONDS")]
    now: Option<u64>,
    #[arg(long, default_value = "GET")]
    method: String,
    /// `:authority`.
    #[arg(long, default_value = "localhost")]
    host: String,
    /// With its query.
    #[arg(long, default_value = "/")]
    path: String,
    /// A header of the request. `@FILE` reads header lines from a file, `@-` from the standard
    /// input, so that a token is neither in the shell's history nor in the list of processes.
    #[arg(long, value_name = "NAME: VALUE|@FILE")]
    header: Vec<String>,
    /// The Envoy cluster to which the request is routed, for rules that match it.
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The credential that the route's metadata names, for rules with `route_metadata`.
    #[arg(long, value_name = "NAME")]
    route_credential: Option<String>,
    /// The SHA-256 of the client's certificate, in hexadecimal, for rules with `token_binding:
    /// mtls`.
    #[arg(long, value_name = "HEX")]
    client_certificate: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// After the options in `--help`.
const FETCH_KEYS: &str = "\
Fetch the key set of an issuer, for example of \"keycloak\":
  curl -fsS ISSUER/.well-known/openid-configuration   # contains `jwks_uri`
  curl -fsS JWKS_URI > keycloak.jwks.json
  m2m-auth explain --config envoy.yaml --jwks keycloak=keycloak.jwks.json --path /orders --header @headers.txt

headers.txt contains lines such as \"authorization: Bearer …\". Without --jwks, the commands are
printed with the URLs of your configuration.";

/// The explained decision.
struct Explanation {
    steps: Vec<DecisionStep>,
    rule: Option<String>,
    outbound_rule: Option<String>,
    credential: Option<String>,
    end: Result<Vec<(String, Option<String>)>, LocalReply>,
    /// The commands that fetch the key set, if it does not contain the token's key.
    fetch_keys: Vec<String>,
    /// The refusal that the rule's mode suppressed, as the audit log has it.
    would_refuse: Option<Value>,
}

pub(crate) fn run(arguments: &ExplainArguments) -> Result<CommandOutput, CommandError> {
    let plugin = chosen(arguments)?;
    let configuration =
        plugin.configuration.clone().map_err(|why| CommandError(format!("{}: {why}", plugin.at())))?;
    let compile = || {
        environment::read(&plugin, &configuration, false).policy.map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            CommandError(format!("errors in the configuration:\n{}", lines.join("\n")))
        })
    };
    let (policy, keys) = (compile()?, keys(&compile()?, arguments)?);
    let mut worker = OfflineWorker::new(compile()?, policy, keys);
    let now = arguments.now.unwrap_or_else(seconds);
    let Some((end, steps)) = worker.ask(head(arguments)?, now) else {
        return Err(CommandError(
            "cannot be determined offline: the filter would wait for its provider".to_owned(),
        ));
    };
    if let plugin::RequestOutcome::Respond(response) = &end
        && reason(&body(response)) == Some(Reason::JwksUnavailable)
    {
        let log_lines = worker.log_lines.join("\n");
        let issuer = worker.needed_key_set(&steps);
        let problem = match issuer {
            Some(issuer) if worker.is_missing(issuer) => {
                format!("missing key set of {0}, expected --jwks {0}=FILE", issuer.name)
            }
            Some(_) | None => format!("no usable key set:\n{log_lines}"),
        };
        let commands = issuer.map(key_set::fetch_commands).unwrap_or_default();
        return Err(CommandError(with_commands(problem, "fetch it", &commands)));
    }
    let fetch_keys = match &end {
        plugin::RequestOutcome::Respond(response) if reason(&body(response)) == Some(Reason::UnknownKey) => {
            worker.searched_key_set().map(key_set::fetch_commands).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    let json = serde_json::from_slice(&configuration).unwrap_or_default();
    let explanation = Explanation {
        fetch_keys,
        would_refuse: worker.would_refuse,
        ..Explanation::of(steps, end, &compile()?, &json, arguments)?
    };
    let output = match arguments.format {
        Format::Text => explanation.text(),
        Format::Json => explanation.json().to_string() + "\n",
    };
    Ok(CommandOutput { output, code: u8::from(explanation.decision() == "refuse") })
}

/// A message, with commands below it.
fn with_commands(mut message: String, what: &str, commands: &[String]) -> String {
    if !commands.is_empty() {
        _ = write!(message, "\n{what}:");
        for line in commands {
            _ = write!(message, "\n  {line}");
        }
    }
    message
}

/// The plugin that the arguments select.
fn chosen(arguments: &ExplainArguments) -> Result<PluginConfig, CommandError> {
    let file = &arguments.config;
    let found = document::find(&read(file)?).map_err(|why| CommandError(format!("{file}: {why}")))?;
    let names: Vec<String> = found.plugins.iter().map(|plugin| plugin.name.clone()).collect();
    let meant = |plugin: &PluginConfig| arguments.plugin.as_ref().is_none_or(|name| plugin.name == *name);
    let mut plugins = found.plugins.into_iter().filter(meant);
    match (plugins.next(), plugins.next()) {
        (Some(plugin), None) => Ok(plugin),
        (None, _) if names.is_empty() => {
            Err(CommandError(format!("{file}: no configuration of this filter")))
        }
        _ => Err(CommandError(format!(
            "{file}: several plugins, expected --plugin with one of: {}",
            names.join(", ")
        ))),
    }
}

/// The key sets from the arguments, in the order of the issuers.
fn keys(policy: &Policy, arguments: &ExplainArguments) -> Result<Vec<Option<Vec<u8>>>, CommandError> {
    let mut keys = vec![None; policy.issuers.len()];
    for given in &arguments.jwks {
        let (name, file) = given
            .split_once('=')
            .ok_or_else(|| CommandError(format!("--jwks {given}: expected ISSUER=FILE")))?;
        let names: Vec<&str> = policy.issuers.iter().map(|issuer| issuer.name.as_str()).collect();
        let entry = names.iter().position(|known| *known == name).and_then(|index| keys.get_mut(index));
        let entry = entry.ok_or_else(|| {
            CommandError(format!(
                "--jwks {name}: no issuer of that name, expected one of: {}",
                names.join(", ")
            ))
        })?;
        *entry = Some(read(file)?.into_bytes());
    }
    Ok(keys)
}

fn head(arguments: &ExplainArguments) -> Result<MessageHead, CommandError> {
    let pseudo = [
        (":method", &arguments.method),
        (":scheme", &"https".to_owned()),
        (":authority", &arguments.host),
        (":path", &arguments.path),
    ]
    .map(|(name, value)| (name.to_owned(), value.clone()));
    let mut fields = Vec::from(pseudo);
    fields.extend(request_headers::read(&arguments.header, &arguments.config)?);
    let bytes = |value: &Option<String>| value.as_ref().map(|value| value.clone().into_bytes());
    let route = Route { cluster: bytes(&arguments.cluster), credential: bytes(&arguments.route_credential) };
    let certificate = bytes(&arguments.client_certificate);
    Ok(fields.into_iter().collect::<MessageHead>().with_route(route).with_client_certificate(certificate))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command-line tool has a clock, and hands its time to the core"
)]
fn seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |span| span.as_secs())
}

impl Explanation {
    fn of(
        steps: Vec<DecisionStep>,
        end: plugin::RequestOutcome,
        policy: &Policy,
        written: &Value,
        arguments: &ExplainArguments,
    ) -> Result<Self, CommandError> {
        let end = match end {
            plugin::RequestOutcome::Forward(edits) => Ok(changes(&edits)),
            plugin::RequestOutcome::Respond(response) => Err(response),
            plugin::RequestOutcome::Wait => {
                return Err(CommandError("cannot be determined offline: the filter still waits".to_owned()));
            }
        };
        let mut this = Self {
            steps: Vec::new(),
            rule: None,
            outbound_rule: None,
            credential: None,
            end,
            fetch_keys: Vec::new(),
            would_refuse: None,
        };
        let inbound =
            policy.inbound.iter().flat_map(|inbound| &inbound.rules).map(|rule| rule.name.to_string());
        // Rules with `route_metadata` match only routes that name a credential.
        let rules = policy
            .outbound
            .iter()
            .zip(0..)
            .filter(|(rule, _)| rule.credential.is_some() || arguments.route_credential.is_some());
        let mut inbound = inbound.zip(0_usize..);
        let mut outbound = rules.map(|(rule, index)| (rule.name.to_string(), index));
        let mut is_inbound = policy.inbound.is_some();
        for DecisionStep { check: what, passed: holds, detail } in steps {
            match what {
                "rule" => (this.rule, is_inbound) = (Some(detail), false),
                "outbound rule" => this.outbound_rule = Some(detail),
                "match" => {
                    let (what, direction, next) = if is_inbound {
                        ("rule", "inbound", inbound.next())
                    } else {
                        ("outbound rule", "outbound", outbound.next())
                    };
                    let (name, index) = next.unwrap_or_default();
                    let condition =
                        written.get(direction).and_then(|rules| rules.get("rules")?.get(index)?.get("match"));
                    let condition = condition.map_or_else(|| "every request".to_owned(), Value::to_string);
                    let detail = if holds {
                        format!("{name}: {condition}")
                    } else {
                        format!("{name}: {condition}, {detail}")
                    };
                    this.steps.push(DecisionStep { check: what, passed: holds, detail });
                }
                _ => {
                    if what == "credential" {
                        this.credential = Some(detail.clone());
                    }
                    this.steps.push(DecisionStep { check: what, passed: holds, detail });
                }
            }
        }
        Ok(this)
    }

    /// The filter may also answer the request itself (RFC 9728), which is not a refusal.
    fn decision(&self) -> &'static str {
        match &self.end {
            Ok(_) => "accept",
            Err(response) if response.status < 400 => "answer",
            Err(_) => "refuse",
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for DecisionStep { check: what, passed: holds, detail } in &self.steps {
            _ = writeln!(text, "{what:<13} {} {}", if *holds { "ok" } else { "no" }, line(detail));
        }
        match &self.end {
            Ok(changes) => {
                for (header, value) in changes {
                    _ = match value {
                        Some(value) => writeln!(text, "{:<13} ok {header}: {}", "set", line(value)),
                        None => writeln!(text, "{:<13} ok {header}", "remove"),
                    };
                }
                let Some((line, reason)) =
                    self.would_refuse.as_ref().and_then(|line| Some((line, reason(line)?)))
                else {
                    text.push_str("accepted\n");
                    return text;
                };
                let message = line.get("message").and_then(Value::as_str).unwrap_or_default();
                let row = reason.row();
                let (status, error) = (row.class.status, row.class.error);
                _ = writeln!(text, "accepted, because the rule is not enforced");
                _ = writeln!(text, "would be refused: {status} {error} ({}): {message}", row.name);
                _ = writeln!(text, "what to do: {}", row.what_to_do);
            }
            Err(response) => {
                let body = body(response);
                let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
                if response.status < 400 {
                    _ = writeln!(text, "answered: {} {}", response.status, response.body);
                    return text;
                }
                _ = writeln!(
                    text,
                    "refused: {} {} ({}): {}",
                    response.status,
                    field("error"),
                    field("reason"),
                    field("message")
                );
                for (name, value) in response.headers.iter().filter(|(name, _)| *name == "www-authenticate") {
                    _ = writeln!(text, "{name}: {value}");
                }
                if let Some(what_to_do) = what_to_do(&body) {
                    _ = writeln!(text, "what to do: {what_to_do}");
                }
                if !self.fetch_keys.is_empty() {
                    let advice = "the key set does not contain the key".to_owned();
                    _ = writeln!(
                        text,
                        "{}",
                        with_commands(advice, "fetch the current one", &self.fetch_keys)
                    );
                }
            }
        }
        text
    }

    fn json(&self) -> Value {
        let steps = self
            .steps
            .iter()
            .map(|step| json!({ "step": step.check, "ok": step.passed, "detail": step.detail }));
        let changes =
            self.end.iter().flatten().map(|(header, value)| json!({ "header": header, "value": value }));
        let (response, body) =
            (self.end.as_ref().err(), self.end.as_ref().err().map(body).unwrap_or_default());
        json!({
            "decision": self.decision(),
            "status": response.map(|response| response.status),
            "error": body.get("error"),
            "reason": body.get("reason"),
            "message": body.get("message"),
            "what_to_do": what_to_do(&body),
            "would_refuse": self.would_refuse.as_ref().map(|line| json!({
                "reason": line.get("reason"),
                "message": line.get("message"),
                "what_to_do": what_to_do(line),
            })),
            "fetch_keys": self.fetch_keys,
            "headers": response.map(|response| response.headers.iter().map(|(name, value)| json!({ "header": name, "value": value })).collect::<Vec<_>>()),
            "rule": self.rule,
            "outbound_rule": self.outbound_rule,
            "credential": self.credential,
            "steps": steps.collect::<Vec<_>>(),
            "changes": changes.collect::<Vec<_>>(),
        })
    }
}

fn body(response: &LocalReply) -> Value {
    serde_json::from_str(&response.body).unwrap_or_default()
}

fn what_to_do(body: &Value) -> Option<&'static str> {
    reason(body).map(|reason| reason.row().what_to_do)
}

fn reason(body: &Value) -> Option<Reason> {
    Reason::from_name(body.get("reason").and_then(Value::as_str)?)
}

/// The text, without the values of its `name=value` pairs.
fn without_values(text: &str, separators: &[char]) -> String {
    let pairs = text.split_inclusive(separators).map(|pair| {
        let end = if pair.ends_with(separators) { pair.len().saturating_sub(1) } else { pair.len() };
        let (pair, separator) = pair.split_at(end);
        match pair.split_once('=') {
            Some((name, value)) => format!("{name}=<{} bytes>{separator}", value.len()),
            None => format!("{pair}{separator}"),
        }
    });
    pairs.collect()
}

/// A line for a terminal: what a token or a request contains can neither end the line nor control
/// the terminal.
fn line(text: &str) -> String {
    let escaped = |c: char| -> String {
        if matches!(c, '"' | '\'' | '\\') { c.to_string() } else { c.escape_debug().to_string() }
    };
    text.chars().map(escaped).collect()
}

/// Headers that are set, or removed if there is no value. Possible tokens are not printed.
fn changes(edits: &HeaderEdits) -> Vec<(String, Option<String>)> {
    let printed = |name: &str, value: &[u8]| {
        let text = String::from_utf8_lossy(value);
        // What is left beside a token that was removed may be a token too.
        match name {
            "cookie" => return without_values(&text, &[';']),
            ":path" => return without_values(&text, &['?', '&']),
            _ => {}
        }
        let words = text.split(' ').map(|word| match word {
            FETCHED => "<its token>".to_owned(),
            // The beginning of every JWT, and of its payload.
            _ if word.starts_with("eyJ") => format!("<{} bytes>", word.len()),
            _ => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    };
    let change = |edit: &Edit| match edit {
        Edit::Remove(name) => (name.to_string(), None),
        Edit::Set(name, value) => (name.to_string(), Some(printed(name, value))),
    };
    edits.headers.iter().map(change).collect()
}
