//! Encoding of the state that one agent process hands over to the next. Pure: no files, no clock.
//!
//! The format is JSON with a version, and unknown fields are errors, because both processes run the same image. A checkpoint is
//! used only if a login would give an equal token (same server, namespace and role), and if its token has not expired.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::decoded_len_estimate;
use base64::display::Base64Display;
use base64::prelude::{BASE64_STANDARD as STANDARD, Engine as _};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::model::{
    AuthMethod, Checkpoint, Lease, LeaseId, Reading, SavedSource, SecretBytes, SecretValue, Settings, SourceName,
    Validity, VaultToken, Version,
};

/// Version of the format. Increment it with each change.
const VERSION: u32 = 2;

const SAME_IMAGE: &str = "run both containers from the same image";

/// Minimum remaining TTL. A token with less could expire before its first use.
const MIN_TTL: Duration = Duration::from_secs(3);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Handover<'a> {
    version: u32,
    /// The login that issued the token.
    issuer: Issuer,
    token: Secret<'a>,
    renewable: bool,
    first_ttl: Option<Duration>,
    /// Expiry on the wall clock, the only clock that the two processes share.
    ends: Option<Timestamp>,
    sources: BTreeMap<String, SourceEntry<'a>>,
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
struct SourceEntry<'a> {
    /// [`Source::request_id`](crate::model::Source::request_id). A source with another request is read again.
    request: String,
    number: Option<u64>,
    created: Option<Timestamp>,
    lease: Option<LeaseEntry>,
    values: BTreeMap<String, Value<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseEntry {
    id: String,
    first_duration: Duration,
    renewable: bool,
    ends: Timestamp,
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
}

/// Encodes a checkpoint. `now` is the wall clock.
///
/// # Errors
/// The reason why the checkpoint cannot be encoded, for a message.
pub fn encode(checkpoint: &Checkpoint, settings: &Settings, now: Timestamp) -> Result<SecretBytes, String> {
    let at = |left: Duration| {
        let ends = SignedDuration::try_from(left).ok().and_then(|left| now.checked_add(left).ok());
        ends.unwrap_or(Timestamp::MAX)
    };
    let Checkpoint { token, first_ttl, left, renewable, sources } = checkpoint;
    let mut entries = BTreeMap::new();
    for (name, SavedSource { reading, lease_left }) in sources {
        let Some(spec) = settings.sources.get(name) else { continue };
        let mut values = BTreeMap::new();
        for (key, value) in &reading.data {
            let value = match value {
                SecretValue::Text(bytes) => Value::Text(Secret::Borrowed(bytes.expose())),
                SecretValue::Json(bytes) => Value::Json(Secret::Borrowed(bytes.expose())),
            };
            values.insert(key.clone(), value);
        }
        let lease = reading.validity.lease().zip(*lease_left).map(|(lease, left)| LeaseEntry {
            id: lease.id.0.clone(),
            first_duration: lease.duration,
            renewable: lease.renewable,
            ends: at(left),
        });
        let Version { number, created } = reading.version;
        entries.insert(name.to_string(), SourceEntry { request: spec.request_id(), number, created, lease, values });
    }
    let handover = Handover {
        version: VERSION,
        issuer: issuer(settings),
        token: Secret::Borrowed(token.expose()),
        renewable: *renewable,
        first_ttl: *first_ttl,
        ends: left.map(at),
        sources: entries,
    };
    SecretBytes::written(|buffer| serde_json::to_writer(buffer, &handover)).map_err(|error| error.to_string())
}

/// Decodes a checkpoint that is usable with `settings`. `now` is the wall clock. Omits sources that `settings` does not contain.
///
/// # Errors
/// The reason why the checkpoint cannot be used, for a message.
pub fn decode(bytes: &SecretBytes, settings: &Settings, now: Timestamp) -> Result<Checkpoint, String> {
    // The text of serde's error can quote a secret, so only the position is kept.
    let unreadable = |error: serde_json::Error| {
        let (line, column) = (error.line(), error.column());
        format!("the content is not a handover of this version (line {line}, column {column}); {SAME_IMAGE}")
    };
    #[derive(Deserialize)]
    struct VersionOnly {
        version: u32,
    }
    let VersionOnly { version } = serde_json::from_slice(bytes.expose()).map_err(unreadable)?;
    if version != VERSION {
        return Err(format!("expected format version {VERSION}, found {version}; {SAME_IMAGE}"));
    }
    let handover: Handover<'_> = serde_json::from_slice(bytes.expose()).map_err(unreadable)?;
    if handover.issuer != issuer(settings) {
        return Err("its token was issued for another Vault server, namespace, auth mount or role".into());
    }
    // A clock that was set back must not extend a TTL beyond the original one.
    let remaining =
        |ends: Timestamp, most: Duration| Duration::try_from(ends.duration_since(now)).unwrap_or_default().min(most);
    let left = handover.ends.map(|ends| remaining(ends, handover.first_ttl.unwrap_or(Duration::MAX)));
    if left.is_some_and(|left| left < MIN_TTL) {
        return Err("its token has expired".into());
    }
    let mut sources = BTreeMap::new();
    for (name, entry) in handover.sources {
        let Ok(name) = SourceName::new(&name) else { return Err("it contains an invalid source name".into()) };
        if settings.sources.get(&name).is_none_or(|source| source.request_id() != entry.request) {
            continue;
        }
        let lease_left = entry.lease.as_ref().map(|lease| remaining(lease.ends, lease.first_duration));
        let validity = entry.lease.map_or(Validity::Unlimited, |lease| {
            Validity::Lease(Lease { id: LeaseId(lease.id), duration: lease.first_duration, renewable: lease.renewable })
        });
        let value = |value: &Value<'_>| match value {
            Value::Text(bytes) => SecretValue::Text(SecretBytes::new(bytes.expose().to_vec())),
            Value::Json(bytes) => SecretValue::Json(SecretBytes::new(bytes.expose().to_vec())),
        };
        let reading = Reading {
            data: entry.values.iter().map(|(key, found)| (key.clone(), value(found))).collect(),
            version: Version { number: entry.number, created: entry.created },
            validity,
            warnings: Vec::new(),
        };
        sources.insert(name, SavedSource { reading: Arc::new(reading), lease_left });
    }
    let Handover { renewable, first_ttl, token, .. } = handover;
    let token = std::str::from_utf8(token.expose()).map_err(|_| "its token is not UTF-8 text")?;
    let token = VaultToken::new(token).in_namespace(settings.auth.namespace.clone());
    Ok(Checkpoint { token, first_ttl, left, renewable, sources })
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
