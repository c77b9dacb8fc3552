//! The functions that a proxy-wasm module imports, defined once for this whole test binary.
//!
//! Those that the shell has a use for do what the [`host`] of the calling thread says. The others
//! are only there because the SDK names them: that they are never called is part of what is tested.

#![allow(
    unsafe_code,
    reason = "the ABI is raw pointers; each function is called by the module with its own memory"
)]

use super::crypto;
use super::host::{self, Answer, BAD_ARGUMENT, Call, Host, INTERNAL_FAILURE, Map, NOT_FOUND, OK};
use super::pairs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{ptr, slice};

unsafe extern "C" {
    safe fn proxy_on_memory_allocate(size: usize) -> *mut u8;
}

/// Bytes of the module.
///
/// # Safety
/// They must be readable for as long as the host call takes.
unsafe fn bytes<'a>(data: *const u8, size: usize) -> &'a [u8] {
    // SAFETY: as above; a null pointer means no value.
    if data.is_null() || size == 0 { &[] } else { unsafe { slice::from_raw_parts(data, size) } }
}

/// The same, as a string for the record.
///
/// # Safety
/// As for [`bytes`].
unsafe fn text(data: *const u8, size: usize) -> String {
    // SAFETY: as above.
    String::from_utf8_lossy(unsafe { bytes(data, size) }).into_owned()
}

/// Gives bytes to the module, in memory that the module allocates; nothing is a null pointer.
///
/// # Safety
/// Both pointers must be good to write to.
unsafe fn give(given: &[u8], data: *mut *mut u8, size: *mut usize) {
    // SAFETY: the module allocates as many bytes as it is asked for.
    unsafe {
        if given.is_empty() {
            data.write(ptr::null_mut());
        } else {
            let memory = proxy_on_memory_allocate(given.len());
            memory.copy_from_nonoverlapping(given.as_ptr(), given.len());
            data.write(memory);
        }
        size.write(given.len());
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_log(level: u32, message: *const u8, message_size: usize) -> u32 {
    // SAFETY: the module's own slice.
    let message = unsafe { bytes(message, message_size) };
    // Not a word about a host that is not there: other suites' libraries log too.
    let names = ["trace", "debug", "info", "warn", "error", "critical"];
    let name = names.get(level as usize).copied().unwrap_or("odd");
    match host::with(|_| ()) {
        Some(()) => {
            // What the module wanted to say counts, whether the host takes it or not.
            host::with(|host| host.write_log(level, message));
            host::call("proxy_log", name, |_| OK)
        }
        None => OK,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32 {
    let map = Map::of(map);
    host::call("proxy_get_header_map_pairs", map, |host| {
        // SAFETY: the module's own variables.
        unsafe { give(&host.header_map(map), data, size) };
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_header_map_value(
    map: u32,
    name: *const u8,
    name_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    // SAFETY: the module's own slice.
    let name = unsafe { text(name, name_size) };
    host::call("proxy_get_header_map_value", &name, |host| {
        if (map, name.as_str()) != (2, ":status") {
            host.violate("a header by itself, which costs as much as all of them");
        }
        match host.status() {
            Some(value) => {
                // SAFETY: the module's own variables.
                unsafe { give(&value, data, size) };
                OK
            }
            None => NOT_FOUND,
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_replace_header_map_value(
    map: u32,
    name: *const u8,
    name_size: usize,
    value: *const u8,
    value_size: usize,
) -> u32 {
    // SAFETY: the module's own slices.
    let (name, value) = unsafe { (text(name, name_size), bytes(value, value_size)) };
    let detail = format!("{}: {name}", Map::of(map));
    host::call("proxy_replace_header_map_value", detail, |host| {
        host.change(Map::of(map), name.as_bytes(), Some(value))
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32 {
    // SAFETY: the module's own slice.
    let name = unsafe { text(name, name_size) };
    let detail = format!("{}: {name}", Map::of(map));
    host::call("proxy_remove_header_map_value", detail, |host| {
        host.change(Map::of(map), name.as_bytes(), None)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_buffer_bytes(
    buffer: u32,
    start: usize,
    most: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    let name = match buffer {
        4 => "call response body",
        7 => "plugin configuration",
        _ => "of another kind",
    };
    host::call("proxy_get_buffer_bytes", name, |host| {
        let Some(content) = host.buffer(buffer) else {
            return NOT_FOUND;
        };
        let Some(end) = start.checked_add(most) else {
            return BAD_ARGUMENT;
        };
        let part = content.get(start..end.min(content.len())).unwrap_or_default();
        if !part.is_empty() {
            // SAFETY: the module's own variables, which the host does not touch when there is
            // nothing to give.
            unsafe { give(part, data, size) };
        }
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_send_local_response(
    status: u32,
    details: *const u8,
    details_size: usize,
    body: *const u8,
    body_size: usize,
    headers: *const u8,
    headers_size: usize,
    grpc_status: i32,
) -> u32 {
    // SAFETY: the module's own slices.
    let (details, body, headers) =
        unsafe { (text(details, details_size), text(body, body_size), bytes(headers, headers_size)) };
    host::call("proxy_send_local_response", status, |host| {
        let headers = pairs::read(headers);
        // The host's own choice, but for bad requests: INVALID_ARGUMENT.
        let own = if status == 400 { 3 } else { -1 };
        if headers.is_none() || grpc_status != own {
            host.violate("an answer that cannot be read");
        }
        host.answer(Answer { status, details, headers: headers.unwrap_or_default(), body })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_http_call(
    cluster: *const u8,
    cluster_size: usize,
    headers: *const u8,
    headers_size: usize,
    body: *const u8,
    body_size: usize,
    _trailers: *const u8,
    _trailers_size: usize,
    timeout: u32,
    token: *mut u32,
) -> u32 {
    // The SDK keeps its tokens per thread, and a thread may see more than one host.
    static TOKENS: AtomicU32 = AtomicU32::new(1);
    // SAFETY: the module's own slices.
    let (cluster, headers, body) =
        unsafe { (text(cluster, cluster_size), bytes(headers, headers_size), bytes(body, body_size)) };
    let headers = pairs::read(headers).unwrap_or_default();
    let (number, body, due) = (TOKENS.fetch_add(1, Ordering::Relaxed), body.to_vec(), Duration::MAX);
    let call = Call { token: number, root: 0, cluster, headers, body, timeout, due };
    let detail = format!(
        "{}: {} {}",
        call.cluster,
        call.header(":method").unwrap_or_default(),
        call.header(":path").unwrap_or_default()
    );
    host::call("proxy_http_call", detail, |host| match host.dispatch(call) {
        Ok(dispatched) => {
            // SAFETY: the module's own variable.
            unsafe { token.write(dispatched) };
            OK
        }
        Err(status) => status,
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_continue_stream(stream: u32) -> u32 {
    host::call("proxy_continue_stream", "", |host| host.resume(stream))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_set_effective_context(context: u32) -> u32 {
    host::call("proxy_set_effective_context", Host::describe(context), |host| host.enter(context))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_set_tick_period_milliseconds(period: u32) -> u32 {
    host::call("proxy_set_tick_period_milliseconds", period, |host| host.arm(period))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_property(
    path: *const u8,
    path_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    // SAFETY: the module's own slice.
    let path = unsafe { text(path, path_size) };
    host::call("proxy_get_property", path.replace('\0', "."), |host| {
        match host.property(&path) {
            Some(value) => {
                // SAFETY: the module's own variables.
                unsafe { give(&value, data, size) };
                OK
            }
            None => NOT_FOUND,
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_property(
    name: *const u8,
    name_size: usize,
    value: *const u8,
    value_size: usize,
) -> u32 {
    // SAFETY: the module's own slices.
    let (name, value) = unsafe { (text(name, name_size), text(value, value_size)) };
    host::call("proxy_set_property", name.clone(), |host| host.set_property(&name, value))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_shared_data(
    name: *const u8,
    name_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
    cas: *mut u32,
) -> u32 {
    // SAFETY: the module's own slice.
    let name = unsafe { text(name, name_size) };
    host::call("proxy_get_shared_data", "", |host| match host.shared.get(&name) {
        Some((value, version)) => {
            // SAFETY: the module's own variables.
            unsafe {
                cas.write(*version);
                give(value, data, size);
            }
            OK
        }
        None => NOT_FOUND,
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_shared_data(
    name: *const u8,
    name_size: usize,
    data: *const u8,
    size: usize,
    cas: u32,
) -> u32 {
    // SAFETY: the module's own slices.
    let (name, value) = unsafe { (text(name, name_size), bytes(data, size)) };
    host::call("proxy_set_shared_data", "", |host| host.share(name, value, cas))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32 {
    // SAFETY: the module's own slice.
    let name = unsafe { text(name, name_size) };
    host::call("proxy_define_metric", name.clone(), |host| {
        if kind != 0 {
            host.violate("a metric that is not a counter");
        }
        // SAFETY: the module's own variable.
        unsafe { id.write(host.define(&name)) };
        OK
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_increment_metric(id: u32, by: i64) -> u32 {
    let name = host::with(|host| host.counter(id)).flatten().unwrap_or_default();
    host::call("proxy_increment_metric", format!("{name} {by}"), |host| host.increment(id, by))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_call_foreign_function(
    name: *const u8,
    name_size: usize,
    arguments: *const u8,
    arguments_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    // SAFETY: the module's own slices.
    let (name, arguments) = unsafe { (text(name, name_size), bytes(arguments, arguments_size)) };
    let detail = format!("{name} {}", crypto::hash(arguments));
    host::call("proxy_call_foreign_function", detail, |host| {
        match host.foreign(&name, arguments) {
            Ok(result) => {
                // SAFETY: the module's own variables.
                unsafe { give(&result, data, size) };
                OK
            }
            Err(status) => status,
        }
    })
}

/// Functions that the SDK names and that the shell has no use for.
macro_rules! unused {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> u32 {
            host::call(stringify!($name), "", |host| {
                host.violate(concat!(stringify!($name), ", which the shell has no use for"));
                INTERNAL_FAILURE
            })
        }
    )*};
}

unused! {
    proxy_add_header_map_value
    proxy_close_stream
    proxy_dequeue_shared_queue
    proxy_done
    proxy_enqueue_shared_queue
    proxy_get_current_time_nanoseconds
    proxy_get_log_level
    proxy_get_metric
    proxy_get_status
    proxy_grpc_call
    proxy_grpc_cancel
    proxy_grpc_close
    proxy_grpc_send
    proxy_grpc_stream
    proxy_record_metric
    proxy_register_shared_queue
    proxy_resolve_shared_queue
    proxy_set_buffer_bytes
    proxy_set_header_map_pairs
}
