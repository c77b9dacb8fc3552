//! The shipped module with a crash hook: the same bytes, and a check of each request that ends the
//! VM at some of them.
//!
//! Nothing of this is in the filter's own source, so nothing of it can be shipped.

use super::CLIENT;
use crate::client::Request;
use std::path::Path;
use walrus::{ExportItem, FunctionBuilder, InstrSeqBuilder, Module, ValType, ir::BinaryOp};

/// A request with at least so many headers ends the VM. Envoy takes 100, and no other request here
/// has half as many.
const MANY: i32 = 64;

/// What the host calls for the headers of a request: its context, their number, whether a body
/// follows.
const CALLBACK: &str = "proxy_on_request_headers";

/// The module at that path, with the crash hook.
pub fn crashing(module: &Path) -> Vec<u8> {
    let mut module = Module::from_file(module).expect("a module that Envoy would load");
    let original = module.exports.get_func(CALLBACK).expect("the shipped module decides about requests");
    let parameters = [(); 3].map(|()| module.locals.add(ValType::I32));
    let mut first = FunctionBuilder::new(&mut module.types, &[ValType::I32; 3], &[ValType::I32]);
    let mut body = first.func_body();
    body.local_get(parameters[1]).i32_const(MANY).binop(BinaryOp::I32GeU);
    let trap = |then: &mut InstrSeqBuilder<'_>| {
        then.unreachable();
    };
    body.if_else(None, trap, |_| {});
    for parameter in parameters {
        body.local_get(parameter);
    }
    body.call(original);
    let first = first.finish(parameters.to_vec(), &mut module.funcs);
    let export = module.exports.iter_mut().find(|export| export.name == CALLBACK).expect("found before");
    export.item = ExportItem::Function(first);
    module.emit_wasm()
}

/// The request that ends the VM of the worker that gets it.
pub fn fatal(request: Request) -> Request {
    (0..MANY).fold(request, |request, number| request.header(format!("x-{CLIENT}-{number}"), "1"))
}
