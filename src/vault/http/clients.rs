//! The HTTP clients by origin, rebuilt where their PEM files have changed.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Url, redirect};

use super::error::HttpError;
use super::tls;
use super::url::origin;
use crate::model::VaultServer;
use crate::vault::lock::lock;

/// Vault's own limit for idle connections is 5 minutes (`http_idle_timeout`,
/// <https://developer.hashicorp.com/vault/docs/configuration/listener/tcp>); we close a little earlier, so that no request
/// meets a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(4 * 60 + 30);

/// Keeps the one connection alive through NAT tables and notices a peer that is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Clients with the PEM files that they were built from. More than one client only after a redirect.
#[derive(Default)]
pub(super) struct Clients(Mutex<State>);

#[derive(Default)]
struct State {
    by_origin: BTreeMap<String, Client>,
    files: tls::Fingerprint,
    /// The files are to be compared before the next request.
    compare: bool,
}

impl Clients {
    /// Has the PEM files compared with those in use before the next request.
    pub(super) fn compare_files(&self) {
        lock(&self.0).compare = true;
    }

    /// Whether PEM files are to be read before the next request.
    pub(super) fn needs_files(&self, server: &VaultServer) -> bool {
        let tls = &server.tls;
        let state = lock(&self.0);
        (tls.ca_file.is_some() || tls.client.is_some()) && (state.compare || state.files.is_none())
    }

    /// Compares the PEM files with those in use, if that is to be done.
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

    /// The client for the origin of `url`. Rebuilt where the PEM files have changed since a connection failed or a login
    /// asked to compare them; an unchanged file costs a read and keeps the open connection.
    pub(super) fn get(&self, server: &VaultServer, url: &Url) -> Result<Client, HttpError> {
        self.read_files(server)?;
        let mut state = lock(&self.0);
        let key = origin(url);
        if let Some(client) = state.by_origin.get(&key) {
            return Ok(client.clone());
        }
        let builder = tls::configure(builder(server.timeout), &server.tls, url)?;
        let client = builder.build().map_err(|error| tls::client_error(&server.tls, url, &error))?;
        state.by_origin.insert(key, client.clone());
        Ok(client)
    }
}

/// Half of the time for a request. The library divides it by the number of addresses that a name has, so each address has
/// its turn and the request still has its other half; without it the first address would keep the whole of it.
pub(super) fn connect_timeout(request: Duration) -> Duration {
    request / 2
}

/// All that does not depend on TLS.
fn builder(timeout: Duration) -> ClientBuilder {
    Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(timeout)
        .connect_timeout(connect_timeout(timeout))
        // A request's timeout ends its stream and not its HTTP/2 connection, so a connection that went silent would be used
        // for ever. A third of the time in silence makes a ping, another third without a response ends the connection: the
        // request in flight fails and the next one opens another. A busy server answers pings and keeps its connection, which
        // is why the client is not rebuilt after each timeout. No pings while idle: the first request finds out.
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
    async fn the_second_address_has_its_turn_where_the_first_one_swallows_packets() {
        rustls::crypto::ring::default_provider().install_default().ok();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        // A full backlog: Linux drops every further SYN.
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
