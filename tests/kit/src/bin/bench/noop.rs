//! A proxy-wasm module that does nothing, made by hand: the price of entering a VM at all.
//!
//! It exports what the SDK needs for one request (a context made, the headers seen, the context
//! deleted) and answers each callback with a constant, so no filter that is a wasm module can cost
//! less.

/// One exported function: its name, how many `i32` it takes, and the constant it answers with, if
/// any.
const FUNCTIONS: &[(&str, u8, Option<u8>)] = &[
    ("proxy_abi_version_0_2_1", 0, None),
    ("_initialize", 0, None),
    ("proxy_on_memory_allocate", 1, Some(0)),
    ("proxy_on_context_create", 2, None),
    ("proxy_on_vm_start", 2, Some(TRUE)),
    ("proxy_on_configure", 2, Some(TRUE)),
    ("proxy_on_request_headers", 3, Some(CONTINUE)),
    ("proxy_on_delete", 1, None),
];

const TRUE: u8 = 1;
const CONTINUE: u8 = 0;

// WebAssembly core specification 2.0, section 5.
const I32: u8 = 0x7f;
const FUNC_TYPE: u8 = 0x60;
const I32_CONST: u8 = 0x41;
const END: u8 = 0x0b;
const MEMORY: u8 = 0x02;
const NO_LOCALS: u8 = 0x00;
const NO_MAXIMUM: u8 = 0x00;

/// The module's bytes.
pub(crate) fn module() -> Vec<u8> {
    let indices = 0..u8::try_from(FUNCTIONS.len()).expect("a handful of functions");
    let types = FUNCTIONS.iter().map(|&(_, takes, gives)| {
        let results = vec![I32; usize::from(gives.is_some())];
        [vec![FUNC_TYPE], sized(&vec![I32; usize::from(takes)]), sized(&results)].concat()
    });
    let exports = FUNCTIONS.iter().zip(indices.clone()).map(|(&(name, ..), index)| export(name, 0, index));
    let bodies = FUNCTIONS.iter().map(|&(_, _, gives)| {
        let constant = gives.map_or_else(Vec::new, |value| vec![I32_CONST, value]);
        sized(&[vec![NO_LOCALS], constant, vec![END]].concat())
    });
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, types),
        section(3, indices.map(|index| vec![index])),
        section(5, [vec![NO_MAXIMUM, 1]]),
        section(7, exports.chain([export("memory", MEMORY, 0)])),
        section(10, bodies),
    ]
    .concat()
}

fn export(name: &str, kind: u8, index: u8) -> Vec<u8> {
    [sized(name.as_bytes()), vec![kind, index]].concat()
}

fn section(id: u8, items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Vec<_> = items.into_iter().collect();
    let content = [number(items.len()), items.concat()].concat();
    [vec![id], sized(&content)].concat()
}

fn sized(content: &[u8]) -> Vec<u8> {
    [number(content.len()), content.to_vec()].concat()
}

/// Unsigned LEB128.
fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits");
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
