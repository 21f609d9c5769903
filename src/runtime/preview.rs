//! `keyferry render`: reads all sources once and lists the files, without writing them.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};

use super::adapters::{Adapters as _, Server};
use super::blocking::blocking;
use super::clock::wall;
use super::production::ProductionAdapters;
use crate::config::SampleData;
use crate::model::{
    AuthMethod, Failure, FailureClass, KvEngine, OutputKind, Reading, Reason, RequestMethod, SecretBytes, SecretCall,
    SecretValue, Session, Settings, Source, SourceName, VaultToken,
};
use crate::render::{ListedFile, listing, needed_calls};
use crate::vault::is_probably_kv;

type Readings = BTreeMap<SourceName, Arc<Reading>>;

/// Lists the files of the configuration. Logs in, reads each source once, and revokes the token with its leases.
///
/// # Errors
/// The first failure of the login or of a required source, or a failure to render.
pub fn preview(settings: Settings, is_masked: bool) -> Result<Vec<ListedFile>, Failure> {
    refuse_one_time(&settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(FailureClass::Local, Reason::Internal, format!("failed to start: {error}")))?;
    runtime.block_on(Box::pin(async move {
        let adapters = ProductionAdapters::new(None);
        let server = adapters.server(&settings)?;
        let (reader, auth) = (Arc::clone(&server), settings.auth.clone());
        let credential = blocking("read the credential", move || reader.read_credential(&auth)).await?;
        let session = server.log_in(&settings.auth, credential).await?;
        let read = async |source: &Source| server.read(&session.token, source).await;
        let listed = read_and_list(settings.clone(), is_masked, read).await;
        if revokes(&settings, &session) {
            revoke(&*server, &session.token).await;
        }
        listed
    }))
}

/// Whether to revoke the token, with its leases. A token that was supplied is still in use elsewhere.
fn revokes(settings: &Settings, session: &Session) -> bool {
    settings.revoke_on_exit && session.self_issued
}

async fn revoke(server: &impl Server, token: &VaultToken) {
    if let Err(failure) = server.revoke(token).await {
        tracing::warn!("{failure}");
    }
}

/// Lists the files that the sample data gives.
///
/// # Errors
/// A source without data, or a failure to render.
pub fn preview_sample(settings: Settings, data: &SampleData) -> Result<Vec<ListedFile>, Failure> {
    let names: BTreeMap<String, SourceName> =
        settings.sources.iter().map(|(name, source)| (source.request_id(), name.clone())).collect();
    let read = async |source: &Source| {
        let name = names.get(&source.request_id()).map_or("", |name| name.as_str());
        sample_of(name, source, data)
    };
    // The futures are ready at once.
    futures_util::FutureExt::now_or_never(read_and_list(settings, false, read)).unwrap_or_else(|| {
        Err(failed(FailureClass::Local, Reason::Internal, "failed to list the files: internal error".to_owned()))
    })
}

/// The sample of one source.
fn sample_of(name: &str, source: &Source, data: &SampleData) -> Result<Reading, Failure> {
    if source.method == RequestMethod::List {
        let prefix = format!("{}/", source.path);
        let plain = prefix.replacen("/metadata/", "/", 1);
        let below = |path: &String| {
            let path = path.replacen("/data/", "/", 1);
            path.strip_prefix(&plain).map(|rest| match rest.split_once('/') {
                Some((folder, _)) => format!("{folder}/"),
                None => rest.to_owned(),
            })
        };
        let names: std::collections::BTreeSet<String> = data.keys().filter_map(below).collect();
        let keys = serde_json::to_string(&names).unwrap_or_default();
        let data = BTreeMap::from([("keys".to_owned(), SecretValue::Json(SecretBytes::from(keys)))]);
        return Ok(Reading { data, ..Reading::default() });
    }
    let plain = source.path.replacen("/data/", "/", 1);
    let found = [name, &source.path, &plain].into_iter().find_map(|key| data.get(key));
    let found =
        found.or_else(|| data.iter().find(|(key, _)| key.replacen("/data/", "/", 1) == plain).map(|(_, of)| of));
    let Some(found) = found else {
        let message = format!("the sample data has no secret for source {name}; add it under {:?}", source.path);
        return Err(failed(FailureClass::Missing, Reason::SecretNotFound, message));
    };
    // As the agent assumes it before it knows the engine.
    let is_kv2 = source.is_plain_read()
        && match source.engine {
            KvEngine::Detect => is_probably_kv(&source.path),
            KvEngine::V2 => true,
            KvEngine::V1 | KvEngine::Other => false,
        };
    let metadata = is_kv2.then(|| SecretBytes::from(r#"{"created_time":"2026-01-01T00:00:00Z","version":1}"#));
    Ok(Reading { data: found.clone(), metadata, ..Reading::default() })
}

/// Reads all sources with `read`, also those that templates call for, and lists the files.
async fn read_and_list(
    mut settings: Settings,
    is_masked: bool,
    read: impl AsyncFn(&Source) -> Result<Reading, Failure>,
) -> Result<Vec<ListedFile>, Failure> {
    let mut readings = Readings::new();
    // The first round reads the sources of the configuration.
    for _ in 0..=SecretCall::MAX_ROUNDS {
        let unread: Vec<_> = settings.sources.iter().filter(|(name, _)| !readings.contains_key(*name)).collect();
        let read = &read;
        let reads = unread.into_iter().map(|(name, source)| async move { (name.clone(), source, read(source).await) });
        let results: Vec<_> = stream::iter(reads).buffered(settings.concurrency).collect().await;
        for (name, source, result) in results {
            match result {
                Ok(reading) => _ = readings.insert(name, Arc::new(Reading { received: wall(), ..reading })),
                Err(failure) if !source.required && failure.class == FailureClass::Missing => {
                    tracing::warn!("optional source {name} is left out: {failure}");
                }
                Err(failure) => return Err(with_rule(failure)),
            }
        }
        let needed = needed_calls(&settings.outputs, &readings)?;
        if needed.is_empty() {
            return listing(&settings.outputs, &readings, is_masked);
        }
        for (index, call) in needed {
            let Settings { outputs, sources, call_defaults, .. } = &mut settings;
            let (name, _) = call.find_or_add(sources, call_defaults);
            if let Some(OutputKind::Template { template, .. }) = outputs.get_mut(index).map(|output| &mut output.kind) {
                template.computed.insert(call, name);
            }
        }
    }
    let most = SecretCall::MAX_ROUNDS;
    let message = format!(
        "a template reads paths from other secrets in more than {most} rounds; use fewer nested `secret` calls"
    );
    Err(failed(FailureClass::Invalid, Reason::RenderFailed, message))
}

/// Adds the policy rule that would allow a denied read.
fn with_rule(failure: Failure) -> Failure {
    let Some(rule) = &failure.missing_rule else { return failure };
    let message = format!("{}: the path is wrong, or this policy rule is missing: {rule}", failure.message);
    Failure { message, ..failure }
}

/// Fails if the configuration uses credentials that work only once: the agent would not have them any more.
fn refuse_one_time(settings: &Settings) -> Result<(), Failure> {
    let is_wrapped = matches!(&settings.auth.method, AuthMethod::AppRole { wrapped_creation_path: Some(_), .. })
        || matches!(&settings.auth.method, AuthMethod::AppRole { remove_secret_id: true, .. });
    let source = settings.sources.iter().find(|(_, source)| source.wrapping_token_file.is_some());
    let what = match source {
        Some((name, _)) => format!("the wrapping token of source {name}"),
        None if is_wrapped => "the secret ID".to_owned(),
        None => return Ok(()),
    };
    let message = format!("`render` does not use {what}, which works only once; use `--data` with sample data instead");
    Err(failed(FailureClass::Invalid, Reason::ConfigRejected, message))
}

fn failed(class: FailureClass, reason: Reason, message: String) -> Failure {
    Failure::new(class, reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TokenInfo;

    #[test]
    fn supplied_token_is_not_revoked() {
        let text =
            "{vault: {address: 'https://v'}, auth: {role: r}, sources: {a: {path: secret/a}}, outputs: [{source: a}]}";
        let none = std::collections::HashMap::<String, String>::new();
        let mut settings = crate::config::load(&none, Some(text)).unwrap_or_else(|error| panic!("{error}"));
        let session = |self_issued| Session {
            token: VaultToken::new("hvs.planted"),
            info: TokenInfo { ttl: None, renewable: false },
            self_issued,
            lookup_denied: false,
        };
        assert!(revokes(&settings, &session(true)));
        assert!(!revokes(&settings, &session(false)));
        settings.revoke_on_exit = false;
        assert!(!revokes(&settings, &session(true)));
    }
}
