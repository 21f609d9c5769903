//! Files of the repository.

use std::path::{Path, PathBuf};

/// All files below `directory` with this extension, sorted.
///
/// # Panics
/// If a directory cannot be read, so that a test does not pass because it sees no files.
pub(crate) fn files_below(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}
