//! The manifest file of a set: the sources of its files, in JSON. It contains no value and nothing that helps to guess
//! one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rustix::fd::OwnedFd;
use rustix::fs::FileType;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::directory::{Access, is_owned};
use super::file::{self, Attributes};
use super::names::MANIFEST_FILE;
use crate::model::{
    FilePath, FileSet, Manifest, ManifestSource, Mode, NotificationName, NotificationRecord, RestartRecord, SourceName,
    Version,
};

/// The only format version that this agent writes and reads. Increment it with every change of the format, except for a new
/// optional key: earlier manifests stay readable, and an earlier agent rejects the unknown key.
const FORMAT_VERSION: u32 = 2;

/// Maximum size in bytes that is read, enough for the names of many thousand files.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Format of the file. An unknown key makes the manifest unreadable, because another version wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    version: u32,
    published: Timestamp,
    server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layout: Option<String>,
    sources: BTreeMap<String, WireSource>,
    files: BTreeMap<String, BTreeSet<String>>,
    /// Octal modes of the files with a configured mode.
    modes: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    notifications: Option<WireNotifications>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireNotifications {
    generation: u64,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pending: BTreeSet<String>,
    /// Time of the last restart of all containers, and how many restarts in a row came early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restart: Option<(Timestamp, u32)>,
}

impl From<&NotificationRecord> for WireNotifications {
    fn from(record: &NotificationRecord) -> Self {
        Self {
            generation: record.generation,
            pending: record.pending.iter().map(|name| name.as_str().to_owned()).collect(),
            restart: record.restart.map(|restart| (restart.at, restart.early)),
        }
    }
}

impl From<WireNotifications> for NotificationRecord {
    fn from(wire: WireNotifications) -> Self {
        Self {
            generation: wire.generation,
            pending: wire.pending.iter().filter_map(|name| NotificationName::new(name).ok()).collect(),
            restart: wire.restart.map(|(at, early)| RestartRecord { at, early }),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSource {
    request: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<u64>,
    /// Number and creation time of each secret of a list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    secrets: BTreeMap<String, (Option<u64>, Option<Timestamp>)>,
    leased: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    seeded: bool,
}

impl From<ManifestSource> for WireSource {
    fn from(ManifestSource { request, version, leased, seeded }: ManifestSource) -> Self {
        let Version { number, created, previous, secrets } = version;
        let secrets = secrets.into_iter().map(|(path, one)| (path, (one.number, one.created))).collect();
        Self { request, number, created, previous, secrets, leased, seeded }
    }
}

impl From<WireSource> for ManifestSource {
    fn from(WireSource { request, number, created, previous, secrets, leased, seeded }: WireSource) -> Self {
        let one = |(number, created)| Version { number, created, ..Version::default() };
        let secrets = secrets.into_iter().map(|(path, version)| (path, one(version))).collect();
        Self { request, version: Version { number, created, previous, secrets }, leased, seeded }
    }
}

/// The manifest of one set, with the data that only the publisher has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetManifest {
    pub(super) manifest: Manifest,
    pub(super) published: Timestamp,
    /// Modes of the files with a configured mode. Other files have the default of the directory.
    pub(super) modes: BTreeMap<FilePath, Mode>,
}

/// Why the manifest of a set cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Missing, owned by another UID, damaged, or of another version.
    Damaged(&'static str),
    /// An I/O error, which says nothing about the manifest.
    Io(Errno),
}

impl SetManifest {
    pub(super) fn new(manifest: &Manifest, set: &FileSet, published: Timestamp) -> Self {
        let modes = set.files.iter().filter_map(|(path, file)| Some((path.clone(), file.mode?))).collect();
        Self { manifest: manifest.clone(), published, modes }
    }

    /// Encodes the file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let sources =
            self.manifest.sources.iter().map(|(name, source)| (name.as_str().to_owned(), source.clone().into()));
        let names = |names: &BTreeSet<SourceName>| names.iter().map(|name| name.as_str().to_owned()).collect();
        let wire = Wire {
            version: FORMAT_VERSION,
            published: self.published,
            server: self.manifest.server.clone(),
            layout: self.manifest.layout.clone(),
            sources: sources.collect(),
            files: self.manifest.files.iter().map(|(path, from)| (path.as_str().to_owned(), names(from))).collect(),
            notifications: (self.manifest.notifications != NotificationRecord::default())
                .then(|| (&self.manifest.notifications).into()),
            modes: self.modes.iter().map(|(path, mode)| (path.as_str().to_owned(), format!("{mode:?}"))).collect(),
        };
        // Cannot fail: the keys are strings.
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let wire: Wire = serde_json::from_slice(bytes).ok().filter(|wire: &Wire| wire.version == FORMAT_VERSION)?;
        let sources: BTreeMap<SourceName, ManifestSource> = wire
            .sources
            .into_iter()
            .map(|(name, source)| Some((SourceName::new(&name).ok()?, source.into())))
            .collect::<Option<_>>()?;
        let known = |name: &String| SourceName::new(name).ok().filter(|name| sources.contains_key(name));
        let files = wire
            .files
            .iter()
            .map(|(path, from)| {
                let from: BTreeSet<SourceName> = from.iter().map(known).collect::<Option<_>>()?;
                if from.is_empty() { None } else { Some((FilePath::new(path).ok()?, from)) }
            })
            .collect::<Option<_>>()?;
        let mode = |text: &str| Mode::new(u32::from_str_radix(text, 8).ok()?).ok();
        let modes = wire.modes.iter().map(|(path, text)| Some((FilePath::new(path).ok()?, mode(text)?)));
        let modes = modes.collect::<Option<_>>()?;
        let notifications = wire.notifications.map(Into::into).unwrap_or_default();
        let manifest = Manifest { server: wire.server, layout: wire.layout, sources, files, notifications };
        Some(Self { manifest, published: wire.published, modes })
    }

    /// Reads the manifest of the set in `set`.
    pub(super) fn read(set: &OwnedFd) -> Result<Self, Unreadable> {
        let (file, stat) = match file::open_regular(set, MANIFEST_FILE) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return Err(Unreadable::Damaged("it has no manifest")),
            Err(Errno::INVAL | Errno::LOOP | Errno::ACCESS) => {
                return Err(Unreadable::Damaged(
                    "its manifest is not a regular file, or the agent has no permission to read it",
                ));
            }
            Err(errno) => return Err(Unreadable::Io(errno)),
        };
        if !is_owned(&stat, FileType::RegularFile) || file::size(&stat) > MAX_BYTES {
            return Err(Unreadable::Damaged("its manifest is owned by another UID or larger than 16 MiB"));
        }
        let bytes = file::read_exact_size(file, file::size(&stat)).map_err(Unreadable::Io)?;
        Self::from_bytes(bytes.expose())
            .ok_or(Unreadable::Damaged("its manifest is damaged or was written by another version of keyferry"))
    }
}

/// Attributes of the manifest, which are those of a file without a configured mode.
pub(super) fn attributes(access: Access) -> Attributes {
    Attributes { mode: access.file_mode, group: access.group, sync: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> SetManifest {
        let name = |text: &str| SourceName::new(text).expect(text);
        let created = "2026-11-24T16:05:37.25Z".parse().ok();
        let version = Version { number: Some(7), created, previous: Some(6), ..Version::default() };
        let one = Version { previous: None, ..version.clone() };
        let db = ManifestSource { request: "kv-v2:secret/db".into(), version, ..Default::default() };
        let list = Version { secrets: [("web/db".to_owned(), one)].into(), ..Version::default() };
        let all = ManifestSource { request: "kv-v2:secret#list".into(), version: list, ..Default::default() };
        let role = ManifestSource { request: "other:database/creds/app".into(), leased: true, ..Default::default() };
        let file = |text: &str| FilePath::new(text).expect(text);
        SetManifest {
            manifest: Manifest {
                server: "https://vault:8200#namespace=team".into(),
                layout: Some("outputs:1".into()),
                sources: [(name("all"), all), (name("db"), db), (name("role"), role)].into(),
                files: [(file("tls/key"), [name("db")].into()), (file("both"), [name("db"), name("role")].into())]
                    .into(),
                notifications: NotificationRecord::default(),
            },
            published: "2026-11-24T16:05:38Z".parse().expect("timestamp"),
            modes: [(file("tls/key"), Mode::new(0o400).expect("mode"))].into(),
        }
    }

    #[test]
    fn manifest_format_stays_stable() {
        let text = String::from_utf8(example().to_bytes()).expect("text");
        let expected = concat!(
            r#"{"version":2,"published":"2026-11-24T16:05:38Z","server":"https://vault:8200#namespace=team","#,
            r#""layout":"outputs:1","#,
            r#""sources":{"all":{"request":"kv-v2:secret#list","#,
            r#""secrets":{"web/db":[7,"2026-11-24T16:05:37.25Z"]},"leased":false},"#,
            r#""db":{"request":"kv-v2:secret/db","number":7,"created":"2026-11-24T16:05:37.25Z","#,
            r#""previous":6,"leased":false},"#,
            r#""role":{"request":"other:database/creds/app","leased":true}},"#,
            r#""files":{"both":["db","role"],"tls/key":["db"]},"modes":{"tls/key":"0400"}}"#
        );
        assert_eq!(text, expected);
        assert_eq!(SetManifest::from_bytes(text.as_bytes()), Some(example()));
    }

    #[test]
    fn seeded_source_is_still_known_as_such() {
        let mut seeded = example();
        for source in seeded.manifest.sources.values_mut() {
            source.seeded = true;
        }
        let bytes = seeded.to_bytes();
        assert!(String::from_utf8_lossy(&bytes).contains(r#""leased":false,"seeded":true}"#));
        assert_eq!(SetManifest::from_bytes(&bytes), Some(seeded));
    }

    #[test]
    fn unknown_or_invalid_manifest_is_unreadable() {
        let text = String::from_utf8(example().to_bytes()).expect("text");
        for (from, to) in [
            (r#""version":2"#, r#""version":1"#),
            (r#""version":2"#, r#""version":2,"more":1"#),
            (r#""leased":true"#, r#""leased":true,"more":1"#),
            (r#""server":"https://vault:8200#namespace=team","#, ""),
            (r#"["db"]"#, "[]"),
            (r#"["db"]"#, r#"["unknown"]"#),
            ("tls/key", "../key"),
            ("0400", "7777"),
            ("}}", "}"),
        ] {
            assert!(text.contains(from), "{from}");
            assert_eq!(SetManifest::from_bytes(text.replace(from, to).as_bytes()), None, "{from} -> {to}");
        }
        assert_eq!(SetManifest::from_bytes(b""), None);
    }

    #[test]
    fn record_of_notifications_round_trips() {
        let mut manifest = example();
        let pending = [NotificationName::new("nginx").expect("a name")].into();
        let restart = Some(RestartRecord { at: "2026-11-24T16:05:39Z".parse().expect("a time"), early: 2 });
        manifest.manifest.notifications = NotificationRecord { generation: 7, pending, restart };
        let bytes = manifest.to_bytes();
        let text = String::from_utf8(bytes.clone()).expect("text");
        let expected = r#""notifications":{"generation":7,"pending":["nginx"],"restart":["2026-11-24T16:05:39Z",2]}"#;
        assert!(text.contains(expected), "{text}");
        assert_eq!(SetManifest::from_bytes(&bytes), Some(manifest));
    }
}
