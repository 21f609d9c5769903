//! HTTP to Vault or OpenBao: login, read, renew, revoke. Each call tries once and classifies its failure.
//!
//! Never touches: sleeping, retry, the cluster, any file but the credential that a login reads and the TLS files.

mod classify;
mod client;
mod credential;
mod kv;
mod login;
mod read;
mod tls;
mod token;
mod wire;

pub use client::Vault;
pub use login::Session;
