#![no_main]

#[allow(dead_code, reason = "each target is a binary of its own")]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::private_key_der(bytes));
