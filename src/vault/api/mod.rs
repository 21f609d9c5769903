//! Vault's HTTP API, as far as we need it: one file per endpoint or family, with request and answer side by side.

pub(super) mod kv;
pub(super) mod lease;
pub(super) mod login;
pub(super) mod mount;
pub(super) mod secret;
pub(super) mod token;
pub(super) mod wrapping;

mod answer;
mod call;

pub(super) use answer::is_vaults;
pub(super) use call::{Api, Call};
