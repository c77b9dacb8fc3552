//! The host's functions (proxy-wasm ABI 0.2.1), each returning a `Result`, on bytes.
//!
//! The SDK's wrappers panic on header bytes that are not UTF-8 and on a status they do not expect;
//! a panic kills the worker's VM, and with it every request that waits. So the shell declares the
//! imports itself. Calls are the exception: only the SDK can register them with its dispatcher.

#![expect(
    unsafe_code,
    reason = "host functions are foreign functions; each block says why its pointers are good"
)]

use crate::http::message::{HeaderField, HttpCall, LocalReply, MessageHead};
use std::ptr;
use std::time::Duration;

mod import {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub(super) fn proxy_call_foreign_function(
            name: *const u8,
            name_size: usize,
            argument: *const u8,
            argument_size: usize,
            result: *mut *mut u8,
            result_size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_continue_stream(stream: u32) -> u32;
        pub(super) fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
        pub(super) fn proxy_get_buffer_bytes(
            buffer: u32,
            start: usize,
            most: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
        pub(super) fn proxy_get_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_property(
            path: *const u8,
            path_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_shared_data(
            name: *const u8,
            name_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
            cas: *mut u32,
        ) -> u32;
        pub(super) fn proxy_increment_metric(id: u32, offset: i64) -> u32;
        pub(super) fn proxy_log(level: u32, message: *const u8, message_size: usize) -> u32;
        pub(super) fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
        pub(super) fn proxy_replace_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc_status: i32,
        ) -> u32;
        pub(super) fn proxy_set_effective_context(context: u32) -> u32;
        pub(super) fn proxy_set_property(
            name: *const u8,
            name_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_set_shared_data(
            name: *const u8,
            name_size: usize,
            data: *const u8,
            size: usize,
            cas: u32,
        ) -> u32;
        pub(super) fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    }

    #[cfg(target_arch = "wasm32")]
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub(super) fn clock_time_get(clock: u32, precision: u64, nanoseconds: *mut u64) -> u32;
    }

    #[cfg(not(target_arch = "wasm32"))]
    unsafe extern "C" {
        pub(super) fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
}

/// A status of the host other than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostError(pub(super) u32);

/// What the host says of what it does not know.
const NOT_FOUND: HostError = HostError(1);

/// What the host says of arguments that it cannot use.
pub(super) const BAD_ARGUMENT: HostError = HostError(2);

/// What the host says of a call that it could not even begin.
pub(super) const INTERNAL_FAILURE: HostError = HostError(10);

/// What the host says when somebody else has written meanwhile.
pub(super) const CAS_MISMATCH: u32 = 8;

const REQUEST_HEADERS: u32 = 0;
const RESPONSE_HEADERS: u32 = 2;
const RESPONSE_TRAILERS: u32 = 3;
const CALL_RESPONSE_HEADERS: u32 = 6;
const CALL_RESPONSE_BODY: u32 = 4;
const PLUGIN_CONFIGURATION: u32 = 7;
const REQUEST_STREAM: u32 = 0;
const COUNTER: u32 = 0;

fn checked(status: u32) -> Result<(), HostError> {
    if status == 0 { Ok(()) } else { Err(HostError(status)) }
}

/// Takes over what the host has written.
fn received(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>, HostError> {
    let (mut data, mut size) = (ptr::null_mut(), 0);
    checked(call(&raw mut data, &raw mut size))?;
    if data.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the host allocates with our `proxy_on_memory_allocate`, which leaks a boxed slice of
    // exactly `size` bytes, and leaves it to us.
    Ok(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(data, size)) }.into_vec())
}

/// The header section of the request of the effective context.
pub(super) fn request_head() -> Result<MessageHead, HostError> {
    header_map(REQUEST_HEADERS)
}

/// The header section of the response of the effective context.
pub(super) fn response_head() -> Result<MessageHead, HostError> {
    header_map(RESPONSE_HEADERS)
}

/// The trailers of the response of the effective context.
pub(super) fn response_trailers() -> Result<MessageHead, HostError> {
    header_map(RESPONSE_TRAILERS)
}

/// The status of the response of the effective context.
pub(super) fn response_status() -> Result<Vec<u8>, HostError> {
    let name = ":status";
    // SAFETY: the host reads the name during the call only; the others are locals of `received`.
    received(|data, size| unsafe {
        import::proxy_get_header_map_value(RESPONSE_HEADERS, name.as_ptr(), name.len(), data, size)
    })
}

/// The header section of the answer that is being delivered.
pub(super) fn call_response_head() -> Result<MessageHead, HostError> {
    header_map(CALL_RESPONSE_HEADERS)
}

/// The body of the answer that is being delivered.
pub(super) fn call_response_body(most: usize) -> Result<Vec<u8>, HostError> {
    buffer(CALL_RESPONSE_BODY, most)
}

/// The plugin's configuration.
pub(super) fn configuration(size: usize) -> Result<Vec<u8>, HostError> {
    if size == 0 { Ok(Vec::new()) } else { buffer(PLUGIN_CONFIGURATION, size) }
}

fn buffer(which: u32, most: usize) -> Result<Vec<u8>, HostError> {
    // SAFETY: both pointers are to locals of `received` that outlive the call.
    received(|data, size| unsafe { import::proxy_get_buffer_bytes(which, 0, most, data, size) })
}

fn header_map(which: u32) -> Result<MessageHead, HostError> {
    // SAFETY: both pointers are to locals of `received` that outlive the call.
    let bytes = received(|data, size| unsafe { import::proxy_get_header_map_pairs(which, data, size) })?;
    let fields = fields(&bytes).unwrap_or_default();
    Ok(MessageHead::new(bytes, fields))
}

/// Where the pairs of a serialised header map stand: a count, the lengths of each name and value,
/// then each name and value with a zero byte behind it; all numbers 32 bits, little-endian.
fn fields(bytes: &[u8]) -> Option<Vec<HeaderField>> {
    let number = |at: usize| {
        let digits = bytes.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(digits.try_into().ok()?)).ok()
    };
    let count = number(0)?;
    let mut at = count.checked_mul(8)?.checked_add(4)?;
    if at > bytes.len() {
        return None;
    }
    let mut fields = Vec::with_capacity(count);
    for index in 0..count {
        let lengths = index.checked_mul(8)?.checked_add(4)?;
        let name = at..at.checked_add(number(lengths)?)?;
        let value_start = name.end.checked_add(1)?;
        let value = value_start..value_start.checked_add(number(lengths.checked_add(4)?)?)?;
        at = value.end.checked_add(1)?;
        fields.push(HeaderField { name, value });
    }
    (at <= bytes.len()).then_some(fields)
}

/// The same, the other way round.
fn serialised<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Vec<u8> {
    let word = |length: usize| u32::try_from(length).unwrap_or_default().to_le_bytes();
    let mut bytes = word(pairs.clone().count()).to_vec();
    for (name, value) in pairs.clone() {
        bytes.extend_from_slice(&word(name.len()));
        bytes.extend_from_slice(&word(value.len()));
    }
    for (name, value) in pairs {
        for text in [name, value] {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
    }
    bytes
}

/// Sets a request header to this value alone.
pub(super) fn set_request_header(name: &str, value: &[u8]) -> Result<(), HostError> {
    // SAFETY: the host reads the two slices during the call only.
    checked(unsafe {
        import::proxy_replace_header_map_value(
            REQUEST_HEADERS,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Removes a request header, every line of it.
pub(super) fn remove_request_header(name: &str) -> Result<(), HostError> {
    // SAFETY: the host reads the slice during the call only.
    checked(unsafe { import::proxy_remove_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len()) })
}

/// Resumes the paused request of the effective context.
pub(super) fn resume() -> Result<(), HostError> {
    // SAFETY: no pointers.
    checked(unsafe { import::proxy_continue_stream(REQUEST_STREAM) })
}

/// Answers the request of the effective context.
pub(super) fn answer(response: &LocalReply) -> Result<(), HostError> {
    let LocalReply { status, grpc_status, headers, body, details, .. } = response;
    let headers = serialised(headers.iter().map(|(name, value)| (*name, value.as_str())));
    let by_http_status = -1;
    // SAFETY: the host reads the slices during the call only.
    checked(unsafe {
        import::proxy_send_local_response(
            u32::from(*status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status.map_or(by_http_status, i32::from),
        )
    })
}

/// Makes the following calls concern this context; refused when it is gone.
pub(super) fn set_effective_context(context: u32) -> Result<(), HostError> {
    // SAFETY: no pointers.
    checked(unsafe { import::proxy_set_effective_context(context) })
}

/// Calls the root's `on_tick` every so often.
pub(super) fn set_tick(period_millis: u32) -> Result<(), HostError> {
    // SAFETY: no pointers.
    checked(unsafe { import::proxy_set_tick_period_milliseconds(period_millis) })
}

/// An attribute of the request or the connection; none if the host does not know it.
pub(super) fn property(path: &[&str]) -> Result<Option<Vec<u8>>, HostError> {
    let path = path.join("\0");
    // SAFETY: the host reads the path during the call only; the others are locals of `received`.
    let read =
        received(|data, size| unsafe { import::proxy_get_property(path.as_ptr(), path.len(), data, size) });
    match read {
        Err(NOT_FOUND) => Ok(None),
        read => read.map(Some),
    }
}

/// Says that a property of our own is a text, which CEL then compares with texts. For the root
/// context, as it starts.
pub(super) fn declare_string_property(name: &str) -> Result<(), HostError> {
    // Envoy's `DeclarePropertyArguments`, as protobuf: `name` is field 1, `type` is field 3, and 1
    // is a text.
    let length = u8::try_from(name.len()).map_err(|_| BAD_ARGUMENT)?;
    let arguments = [&[0x0a, length], name.as_bytes(), &[0x18, 1]].concat();
    call_foreign_function("declare_property", &arguments).map(drop)
}

/// Sets a property of the request of the effective context, for later filters and the access log:
/// `wasm.` and the name.
pub(super) fn set_property(name: &str, value: &str) -> Result<(), HostError> {
    // SAFETY: the host reads the slices during the call only.
    checked(unsafe { import::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// The value in the process's shared data under a name, and its version.
pub(super) fn shared_data(name: &str) -> Result<(Vec<u8>, u32), HostError> {
    let mut cas = 0;
    // SAFETY: the host reads the name during the call only; the others are locals that outlive the
    // call.
    let bytes = received(|data, size| unsafe {
        import::proxy_get_shared_data(name.as_ptr(), name.len(), data, size, &raw mut cas)
    })?;
    Ok((bytes, cas))
}

/// Writes to the process's shared data if the version is still `cas`; 0 writes in any case.
pub(super) fn set_shared_data(name: &str, bytes: &[u8], cas: u32) -> Result<(), HostError> {
    // SAFETY: the host reads the slices during the call only.
    checked(unsafe {
        import::proxy_set_shared_data(name.as_ptr(), name.len(), bytes.as_ptr(), bytes.len(), cas)
    })
}

/// Time since the start of the machine: the same for all workers of a process, which `std`'s clock
/// does not offer.
pub(super) fn monotonic() -> Duration {
    #[cfg(target_arch = "wasm32")]
    {
        let mut nanoseconds = 0;
        // SAFETY: the host writes to a local.
        unsafe { import::clock_time_get(1, 0, &raw mut nanoseconds) };
        Duration::from_nanos(nanoseconds)
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        let mut time = [0_i64; 2];
        // SAFETY: a `timespec` of a 64-bit host.
        unsafe { import::clock_gettime(1, &raw mut time) };
        let [seconds, nanoseconds] = time.map(|part| u64::try_from(part).unwrap_or_default());
        Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
    }
}

/// The identity of a counter.
pub(super) fn define_counter(name: &str) -> Result<u32, HostError> {
    let mut id = 0;
    // SAFETY: the host reads the name during the call only, and writes to a local.
    checked(unsafe { import::proxy_define_metric(COUNTER, name.as_ptr(), name.len(), &raw mut id) })
        .map(|()| id)
}

/// Adds to a counter.
pub(super) fn increment(id: u32, by: u64) -> Result<(), HostError> {
    // SAFETY: no pointers.
    checked(unsafe { import::proxy_increment_metric(id, i64::try_from(by).unwrap_or(i64::MAX)) })
}

/// A line in Envoy's log.
pub(super) fn log(level: log::Level, message: &str) {
    let level = match level {
        log::Level::Trace => 0,
        log::Level::Debug => 1,
        log::Level::Info => 2,
        log::Level::Warn => 3,
        log::Level::Error => 4,
    };
    // SAFETY: the host reads the slice during the call only. A line that cannot be written is lost,
    // nothing else.
    let _ = unsafe { import::proxy_log(level, message.as_ptr(), message.len()) };
}

/// Calls a function that the host registered by name.
pub(super) fn call_foreign_function(name: &str, argument: &[u8]) -> Result<Vec<u8>, HostError> {
    // SAFETY: the host reads the slices during the call only; the others are locals of `received`.
    received(|result, size| unsafe {
        import::proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            argument.as_ptr(),
            argument.len(),
            result,
            size,
        )
    })
}

/// Makes an HTTP call on behalf of the context whose callback is running, which must be the root: a
/// call of a stream would be lost with it. Refused when the host does not know the cluster.
pub(super) fn dispatch(call: &HttpCall) -> Result<u32, HostError> {
    let endpoint = &call.endpoint;
    let mut headers = vec![
        (":method", call.method),
        (":scheme", endpoint.scheme),
        (":authority", endpoint.authority.as_str()),
        (":path", endpoint.path.as_str()),
        ("user-agent", concat!("m2m-auth/", env!("CARGO_PKG_VERSION"))),
    ];
    headers.extend(call.headers.iter().map(|(name, value)| (*name, value.as_str())));
    // The host takes whole milliseconds, and 0 for "never".
    let timeout = call.timeout.clamp(Duration::from_millis(1), Duration::from_secs(60));
    let body = (!call.body.is_empty()).then_some(call.body.as_slice());
    proxy_wasm::hostcalls::dispatch_http_call(&endpoint.cluster, headers, body, Vec::new(), timeout).map_err(
        |status| match status {
            proxy_wasm::types::Status::InternalFailure => INTERNAL_FAILURE,
            _ => BAD_ARGUMENT,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_map_is_read_as_it_was_written() {
        let pairs = [(":path", "/a"), ("x", ""), ("x", "\u{fc}")];
        let bytes = serialised(pairs.iter().copied());
        let fields = fields(&bytes).unwrap();
        let head = MessageHead::new(bytes, fields);
        let read: Vec<_> = head.iter().collect();
        assert_eq!(read, pairs.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    }

    #[test]
    fn a_broken_header_map_is_no_header_map() {
        let bytes = serialised([("name", "value")].into_iter());
        for length in 0..bytes.len() {
            assert!(fields(&bytes[..length]).is_none_or(|fields| fields.is_empty()), "{length}");
        }
        assert!(fields(&[0xff; 64]).is_none());
    }
}
