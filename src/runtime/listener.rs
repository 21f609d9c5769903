//! `/livez`, `/readyz` and `/metrics` on one port.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::health::Health;
use super::metrics::Metrics;
use crate::model::{Failure, FailureClass, Reason};

/// Connections at the same time; more wait. Probes and one scraper need two.
const CONNECTIONS: usize = 8;

/// How long one connection may last: a client that says nothing must not hold a place.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);

/// Content type of the OpenMetrics text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let message = format!("failed to listen on {address}: {error}");
        Failure::new(FailureClass::Local, Reason::WriteFailed, message)
    })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "probes and metrics are served");
    }
    Ok(listener)
}

pub(super) async fn serve(listener: TcpListener, health: Health, metrics: Arc<Metrics>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (health, metrics) = (health.clone(), Arc::clone(&metrics));
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = respond(&request, &health, &metrics);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

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
}
