//! The pages, their tables and their links.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::files::files_below;

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("failed to read {}: {error}", path.display()))
}

/// All Markdown pages for users and contributors, as paths in the repository.
pub(super) fn pages() -> Vec<PathBuf> {
    let others = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "deploy/chart/README.md"];
    let mut found: Vec<_> = others.map(PathBuf::from).into();
    let docs = files_below(&root().join("docs"), "md");
    found.extend(docs.iter().map(|path| path.strip_prefix(root()).expect("the page is in the repository").to_owned()));
    found.sort();
    assert!(found.len() >= 20, "found only {found:?}");
    found
}

/// First cells of the table rows in `text` that are one word in backticks.
pub(super) fn first_cells(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |").map(|(cell, _)| cell)).collect()
}

/// The part of a document below a heading, up to the next one.
pub(super) fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, below) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading:?}"));
    below.split_once("\n## ").map_or(below, |(section, _)| section)
}

/// The local links of a page: target file, as a path in the repository, and heading.
pub(super) fn links<'a>(page: &Path, text: &'a str) -> Vec<(PathBuf, &'a str)> {
    let sources = ["](", "src=\"", "srcset=\""].map(|mark| text.split(mark).skip(1)).into_iter().flatten();
    let local = sources.filter_map(|rest| rest.split([')', '"']).next()).filter(|link| !link.contains("://"));
    local
        .map(|link| {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let directory = page.parent().expect("a page is in a directory");
            (if file.is_empty() { page.to_owned() } else { normal(&directory.join(file)) }, heading)
        })
        .collect()
}

/// The path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            assert!(normal.pop(), "{} leaves the repository", path.display());
        } else {
            normal.push(component);
        }
    }
    normal
}
