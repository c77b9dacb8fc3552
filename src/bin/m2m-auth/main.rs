//! The command-line tool: checks configurations and explains decisions without an Envoy.
//!
//! It runs the filter's own code, and has no rules of its own.

#![allow(
    clippy::missing_docs_in_private_items,
    clippy::print_stdout,
    reason = "a command-line tool prints its results"
)]

mod check;
mod deployment;
mod document;
mod environment;
mod explain;
mod finding;
mod key_set;
mod offline;
mod proto;
mod reasons;
mod request_headers;
mod schema;

use clap::{Parser, Subcommand};
use std::io::Write as _;
use std::process::ExitCode;

/// Checks configurations of the m2m-auth filter, and explains its decisions, without an Envoy.
#[derive(Parser)]
#[command(name = "m2m-auth", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::CheckArguments),
    Explain(Box<explain::ExplainArguments>),
    Reasons(reasons::ReasonsArguments),
    Schema(schema::SchemaArguments),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For reading.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The result of a command.
struct CommandOutput {
    output: String,
    code: u8,
}

/// The result cannot be determined: wrong usage, an unreadable file, or no valid configuration.
/// Exit code 2.
struct CommandError(String);

const EXIT_UNDETERMINED: u8 = 2;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Check(arguments) => Ok(check::run(&arguments)),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Reasons(arguments) => Ok(reasons::run(&arguments)),
        Command::Schema(arguments) => Ok(schema::run(&arguments)),
    };
    match done {
        Ok(CommandOutput { output, code }) => {
            // The reader may have closed the pipe.
            let _ = std::io::stdout().write_all(output.as_bytes());
            ExitCode::from(code)
        }
        Err(CommandError(why)) => {
            let _ = writeln!(std::io::stderr(), "m2m-auth: {why}");
            ExitCode::from(EXIT_UNDETERMINED)
        }
    }
}

/// The content of a file; `-` is the standard input.
fn read(file: &str) -> Result<String, CommandError> {
    let content =
        if file == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    content.map_err(|error| CommandError(format!("{file}: {error}")))
}
