//! What one agent process leaves for the next one of the same pod, as bytes and back. Pure: no file, no clock.
//!
//! JSON, closed and with a version, since both processes come from one image and anything else is a mistake. It is never
//! trusted further than a login would be: it must be of the same server, namespace and role, and still alive.

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
    token: Secret<'a>,
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
    Text(Secret<'a>),
    Json(Secret<'a>),
}

/// Secret bytes: lent while they are written, zeroed on drop where they were read. As base64, which JSON never escapes: text with
/// escapes would leave a copy in the parser's own buffer.
enum Secret<'a> {
    Lent(&'a [u8]),
    Own(Zeroizing<Vec<u8>>),
}

impl Serialize for Secret<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.expose(), &STANDARD))
    }
}

impl<'de> Deserialize<'de> for Secret<'_> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        // Large enough at once, so that it never grows and leaves a copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(decoded_len_estimate(text.len())));
        STANDARD.decode_vec(text, &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Self::Own(bytes))
    }
}

impl Secret<'_> {
    fn expose(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }
}

/// The bytes to leave.
///
/// # Errors
/// Words for what cannot be left.
pub fn encode(estate: &Estate, settings: &Settings, now: Timestamp) -> Result<SecretBytes, String> {
    let at = |left: Duration| {
        let ends = SignedDuration::try_from(left).ok().and_then(|left| now.checked_add(left).ok());
        ends.unwrap_or(Timestamp::MAX)
    };
    let Handover { first_ttl, left, renewable, own, sources } = &estate.facts;
    let mut held = BTreeMap::new();
    for (name, source) in sources {
        let (Some(reading), Some(spec)) = (estate.readings.get(name), settings.sources.get(name)) else { continue };
        let mut values = BTreeMap::new();
        for (key, value) in &reading.data {
            let value = match value {
                SecretValue::Text(bytes) => Value::Text(Secret::Lent(bytes.expose())),
                SecretValue::Json(bytes) => Value::Json(Secret::Lent(bytes.expose())),
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
        token: Secret::Lent(estate.token.expose()),
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
    let remaining =
        |ends: Timestamp, most: Duration| Duration::try_from(ends.duration_since(now)).unwrap_or_default().min(most);
    let token_left = file.ends.map(|ends| remaining(ends, file.first_ttl.unwrap_or(Duration::MAX)));
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
            let left = remaining(held.ends, held.first_duration);
            let id = held.id.map(LeaseId);
            (Lease { id, duration: held.first_duration, renewable: held.renewable }, left)
        });
        let value = |value: &Value<'_>| match value {
            Value::Text(bytes) => SecretValue::Text(SecretBytes::new(bytes.expose().to_vec())),
            Value::Json(bytes) => SecretValue::Json(SecretBytes::new(bytes.expose().to_vec())),
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
    let token = std::str::from_utf8(token.expose()).map_err(|_| "its token is not text")?;
    Ok(Estate { token: VaultToken::new(token), facts, readings })
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
    Place { path: source.path.clone(), mount: source.mount.clone(), engine: engine.into(), version: source.version }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const DOCUMENT: &str = "
vault: {address: 'https://vault:8200'}
auth: {role: webapp}
sources: {db: {path: database/creds/webapp, engine: other}, app: {path: secret/webapp}}
";

    fn settings(changed: &str, into: &str) -> Settings {
        let nobody: std::collections::HashMap<String, String> = std::collections::HashMap::new();
        config::load(&nobody, Some(&DOCUMENT.replace(changed, into))).unwrap_or_else(|error| panic!("{error}"))
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("a time")
    }

    fn estate() -> Estate {
        let lease =
            Lease { id: Some(LeaseId("database/creds/webapp/x".into())), duration: minutes(60), renewable: true };
        let version = Version { number: Some(7), created: Some(now()) };
        let (db, app) = (SourceName::new("db").expect("a name"), SourceName::new("app").expect("a name"));
        let value = |text: &str| SecretValue::Text(text.into());
        let data = BTreeMap::from([
            ("password".to_owned(), value("a \"quoted\"\nline")),
            ("port".to_owned(), SecretValue::Json("1.50".into())),
        ]);
        let reading = |version: &Version, lease| {
            Arc::new(Reading { data: data.clone(), version: version.clone(), lease, warnings: Vec::new() })
        };
        let none = Version::default();
        let sources = BTreeMap::from([
            (db.clone(), HandedSource { version: none.clone(), lease: Some((lease.clone(), minutes(50))) }),
            (app.clone(), HandedSource { version: version.clone(), lease: None }),
        ]);
        Estate {
            token: VaultToken::new("hvs.planted"),
            facts: Handover {
                first_ttl: Some(minutes(20)),
                left: Some(minutes(15)),
                renewable: true,
                own: true,
                sources,
            },
            readings: BTreeMap::from([(db, reading(&none, Some(lease))), (app, reading(&version, None))]),
        }
    }

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    fn left() -> SecretBytes {
        encode(&estate(), &settings("", ""), now()).unwrap_or_else(|why| panic!("{why}"))
    }

    fn refused(bytes: &SecretBytes, settings: &Settings, later: Duration) -> String {
        let at = now() + SignedDuration::try_from(later).expect("a time");
        decode(bytes, settings, at).err().expect("refused")
    }

    #[test]
    fn what_is_left_comes_back_with_less_time() {
        let at = now() + SignedDuration::from_mins(5);
        let taken = decode(&left(), &settings("", ""), at).unwrap_or_else(|why| panic!("{why}"));
        let before = estate();
        assert!(taken.token.expose() == b"hvs.planted");
        assert_eq!(taken.facts.left, Some(minutes(10)));
        assert_eq!(taken.facts.first_ttl, before.facts.first_ttl);
        for (name, source) in &before.facts.sources {
            let lease = source.lease.clone().map(|(lease, left)| (lease, left - minutes(5)));
            assert_eq!(taken.facts.sources[name], HandedSource { lease, ..source.clone() });
            assert!(taken.readings[name].data == before.readings[name].data, "{name}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_prolongs_nothing() {
        let at = now() - SignedDuration::from_hours(24);
        let taken = decode(&left(), &settings("", ""), at).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(taken.facts.left, Some(minutes(20)));
        let leases: Vec<_> = taken.facts.sources.values().filter_map(|source| source.lease.as_ref()).collect();
        assert_eq!(leases[0].1, minutes(60));
    }

    #[test]
    fn what_cannot_be_used_is_refused_in_words_without_secrets() {
        let same = settings("", "");
        assert!(refused(&left(), &same, minutes(15)).contains("run out"));
        for (changed, into) in [("https://vault:8200", "https://other:8200"), ("role: webapp", "role: other")] {
            assert!(refused(&left(), &settings(changed, into), minutes(0)).contains("another server"), "{into}");
        }
        let text = String::from_utf8(left().expose().to_vec()).expect("text");
        let planted = STANDARD.encode("hvs.planted");
        let table = [
            ("\"version\":1", "\"version\":2", "run both from one image"),
            ("\"own\":true", "\"own\":\"hvs.planted\"", "line 1"),
            ("\"own\":true", "\"own\":true,\"more\":1", "line 1"),
            (planted.as_str(), "hvs.planted", "line 1"),
            (&format!("\"{planted}\""), &format!("\"{planted}"), "line 1"),
        ];
        for (changed, into, why) in table {
            assert!(text.contains(changed), "{changed}");
            let told = refused(&text.replacen(changed, into, 1).into(), &same, minutes(0));
            assert!(told.contains(why) && !told.contains("hvs"), "{into}: {told}");
        }
    }

    #[test]
    fn a_source_that_moved_is_left_out() {
        let taken = decode(&left(), &settings("secret/webapp", "secret/moved"), now());
        let taken = taken.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(taken.facts.sources.keys().map(SourceName::as_str).collect::<Vec<_>>(), ["db"]);
    }
}
