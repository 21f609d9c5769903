//! Why no answer came back, as a type. The sentences are here; `vault::error` derives class and reason from the same variants.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::body::MAX_BYTES;
use crate::vault::file::FileError;

/// A request that got no answer.
#[derive(Debug, Error)]
pub(in crate::vault) enum HttpError {
    #[error("failed to use the Vault address {0}: it must be like https://vault:8200")]
    Address(String),
    #[error("failed to use path {0}: a path has no '.' or '..' segments")]
    Path(String),
    #[error("failed to use {0}: it has characters that no HTTP header can carry")]
    Header(&'static str),
    #[error("failed to use vault.tls.serverName {0}: it must be a DNS name")]
    ServerName(String),
    #[error("failed to read the PEM file {}: {cause}", file.display())]
    PemFile { file: PathBuf, cause: FileError },
    #[error("failed to use the PEM file {}: {cause}", file.display())]
    PemContent { file: PathBuf, cause: String },
    #[error(
        "failed to prepare TLS for {0}: no CA to check Vault's certificate with; set VAULT_CACERT (vault.tls.caFile)"
    )]
    NoCa(String),
    #[error("failed to prepare TLS for {address}: {cause}")]
    Client { address: String, cause: String },
    #[error("failed to reach Vault at {address}: {cause}")]
    Unreachable { address: String, cause: ConnectionError },
    #[error("failed to use the Vault address {0}: this is an HTTPS port; write https://")]
    TlsPort(String),
    #[error(
        "failed to follow the redirect of {from}: redirect to {to} refused, because the token goes to configured servers only; \
         if this server is yours, add it to vault.redirectTo"
    )]
    RedirectRefused { from: String, to: String },
    #[error("failed to find the active Vault server: {0} redirects too; is a new leader being elected?")]
    RedirectLoop(String),
    #[error("failed to read {path}: the answer is larger than {} MiB", MAX_BYTES / 1024 / 1024)]
    TooLarge { path: String },
}

/// Why a connection failed.
#[derive(Debug, Error)]
pub(in crate::vault) enum ConnectionError {
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    #[error("no answer within {0:?} (while connecting)")]
    NoConnection(Duration),
    #[error("the connection went silent; the next request opens another one")]
    Silent,
    #[error("the server does not speak TLS; write http://, or use the port that does")]
    NotTls,
    /// A bad signature is most often a CA that was re-created under the same name.
    #[error("{cause} (the server's certificate is not signed by a CA in {ca})")]
    UnknownCa { cause: String, ca: String },
    #[error("{0} (vault.tls.serverName sets the name to check)")]
    WrongName(String),
    #[error(
        "the server's certificate is a CA certificate (CA:TRUE), which is refused as a server certificate; \
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
