//! Reading a source: the right path for its engine, and what the answer holds.
//!
//! A pod's start should cost one request per source, so nobody asks first what a mount is: the most common engine, KV version
//! 2, is tried, and the answer is taken only if it has exactly that shape. Only when that fails is the server asked
//! (`sys/internal/ui/mounts/<path>`), once per mount.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::value::RawValue;

use super::mounts::{Engine, Mount, below};
use super::transport::{Answer, Call};
use super::wire::{self, Envelope, KvV2};
use super::{Vault, classify, lock};
use crate::model::{Failure, FailureClass, KvEngine, Reading, Reason, Source, Validity, VaultToken, Version};

impl Vault {
    /// Reads `source` once: 1 request where its mount is known or KV version 2, else up to 3.
    ///
    /// # Errors
    /// `Missing` with `SecretNotFound` or `SecretDeleted`, `Denied` with the missing policy rule, `TokenDead`, and what
    /// `classify` names.
    pub async fn read(&self, token: &VaultToken, source: &Source) -> Result<Reading, Failure> {
        let read = Read { vault: self, token, source, path: source.path.trim_matches('/') };
        let settled = |engine| Mount::guess(read.path, source.mount.as_deref(), engine);
        match source.engine {
            KvEngine::Detect => read.detect().await,
            KvEngine::Other => read.settled(settled(Engine::Other)).await,
            KvEngine::V1 => read.settled(settled(Engine::KvV1)).await,
            KvEngine::V2 => read.settled(settled(Engine::KvV2)).await,
        }
    }
}

/// One read in progress.
struct Read<'a> {
    vault: &'a Vault,
    token: &'a VaultToken,
    source: &'a Source,
    path: &'a str,
}

/// One request and what came of it.
struct Attempt {
    mount: Mount,
    request_path: String,
    verdict: Verdict,
}

enum Verdict {
    /// The secret.
    Good(Reading),
    /// A final failure that says nothing about the mount.
    Failed(Failure),
    /// 403.
    Forbidden,
    /// 404 without a deleted version.
    NotThere,
    /// 400, 405, or another shape than the engine's: perhaps another engine.
    Odd(Failure),
}

impl Read<'_> {
    /// The engine is known by configuration.
    async fn settled(&self, mount: Mount) -> Result<Reading, Failure> {
        let attempt = self.attempt(mount).await?;
        self.conclude(attempt, true).await
    }

    async fn detect(&self) -> Result<Reading, Failure> {
        let known = lock(&self.vault.mounts).find(self.path);
        let was_known = known.is_some();
        let first = self.attempt(known.unwrap_or_else(|| self.guess())).await?;
        let mut judged = None;
        match &first.verdict {
            Verdict::Good(_) | Verdict::Failed(_) => {
                // A deleted version is an answer of KV version 2 too, but it teaches nothing that the next read does not.
                if !was_known && matches!(first.verdict, Verdict::Good(_)) {
                    lock(&self.vault.mounts).learn(first.mount.clone());
                }
                return self.conclude(first, true).await;
            }
            // A known mount that says 403: most often the token is dead, so that is asked first. A policy may also be for the
            // other version of a mount that was made anew, so the mount is asked about next.
            Verdict::Forbidden if was_known => {
                let failure = self.forbidden(&first, true).await;
                if failure.class != FailureClass::Denied {
                    return Err(failure);
                }
                judged = Some(failure);
            }
            Verdict::Forbidden | Verdict::NotThere | Verdict::Odd(_) => {}
        }
        if was_known {
            lock(&self.vault.mounts).forget(&first.mount.path);
        }
        let Some(told) = self.ask_for_mount().await? else { return self.without_mount(first, judged).await };
        lock(&self.vault.mounts).learn(told.clone());
        if told.request_path(self.path).0 != first.request_path {
            let second = self.attempt(told).await?;
            return self.conclude(second, true).await;
        }
        match judged {
            Some(failure) => Err(failure),
            None => self.conclude(Attempt { mount: told, ..first }, true).await,
        }
    }

    /// The server does not say what the mount is. As the Vault CLI does, the path is read as it is, which is right for old
    /// servers and for KV version 1; but where even `/data/` was forbidden, that is the answer.
    async fn without_mount(&self, first: Attempt, judged: Option<Failure>) -> Result<Reading, Failure> {
        if let Some(failure) = judged {
            return Err(failure);
        }
        let plain = Mount { path: first.mount.path.clone(), engine: Engine::Unknown };
        if matches!(first.verdict, Verdict::Forbidden) || plain.request_path(self.path).0 == first.request_path {
            return self.conclude(first, false).await;
        }
        let second = self.attempt(plain).await?;
        match second.verdict {
            Verdict::Good(_) => {
                lock(&self.vault.mounts).learn(second.mount.clone());
                self.conclude(second, false).await
            }
            Verdict::Failed(_) => self.conclude(second, false).await,
            // Nothing new: the first answer is nearer to what is most likely meant.
            Verdict::Forbidden | Verdict::NotThere | Verdict::Odd(_) => self.conclude(first, false).await,
        }
    }

    /// KV version 2, or the path as it is where the user put `/data/` in himself.
    fn guess(&self) -> Mount {
        let guess = Mount::guess(self.path, self.source.mount.as_deref(), Engine::KvV2);
        let written_out = below(self.path, &guess.path).is_some_and(|rest| rest.starts_with("data/"));
        if written_out { Mount { engine: Engine::Unknown, ..guess } } else { guess }
    }

    /// `GET sys/internal/ui/mounts/<path>`; any right below the mount is enough for an answer. `None` if the server does not say.
    async fn ask_for_mount(&self) -> Result<Option<Mount>, Failure> {
        let path = format!("sys/internal/ui/mounts/{}", self.path);
        let answer = self.vault.transport.send(Call::new(Method::GET, &path).token(self.token)).await?;
        match answer.status {
            StatusCode::OK => Ok(Mount::told(self.path, &wire::mount(&answer)?)),
            StatusCode::TOO_MANY_REQUESTS => Err(self.failed(&answer)),
            status if status.is_client_error() => Ok(None),
            _ => Err(self.failed(&answer)),
        }
    }

    async fn attempt(&self, mount: Mount) -> Result<Attempt, Failure> {
        let pin = self.source.version;
        if pin.is_some() && matches!(mount.engine, Engine::KvV1 | Engine::Other) {
            return Err(
                self.invalid(&format!("a version can be chosen in KV version 2 only, and {} is not that", mount.path))
            );
        }
        let (request_path, _) = mount.request_path(self.path);
        let call = Call::new(Method::GET, &request_path).version(pin).token(self.token);
        let answer = self.vault.transport.send(call).await?;
        let verdict = match answer.status {
            StatusCode::OK => self.opened(&answer, mount.engine).unwrap_or_else(Verdict::Failed),
            StatusCode::FORBIDDEN => Verdict::Forbidden,
            StatusCode::NOT_FOUND => self.deleted(&answer).map_or(Verdict::NotThere, Verdict::Failed),
            StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED => Verdict::Odd(self.failed(&answer)),
            _ => Verdict::Failed(self.failed(&answer)),
        };
        Ok(Attempt { mount, request_path, verdict })
    }

    /// A 200.
    fn opened(&self, answer: &Answer, engine: Engine) -> Result<Verdict, Failure> {
        let envelope = Envelope::parse(answer)?;
        let Some(data) = envelope.data else { return Ok(Verdict::Odd(self.invalid("the answer holds no data"))) };
        let versioned = match engine {
            Engine::KvV2 | Engine::Unknown => KvV2::recognise(data),
            Engine::KvV1 | Engine::Other => None,
        };
        if let Some(found) = versioned {
            let Some(object) = found.data else { return Err(self.version_is_gone(&found)) };
            let version = Version { number: Some(found.metadata.version), created: found.metadata.created_time };
            return self.reading(object, version, Validity::Unlimited, envelope.warnings.unwrap_or_default());
        }
        if engine == Engine::KvV2 {
            return Ok(Verdict::Odd(self.invalid("the answer is not one of KV version 2; is the engine set right?")));
        }
        if self.source.version.is_some() {
            return Err(self.invalid("a version can be chosen in KV version 2 only, and this is not that"));
        }
        let validity = envelope.validity().or_else(|| static_role_ttl(data)).unwrap_or_default();
        // KV version 1 states the mount's default TTL as a hint; the source's own refresh time decides instead.
        // https://developer.hashicorp.com/vault/docs/secrets/kv/kv-v1#ttls
        let is_kv = matches!(engine, Engine::KvV1 | Engine::Unknown) || envelope.mount_type.as_deref() == Some("kv");
        let validity = if is_kv && validity.lease().is_none() { Validity::Unlimited } else { validity };
        self.reading(data, Version::default(), validity, envelope.warnings.unwrap_or_default())
    }

    fn reading(
        &self,
        object: &RawValue,
        version: Version,
        validity: Validity,
        warnings: Vec<String>,
    ) -> Result<Verdict, Failure> {
        let data = wire::values(object).ok_or_else(|| self.invalid("the answer's data is not an object with keys"))?;
        Ok(Verdict::Good(Reading { data, version, validity, warnings }))
    }

    /// A 404 of KV version 2 has the metadata of a version that is deleted or destroyed.
    fn deleted(&self, answer: &Answer) -> Option<Failure> {
        let envelope = Envelope::parse(answer).ok()?;
        Some(self.version_is_gone(&KvV2::recognise(envelope.data?)?))
    }

    fn version_is_gone(&self, found: &KvV2<'_>) -> Failure {
        let KvV2 { metadata, .. } = found;
        let how = match (metadata.destroyed, metadata.deletion_time.as_str()) {
            (true, _) => "was destroyed for ever; write a new version".to_owned(),
            (false, "") => "holds no data; write a new version".to_owned(),
            (false, time) => format!("was deleted at {time}; undelete it or write a new version"),
        };
        let message = format!("failed to read {}: version {} {how}", self.path, metadata.version);
        Failure::new(FailureClass::Missing, Reason::SecretDeleted, message)
    }

    /// Turns the last attempt into the result. `sure`: the mount's engine is known and not only guessed.
    async fn conclude(&self, attempt: Attempt, sure: bool) -> Result<Reading, Failure> {
        match attempt.verdict {
            Verdict::Good(reading) => Ok(reading),
            Verdict::Failed(failure) | Verdict::Odd(failure) => Err(failure),
            Verdict::Forbidden => Err(self.forbidden(&attempt, sure).await),
            Verdict::NotThere => Err(self.not_there(&attempt, sure)),
        }
    }

    async fn forbidden(&self, attempt: &Attempt, sure: bool) -> Failure {
        let action = format!("failed to read {}", self.path);
        let mut failure = self.vault.denied(self.token, &action, &attempt.request_path, "read").await;
        if failure.class == FailureClass::Denied && !sure && attempt.request_path != self.path {
            let hint = format!(" (if {} is not KV version 2, set the source's mount or engine)", attempt.mount.path);
            failure.message.push_str(&hint);
        }
        failure
    }

    fn not_there(&self, attempt: &Attempt, sure: bool) -> Failure {
        let mount = &attempt.mount;
        let engine = match mount.engine {
            _ if !sure => format!("the server does not say what {} is", mount.path),
            Engine::KvV2 => format!("{} is KV version 2", mount.path),
            Engine::KvV1 => format!("{} is KV version 1", mount.path),
            Engine::Other | Engine::Unknown => format!("in mount {}", mount.path),
        };
        let what =
            self.source.version.map_or("no secret".to_owned(), |version| format!("no secret with version {version}"));
        let message = format!(
            "failed to read {}: {what} at that path (asked for {}; {engine}); check the path and the namespace",
            self.path, attempt.request_path
        );
        Failure::new(FailureClass::Missing, Reason::SecretNotFound, message)
    }

    fn failed(&self, answer: &Answer) -> Failure {
        classify::answer(&format!("failed to read {}", self.path), answer)
    }

    fn invalid(&self, why: &str) -> Failure {
        let message = format!("failed to read {}: {why}", self.path);
        Failure::new(FailureClass::Invalid, Reason::InvalidRequest, message)
    }
}

/// A static role of the database engine has no lease; it says in its data when the password changes next
/// (<https://developer.hashicorp.com/vault/api-docs/secret/databases#get-static-credentials>).
fn static_role_ttl(data: &RawValue) -> Option<Validity> {
    #[derive(serde::Deserialize)]
    struct StaticRole {
        #[serde(rename = "last_vault_rotation")]
        _rotated: String,
        ttl: u64,
    }
    let role: StaticRole = serde_json::from_str(data.get()).ok()?;
    // 0 = just now.
    Some(Validity::Rotates(Duration::from_secs(role.ttl.max(1))))
}
