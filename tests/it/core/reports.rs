//! What users of such software reported in public, replayed: every folder of `tests/data/reports`
//! ends as its `expected.txt` says.
//!
//! A folder with `keys.json` is decided offline by the command-line tool. A folder with
//! `provider.txt` is played by the whole plugin against a provider that answers as that file says;
//! time is virtual.

#![allow(clippy::unchecked_time_subtraction, reason = "virtual time does not go back")]

mod folders;
mod play;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/reports").join(name)
}

fn text(folder: &str, file: &str) -> String {
    fs::read_to_string(self::folder(folder).join(file)).unwrap()
}

#[test]
fn every_report_is_played() {
    let there: BTreeSet<String> = fs::read_dir(folder(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let played: BTreeSet<String> =
        folders::OFFLINE.iter().chain(folders::PLAYED).map(|name| (*name).to_owned()).collect();
    assert_eq!(there, played);
    for name in there {
        assert!(folder(&name).join("expected.txt").exists(), "{name}");
    }
}
