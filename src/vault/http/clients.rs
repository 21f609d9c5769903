//! HTTP clients by origin, rebuilt when their PEM files change.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Url, redirect};

use super::error::HttpError;
use super::tls;
use super::url::origin;
use crate::model::{VaultServer, lock};

/// Vault's own limit for idle connections is 5 minutes (`http_idle_timeout`,
/// <https://developer.hashicorp.com/vault/docs/configuration/listener/tcp>). Close a little earlier, so that no request uses a
/// connection while Vault closes it.
const IDLE: Duration = Duration::from_secs(4 * 60 + 30);

/// Keeps the connection in NAT tables and detects a dead peer.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Versions of HTTP that a client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    /// HTTP/2, or HTTP/1.1 if the server does not support it.
    Any,
    /// HTTP/1.1, for a WebSocket.
    Http1,
}

/// Clients, and the fingerprint of the PEM files that they were built from. Only redirects lead to more than one client.
#[derive(Default)]
pub(super) struct Clients(Mutex<State>);

#[derive(Default)]
struct State {
    by_origin: BTreeMap<(String, Protocol), Client>,
    files: tls::Fingerprint,
    /// Whether a comparison of the files is due before the next request.
    compare: bool,
}

impl Clients {
    /// Requests a comparison of the PEM files with those in use before the next request.
    pub(super) fn compare_files(&self) {
        lock(&self.0).compare = true;
    }

    /// Whether the next request reads PEM files.
    pub(super) fn needs_files(&self, server: &VaultServer) -> bool {
        let tls = &server.tls;
        let state = lock(&self.0);
        (tls.ca_file.is_some() || tls.client.is_some()) && (state.compare || state.files.is_none())
    }

    /// Compares the PEM files with those in use, if a comparison is due.
    pub(super) fn read_files(&self, server: &VaultServer) -> Result<(), HttpError> {
        let mut state = lock(&self.0);
        if state.compare || state.files.is_none() {
            let files = tls::fingerprint(&server.tls)?;
            if files != state.files {
                state.by_origin.clear();
                state.files = files;
            }
            state.compare = false;
        }
        Ok(())
    }

    /// The client for the origin of `url`. Compares the PEM files if a connection has failed or a login has requested it, and
    /// rebuilds the client only if they have changed, so that unchanged files keep the open connection.
    pub(super) fn get(&self, server: &VaultServer, url: &Url, protocol: Protocol) -> Result<Client, HttpError> {
        self.read_files(server)?;
        let mut state = lock(&self.0);
        let key = (origin(url), protocol);
        if let Some(client) = state.by_origin.get(&key) {
            return Ok(client.clone());
        }
        let builder = tls::configure(builder(server.timeout), &server.tls, url)?;
        let builder = if protocol == Protocol::Http1 { builder.http1_only() } else { builder };
        let client = builder.build().map_err(|error| tls::client_error(&server.tls, url, &error))?;
        state.by_origin.insert(key, client.clone());
        Ok(client)
    }
}

/// Half of the request timeout. The library divides it among the addresses of a host name, so every address is tried, and
/// half of the timeout remains for the request. Without it, the first address could use up the whole timeout.
pub(super) fn connect_timeout(request: Duration) -> Duration {
    request / 2
}

/// Settings that do not depend on TLS.
fn builder(timeout: Duration) -> ClientBuilder {
    Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(timeout)
        .connect_timeout(connect_timeout(timeout))
        // A request timeout closes the stream but not the HTTP/2 connection, so a silent connection would be reused forever.
        // Ping after a third of the timeout, and close the connection after another third without a response: the current
        // request fails, and the next one opens a new connection. A busy server responds to pings and keeps its connection,
        // so the client is not rebuilt after each timeout. Without pings on idle connections, the next request detects a
        // dead one.
        .http2_keep_alive_interval(timeout / 3)
        .http2_keep_alive_timeout(timeout / 3)
        .http2_keep_alive_while_idle(false)
        .tcp_nodelay(true)
        .tcp_keepalive(KEEPALIVE)
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(IDLE)
        .user_agent(concat!("keyferry/", env!("CARGO_PKG_VERSION")))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::sync::Arc;

    use reqwest::dns::{Addrs, Name, Resolve, Resolving};

    use super::*;

    /// A name with two addresses.
    struct Two([SocketAddr; 2]);

    impl Resolve for Two {
        fn resolve(&self, _: Name) -> Resolving {
            let addresses = self.0;
            Box::pin(async move { Ok(Box::new(addresses.into_iter()) as Addrs) })
        }
    }

    fn respond_once(listener: &std::net::TcpListener) {
        let (mut stream, _) = listener.accept().expect("a connection");
        let read = stream.read(&mut [0; 4096]).expect("a request");
        assert!(read > 0, "a request");
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("written");
    }

    #[tokio::test]
    async fn second_address_is_tried_when_first_drops_packets() {
        rustls::crypto::ring::default_provider().install_default().ok();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        // Fill the backlog, so that Linux drops every further SYN.
        let dead = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), port));
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(dead).expect("free on this address too");
        let _backlog = socket.listen(0).expect("listening");
        let mut held = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(dead)).await
        {
            held.push(stream);
        }
        let server = std::thread::spawn(move || respond_once(&listener));
        let addresses = Two([(dead.ip(), 0).into(), (IpAddr::V4(Ipv4Addr::LOCALHOST), 0).into()]);
        let client = builder(Duration::from_secs(4)).tls_certs_only([]).dns_resolver(Arc::new(addresses)).build();
        let response = client.expect("a client").get(format!("http://vault.test:{port}/")).send().await;
        assert_eq!(response.expect("a response of the second address").status(), 204);
        server.join().expect("no panic");
    }
}
