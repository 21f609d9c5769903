//! A wrapped secret, whose wrapping token another process delivers in a file.
//!
//! The cache has the secret of each file, because a wrapping token works once. A new wrapping token in the file is a new secret.

use std::path::PathBuf;

use serde_json::value::RawValue;

use super::api::kv::KvV2;
use super::api::{Api, wrapping};
use super::error::VaultError;
use super::json;
use super::one_time::{FoundSecret, OneTimeSecrets, check_creation_path};
use crate::model::{Failure, Reading, SecretBytes, Source, Validity, Version};

/// What messages call the secret.
const WHAT: &str = "the secret";

/// A wrapped secret as found without a request.
pub struct WrappedSecret(FoundSecret);

fn file(source: &Source) -> PathBuf {
    source.wrapping_token_file.clone().unwrap_or_default()
}

impl OneTimeSecrets {
    /// Reads the file with the wrapping token of `source`, unless its secret is cached. Blocks as long as the file system
    /// blocks, so run it on a thread for blocking work.
    ///
    /// # Errors
    /// `CredentialUnreadable`.
    pub fn read_wrapped(&self, source: &Source) -> Result<WrappedSecret, Failure> {
        let file = file(source);
        Ok(self.find(std::slice::from_ref(&file), &file, "the wrapping token of the secret").map(WrappedSecret)?)
    }
}

/// Returns the secret, unwrapped if necessary. The path of `source` is the path that the wrapping token was created at.
pub(super) async fn read(
    api: &Api,
    secrets: &OneTimeSecrets,
    source: &Source,
    found: WrappedSecret,
) -> Result<Reading, VaultError> {
    let data = match found.0 {
        FoundSecret::Cached(data, _) => data,
        FoundSecret::InFile(token, digest) => {
            check_creation_path(api, None, &token, &source.path, WHAT).await?;
            let data = wrapping::data(api, token.expose(), WHAT).await?.unwrap_or_default();
            // Cache whatever it is: the token cannot be used again.
            secrets.insert(vec![file(source)], digest, data.clone());
            data
        }
    };
    reading(&data).ok_or_else(|| VaultError::NotUsable {
        action: format!("failed to use the unwrapped secret of {}", source.path),
        found: "no data, or data without keys",
    })
}

/// The keys of the secret. Its lease, if it has one, belongs to the token that requested it.
fn reading(data: &SecretBytes) -> Option<Reading> {
    let object: &RawValue = serde_json::from_slice(data.expose()).ok()?;
    let object = KvV2::recognize(object).map_or(Some(object), |found| found.data)?;
    let (version, validity) = (Version::default(), Validity::Unlimited);
    Some(Reading { data: json::values(object)?, version, validity, warnings: Vec::new(), ..Reading::default() })
}
