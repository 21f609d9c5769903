//! Identifies the configuration that wrote a Secret, so that two configurations for one Secret do not overwrite each
//! other alternately.

use ring::digest::{Context, SHA256};

use super::super::MirrorContent;
use crate::model::Mirror;

/// Bytes per part of the fingerprint. A collision only suppresses the conflict between two configurations.
const LENGTH: usize = 8;

/// Value of the annotation: `<configuration>` if the keys are configured, `<configuration>.<keys>` if every published
/// file is a key. In the second case the keys depend on the secret, so different keys alone do not mean another
/// configuration.
///
/// The hash covers the type and the names of keys, files, sources, and requests, none of which is secret.
pub(super) fn fingerprint(mirror: &Mirror, content: &MirrorContent) -> String {
    let count = mirror.keys.len().to_string();
    let keys = mirror.keys.iter().flat_map(|key| [key.key.as_str(), key.file.as_str()]);
    let sources = content.versions.iter().flat_map(|(name, version)| [name.as_str(), version.request.as_str()]);
    let head = [mirror.secret_type.as_str(), count.as_str()];
    let configuration = hash(head.into_iter().chain(keys).chain(sources));
    if mirror.keys.is_empty() {
        format!("{configuration}.{}", hash(content.data.keys().map(String::as_str)))
    } else {
        configuration
    }
}

/// Whether another configuration wrote the Secret. `same_content` means that the Secret was made from equal source
/// versions, so that different keys can only result from different outputs.
pub(super) fn differs(desired: &str, stored: &str, same_content: bool) -> bool {
    let configuration = |text: &str| text.split('.').next().map(str::to_owned);
    configuration(desired) != configuration(stored) || same_content && desired != stored
}

/// The first [`LENGTH`] bytes of SHA-256 over all parts, each after its length, in hexadecimal.
fn hash<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref().iter().take(LENGTH).map(|byte| format!("{byte:02x}")).collect()
}
