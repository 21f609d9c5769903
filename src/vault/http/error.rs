//! Errors of requests without a response, with their messages. `vault::error` derives class and reason from the variants.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::body::MAX_BYTES;
use crate::vault::file::FileError;

/// The reason why a request has no usable response.
#[derive(Debug, Error)]
pub(in crate::vault) enum HttpError {
    #[error(
        "failed to parse the Vault address {0}: expected a URL such as https://vault:8200; correct vault.address or \
         vault.redirectTo"
    )]
    Address(String),
    #[error("failed to build the URL for path {0}: the segments '.' and '..' are not supported; correct the path")]
    Path(String),
    /// `config` rejects such a namespace, so this cannot happen with checked settings.
    #[error(
        "failed to send the namespace in an HTTP header: found characters that are not allowed; correct vault.namespace or \
         auth.namespace"
    )]
    Namespace,
    #[error("failed to send the Vault token in an HTTP header: found control characters; remove them")]
    Token,
    #[error(
        "failed to use vault.tls.serverName {0}: expected a DNS name; set vault.tls.serverName to a DNS name in Vault's \
         certificate"
    )]
    ServerName(String),
    #[error("failed to read the PEM file {}: {cause}", file.display())]
    PemFile { file: PathBuf, cause: FileError },
    #[error("failed to use the PEM file {}: {cause}", file.display())]
    PemContent { file: PathBuf, cause: String },
    #[error(
        "failed to set up TLS for {0}: no CA certificate for verifying Vault's certificate; set VAULT_CACERT \
         (vault.tls.caFile) to a PEM file with the CA certificate"
    )]
    NoCaCertificate(String),
    #[error("failed to set up TLS for {address}: {cause}")]
    Client { address: String, cause: String },
    #[error("failed to reach Vault at {address}: {cause}")]
    Unreachable { address: String, cause: ConnectionError },
    #[error("failed to use the Vault address {0}: this is an HTTPS port; use https:// in VAULT_ADDR (vault.address)")]
    TlsPort(String),
    #[error(
        "failed to follow the redirect from {from} to {to}: the token is sent only to configured servers; if you trust \
         this server, add it to vault.redirectTo"
    )]
    RedirectRefused { from: String, to: String },
    #[error(
        "failed to find the active Vault server: the redirect target {0} redirects again; check whether Vault has a leader"
    )]
    RedirectLoop(String),
    #[error(
        "failed to open a WebSocket to Vault at {0}: the response does not match the request; check any proxy or ingress in \
         front of Vault"
    )]
    NotWebSocket(String),
    #[error("failed to read {path}: the response is larger than {} MiB; split the secret", MAX_BYTES / 1024 / 1024)]
    TooLarge { path: String },
}

/// The reason why a connection failed.
#[derive(Debug, Error)]
pub(in crate::vault) enum ConnectionError {
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    #[error("no connection within {0:?}; check the address and the network policies")]
    NoConnection(Duration),
    #[error("connection refused; check the port, and that Vault is running")]
    Refused,
    #[error("failed to resolve the host name ({0}); check the address and DNS")]
    Unresolved(String),
    #[error("the connection went silent; the next request opens a new one")]
    Silent,
    #[error("the server does not speak TLS on this port; use http://, or the TLS port")]
    NotTls,
    /// Also a wrong signature, which usually means that the CA was re-created with the same name.
    #[error(
        "the server's certificate is not signed by a CA certificate in {0}; set VAULT_CACERT (vault.tls.caFile) to the \
         CA certificate that signed it"
    )]
    UnknownIssuer(String),
    #[error(
        "the server's certificate is valid for {found}, not for {expected:?}; set VAULT_TLS_SERVER_NAME \
         (vault.tls.serverName) to a name in the certificate, or issue a certificate for {expected:?}"
    )]
    WrongName { expected: String, found: String },
    #[error("the certificate of the server, or a CA certificate above it, expired{0}; renew the certificate")]
    Expired(String),
    #[error("the certificate of the server, or a CA certificate above it, is not valid{0}; check the clocks")]
    NotValidYet(String),
    #[error(
        "the server's certificate is a CA certificate (CA:TRUE), which is not accepted as a server certificate; \
         issue a leaf certificate with basicConstraints CA:FALSE"
    )]
    CaAsLeaf,
    #[error(
        "the server's certificate chain uses {0}, which is not supported; issue certificates with P-256 (SHA-256), \
         P-384 (SHA-384), RSA of 2048 bits or more, or Ed25519, for the server and for each CA above it"
    )]
    Algorithm(String),
    #[error("{0}")]
    Other(String),
}
