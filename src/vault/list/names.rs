//! The names of the secrets of a list.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::super::api::list::list as list_folder;
use super::super::api::rule;
use super::super::error::VaultError;
use super::super::mounts::FolderPaths;
use super::super::server_text::clip;
use super::ListRead;
use crate::model::SecretList;

impl ListRead<'_> {
    /// Lists the folders, level by level.
    pub(super) async fn names(&self, paths: &FolderPaths) -> Result<Names, VaultError> {
        let mut names = Names::default();
        let (mut level, mut folders) = (vec![String::new()], 0);
        for depth in 1.. {
            folders += level.len();
            let lists = level.into_iter().map(|folder| self.folder(paths, folder));
            let found: Vec<_> = stream::iter(lists).buffered(SecretList::CONCURRENCY).try_collect().await?;
            let mut next = Vec::new();
            for (folder, found) in found {
                for name in found {
                    names.add(self, &folder, &name, &mut next)?;
                }
            }
            self.check_bounds(names.selected.len(), folders + next.len(), depth, next.first())?;
            if next.is_empty() {
                break;
            }
            level = next;
        }
        Ok(names)
    }

    /// `depth`: number of levels that are listed. `next`: a folder of the next level.
    fn check_bounds(
        &self,
        secrets: usize,
        folders: usize,
        depth: usize,
        next: Option<&String>,
    ) -> Result<(), VaultError> {
        let SecretList { max_count, max_depth, .. } = self.list;
        let fewer = "raise it, or select fewer secrets with `list.include` and `list.exclude`";
        if secrets > *max_count {
            return Err(self.error(format!(
                "there are at least {secrets} secrets below this path, but `list.maxCount` is {max_count}; {fewer}"
            )));
        }
        if folders > self.list.max_folders() {
            return Err(self.error(format!(
                "there are at least {folders} folders below this path, but `list.maxCount` times `list.maxDepth` is {}; {fewer}",
                self.list.max_folders()
            )));
        }
        if let Some(folder) = next.filter(|_| depth >= *max_depth) {
            return Err(self.error(format!(
                "the secrets in {}/{folder} are deeper below this path than `list.maxDepth` ({max_depth}); {fewer}",
                self.path
            )));
        }
        Ok(())
    }

    /// A folder and the names in it; no names if it does not exist.
    async fn folder(&self, paths: &FolderPaths, folder: String) -> Result<(String, Vec<String>), VaultError> {
        let below = |path: &str| if folder.is_empty() { format!("{path}/") } else { format!("{path}/{folder}/") };
        // A recursive list requires the permission for all folders, so the rule names them all.
        let all = if self.list.recursive { "*" } else { "" };
        let rule = || rule(&format!("{}/{all}", paths.list), "list");
        let names = list_folder(self.api, self.token, &below(&paths.list), &below(self.path), rule).await?;
        Ok((folder, names.unwrap_or_default()))
    }
}

/// The names in the listed folders.
#[derive(Default)]
pub(super) struct Names {
    /// Paths of the secrets to read, below the path of the source.
    pub(super) selected: BTreeSet<String>,
    /// Whether there are other secrets.
    others: bool,
    /// Whether there are folders that are not listed.
    folders: bool,
}

impl Names {
    /// Adds a listed name: a secret, or a folder to list next.
    fn add(&mut self, read: &ListRead<'_>, folder: &str, name: &str, next: &mut Vec<String>) -> Result<(), VaultError> {
        let (name, is_folder) = name.strip_suffix('/').map_or((name, false), |name| (name, true));
        // Such a name would lead out of the folder.
        if matches!(name, "" | "." | "..") || name.contains('/') || name.contains(char::is_control) {
            return Err(read.error(format!("Vault listed {:?}, which is not a valid name", clip(name))));
        }
        let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        match is_folder {
            true if read.list.enters(&path) => next.push(path),
            true => self.folders = true,
            false if read.list.selects(&path) => _ = self.selected.insert(path),
            false => self.others = true,
        }
        Ok(())
    }

    /// Why there is no secret to read.
    pub(super) fn why_empty(&self) -> Option<&'static str> {
        match self {
            Self { selected, .. } if !selected.is_empty() => None,
            Self { others: true, .. } => {
                Some("`list.include` and `list.exclude` select none of the secrets below this path")
            }
            Self { folders: true, .. } => Some(
                "this path contains only folders that `list` does not select; set `list.recursive: true`, or check `list.include` and `list.exclude`",
            ),
            Self { .. } => Some("there are no secrets below this path; check the path and the namespace"),
        }
    }
}
