//! Vault's JSON, as far as we need it. Values of secrets are taken straight from the body's bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::classify;
use super::transport::Answer;
use crate::model::{Failure, Lease, LeaseId, SecretBytes, SecretValue, TokenInfo, Validity, VaultToken};

/// The envelope of every answer (<https://developer.hashicorp.com/vault/api-docs>). Unknown fields are ignored.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    /// Kept as text, so that numbers keep their digits and nothing is copied before it is known what it is.
    #[serde(borrow, default)]
    pub(super) data: Option<&'a RawValue>,
    #[serde(default)]
    lease_id: Option<String>,
    #[serde(default)]
    lease_duration: Option<u64>,
    #[serde(default)]
    renewable: Option<bool>,
    #[serde(default)]
    pub(super) warnings: Option<Vec<String>>,
    /// Type of the mount that answered; Vault 1.17 and later.
    #[serde(default)]
    pub(super) mount_type: Option<String>,
}

impl<'a> Envelope<'a> {
    pub(super) fn parse(answer: &'a Answer) -> Result<Self, Failure> {
        serde_json::from_slice(&answer.body).map_err(|error| classify::unreadable(answer, &error))
    }

    /// The validity of the answer; `None` where no time is stated.
    pub(super) fn validity(&self) -> Option<Validity> {
        let duration = Duration::from_secs(self.lease_duration.filter(|seconds| *seconds > 0)?);
        Some(match self.lease_id.clone().filter(|id| !id.is_empty()) {
            Some(id) => {
                Validity::Lease(Lease { id: LeaseId(id), duration, renewable: self.renewable.unwrap_or_default() })
            }
            None => Validity::Expires(duration),
        })
    }
}

/// What KV version 2 has inside `data` (<https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#read-secret-version>).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KvV2<'a> {
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
    pub(super) metadata: KvV2Metadata,
}

#[derive(Deserialize)]
pub(super) struct KvV2Metadata {
    pub(super) version: u64,
    #[serde(default)]
    pub(super) created_time: Option<Timestamp>,
    /// Empty where the version is not deleted.
    #[serde(default)]
    pub(super) deletion_time: String,
    #[serde(default)]
    pub(super) destroyed: bool,
}

impl<'a> KvV2<'a> {
    /// Only if `data` has exactly the shape of KV version 2: nothing but `data`, an object or null, and `metadata` with a version.
    pub(super) fn recognise(data: &'a RawValue) -> Option<Self> {
        let found: Self = serde_json::from_str(data.get()).ok()?;
        let object = found.data.is_none_or(|inner| inner.get().starts_with('{'));
        object.then_some(found)
    }
}

/// Keys and values of a secret. `None` if it is not an object.
pub(super) fn values(object: &RawValue) -> Option<BTreeMap<String, SecretValue>> {
    let raw: BTreeMap<String, &RawValue> = serde_json::from_str(object.get()).ok()?;
    raw.into_iter().map(|(key, value)| Some((key, secret_value(value)?))).collect()
}

fn secret_value(raw: &RawValue) -> Option<SecretValue> {
    if raw.get().starts_with('"') {
        let text: String = serde_json::from_str(raw.get()).ok()?;
        return Some(SecretValue::Text(text.into()));
    }
    Some(SecretValue::Json(SecretBytes::new(compact(raw.get()))))
}

/// Drops white space between JSON tokens. Not by parsing and printing, which could change a number's digits.
fn compact(json: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let (mut inside, mut escaped) = (false, false);
    for byte in json.bytes() {
        if inside {
            inside = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            inside = byte == b'"';
        }
        out.push(byte);
    }
    out
}

/// The `errors` of a failed answer, joined; empty if there are none. Never holds a secret's value.
pub(super) fn errors(answer: &Answer) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let parsed: Option<Errors> = serde_json::from_slice(&answer.body).ok();
    // Vault indents its lists of causes ("1 error occurred:\n\t* permission denied\n\n").
    let words = parsed.map(|found| found.errors.join("; ")).unwrap_or_default();
    words.split_whitespace().fold(String::new(), |mut text, word| {
        let _ = write!(text, "{}{word}", if text.is_empty() { "" } else { " " });
        text
    })
}

/// The `auth` of a login or a renewal.
pub(super) struct AuthAnswer {
    pub(super) token: VaultToken,
    pub(super) info: TokenInfo,
    pub(super) warnings: Vec<String>,
}

pub(super) fn auth(answer: &Answer) -> Result<AuthAnswer, Failure> {
    #[derive(Deserialize)]
    struct Body {
        auth: Auth,
        #[serde(default)]
        warnings: Option<Vec<String>>,
    }
    #[derive(Deserialize)]
    struct Auth {
        #[serde(deserialize_with = "zeroizing")]
        client_token: Zeroizing<String>,
        #[serde(default)]
        lease_duration: u64,
        #[serde(default)]
        renewable: bool,
    }
    let body: Body = serde_json::from_slice(&answer.body).map_err(|error| classify::unreadable(answer, &error))?;
    Ok(AuthAnswer {
        token: VaultToken::new(&body.auth.client_token),
        info: TokenInfo {
            ttl: (body.auth.lease_duration > 0).then(|| Duration::from_secs(body.auth.lease_duration)),
            renewable: body.auth.renewable,
        },
        warnings: body.warnings.unwrap_or_default(),
    })
}

/// What `lookup-self` says (<https://developer.hashicorp.com/vault/api-docs/auth/token#lookup-a-token-self>).
pub(super) fn token_info(answer: &Answer) -> Result<TokenInfo, Failure> {
    #[derive(Deserialize)]
    struct Body {
        data: Lookup,
    }
    #[derive(Deserialize)]
    struct Lookup {
        /// `null` for a token that never ends; its `ttl` is 0.
        expire_time: Option<String>,
        #[serde(default)]
        renewable: bool,
        #[serde(default)]
        ttl: u64,
    }
    let body: Body = serde_json::from_slice(&answer.body).map_err(|error| classify::unreadable(answer, &error))?;
    Ok(TokenInfo {
        ttl: body.data.expire_time.map(|_| Duration::from_secs(body.data.ttl)),
        renewable: body.data.renewable,
    })
}

/// The lease after a renewal.
pub(super) fn lease(answer: &Answer, id: &LeaseId) -> Result<Lease, Failure> {
    let envelope = Envelope::parse(answer)?;
    Ok(Lease {
        id: id.clone(),
        duration: Duration::from_secs(envelope.lease_duration.unwrap_or_default()),
        renewable: envelope.renewable.unwrap_or_default(),
    })
}

/// What a wrapping token is for (<https://developer.hashicorp.com/vault/api-docs/system/wrapping-lookup>).
pub(super) fn creation_path(answer: &Answer) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Body {
        data: Wrapping,
    }
    #[derive(Deserialize)]
    struct Wrapping {
        creation_path: String,
    }
    let body: Body = serde_json::from_slice(&answer.body).map_err(|error| classify::unreadable(answer, &error))?;
    Ok(body.data.creation_path)
}

/// The secret id inside an unwrapped answer.
pub(super) fn secret_id(answer: &Answer) -> Result<SecretBytes, Failure> {
    #[derive(Deserialize)]
    struct Body {
        data: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        secret_id: String,
    }
    let body: Body = serde_json::from_slice(&answer.body).map_err(|error| classify::unreadable(answer, &error))?;
    Ok(body.data.secret_id.into())
}

/// What the mount of a path is (<https://openbao.org/api-docs/system/internal-ui-mounts/>): path, type, `options.version`.
pub(super) struct MountAnswer {
    pub(super) path: String,
    pub(super) kind: String,
    pub(super) version: Option<String>,
}

pub(super) fn mount(answer: &Answer) -> Result<MountAnswer, Failure> {
    #[derive(Deserialize)]
    struct Body {
        data: Mount,
    }
    #[derive(Deserialize)]
    struct Mount {
        path: String,
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        options: Option<BTreeMap<String, Option<String>>>,
    }
    let body: Body = serde_json::from_slice(&answer.body).map_err(|error| classify::unreadable(answer, &error))?;
    let version = body.data.options.unwrap_or_default().remove("version").flatten();
    Ok(MountAnswer { path: body.data.path, kind: body.data.kind, version })
}

/// Body of a login by JWT or Kubernetes token.
#[derive(Serialize)]
pub(super) struct JwtLogin<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'a str>,
    pub(super) jwt: &'a str,
}

/// Body of a login by `AppRole`.
#[derive(Serialize)]
pub(super) struct AppRoleLogin<'a> {
    pub(super) role_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret_id: Option<&'a str>,
}

/// Body of a wrapping lookup.
#[derive(Serialize)]
pub(super) struct WrappingToken<'a> {
    pub(super) token: &'a str,
}

/// Body of a lease renewal.
pub(super) fn lease_renewal(id: &LeaseId, increment: Option<Duration>) -> Zeroizing<Vec<u8>> {
    #[derive(Serialize)]
    struct Renewal<'a> {
        lease_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        increment: Option<u64>,
    }
    json(&Renewal { lease_id: &id.0, increment: increment.map(|time| time.as_secs()) })
}

/// Serializes a request body into bytes that are zeroed after use.
pub(super) fn json(body: &impl Serialize) -> Zeroizing<Vec<u8>> {
    // Room for a ServiceAccount token (1 to 2 KiB) without growing, which would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 * 1024));
    serde_json::to_writer(&mut *bytes, body).expect("a struct of strings and numbers always serializes into memory");
    bytes
}

fn zeroizing<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).expect("JSON")
    }

    #[test]
    fn numbers_keep_their_digits_and_strings_their_bytes() {
        let found = values(raw(
            r#"{"n": 12345678901234567890.10, "e":1E400, "s":"a\n\u00fc\"", "o": { "k" : [ 1, "x \" y\\", null ] }, "b":true, "z":null}"#,
        ))
        .expect("an object");
        let text = |key: &str| found.get(key).and_then(|value| value.bytes().expose_str()).expect(key).to_owned();
        assert_eq!(text("n"), "12345678901234567890.10");
        assert_eq!(text("e"), "1E400");
        assert_eq!(text("s"), "a\nü\"");
        assert_eq!(text("o"), r#"{"k":[1,"x \" y\\",null]}"#);
        assert_eq!((text("b"), text("z")), ("true".into(), "null".into()));
        assert!(matches!(found.get("s"), Some(SecretValue::Text(_))));
        assert!(matches!(found.get("n"), Some(SecretValue::Json(_))));
        assert!(values(raw("[1]")).is_none());
    }

    #[test]
    fn only_the_exact_shape_counts_as_version_2() {
        for good in [
            r#"{"data":{"a":"b"},"metadata":{"version":3,"created_time":"2026-01-01T00:00:00.123Z","deletion_time":"","destroyed":false,"custom_metadata":null}}"#,
            r#"{"data":null,"metadata":{"version":1,"deletion_time":"2026-01-01T00:00:00Z"}}"#,
        ] {
            assert!(KvV2::recognise(raw(good)).is_some(), "{good}");
        }
        for bad in [
            r#"{"data":"text","metadata":{"version":1}}"#,
            r#"{"data":{},"metadata":{"version":"1"}}"#,
            r#"{"data":{},"metadata":{}}"#,
            r#"{"data":{}}"#,
            r#"{"data":{},"metadata":{"version":1},"more":1}"#,
            r#"{"username":"x"}"#,
            "null",
        ] {
            assert!(KvV2::recognise(raw(bad)).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_root_token_never_ends_and_a_batch_token_does() {
        let root = Answer::for_test(200, r#"{"data":{"ttl":0,"expire_time":null,"renewable":false,"accessor":"acc"}}"#);
        let info = token_info(&root).expect("root");
        assert_eq!(info.ttl, None);
        let batch = r#"{"auth":{"client_token":"hvb.x","accessor":"","lease_duration":60,"renewable":false}}"#;
        let batch = auth(&Answer::for_test(200, batch)).expect("batch").info;
        assert_eq!(batch.ttl, Some(Duration::from_mins(1)));
    }
}
