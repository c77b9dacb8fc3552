//! A hostile plugin of the same process: it overwrites a record with a key set of its own, again
//! and again.

use m2m_auth::policy::Policy;
use m2m_auth::store::shared_record::Record;
use m2m_auth::store::{FetchKey, Store};
use m2m_auth_kit::envoy::Wasm;
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::token::Mint;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::rc::Rc;
use tempfile::TempDir;

pub(super) struct Neighbour {
    key: Key,
    directory: TempDir,
}

/// The offset of the time at which it was written, by either clock: after the layout.
const WRITTEN: usize = 4;

/// The offset of the start of its fetch: after that, the fetch lock and its end.
const START: usize = WRITTEN + 16 + 16;

impl Neighbour {
    /// It knows the victim's configuration, and so the name of the record of its key set.
    pub(super) fn plants_its_key(victim: &Value) -> Self {
        let policy = Policy::read(victim.to_string().as_bytes(), &|_| None).unwrap();
        let store = Store::new(Rc::new(policy));
        let name = store.records().find(|(want, _)| matches!(want, FetchKey::Keys(_))).unwrap().1.to_owned();
        let key = Key::new(Alg::Rs256);
        let body = json!({ "keys": [key.jwk()] }).to_string().into_bytes();
        let record = Record { body, ..Record::default() }.encode();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("neighbour.wasm"), module(name.as_bytes(), &record)).unwrap();
        Self { key, directory }
    }

    /// A token of these claims, signed with its own key.
    pub(super) fn token(&self, claims: Value) -> String {
        Mint::of(claims).key(&self.key).sign(&self.key)
    }

    pub(super) fn filter(&self, vm_id: &str) -> Value {
        let module = self.directory.path().join("neighbour.wasm");
        Wasm::new(&json!({})).name("neighbour").vm_id(vm_id).module(module).filter()
    }
}

/// Every 5 ms: the record under this name, and it claims to have been fetched just now.
fn module(name: &[u8], record: &[u8]) -> Vec<u8> {
    const NAME: usize = 1024;
    const RECORD: usize = 4096;
    let text = format!(
        r#"(module
            (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
            (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "clock_time_get"
                (func $clock (param i32 i64 i32) (result i32)))
            (memory (export "memory") 4)
            (data (i32.const {NAME}) "{}")
            (data (i32.const {RECORD}) "{}")
            (func (export "proxy_abi_version_0_2_1"))
            (func (export "_initialize"))
            (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 131072)
            (func (export "proxy_on_context_create") (param i32 i32))
            (func (export "proxy_on_vm_start") (param i32 i32) (result i32) i32.const 1)
            (func (export "proxy_on_configure") (param i32 i32) (result i32)
                (drop (call $tick (i32.const 5)))
                i32.const 1)
            (func (export "proxy_on_tick") (param i32)
                (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 0)))
                (i64.store (i32.const {}) (i64.div_u (i64.load (i32.const 0)) (i64.const 1000)))
                (i64.store (i32.const {}) (i64.div_u (i64.load (i32.const 0)) (i64.const 1000)))
                (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 0)))
                (i64.store (i32.const {}) (i64.div_u (i64.load (i32.const 0)) (i64.const 1000000000)))
                (drop (call $set (i32.const {NAME}) (i32.const {}) (i32.const {RECORD}) (i32.const {})
                    (i32.const 0))))
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 0)
            (func (export "proxy_on_delete") (param i32)))"#,
        escaped(name),
        escaped(record),
        RECORD + START,
        RECORD + WRITTEN,
        RECORD + WRITTEN + 8,
        name.len(),
        record.len(),
    );
    wat::parse_str(text).unwrap()
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "\\{byte:02x}").unwrap();
    }
    text
}
