//! `/livez`, `/readyz` and `/metrics` on one port.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
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
use crate::model::{Failure, FailureClass, Reason};

/// Connections at the same time; more wait in the kernel's queue. Probes and one scraper need two; the rest is for clients that
/// connect and say nothing, so that they cannot keep the kubelet's probes out.
const CONNECTIONS: usize = 64;

/// Until the head of a request must be here.
const HEADER_LIMIT: Duration = Duration::from_secs(2);

/// How long one connection may last, all in all: it serves one request of a few hundred bytes.
const CONNECTION_LIMIT: Duration = Duration::from_secs(3);

/// Pause after a failed `accept`. Out of descriptors (`EMFILE`), it fails again at once until another one is closed.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Connections that the kernel keeps for us until they are accepted.
const BACKLOG: u32 = 128;

/// Content type of the OpenMetrics text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Opens the port. `[::]` takes IPv4 too, whatever `net.ipv6.bindv6only` says, and becomes 0.0.0.0 on a node without IPv6.
///
/// # Errors
/// With the reason `ListenFailed`, if the address is not ours or the port is in use.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let mut bound = open(address);
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        && let Err(error) = &bound
        && has_no_ipv6(error)
    {
        bound = open((Ipv4Addr::UNSPECIFIED, address.port()).into());
    }
    let listener = bound.map_err(|error| {
        let next = match error.kind() {
            io::ErrorKind::AddrInUse => ": another process of the Pod has this port; set `listen` to another one",
            io::ErrorKind::AddrNotAvailable => {
                ": the Pod does not have this address; `listen: \":8250\"` takes all it has"
            }
            io::ErrorKind::PermissionDenied => ": ports below 1024 need a right that the agent does not have",
            _ => "",
        };
        Failure::new(FailureClass::Local, Reason::ListenFailed, format!("failed to listen on {address}: {error}{next}"))
    })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "probes and metrics are served");
    }
    Ok(listener)
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
    }
    // An earlier process of ours may have left connections in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// No IPv6 in the kernel, or none on any interface (`net.ipv6.conf.all.disable_ipv6`).
fn has_no_ipv6(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// A listener that serves, until it is stopped.
pub(super) struct Serving {
    task: JoinHandle<()>,
}

impl Serving {
    /// Serves in a task of its own.
    pub(super) fn start(listener: TcpListener, health: Health, metrics: Arc<Metrics>) -> Self {
        Self { task: tokio::spawn(serve(listener, health, metrics)) }
    }

    /// Closes the port: afterwards it can be bound again. Connections that are open end by themselves.
    pub(super) async fn stop(self) {
        self.task.abort();
        // Aborting only asks for it; the socket is closed when the task has ended.
        let _ = self.task.await;
    }
}

/// Where connections come from.
trait Accept {
    fn accept(&self) -> impl Future<Output = io::Result<TcpStream>> + Send;
}

impl Accept for TcpListener {
    async fn accept(&self) -> io::Result<TcpStream> {
        TcpListener::accept(self).await.map(|(stream, _)| stream)
    }
}

/// Serves until the future is dropped.
pub(super) async fn serve(listener: TcpListener, health: Health, metrics: Arc<Metrics>) {
    serve_from(listener, health, metrics).await;
}

async fn serve_from(listener: impl Accept, health: Health, metrics: Arc<Metrics>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut failing = false;
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            // The client is gone already; the next one may be fine.
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
        let (health, metrics) = (health.clone(), Arc::clone(&metrics));
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = respond(&request, &health, &metrics);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_LIMIT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_LIMIT, connection).await;
            drop(place);
        });
    }
}

fn respond(request: &Request<Incoming>, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    let answer = |status, kind: &'static str, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    };
    let plain = "text/plain; charset=utf-8";
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, plain, "GET or HEAD\n".into());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        // About ourselves only: that this answer is made shows that the one thread runs. A Vault that is down must not
        // restart an agent that holds the last good set.
        "/livez" => answer(StatusCode::OK, plain, "ok\n".into()),
        "/readyz" => {
            let standing = health.get();
            if standing.ready {
                answer(StatusCode::OK, plain, "ok\n".into())
            } else {
                answer(StatusCode::SERVICE_UNAVAILABLE, plain, standing.reasons.join("\n") + "\n")
            }
        }
        "/metrics" => answer(StatusCode::OK, OPEN_METRICS, metrics.encode()),
        _ => answer(StatusCode::NOT_FOUND, plain, "/livez, /readyz, /metrics\n".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::health::Standing;
    use super::*;

    async fn get(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        answer
    }

    #[tokio::test]
    async fn readiness_says_why_not_and_liveness_is_about_ourselves() {
        let health = Health::default();
        let listener = bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(serve(listener, health.clone(), Arc::new(Metrics::new())));
        health.set(&Standing { reasons: vec!["Denied: no".into()], ..Standing::default() });
        let answer = get(address, "GET /readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("Denied: no"), "{answer}");
        assert!(get(address, "GET /livez").await.starts_with("HTTP/1.1 200"));
        health.set(&Standing { ready: true, ..Standing::default() });
        assert!(get(address, "GET /readyz").await.starts_with("HTTP/1.1 200"));
        let metrics = get(address, "GET /metrics").await;
        assert!(metrics.contains("openmetrics-text") && metrics.contains("# EOF"), "{metrics}");
        assert!(get(address, "POST /readyz").await.starts_with("HTTP/1.1 405"));
        assert!(get(address, "GET /").await.starts_with("HTTP/1.1 404"));
        assert!(!get(address, "HEAD /livez").await.contains("ok\n"));
    }

    fn started(listener: TcpListener) -> Serving {
        Serving::start(listener, Health::default(), Arc::new(Metrics::new()))
    }

    async fn bound(address: impl Into<SocketAddr>) -> (TcpListener, SocketAddr) {
        let listener = bind(address.into()).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    }

    #[tokio::test]
    async fn clients_that_say_nothing_do_not_keep_a_probe_out() {
        let (listener, address) = bound(([127, 0, 0, 1], 0)).await;
        let _serving = started(listener);
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            silent.push(TcpStream::connect(address).await.expect("it listens"));
        }
        // All places are taken. One is free again when the first of them is cut off.
        let answered =
            tokio::time::timeout(CONNECTION_LIMIT + Duration::from_secs(5), get(address, "GET /livez")).await;
        assert!(answered.expect("an answer").starts_with("HTTP/1.1 200"));
        let mut rest = Vec::new();
        let closed = silent[0].read_to_end(&mut rest).await;
        assert!(closed.is_ok() && !rest.starts_with(b"HTTP/1.1 200"), "{closed:?} {rest:?}");
    }

    #[tokio::test]
    async fn half_a_head_is_cut_off() {
        let (listener, address) = bound(([127, 0, 0, 1], 0)).await;
        let _serving = started(listener);
        let mut slow = TcpStream::connect(address).await.expect("it listens");
        slow.write_all(b"GET /livez HTTP/1.1\r\nhost:").await.expect("it reads");
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(CONNECTION_LIMIT * 2, slow.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "the connection is still open");
    }

    #[tokio::test]
    async fn the_port_can_be_bound_again_when_the_old_listener_has_stopped() {
        let (listener, address) = bound(([0, 0, 0, 0], 0)).await;
        let serving = started(listener);
        let loopback = SocketAddr::from(([127, 0, 0, 1], address.port()));
        let _open = TcpStream::connect(loopback).await.expect("it listens");
        let failure = bind(loopback).await.expect_err("the port is in use");
        assert_eq!((failure.reason, failure.class), (Reason::ListenFailed, FailureClass::Local));
        assert!(failure.message.contains("another process of the Pod has this port"), "{failure}");
        serving.stop().await;
        let (listener, _) = bound(loopback).await;
        let _serving = started(listener);
        assert!(get(loopback, "GET /livez").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn the_address_for_all_takes_ipv4_too() {
        let (listener, address) = bound((Ipv6Addr::UNSPECIFIED, 0)).await;
        if address.is_ipv6() {
            assert!(!rustix::net::sockopt::ipv6_v6only(&listener).expect("an option"), "only IPv6");
        }
        let _serving = started(listener);
        let loopback = SocketAddr::from(([127, 0, 0, 1], address.port()));
        assert!(get(loopback, "GET /livez").await.starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn a_node_without_ipv6_is_told_by_its_errors() {
        for errno in [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL] {
            assert!(has_no_ipv6(&errno.into()), "{errno}");
        }
        assert!(!has_no_ipv6(&Errno::ADDRINUSE.into()));
    }

    /// A process without a free descriptor.
    struct Exhausted(Arc<AtomicU32>);

    impl Accept for Exhausted {
        async fn accept(&self) -> io::Result<TcpStream> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Err(Errno::MFILE.into())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_accept_does_not_spin() {
        let tried = Arc::new(AtomicU32::new(0));
        let serving = serve_from(Exhausted(Arc::clone(&tried)), Health::default(), Arc::new(Metrics::new()));
        assert!(tokio::time::timeout(Duration::from_secs(10), serving).await.is_err());
        assert!((5..=11).contains(&tried.load(Ordering::Relaxed)), "{tried:?}");
    }
}
