//! The publisher on real file systems: what an application sees before, during, and after a publication, also with
//! crashes, kills, and full volumes.
#![allow(clippy::disallowed_methods, reason = "tests write files, start threads and read the clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use keyferry::model::{
    Directory, Failure, FileEntry, FilePath, FileSet, Manifest, ManifestSource, SecretBytes, SourceName, Version,
};
use keyferry::volume::{Published, Publisher};
use tempfile::TempDir;

mod adopt;
mod concurrent;
mod crash;
mod full;
mod layout;
mod owner;
#[path = "../support/skip.rs"]
mod skip;
mod unusable;

const OLD: &[(&str, &str)] = &[("username", "old"), ("password", "old"), ("tls/key", "old"), ("gone", "old")];
const NEW: &[(&str, &str)] =
    &[("username", "new!"), ("password", "new!"), ("tls/key", "new!"), ("added/deep/er", "new!")];

/// A volume in memory, with a file system that agents accept.
fn memory() -> TempDir {
    tempfile::Builder::new().prefix("keyferry-test").tempdir_in("/dev/shm").expect("tempdir in /dev/shm")
}

fn directory(path: PathBuf) -> Directory {
    Directory { path, allow_disk: false, file_mode: None, max_bytes: None }
}

fn set(files: &[(&str, &str)]) -> FileSet {
    FileSet {
        files: files
            .iter()
            .map(|(path, text)| {
                let sources = BTreeSet::from([source("s")]);
                let entry = FileEntry { bytes: Arc::new(SecretBytes::from(*text)), mode: None, sources };
                (FilePath::new(path).expect("path"), entry)
            })
            .collect(),
    }
}

fn source(name: &str) -> SourceName {
    SourceName::new(name).expect(name)
}

/// Manifest of `set`, with `version` as the version of every source.
fn manifest(set: &FileSet, layout: &str, version: u64) -> Manifest {
    let files: BTreeMap<_, _> = set.files.iter().map(|(path, file)| (path.clone(), file.sources.clone())).collect();
    let read = |name: &SourceName| {
        let created = "2026-11-24T16:05:37Z".parse().ok();
        let version = Version { number: Some(version), created, ..Version::default() };
        (name.clone(), ManifestSource { request: format!("kv-v2:secret/{name}"), version, ..ManifestSource::default() })
    };
    Manifest {
        server: "https://vault:8200".into(),
        layout: Some(layout.into()),
        sources: files.values().flatten().map(read).collect(),
        files,
        ..Manifest::default()
    }
}

/// A publisher and its settings.
struct Volume {
    publisher: Publisher,
    settings: Directory,
}

impl Volume {
    fn open(settings: Directory) -> Self {
        Self { publisher: Publisher::open(&settings).expect("open"), settings }
    }

    fn try_publish(&mut self, set: &FileSet) -> Result<Published, Failure> {
        self.publisher.publish(set, &manifest(set, "layout", 1), &self.settings, Timestamp::now())
    }

    fn publish(&mut self, files: &[(&str, &str)]) -> Published {
        self.try_publish(&set(files)).expect("publish")
    }
}

/// All files below `root`, with symlink targets and modes. Failed assertions show them.
fn tree(root: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, at: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(at).expect("readable directory") {
            let path = entry.expect("entry").path();
            let meta = fs::symlink_metadata(&path).expect("metadata");
            let name = path.strip_prefix(root).expect("below root").display().to_string();
            let text = if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).expect("link").display())
            } else {
                format!("{:04o}", meta.permissions().mode() & 0o7777)
            };
            found.insert(name, text);
            if meta.is_dir() {
                walk(root, &path, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

/// Content that an application reads through the visible names. Empty before the first publication.
fn visible(root: &Path) -> BTreeMap<String, String> {
    fn walk(at: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(at).expect("readable directory") {
            let entry = entry.expect("entry");
            let name = format!("{prefix}{}", entry.file_name().to_str().expect("UTF-8"));
            if name.starts_with("..") {
                continue;
            }
            if entry.path().is_dir() {
                walk(&entry.path(), &format!("{name}/"), found);
            } else if let Ok(text) = fs::read_to_string(entry.path()) {
                found.insert(name, text);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, "", &mut found);
    found
}

fn expected(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(path, text)| ((*path).to_string(), (*text).to_string())).collect()
}

fn assert_clean(root: &Path, files: &[(&str, &str)]) {
    assert_eq!(visible(root), expected(files), "{:#?}", tree(root));
    let reserved: Vec<_> = fs::read_dir(root)
        .expect("readable")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .filter(|name| name.starts_with(".."))
        .collect();
    assert_eq!(reserved.len(), 2, "only ..data and its directory: {:#?}", tree(root));
}
