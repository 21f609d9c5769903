//! `/livez`, `/readyz`, `/metrics`, and `POST /refresh` on one port.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::health::Health;
use super::metrics::Metrics;
use super::refresh::{Answer, RefreshEndpoint};
use crate::model::{Failure, FailureClass, Reason};

/// Maximum number of concurrent connections; further ones wait in the kernel's queue. Probes and one scraper need two.
/// The rest is a reserve, so that idle clients cannot block the kubelet's probes.
const MAX_CONNECTIONS: usize = 64;

/// Timeout for receiving the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout of a whole connection, which serves one request of a few hundred bytes.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(3);

/// Delay after a failed `accept`, which would otherwise fail in a loop while no file descriptor is free (`EMFILE`).
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Maximum number of connections that the kernel queues.
const BACKLOG: u32 = 128;

/// Content type of the OpenMetrics text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Opens the port. Must be called in a tokio runtime. `[::]` also accepts IPv4, whatever `net.ipv6.bindv6only` is, and
/// falls back to 0.0.0.0 on a node without IPv6.
///
/// # Errors
/// `ListenFailed` if the address cannot be bound.
pub(super) fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let mut bound = open(address);
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        && let Err(error) = &bound
        && has_no_ipv6(error)
    {
        bound = open((Ipv4Addr::UNSPECIFIED, address.port()).into());
    }
    let listener = bound.map_err(|error| {
        let cause: String = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another process in the pod uses this port; set `listen` to another port".into()
            }
            io::ErrorKind::AddrNotAvailable => {
                "the pod does not have this address; set `listen: \":8250\"` to listen on all addresses".into()
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need a capability that the agent does not have; set `listen` to a higher port".into()
            }
            _ => error.to_string(),
        };
        Failure::new(FailureClass::Local, Reason::ListenFailed, format!("failed to listen on {address}: {cause}"))
    })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving probes and metrics");
    }
    Ok(listener)
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
    }
    // An earlier agent process may have left connections in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Whether the kernel or all interfaces lack IPv6 (`net.ipv6.conf.all.disable_ipv6`).
fn has_no_ipv6(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// What the listener serves.
#[derive(Clone)]
pub(super) struct Endpoints {
    pub(super) health: Health,
    pub(super) metrics: Arc<Metrics>,
    pub(super) refresh: RefreshEndpoint,
}

/// A listener that serves requests until it is stopped.
pub(super) struct RunningListener {
    task: JoinHandle<()>,
}

impl RunningListener {
    /// Starts the task that serves requests.
    pub(super) fn start(listener: TcpListener, endpoints: Endpoints) -> Self {
        Self { task: tokio::spawn(serve(listener, endpoints)) }
    }

    /// Closes the port, so that it can be bound again. Open connections run until they end.
    pub(super) async fn stop(self) {
        self.task.abort();
        // `abort` only requests the end. The socket is closed when the task has ended.
        let _ = self.task.await;
    }
}

/// Accepts connections; tests replace it.
trait Accept {
    fn accept(&self) -> impl Future<Output = io::Result<TcpStream>> + Send;
}

impl Accept for TcpListener {
    async fn accept(&self) -> io::Result<TcpStream> {
        TcpListener::accept(self).await.map(|(stream, _)| stream)
    }
}

/// Serves until the future is dropped.
pub(super) async fn serve(listener: TcpListener, endpoints: Endpoints) {
    serve_from(listener, endpoints).await;
}

async fn serve_from(listener: impl Accept, endpoints: Endpoints) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut failing = false;
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            // The client closed the connection before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, reason = Reason::ListenFailed.as_str(), "failed to accept a connection");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        let endpoints = endpoints.clone();
        tokio::spawn(async move {
            let service = service_fn(async |request| Ok::<_, Infallible>(respond(request, &endpoints).await));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            drop(permit);
        });
    }
}

/// Content type of messages.
const PLAIN: &str = "text/plain; charset=utf-8";

fn response(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

async fn respond(request: Request<Incoming>, endpoints: &Endpoints) -> Response<Full<Bytes>> {
    if request.uri().path() == "/refresh" {
        return refreshed(&endpoints.refresh.answer(request).await);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let response = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "use GET or HEAD\n");
        return with_header(response, ALLOW, "GET, HEAD");
    }
    match request.uri().path() {
        // Liveness covers only the agent: a response shows that its only thread runs. An outage of Vault must not
        // restart an agent that keeps the last good set.
        "/livez" => response(StatusCode::OK, PLAIN, "ok\n"),
        "/readyz" => {
            let status = endpoints.health.get();
            if status.ready {
                response(StatusCode::OK, PLAIN, "ok\n")
            } else {
                response(StatusCode::SERVICE_UNAVAILABLE, PLAIN, status.reasons.join("\n") + "\n")
            }
        }
        "/metrics" => response(StatusCode::OK, OPEN_METRICS, endpoints.metrics.encode()),
        _ => not_found(),
    }
}

fn not_found() -> Response<Full<Bytes>> {
    response(StatusCode::NOT_FOUND, PLAIN, "not found; use /livez, /readyz or /metrics\n")
}

fn with_header(mut response: Response<Full<Bytes>>, name: HeaderName, value: &'static str) -> Response<Full<Bytes>> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

/// The response of `POST /refresh`. It contains nothing of the request.
fn refreshed(answer: &Answer) -> Response<Full<Bytes>> {
    let (status, text) = match answer {
        Answer::Accepted => (StatusCode::ACCEPTED, "reading all sources; the log of keyferry shows the result\n"),
        Answer::BadQuery => (StatusCode::BAD_REQUEST, "use no query, or new-leases=true\n"),
        Answer::NoToken => (StatusCode::UNAUTHORIZED, "send the token as Authorization: Bearer TOKEN\n"),
        Answer::WrongToken => (StatusCode::FORBIDDEN, "wrong token\n"),
        Answer::NotFound => return not_found(),
        Answer::NotPost => (StatusCode::METHOD_NOT_ALLOWED, "use POST\n"),
        Answer::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 KiB; send none\n"),
        Answer::Unusable => {
            (StatusCode::SERVICE_UNAVAILABLE, "the token file cannot be used; see the log of keyferry\n")
        }
    };
    let response = response(status, PLAIN, text);
    match answer {
        Answer::NoToken => with_header(response, WWW_AUTHENTICATE, "Bearer"),
        Answer::NotPost => with_header(response, ALLOW, "POST"),
        _ => response,
    }
}

#[cfg(test)]
mod tests;
