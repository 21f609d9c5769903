//! The HTTP client of an origin and the PEM files that it is made from.
//!
//! Verification is never off and never partial: there is no setting for it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, Identity, Url, redirect};
use ring::digest::{Context, SHA256};
use zeroize::Zeroizing;

use crate::model::{Failure, FailureClass, Reason, Tls, VaultServer};

/// Vault's own limit for idle connections is 5 minutes (`http_idle_timeout`,
/// <https://developer.hashicorp.com/vault/docs/configuration/listener/tcp>); we close a little earlier, so that no request
/// meets a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(4 * 60 + 30);

/// Keeps the one connection alive through NAT tables and notices a peer that is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A digest of the PEM files in use; the files themselves are not kept. `None` before the first look.
pub(super) type Fingerprint = Option<Vec<u8>>;

/// Reads the PEM files and makes their digest.
pub(super) fn fingerprint(tls: &Tls) -> Result<Fingerprint, Failure> {
    let mut digest = Context::new(&SHA256);
    let client = tls.client.as_ref().map(|(certificate, key)| [certificate, key]);
    for file in tls.ca_file.iter().chain(client.into_iter().flatten()) {
        let bytes = pem(file)?;
        digest.update(&bytes.len().to_be_bytes());
        digest.update(&bytes);
    }
    Ok(Some(digest.finish().as_ref().to_vec()))
}

/// Makes the client for `url`'s origin.
pub(super) fn client(server: &VaultServer, url: &Url) -> Result<Client, Failure> {
    let tls = &server.tls;
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(server.timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(KEEPALIVE)
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(IDLE)
        .user_agent(concat!("keyferry/", env!("CARGO_PKG_VERSION")));
    if url.scheme() == "http" {
        // No TLS: do not ask for the system's authorities, which a scratch image does not have.
        builder = builder.tls_certs_only([]);
    } else {
        if let Some(file) = &tls.ca_file {
            let authorities = Certificate::from_pem_bundle(&pem(file)?).map_err(|error| unusable(file, &error))?;
            if authorities.is_empty() {
                return Err(wrong(file, "it holds no PEM certificate"));
            }
            builder = builder.tls_certs_only(authorities);
        }
        if let Some((certificate, key)) = &tls.client {
            let mut both = pem(certificate)?.to_vec();
            both.push(b'\n');
            let mut both = Zeroizing::new(both);
            both.reserve_exact(8 * 1024);
            both.extend_from_slice(&pem(key)?);
            builder = builder.identity(Identity::from_pem(&both).map_err(|error| unusable(key, &error))?);
        }
        if tls.server_name.is_some() {
            builder = builder.dns_resolver(RealHost::of(url));
        }
    }
    builder.build().map_err(|error| {
        let hint = match &tls.ca_file {
            None => "; a container image without certificates needs vault.tls.caFile",
            Some(_) => "",
        };
        Failure::new(
            FailureClass::Local,
            Reason::VaultUnreachable,
            format!(
                "failed to prepare TLS for {}: {}{hint}",
                url.origin().ascii_serialization(),
                Failure::chain(&error)
            ),
        )
    })
}

/// The URL to ask the client for. With a server name of its own, the URL carries that name (so that SNI and verification use it,
/// with nothing switched off) and `RealHost` leads the connection to the address's host.
pub(super) fn addressed(mut url: Url, tls: &Tls) -> Result<Url, Failure> {
    let Some(name) = tls.server_name.as_deref().filter(|_| url.scheme() == "https") else { return Ok(url) };
    // The configuration refuses an IP address. With one in the URL nobody would be asked where to connect, and we would
    // connect to it.
    if name.parse::<IpAddr>().is_ok() || url.set_host(Some(name)).is_err() {
        return Err(Failure::new(
            FailureClass::Invalid,
            Reason::InvalidRequest,
            format!("failed to use vault.tls.serverName {name}: it must be a DNS name"),
        ));
    }
    Ok(url)
}

/// Resolves every name to the addresses of one host.
struct RealHost(Arc<str>);

impl RealHost {
    fn of(url: &Url) -> Self {
        // IPv6 stands in brackets in a URL.
        Self(url.host_str().unwrap_or_default().trim_matches(['[', ']']).into())
    }
}

impl Resolve for RealHost {
    fn resolve(&self, _: Name) -> Resolving {
        let host = Arc::clone(&self.0);
        Box::pin(async move {
            // Port 0 is replaced by the URL's.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((&*host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn pem(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    std::fs::read(file).map(Zeroizing::new).map_err(|error| {
        Failure::new(
            FailureClass::Local,
            Reason::VaultUnreachable,
            format!("failed to read the PEM file {}: {error}", file.display()),
        )
    })
}

fn unusable(file: &Path, error: &reqwest::Error) -> Failure {
    wrong(file, &Failure::chain(error))
}

fn wrong(file: &Path, why: &str) -> Failure {
    Failure::new(
        FailureClass::Local,
        Reason::VaultUnreachable,
        format!("failed to use the PEM file {}: {why}", file.display()),
    )
}
