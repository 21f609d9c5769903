//! TLS configuration from PEM files. Verification is always complete: no setting disables or weakens it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, ClientBuilder, Identity, Url};
use ring::digest::{Context, SHA256};
use zeroize::Zeroizing;

use super::error::HttpError;
use super::url::origin;
use crate::model::Tls;
use crate::vault::file;

/// Limit for a PEM file. The complete CA bundle of a system has about 250 KiB.
const MAX_PEM_BYTES: usize = 4 * 1024 * 1024;

/// Digest of the PEM files in use; the files are not kept in memory. `None` before the first read.
pub(super) type Fingerprint = Option<Vec<u8>>;

/// Reads the PEM files and returns their digest.
pub(super) fn fingerprint(tls: &Tls) -> Result<Fingerprint, HttpError> {
    let mut digest = Context::new(&SHA256);
    let client = tls.client.as_ref().map(|(certificate, key)| [certificate, key]);
    for file in tls.ca_file.iter().chain(client.into_iter().flatten()) {
        let bytes = pem(file)?;
        digest.update(&bytes.len().to_be_bytes());
        digest.update(&bytes);
    }
    Ok(Some(digest.finish().as_ref().to_vec()))
}

/// Sets up TLS for the origin of `url`.
pub(super) fn configure(builder: ClientBuilder, tls: &Tls, url: &Url) -> Result<ClientBuilder, HttpError> {
    if url.scheme() == "http" {
        // Without TLS, do not load the system's CA certificates, which a scratch image does not have.
        return Ok(builder.tls_certs_only([]));
    }
    let mut builder = builder;
    if let Some(file) = &tls.ca_file {
        let ca_certificates = Certificate::from_pem_bundle(&pem(file)?).map_err(|error| invalid_pem(file, &error))?;
        if ca_certificates.is_empty() {
            return Err(pem_error(
                file,
                "no PEM certificate in the file; store the CA certificate there in PEM format",
            ));
        }
        builder = builder.tls_certs_only(ca_certificates);
    }
    if let Some((certificate, key)) = &tls.client {
        let (chain, private) = (pem(certificate)?, pem(key)?);
        let mut both = Zeroizing::new(Vec::with_capacity(chain.len() + 1 + private.len()));
        both.extend_from_slice(&chain);
        both.push(b'\n');
        both.extend_from_slice(&private);
        builder = builder.identity(Identity::from_pem(&both).map_err(|error| invalid_pem(key, &error))?);
    }
    if tls.server_name.is_some() {
        builder = builder.dns_resolver(FixedHost::of(url));
    }
    Ok(builder)
}

/// The error if the library cannot build a client from readable PEM files.
pub(super) fn client_error(tls: &Tls, url: &Url, error: &reqwest::Error) -> HttpError {
    let cause = root_cause(error);
    match (&tls.client, &tls.ca_file) {
        (_, None) if cause.contains("No CA certificates") => HttpError::NoCaCertificate(origin(url)),
        (Some((certificate, key)), None) => wrong_key(certificate, key, &cause),
        (Some((certificate, key)), Some(_)) if cause.contains("key") => wrong_key(certificate, key, &cause),
        (_, Some(ca)) => invalid_pem_content(ca, &cause),
        (None, None) => HttpError::Client { address: origin(url), cause },
    }
}

/// The URL to request. With `vault.tls.serverName`, the URL has that name as its host, so that SNI and verification use it, and
/// [`FixedHost`] connects to the host of the address.
pub(super) fn with_server_name(mut url: Url, tls: &Tls) -> Result<Url, HttpError> {
    let Some(name) = tls.server_name.as_deref().filter(|_| url.scheme() == "https") else { return Ok(url) };
    // `config` rejects IP addresses. With an IP address in the URL, the client would connect to it without the resolver.
    if name.parse::<IpAddr>().is_ok() || url.set_host(Some(name)).is_err() {
        return Err(HttpError::ServerName(name.to_owned()));
    }
    Ok(url)
}

/// Resolver that returns the addresses of one host for every name.
struct FixedHost(Arc<str>);

impl FixedHost {
    fn of(url: &Url) -> Self {
        // A URL has brackets around an IPv6 address.
        Self(url.host_str().unwrap_or_default().trim_matches(['[', ']']).into())
    }
}

impl Resolve for FixedHost {
    fn resolve(&self, _: Name) -> Resolving {
        let host = Arc::clone(&self.0);
        Box::pin(async move {
            // The client replaces port 0 with the port of the URL.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((&*host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn pem(file: &Path) -> Result<Zeroizing<Vec<u8>>, HttpError> {
    file::read(file, MAX_PEM_BYTES).map_err(|cause| HttpError::PemFile { file: file.to_owned(), cause })
}

fn invalid_pem(file: &Path, error: &reqwest::Error) -> HttpError {
    invalid_pem_content(file, &root_cause(error))
}

fn invalid_pem_content(file: &Path, cause: &str) -> HttpError {
    pem_error(file, &format!("invalid certificate or key ({cause}); replace the file"))
}

fn wrong_key(certificate: &Path, key: &Path, cause: &str) -> HttpError {
    let certificate = certificate.display();
    pem_error(key, &format!("{cause}; check that the key belongs to the client certificate in {certificate}"))
}

fn pem_error(file: &Path, cause: &str) -> HttpError {
    HttpError::PemContent { file: file.to_owned(), cause: cause.to_owned() }
}

/// The innermost cause. The outer ones are generic, such as "builder error".
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    // rustls has the same error for certificates of the peer and of a PEM file.
    cause.to_string().trim_start_matches("invalid peer certificate: ").to_owned()
}
