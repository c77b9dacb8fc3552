//! The fuzz targets of `fuzz/targets.rs` without a fuzzer: over the corpus, over mutations of it,
//! and over random bytes.

use proptest::prelude::*;
use std::fs;
use std::path::Path;

#[path = "../../../fuzz/targets.rs"]
mod targets;

/// The checked-in inputs of a target.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn every_target_has_seeds_and_keeps_its_promise_for_them_and_for_what_is_cut_off_of_them() {
    for (name, target) in targets::ALL {
        let seeds = corpus(name);
        assert!(!seeds.is_empty(), "{name}");
        for seed in seeds {
            target(&seed);
            let step = (seed.len() / 64).max(1);
            for end in (0..seed.len()).step_by(step) {
                target(seed.get(..end).unwrap());
            }
        }
    }
}

#[test]
fn every_target_is_a_binary_for_the_fuzzer() {
    let manifest = include_str!("../../../fuzz/Cargo.toml");
    for (name, _) in targets::ALL {
        assert!(
            manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")),
            "{name}"
        );
    }
}

proptest! {
    #[test]
    fn random_bytes_break_no_promise(bytes: Vec<u8>) {
        for (_, target) in targets::ALL {
            target(&bytes);
        }
    }

    #[test]
    fn seeds_with_other_bytes_in_them_break_no_promise(
        which: prop::sample::Index,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (name, target) in targets::ALL {
            let mut seed = which.get(&corpus(name)).clone();
            for (place, byte) in &changes {
                let place = place.index(seed.len().max(1));
                if let Some(own) = seed.get_mut(place) {
                    *own = *byte;
                }
            }
            target(&seed);
        }
    }
}
