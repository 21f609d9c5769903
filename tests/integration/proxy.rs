//! Servers between the agent and Vault: an HTTP proxy that records requests and changes responses, and a TCP relay that can
//! go silent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A request through the proxy, and the status that the agent received.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    pub at: Instant,
    pub method: String,
    /// Path without `/v1/`.
    pub path: String,
    pub token: Option<String>,
    pub status: u16,
}

/// Changes the status and the JSON body of a response.
type Rule = Box<dyn FnMut(&RecordedRequest, &mut u16, &mut Value) + Send>;

/// An HTTP proxy in front of Vault.
pub struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<RecordedRequest>>>,
}

impl Proxy {
    /// A proxy that changes nothing.
    pub async fn counting(vault: &str) -> Result<Self> {
        Self::with_rule(vault, |_, _, _| {}).await
    }

    pub async fn with_rule(
        vault: &str,
        rule: impl FnMut(&RecordedRequest, &mut u16, &mut Value) + Send + 'static,
    ) -> Result<Self> {
        Self::at("127.0.0.1:0", vault, rule).await
    }

    /// As `with_rule`, on this address.
    pub async fn at(
        address: &str,
        vault: &str,
        rule: impl FnMut(&RecordedRequest, &mut u16, &mut Value) + Send + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let proxy = Self { address: listener.local_addr()?, seen: Arc::default() };
        let (seen, vault) = (Arc::clone(&proxy.seen), vault.to_owned());
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(rule)));
        let client = reqwest::Client::builder().no_proxy().build()?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, vault, rule, client) = (Arc::clone(&seen), vault.clone(), Arc::clone(&rule), client.clone());
                let service = service_fn(move |request| {
                    let (seen, vault, rule, client) =
                        (Arc::clone(&seen), vault.clone(), Arc::clone(&rule), client.clone());
                    async move { pass(request, &vault, &client, &rule, &seen).await }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(proxy)
    }

    /// For `VAULT_ADDR`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn seen(&self) -> Vec<RecordedRequest> {
        locked(&self.seen).clone()
    }

    /// Requests whose path ends with `path`.
    pub fn of(&self, path: &str) -> Vec<RecordedRequest> {
        self.seen().into_iter().filter(|seen| seen.path.ends_with(path)).collect()
    }

    pub fn count(&self, path: &str) -> usize {
        self.of(path).len()
    }

    /// One line for each method, path and status, for messages.
    pub fn summary(&self) -> String {
        let mut counts = std::collections::BTreeMap::new();
        for seen in self.seen() {
            *counts.entry(format!("{} {} {}", seen.method, seen.path, seen.status)).or_insert(0) += 1;
        }
        counts.into_iter().map(|(what, count)| format!("{count:>5} {what}\n")).collect()
    }
}

async fn pass(
    request: hyper::Request<Incoming>,
    vault: &str,
    client: &reqwest::Client,
    rule: &Mutex<Rule>,
    seen: &Mutex<Vec<RecordedRequest>>,
) -> Result<hyper::Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().context("a path")?.as_str().to_owned();
    let mut on = client.request(head.method.clone(), format!("{vault}{target}"));
    for (name, value) in head.headers.iter().filter(|(name, _)| !["host", "connection"].contains(&name.as_str())) {
        on = on.header(name, value);
    }
    let answer = on.body(body.collect().await?.to_bytes()).send().await?;
    let (mut status, content_type) = (answer.status().as_u16(), answer.headers().get("content-type").cloned());
    let bytes = answer.bytes().await?;
    let mut json: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let token = head.headers.get("x-vault-token").and_then(|token| token.to_str().ok()).map(str::to_owned);
    let path = target.trim_start_matches("/v1/").to_owned();
    let mut note = RecordedRequest { at: Instant::now(), method: head.method.to_string(), path, token, status };
    locked(rule)(&note, &mut status, &mut json);
    note.status = status;
    locked(seen).push(note);
    let body = if json.is_null() { bytes } else { json.to_string().into() };
    let mut response = hyper::Response::builder().status(status);
    if let Some(content_type) = content_type {
        response = response.header("content-type", content_type);
    }
    Ok(response.body(Full::new(body))?)
}

/// A TCP relay. Its connections can go silent: they stay open, and bytes sent on them are dropped.
pub struct Relay {
    address: SocketAddr,
    generation: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

impl Relay {
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let relay = Self { address: listener.local_addr()?, generation: Arc::default(), connections: Arc::default() };
        let (generation, connections) = (Arc::clone(&relay.generation), Arc::clone(&relay.connections));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                let generation_at_start = generation.load(Ordering::Relaxed);
                tokio::spawn(pump(near_in, far_out, generation_at_start, Arc::clone(&generation)));
                tokio::spawn(pump(far_in, near_out, generation_at_start, Arc::clone(&generation)));
            }
        });
        Ok(relay)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Number of accepted connections.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Silences all open connections; new connections work.
    pub fn silence(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    generation_at_start: u64,
    generation: Arc<AtomicU64>,
) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if generation.load(Ordering::Relaxed) == generation_at_start && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
