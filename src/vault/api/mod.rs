//! The parts of Vault's HTTP API that keyferry uses: one file per endpoint or family, with its requests and responses.

pub(super) mod child_token;
pub(super) mod kv;
pub(super) mod lease;
pub(super) mod list;
pub(super) mod login;
pub(super) mod mount;
pub(super) mod secret;
pub(super) mod token;
pub(super) mod wrapping;

mod call;
mod response;
mod ssh_certificate;
mod validity;

pub(super) use call::{Api, Call};
pub(super) use response::{is_from_vault, joined_errors, rule, token_error};
