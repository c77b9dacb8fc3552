//! The field's words: comments, messages and documents hold none of our own dialect, comment lines fit, and a type's name is one.

use super::tree::{files, read, root};
use std::collections::BTreeMap;
use std::path::Path;

/// What an OAuth, Envoy or Rust engineer would not say, and what to say instead.
const DIALECT: [(&str, &str); 25] = [
    ("tell", "report, log, explain or return"),
    ("tells", "reports, logs, explains or returns"),
    ("told", "reported, logged or explained"),
    ("telling", "reporting"),
    ("whoever", "a client, a caller, an operator"),
    ("whom", "name the client, caller or operator"),
    ("those who", "clients, callers, operators"),
    ("mistake", "error"),
    ("mistakes", "errors"),
    ("way in", "inbound"),
    ("way out", "outbound"),
    ("desk", "command-line tool"),
    ("mend", "fix"),
    ("mends", "fixes"),
    ("to be had", "available"),
    ("stands in", "is in, or replaces"),
    ("is none of", "is not one of"),
    ("there is none to", "say what is missing"),
    ("goes on", "is forwarded, continues"),
    ("go on", "continue"),
    ("let through", "allowed"),
    ("lets through", "allows"),
    ("blank", "space"),
    ("blanks", "spaces"),
    ("the articles", "name them"),
];

/// Places that need such a word: the file, the word, why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[("src/inbound/refusal.rs", "blank", "`about:blank` of RFC 9457")];

/// The most columns of a line that is a comment.
const COMMENT_COLUMNS: usize = 100;

/// Every Rust source of the product, its tools and its tests.
fn sources() -> Vec<(String, String)> {
    let folders = ["src", "tests", "fuzz/fuzz_targets", "envoy"].map(|folder| root().join(folder));
    let mut found: Vec<_> = folders.iter().flat_map(|folder| files(folder)).collect();
    found.push(root().join("fuzz/targets.rs"));
    // Built from their lock files, or this list itself.
    found.retain(|file| !file.ends_with("project/words.rs"));
    found.iter().map(|file| (shown(file), std::fs::read_to_string(file).unwrap())).collect()
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap().display().to_string()
}

/// Documents of this repository.
fn documents() -> Vec<String> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "*.md", "*.yaml", "*.yml", "Makefile"])
        .current_dir(root())
        .output()
        .unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    listed.lines().filter(|file| !file.starts_with("tests/data/reports")).map(str::to_owned).collect()
}

/// The lines of a Rust source that people read: its comments, and the messages of the product.
fn prose_of_source(path: &str, text: &str) -> Vec<(usize, String)> {
    let tests = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    let mut prose = Vec::new();
    let mut offset = 0;
    for (number, line) in text.lines().enumerate() {
        let is_product = path.starts_with("src/") && offset < tests;
        offset += line.len() + 1;
        let code = line.trim_start();
        if let Some(comment) = code.strip_prefix("//") {
            prose.push((number + 1, comment.trim_start_matches(['/', '!']).to_owned()));
        } else if is_product {
            // What stands between quotation marks; an escaped one ends nothing.
            let literals: Vec<&str> = code.split('"').skip(1).step_by(2).collect();
            prose.push((number + 1, literals.join(" ")));
        }
    }
    prose
}

/// The lines of a document outside of blocks of code; of YAML and make, the comments.
fn prose_of_document(path: &str, text: &str) -> Vec<(usize, String)> {
    let (mut prose, mut in_code) = (Vec::new(), false);
    for (number, line) in text.lines().enumerate() {
        if Path::new(path).extension().is_some_and(|extension| extension == "md") {
            in_code ^= line.trim_start().starts_with("```");
            if !in_code {
                prose.push((number + 1, line.to_owned()));
            }
        } else if let Some((_, comment)) = line.split_once("# ") {
            prose.push((number + 1, comment.to_owned()));
        }
    }
    prose
}

/// The words of a line, without what is written as code.
fn words(line: &str) -> String {
    let prose: Vec<&str> = line.split('`').step_by(2).collect();
    let lower = prose.join(" ").to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|w| !w.is_empty()).collect();
    format!(" {} ", words.join(" "))
}

#[test]
fn nothing_is_written_in_a_dialect_of_our_own() {
    let mut lines: Vec<(String, usize, String)> = Vec::new();
    for (path, text) in sources() {
        lines.extend(
            prose_of_source(&path, &text).into_iter().map(|(number, line)| (path.clone(), number, line)),
        );
    }
    for path in documents() {
        let prose = prose_of_document(&path, &read(&path));
        lines.extend(prose.into_iter().map(|(number, line)| (path.clone(), number, line)));
    }
    assert!(lines.len() > 10_000, "where is the prose? {}", lines.len());
    let (mut wrong, mut used) = (Vec::new(), Vec::new());
    for (path, number, line) in lines {
        let words = words(&line);
        for (word, better) in DIALECT.iter().filter(|(word, _)| words.contains(&format!(" {word} "))) {
            match EXCEPTIONS.iter().find(|(file, own, _)| path == *file && own == word) {
                Some(exception) => used.push(exception),
                None => wrong.push(format!("{path}:{number}: {word:?} ({better}): {}", line.trim())),
            }
        }
    }
    assert!(wrong.is_empty(), "{} lines:\n{}", wrong.len(), wrong.join("\n"));
    let idle: Vec<_> = EXCEPTIONS.iter().filter(|exception| !used.contains(exception)).collect();
    assert!(idle.is_empty(), "exceptions without need: {idle:?}");
}

#[test]
fn comment_lines_fit() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            // A link or a name may be longer than a line.
            let breakable = line.trim_start().split(' ').count() > 2;
            if is_comment && breakable && line.chars().count() > COMMENT_COLUMNS {
                long.push(format!("{path}:{}", number + 1));
            }
        }
    }
    assert!(long.is_empty(), "{} comment lines are longer than {COMMENT_COLUMNS}: {long:#?}", long.len());
}

#[test]
fn a_name_of_a_type_is_defined_once() {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in
        sources().into_iter().filter(|(path, _)| path.starts_with("src/") && !path.starts_with("src/bin/"))
    {
        let product = text.split("#[cfg(test)]\nmod ").next().unwrap();
        for line in product.lines().filter(|line| !line.starts_with(' ')) {
            let line = ["pub ", "pub(crate) ", "pub(super) "]
                .iter()
                .find_map(|prefix| line.strip_prefix(prefix))
                .unwrap_or(line);
            let item =
                ["struct ", "enum ", "trait ", "type "].iter().find_map(|kind| line.strip_prefix(kind));
            if let Some(item) = item {
                let name: String = item.chars().take_while(|c| c.is_alphanumeric()).collect();
                names.entry(name).or_default().push(path.clone());
            }
        }
    }
    assert!(names.len() > 150, "where are the types?");
    // A setting as it is written, and as it is meant.
    let room = |path: &String| path.trim_start_matches("src/").split(['/', '.']).next().unwrap().to_owned();
    let is_pair = |paths: &Vec<String>| {
        let mut rooms: Vec<String> = paths.iter().map(room).collect();
        rooms.sort();
        rooms.len() == 2 && rooms[0] == "config" && rooms[1] != "config"
    };
    names.retain(|_, paths| paths.len() > 1 && !is_pair(paths));
    assert!(names.is_empty(), "{names:#?}");
}
