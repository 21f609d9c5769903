//! Reading a source: the request path for its engine, and the content of the response.
//!
//! To start a pod with one request per source, a read first assumes the most common engine, KV version 2, and accepts the
//! response only if it has exactly that shape. It reads a path such as `database/creds/webapp` unchanged. If the assumption is
//! wrong, it queries the mount (`sys/internal/ui/mounts/<path>`), once per mount.

use std::sync::Mutex;

use http::StatusCode;
use serde_json::value::RawValue;

use super::api::kv::KvV2;
use super::api::secret::{EngineKind, Envelope, get, read_error, read_error_with_rule};
use super::api::{Api, is_from_vault, mount::mount_of};
use super::error::VaultError;
use super::http::Response;
use super::json;
use super::mounts::{Engine, Mount, MountTable, below, is_default_path_of_other_engine};
use super::previous::PreviousVersion;
use crate::model::{KvEngine, Reading, SecretValue, Source, Validity, VaultToken, Version, lock};

/// Reads `source` once.
pub(super) async fn read(
    api: &Api,
    mounts: &Mutex<MountTable>,
    token: &VaultToken,
    source: &Source,
) -> Result<Reading, VaultError> {
    let read = Read { api, mounts, token, source, path: source.path.trim_matches('/') };
    let engine = match source.engine {
        KvEngine::Detect => None,
        KvEngine::Other => Some(Engine::Other),
        KvEngine::V1 => Some(Engine::KvV1),
        KvEngine::V2 => Some(Engine::KvV2),
    };
    let Found { reading, request_path } = match engine {
        None => read.detect_and_read().await?,
        Some(engine) => {
            let attempt = read.attempt(Mount::assume(read.path, source.mount.as_deref(), engine, true)).await?;
            read.finish(attempt)?
        }
    };
    let Some(suffix) = source.previous.as_deref() else { return Ok(reading) };
    PreviousVersion { api, token, source, suffix, request_path: &request_path }.add_to(reading).await
}

/// Queries the mount of `path`. `None` if the server does not report it.
pub(super) async fn described_mount(api: &Api, token: &VaultToken, path: &str) -> Result<Option<Mount>, VaultError> {
    Ok(mount_of(api, token, path).await?.and_then(|info| Mount::described(path, &info)))
}

/// A reading and the path of its request.
struct Found {
    reading: Reading,
    request_path: String,
}

/// The policy rule for a request to `mount`, which the server does not report.
pub(super) fn rule_with_assumption(rule: &str, mount: &str) -> String {
    format!(
        "{rule}, assuming that {mount} is a KV version 2 mount; if it is not, set the source's `mount` and `engine`"
    )
}

/// One read in progress.
pub(super) struct Read<'a> {
    pub(super) api: &'a Api,
    pub(super) mounts: &'a Mutex<MountTable>,
    pub(super) token: &'a VaultToken,
    pub(super) source: &'a Source,
    /// Path of the secret.
    pub(super) path: &'a str,
}

/// One request and its result.
pub(super) struct Attempt {
    mount: Mount,
    request_path: String,
    response: Response,
    pub(super) result: AttemptResult,
}

pub(super) enum AttemptResult {
    /// The secret.
    Found(Reading),
    /// A failure that does not depend on the mount.
    Failed(VaultError),
    /// A 403: a policy is missing, or the token is invalid.
    Forbidden(VaultError),
    /// A 404 without a deleted version.
    NotFound,
    /// A 400, a 405, or a response of another shape: the engine can be another one.
    Unexpected(VaultError),
}

impl Read<'_> {
    async fn detect_and_read(&self) -> Result<Found, VaultError> {
        let known = lock(self.mounts).find(self.path);
        let was_known = known.is_some();
        let first = self.attempt(known.unwrap_or_else(|| self.assumed_mount())).await?;
        match &first.result {
            AttemptResult::Found(_) | AttemptResult::Failed(_) => {
                // A deleted version shows KV version 2 too, but the next read learns the mount at no extra cost.
                if !was_known && matches!(first.result, AttemptResult::Found(_)) {
                    lock(self.mounts).learn(first.mount.clone());
                }
                return self.finish(first);
            }
            // The mount can have been re-created with another version, for which the policy was written. Query the mount, and
            // keep the known one if the server does not report it.
            AttemptResult::Forbidden(_) => {}
            AttemptResult::NotFound | AttemptResult::Unexpected(_) => lock(self.mounts).forget(&first.mount.path),
        }
        let Some(mount) = described_mount(self.api, self.token, self.path).await? else {
            return self.read_with_assumed_mount(first, was_known).await;
        };
        lock(self.mounts).forget(&first.mount.path);
        lock(self.mounts).learn(mount.clone());
        if mount.request_path(self.path) == first.request_path {
            return self.finish(self.classify(mount, first.request_path, first.response));
        }
        let second = self.attempt(mount).await?;
        self.finish(second)
    }

    /// Reads the path unchanged if the server does not report the mount, as the Vault CLI does. This is right for old servers
    /// and for KV version 1. A 403 for the path with `/data/` is final.
    async fn read_with_assumed_mount(&self, first: Attempt, was_known: bool) -> Result<Found, VaultError> {
        let plain = Mount { path: first.mount.path.clone(), engine: Engine::Unknown, confirmed: false };
        if matches!(first.result, AttemptResult::Forbidden(_)) || plain.request_path(self.path) == first.request_path {
            let confirmed = was_known && matches!(first.result, AttemptResult::Forbidden(_));
            return if confirmed { self.finish(first) } else { self.finish_with_assumed_mount(first) };
        }
        let second = self.attempt(plain).await?;
        match second.result {
            AttemptResult::Found(_) => {
                lock(self.mounts).learn(second.mount.clone());
                self.finish(second)
            }
            AttemptResult::Failed(_) => self.finish(second),
            // Report the first attempt, because KV version 2 is the more likely engine.
            AttemptResult::Forbidden(_) | AttemptResult::NotFound | AttemptResult::Unexpected(_) => {
                self.finish_with_assumed_mount(first)
            }
        }
    }

    /// KV version 2, or an unknown engine if the configured path already contains `/data/`, or if the mount has the default path
    /// of another engine.
    fn assumed_mount(&self) -> Mount {
        let assumed = Mount::assume(self.path, self.source.mount.as_deref(), Engine::KvV2, false);
        let written_out = below(self.path, &assumed.path).is_some_and(|rest| rest.starts_with("data/"));
        let is_unchanged = written_out || is_default_path_of_other_engine(&assumed.path);
        if is_unchanged { Mount { engine: Engine::Unknown, ..assumed } } else { assumed }
    }

    async fn attempt(&self, mount: Mount) -> Result<Attempt, VaultError> {
        if matches!(mount.engine, Engine::KvV1 | Engine::Other) {
            self.require_no_versions(&mount.path)?;
        }
        let request_path = mount.request_path(self.path);
        let response = get(self.api, self.token, &request_path, self.source.version).await?;
        Ok(self.classify(mount, request_path, response))
    }

    pub(super) fn classify(&self, mount: Mount, request_path: String, response: Response) -> Attempt {
        let result = match response.status {
            StatusCode::OK => self.parse_found(&response, &mount, &request_path).unwrap_or_else(AttemptResult::Failed),
            _ if response.status.is_client_error() && !is_from_vault(&response) => {
                AttemptResult::Failed(read_error(self.path, &response))
            }
            StatusCode::FORBIDDEN => match read_error_with_rule(self.path, &request_path, &response) {
                error @ VaultError::Forbidden { .. } => AttemptResult::Forbidden(error),
                error => AttemptResult::Failed(error),
            },
            StatusCode::NOT_FOUND => {
                self.deleted_version(&response).map_or(AttemptResult::NotFound, AttemptResult::Failed)
            }
            StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED => {
                AttemptResult::Unexpected(read_error(self.path, &response))
            }
            _ => AttemptResult::Failed(read_error(self.path, &response)),
        };
        Attempt { mount, request_path, response, result }
    }

    /// Parses a response with status 200.
    fn parse_found(&self, response: &Response, mount: &Mount, request_path: &str) -> Result<AttemptResult, VaultError> {
        let envelope = Envelope::parse(request_path, response)?;
        let Some(data) = envelope.data else {
            return Ok(AttemptResult::Unexpected(
                self.not_readable_error("expected data in the response, found none; check the path".into()),
            ));
        };
        let versioned = match mount.engine {
            Engine::KvV2 if mount.confirmed => KvV2::parse(data),
            Engine::KvV2 | Engine::Unknown => KvV2::recognize(data),
            Engine::KvV1 | Engine::Other => None,
        };
        if let Some(found) = versioned {
            let Some(object) = found.data else { return Err(self.deleted_error(&found)) };
            let (number, created) = (Some(found.metadata.version), found.metadata.created_time);
            let version = Version { number, created, ..Version::default() };
            let metadata = SecretValue::from_json(found.raw_metadata.get()).map(|metadata| metadata.bytes().clone());
            let reading = self.reading(object, version, Validity::Unlimited, envelope.warnings())?;
            return Ok(AttemptResult::Found(Reading { metadata, ..reading }));
        }
        if mount.engine == Engine::KvV2 {
            let cause = "expected a response of KV version 2, found another format; check the source's `engine`";
            return Ok(AttemptResult::Unexpected(self.not_readable_error(cause.into())));
        }
        self.require_no_versions(&mount.path)?;
        let known = match mount.engine {
            Engine::KvV1 | Engine::KvV2 => EngineKind::Kv,
            Engine::Other => EngineKind::NotKv,
            Engine::Unknown => EngineKind::Unknown,
        };
        let validity = envelope.validity(request_path, known, response.date);
        self.reading(data, Version::default(), validity, envelope.warnings()).map(AttemptResult::Found)
    }

    fn reading(
        &self,
        object: &RawValue,
        version: Version,
        validity: Validity,
        warnings: Vec<String>,
    ) -> Result<Reading, VaultError> {
        let mut data = json::values(object).ok_or_else(|| {
            self.not_readable_error("expected an object with keys, found other data; check the path".into())
        })?;
        if matches!(validity, Validity::Rotates(_)) {
            // The time until the rotation differs in each response, and a set must change only with the credential.
            data.remove("ttl");
        }
        Ok(Reading { data, version, validity, warnings, ..Reading::default() })
    }

    /// KV version 2 responds with 404 and the metadata if a version is deleted or destroyed.
    fn deleted_version(&self, response: &Response) -> Option<VaultError> {
        let envelope = Envelope::parse(self.path, response).ok()?;
        Some(self.deleted_error(&KvV2::recognize(envelope.data?)?))
    }

    fn deleted_error(&self, found: &KvV2<'_>) -> VaultError {
        let (path, version) = (self.path.to_owned(), found.metadata.version);
        VaultError::SecretDeleted { path, version, state: found.deletion() }
    }

    /// Converts the last attempt into the result.
    fn finish(&self, attempt: Attempt) -> Result<Found, VaultError> {
        let engine = attempt.mount.describe();
        self.finish_with(attempt, engine)
    }

    /// [`Self::finish`] for a mount that is only assumed.
    fn finish_with_assumed_mount(&self, mut attempt: Attempt) -> Result<Found, VaultError> {
        let mount = &attempt.mount.path;
        if let AttemptResult::Forbidden(VaultError::Forbidden { rule, .. }) = &mut attempt.result
            && attempt.request_path != self.path
        {
            *rule = rule_with_assumption(rule, mount);
        }
        let engine = format!("Vault does not report the engine of mount {mount}");
        self.finish_with(attempt, engine)
    }

    fn finish_with(&self, attempt: Attempt, engine: String) -> Result<Found, VaultError> {
        match attempt.result {
            AttemptResult::Found(reading) => Ok(Found { reading, request_path: attempt.request_path }),
            AttemptResult::Failed(error) | AttemptResult::Forbidden(error) | AttemptResult::Unexpected(error) => {
                Err(error)
            }
            AttemptResult::NotFound => {
                let version = self.source.version;
                let missing =
                    version.map_or("no secret".to_owned(), |version| format!("no secret with version {version}"));
                let path = self.path.to_owned();
                Err(VaultError::SecretNotFound { path, missing, request_path: attempt.request_path, engine })
            }
        }
    }

    /// Fails if the source uses versions, for a mount without them.
    fn require_no_versions(&self, mount: &str) -> Result<(), VaultError> {
        let setting = match (self.source.version, &self.source.previous) {
            (Some(_), _) => "version",
            (None, Some(_)) => "previous",
            (None, None) => return Ok(()),
        };
        Err(self.not_readable_error(format!(
            "`{setting}` requires KV version 2, but mount {mount} has another engine; remove `{setting}` from the source"
        )))
    }

    fn not_readable_error(&self, cause: String) -> VaultError {
        VaultError::NotReadable { path: self.path.to_owned(), cause }
    }
}
