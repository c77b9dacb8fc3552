//! Proofs that have been used (RFC 9449 section 11.1): each is good for one request, whichever worker of the process has it.
//!
//! They stand on the board, where nothing can be deleted: in a fixed number of records, each with those proofs whose digests
//! begin alike, until their time is over. What else stands there counts for nothing. No more are remembered than there is
//! room for, and what could not be remembered is not taken.

use super::Store;
use crate::dpop::shown::Used;
use crate::policy::Policy;
use crate::share::Board;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// There is no room for one more, or others were faster too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// The name of each record, but for its number; none where no rule takes proofs.
#[derive(Debug)]
pub(super) struct Replays(Option<String>);

/// The layout of a record; another version of this module may be in the same process.
const LAYOUT: &[u8; 4] = b"m2mp";

/// By the first byte of a digest.
const RECORDS: u8 = u8::MAX;

/// Proofs in a record, so 2^20 in all, of 12 bytes each: 12 MB if there are so many. With a window of 60 s that is room for
/// 17,000 requests per second.
const MOST: usize = 4096;

/// How much of a digest is kept. Of 2^20 proofs one is taken for another once in 2^44 times, and its caller makes a new one.
const DIGEST_BYTES: usize = 8;

/// Attempts at a record that other workers change at the same time.
const MOST_ATTEMPTS: u8 = 16;

impl Replays {
    /// Makes the records, since only one that is there can be swapped.
    pub(super) fn of(policy: &Policy, board: &dyn Board) -> Self {
        let terms = policy.inbound.as_ref().and_then(|inbound| Some((inbound, inbound.terms.as_ref()?)));
        let name = terms.map(|(inbound, terms)| {
            // Two filters that a request passes, one behind the other, each see its proof for the first time.
            let issuers = policy.issuers.iter().map(|issuer| issuer.name.as_bytes());
            let rules = inbound.rules.iter().map(|rule| rule.name.as_bytes());
            let parts = issuers.chain(rules).chain(terms.origins.iter().map(String::as_bytes));
            let hash = parts.fold(Sha256::new(), |hash, part| {
                hash.chain_update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes())
                    .chain_update(part)
            });
            let mut name = "m2m-auth proofs ".to_owned();
            for byte in hash.finalize().iter().take(16) {
                let _ = write!(name, "{byte:02x}");
            }
            name
        });
        let replays = Self(name);
        for record in (0..=RECORDS).filter_map(|record| replays.name(record)) {
            if board.read(&record).is_none() {
                board.write(&record, LAYOUT, 0);
            }
        }
        replays
    }

    fn name(&self, record: u8) -> Option<String> {
        Some(format!("{} {record}", self.0.as_ref()?))
    }
}

impl Store {
    /// Whether this proof is used for the first time. From now on it has been used.
    #[inline(never)]
    pub fn spend(&mut self, proof: Used, now: u64) -> Result<bool, NoRoom> {
        let ([record, ..], Some(own)) = (proof.digest, proof.digest.last_chunk::<DIGEST_BYTES>()) else {
            return Err(NoRoom);
        };
        let name = self.replays.name(record).ok_or(NoRoom)?;
        let until = u32::try_from(proof.until).unwrap_or(u32::MAX);
        for _ in 0..MOST_ATTEMPTS {
            let (known, version) = self.board.read(&name).unwrap_or_default();
            let mut left = LAYOUT.to_vec();
            left.reserve(known.len());
            for (digest, until) in entries(&known) {
                if digest == *own {
                    return Ok(false);
                }
                if u64::from(until) >= now {
                    push(&mut left, digest, until);
                }
            }
            if entries(&left).count() >= MOST {
                return Err(NoRoom);
            }
            push(&mut left, *own, until);
            if self.board.write(&name, &left, version) {
                return Ok(true);
            }
        }
        Err(NoRoom)
    }
}

fn push(record: &mut Vec<u8>, digest: [u8; DIGEST_BYTES], until: u32) {
    record.extend_from_slice(&digest);
    record.extend_from_slice(&until.to_le_bytes());
}

/// What a record remembers, and until when.
fn entries(record: &[u8]) -> impl Iterator<Item = ([u8; DIGEST_BYTES], u32)> {
    let entries = record.strip_prefix(LAYOUT).unwrap_or_default().as_chunks::<{ DIGEST_BYTES + 4 }>().0;
    entries.iter().filter_map(|entry| {
        let (digest, until) = entry.split_first_chunk::<DIGEST_BYTES>()?;
        Some((*digest, u32::from_le_bytes(until.try_into().ok()?)))
    })
}
