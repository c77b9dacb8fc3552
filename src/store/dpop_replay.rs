//! Proofs that have been used (RFC 9449 section 11.1): each is good for one request, whichever
//! worker of the process has it.
//!
//! They stand on the board, where nothing can be deleted: in a fixed number of records, each with
//! those proofs whose digests begin alike, until their time is over. What else stands there counts
//! for nothing. No more are remembered than there is room for, and what could not be remembered is
//! not taken.
//!
//! The records outlive a configuration, and nothing that a configuration says changes where a proof
//! is looked for: one that was used stays so. Which record a proof has depends on a secret of the
//! process, so that no client fills one by choosing the names of its proofs. And whatever becomes
//! of the records, a worker never takes a proof twice itself: a neighbour who destroys them, or
//! puts older ones back, gains no more than without sharing.

use super::Store;
use crate::dpop::verify::ReplayKey;
use crate::policy::Policy;
use crate::store::shared_record::SharedStore;
use sha2::{Digest as _, Sha256};
use std::fmt::{self, Write as _};

/// There is no room for one more, or others were faster too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayCacheFull;

/// None where no rule takes proofs.
#[derive(Debug)]
pub(super) struct ReplayCache(Option<ReplayRecords>);

struct ReplayRecords {
    /// The name of each record, but for its number.
    name: String,
    /// What decides, together with a proof's digest, in which record it stands.
    secret: Vec<u8>,
    /// What this worker itself has taken, by record.
    local: Vec<Vec<u8>>,
}

/// The layout of a record; another version of this module may be in the same process.
const LAYOUT: &[u8; 4] = b"m2mp";

/// By the first byte of a digest.
const RECORDS: u8 = u8::MAX;

/// Proofs in a record, so 2^20 in all, of 12 bytes each: 12 MB if there are so many. With a window
/// of 60 s that is room for 17,000 requests per second.
const MAX_PROOFS: usize = 4096;

/// How much of a digest is kept. Of 2^20 proofs one is taken for another once in 2^44 times, and
/// its caller makes a new one.
const DIGEST_BYTES: usize = 8;

/// With the second until when it counts.
const ENTRY_BYTES: usize = DIGEST_BYTES + 4;

/// Attempts at a record that other workers change at the same time.
const MAX_ATTEMPTS: u8 = 16;

/// Of the secret: 128 bits are beyond guessing.
const SECRET_BYTES: usize = 16;

impl ReplayCache {
    /// Makes the records, since only one that is there can be swapped. `me` is this worker's random
    /// number.
    pub(super) fn of(policy: &Policy, board: &dyn SharedStore, me: u64) -> Self {
        if !policy.accepts_dpop() {
            return Self(None);
        }
        // Two filters that a request passes, one behind the other, each see its proof for the first
        // time: their names in Envoy keep them apart, and stay the same when a configuration is
        // pushed.
        let mut name = "m2m-auth used proofs ".to_owned();
        for byte in Sha256::digest(&policy.plugin_name).iter().take(16) {
            let _ = write!(name, "{byte:02x}");
        }
        let secret = secret(&format!("{name} secret"), board, me);
        let records =
            ReplayRecords { name, secret, local: vec![Vec::new(); usize::from(RECORDS).saturating_add(1)] };
        for record in (0..=RECORDS).map(|record| records.name(record)) {
            if board.read(&record).is_none() {
                board.write(&record, LAYOUT, 0);
            }
        }
        Self(Some(records))
    }
}

/// What the first worker of the process has made up, for all of them and as long as the process
/// lives.
fn secret(name: &str, board: &dyn SharedStore, me: u64) -> Vec<u8> {
    let digest = Sha256::new().chain_update("m2m-auth secret of used proofs").chain_update(me.to_le_bytes());
    let own = digest.finalize().iter().copied().take(SECRET_BYTES).collect::<Vec<u8>>();
    let known = || board.read(name).filter(|(secret, _)| secret.len() == SECRET_BYTES);
    if known().is_none() {
        board.write(name, &own, board.read(name).map_or(0, |(_, version)| version));
    }
    known().map_or(own, |(secret, _)| secret)
}

impl ReplayRecords {
    fn name(&self, record: u8) -> String {
        format!("{} {record}", self.name)
    }
}

impl fmt::Debug for ReplayRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayRecords").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Store {
    /// Whether this proof is used for the first time. From now on it has been used.
    #[inline(never)]
    pub fn check_and_insert(&mut self, proof: ReplayKey, now: u64) -> Result<bool, ReplayCacheFull> {
        let Self { replays: ReplayCache(Some(records)), shared: board, .. } = self else {
            return Err(ReplayCacheFull);
        };
        let digest: [u8; 32] =
            Sha256::new().chain_update(&records.secret).chain_update(proof.digest).finalize().into();
        let ([record, ..], Some(entry)) = (digest, digest.last_chunk::<DIGEST_BYTES>()) else {
            return Err(ReplayCacheFull);
        };
        let name = records.name(record);
        let own = records.local.get_mut(usize::from(record)).ok_or(ReplayCacheFull)?;
        let until = u32::try_from(proof.expires_at).unwrap_or(u32::MAX);
        let mut left_of_own = Vec::with_capacity(own.len());
        if !keep(own, *entry, now, &mut left_of_own) {
            return Ok(false);
        }
        for _ in 0..MAX_ATTEMPTS {
            let (known, version) = board.read(&name).unwrap_or_default();
            let mut left = LAYOUT.to_vec();
            left.reserve(known.len());
            if !keep(known.strip_prefix(LAYOUT).unwrap_or_default(), *entry, now, &mut left) {
                return Ok(false);
            }
            let is_full = |entries: &[u8]| entries.len() / ENTRY_BYTES >= MAX_PROOFS;
            if is_full(&left) || is_full(&left_of_own) {
                return Err(ReplayCacheFull);
            }
            push(&mut left, *entry, until);
            if board.write(&name, &left, version) {
                push(&mut left_of_own, *entry, until);
                *own = left_of_own;
                return Ok(true);
            }
        }
        Err(ReplayCacheFull)
    }
}

/// Copies the entries whose time is not over; false if that of `digest` is among them all.
fn keep(entries: &[u8], digest: [u8; DIGEST_BYTES], now: u64, left: &mut Vec<u8>) -> bool {
    for entry in entries.as_chunks::<ENTRY_BYTES>().0 {
        let Some((own, until)) = entry.split_first_chunk::<DIGEST_BYTES>() else { continue };
        let Ok(until) = until.try_into().map(u32::from_le_bytes) else { continue };
        if *own == digest {
            return false;
        }
        if u64::from(until) >= now {
            push(left, *own, until);
        }
    }
    true
}

fn push(record: &mut Vec<u8>, digest: [u8; DIGEST_BYTES], until: u32) {
    record.extend_from_slice(&digest);
    record.extend_from_slice(&until.to_le_bytes());
}
