//! Which module may use which. The table below is the architecture; these tests keep it true by
//! reading the source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The architecture: each room of `src`, and the rooms that it may use.
///
/// The lowest come first, and nothing uses what is listed below it. What matters most is what is
/// *not* here: nothing but `wasm` knows the host; `oauth` and `inbound` keep no state and know no
/// policy; `filter` has no effects; and `policy` is built before any request comes.
const LAYERS: &[(&str, &str)] = &[
    ("time", ""),
    ("rng", ""),
    ("secret", ""),
    ("json", ""),
    ("metrics", ""),
    ("decision_trace", ""),
    ("config", "json"),
    ("http", "decision_trace"),
    ("jose", "json metrics time"),
    ("dpop", "http jose json secret"),
    ("oauth", "dpop http jose json rng secret"),
    ("inbound", "decision_trace dpop http jose json"),
    ("policy", "config decision_trace dpop http inbound jose oauth secret"),
    ("store", "dpop http inbound jose metrics oauth policy rng secret time"),
    ("filter", "config decision_trace dpop http inbound jose oauth policy store time"),
    ("plugin", "dpop filter http inbound jose metrics oauth policy rng store time"),
    // Only the shell may use every other, and no other may use the shell.
    ("wasm", EVERYTHING),
];

const EVERYTHING: &str = "everything but wasm";

/// Modules that know less than their room: each, with the files below it, and all that it may use
/// outside of itself.
///
/// `jwt` knows no roles and no routes; `authorize` sees no token, and of a request no more than
/// rules do; a lease and a cache do not know what they hold; a refusal knows no policy.
const NARROW: &[(&str, &str)] = &[
    ("http::path", ""),
    ("http::route", "decision_trace http::host http::message http::path"),
    ("inbound::authorize", "decision_trace http::route inbound::jwt"),
    ("inbound::jwt", "decision_trace inbound::claim_layout jose::jwk jose::jws jose::verifier json"),
    ("inbound::refusal", "dpop dpop::verify http::message http::route inbound::authorize inbound::jwt"),
    ("store::cache", "metrics"),
    ("store::lease", "oauth::fetch rng time"),
];

/// A file is read in one sitting; beyond this it holds two ideas.
const MOST_LINES: usize = 400;

/// The one request is read without scrolling much.
const MOST_LINES_OF_FILTER: usize = 200;

/// One source file, in the parts that the tests look at.
struct Source {
    /// Below `src`.
    path: String,
    /// What the file's items belong to: `policy` for `policy.rs` and for everything in `policy/`.
    module: String,
    text: String,
}

impl Source {
    /// Everything before the unit tests.
    fn product(&self) -> &str {
        let tests = self.text.find("#[cfg(test)]\nmod ").unwrap_or(self.text.len());
        self.text.get(..tests).unwrap()
    }

    /// The lines of the product that are no comments.
    fn code(&self) -> impl Iterator<Item = &str> {
        self.product().lines().filter(|line| !line.trim_start().starts_with("//") && !line.trim().is_empty())
    }

    /// The module that the file is: `http::path` for `http/path.rs`.
    fn name(&self) -> String {
        self.path.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::")
    }

    /// The rooms that the code uses.
    fn uses(&self) -> BTreeSet<String> {
        let rooms = self.paths().into_iter().map(|path| first_name(&path));
        rooms.filter(|room| !room.is_empty() && *room != self.module).collect()
    }

    /// What follows `crate::` in the code, in `use crate::…` or in a path in full.
    fn paths(&self) -> BTreeSet<String> {
        let code = self.code().collect::<Vec<_>>().join("\n");
        let mut uses = BTreeSet::new();
        for (start, _) in code.match_indices("crate::") {
            let before = code.get(..start).unwrap().chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '$')) {
                continue; // `$crate` of a macro, `other_crate::`
            }
            let rest = code.get(start + "crate::".len()..).unwrap();
            let names = rest.strip_prefix('{').map_or_else(|| vec![rest], elements);
            let path = |c: &char| c.is_alphanumeric() || matches!(c, '_' | ':');
            uses.extend(
                names.into_iter().map(|name| name.trim().chars().take_while(path).collect::<String>()),
            );
        }
        uses
    }
}

/// The elements of a list that has just been opened, up to its end.
fn elements(list: &str) -> Vec<&str> {
    let (mut elements, mut start, mut depth) = (Vec::new(), 0, 1);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            elements.push(list.get(start..at).unwrap());
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    elements
}

fn first_name(path: &str) -> String {
    path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    find(&root, &mut files);
    let sources = files.into_iter().map(|file| {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        let module = path.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        Source { text: fs::read_to_string(&file).unwrap(), path, module }
    });
    // The map of the crate is above all layers, and the command-line tool is another crate.
    let mut sources: Vec<Source> =
        sources.filter(|source| !matches!(source.module.as_str(), "lib" | "bin" | "main")).collect();
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 100, "where is the source?");
    sources
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn allowed() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let all = LAYERS.iter().map(|(module, _)| *module).filter(|module| *module != "wasm");
    let everything: BTreeSet<&str> = all.collect();
    let uses = |uses: &'static str| {
        if uses == EVERYTHING { everything.clone() } else { uses.split_whitespace().collect() }
    };
    LAYERS.iter().map(|(module, used)| (*module, uses(used))).collect()
}

#[test]
fn every_form_of_using_a_module_is_found() {
    let text = "//! crate::not_this\nuse crate::{a::{X, Y}, b, own::Z};\nuse crate::c::D;\nfn f() { crate::e::g(); }\n\
                // crate::nor_this\nconst H: u8 = $crate::i; // its macro's\n#[cfg(test)]\nmod tests
                // {\nuse crate::j;\n}\n";
    let source = Source { path: "own.rs".to_owned(), module: "own".to_owned(), text: text.to_owned() };
    assert_eq!(source.uses(), ["a", "b", "c", "e"].map(str::to_owned).into());
}

#[test]
fn nothing_uses_what_the_table_does_not_allow() {
    let (allowed, mut wrong) = (allowed(), Vec::new());
    for source in sources() {
        let Some(allowed) = allowed.get(source.module.as_str()) else {
            continue;
        };
        for used in source.uses().iter().filter(|used| !allowed.contains(used.as_str())) {
            wrong.push(format!("src/{} uses {used}", source.path));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_module_that_knows_less_than_its_room_uses_no_more() {
    let sources = sources();
    let files: BTreeSet<String> = sources.iter().map(Source::name).collect();
    for (module, allowed) in NARROW {
        let within = |name: &str| name == *module || name.starts_with(&format!("{module}::"));
        let own: Vec<&Source> = sources.iter().filter(|source| within(&source.name())).collect();
        assert!(!own.is_empty(), "there is no {module}");
        // Of each path the module that it leads to, at most two names long.
        let module_of = |path: &String| {
            let mut names = path.split("::");
            let (room, next) = (names.next().unwrap(), names.next().unwrap_or_default());
            let two = format!("{room}::{next}");
            if files.contains(&two) { two } else { room.to_owned() }
        };
        let uses: BTreeSet<String> =
            own.iter().flat_map(|source| source.paths()).map(|path| module_of(&path)).collect();
        let uses: BTreeSet<&str> = uses.iter().map(String::as_str).filter(|name| !within(name)).collect();
        assert_eq!(uses, allowed.split_whitespace().collect(), "{module}");
    }
}

#[test]
fn the_table_names_every_module_and_no_other() {
    let there: BTreeSet<String> = sources().into_iter().map(|source| source.module).collect();
    let named: BTreeSet<String> = LAYERS.iter().map(|(module, _)| (*module).to_owned()).collect();
    assert_eq!(there, named);
}

#[test]
fn the_table_allows_nothing_that_is_not_used() {
    let (sources, mut idle) = (sources(), Vec::new());
    for (module, allowed) in allowed().into_iter().filter(|(module, _)| *module != "wasm") {
        let files = sources.iter().filter(|source| source.module == module);
        let used: BTreeSet<String> = files.flat_map(Source::uses).collect();
        let of_module = allowed.into_iter().filter(|name| !used.contains(*name));
        idle.extend(of_module.map(|name| format!("{module} no longer uses {name}")));
    }
    assert!(idle.is_empty(), "{idle:#?}");
}

#[test]
fn the_table_goes_downwards_only() {
    let (allowed, mut below) = (allowed(), BTreeSet::new());
    for (module, _) in LAYERS {
        for used in &allowed[module] {
            assert!(below.contains(used), "{module} uses {used}, which does not stand above it");
        }
        below.insert(*module);
    }
}

/// What is nothing but a choice.
const CHOICES: [&str; 4] = ["Existing", "Introspect", "Mode", "Unavailable"];

#[test]
fn a_request_sees_no_more_of_the_configuration_than_its_choices() {
    let sources = sources();
    for module in ["policy", "filter"] {
        // What compiles a policy reads all of the configuration.
        let of_module =
            |source: &&Source| source.module == module && !source.path.starts_with("policy/compile");
        let code = sources.iter().filter(of_module).flat_map(Source::code);
        for line in code.filter(|line| line.contains("config::")) {
            let names = line.trim_start_matches("pub ").strip_prefix("use crate::config::").unwrap_or(line);
            let mut names = names.trim_end_matches(';').trim_matches(['{', '}']).split(", ");
            assert!(names.all(|name| CHOICES.contains(&name)), "{module}: {line}");
        }
    }
}

#[test]
fn only_the_shell_names_the_host() {
    for source in sources().iter().filter(|source| source.module != "wasm") {
        assert!(!source.product().contains("proxy_wasm"), "src/{} names proxy_wasm", source.path);
    }
    let library = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let code = library.lines().filter(|line| !line.trim_start().starts_with("//"));
    assert!(
        code.into_iter().all(|line| !line.contains("proxy_wasm")),
        "src/lib.rs names proxy_wasm outside its documentation"
    );
}

#[test]
fn only_the_shell_reads_a_clock() {
    for source in sources().iter().filter(|source| source.module != "wasm") {
        for clock in ["SystemTime", "Instant::now", "UNIX_EPOCH", "get_current_time"] {
            assert!(
                !source.code().any(|line| line.contains(clock)),
                "src/{} reads a clock: {clock}",
                source.path
            );
        }
    }
}

#[test]
fn only_the_shell_draws_random_numbers() {
    for source in sources().iter().filter(|source| !["wasm", "rng"].contains(&source.module.as_str())) {
        for generator in ["OsRandom", "getrandom", "OsRng", "thread_rng"] {
            let draws = source.code().any(|line| line.contains(generator));
            assert!(!draws, "src/{} draws random numbers: {generator}", source.path);
        }
    }
}

#[test]
fn only_the_shell_reads_the_environment_and_nothing_reads_files() {
    for source in sources() {
        for world in ["std::fs", "std::net", "std::process", "std::thread"] {
            assert!(!source.code().any(|line| line.contains(world)), "src/{} uses {world}", source.path);
        }
        let reads = source.code().any(|line| line.contains("env::var"));
        assert!(!reads || source.module == "wasm", "src/{} reads the environment", source.path);
    }
}

#[test]
fn nothing_panics_on_purpose() {
    let calls = ".unwrap() .expect( .unwrap_err() .expect_err( panic!( todo!( unimplemented!( unreachable!( \
                 assert!( assert_eq!( assert_ne!( unwrap_unchecked( process::abort";
    for source in sources() {
        let mut lines = source.code();
        let found = lines.find(|line| calls.split(' ').any(|call| line.contains(call)));
        assert_eq!(found, None, "in src/{}", source.path);
    }
}

#[test]
fn unsafe_code_is_in_one_file_and_each_block_says_why() {
    for source in sources() {
        let lines: Vec<&str> = source.product().lines().collect();
        let mut safety = false;
        for line in lines {
            safety = line.contains("// SAFETY:") || (safety && !line.trim().is_empty());
            let block = line.contains("unsafe {") && !line.trim_start().starts_with("//");
            assert!(!block || source.path == "wasm/hostcalls.rs", "src/{}: {}", source.path, line.trim());
            assert!(!block || safety, "src/{} does not say why: {}", source.path, line.trim());
        }
    }
}

#[test]
fn every_file_opens_with_what_it_is() {
    for source in sources() {
        let first = source.text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! ") && first.len() > 20, "src/{} opens with {first:?}", source.path);
    }
}

#[test]
fn a_file_is_one_idea_long() {
    let mut long = Vec::new();
    for source in sources() {
        let count = source.code().count();
        if count > MOST_LINES {
            long.push(format!(
                "src/{} has {count} lines of code, at most {MOST_LINES} are one idea",
                source.path
            ));
        }
        let whole = source.product().lines().count();
        if source.path == "filter.rs" && whole > MOST_LINES_OF_FILTER {
            long.push(format!(
                "src/filter.rs has {whole} lines, at most {MOST_LINES_OF_FILTER} are one request"
            ));
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn the_kinds_of_fetches_are_matched_in_one_place() {
    let kinds = ["Metadata(", "Keys(", "Token(", "Exchanged(", "Introspection("];
    let mut matches = Vec::new();
    for source in sources().iter().filter(|source| source.path != "store/fetch.rs") {
        for line in source.code() {
            let is_test = line.contains("matches!") || line.contains("if let");
            let pattern = line.split_once("=>").map(|(pattern, _)| pattern).or(is_test.then_some(line));
            let mut names = pattern.unwrap_or_default().split("FetchKey::").skip(1);
            if names.any(|name| kinds.iter().any(|kind| name.starts_with(kind))) {
                matches.push(format!("src/{}: {}", source.path, line.trim()));
            }
        }
    }
    assert!(matches.is_empty(), "a kind has a method for this in `Fetch`: {matches:#?}");
}
