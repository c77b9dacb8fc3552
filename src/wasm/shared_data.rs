//! The boards of this host: for the workers of a process Envoy's shared data, else what lies within one VM.

use super::hostcalls::{self, HostError};
use crate::policy::SharingScope;
use crate::rng::{OsRandom, SecureRandom};
use crate::secret::SharingKey;
use crate::store::shared_record::SharedStore;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use zeroize::Zeroize as _;

/// The board that reaches as far as this.
pub(super) fn store_for(reach: &SharingScope) -> Box<dyn SharedStore> {
    match reach {
        SharingScope::Vm => Box::new(VmLocalStore::here()),
        SharingScope::Process => Box::new(SharedData),
        SharingScope::Sealed(key) => Box::new(SealedStore::new(key, SharedData, Box::new(OsRandom))),
    }
}

/// Envoy's shared data: one map per `vm_id` and process, under one lock.
#[derive(Clone, Copy, Debug)]
struct SharedData;

/// The version that no record has: Envoy counts them from 1, by one for each write of any record.
const NO_VERSION: u32 = u32::MAX;

impl SharedStore for SharedData {
    fn read(&self, name: &str) -> Option<(Vec<u8>, u32)> {
        hostcalls::shared_data(name).ok()
    }

    fn write(&self, name: &str, record: &[u8], version: u32) -> bool {
        // To Envoy, version 0 means "overwrite": two workers that start at once would each make the record, and the later one
        // would destroy what the other has written meanwhile. Any other version is compared with that of a record that is
        // there, and passes where there is none.
        let version = if version == 0 { NO_VERSION } else { version };
        hostcalls::set_shared_data(name, record, version) != Err(HostError(hostcalls::CAS_MISMATCH))
    }
}

thread_local! {
    /// The records that the workers of this VM use, one for each of its configurations; some several times.
    static USED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// A worker uses these records from now on.
pub(super) fn register(names: Vec<String>) {
    let _ = USED.try_with(|used| used.borrow_mut().extend(names));
}

/// A worker uses these records no more.
pub(super) fn unregister(names: &[String]) {
    let _ = USED.try_with(|used| {
        let mut used = used.borrow_mut();
        for name in names {
            if let Some(place) = used.iter().position(|own| own == name) {
                used.swap_remove(place);
            }
        }
    });
}

/// Whether any worker of this VM uses this record; when the VM itself ends, nobody can say.
pub(super) fn is_used(name: &str) -> bool {
    USED.try_with(|used| used.borrow().iter().any(|own| own == name)).unwrap_or(true)
}

type VmRecords = RefCell<HashMap<String, (Vec<u8>, u32)>>;

thread_local! {
    /// Goes with the last worker that uses it.
    static RECORDS: RefCell<Weak<VmRecords>> = const { RefCell::new(Weak::new()) };
}

/// What the workers of one VM share: a new configuration finds here what the old one has fetched.
struct VmLocalStore(Rc<VmRecords>);

impl VmLocalStore {
    fn here() -> Self {
        RECORDS.with_borrow_mut(|records| {
            let own = records.upgrade().unwrap_or_default();
            *records = Rc::downgrade(&own);
            Self(own)
        })
    }
}

impl SharedStore for VmLocalStore {
    fn read(&self, name: &str) -> Option<(Vec<u8>, u32)> {
        self.0.borrow().get(name).cloned()
    }

    fn write(&self, name: &str, record: &[u8], version: u32) -> bool {
        let mut records = self.0.borrow_mut();
        let now = records.get(name).map_or(0, |(_, version)| *version);
        if now == version {
            records.insert(name.to_owned(), (record.to_vec(), version.wrapping_add(1).max(1)));
        }
        now == version
    }
}

/// A board on which others write too: what is not sealed with the operator's key, or was sealed for another record, counts
/// as empty.
struct SealedStore<B> {
    cipher: XChaCha20Poly1305,
    inner: B,
    /// For the nonces.
    random: Box<dyn SecureRandom>,
}

/// A nonce of XChaCha20-Poly1305, long enough to be picked at random (draft-irtf-cfrg-xchacha section 3.1).
const NONCE_BYTES: usize = 24;

impl<B> SealedStore<B> {
    fn new(key: &SharingKey, inner: B, random: Box<dyn SecureRandom>) -> Self {
        let mut key = Sha256::new().chain_update("m2m-auth sealing ").chain_update(key.reveal()).finalize();
        let cipher = XChaCha20Poly1305::new(&key);
        key.zeroize();
        Self { cipher, inner, random }
    }
}

impl<B: SharedStore> SharedStore for SealedStore<B> {
    fn read(&self, name: &str) -> Option<(Vec<u8>, u32)> {
        let (sealed, version) = self.inner.read(name)?;
        let record = sealed.split_first_chunk::<NONCE_BYTES>().and_then(|(nonce, text)| {
            let text = Payload { msg: text, aad: name.as_bytes() };
            self.cipher.decrypt(&XNonce::from(*nonce), text).ok()
        });
        Some((record.unwrap_or_default(), version))
    }

    fn write(&self, name: &str, record: &[u8], version: u32) -> bool {
        let mut nonce = [0; NONCE_BYTES];
        if self.random.fill(&mut nonce).is_err() {
            return false;
        }
        let text = Payload { msg: record, aad: name.as_bytes() };
        let Ok(text) = self.cipher.encrypt(&XNonce::from(nonce), text) else {
            return false;
        };
        self.inner.write(name, &[&nonce, text.as_slice()].concat(), version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::RandomError;

    fn sealed(key: &str) -> SealedStore<VmLocalStore> {
        SealedStore::new(&SharingKey::new(key.to_owned()), VmLocalStore::here(), Box::new(OsRandom))
    }

    #[test]
    fn a_version_is_swapped_once() {
        let board = VmLocalStore::here();
        assert!(board.write("a", b"1", 0));
        let (_, version) = board.read("a").unwrap();
        assert!(board.write("a", b"2", version));
        assert!(!board.write("a", b"3", version), "somebody was faster");
        assert!(!board.write("a", b"3", 0), "there is one already");
        assert_eq!(board.read("a").unwrap().0, b"2");
    }

    #[test]
    fn what_the_last_worker_left_is_gone_with_it() {
        let board = VmLocalStore::here();
        board.write("b", b"1", 0);
        assert!(VmLocalStore::here().read("b").is_some());
        drop(board);
        assert!(VmLocalStore::here().read("b").is_none());
    }

    #[test]
    fn without_random_numbers_nothing_is_written() {
        struct NoRandomness;
        impl SecureRandom for NoRandomness {
            fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
                Err(RandomError)
            }
        }
        let plain = VmLocalStore::here();
        let key = SharingKey::new("key".to_owned());
        let store = SealedStore::new(&key, VmLocalStore::here(), Box::new(NoRandomness));
        assert!(!store.write("token", b"hush", 0));
        assert_eq!(plain.read("token"), None);
    }

    #[test]
    fn only_what_was_sealed_for_this_record_with_this_key_is_read() {
        let plain = VmLocalStore::here();
        let (own, other) = (sealed("own key"), sealed("other key"));
        assert!(own.write("token", b"hush", 0));
        let (bytes, version) = plain.read("token").unwrap();
        assert_eq!(own.read("token"), Some((b"hush".to_vec(), version)));
        assert!(!bytes.windows(4).any(|part| part == b"hush"));
        assert_eq!(other.read("token"), Some((Vec::new(), version)));
        plain.write("keys", &bytes, 0);
        assert_eq!(own.read("keys").unwrap().0, b"", "moved from another record");
        plain.write("planted", b"m2m1 and so on, much longer than a nonce", 0);
        assert_eq!(own.read("planted").unwrap().0, b"");
        let mut tampered = bytes;
        *tampered.last_mut().unwrap() ^= 1;
        plain.write("tampered", &tampered, 0);
        assert_eq!(own.read("tampered").unwrap().0, b"");
    }
}
