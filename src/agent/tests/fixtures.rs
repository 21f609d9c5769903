//! Settings, outcomes, and failures for scenarios.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::Mode;
use crate::agent::publication::layout_id;
use crate::model::{
    AdoptedSet, Auth, AuthMethod, Directory, Failure, FailureClass, FileEntry, FilePath, FileSet, KeySelection,
    KvEngine, Lease, LeaseId, Manifest, ManifestSource, Mirror, MirrorKey, ObjectName, OnDrift, Output, OutputKind,
    Parameters, Reading, Reason, RefreshNow, RequestMethod, Retry, SecretType, SecretValue, Session, Settings, Source,
    SourceName, StatusReport, Tls, TokenInfo, Validity, VaultServer, VaultToken, Version, WhenMissing,
};

/// A sidecar without a checkpoint.
pub(super) const RUN: Mode = Mode::Run { checkpoint: false, app_container: false };

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn name(text: &str) -> SourceName {
    SourceName::new(text).expect(text)
}

pub(super) fn object(text: &str) -> ObjectName {
    ObjectName::new(text).expect(text)
}

pub(super) fn path(text: &str) -> FilePath {
    FilePath::new(text).expect(text)
}

/// A source with the default settings.
pub(super) fn source(at: &str) -> Source {
    Source {
        path: at.into(),
        list: None,
        wrapping_token_file: None,
        mount: None,
        engine: KvEngine::Detect,
        version: None,
        previous: None,
        method: RequestMethod::default(),
        parameters: Parameters::new(),
        certificate: None,
        refresh: MINUTE,
        max_stale: MINUTE * 5,
        overlap: None,
        watch_lease: None,
        required: true,
    }
}

/// An output with all keys of `of` as files in a directory of that name.
pub(super) fn each_key(of: &str) -> Output {
    let kind = OutputKind::EachKey { prefix: Some(path(of)), base64: false, keys: KeySelection::default() };
    Output { source: name(of), kind, mode: None }
}

/// An output with one key of `of` as a file.
pub(super) fn key(of: &str, key: &str, file: &str) -> Output {
    let (field, missing) = (None, WhenMissing::Fail);
    let kind = OutputKind::Key { key: key.into(), path: path(file), base64: false, field, missing };
    Output { source: name(of), kind, mode: None }
}

/// As [`key`], but without a file if the key is missing.
pub(super) fn optional_key(of: &str, of_secret: &str, file: &str) -> Output {
    let mut output = key(of, of_secret, file);
    if let OutputKind::Key { missing, .. } = &mut output.kind {
        *missing = WhenMissing::Omit;
    }
    output
}

/// A mirror of some files, given as (key, file).
pub(super) fn mirror(keys: &[(&str, &str)]) -> Mirror {
    Mirror {
        secret_type: SecretType::Opaque,
        keys: keys
            .iter()
            .map(|(key, file)| MirrorKey { key: (*key).into(), file: path(file), optional: None })
            .collect(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        owner: None,
        allow_leased: false,
        on_drift: OnDrift::Repair,
        adopt: false,
    }
}

/// Settings with these required sources, each with its keys as files in a directory.
pub(super) fn settings(sources: &[&str]) -> Settings {
    Settings {
        call_defaults: source(""),
        server: VaultServer {
            address: "https://vault:8200".into(),
            redirect_to: vec![],
            namespace: None,
            tls: Tls::default(),
            timeout: secs(10),
        },
        auth: Auth {
            mount: "kubernetes".into(),
            namespace: None,
            method: AuthMethod::Kubernetes { role: "app".into(), jwt_file: "/var/run/token".into(), audience: None },
        },
        events: false,
        sources: sources.iter().map(|of| (name(of), source(&format!("secret/{of}")))).collect(),
        outputs: sources.iter().map(|of| each_key(of)).collect(),
        directory: Directory { path: PathBuf::from("/secrets"), allow_disk: false, file_mode: None, max_bytes: None },
        mirrors: BTreeMap::new(),
        notify: BTreeMap::new(),
        seed: None,
        status: StatusReport {
            conditions: true,
            events: true,
            pod_name: Some("webapp".into()),
            pod_uid: Some("1".into()),
            pod_namespace: Some("shop".into()),
            kubeconfig: None,
        },
        listener: None,
        refresh_now: RefreshNow::default(),
        retry: Retry { base: Duration::from_millis(500), max: MINUTE, slow: MINUTE },
        concurrency: 8,
        revoke_on_exit: true,
        drain: secs(8),
    }
}

pub(super) fn failure(class: FailureClass, reason: Reason) -> Failure {
    Failure::new(class, reason, format!("failed with {reason}"))
}

pub(super) fn unreachable() -> Failure {
    failure(FailureClass::Unreachable, Reason::VaultUnreachable)
}

/// A 403 for a read, which does not state whether the token is valid.
pub(super) fn forbidden() -> Failure {
    Failure {
        missing_rule: Some("path \"secret/data/b\" { capabilities = [\"read\"] }".into()),
        ..Failure::new(FailureClass::Forbidden, Reason::Denied, "failed to read: permission denied (403)")
    }
}

/// A response that states that the token is unknown.
pub(super) fn unknown_token() -> Failure {
    Failure::new(FailureClass::TokenInvalid, Reason::TokenExpired, "failed to read: invalid token")
}

pub(super) fn not_found() -> Failure {
    failure(FailureClass::Missing, Reason::SecretNotFound)
}

pub(super) fn info(ttl: Option<Duration>, renewable: bool) -> TokenInfo {
    TokenInfo { ttl, renewable }
}

/// A session with a token that a login issued.
pub(super) fn session(token: &str, ttl: Duration) -> Session {
    Session { token: VaultToken::new(token), info: info(Some(ttl), true), self_issued: true, lookup_denied: false }
}

fn data(of: &[(&str, &str)]) -> BTreeMap<String, SecretValue> {
    of.iter().map(|(key, value)| ((*key).to_owned(), SecretValue::Text((*value).into()))).collect()
}

/// Version `number` of a KV secret, written `number` hours after the epoch.
pub(super) fn reading(number: u64, of: &[(&str, &str)]) -> Reading {
    let hours = i64::try_from(number).unwrap_or_default();
    let created = jiff::Timestamp::from_second(hours * 3600).ok();
    let version = Version { number: Some(number), created, ..Version::default() };
    Reading { data: data(of), version, validity: Validity::Unlimited, warnings: vec![], ..Reading::default() }
}

/// A reading of an engine without versions.
pub(super) fn issued(validity: Validity, of: &[(&str, &str)]) -> Reading {
    Reading { data: data(of), version: Version::default(), validity, warnings: vec![], ..Reading::default() }
}

pub(super) fn lease(id: &str, duration: Duration) -> Lease {
    Lease { id: LeaseId::Id(id.into()), duration, renewable: true }
}

/// A credential with a lease.
pub(super) fn leased(id: &str, duration: Duration) -> Reading {
    issued(Validity::Lease(lease(id, duration)), &[("password", id)])
}

/// The set of an earlier process with these settings: version 1 with a file `password` for each source.
pub(super) fn set_of_earlier_process(settings: &Settings) -> AdoptedSet {
    let mut set =
        AdoptedSet { published: jiff::Timestamp::from_second(1000).expect("a time"), ..AdoptedSet::default() };
    let mut files = FileSet::default();
    for (of, source) in &settings.sources {
        let sources = BTreeSet::from([of.clone()]);
        let at = path(&format!("{of}/password"));
        set.manifest.files.insert(at.clone(), sources.clone());
        files.files.insert(at, FileEntry { bytes: Arc::new("old".into()), mode: None, sources });
        let version = reading(1, &[]).version;
        let saved = ManifestSource { request: source.request_id(), version, ..ManifestSource::default() };
        set.manifest.sources.insert(of.clone(), saved);
    }
    set.manifest =
        Manifest { server: settings.server.id(), layout: Some(layout_id(&settings.outputs)), ..set.manifest };
    set.files = files;
    set
}
