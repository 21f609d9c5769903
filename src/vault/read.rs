//! Reading a source.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::value::RawValue;

use super::classify;
use super::client::{Answer, Ask, Vault};
use super::kv::{Mount, Place, first_place};
use super::wire::{KvMetadata, KvTwo, RawData, SecretAnswer};
use crate::model::{
    Failure, FailureClass, KvEngine, Lease, LeaseId, Reading, Reason, SecretBytes, SecretValue, Source, VaultToken,
    Version,
};

impl Vault {
    /// Reads a source once. One request where the mount is known or is what most mounts are.
    ///
    /// # Errors
    /// `SecretNotFound`, `SecretDeleted`, `Denied` with the missing line of the policy, `TokenExpired`, or as the status says.
    pub async fn read(&self, token: &VaultToken, source: &Source) -> Result<Reading, Failure> {
        let what = format!("failed to read {}", source.path);
        let place = first_place(source, self.known_mount(&source.path));
        let answer = self.get(&what, token, &place.path).await?;
        let first = parse(&what, source, &place, &answer);
        let unsure = !place.certain && matches!(&first, Err(miss) if miss.may_be_elsewhere);
        if !unsure {
            if !place.certain && place.mount == Some(Mount::KvTwo) {
                self.remember_mount(&place.prefix, Mount::KvTwo);
            }
            return self.judge_read(token, first, &answer).await;
        }
        match self.ask_mount(token, source).await? {
            Ok(better) if better.path != place.path => {
                let answer = self.get(&what, token, &better.path).await?;
                let result = parse(&what, source, &better, &answer);
                self.judge_read(token, result, &answer).await
            }
            // Vault confirms the place: the first answer was the right one.
            Ok(_) => self.judge_read(token, first, &answer).await,
            // No such door, an old server: version 1, as the Vault CLI concludes.
            Err(refusal) if refusal.status == 404 => {
                let plain = Place { path: source.path.clone(), mount: Some(Mount::Plain), certain: true, ..place };
                let answer = self.get(&what, token, &plain.path).await?;
                let result = parse(&what, source, &plain, &answer);
                self.judge_read(token, result, &answer).await
            }
            // No right below the mount at all, or no live token.
            Err(refusal) => {
                let denied = match first {
                    Err(miss) if answer.status == 403 => miss.failure,
                    _ => denied(&what, &place.path, &refusal),
                };
                Err(self.judge(token, denied, &refusal).await)
            }
        }
    }

    async fn get(&self, what: &str, token: &VaultToken, path: &str) -> Result<Answer, Failure> {
        self.send(what, Ask { method: Method::GET, path, token: Some(token), namespace: None, body: None }).await
    }

    async fn judge_read(
        &self,
        token: &VaultToken,
        result: Result<Reading, Miss>,
        answer: &Answer,
    ) -> Result<Reading, Failure> {
        match result {
            Ok(reading) => Ok(reading),
            Err(miss) => Err(self.judge(token, miss.failure, answer).await),
        }
    }
}

/// Why an answer is no reading, and whether another path could be the right one.
struct Miss {
    failure: Failure,
    may_be_elsewhere: bool,
}

impl Miss {
    fn sure(failure: Failure) -> Self {
        Self { failure, may_be_elsewhere: false }
    }
}

fn denied(what: &str, path: &str, answer: &Answer) -> Failure {
    let path = path.split('?').next().unwrap_or(path);
    let message = format!(
        "{what}: vault answers 403{}; the policy needs: path \"{path}\" {{ capabilities = [\"read\"] }}",
        classify::words(answer)
    );
    Failure::new(FailureClass::Denied, Reason::Denied, message)
}

fn parse(what: &str, source: &Source, place: &Place, answer: &Answer) -> Result<Reading, Miss> {
    let bad = |error: serde_json::Error| Miss::sure(classify::not_understood(what, &error));
    match answer.status {
        200 => {}
        403 => return Err(Miss { failure: denied(what, &place.path, answer), may_be_elsewhere: true }),
        404 => return Err(not_found(what, source, place, answer)),
        _ => return Err(Miss::sure(classify::failure(what, answer))),
    }
    let secret: SecretAnswer<'_> = serde_json::from_slice(&answer.body).map_err(bad)?;
    let Some(data) = secret.data else {
        let message = format!("{what}: the answer has no data");
        return Err(Miss::sure(Failure::new(FailureClass::Missing, Reason::SecretNotFound, message)));
    };
    let warnings = secret.warnings.unwrap_or_default();
    // What Vault says is KV version 2 has that shape; what the user wrote with `/data/` is recognised by it.
    let two = match place.mount {
        Some(Mount::Plain) => None,
        _ => serde_json::from_str::<KvTwo<'_>>(data.get()).ok(),
    };
    if let Some(KvTwo { data, metadata }) = two {
        let version =
            Version { number: Some(metadata.version), created: metadata.created_time.parse::<Timestamp>().ok() };
        let Some(data) = data.filter(|data| data.get() != "null") else {
            return Err(Miss::sure(deleted(what, &metadata)));
        };
        return Ok(Reading { data: values(data).map_err(bad)?, version, lease: None, warnings });
    }
    if place.mount == Some(Mount::KvTwo) {
        let message = format!("{what}: the answer is not that of a KV version 2 mount");
        let failure = Failure::new(FailureClass::Invalid, Reason::InvalidRequest, message);
        return Err(Miss { failure, may_be_elsewhere: true });
    }
    let id = (!secret.lease_id.is_empty()).then(|| LeaseId(secret.lease_id.clone()));
    // KV version 1 states the mount's default lease, which is only a hint how often to read and is no lease.
    let is_hint = id.is_none() && source.engine != KvEngine::Other;
    let lease = (secret.lease_duration > 0 && !is_hint).then(|| Lease {
        id,
        duration: Duration::from_secs(secret.lease_duration),
        renewable: secret.renewable,
    });
    Ok(Reading { data: values(data).map_err(bad)?, version: Version::default(), lease, warnings })
}

/// 404: nothing there, or a KV version 2 secret whose version was deleted or destroyed; the body tells.
fn not_found(what: &str, source: &Source, place: &Place, answer: &Answer) -> Miss {
    let secret = serde_json::from_slice::<SecretAnswer<'_>>(&answer.body).ok();
    let two = secret.and_then(|secret| serde_json::from_str::<KvTwo<'_>>(secret.data?.get()).ok());
    if let Some(KvTwo { metadata, .. }) = two {
        return Miss::sure(deleted(what, &metadata));
    }
    let version = source.version.map(|version| format!(" in version {version}")).unwrap_or_default();
    let message = format!("{what}: no secret there{version} (asked for {}){}", place.path, classify::words(answer));
    let failure = Failure::new(FailureClass::Missing, Reason::SecretNotFound, message);
    Miss { failure, may_be_elsewhere: true }
}

fn deleted(what: &str, metadata: &KvMetadata) -> Failure {
    let how = if metadata.destroyed {
        "is destroyed".to_owned()
    } else {
        format!("was deleted at {}", metadata.deletion_time)
    };
    let message = format!("{what}: version {} {how}; write a new version, or undelete it", metadata.version);
    Failure::new(FailureClass::Missing, Reason::SecretDeleted, message)
}

/// JSON strings become their text, everything else keeps its JSON text, so that numbers keep their digits.
fn values(data: &RawValue) -> Result<BTreeMap<String, SecretValue>, serde_json::Error> {
    let raw: RawData<'_> = serde_json::from_str(data.get())?;
    raw.into_iter()
        .map(|(key, value)| {
            let text = value.get();
            let value = if text.starts_with('"') {
                SecretValue::Text(SecretBytes::from(serde_json::from_str::<String>(text)?))
            } else {
                SecretValue::Json(compact(text))
            };
            Ok((key, value))
        })
        .collect()
}

/// Removes white space outside of strings.
fn compact(json: &str) -> SecretBytes {
    let (mut inside, mut escaped) = (false, false);
    let mut bytes = Vec::with_capacity(json.len());
    for byte in json.bytes() {
        if inside || !byte.is_ascii_whitespace() {
            bytes.push(byte);
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            _ => {}
        }
    }
    SecretBytes::new(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_bytes() {
        let raw = RawValue::from_string(r#"{"s":"a\"ü\n","n":1.500,"o":{ "k" : [ 1 , " x \" " ] },"t":true}"#.into());
        let values = values(&raw.expect("json")).expect("an object");
        let text = |key: &str| values[key].bytes().expose_str().expect("text").to_owned();
        assert_eq!(text("s"), "a\"ü\n");
        assert_eq!(text("n"), "1.500");
        assert_eq!(text("o"), r#"{"k":[1," x \" "]}"#);
        assert_eq!(text("t"), "true");
    }
}
