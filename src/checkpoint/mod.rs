//! Encoding of the state that one agent process saves for the next one. Pure: no files, no clock.
//!
//! The format is JSON with a version, and unknown fields are errors, because both processes run the same image. Token and
//! readings are used only if a login would return an equivalent token (same server, namespace, and role). The server
//! decides whether the token is still valid.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::decoded_len_estimate;
use base64::display::Base64Display;
use base64::prelude::{BASE64_STANDARD as STANDARD, Engine as _};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::model::{
    AuthMethod, CHILD_TOKEN_KEY, CertificateTimes, Checkpoint, FilePath, Lease, LeaseId, Reading, SavedSecret,
    SavedSource, SavedToken, SecretBytes, SecretCall, SecretFunction, SecretValue, Settings, Source, SourceName,
    Validity, VaultToken, Version,
};

/// Version of the format. Increment it with each change.
const VERSION: u32 = 6;

const SAME_IMAGE: &str = "run both containers from the same image";

/// Calls of templates that depend on other secrets, by file.
type Calls = BTreeMap<FilePath, BTreeSet<SecretCall>>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content<'a> {
    version: u32,
    /// The login that issued the token.
    issuer: Issuer,
    token: Option<TokenEntry<'a>>,
    sources: BTreeMap<String, SourceEntry<'a>>,
    calls: Vec<CallEntry>,
    one_time: Vec<OneTimeEntry<'a>>,
}

/// The settings that determine which token a login issues.
#[derive(Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Issuer {
    address: String,
    namespace: Option<String>,
    auth_mount: String,
    auth_namespace: Option<String>,
    method: String,
    role: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry<'a> {
    token: Secret<'a>,
    first_ttl: Option<Duration>,
    /// Remaining TTL at the time of the encoding. The server knows the current one.
    left: Option<Duration>,
    renewable: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceEntry<'a> {
    /// [`Source::request_id`](crate::model::Source::request_id). A source with another request is read again.
    request: String,
    number: Option<u64>,
    created: Option<Timestamp>,
    previous: Option<u64>,
    /// TTL when the credential was issued; of a certificate, when it was saved.
    ttl: Duration,
    /// Expiry on the wall clock, the only clock that the two processes share.
    ends: Timestamp,
    lease: Option<LeaseEntry>,
    certificate: Option<CertificateEntry>,
    values: BTreeMap<String, Value<'a>>,
}

/// A call of a template that depends on other secrets.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallEntry {
    /// File of the template.
    file: String,
    function: String,
    path: String,
    version: Option<u64>,
    arguments: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseEntry {
    /// `None`: the value of the reading is a child token, which has no lease ID.
    id: Option<String>,
    renewable: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateEntry {
    not_before: Timestamp,
    not_after: Timestamp,
    ca_not_after: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneTimeEntry<'a> {
    files: Vec<PathBuf>,
    digest: Vec<u8>,
    secret: Secret<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Value<'a> {
    Text(Secret<'a>),
    Json(Secret<'a>),
}

/// Secret bytes: borrowed for encoding, and zeroed on drop after decoding. Encoded as base64, because the JSON parser would leave
/// unzeroed copies of strings with escapes.
enum Secret<'a> {
    Borrowed(&'a [u8]),
    Owned(Zeroizing<Vec<u8>>),
}

impl Serialize for Secret<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.expose(), &STANDARD))
    }
}

impl<'de> Deserialize<'de> for Secret<'_> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        // Sufficient capacity, because a reallocation would leave an unzeroed copy.
        let mut bytes = Zeroizing::new(Vec::with_capacity(decoded_len_estimate(text.len())));
        STANDARD.decode_vec(text, &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Self::Owned(bytes))
    }
}

impl Secret<'_> {
    fn expose(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }

    fn to_bytes(&self) -> SecretBytes {
        SecretBytes::new(self.expose().to_vec())
    }
}

/// Encodes a checkpoint and the secrets that cannot be read from their files again.
///
/// # Errors
/// The reason why they cannot be encoded, for a message.
pub fn encode(checkpoint: &Checkpoint, one_time: &[SavedSecret], settings: &Settings) -> Result<SecretBytes, String> {
    let at = |left: Duration| {
        let ends = SignedDuration::try_from(left).ok().and_then(|left| checkpoint.made.checked_add(left).ok());
        ends.unwrap_or(Timestamp::MAX)
    };
    let mut sources = BTreeMap::new();
    for (name, SavedSource { reading, left }) in &checkpoint.sources {
        let Some(spec) = settings.sources.get(name) else { continue };
        let (ttl, lease, certificate) = match &reading.validity {
            Validity::Lease(Lease { id, duration, renewable }) => {
                let id = match id {
                    LeaseId::Id(id) => Some(id.clone()),
                    LeaseId::Token(_) => None,
                };
                (*duration, Some(LeaseEntry { id, renewable: *renewable }), None)
            }
            Validity::Expires(ttl) => (*ttl, None, None),
            Validity::Certificate(CertificateTimes { not_before, not_after, ca_not_after }) => {
                let (not_before, not_after, ca_not_after) = (*not_before, *not_after, *ca_not_after);
                (*left, None, Some(CertificateEntry { not_before, not_after, ca_not_after }))
            }
            Validity::Unlimited | Validity::Rotates(_) => continue,
        };
        let mut values = BTreeMap::new();
        for (key, value) in &reading.data {
            let value = match value {
                SecretValue::Text(bytes) => Value::Text(Secret::Borrowed(bytes.expose())),
                SecretValue::Json(bytes) => Value::Json(Secret::Borrowed(bytes.expose())),
            };
            values.insert(key.clone(), value);
        }
        let Version { number, created, previous, .. } = reading.version;
        let (request, ends) = (spec.request_id(), at(*left));
        let entry = SourceEntry { request, number, created, previous, ttl, ends, lease, certificate, values };
        sources.insert(name.to_string(), entry);
    }
    let token = checkpoint.token.as_ref().map(|saved| TokenEntry {
        token: Secret::Borrowed(saved.token.expose()),
        first_ttl: saved.first_ttl,
        left: saved.left,
        renewable: saved.renewable,
    });
    let mut secrets = Vec::new();
    for SavedSecret { files, digest, secret } in one_time {
        let secret = Secret::Borrowed(secret.expose());
        secrets.push(OneTimeEntry { files: files.clone(), digest: digest.clone(), secret });
    }
    let calls = checkpoint.calls.iter().flat_map(|(file, calls)| calls.iter().map(|call| call_entry(file, call)));
    let calls = calls.collect();
    let content = Content { version: VERSION, issuer: issuer(settings), token, sources, calls, one_time: secrets };
    SecretBytes::written(|buffer| serde_json::to_writer(buffer, &content)).map_err(|error| error.to_string())
}

/// A decoded checkpoint.
pub struct Decoded {
    /// Token and readings, or the reason why they cannot be used, for a message.
    pub checkpoint: Result<Checkpoint, String>,
    /// Secret IDs, regardless of the login.
    pub one_time: Vec<SavedSecret>,
}

/// Decodes a checkpoint that is usable with `settings`. `now` is the wall clock. Omits sources that `settings` does not contain
/// and credentials that have expired.
///
/// # Errors
/// The reason why nothing of it can be used, for a message.
pub fn decode(bytes: &SecretBytes, settings: &Settings, now: Timestamp) -> Result<Decoded, String> {
    // The text of serde's error can quote a secret, so only the position is kept.
    let unreadable = |error: serde_json::Error| {
        let (line, column) = (error.line(), error.column());
        format!("the content is not a checkpoint of this version (line {line}, column {column}); {SAME_IMAGE}")
    };
    #[derive(Deserialize)]
    struct VersionOnly {
        version: u32,
    }
    let VersionOnly { version } = serde_json::from_slice(bytes.expose()).map_err(unreadable)?;
    if version != VERSION {
        return Err(format!("expected format version {VERSION}, found {version}; {SAME_IMAGE}"));
    }
    let content: Content<'_> = serde_json::from_slice(bytes.expose()).map_err(unreadable)?;
    let saved = |entry: &OneTimeEntry<'_>| SavedSecret {
        files: entry.files.clone(),
        digest: entry.digest.clone(),
        secret: entry.secret.to_bytes(),
    };
    let one_time = content.one_time.iter().map(saved).collect();
    let checkpoint = if content.issuer == issuer(settings) {
        usable(&content, settings, now)
    } else {
        Err("its token was issued for another Vault server, namespace, auth mount or role".into())
    };
    Ok(Decoded { checkpoint, one_time })
}

fn usable(content: &Content<'_>, settings: &Settings, now: Timestamp) -> Result<Checkpoint, String> {
    let mut sources = BTreeMap::new();
    let (calls, requested) = calls(&content.calls, settings)?;
    for (name, entry) in &content.sources {
        let Ok(name) = SourceName::new(name) else { return Err("it contains an invalid source name".into()) };
        if requested.get(&name).is_none_or(|source| source.request_id() != entry.request) {
            continue;
        }
        // A clock that was set back must not extend a TTL beyond the original one.
        let left = Duration::try_from(entry.ends.duration_since(now)).unwrap_or_default().min(entry.ttl);
        if left.is_zero() {
            continue;
        }
        let validity = match (&entry.lease, &entry.certificate) {
            (Some(LeaseEntry { id, renewable }), _) => {
                let id = match id {
                    Some(id) => LeaseId::Id(id.clone()),
                    None => LeaseId::Token(child_token(&entry.values).ok_or("a child token is missing")?),
                };
                Validity::Lease(Lease { id, duration: entry.ttl, renewable: *renewable })
            }
            (None, Some(CertificateEntry { not_before, not_after, ca_not_after })) => {
                let (not_before, not_after, ca_not_after) = (*not_before, *not_after, *ca_not_after);
                Validity::Certificate(CertificateTimes { not_before, not_after, ca_not_after })
            }
            (None, None) => Validity::Expires(entry.ttl),
        };
        let value = |value: &Value<'_>| match value {
            Value::Text(bytes) => SecretValue::Text(bytes.to_bytes()),
            Value::Json(bytes) => SecretValue::Json(bytes.to_bytes()),
        };
        let reading = Reading {
            data: entry.values.iter().map(|(key, found)| (key.clone(), value(found))).collect(),
            version: Version {
                number: entry.number,
                created: entry.created,
                previous: entry.previous,
                ..Version::default()
            },
            validity,
            warnings: Vec::new(),
            ..Reading::default()
        };
        sources.insert(name, SavedSource { reading: Arc::new(reading), left });
    }
    let token = content.token.as_ref().map(|entry| {
        let text = std::str::from_utf8(entry.token.expose()).map_err(|_| "its token is not UTF-8 text")?;
        let token = VaultToken::new(text).in_namespace(settings.auth.namespace.clone());
        let TokenEntry { first_ttl, left, renewable, .. } = *entry;
        Ok::<_, String>(SavedToken { token, first_ttl, left, renewable })
    });
    Ok(Checkpoint { made: now, token: token.transpose()?, sources, calls })
}

fn call_entry(file: &FilePath, call: &SecretCall) -> CallEntry {
    CallEntry {
        file: file.to_string(),
        function: call.function.as_str().to_owned(),
        path: call.path.clone(),
        version: call.version,
        arguments: call.arguments.clone(),
    }
}

/// The calls by file, and the sources of `settings` with those of the calls.
fn calls(entries: &[CallEntry], settings: &Settings) -> Result<(Calls, BTreeMap<SourceName, Source>), String> {
    let mut sources = settings.sources.clone();
    let mut calls = Calls::new();
    for CallEntry { file, function, path, version, arguments } in entries {
        let function = SecretFunction::named(function).ok_or("it contains a call of an unknown function")?;
        let file = FilePath::new(file).map_err(|_| "it contains an invalid file name")?;
        let call = SecretCall { function, path: path.clone(), version: *version, arguments: arguments.clone() };
        call.find_or_add(&mut sources, &settings.call_defaults);
        calls.entry(file).or_default().insert(call);
    }
    Ok((calls, sources))
}

/// The child token among the values of a reading.
fn child_token(values: &BTreeMap<String, Value<'_>>) -> Option<VaultToken> {
    let Some(Value::Text(token)) = values.get(CHILD_TOKEN_KEY) else { return None };
    Some(VaultToken::new(std::str::from_utf8(token.expose()).ok()?))
}

fn issuer(settings: &Settings) -> Issuer {
    let auth = &settings.auth;
    let (method, role) = match &auth.method {
        AuthMethod::AppRole { role_id_file, .. } => ("approle", Some(role_id_file.display().to_string())),
        AuthMethod::Jwt { role, .. } => ("jwt", role.clone()),
        AuthMethod::Kubernetes { role, .. } => ("kubernetes", Some(role.clone())),
        AuthMethod::Token { .. } => ("token", None),
        AuthMethod::TokenFile { file } => ("token", Some(file.display().to_string())),
    };
    Issuer {
        address: settings.server.address.clone(),
        namespace: settings.server.namespace.clone(),
        auth_mount: auth.mount.clone(),
        auth_namespace: auth.namespace.clone(),
        method: method.into(),
        role,
    }
}
