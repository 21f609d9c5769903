//! The previous version of a secret of KV version 2, for sources with `previous`.

use http::StatusCode;

use super::api::kv::KvV2;
use super::api::secret::{Envelope, get, read_error_with_rule};
use super::api::{Api, is_from_vault, joined_errors};
use super::error::VaultError;
use super::http::Response;
use super::json;
use super::server_text::quoted_list;
use crate::model::{Reading, SecretValue, Source, VaultToken};

/// A read of the version before the one in a reading.
pub(super) struct PreviousVersion<'a> {
    pub(super) api: &'a Api,
    pub(super) token: &'a VaultToken,
    pub(super) source: &'a Source,
    /// Suffix of the keys of the previous version.
    pub(super) suffix: &'a str,
    /// Path of the request for the reading.
    pub(super) request_path: &'a str,
}

type Values = std::collections::BTreeMap<String, SecretValue>;

impl PreviousVersion<'_> {
    /// Adds the keys of the version before the one in `reading`, each with the suffix. Sends one request, none for version 1.
    /// Adds nothing if the version is deleted, destroyed, or no longer kept: an older version was replaced even before it.
    pub(super) async fn add_to(&self, mut reading: Reading) -> Result<Reading, VaultError> {
        let Some(number @ 1..) = reading.version.number.and_then(|number| number.checked_sub(1)) else {
            return Ok(reading);
        };
        let response = get(self.api, self.token, self.request_path, Some(number)).await?;
        let Some(values) = self.values(number, &response)? else { return Ok(reading) };
        reading.version.previous = Some(number);
        for (key, value) in values {
            let name = format!("{key}{}", self.suffix);
            if reading.data.insert(name.clone(), value).is_some() {
                let name = quoted_list(&[name]);
                return Err(self.not_readable(format!(
                    "key {name} exists, so the previous version of a key cannot have this name; set another `previous.suffix`"
                )));
            }
        }
        Ok(reading)
    }

    /// The values of version `number`; `None` if it has none.
    fn values(&self, number: u64, response: &Response) -> Result<Option<Values>, VaultError> {
        let is_found = match response.status {
            StatusCode::OK => true,
            // With the metadata of the version if it is deleted or destroyed, and with an empty list of errors if it is no
            // longer kept.
            StatusCode::NOT_FOUND if is_from_vault(response) && joined_errors(response).is_empty() => false,
            _ => return Err(self.error(number, response)),
        };
        let Some(data) = Envelope::parse(self.request_path, response)?.data else { return Ok(None) };
        let found = KvV2::parse(data).filter(|found| found.metadata.version == number);
        let found =
            found.ok_or_else(|| self.not_readable(format!("the response is not version {number} of the secret")))?;
        let Some(object) = found.data.filter(|_| is_found) else { return Ok(None) };
        Ok(Some(json::values(object).ok_or_else(|| self.not_readable(format!("version {number} has no keys")))?))
    }

    /// A policy can allow the read of the latest version only, with `denied_parameters` for `version`.
    fn error(&self, number: u64, response: &Response) -> VaultError {
        let name = format!("version {number} of {}", self.source.path);
        match read_error_with_rule(&name, self.request_path, response) {
            VaultError::Forbidden { action, errors, rule, retry_after } => {
                let rule = format!("{rule}, without a denial of the parameter \"version\"");
                VaultError::Forbidden { action, errors, rule, retry_after }
            }
            error => error,
        }
    }

    fn not_readable(&self, cause: String) -> VaultError {
        VaultError::NotReadable { path: self.source.path.clone(), cause }
    }
}
