//! The names below a path, for templates: one `LIST`.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::api::{Api, list::list, rule};
use super::error::VaultError;
use super::json;
use super::mounts::{Engine, MountTable};
use super::read::described_mount;
use crate::model::{Reading, SecretValue, Source, VaultToken, lock};

/// The key of the names in the reading.
const KEYS: &str = "keys";

/// Lists the path of `source` once. The names of folders end with a slash. A path without secrets has no names.
pub(super) async fn read_names(
    api: &Api,
    mounts: &Mutex<MountTable>,
    token: &VaultToken,
    source: &Source,
) -> Result<Reading, VaultError> {
    let path = source.path.trim_matches('/');
    let known = lock(mounts).find(path).filter(|mount| mount.engine != Engine::Unknown);
    let mount = match known {
        Some(mount) => Some(mount),
        None => described_mount(api, token, path).await?.inspect(|mount| lock(mounts).learn(mount.clone())),
    };
    let request_path = mount.and_then(|mount| mount.folder_paths(path)).map_or(path.to_owned(), |paths| paths.list);
    let request_path = format!("{request_path}/");
    let names = list(api, token, &request_path, path, || rule(&request_path, "list")).await?;
    let mut names = names.unwrap_or_default();
    names.sort();
    let keys = SecretValue::Json(json::body(&names));
    Ok(Reading { data: BTreeMap::from([(KEYS.to_owned(), keys)]), ..Reading::default() })
}
