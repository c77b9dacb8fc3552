//! A page of `docs/migrate`: its blocks of YAML, its tables, and the section that is made from the
//! answers.

use crate::envoy::differential::cell;
use m2m_auth_kit::repository;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

/// The section that the test writes and compares.
const ANSWERS: &str = "The same requests to both";

/// One request and what both answered.
pub(super) struct Row {
    pub(super) request: String,
    pub(super) native: String,
    pub(super) ours: String,
}

impl Row {
    /// Another status; or both allowed it, and the service received something else.
    fn differs(&self) -> bool {
        let status = |said: &str| said.split(' ').next().unwrap().to_owned();
        let statuses = [status(&self.native), status(&self.ours)];
        statuses[0] != statuses[1] || (statuses[0] == "200" && self.native != self.ours)
    }
}

pub(super) struct Page {
    file: PathBuf,
    text: String,
}

impl Page {
    pub(super) fn read(name: &str) -> Self {
        let file = repository().join("docs/migrate").join(format!("{name}.md"));
        let text = fs::read_to_string(&file).unwrap();
        Self { file, text }
    }

    /// The blocks of a language, in order.
    pub(super) fn blocks(&self, language: &str) -> Vec<&str> {
        let open = format!("```{language}\n");
        let blocks = self.text.split(&open).skip(1);
        blocks.map(|rest| rest.split_once("```").unwrap().0).collect()
    }

    /// The YAML block whose first line is that comment.
    pub(super) fn block(&self, comment: &str) -> &str {
        let first = format!("# {comment}\n");
        let found: Vec<&str> =
            self.blocks("yaml").into_iter().filter(|own| own.starts_with(&first)).collect();
        assert_eq!(found.len(), 1, "{}: {comment}", self.file.display());
        found[0]
    }

    /// What stands below a heading of that title, up to the next of the same or a higher level.
    pub(super) fn section(&self, heading: &str) -> &str {
        let start = format!("\n{heading}\n");
        let (_, rest) = self.text.split_once(&start).unwrap_or_else(|| panic!("{heading}"));
        let level = heading.split(' ').next().unwrap().len();
        let ends = (2..=level).filter_map(|level| rest.find(&format!("\n{} ", "#".repeat(level))));
        &rest[..ends.min().map_or(rest.len(), |end| end + 1)]
    }

    /// The code in the first column of the tables below a heading.
    pub(super) fn first_column(&self, heading: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for row in rows(self.section(heading)) {
            for code in row[0].split('`').skip(1).step_by(2) {
                assert!(found.insert(code.to_owned()), "{heading}: {code} has two rows");
            }
            assert!(row.iter().all(|cell| !cell.is_empty()), "{heading}: {row:?}");
        }
        found
    }

    /// Compares the section with what was seen; with `M2M_AUTH_REWRITE` it writes it.
    pub(super) fn compare(&self, native: &str, seen: &[Row]) {
        assert!(seen.len() >= 25, "{}", seen.len());
        let names: BTreeSet<&str> = seen.iter().map(|row| &*row.request).collect();
        assert_eq!(names.len(), seen.len(), "a request has a name of its own");
        let there = self.section(&format!("## {ANSWERS}"));
        let reasons: BTreeMap<String, String> = rows(there)
            .into_iter()
            .filter(|row| row.len() == 4)
            .map(|row| (row[0].to_owned(), row[3].to_owned()))
            .collect();
        let made = answers(native, seen, &reasons);
        if std::env::var("M2M_AUTH_REWRITE").is_ok() {
            fs::write(&self.file, self.text.replace(there, &made)).unwrap();
            return;
        }
        let stale = "stale: M2M_AUTH_REWRITE=1 cargo test --test it migrate";
        assert!(there == made, "{} is {stale}\n--- expected ---\n{made}", self.file.display());
        assert!(!made.contains("| no reason given |"), "a difference needs its reason");
    }
}

/// The cells of a table's rows, without its head.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let lines: Vec<&str> = text.lines().collect();
    let is_head = |number: usize| lines.get(number + 1).is_some_and(|next| next.starts_with("|---"));
    let tabular =
        lines.iter().enumerate().filter(|(number, line)| line.starts_with("| ") && !is_head(*number));
    tabular.map(|(_, line)| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

fn answers(native: &str, seen: &[Row], reasons: &BTreeMap<String, String>) -> String {
    let (different, equal): (Vec<&Row>, Vec<&Row>) = seen.iter().partition(|row| row.differs());
    let mut text = format!(
        "\n{} requests were sent to both configurations above; {} of the answers are the same.\n\
         `tests/it/envoy/migrate.rs` sends them to one Envoy 1.40.0 and compares the answers with these two tables.\n\
         After a status is the message or, for m2m-auth, the `reason`; after 200, what the service received.\n\n\
         ### Different answers\n\n| request | {native} | m2m-auth | why |\n|---|---|---|---|\n",
        seen.len(),
        equal.len()
    );
    for row in different {
        let why = reasons.get(&cell(&row.request)).map_or("no reason given", String::as_str);
        writeln!(text, "| {} | {} | {} | {why} |", cell(&row.request), cell(&row.native), cell(&row.ours))
            .unwrap();
    }
    write!(text, "\n### Same answers\n\n| request | {native} | m2m-auth |\n|---|---|---|\n").unwrap();
    for row in equal {
        writeln!(text, "| {} | {} | {} |", cell(&row.request), cell(&row.native), cell(&row.ours)).unwrap();
    }
    text + "\n"
}
