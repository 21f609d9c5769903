//! The files to render from sources.

use std::collections::BTreeSet;

use super::{FilePath, JsonPointer, KeySelection, MergeItem, Mode, SourceName, Template};

/// One file, or one file per key, to render from a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Source of the content. A PKCS#12 file has another one for its password. Of a merged file, the first one.
    pub source: SourceName,
    /// Files and their format.
    pub kind: OutputKind,
    /// Permission bits; `None` is the default of the directory.
    pub mode: Option<Mode>,
}

impl Output {
    /// The sources that its files are rendered from.
    #[must_use]
    pub fn sources(&self) -> BTreeSet<SourceName> {
        let mut names = BTreeSet::from([self.source.clone()]);
        match &self.kind {
            OutputKind::Template { template, .. } => return template.sources().cloned().collect(),
            OutputKind::Pkcs12 { file, .. } => _ = names.insert(file.password.source.clone()),
            OutputKind::Merged { items, .. } => names.extend(items.iter().map(|item| item.source.clone())),
            OutputKind::EachKey { .. }
            | OutputKind::Key { .. }
            | OutputKind::Whole { .. }
            | OutputKind::Bundle { .. } => {}
        }
        names
    }

    /// This output without the calls that the agent has added.
    #[must_use]
    pub fn configured(&self) -> Self {
        let mut configured = self.clone();
        if let OutputKind::Template { template, .. } = &mut configured.kind {
            template.computed.clear();
        }
        configured
    }

    /// Its files, if the configuration names all of them; some of them can be missing. `None` if they depend on the keys of the
    /// secret.
    #[must_use]
    pub fn known_files(&self) -> Option<Vec<FilePath>> {
        match &self.kind {
            OutputKind::Key { path, .. }
            | OutputKind::Whole { path, .. }
            | OutputKind::Bundle { path, .. }
            | OutputKind::Merged { path, .. }
            | OutputKind::Pkcs12 { path, .. }
            | OutputKind::Template { path, .. } => Some(vec![path.clone()]),
            OutputKind::EachKey { prefix, keys, .. } => keys.is_complete_list().then(|| {
                let path = |name: &str| match prefix {
                    Some(prefix) => FilePath::new(&format!("{prefix}/{name}")),
                    None => FilePath::new(name),
                };
                keys.named().filter_map(|(_, name)| path(&name).ok()).collect()
            }),
        }
    }
}

/// Files that an output renders from a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputKind {
    /// One file per key of the secret.
    EachKey {
        /// Subdirectory for the files; `None` is the output directory.
        prefix: Option<FilePath>,
        /// Decode every value from base64.
        base64: bool,
        /// Keys to write, and the names of their files below the subdirectory.
        keys: KeySelection,
    },
    /// One file with the value of one key.
    Key {
        /// Key of the secret.
        key: String,
        /// Path of the file.
        path: FilePath,
        /// Decode the value from base64.
        base64: bool,
        /// The part of the value to write, which is JSON; `None` is the whole value.
        field: Option<JsonPointer>,
        /// What to do if the secret has no such key, or its value no such field.
        missing: WhenMissing,
    },
    /// One file with all keys.
    Whole {
        /// Path of the file.
        path: FilePath,
        /// Format of the file.
        format: FileFormat,
        /// Keys to write, and their names in the file.
        keys: KeySelection,
    },
    /// One file with the keys of several sources. Mappings are merged key by key; for anything else, the later item replaces the
    /// value of an earlier one.
    Merged {
        /// Path of the file.
        path: FilePath,
        /// Format of the file.
        format: FileFormat,
        /// The sources, in the order in which they are merged. Not empty.
        items: Vec<MergeItem>,
    },
    /// One PEM file with the blocks of several keys, in this order, each certificate once.
    Bundle {
        /// Path of the file.
        path: FilePath,
        /// Keys of the secret. A key without blocks adds nothing.
        keys: Vec<String>,
    },
    /// One PKCS#12 file with the certificates and the private key of several keys.
    Pkcs12 {
        /// Path of the file.
        path: FilePath,
        /// Content of the file.
        file: Pkcs12,
    },
    /// One file with text and values of several sources.
    Template {
        /// Path of the file.
        path: FilePath,
        /// The text with its actions.
        template: Box<Template>,
    },
}

/// A PKCS#12 file: a keystore if the keys contain a private key, otherwise a trust store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pkcs12 {
    /// Keys of the secret, whose values are PEM.
    pub keys: Vec<String>,
    /// The password that encrypts the file.
    pub password: KeyReference,
    /// Name of the entry (`friendlyName`).
    pub alias: Option<String>,
}

/// A key of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyReference {
    /// The source.
    pub source: SourceName,
    /// Key of its secret.
    pub key: String,
}

/// What an output does if its key or field is missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WhenMissing {
    /// Fail.
    #[default]
    Fail,
    /// Write no file.
    Omit,
    /// Write these bytes. They are part of the configuration, so they are not secret.
    Default(Vec<u8>),
}

/// Format of a file with several keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// `KEY='value'` lines. A POSIX shell that sources the file gets exactly the bytes.
    Dotenv,
    /// `KEY='value'` lines that the kubelet reads (`fileKeyRef`,
    /// <https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-via-file/>).
    EnvFile,
    /// JSON object.
    Json,
    /// Java properties.
    Properties,
    /// TOML table.
    Toml,
    /// YAML mapping.
    Yaml,
}
