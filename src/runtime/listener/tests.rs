//! The listener on loopback, with well-behaved and misbehaving clients.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::health::HealthStatus;
use super::*;

fn endpoints() -> Endpoints {
    Endpoints { health: Health::default(), metrics: Arc::new(Metrics::new()), refresh: RefreshEndpoint::default() }
}

async fn get(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    answer
}

#[tokio::test]
async fn readyz_names_cause_and_livez_ignores_it() {
    let health = Health::default();
    let listener = bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(serve(listener, Endpoints { health: health.clone(), ..endpoints() }));
    health.set(&HealthStatus { reasons: vec!["Denied: no".into()], ..HealthStatus::default() });
    let answer = get(address, "GET /readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("Denied: no"), "{answer}");
    assert!(get(address, "GET /livez").await.starts_with("HTTP/1.1 200"));
    health.set(&HealthStatus { ready: true, ..HealthStatus::default() });
    assert!(get(address, "GET /readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = get(address, "GET /metrics").await;
    assert!(metrics.contains("openmetrics-text") && metrics.contains("# EOF"), "{metrics}");
    assert!(get(address, "POST /readyz").await.starts_with("HTTP/1.1 405"));
    assert!(get(address, "GET /").await.starts_with("HTTP/1.1 404"));
    assert!(!get(address, "HEAD /livez").await.contains("ok\n"));
}

#[tokio::test]
async fn refresh_exists_only_with_a_token_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let token_file = directory.path().join("token");
    std::fs::write(&token_file, "Zugangslosung-0123456789").expect("written");
    let settings = crate::model::RefreshNow { annotations_file: None, token_file: Some(token_file) };
    let triggers = super::super::refresh::RefreshTriggers::new(&settings);
    let with_token_file = Endpoints { refresh: triggers.endpoint(), ..endpoints() };
    for (endpoints, expected) in [
        (endpoints(), ["404 Not Found", "404 Not Found", "404 Not Found"]),
        (with_token_file, ["405 Method Not Allowed", "401 Unauthorized", "202 Accepted"]),
    ] {
        let (listener, address) = bound(([127, 0, 0, 1], 0));
        let _serving = RunningListener::start(listener, endpoints);
        let right = "POST /refresh?new-leases=true HTTP/1.1\r\nauthorization: Bearer Zugangslosung-0123456789\r\nx:";
        for (request, status) in ["GET /refresh", "POST /refresh", right].into_iter().zip(expected) {
            let answer = get(address, request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {answer}");
            assert!(!answer.contains("Zugangslosung"), "{answer}");
            let challenge = answer.to_lowercase().contains("www-authenticate: bearer");
            assert_eq!(challenge, status.starts_with("401"), "{answer}");
            assert_eq!(answer.to_lowercase().contains("allow: post"), status.starts_with("405"), "{answer}");
        }
    }
    let request = tokio::time::timeout(Duration::from_secs(10), {
        let mut triggers = triggers;
        async move { triggers.next().await }
    });
    assert!(request.await.expect("a request").new_leases);
}

fn started(listener: TcpListener) -> RunningListener {
    RunningListener::start(listener, endpoints())
}

fn bound(address: impl Into<SocketAddr>) -> (TcpListener, SocketAddr) {
    let listener = bind(address.into()).expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

#[tokio::test]
async fn idle_clients_do_not_block_probes() {
    let (listener, address) = bound(([127, 0, 0, 1], 0));
    let _serving = started(listener);
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(TcpStream::connect(address).await.expect("it listens"));
    }
    // All permits are taken until the timeout closes the first connection.
    let answered = tokio::time::timeout(CONNECTION_TIMEOUT + Duration::from_secs(5), get(address, "GET /livez")).await;
    assert!(answered.expect("an answer").starts_with("HTTP/1.1 200"));
    let mut rest = Vec::new();
    let closed = silent[0].read_to_end(&mut rest).await;
    assert!(closed.is_ok() && !rest.starts_with(b"HTTP/1.1 200"), "{closed:?} {rest:?}");
}

#[tokio::test]
async fn incomplete_request_head_is_closed_after_timeout() {
    let (listener, address) = bound(([127, 0, 0, 1], 0));
    let _serving = started(listener);
    let mut slow = TcpStream::connect(address).await.expect("it listens");
    slow.write_all(b"GET /livez HTTP/1.1\r\nhost:").await.expect("it reads");
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(CONNECTION_TIMEOUT * 2, slow.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "the connection is closed");
}

#[tokio::test]
async fn port_can_be_bound_after_listener_stops() {
    let (listener, address) = bound(([0, 0, 0, 0], 0));
    let serving = started(listener);
    let loopback = SocketAddr::from(([127, 0, 0, 1], address.port()));
    let _open = TcpStream::connect(loopback).await.expect("it listens");
    let failure = bind(loopback).expect_err("the port is in use");
    assert_eq!((failure.reason, failure.class), (Reason::ListenFailed, FailureClass::Local));
    assert!(failure.message.contains("another process in the pod uses this port"), "{failure}");
    serving.stop().await;
    let (listener, _) = bound(loopback);
    let _serving = started(listener);
    assert!(get(loopback, "GET /livez").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn unspecified_address_accepts_ipv4() {
    let (listener, address) = bound((Ipv6Addr::UNSPECIFIED, 0));
    if address.is_ipv6() {
        assert!(!rustix::net::sockopt::ipv6_v6only(&listener).expect("an option"), "the socket accepts only IPv6");
    }
    let _serving = started(listener);
    let loopback = SocketAddr::from(([127, 0, 0, 1], address.port()));
    assert!(get(loopback, "GET /livez").await.starts_with("HTTP/1.1 200"));
}

#[test]
fn missing_ipv6_is_detected_by_errno() {
    for errno in [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL] {
        assert!(has_no_ipv6(&errno.into()), "{errno}");
    }
    assert!(!has_no_ipv6(&Errno::ADDRINUSE.into()));
}

/// A listener in a process without free file descriptors.
struct Exhausted(Arc<AtomicU32>);

impl Accept for Exhausted {
    async fn accept(&self) -> io::Result<TcpStream> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(Errno::MFILE.into())
    }
}

#[tokio::test(start_paused = true)]
async fn failing_accept_does_not_spin() {
    let tried = Arc::new(AtomicU32::new(0));
    let serving = serve_from(Exhausted(Arc::clone(&tried)), endpoints());
    assert!(tokio::time::timeout(Duration::from_secs(10), serving).await.is_err());
    assert!((5..=11).contains(&tried.load(Ordering::Relaxed)), "{tried:?}");
}
