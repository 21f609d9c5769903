//! A certificate from the PKI engine: one request, with a key that Vault (`issue`) or the agent (`sign`) creates, and its
//! verification.
//!
//! The reading has Vault's keys `certificate`, `private_key`, `issuing_ca`, `ca_chain`, and `serial_number`, and two more:
//! `intermediates`, the certificates of the chain that a server sends after its own, and `ca`, the topmost certificate. All are
//! PEM text with one newline after each block; the private key is PKCS#8.
//!
//! A key that the agent creates is zeroed on drop, but `ring` leaves copies of it on the stack and in its signing key.

mod csr;
mod key;
mod pem;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::BTreeMap;

use http::StatusCode;
use jiff::Timestamp;

use super::api::Api;
use super::api::secret::{EngineKind, Envelope, request, request_error};
use super::error::VaultError;
use super::json;
use crate::model::{
    CertificateRequest, CertificateTimes, Parameter, Reading, SecretBytes, SecretValue, Source, Validity, VaultToken,
    Version,
};
use key::PrivateKey;
use verify::{Problem, verify};

/// Requests the certificate of `source` once. `now` is the wall clock.
pub(super) async fn issue(
    api: &Api,
    token: &VaultToken,
    source: &Source,
    wanted: &CertificateRequest,
    now: Timestamp,
) -> Result<Reading, VaultError> {
    let verb = if wanted.key.is_some() { "sign" } else { "issue" };
    let action = format!("failed to {verb} a certificate at {}", source.path);
    let key = wanted.key.map(PrivateKey::generate).transpose();
    let key = key.map_err(|_| VaultError::NoKey { action: action.clone() })?;
    let mut parameters = source.all_parameters();
    let mut set = |name: &str, text: String| parameters.insert(name.to_owned(), Parameter::Text(text));
    set("format", "pem".to_owned());
    match &key {
        Some(key) => {
            let csr = csr::create(wanted, key).map_err(|_| VaultError::NoKey { action: action.clone() })?;
            set("csr", csr);
        }
        None => _ = set("private_key_format", "pkcs8".to_owned()),
    }
    let response = request(api, token, source, &parameters).await?;
    let unusable = |found| VaultError::NotUsable { action: action.clone(), found };
    let envelope = match response.status {
        StatusCode::OK => Envelope::parse(&source.path, &response)?,
        StatusCode::NO_CONTENT => return Err(unusable("no data")),
        _ => return Err(request_error(&action, source, &response)),
    };
    let data = envelope.data.ok_or_else(|| unusable("no data"))?;
    let data = json::values(data).ok_or_else(|| unusable("data without keys"))?;
    let (data, times) = usable(data, key, now)
        .map_err(|problem| VaultError::CertificateInvalid { action: action.clone(), problem: problem.to_string() })?;
    // Roles with `generate_lease`.
    let leased = match envelope.validity(&source.path, EngineKind::NotKv, response.date) {
        Validity::Lease(lease) => Some(lease),
        _ => None,
    };
    let validity = leased.map_or(Validity::Certificate(times), Validity::Lease);
    // Vault says so for each name that the role takes from the signing request. keyferry sends the names in both.
    let is_relevant = |warning: &String| !warning.contains("use_csr_");
    let warnings = envelope.warnings().into_iter().filter(is_relevant).collect();
    Ok(Reading { data, version: Version::default(), validity, warnings, ..Reading::default() })
}

type Data = BTreeMap<String, SecretValue>;

/// Verifies Vault's response, and completes and normalizes its data. `key`: the key of the agent.
fn usable(mut data: Data, key: Option<PrivateKey>, now: Timestamp) -> Result<(Data, CertificateTimes), Problem> {
    let text = |name: &'static str| match data.get(name) {
        Some(SecretValue::Text(text)) => Ok(text),
        _ => Err(Problem::Missing(name)),
    };
    let key = match key {
        Some(key) => key,
        None => PrivateKey::from_pem(text("private_key")?)?,
    };
    let certificate = pem::certificates(text("certificate")?.expose());
    let [certificate] = certificate.as_slice() else { return Err(Problem::Missing("certificate")) };
    let mut chain = pem::certificates(text("issuing_ca")?.expose());
    let Some(issuing_ca) = chain.first().cloned() else { return Err(Problem::Missing("issuing_ca")) };
    if let Some(SecretValue::Json(list)) = data.get("ca_chain") {
        let list: Vec<String> = serde_json::from_slice(list.expose()).map_err(|_| Problem::Missing("ca_chain"))?;
        chain.extend(list.iter().flat_map(|text| pem::certificates(text.as_bytes())));
    }
    let mut seen = Vec::new();
    chain.retain(|one| {
        !seen.contains(one) && {
            seen.push(one.clone());
            true
        }
    });
    let verified = verify(certificate, &chain, &key, now)?;
    let intermediates = chain.iter().zip(&verified.self_signed).filter(|(_, self_signed)| !**self_signed);
    let intermediates = pem::encode(intermediates.map(|(one, _)| one));
    let serial = data.remove("serial_number").filter(|serial| matches!(serial, SecretValue::Text(_)));
    let mut usable = Data::new();
    let mut set = |name: &str, pem: SecretBytes| _ = usable.insert(name.to_owned(), SecretValue::Text(pem));
    set("certificate", pem::encode([certificate]));
    set("private_key", key.to_pem());
    set("issuing_ca", pem::encode([&issuing_ca]));
    set("ca_chain", pem::encode(&chain));
    set("intermediates", intermediates);
    set("ca", pem::encode([&chain[verified.ca]]));
    usable.extend(serial.map(|serial| ("serial_number".to_owned(), serial)));
    Ok((usable, verified.times))
}
