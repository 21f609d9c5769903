//! Lost connections, silent connections, and wrong ports.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use keyferry::model::{FailureClass, Reason};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use super::stub::{Stub, get};
use super::tls::{TestCa, read};
use super::*;

/// A minimal HTTP/2 server over TLS. Its open connections can become silent: they stay open and accept bytes, as with a load
/// balancer or NAT gateway in front of a dead node.
struct Http2 {
    address: String,
    /// Connections that were opened at a lower age are silent.
    age: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Http2 {
    fn start(mut config: ServerConfig, body: &str) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec()];
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("https://{}", listener.local_addr().expect("bound"));
        let (age, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let server = Self { address, age: Arc::clone(&age), connections: Arc::clone(&connections) };
        let body = body.to_owned();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (config, age, body) = (Arc::clone(&config), Arc::clone(&age), body.clone());
                // Ends with an error when the client closes.
                thread::spawn(move || converse(socket, config, &age, &body).ok());
            }
        });
        server
    }

    fn make_silent(&self) {
        self.age.fetch_add(1, Ordering::SeqCst);
    }
}

/// Frames of RFC 9113: length (3 bytes), type, flags, stream (4 bytes).
fn converse(socket: TcpStream, config: Arc<ServerConfig>, age: &AtomicUsize, body: &str) -> std::io::Result<()> {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    let born = age.load(Ordering::SeqCst);
    let session = ServerConnection::new(config).expect("a good server configuration");
    let mut stream = StreamOwned::new(session, socket);
    stream.read_exact(&mut [0; "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()])?;
    let mut answer = frame(SETTINGS, 0, [0; 4], &[]);
    loop {
        stream.write_all(&answer)?;
        stream.flush()?;
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let [high, middle, low, kind, flags, id @ ..] = head;
        let mut payload = vec![0; usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)];
        stream.read_exact(&mut payload)?;
        let acknowledges = flags & 1 == 1;
        answer = match kind {
            _ if age.load(Ordering::SeqCst) != born => Vec::new(),
            SETTINGS if !acknowledges => frame(SETTINGS, 1, id, &[]),
            PING if !acknowledges => frame(PING, 1, id, &payload),
            // `:status: 200` is entry 8 of the static table; 4 ends the headers, 1 the stream.
            HEADERS => [frame(HEADERS, 4, id, &[0x88]), frame(DATA, 1, id, body.as_bytes())].concat(),
            _ => Vec::new(),
        };
    }
}

fn frame(kind: u8, flags: u8, id: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = payload.len().to_be_bytes();
    [&[high, middle, low, kind, flags], &id[..], payload].concat()
}

#[tokio::test]
async fn silent_connection_is_replaced() {
    let trusted = TestCa::new();
    let directory = tempfile::tempdir().expect("a directory");
    let ca = directory.path().join("ca.pem");
    trusted.write(&ca);
    let server = Http2::start(trusted.server("127.0.0.1", None), &kv2(&json!({}), 1).to_string());
    let tls = Tls { ca_file: Some(ca), ..Tls::default() };
    let vault = vault_at(&VaultServer { tls, timeout: Duration::from_secs(2), ..super::server(&server.address) });
    for _ in 0..2 {
        read(&vault).await.unwrap_or_else(|failure| panic!("{failure}"));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1, "HTTP/2 is spoken over one connection");
    server.make_silent();
    let failure = read(&vault).await.err().expect("a failure");
    assert_eq!((failure.class, failure.reason), (FailureClass::Unreachable, Reason::VaultUnreachable));
    assert!(failure.message.contains("the connection went silent"), "{failure}");
    read(&vault).await.unwrap_or_else(|failure| panic!("not replaced: {failure}"));
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn closed_connection_is_unreachable() {
    let stub = Stub::start([get("/v1/secret/data/a").close()]);
    let failure = read(&vault(&stub.address())).await.err().expect("a failure");
    assert_eq!((failure.class, failure.reason), (FailureClass::Unreachable, Reason::VaultUnreachable));
    assert!(!failure.message.contains("error sending request"), "only the cause: {failure}");
}

#[tokio::test]
async fn https_to_http_port_is_explained() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("https://{}", listener.local_addr().expect("bound"));
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            // Go's server responds like this to a TLS handshake.
            socket.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request").ok();
            std::io::copy(&mut socket, &mut std::io::sink()).ok();
        }
    });
    let trusted = TestCa::new();
    let directory = tempfile::tempdir().expect("a directory");
    let ca = directory.path().join("ca.pem");
    trusted.write(&ca);
    let tls = Tls { ca_file: Some(ca), ..Tls::default() };
    let failure = read(&vault_at(&VaultServer { tls, ..server(&address) })).await.err().expect("a failure");
    assert_eq!((failure.class, failure.reason), (FailureClass::Unreachable, Reason::VaultUnreachable));
    assert!(failure.message.contains("the server does not speak TLS on this port; use http://"), "{failure}");
}

#[tokio::test]
async fn timeout_failure_names_duration() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let vault = vault_at(&VaultServer { timeout: Duration::from_millis(300), ..server(&address) });
    let failure = read(&vault).await.err().expect("a failure");
    assert_eq!(failure.message, format!("failed to reach Vault at {address}: no answer within 300ms"));
}
