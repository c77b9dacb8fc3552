//! The HTTP server under the stand-ins: a handler in, a port out that closes at once, with its live
//! connections.

use crate::wait::PATIENCE;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rand::Rng as _;
use std::{
    error::Error,
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
pub(crate) type Body = BoxBody<Bytes, BoxError>;
/// An error closes the connection without an answer.
pub(crate) type Answer = Result<Response<Body>, BoxError>;

/// Below the range from which Linux and macOS take the local ports of outgoing connections (32768
/// and 49152 up): nobody takes the port of a stopped server by accident, and nobody connects to
/// himself.
const PORTS: Range<u16> = 20_000..32_000;

/// One running server; closed when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves `handler` on `port`, or on a free one.
    pub(crate) async fn start<H, F>(port: Option<u16>, handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = runtime().spawn(bind(port)).await.expect("binding does not panic");
        let listener = listener.unwrap_or_else(|error| panic!("no port for a stand-in ({port:?}): {error}"));
        let address = listener.local_addr().expect("a bound listener has an address");
        let task = runtime().spawn(accept(listener, Arc::new(handler)));
        Self { address, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port and every connection, and comes back when that has happened.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The runtime of all stand-ins: it outlives every test and needs nothing of the test's own.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(2).thread_name("kit").enable_all();
        builder.build().expect("a runtime for the stand-ins")
    })
}

/// A whole answer.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Body> {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let body = Full::new(body.into()).map_err(BoxError::from).boxed();
    builder.body(body).expect("a status and headers that HTTP allows")
}

/// Ignores poisoning: after a panic the value is still wanted in the report.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body whose frames are sent one by one; an error cuts the connection in the middle of the body.
pub(crate) fn frames() -> (mpsc::Sender<Result<Frame<Bytes>, BoxError>>, Body) {
    let (sender, receiver) = mpsc::channel(8);
    (sender, Frames(Mutex::new(receiver)).boxed())
}

/// The mutex is never contended: it makes the receiver `Sync`, which a boxed body must be.
struct Frames(Mutex<mpsc::Receiver<Result<Frame<Bytes>, BoxError>>>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        lock(&self.0).poll_recv(context)
    }
}

async fn bind(port: Option<u16>) -> io::Result<TcpListener> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let candidate = port.unwrap_or_else(|| rand::thread_rng().gen_range(PORTS));
        match TcpListener::bind((Ipv4Addr::LOCALHOST, candidate)).await {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            outcome => return outcome,
        }
    }
}

/// Aborting this task drops the listener and the set, and the set takes the connections with it.
async fn accept<H, F>(listener: TcpListener, handler: Arc<H>)
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(connection(stream, Arc::clone(&handler)));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn connection<H, F>(stream: TcpStream, handler: Arc<H>)
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| handler(request));
    // What goes wrong on a connection is the client's business, and often what the test wants.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}
