//! Which configuration wrote a Secret: two that want different keys in one Secret must not overwrite each other in turns.

use ring::digest::{Context, SHA256};

use super::super::MirrorContent;
use crate::model::Mirror;

/// Bytes of each part of the fingerprint. Nothing depends on it but a message, and nobody gains by a collision.
const LENGTH: usize = 8;

/// What the annotation says: `<configuration>` with explicit keys, `<configuration>.<keys>` where every published file is a
/// key. There, the secret decides on the keys, so another set of keys alone is no other configuration.
///
/// A plain hash of type, names of keys and files, names of sources and requests: none of it is secret.
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

/// Whether the Secret is of another configuration than ours. `same_content`: the readings in the Secret are known to hold
/// what ours hold, so that other keys can only come from other outputs.
pub(super) fn differs(desired: &str, stored: &str, same_content: bool) -> bool {
    let configuration = |text: &str| text.split('.').next().map(str::to_owned);
    configuration(desired) != configuration(stored) || same_content && desired != stored
}

/// The first bytes of SHA-256 as hexadecimal text. Each part goes in after its length.
fn hash<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref().iter().take(LENGTH).map(|byte| format!("{byte:02x}")).collect()
}
