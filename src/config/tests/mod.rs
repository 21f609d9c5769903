//! The module as a whole: text and variables in, settings or errors out.

mod diagnostics;
mod docs;
mod input;
mod lists;
mod merge;
mod notify;
mod outputs;
mod pkcs12;
mod pki;
mod refresh_now;
mod requests;
mod seed;
mod settings;
mod templates;
mod token_file;
mod wrapped;

use std::collections::HashMap;

use super::{ConfigError, load};
use crate::model::Settings;

/// A configuration file with only the keys that have no default.
pub(super) const MINIMAL: &str = "
vault: {address: 'https://vault:8200'}
auth: {role: webapp}
sources: {db: {path: secret/webapp/config}}
";

fn environment(variables: &[(&str, &str)]) -> HashMap<String, String> {
    variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn loaded(variables: &[(&str, &str)], document: Option<&str>) -> Settings {
    load(&environment(variables), document).unwrap_or_else(|error| panic!("{error}"))
}

fn rejected(variables: &[(&str, &str)], document: Option<&str>) -> ConfigError {
    let Err(error) = load(&environment(variables), document) else { panic!("must be rejected: {document:?}") };
    assert!(!error.diagnostics.is_empty());
    error
}
