//! The post-link step: a linked proxy-wasm module in, the module that is shipped out.
//!
//! Envoy enters the VM for every callback that a module exports, about 0.8 µs each, for every
//! request and every chunk of a body, and the SDK exports all of them whether the filter uses them
//! or not. So the exports that the filter has no use for go, then the functions that nothing
//! reaches any more, then names and other custom sections. A module that lacks a required export is
//! refused: without `proxy_on_request_headers` Envoy would load it and forward every request.
//!
//! It does not optimise: what code there is stays as the compiler left it.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use walrus::{ExportItem, FunctionBuilder, FunctionKind, Module, ModuleConfig};

/// What stays exported, and why. Every line is required: a module without it is refused.
const KEEP: &[(&str, Kind, &str)] = &[
    ("memory", Kind::Memory, "the host reads and writes headers, bodies and keys through it"),
    ("_initialize", Kind::Function, "runs the module's `main!`, which registers the root context"),
    ("proxy_abi_version_0_2_1", Kind::Function, "declares the ABI version; without it: not loaded"),
    ("proxy_on_memory_allocate", Kind::Function, "the host allocates here whatever a host call gives back"),
    ("proxy_on_context_create", Kind::Function, "a context for the plugin, and one for each request"),
    (
        "proxy_on_vm_start",
        Kind::Function,
        "the SDK answers `true` here; the root context reads its start here",
    ),
    ("proxy_on_configure", Kind::Function, "reads the configuration, refuses a wrong one"),
    ("proxy_on_tick", Kind::Function, "fetches and renews key sets and tokens"),
    (
        "proxy_on_request_headers",
        Kind::Function,
        "the decision itself: without it every request is forwarded",
    ),
    (
        "proxy_on_response_headers",
        Kind::Function,
        "sees a 401 to a token that was attached, before Envoy tries again",
    ),
    (
        "proxy_on_response_trailers",
        Kind::Function,
        "sees `UNAUTHENTICATED` behind the messages of a gRPC call",
    ),
    ("proxy_on_http_call_response", Kind::Function, "the identity provider's answers; resumes who waits"),
    ("proxy_on_delete", Kind::Function, "frees the context of a request: without it the VM leaks"),
];

/// What is never run, by the end of its symbol (before the hash, if there is one), and why: its
/// body becomes `unreachable`.
///
/// The standard library's own panic hook prints a backtrace with readable names, 45 KB of code. The
/// filter installs its own panic hook, which logs through the host. Without any hook a panic still
/// ends the VM.
///
/// List only whole names of functions that no other function equals. The compiler merges functions
/// with equal bodies and keeps either name, so all of `rustc_demangle`, for example, holds code
/// that other crates run.
const NEVER_RUN: &[&str] = &["3std9panicking12default_hook"];

const USAGE: &str = "\
usage: m2m-auth-trim [--keep NAME]... [--keep-all] INPUT.wasm OUTPUT.wasm

  --keep NAME   keep this export too (it must exist)
  --keep-all    drop no export, only names and other custom sections";

fn main() -> ExitCode {
    let outcome = match Order::read(std::env::args().skip(1)) {
        Ok(Some(order)) => run(&order),
        Ok(None) => Ok(USAGE.to_owned()),
        Err(error) => Err(Problem::Usage(error)),
    };
    // A closed pipe on the other side is no reason to fail: the file is written by now.
    match outcome {
        Ok(line) => {
            let _ = writeln!(io::stdout(), "{line}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            let _ = writeln!(io::stderr(), "m2m-auth-trim: {problem}");
            ExitCode::from(problem.exit_code())
        }
    }
}

/// Reads, trims, checks its own work, and only then writes.
fn run(order: &Order) -> Result<String, Problem> {
    let file = |path: &PathBuf, error: &io::Error| Problem::File(path.clone(), error.to_string());
    let input = std::fs::read(&order.input).map_err(|error| file(&order.input, &error))?;
    let trimmed = trim(&input, &order.exports)?;
    std::fs::write(&order.output, &trimmed.wasm).map_err(|error| file(&order.output, &error))?;
    Ok(trimmed.report(input.len()))
}

/// The module with only the exports asked for, and without what those do not reach.
fn trim(input: &[u8], exports: &Exports) -> Result<Trimmed, Problem> {
    let mut module = parse(input)?;
    require(&module, exports)?;

    let dropped = match exports {
        Exports::All => Vec::new(),
        Exports::Needed { also } => {
            empty_what_is_never_run(&mut module);
            drop_exports(&mut module, also)
        }
    };
    walrus::passes::gc::run(&mut module);
    drop_custom_sections(&mut module);

    let wasm = module.emit_wasm();
    require(&parse(&wasm)?, exports)?;
    Ok(Trimmed { wasm, dropped })
}

/// Each function keeps its index, since tables and data may refer to it.
fn empty_what_is_never_run(module: &mut Module) {
    let never_run = |id| module.funcs.get(id).name.as_deref().is_some_and(is_never_run);
    let ids: Vec<_> = module.funcs.iter_local().map(|(id, _)| id).filter(|id| never_run(*id)).collect();
    for id in ids {
        let (params, results) = module.types.params_results(module.funcs.get(id).ty());
        let (params, results) = (params.to_vec(), results.to_vec());
        let arguments = params.iter().map(|kind| module.locals.add(*kind)).collect();
        let mut empty = FunctionBuilder::new(&mut module.types, &params, &results);
        empty.func_body().unreachable();
        module.funcs.get_mut(id).kind = FunctionKind::Local(empty.local_func(arguments));
    }
}

/// Compares the whole name: a v0 symbol ends with it, a legacy symbol continues with its hash.
fn is_never_run(symbol: &str) -> bool {
    NEVER_RUN.iter().any(|name| symbol.ends_with(name) || symbol.contains(&format!("{name}17h")))
}

fn parse(wasm: &[u8]) -> Result<Module, Problem> {
    ModuleConfig::new()
        .generate_name_section(false)
        .generate_producers_section(false)
        .parse(wasm)
        .map_err(|error| Problem::NotAModule(format!("{error:#}")))
}

/// Everything of [`KEEP`] and everything asked for by name must be there, and be what it should be.
fn require(module: &Module, exports: &Exports) -> Result<(), Problem> {
    let has = |name: &str, kind: Option<Kind>| {
        module.exports.iter().any(|e| e.name == name && kind.is_none_or(|kind| kind.is(&e.item)))
    };
    let needed = KEEP.iter().filter(|(name, kind, _)| !has(name, Some(*kind))).map(|(name, ..)| *name);
    let missing: Vec<String> = match exports {
        Exports::All => needed.map(str::to_owned).collect(),
        Exports::Needed { also } => {
            let asked = also.iter().map(String::as_str).filter(|name| !has(name, None));
            needed.chain(asked).map(str::to_owned).collect()
        }
    };
    if missing.is_empty() { Ok(()) } else { Err(Problem::Missing(missing)) }
}

fn drop_exports(module: &mut Module, also: &BTreeSet<String>) -> Vec<String> {
    let keeps = |name: &str| KEEP.iter().any(|(keep, ..)| *keep == name) || also.contains(name);
    let (ids, mut names): (Vec<_>, Vec<_>) =
        module.exports.iter().filter(|e| !keeps(&e.name)).map(|e| (e.id(), e.name.clone())).unzip();
    for id in ids {
        module.exports.delete(id);
    }
    names.sort();
    names
}

/// Names, producers, debug information, target features: nothing in them is executed.
fn drop_custom_sections(module: &mut Module) {
    let ids: Vec<_> = module.customs.iter().map(|(id, _)| id).collect();
    for id in ids {
        module.customs.delete(id);
    }
}

/// What an export of [`KEEP`] must be.
#[derive(Clone, Copy)]
enum Kind {
    Function,
    Memory,
}

impl Kind {
    fn is(self, item: &ExportItem) -> bool {
        match self {
            Self::Function => matches!(item, ExportItem::Function(_)),
            Self::Memory => matches!(item, ExportItem::Memory(_)),
        }
    }
}

struct Trimmed {
    wasm: Vec<u8>,
    dropped: Vec<String>,
}

impl Trimmed {
    fn report(&self, before: usize) -> String {
        let dropped = if self.dropped.is_empty() { "none".to_owned() } else { self.dropped.join(" ") };
        format!("{before} bytes -> {} bytes, exports dropped: {dropped}", self.wasm.len())
    }
}

/// The command line.
#[derive(Debug, PartialEq)]
struct Order {
    input: PathBuf,
    output: PathBuf,
    exports: Exports,
}

/// Which exports stay.
#[derive(Debug, PartialEq)]
enum Exports {
    All,
    Needed { also: BTreeSet<String> },
}

impl Order {
    /// `None`: help was asked for.
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let (mut all, mut also, mut paths) = (false, BTreeSet::new(), Vec::new());
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "-h" | "--help" => return Ok(None),
                "--keep-all" => all = true,
                "--keep" => {
                    also.insert(arguments.next().ok_or("--keep: expected the name of an export")?);
                }
                option if option.starts_with('-') => return Err(format!("{option}: no such option")),
                path => paths.push(PathBuf::from(path)),
            }
        }
        let [input, output] = <[PathBuf; 2]>::try_from(paths)
            .map_err(|paths| format!("{} paths, expected two: INPUT.wasm OUTPUT.wasm", paths.len()))?;
        let exports = if all { Exports::All } else { Exports::Needed { also } };
        Ok(Some(Self { input, output, exports }))
    }
}

/// Why there is no output.
#[derive(Debug, PartialEq)]
enum Problem {
    Usage(String),
    File(PathBuf, String),
    NotAModule(String),
    Missing(Vec<String>),
}

impl Problem {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::File(..) | Self::NotAModule(_) | Self::Missing(_) => 1,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => write!(f, "{error}\n{USAGE}"),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::NotAModule(error) => write!(f, "not a valid wasm module: {error}"),
            Self::Missing(names) => {
                write!(f, "exports missing: {}; such a module must not be shipped", names.join(" "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOK: &str = "_RNvNtCset5xJoy1xWQ_3std9panicking12default_hook";

    /// A module that exports all of `KEEP`, less `without`, and more of what the SDK exports.
    fn module(without: &str) -> Vec<u8> {
        let kept: String = KEEP
            .iter()
            .filter(|(name, ..)| *name != without)
            .map(|(name, kind, _)| match kind {
                Kind::Memory => format!("(export \"{name}\" (memory $memory))"),
                Kind::Function => format!("(func (export \"{name}\"))"),
            })
            .collect();
        let text = format!(
            r#"(module
                (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
                (import "env" "proxy_done" (func $done (result i32)))
                (import "env" "only_for_the_hook" (func $only_for_the_hook))
                (memory $memory 1)
                (table 1 funcref)
                (elem (i32.const 0) $in_the_table)
                (func ${HOOK} (param i32) (result i64) (call $only_for_the_hook) (i64.const 0))
                (func $in_the_table (drop (call ${HOOK} (i32.const 0))) (drop (call $log (i32.const 0) (i32.const 0) (i32.const 0))))
                (func $only_for_the_body (result i32) (call $done))
                (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $only_for_the_body))
                (func (export "proxy_on_log") (param i32))
                (export "__indirect_function_table" (table 0))
                (func (export "indirectly") (call_indirect (i32.const 0)))
                (@custom "producers" "\00")
                (@custom ".debug_info" "a very long story")
                {kept})"#
        );
        wat::parse_str(text).unwrap()
    }

    fn needed(also: &[&str]) -> Exports {
        Exports::Needed { also: also.iter().map(|name| (*name).to_owned()).collect() }
    }

    fn exports(wasm: &[u8]) -> BTreeSet<String> {
        parse(wasm).unwrap().exports.iter().map(|export| export.name.clone()).collect()
    }

    fn names(wanted: &[&str]) -> BTreeSet<String> {
        KEEP.iter().map(|(name, ..)| *name).chain(wanted.iter().copied()).map(str::to_owned).collect()
    }

    #[test]
    fn only_what_the_filter_needs_stays_exported() {
        let trimmed = trim(&module(""), &needed(&[])).unwrap();
        assert_eq!(exports(&trimmed.wasm), names(&[]));
        assert_eq!(
            trimmed.dropped,
            ["__indirect_function_table", "indirectly", "proxy_on_log", "proxy_on_request_body"]
        );
    }

    #[test]
    fn what_nothing_reaches_any_more_is_gone_with_its_imports() {
        let before = parse(&module("")).unwrap();
        let after = parse(&trim(&module(""), &needed(&[])).unwrap().wasm).unwrap();
        assert!(before.imports.find("env", "proxy_done").is_some());
        assert!(after.imports.find("env", "proxy_done").is_none());
        assert!(after.funcs.iter().count() < before.funcs.iter().count());
    }

    #[test]
    fn what_is_reached_only_through_the_table_stays() {
        let after = parse(&trim(&module(""), &needed(&["indirectly"])).unwrap().wasm).unwrap();
        assert!(after.imports.find("env", "proxy_log").is_some());
        assert_eq!(after.tables.iter().count(), 1);
    }

    #[test]
    fn what_is_never_run_is_emptied_in_place() {
        let imports = |exports: &Exports| {
            let module = parse(&trim(&module(""), exports).unwrap().wasm).unwrap();
            module.imports.find("env", "only_for_the_hook").is_some()
        };
        assert!(!imports(&needed(&["indirectly"])));
        assert!(imports(&Exports::All));
    }

    #[test]
    fn only_the_whole_name_is_never_run() {
        for hook in [HOOK, "_ZN3std9panicking12default_hook17h0123456789abcdefE"] {
            assert!(is_never_run(hook), "{hook}");
        }
        for other in [
            "_RNCNvNtCset5xJoy1xWQ_3std9panicking12default_hook0B5_",
            "_ZN3std9panicking12default_hook28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE",
            "_ZN14rustc_demangle6legacy8Demangle3fmt17h0123456789abcdefE",
        ] {
            assert!(!is_never_run(other), "{other}");
        }
    }

    #[test]
    fn no_custom_section_is_left() {
        for keep in [needed(&[]), Exports::All] {
            let wasm = trim(&module(""), &keep).unwrap().wasm;
            assert_eq!(parse(&wasm).unwrap().customs.iter().count(), 0);
            for section in ["producers", "name", ".debug_info", "walrus"] {
                assert!(!wasm.windows(section.len()).any(|w| w == section.as_bytes()), "{section}");
            }
        }
    }

    #[test]
    fn each_missing_export_is_refused_by_name() {
        for (name, ..) in KEEP {
            for exports in [needed(&[]), Exports::All] {
                let problem = trim(&module(name), &exports).err();
                assert_eq!(problem, Some(Problem::Missing(vec![(*name).to_owned()])));
            }
        }
    }

    #[test]
    fn an_export_of_the_right_name_and_the_wrong_kind_is_missing() {
        let mut wrong = parse(&module("proxy_on_request_headers")).unwrap();
        let memory = wrong.memories.iter().next().unwrap().id();
        wrong.exports.add("proxy_on_request_headers", memory);
        let problem = trim(&wrong.emit_wasm(), &needed(&[])).err();
        assert_eq!(problem, Some(Problem::Missing(vec!["proxy_on_request_headers".to_owned()])));
    }

    #[test]
    fn keep_all_drops_no_export() {
        let trimmed = trim(&module(""), &Exports::All).unwrap();
        assert_eq!(exports(&trimmed.wasm), exports(&module("")));
        assert!(trimmed.dropped.is_empty());
        assert!(trimmed.wasm.len() < module("").len());
    }

    #[test]
    fn keep_adds_to_the_list_and_must_exist() {
        let trimmed = trim(&module(""), &needed(&["proxy_on_log"])).unwrap();
        assert_eq!(exports(&trimmed.wasm), names(&["proxy_on_log"]));
        let problem = trim(&module(""), &needed(&["proxy_on_lag"])).err();
        assert_eq!(problem, Some(Problem::Missing(vec!["proxy_on_lag".to_owned()])));
    }

    #[test]
    fn trimming_twice_changes_nothing_more() {
        let once = trim(&module(""), &needed(&[])).unwrap().wasm;
        let twice = trim(&once, &needed(&[])).unwrap();
        assert_eq!(once, twice.wasm);
        assert!(twice.dropped.is_empty());
    }

    #[test]
    fn what_is_no_module_is_refused() {
        for input in [&b""[..], b"\0asm", b"not wasm at all", &module("")[..100]] {
            assert!(matches!(trim(input, &needed(&[])), Err(Problem::NotAModule(_))));
        }
    }

    #[test]
    fn the_report_says_how_big_it_was_how_big_it_is_and_what_went() {
        let trimmed = Trimmed { wasm: vec![0; 7], dropped: vec!["a".to_owned(), "b".to_owned()] };
        assert_eq!(trimmed.report(12), "12 bytes -> 7 bytes, exports dropped: a b");
        let trimmed = Trimmed { wasm: vec![0; 7], dropped: vec![] };
        assert_eq!(trimmed.report(12), "12 bytes -> 7 bytes, exports dropped: none");
    }

    #[test]
    fn the_command_line_is_read_as_written() {
        let read = |line: &str| Order::read(line.split_whitespace().map(str::to_owned));
        let order = |exports| Order { input: "in".into(), output: "out".into(), exports };
        assert_eq!(read("in out"), Ok(Some(order(needed(&[])))));
        assert_eq!(read("--keep a in --keep b out"), Ok(Some(order(needed(&["a", "b"])))));
        assert_eq!(read("in out --keep-all"), Ok(Some(order(Exports::All))));
        assert_eq!(read("--help"), Ok(None));
        for wrong in ["", "in", "in out more", "in out --keep", "in out --kepp"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_is_written_when_the_module_is_refused() {
        let folder = std::env::temp_dir().join(format!("m2m-auth-trim-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (input, output) = (folder.join("in.wasm"), folder.join("out.wasm"));
        std::fs::write(&input, module("proxy_on_request_headers")).unwrap();
        let order = Order { input: input.clone(), output: output.clone(), exports: needed(&[]) };
        assert_eq!(run(&order).unwrap_err().exit_code(), 1);
        assert!(!output.exists());

        std::fs::write(&input, module("")).unwrap();
        let line = run(&order).unwrap();
        assert!(output.exists() && line.contains("proxy_on_request_body"), "{line}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
