//! What one agent process leaves for the next one of the same pod, as bytes and back. Pure: no file, no clock.
//!
//! JSON, closed and with a version, since both processes come from one image and anything else is a mistake. It is never
//! trusted further than a login would be: it must be of the same server, namespace and role, and still alive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::model::{
    AuthMethod, HandedSource, Handover, KvEngine, Lease, LeaseId, Reading, SecretBytes, SecretValue, Settings, Source,
    SourceName, VaultToken, Version,
};

/// Goes up with each change of the form.
const VERSION: u32 = 1;

/// A token with less than this left is not worth taking over: it might end on the way.
const SHORTEST: Duration = Duration::from_secs(3);

/// Everything that is left, secret bytes included.
pub struct Estate {
    /// The token.
    pub token: VaultToken,
    /// What decisions need.
    pub facts: Handover,
    /// The content of each source in `facts`.
    pub readings: BTreeMap<SourceName, Arc<Reading>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    version: u32,
    /// Who gave the token.
    issuer: Issuer,
    token: Text<'a>,
    own: bool,
    renewable: bool,
    first_ttl: Option<Duration>,
    /// By the wall clock: all that two processes have in common.
    ends: Option<Timestamp>,
    sources: BTreeMap<String, Held<'a>>,
}

/// A login by other means than these gives another token.
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
struct Held<'a> {
    /// Where it was read; a source that moved is read anew.
    place: Place,
    number: Option<u64>,
    created: Option<Timestamp>,
    lease: Option<HeldLease>,
    values: BTreeMap<String, Value<'a>>,
}

#[derive(Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Place {
    path: String,
    mount: Option<String>,
    engine: String,
    version: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeldLease {
    id: Option<String>,
    first_duration: Duration,
    renewable: bool,
    ends: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Value<'a> {
    Text(Text<'a>),
    Json(Text<'a>),
}

/// Secret text: lent while it is written, zeroed on drop where it was read.
enum Text<'a> {
    Lent(&'a str),
    Own(Zeroizing<String>),
}

impl Serialize for Text<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Text<'_> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::Own(Zeroizing::new(String::deserialize(deserializer)?)))
    }
}

impl Text<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Lent(text) => text,
            Self::Own(text) => text,
        }
    }
}

/// The bytes to leave.
///
/// # Errors
/// Words for what cannot be left: a token or a value that is no text, which Vault never gives.
pub fn encode(estate: &Estate, settings: &Settings, now: Timestamp) -> Result<SecretBytes, String> {
    let at = |left: Duration| {
        let ends = SignedDuration::try_from(left).ok().and_then(|left| now.checked_add(left).ok());
        ends.unwrap_or(Timestamp::MAX)
    };
    let text = |bytes| std::str::from_utf8(bytes).map(Text::Lent).map_err(|_| "a value is not text".to_owned());
    let Handover { first_ttl, left, renewable, own, sources } = &estate.facts;
    let mut held = BTreeMap::new();
    for (name, source) in sources {
        let (Some(reading), Some(spec)) = (estate.readings.get(name), settings.sources.get(name)) else { continue };
        let mut values = BTreeMap::new();
        for (key, value) in &reading.data {
            let value = match value {
                SecretValue::Text(bytes) => Value::Text(text(bytes.expose())?),
                SecretValue::Json(bytes) => Value::Json(text(bytes.expose())?),
            };
            values.insert(key.clone(), value);
        }
        let lease = source.lease.as_ref().map(|(lease, left)| HeldLease {
            id: lease.id.as_ref().map(|id| id.0.clone()),
            first_duration: lease.duration,
            renewable: lease.renewable,
            ends: at(*left),
        });
        let Version { number, created } = source.version;
        held.insert(name.to_string(), Held { place: place(spec), number, created, lease, values });
    }
    let file = File {
        version: VERSION,
        issuer: issuer(settings),
        token: text(estate.token.expose())?,
        own: *own,
        renewable: *renewable,
        first_ttl: *first_ttl,
        ends: left.map(at),
        sources: held,
    };
    // Counted first, so that the buffer never grows and leaves a copy behind.
    let mut size = Count(0);
    serde_json::to_writer(&mut size, &file).map_err(|error| error.to_string())?;
    let mut bytes = Vec::with_capacity(size.0);
    serde_json::to_writer(&mut bytes, &file).map_err(|error| error.to_string())?;
    Ok(SecretBytes::new(bytes))
}

/// What was left, if it is still of use.
///
/// # Errors
/// Words for why not.
pub fn decode(bytes: &SecretBytes, settings: &Settings, now: Timestamp) -> Result<Estate, String> {
    // Serde's words may quote what it found, which may be secret; the place is enough.
    let unreadable = |error: serde_json::Error| {
        format!("it is not what this version writes (line {}, column {})", error.line(), error.column())
    };
    #[derive(Deserialize)]
    struct Any {
        version: u32,
    }
    let Any { version } = serde_json::from_slice(bytes.expose()).map_err(unreadable)?;
    if version != VERSION {
        return Err(format!("it has form {version} and this version reads form {VERSION}; run both from one image"));
    }
    let file: File<'_> = serde_json::from_slice(bytes.expose()).map_err(unreadable)?;
    if file.issuer != issuer(settings) {
        return Err("its token is of another server, namespace, auth mount or role".into());
    }
    // A clock that was set back must not make anything live longer than it was given.
    let left = |ends: Timestamp, most: Duration| {
        let left = Duration::try_from(ends.duration_since(now)).unwrap_or_default();
        left.min(most)
    };
    let token_left = file.ends.map(|ends| left(ends, file.first_ttl.unwrap_or(Duration::MAX)));
    if token_left.is_some_and(|left| left < SHORTEST) {
        return Err("its token has run out".into());
    }
    let (mut sources, mut readings) = (BTreeMap::new(), BTreeMap::new());
    for (name, held) in file.sources {
        let Ok(name) = SourceName::new(&name) else { return Err("it names a source that cannot be".into()) };
        if settings.sources.get(&name).is_none_or(|source| place(source) != held.place) {
            continue;
        }
        let version = Version { number: held.number, created: held.created };
        let lease = held.lease.map(|held| {
            let left = left(held.ends, held.first_duration);
            let id = held.id.map(LeaseId);
            (Lease { id, duration: held.first_duration, renewable: held.renewable }, left)
        });
        let bytes = |text: &Text<'_>| SecretBytes::from(text.as_str());
        let value = |value: &Value<'_>| match value {
            Value::Text(text) => SecretValue::Text(bytes(text)),
            Value::Json(text) => SecretValue::Json(bytes(text)),
        };
        let reading = Reading {
            data: held.values.iter().map(|(key, held)| (key.clone(), value(held))).collect(),
            version: version.clone(),
            lease: lease.as_ref().map(|(lease, _)| lease.clone()),
            warnings: Vec::new(),
        };
        readings.insert(name.clone(), Arc::new(reading));
        sources.insert(name, HandedSource { version, lease });
    }
    let File { own, renewable, first_ttl, token, .. } = file;
    let facts = Handover { first_ttl, left: token_left, renewable, own, sources };
    Ok(Estate { token: VaultToken::new(token.as_str()), facts, readings })
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

fn place(source: &Source) -> Place {
    let engine = match source.engine {
        KvEngine::Detect => "detect",
        KvEngine::V1 => "v1",
        KvEngine::V2 => "v2",
        KvEngine::Other => "other",
    };
    Place {
        path: source.path.clone(),
        mount: source.mount.clone(),
        engine: engine.into(),
        version: source.version.map(Into::into),
    }
}

/// Counts what is written to it.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
