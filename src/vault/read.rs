//! Reading a source: the right path for its engine, and what the response holds.
//!
//! A pod's start should cost one request per source, so nothing asks first what a mount is: the most common engine, KV version
//! 2, is tried, and the response is taken only if it has exactly that shape. Only when that fails is the server asked
//! (`sys/internal/ui/mounts/<path>`), once per mount.

use std::sync::Mutex;

use http::StatusCode;
use serde_json::value::RawValue;

use super::api::kv::KvV2;
use super::api::secret::{Envelope, Known, get, read_error, read_error_with_rule};
use super::api::{Api, is_from_vault, mount::mount_of};
use super::error::VaultError;
use super::http::Response;
use super::json;
use super::lock::lock;
use super::mounts::{Engine, Mount, MountTable, below};
use crate::model::{KvEngine, Reading, Source, Validity, VaultToken, Version};

/// Reads `source` once.
pub(super) async fn read(
    api: &Api,
    mounts: &Mutex<MountTable>,
    token: &VaultToken,
    source: &Source,
) -> Result<Reading, VaultError> {
    let read = Read { api, mounts, token, source, path: source.path.trim_matches('/') };
    let engine = match source.engine {
        KvEngine::Detect => return read.detect().await,
        KvEngine::Other => Engine::Other,
        KvEngine::V1 => Engine::KvV1,
        KvEngine::V2 => Engine::KvV2,
    };
    let attempt = read.attempt(Mount::assume(read.path, source.mount.as_deref(), engine, true)).await?;
    read.conclude(attempt)
}

/// One read in progress.
struct Read<'a> {
    api: &'a Api,
    mounts: &'a Mutex<MountTable>,
    token: &'a VaultToken,
    source: &'a Source,
    path: &'a str,
}

/// One request and what came of it.
struct Attempt {
    mount: Mount,
    request_path: String,
    response: Response,
    verdict: Verdict,
}

enum Verdict {
    /// The secret.
    Good(Reading),
    /// A final failure that says nothing about the mount.
    Failed(VaultError),
    /// 403 by a policy, or by a server that does not know the token.
    Forbidden(VaultError),
    /// 404 without a deleted version.
    NotThere,
    /// 400, 405, or another shape than the engine's: perhaps another engine.
    Odd(VaultError),
}

impl Read<'_> {
    async fn detect(&self) -> Result<Reading, VaultError> {
        let known = lock(self.mounts).find(self.path);
        let was_known = known.is_some();
        let first = self.attempt(known.unwrap_or_else(|| self.guess())).await?;
        match &first.verdict {
            Verdict::Good(_) | Verdict::Failed(_) => {
                // A deleted version is a response of KV version 2 too, but it teaches nothing that the next read does not.
                if !was_known && matches!(first.verdict, Verdict::Good(_)) {
                    lock(self.mounts).learn(first.mount.clone());
                }
                return self.conclude(first);
            }
            // A policy may also be for the other version of a mount that was re-created, so the server is asked; where it does
            // not say, what is known stays.
            Verdict::Forbidden(_) => {}
            Verdict::NotThere | Verdict::Odd(_) => lock(self.mounts).forget(&first.mount.path),
        }
        let described = mount_of(self.api, self.token, self.path).await?;
        let Some(mount) = described.and_then(|info| Mount::described(self.path, &info)) else {
            return self.without_mount(first, was_known).await;
        };
        lock(self.mounts).forget(&first.mount.path);
        lock(self.mounts).learn(mount.clone());
        if mount.request_path(self.path) == first.request_path {
            return self.conclude(self.judge(mount, first.request_path, first.response));
        }
        let second = self.attempt(mount).await?;
        self.conclude(second)
    }

    /// The server does not say what the mount is. As the Vault CLI does, the path is read as it is, which is right for old
    /// servers and for KV version 1; but where even `/data/` was forbidden, that is the response.
    async fn without_mount(&self, first: Attempt, was_known: bool) -> Result<Reading, VaultError> {
        let plain = Mount { path: first.mount.path.clone(), engine: Engine::Unknown, sure: false };
        if matches!(first.verdict, Verdict::Forbidden(_)) || plain.request_path(self.path) == first.request_path {
            let sure = was_known && matches!(first.verdict, Verdict::Forbidden(_));
            return if sure { self.conclude(first) } else { self.conclude_unsure(first) };
        }
        let second = self.attempt(plain).await?;
        match second.verdict {
            Verdict::Good(_) => {
                lock(self.mounts).learn(second.mount.clone());
                self.conclude(second)
            }
            Verdict::Failed(_) => self.conclude(second),
            // Nothing new: the first response is nearer to what is most likely meant.
            Verdict::Forbidden(_) | Verdict::NotThere | Verdict::Odd(_) => self.conclude_unsure(first),
        }
    }

    /// KV version 2, or the path as it is where the user wrote `/data/` into it.
    fn guess(&self) -> Mount {
        let guess = Mount::assume(self.path, self.source.mount.as_deref(), Engine::KvV2, false);
        let written_out = below(self.path, &guess.path).is_some_and(|rest| rest.starts_with("data/"));
        if written_out { Mount { engine: Engine::Unknown, ..guess } } else { guess }
    }

    async fn attempt(&self, mount: Mount) -> Result<Attempt, VaultError> {
        let pin = self.source.version;
        if pin.is_some() && matches!(mount.engine, Engine::KvV1 | Engine::Other) {
            return Err(self.not_versioned(&mount.path));
        }
        let request_path = mount.request_path(self.path);
        let response = get(self.api, self.token, &request_path, pin).await?;
        Ok(self.judge(mount, request_path, response))
    }

    fn judge(&self, mount: Mount, request_path: String, response: Response) -> Attempt {
        let verdict = match response.status {
            StatusCode::OK => self.opened(&response, &mount, &request_path).unwrap_or_else(Verdict::Failed),
            _ if response.status.is_client_error() && !is_from_vault(&response) => Verdict::Failed(read_error(self.path, &response)),
            StatusCode::FORBIDDEN => match read_error_with_rule(self.path, &request_path, &response) {
                error @ VaultError::Forbidden { .. } => Verdict::Forbidden(error),
                error => Verdict::Failed(error),
            },
            StatusCode::NOT_FOUND => self.deleted(&response).map_or(Verdict::NotThere, Verdict::Failed),
            StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED => Verdict::Odd(read_error(self.path, &response)),
            _ => Verdict::Failed(read_error(self.path, &response)),
        };
        Attempt { mount, request_path, response, verdict }
    }

    /// A 200.
    fn opened(&self, response: &Response, mount: &Mount, request_path: &str) -> Result<Verdict, VaultError> {
        let envelope = Envelope::parse(request_path, response)?;
        let Some(data) = envelope.data else {
            return Ok(Verdict::Odd(self.not_readable("expected data in the response, found none; check the path".into())));
        };
        let versioned = match mount.engine {
            Engine::KvV2 if mount.sure => KvV2::parse(data),
            Engine::KvV2 | Engine::Unknown => KvV2::recognise(data),
            Engine::KvV1 | Engine::Other => None,
        };
        if let Some(found) = versioned {
            let Some(object) = found.data else { return Err(self.version_is_gone(&found)) };
            let version = Version { number: Some(found.metadata.version), created: found.metadata.created_time };
            return self.reading(object, version, Validity::Unlimited, envelope.warnings());
        }
        if mount.engine == Engine::KvV2 {
            let why = "expected a response of KV version 2, found another format; check the source's `engine`";
            return Ok(Verdict::Odd(self.not_readable(why.into())));
        }
        if self.source.version.is_some() {
            return Err(self.not_versioned(&mount.path));
        }
        let known = match mount.engine {
            Engine::KvV1 | Engine::KvV2 => Known::Kv,
            Engine::Other => Known::NotKv,
            Engine::Unknown => Known::Nothing,
        };
        let validity = envelope.validity(request_path, known, response.date);
        self.reading(data, Version::default(), validity, envelope.warnings())
    }

    fn reading(
        &self,
        object: &RawValue,
        version: Version,
        validity: Validity,
        warnings: Vec<String>,
    ) -> Result<Verdict, VaultError> {
        let data = json::values(object)
            .ok_or_else(|| self.not_readable("expected an object with keys, found other data; check the path".into()))?;
        Ok(Verdict::Good(Reading { data, version, validity, warnings }))
    }

    /// A 404 of KV version 2 has the metadata of a version that is deleted or destroyed.
    fn deleted(&self, response: &Response) -> Option<VaultError> {
        let envelope = Envelope::parse(self.path, response).ok()?;
        Some(self.version_is_gone(&KvV2::recognise(envelope.data?)?))
    }

    fn version_is_gone(&self, found: &KvV2<'_>) -> VaultError {
        let (path, version) = (self.path.to_owned(), found.metadata.version);
        VaultError::SecretDeleted { path, version, how: found.fate() }
    }

    /// Turns the last attempt into the result.
    fn conclude(&self, attempt: Attempt) -> Result<Reading, VaultError> {
        let engine = match attempt.mount.engine {
            Engine::KvV2 => format!("mount {} is KV version 2", attempt.mount.path),
            Engine::KvV1 => format!("mount {} is KV version 1", attempt.mount.path),
            Engine::Other | Engine::Unknown => format!("mount {}", attempt.mount.path),
        };
        self.conclude_as(attempt, engine)
    }

    /// The same where the mount is only a guess.
    fn conclude_unsure(&self, mut attempt: Attempt) -> Result<Reading, VaultError> {
        let mount = &attempt.mount.path;
        if let Verdict::Forbidden(VaultError::Forbidden { rule, .. }) = &mut attempt.verdict
            && attempt.request_path != self.path
        {
            *rule = format!(
                "{rule}, assuming that {mount} is a KV version 2 mount; if it is not, set the source's `mount` and `engine`"
            );
        }
        let engine = format!("Vault does not report the engine of mount {mount}");
        self.conclude_as(attempt, engine)
    }

    fn conclude_as(&self, attempt: Attempt, engine: String) -> Result<Reading, VaultError> {
        match attempt.verdict {
            Verdict::Good(reading) => Ok(reading),
            Verdict::Failed(error) | Verdict::Forbidden(error) | Verdict::Odd(error) => Err(error),
            Verdict::NotThere => {
                let version = self.source.version;
                let what =
                    version.map_or("no secret".to_owned(), |version| format!("no secret with version {version}"));
                let path = self.path.to_owned();
                Err(VaultError::SecretNotFound { path, what, request_path: attempt.request_path, engine })
            }
        }
    }

    fn not_versioned(&self, mount: &str) -> VaultError {
        self.not_readable(format!(
            "`version` requires KV version 2, but mount {mount} has another engine; remove `version` from the source"
        ))
    }

    fn not_readable(&self, why: String) -> VaultError {
        VaultError::NotReadable { path: self.path.to_owned(), why }
    }
}
