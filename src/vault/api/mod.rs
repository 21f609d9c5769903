//! Vault's HTTP API, as far as we need it: one file per endpoint or family, with request and response side by side.

pub(super) mod kv;
pub(super) mod lease;
pub(super) mod login;
pub(super) mod mount;
pub(super) mod secret;
pub(super) mod token;
pub(super) mod wrapping;

mod response;
mod call;

pub(super) use response::is_from_vault;
pub(super) use call::{Api, Call};
