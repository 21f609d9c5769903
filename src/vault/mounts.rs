//! Known mounts, and the mapping from configured paths to request paths. Pure.

use std::collections::BTreeMap;

use super::api::mount::MountInfo;

/// Secrets engine of a mount, as far as it matters for reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    /// KV version 1: the path is unchanged, and a lease duration is only the mount's default refresh interval.
    KvV1,
    /// KV version 2: `/data/` follows the mount path.
    KvV2,
    /// Any other engine: the path is unchanged, and lease durations apply.
    Other,
    /// Unknown engine: the path is unchanged, and the response shows whether it is KV version 2.
    Unknown,
}

/// Types of the engines other than KV. `vault secrets enable TYPE` uses the type as the path of the mount
/// (<https://developer.hashicorp.com/vault/docs/secrets>, <https://openbao.org/docs/secrets/>).
const OTHER_ENGINES: [&str; 22] = [
    "ad",
    "alicloud",
    "aws",
    "azure",
    "consul",
    "cubbyhole",
    "database",
    "gcp",
    "gcpkms",
    "identity",
    "keymgmt",
    "kmip",
    "kubernetes",
    "ldap",
    "mongodbatlas",
    "nomad",
    "pki",
    "rabbitmq",
    "ssh",
    "terraform",
    "totp",
    "transit",
];

/// Whether a mount at `path` is probably not a KV engine.
pub(super) fn is_default_path_of_other_engine(path: &str) -> bool {
    OTHER_ENGINES.contains(&path)
}

/// A mount. `path` is a prefix of the configured path, or that path, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) path: String,
    pub(super) engine: Engine,
    /// Whether the configuration or the server states the engine; otherwise it is concluded from a response.
    pub(super) confirmed: bool,
}

/// Known mounts: engine, and [`Mount::confirmed`], by path.
#[derive(Default)]
pub(super) struct MountTable(BTreeMap<String, (Engine, bool)>);

impl MountTable {
    /// The mount of `path`. At most one matches, because Vault does not allow nested mounts
    /// (<https://developer.hashicorp.com/vault/api-docs/system/mounts#enable-secrets-engine>).
    pub(super) fn find(&self, path: &str) -> Option<Mount> {
        let (mount, (engine, confirmed)) = self.0.iter().find(|(mount, _)| within(path, mount).is_some())?;
        Some(Mount { path: mount.clone(), engine: *engine, confirmed: *confirmed })
    }

    pub(super) fn learn(&mut self, mount: Mount) {
        self.0.insert(mount.path, (mount.engine, mount.confirmed));
    }

    pub(super) fn forget(&mut self, mount: &str) {
        self.0.remove(mount);
    }
}

/// The rest of `path` in `mount`; empty for the path of the mount.
fn within<'a>(path: &'a str, mount: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(mount)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// The rest of `path` below `mount`.
pub(super) fn below<'a>(path: &'a str, mount: &str) -> Option<&'a str> {
    within(path, mount).filter(|rest| !rest.is_empty())
}

/// Request paths for the secrets below a configured path, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FolderPaths {
    /// For `LIST`.
    pub(super) list: String,
    /// For reads.
    pub(super) read: String,
}

impl Mount {
    /// A mount that the server did not report: the configured one, or the first segment of `path`.
    pub(super) fn assume(path: &str, named: Option<&str>, engine: Engine, confirmed: bool) -> Self {
        let first = path.split('/').next().unwrap_or(path);
        Self { path: named.map_or(first, |mount| mount.trim_matches('/')).to_owned(), engine, confirmed }
    }

    /// The mount of `path` as the server reports it. `None` if the reported mount does not contain `path`.
    ///
    /// The reported path is relative to the namespace, which can be part of the configured path instead of a header.
    pub(super) fn described(path: &str, info: &MountInfo) -> Option<Self> {
        let mount = info.path.trim_matches('/');
        let end = if within(path, mount).is_some() {
            mount.len()
        } else {
            format!("{path}/").find(&format!("/{mount}/"))? + 1 + mount.len()
        };
        let engine = match (info.kind.as_str(), info.version()) {
            ("kv", Some("2")) => Engine::KvV2,
            // "generic" is the name of KV version 1 before Vault 0.8.
            ("kv" | "generic", _) => Engine::KvV1,
            _ => Engine::Other,
        };
        Some(Self { path: path.get(..end)?.to_owned(), engine, confirmed: true })
    }

    /// The mount and its engine, for a message.
    pub(super) fn describe(&self) -> String {
        match self.engine {
            Engine::KvV2 => format!("mount {} is KV version 2", self.path),
            Engine::KvV1 => format!("mount {} is KV version 1", self.path),
            Engine::Other | Engine::Unknown => format!("mount {}", self.path),
        }
    }

    /// The request path for the configured `path`.
    pub(super) fn request_path(&self, path: &str) -> String {
        match below(path, &self.path) {
            Some(rest) if self.engine == Engine::KvV2 && !rest.starts_with("data/") => {
                format!("{}/data/{rest}", self.path)
            }
            _ => path.to_owned(),
        }
    }

    /// The request paths for the secrets below the configured `path`; `None` if the engine has no such secrets.
    pub(super) fn folder_paths(&self, path: &str) -> Option<FolderPaths> {
        match self.engine {
            Engine::KvV1 => Some(FolderPaths { list: path.to_owned(), read: path.to_owned() }),
            Engine::KvV2 => {
                let rest = within(path, &self.path)?;
                // The path as the API has it.
                let rest = within(rest, "data").or_else(|| within(rest, "metadata")).unwrap_or(rest);
                let slash = if rest.is_empty() { "" } else { "/" };
                let below = |kind: &str| format!("{}/{kind}{slash}{rest}", self.path);
                Some(FolderPaths { list: below("metadata"), read: below("data") })
            }
            Engine::Other | Engine::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(path: &str, mount: &str, kind: &str, version: Option<&str>) -> Option<Mount> {
        let options = version.map(|version| serde_json::json!({"version": version}));
        let info = serde_json::json!({"path": mount, "type": kind, "options": options});
        Mount::described(path, &serde_json::from_value(info).expect("a mount"))
    }

    #[test]
    fn request_path_inserts_data_for_kv2_only() {
        let path =
            |mount: &str, engine, path: &str| Mount { path: mount.into(), engine, confirmed: false }.request_path(path);
        assert_eq!(path("secret", Engine::KvV2, "secret/webapp/config"), "secret/data/webapp/config");
        assert_eq!(path("team/kv", Engine::KvV2, "team/kv/webapp"), "team/kv/data/webapp");
        assert_eq!(path("secret", Engine::KvV2, "secret/data/webapp"), "secret/data/webapp");
        assert_eq!(path("secret", Engine::KvV2, "secret/database"), "secret/data/database");
        assert_eq!(path("kv", Engine::KvV1, "kv/webapp"), "kv/webapp");
        assert_eq!(path("database", Engine::Other, "database/creds/app"), "database/creds/app");
    }

    #[test]
    fn described_maps_reported_mount_to_engine() {
        let v2 = described("team/kv/webapp", "team/kv/", "kv", Some("2")).expect("below");
        assert_eq!((v2.path.as_str(), v2.engine), ("team/kv", Engine::KvV2));
        assert_eq!(described("kv/webapp", "kv/", "kv", None).expect("below").engine, Engine::KvV1);
        assert_eq!(described("kv/webapp", "kv/", "generic", None).expect("below").engine, Engine::KvV1);
        assert_eq!(described("database/creds/a", "database/", "database", None).expect("below").engine, Engine::Other);
        let namespaced = described("playground/secret/webapp", "secret/", "kv", Some("2")).expect("below");
        assert_eq!(namespaced.request_path("playground/secret/webapp"), "playground/secret/data/webapp");
        assert_eq!(described("other/webapp", "secret/", "kv", Some("2")), None);
    }

    #[test]
    fn folder_paths_exist_for_kv_only() {
        let paths = |mount: &str, engine, path: &str| {
            let mount = Mount { path: mount.into(), engine, confirmed: true };
            mount.folder_paths(path).map(|paths| (paths.list, paths.read))
        };
        let pair = |list: &str, read: &str| Some((list.to_owned(), read.to_owned()));
        for (path, list, read) in [
            ("secret", "secret/metadata", "secret/data"),
            ("secret/team", "secret/metadata/team", "secret/data/team"),
            ("secret/data/team", "secret/metadata/team", "secret/data/team"),
            ("secret/metadata/team", "secret/metadata/team", "secret/data/team"),
            ("secret/database", "secret/metadata/database", "secret/data/database"),
        ] {
            assert_eq!(paths("secret", Engine::KvV2, path), pair(list, read), "{path}");
        }
        let nested = paths("team/kv", Engine::KvV2, "team/kv/web");
        assert_eq!(nested, pair("team/kv/metadata/web", "team/kv/data/web"));
        assert_eq!(paths("kv", Engine::KvV1, "kv"), pair("kv", "kv"));
        assert_eq!(paths("kv", Engine::KvV1, "kv/team"), pair("kv/team", "kv/team"));
        assert_eq!(paths("database", Engine::Other, "database/creds"), None);
    }

    #[test]
    fn path_of_a_mount_is_in_the_mount() {
        let root = described("secret", "secret/", "kv", Some("2")).expect("the mount");
        assert_eq!((root.path.as_str(), root.engine), ("secret", Engine::KvV2));
        let namespaced = described("playground/secret", "secret/", "kv", Some("2")).expect("the mount");
        assert_eq!(namespaced.path, "playground/secret");
        assert_eq!(described("secrets", "secret/", "kv", Some("2")), None);
        let mut table = MountTable::default();
        table.learn(root.clone());
        assert_eq!(table.find("secret"), Some(root));
    }

    #[test]
    fn find_matches_whole_segments() {
        let mut table = MountTable::default();
        table.learn(Mount { path: "secret".into(), engine: Engine::KvV2, confirmed: false });
        assert!(table.find("secrets/a").is_none());
        assert!(table.find("secret/a").is_some());
        table.forget("secret");
        assert!(table.find("secret/a").is_none());
    }
}
